//! Values and expressions, each with its SQL and its meaning.

use datafusion::common::ScalarValue;
use kalamdb_engine::{Parameter, SqlType};

use super::random::Random;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    BigInt,
    Int,
    Text,
    Bool,
}

/// A statement under construction: its text and its parameters.
#[derive(Debug, Default, Clone)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) parameters: Vec<Parameter>,
}

#[derive(Debug, Clone)]
pub(super) enum Expr {
    Column(usize),
    Excluded(usize),
    Constant(Value, Type),
    /// `(a op b) % 1000`, so that no chain of statements overflows.
    Arithmetic(char, Box<Expr>, Box<Expr>),
    /// The first 8 characters of `a || b`.
    Concat(Box<Expr>, Box<Expr>),
    Upper(Box<Expr>),
    Compare(&'static str, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    In(Box<Expr>, Vec<Expr>, bool),
    Between(Box<Expr>, Box<Expr>, Box<Expr>),
    Coalesce(Box<Expr>, Box<Expr>),
    Case(Box<Expr>, Box<Expr>, Box<Expr>),
}

impl Value {
    /// As the harness shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Null => "NULL".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Text(t) => t.clone(),
        }
    }

    /// A small value of a type, so that values meet; sometimes an extreme one.
    pub(super) fn random(random: &mut Random, of: Type) -> Self {
        const TEXTS: [&str; 14] =
            ["", "a", "b", "it's", "A", "ab", "\0", "a\0", "ü", "🙂", "$1", "--x", "\u{ffff}", "z\u{10ffff}"];
        match of {
            Type::Bool => Value::Bool(random.one_in(2)),
            Type::Text => Value::Text(TEXTS[random.below(TEXTS.len())].to_owned()),
            Type::Int | Type::BigInt => Value::Int(random.below(24) as i64 - 6),
        }
    }
}

impl Type {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Type::BigInt => "BIGINT",
            Type::Int => "INT",
            Type::Text => "TEXT",
            Type::Bool => "BOOLEAN",
        }
    }

    pub(super) fn is_int(self) -> bool {
        matches!(self, Type::BigInt | Type::Int)
    }

    fn parameter(self, value: &Value) -> Parameter {
        match self {
            Type::Bool => Parameter {
                value: ScalarValue::Boolean(match value {
                    Value::Bool(b) => Some(*b),
                    _ => None,
                }),
                sql_type: SqlType::Boolean,
            },
            Type::Text => Parameter {
                value: ScalarValue::Utf8View(match value {
                    Value::Text(t) => Some(t.clone()),
                    _ => None,
                }),
                sql_type: SqlType::Text,
            },
            Type::Int | Type::BigInt => Parameter {
                value: ScalarValue::Int64(match value {
                    Value::Int(i) => Some(*i),
                    _ => None,
                }),
                sql_type: SqlType::BigInt,
            },
        }
    }
}

impl Sql {
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A value, as a literal or as a parameter.
    pub(super) fn value(&mut self, random: &mut Random, value: &Value, of: Type) -> &mut Self {
        let writable = !matches!(value, Value::Text(t) if t.contains('\0'));
        if !writable || random.one_in(4) {
            self.parameters.push(of.parameter(value));
            let number = self.parameters.len();
            return self.push(&format!("${number}"));
        }
        match value {
            Value::Null => self.push("NULL"),
            Value::Text(t) => self.push(&format!("'{}'", t.replace('\'', "''"))),
            other => self.push(&other.shown()),
        }
    }

    /// An expression over columns with these names.
    pub(super) fn expr(&mut self, random: &mut Random, expr: &Expr, names: &[String]) -> &mut Self {
        match expr {
            Expr::Column(index) => self.push(&names[*index]),
            Expr::Excluded(index) => {
                let own = names[*index].rsplit('.').next().unwrap_or_default();
                self.push(&format!("excluded.{own}"))
            }
            Expr::Constant(Value::Null, of) => self.push(&format!("CAST(NULL AS {})", of.sql())),
            Expr::Constant(value, of) => self.value(random, value, *of),
            Expr::Arithmetic(op, a, b) => {
                self.push("((").expr(random, a, names).push(&format!(" {op} ")).expr(random, b, names).push(") % 1000)")
            }
            Expr::Concat(a, b) => {
                self.push("substr(").expr(random, a, names).push(" || ").expr(random, b, names).push(", 1, 8)")
            }
            Expr::Upper(a) => self.push("upper(").expr(random, a, names).push(")"),
            Expr::Compare(op, a, b) => self.binary(random, op, a, b, names),
            Expr::And(a, b) => self.binary(random, "AND", a, b, names),
            Expr::Or(a, b) => self.binary(random, "OR", a, b, names),
            Expr::Not(a) => self.push("(NOT ").expr(random, a, names).push(")"),
            Expr::IsNull(a) => self.push("(").expr(random, a, names).push(" IS NULL)"),
            Expr::In(a, list, negated) => {
                self.push("(").expr(random, a, names).push(if *negated { " NOT IN (" } else { " IN (" });
                for (i, item) in list.iter().enumerate() {
                    self.push(if i == 0 { "" } else { ", " }).expr(random, item, names);
                }
                self.push("))")
            }
            Expr::Between(a, low, high) => {
                self.push("(").expr(random, a, names).push(" BETWEEN ").expr(random, low, names);
                self.push(" AND ").expr(random, high, names).push(")")
            }
            Expr::Coalesce(a, b) => {
                self.push("COALESCE(").expr(random, a, names).push(", ").expr(random, b, names).push(")")
            }
            Expr::Case(condition, a, b) => {
                self.push("CASE WHEN ").expr(random, condition, names).push(" THEN ").expr(random, a, names);
                self.push(" ELSE ").expr(random, b, names).push(" END")
            }
        }
    }

    fn binary(&mut self, random: &mut Random, op: &str, a: &Expr, b: &Expr, names: &[String]) -> &mut Self {
        self.push("(").expr(random, a, names).push(&format!(" {op} ")).expr(random, b, names).push(")")
    }
}

impl Expr {
    /// Its value for a row, and the row that ON CONFLICT calls `excluded`.
    pub(super) fn of(&self, row: &[Value], excluded: &[Value]) -> Value {
        let truth = |value: Value| match value {
            Value::Bool(b) => Some(b),
            _ => None,
        };
        let from = |truth: Option<bool>| truth.map_or(Value::Null, Value::Bool);
        match self {
            Expr::Column(index) => row[*index].clone(),
            Expr::Excluded(index) => excluded[*index].clone(),
            Expr::Constant(value, _) => value.clone(),
            Expr::Arithmetic(op, a, b) => match (a.of(row, excluded), b.of(row, excluded)) {
                (Value::Int(a), Value::Int(b)) => Value::Int(if *op == '+' { a + b } else { a - b } % 1000),
                _ => Value::Null,
            },
            Expr::Concat(a, b) => match (a.of(row, excluded), b.of(row, excluded)) {
                (Value::Text(a), Value::Text(b)) => Value::Text((a + &b).chars().take(8).collect()),
                _ => Value::Null,
            },
            Expr::Upper(a) => match a.of(row, excluded) {
                Value::Text(a) => Value::Text(a.to_uppercase()),
                _ => Value::Null,
            },
            Expr::Compare(op, a, b) => compare(op, &a.of(row, excluded), &b.of(row, excluded)),
            Expr::And(a, b) => match (truth(a.of(row, excluded)), truth(b.of(row, excluded))) {
                (Some(false), _) | (_, Some(false)) => Value::Bool(false),
                (Some(true), Some(true)) => Value::Bool(true),
                _ => Value::Null,
            },
            Expr::Or(a, b) => match (truth(a.of(row, excluded)), truth(b.of(row, excluded))) {
                (Some(true), _) | (_, Some(true)) => Value::Bool(true),
                (Some(false), Some(false)) => Value::Bool(false),
                _ => Value::Null,
            },
            Expr::Not(a) => from(truth(a.of(row, excluded)).map(|b| !b)),
            Expr::IsNull(a) => Value::Bool(a.of(row, excluded) == Value::Null),
            Expr::In(a, list, negated) => {
                let a = a.of(row, excluded);
                let found: Vec<Value> = list.iter().map(|item| compare("=", &a, &item.of(row, excluded))).collect();
                let found = if found.contains(&Value::Bool(true)) {
                    Some(true)
                } else if found.contains(&Value::Null) {
                    None
                } else {
                    Some(false)
                };
                from(found.map(|found| found != *negated))
            }
            Expr::Between(a, low, high) => Expr::And(
                Box::new(Expr::Compare(">=", a.clone(), low.clone())),
                Box::new(Expr::Compare("<=", a.clone(), high.clone())),
            )
            .of(row, excluded),
            Expr::Coalesce(a, b) => match a.of(row, excluded) {
                Value::Null => b.of(row, excluded),
                value => value,
            },
            Expr::Case(condition, a, b) => match condition.of(row, excluded) {
                Value::Bool(true) => a.of(row, excluded),
                _ => b.of(row, excluded),
            },
        }
    }

    pub(super) fn holds(&self, row: &[Value]) -> bool {
        self.of(row, &[]) == Value::Bool(true)
    }

    /// An expression of a type over columns of these types.
    pub(super) fn random(random: &mut Random, of: Type, columns: &[Type], excluded: bool, depth: usize) -> Expr {
        let make =
            |random: &mut Random, of| Box::new(Expr::random(random, of, columns, excluded, depth.saturating_sub(1)));
        if depth == 0 || random.one_in(3) {
            return Expr::leaf(random, of, columns, excluded);
        }
        if random.one_in(6) {
            return Expr::Coalesce(make(random, of), make(random, of));
        }
        if random.one_in(8) {
            return Expr::Case(make(random, Type::Bool), make(random, of), make(random, of));
        }
        match of {
            Type::Int | Type::BigInt => {
                let op = if random.one_in(2) { '+' } else { '-' };
                Expr::Arithmetic(op, make(random, of), make(random, of))
            }
            Type::Text if random.one_in(4) => Expr::Upper(make(random, of)),
            Type::Text => Expr::Concat(make(random, of), make(random, of)),
            Type::Bool => match random.below(9) {
                0 => Expr::And(make(random, of), make(random, of)),
                1 => Expr::Or(make(random, of), make(random, of)),
                2 => Expr::Not(make(random, of)),
                kind => {
                    let inner = [Type::BigInt, Type::Text, Type::Int][random.below(3)];
                    match kind {
                        3 => Expr::IsNull(make(random, inner)),
                        4 => {
                            let list =
                                (0..=random.below(3)).map(|_| Expr::leaf(random, inner, columns, excluded)).collect();
                            Expr::In(make(random, inner), list, random.one_in(3))
                        }
                        5 => Expr::Between(make(random, inner), make(random, inner), make(random, inner)),
                        _ => {
                            const OPS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];
                            Expr::Compare(OPS[random.below(6)], make(random, inner), make(random, inner))
                        }
                    }
                }
            },
        }
    }

    fn leaf(random: &mut Random, of: Type, columns: &[Type], excluded: bool) -> Expr {
        let fits = |t: Type| t == of || (t.is_int() && of.is_int());
        let fitting: Vec<usize> = (0..columns.len()).filter(|i| fits(columns[*i])).collect();
        if !fitting.is_empty() && !random.one_in(3) {
            let index = fitting[random.below(fitting.len())];
            return if excluded && random.one_in(2) { Expr::Excluded(index) } else { Expr::Column(index) };
        }
        if random.one_in(8) {
            return Expr::Constant(Value::Null, of);
        }
        Expr::Constant(Value::random(random, of), of)
    }

    /// A condition such as statements by key have: on the key alone or with others.
    pub(super) fn random_condition(random: &mut Random, columns: &[Type]) -> Expr {
        let key = || Box::new(Expr::Column(0));
        let value = |random: &mut Random| Expr::Constant(Value::random(random, columns[0]), columns[0]);
        let on_key = match random.below(6) {
            0 | 1 => Expr::Compare("=", key(), Box::new(value(random))),
            2 => Expr::In(key(), (0..=random.below(5)).map(|_| value(random)).collect(), false),
            3 => Expr::Between(key(), Box::new(value(random)), Box::new(value(random))),
            _ => {
                let op = ["<", "<=", ">", ">="][random.below(4)];
                // The value on the left half of the time.
                if random.one_in(2) {
                    Expr::Compare(op, key(), Box::new(value(random)))
                } else {
                    Expr::Compare(op, Box::new(value(random)), key())
                }
            }
        };
        match random.below(5) {
            0 | 1 => on_key,
            2 => Expr::And(Box::new(on_key), Box::new(Expr::random(random, Type::Bool, columns, false, 2))),
            3 => Expr::random(random, Type::Bool, columns, false, 3),
            _ if random.one_in(2) => {
                // Keys one by one, and a range that ends at one of them.
                let end = value(random);
                let list = (0..random.below(3)).map(|_| value(random)).chain([end.clone()]).collect();
                let op = ["<", "<=", ">", ">="][random.below(4)];
                let range = Expr::Compare(op, key(), Box::new(end));
                Expr::And(Box::new(Expr::In(key(), list, false)), Box::new(range))
            }
            _ => Expr::And(Box::new(on_key), Box::new(Expr::random_condition(random, columns))),
        }
    }
}

fn compare(op: &str, a: &Value, b: &Value) -> Value {
    if *a == Value::Null || *b == Value::Null {
        return Value::Null;
    }
    Value::Bool(match op {
        "=" => a == b,
        "<>" => a != b,
        "<" => a < b,
        "<=" => a <= b,
        ">" => a > b,
        _ => a >= b,
    })
}
