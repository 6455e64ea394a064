//! Random rules, rows and statements, compared with an engine that knows no rules and has only the rows that are seen.
//!
//! Which rows a user sees is decided by [`Test::holds`], apart from everything in the engine. What a statement does to
//! them, an engine without rules says that has these rows and no others.

use kalamdb_engine::{Env, FixedEnv, Reason, Role};

use super::{db, set_rules, user};
use crate::harness::{Client, Db};

const COLUMNS: &str = "id BIGINT PRIMARY KEY, owner TEXT, level INT, price DECIMAL(8, 2), seen BOOLEAN, body TEXT";
const USERS: [&str; 3] = ["ana", "bo", "cy"];
const OPERATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// A row as the engine answers it.
type Row = Vec<String>;

#[derive(Debug, Clone)]
enum Value {
    Me,
    Text(String),
    Number(f64),
    Boolean(bool),
}

#[derive(Debug, Clone)]
enum Test {
    Compare(&'static str, Value),
    In(Vec<Value>, bool),
    IsNull(bool),
}

/// A rule on a column; `None`: all rows.
#[derive(Debug, Clone)]
struct Rule(Option<(usize, Test)>);

const NAMES: [&str; 6] = ["id", "owner", "level", "price", "seen", "body"];

impl Value {
    fn sql(&self) -> String {
        match self {
            Value::Me => "CURRENT_USER()".to_owned(),
            Value::Text(text) => format!("'{text}'"),
            Value::Number(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
        }
    }

    fn order(&self, of_row: &str, me: &str) -> std::cmp::Ordering {
        match self {
            Value::Me => of_row.cmp(me),
            Value::Text(text) => of_row.cmp(text.as_str()),
            Value::Number(number) => of_row.parse::<f64>().unwrap().total_cmp(number),
            Value::Boolean(value) => of_row.parse::<bool>().unwrap().cmp(value),
        }
    }
}

impl Test {
    fn holds(&self, of_row: &str, me: &str) -> bool {
        let is_null = of_row == "NULL";
        match self {
            Test::IsNull(negated) => is_null != *negated,
            _ if is_null => false,
            Test::Compare(operator, value) => {
                let order = value.order(of_row, me);
                match *operator {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
            Test::In(values, negated) => values.iter().any(|value| value.order(of_row, me).is_eq()) != *negated,
        }
    }
}

impl Rule {
    fn text(&self) -> String {
        let Some((column, test)) = &self.0 else { return "app.m.*".to_owned() };
        let name = NAMES[*column];
        match test {
            Test::Compare(operator, value) => format!("app.m.{name} {operator} {}", value.sql()),
            Test::In(values, negated) => {
                let values: Vec<String> = values.iter().map(Value::sql).collect();
                format!("app.m.{name} {}IN ({})", if *negated { "NOT " } else { "" }, values.join(", "))
            }
            Test::IsNull(negated) => format!("app.m.{name} IS {}NULL", if *negated { "NOT " } else { "" }),
        }
    }
}

fn shows(rules: &[Rule], row: &Row, me: &str) -> bool {
    rules.iter().any(|rule| rule.0.as_ref().is_none_or(|(column, test)| test.holds(&row[*column], me)))
}

struct Run {
    random: FixedEnv,
    db: Db,
    /// Without rules.
    other: Db,
    clients: Vec<Client>,
    rules: Vec<Vec<Rule>>,
    log: Vec<String>,
}

impl Run {
    fn below(&self, limit: u64) -> u64 {
        self.random.random_u64() % limit
    }

    fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn text(&self) -> String {
        (*self.pick(&["ana", "bo", "cy", "dan", "a longer text than a view has room for", "7"])).to_owned()
    }

    /// A value to be compared with a column.
    fn value(&self, column: usize) -> Value {
        match column {
            0 => Value::Number(self.below(40) as f64),
            1 if self.below(2) == 0 => Value::Me,
            1 | 5 => Value::Text(self.text()),
            2 => Value::Number(self.below(9) as f64 - 3.0),
            3 => Value::Number(self.below(20) as f64 / 4.0),
            _ => Value::Boolean(self.below(2) == 0),
        }
    }

    fn rule(&self) -> Rule {
        if self.below(25) == 0 {
            return Rule(None);
        }
        // Mostly the owner's.
        let column = if self.below(3) == 0 { 1 } else { self.below(6) as usize };
        let test = match self.below(10) {
            0 => Test::IsNull(self.below(2) == 0),
            1 | 2 => {
                let values = (0..=self.below(3)).map(|_| self.value(column)).collect();
                Test::In(values, self.below(3) == 0)
            }
            3..6 => Test::Compare("=", self.value(column)),
            _ => Test::Compare(self.pick::<&str>(&OPERATORS), self.value(column)),
        };
        Rule(Some((column, test)))
    }

    /// A value to be written, as SQL.
    fn written(&self, column: usize) -> String {
        if column > 0 && self.below(7) == 0 {
            return "NULL".to_owned();
        }
        match (column, self.value(column)) {
            (3, Value::Number(number)) => format!("{number:.2}"),
            (_, value) => value.sql(),
        }
    }

    fn condition(&self) -> String {
        let column = self.below(6) as usize;
        let (name, value) = (NAMES[column], self.value(column).sql());
        match self.below(9) {
            0 => format!("id = {}", self.below(40)),
            1 => format!("id IN ({}, {}, {})", self.below(40), self.below(40), self.below(40)),
            2 => format!("id BETWEEN {} AND {}", self.below(20), self.below(40)),
            3 => format!("{name} IS NOT NULL"),
            4 => format!("length(body) > {}", self.below(6)),
            5 => "level % 2 = 0 AND body LIKE '%a%'".to_owned(),
            6 => format!("id = {} AND coalesce(level, 0) < 3", self.below(40)),
            7 => format!("NOT ({name} {} {value})", self.pick(&OPERATORS)),
            _ => format!("{name} {} {value}", self.pick(&OPERATORS)),
        }
    }

    fn query(&self) -> String {
        let condition = self.condition();
        match self.below(12) {
            0 => "SELECT * FROM m ORDER BY id".to_owned(),
            1 => format!("SELECT count(*), min(id), max(id), sum(level), max(body) FROM m WHERE {condition}"),
            2 => "SELECT count(*), min(id), max(id) FROM m".to_owned(),
            3 => format!("SELECT id, body FROM m ORDER BY id DESC LIMIT {}", self.below(6)),
            4 => format!("SELECT id FROM m WHERE {condition} ORDER BY level, id LIMIT {}", self.below(6)),
            5 => format!(
                "SELECT a.id, b.id FROM m a JOIN m b ON a.level = b.level WHERE a.id < {} ORDER BY 1, 2",
                self.below(30)
            ),
            6 => format!("SELECT owner, count(*) FROM m WHERE {condition} GROUP BY owner ORDER BY owner"),
            7 => format!("SELECT id FROM m WHERE level IN (SELECT level FROM m WHERE {condition}) ORDER BY id"),
            8 => "SELECT id, sum(price) OVER (ORDER BY id) FROM m ORDER BY id".to_owned(),
            9 => format!(
                "WITH n AS (SELECT * FROM m WHERE {condition}) SELECT body, id FROM n WHERE level > 0 ORDER BY id"
            ),
            _ => format!("SELECT * FROM m WHERE {condition} ORDER BY id"),
        }
    }

    fn row(&self) -> String {
        let values: Vec<String> = (0..6).map(|column| self.written(column)).collect();
        format!("({})", values.join(", "))
    }

    fn assignment(&self) -> String {
        let column = 1 + self.below(5) as usize;
        format!("{} = {}", NAMES[column], self.written(column))
    }

    fn write(&self) -> String {
        match self.below(7) {
            0 | 1 => format!("INSERT INTO m VALUES {}", self.row()),
            2 => format!("INSERT INTO m VALUES {} ON CONFLICT DO NOTHING", self.row()),
            3 => format!("INSERT INTO m VALUES {} ON CONFLICT (id) DO UPDATE SET {}", self.row(), self.assignment()),
            4 => format!("DELETE FROM m WHERE {}", self.condition()),
            _ => format!("UPDATE m SET {} WHERE {}", self.assignment(), self.condition()),
        }
    }

    async fn all(&self) -> Vec<Row> {
        self.db.role(Role::Service).rows("SELECT * FROM m ORDER BY id").await
    }

    /// Gives the other engine these rows and no others.
    async fn load(&self, rows: &[Row]) {
        let mut sql = "DELETE FROM m".to_owned();
        if !rows.is_empty() {
            let rows: Vec<String> = rows.iter().map(|row| format!("({})", literals(row))).collect();
            sql.push_str(&format!("; INSERT INTO m VALUES {}", rows.join(", ")));
        }
        self.other.role(Role::Service).run(sql).await;
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\nrules: {:#?}\nstatements:\n{}", self.rules, self.log.join(";\n"))
    }

    async fn check_query(&mut self, who: usize) {
        let sql = self.query();
        self.log.push(format!("-- {}\n{sql}", USERS[who]));
        let seen: Vec<Row> = self.seen(who, &self.all().await);
        self.load(&seen).await;
        let expected = self.other.acting(Role::Service, USERS[who]).rows(sql.clone()).await;
        for _ in 0..2 {
            match self.clients[who].try_run(sql.clone()).await {
                Ok(answer) if answer.rows == expected => {}
                Ok(answer) => self.fail(&format!("{sql}\nanswered {:?}\nnot {expected:?}", answer.rows)),
                Err(error) => self.fail(&format!("{sql} failed: {error}")),
            }
        }
    }

    fn seen(&self, who: usize, rows: &[Row]) -> Vec<Row> {
        rows.iter().filter(|row| shows(&self.rules[who], row, USERS[who])).cloned().collect()
    }

    async fn check_write(&mut self, who: usize) {
        let sql = self.write();
        self.log.push(format!("-- {}\n{sql}", USERS[who]));
        let before = self.all().await;
        let seen = self.seen(who, &before);
        let (expected, outcome) = self.expected_write(who, &sql, &before, &seen).await;
        match (self.clients[who].try_run(sql.clone()).await, outcome) {
            (Ok(answer), Ok(count)) if answer.row_count == count => {}
            (Err(error), Err(reason)) if error.reason() == reason => {}
            (found, wanted) => self.fail(&format!("{sql}\nanswered {found:?}\nnot {wanted:?}")),
        }
        let after = self.all().await;
        if after != expected {
            self.fail(&format!("{sql}\nleft {after:?}\nnot {expected:?}"));
        }
    }

    /// What there is after a statement, and how it ends.
    async fn expected_write(
        &self,
        who: usize,
        sql: &str,
        before: &[Row],
        seen: &[Row],
    ) -> (Vec<Row>, Result<u64, Reason>) {
        let me = USERS[who];
        let other = self.other.acting(Role::Service, me);
        let refused = |reason| (before.to_vec(), Err(reason));
        let hidden: Vec<Row> = before.iter().filter(|row| !seen.contains(row)).cloned().collect();
        if sql.starts_with("INSERT") {
            // The row alone, to see what it is.
            self.load(&[]).await;
            let alone = sql.split(" ON CONFLICT").next().unwrap();
            other.run(alone.to_owned()).await;
            let offered = other.rows("SELECT * FROM m").await;
            if offered.iter().any(|row| !shows(&self.rules[who], row, me)) {
                return refused(Reason::PermissionDenied);
            }
            if hidden.iter().any(|row| row[0] == offered[0][0]) {
                let conflict = sql.contains("ON CONFLICT");
                return refused(if conflict { Reason::PermissionDenied } else { Reason::PrimaryKeyViolation });
            }
        }
        self.load(seen).await;
        let answer = match other.try_run(sql.to_owned()).await {
            Ok(answer) => answer,
            Err(error) => return refused(error.reason()),
        };
        let after = other.rows("SELECT * FROM m ORDER BY id").await;
        // Rows that were found and written, even if as they were, must be seen afterwards: they were before.
        if after.iter().any(|row| !shows(&self.rules[who], row, me)) {
            return refused(Reason::PermissionDenied);
        }
        let mut all: Vec<Row> = after.into_iter().chain(hidden).collect();
        all.sort_by_key(|row| row[0].parse::<i64>().unwrap());
        (all, Ok(answer.row_count))
    }

    async fn step(&mut self) {
        let who = self.below(3) as usize;
        match self.below(20) {
            0 => {
                self.log.push("FLUSH TABLE m FORCE".to_owned());
                self.db.admin().run("FLUSH TABLE m FORCE").await;
            }
            1 => {
                self.log.push("COMPACT TABLE m".to_owned());
                self.db.admin().run("COMPACT TABLE m").await;
            }
            2 | 3 => {
                let rules: Vec<Rule> = (0..=self.below(3)).map(|_| self.rule()).collect();
                let texts: Vec<String> = rules.iter().map(Rule::text).collect();
                self.log.push(format!("-- {} has {texts:?}", USERS[who]));
                set_rules(&self.db, USERS[who], &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
                self.rules[who] = rules;
            }
            4 => {
                let sql = format!("INSERT INTO m VALUES {}, {} ON CONFLICT DO NOTHING", self.row(), self.row());
                self.log.push(format!("-- admin\n{sql}"));
                self.db.admin().run(sql).await;
            }
            5..11 => self.check_write(who).await,
            _ => self.check_query(who).await,
        }
    }
}

fn literals(row: &Row) -> String {
    let literal = |(column, value): (usize, &String)| match column {
        _ if value == "NULL" => value.clone(),
        1 | 5 => format!("'{value}'"),
        _ => value.clone(),
    };
    row.iter().enumerate().map(literal).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn users_are_in_a_table_of_what_they_see() {
    for seed in 0..6 {
        let (db, other) = (db().await, db().await);
        for db in [&db, &other] {
            db.admin().run(format!("CREATE SHARED TABLE m ({COLUMNS}) ACCESS restricted")).await;
        }
        let mut clients = Vec::new();
        for name in USERS {
            clients.push(user(&db, name, &["app.m.owner = CURRENT_USER()"]).await);
        }
        let own = Rule(Some((1, Test::Compare("=", Value::Me))));
        let rules = vec![vec![own]; USERS.len()];
        let mut run =
            Run { random: FixedEnv::new(0, seed), db, other, clients, rules, log: vec![format!("-- seed {seed}")] };
        for _ in 0..25 {
            let sql = format!("INSERT INTO m VALUES {} ON CONFLICT DO NOTHING", run.row());
            run.log.push(sql.clone());
            run.db.admin().run(sql).await;
        }
        for _ in 0..250 {
            run.step().await;
        }
    }
}
