//! Conditions on the primary key, turned into keys and ranges of the store.

use std::{collections::BTreeSet, ops::Bound};

use datafusion::{
    arrow::datatypes::DataType,
    common::ScalarValue,
    logical_expr::{Expr, Operator, expr::Placeholder},
};
use kalamdb_store::codec::PrimaryKey;

use crate::error::{Error, Result};

/// A condition `key op value` or `key IN (values)` whose values are constants or parameters.
#[derive(Debug, Clone)]
pub(crate) enum KeyCondition {
    In(Vec<Expr>),
    Less(Expr),
    LessOrEqual(Expr),
    Greater(Expr),
    GreaterOrEqual(Expr),
    Between(Expr, Expr),
}

impl KeyCondition {
    /// Reads an expression as a condition on the key column; `None` when it is anything else.
    pub(crate) fn recognise(expr: &Expr, key: &str, key_type: &DataType) -> Option<Self> {
        let is_key = |e: &Expr| matches!(e, Expr::Column(c) if c.name == key);
        let value = |e: &Expr| is_key_value(e, key_type).then(|| e.clone());
        match expr {
            // How the optimiser writes short lists.
            Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
                let mut values = Self::keys_named(&binary.left, key, key_type)?;
                values.extend(Self::keys_named(&binary.right, key, key_type)?);
                Some(KeyCondition::In(values))
            }
            Expr::BinaryExpr(binary) => {
                let (operator, operand) = if is_key(&binary.left) {
                    (binary.op, value(&binary.right)?)
                } else if is_key(&binary.right) {
                    (binary.op.swap()?, value(&binary.left)?)
                } else {
                    return None;
                };
                match operator {
                    Operator::Eq => Some(KeyCondition::In(vec![operand])),
                    Operator::Lt => Some(KeyCondition::Less(operand)),
                    Operator::LtEq => Some(KeyCondition::LessOrEqual(operand)),
                    Operator::Gt => Some(KeyCondition::Greater(operand)),
                    Operator::GtEq => Some(KeyCondition::GreaterOrEqual(operand)),
                    _ => None,
                }
            }
            Expr::InList(list) if !list.negated && is_key(&list.expr) => {
                list.list.iter().map(value).collect::<Option<Vec<_>>>().map(KeyCondition::In)
            }
            Expr::Between(between) if !between.negated && is_key(&between.expr) => {
                Some(KeyCondition::Between(value(&between.low)?, value(&between.high)?))
            }
            _ => None,
        }
    }

    fn keys_named(expr: &Expr, key: &str, key_type: &DataType) -> Option<Vec<Expr>> {
        match Self::recognise(expr, key, key_type)? {
            KeyCondition::In(values) => Some(values),
            _ => None,
        }
    }

    /// Whether it names keys one by one.
    pub(crate) fn names_keys(&self) -> bool {
        matches!(self, KeyCondition::In(_))
    }
}

/// Constants and parameters of the key's own type only: a comparison across types is not one of keys.
fn is_key_value(expr: &Expr, key_type: &DataType) -> bool {
    let fits = |t: &DataType| match key_type {
        DataType::Int64 => matches!(t, DataType::Int64 | DataType::Null),
        _ => matches!(t, DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 | DataType::Null),
    };
    match expr {
        Expr::Literal(value, _) => fits(&value.data_type()),
        Expr::Placeholder(Placeholder { field: Some(field), .. }) => fits(field.data_type()),
        _ => false,
    }
}

/// The keys that a set of conditions, all of which must hold, lets through.
#[derive(Debug, Clone)]
pub(crate) enum KeySet {
    /// These keys, in order.
    Keys(BTreeSet<PrimaryKey>),
    /// The keys between these bounds.
    Range(Bound<PrimaryKey>, Bound<PrimaryKey>),
}

impl KeySet {
    /// No key.
    fn none() -> Self {
        KeySet::Keys(BTreeSet::new())
    }

    /// The keys for which all conditions hold, values coming from `value_of`. A comparison with NULL holds for none.
    pub(crate) fn new<'a>(
        conditions: impl IntoIterator<Item = &'a KeyCondition>,
        value_of: impl Fn(&Expr) -> Result<ScalarValue>,
    ) -> Result<Self> {
        let key = |expr: &Expr| value_of(expr).and_then(|value| primary_key(&value));
        let mut keys: Option<BTreeSet<PrimaryKey>> = None;
        let mut low = Bound::Unbounded;
        let mut high = Bound::Unbounded;
        for condition in conditions {
            match condition {
                KeyCondition::In(values) => {
                    let mut named = BTreeSet::new();
                    for value in values {
                        named.extend(key(value)?);
                    }
                    keys = Some(match keys {
                        Some(before) => before.intersection(&named).cloned().collect(),
                        None => named,
                    });
                }
                KeyCondition::Less(value) => match key(value)? {
                    Some(key) => high = lower_of(high, Bound::Excluded(key)),
                    None => return Ok(Self::none()),
                },
                KeyCondition::LessOrEqual(value) => match key(value)? {
                    Some(key) => high = lower_of(high, Bound::Included(key)),
                    None => return Ok(Self::none()),
                },
                KeyCondition::Greater(value) => match key(value)? {
                    Some(key) => low = higher_of(low, Bound::Excluded(key)),
                    None => return Ok(Self::none()),
                },
                KeyCondition::GreaterOrEqual(value) => match key(value)? {
                    Some(key) => low = higher_of(low, Bound::Included(key)),
                    None => return Ok(Self::none()),
                },
                KeyCondition::Between(from, to) => match (key(from)?, key(to)?) {
                    (Some(from), Some(to)) => {
                        low = higher_of(low, Bound::Included(from));
                        high = lower_of(high, Bound::Included(to));
                    }
                    _ => return Ok(Self::none()),
                },
            }
        }
        if is_empty(&low, &high) {
            return Ok(Self::none());
        }
        Ok(match keys {
            Some(mut keys) => {
                keys.retain(|k| above(k, &low) && below(k, &high));
                KeySet::Keys(keys)
            }
            None => KeySet::Range(low, high),
        })
    }

    /// Whether a key from `min` to `max` may be let through.
    pub(crate) fn overlaps(&self, min: &PrimaryKey, max: &PrimaryKey) -> bool {
        match self {
            KeySet::Keys(keys) => min <= max && keys.range(min..=max).next().is_some(),
            KeySet::Range(low, high) => above(max, low) && below(min, high),
        }
    }

    /// Whether every key from `min` to `max` is let through.
    pub(crate) fn covers(&self, min: &PrimaryKey, max: &PrimaryKey) -> bool {
        match self {
            KeySet::Keys(keys) => min == max && keys.contains(min),
            KeySet::Range(low, high) => above(min, low) && below(max, high),
        }
    }
}

/// The stored form of a key; `None` for NULL.
pub(crate) fn primary_key(value: &ScalarValue) -> Result<Option<PrimaryKey>> {
    match value {
        ScalarValue::Int64(value) => Ok(value.map(PrimaryKey::from_i64)),
        ScalarValue::Utf8View(value) | ScalarValue::Utf8(value) | ScalarValue::LargeUtf8(value) => {
            Ok(value.as_deref().map(PrimaryKey::from_str))
        }
        ScalarValue::Null => Ok(None),
        other => Err(Error::internal(format!("a key of type {}", other.data_type()))),
    }
}

fn above(key: &PrimaryKey, low: &Bound<PrimaryKey>) -> bool {
    match low {
        Bound::Unbounded => true,
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
    }
}

fn below(key: &PrimaryKey, high: &Bound<PrimaryKey>) -> bool {
    match high {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
    }
}

fn is_empty(low: &Bound<PrimaryKey>, high: &Bound<PrimaryKey>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

fn higher_of(a: Bound<PrimaryKey>, b: Bound<PrimaryKey>) -> Bound<PrimaryKey> {
    match (&a, &b) {
        (Bound::Unbounded, _) => b,
        (_, Bound::Unbounded) => a,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x > y || (x == y && matches!(a, Bound::Excluded(_))) { a } else { b }
        }
    }
}

fn lower_of(a: Bound<PrimaryKey>, b: Bound<PrimaryKey>) -> Bound<PrimaryKey> {
    match (&a, &b) {
        (Bound::Unbounded, _) => b,
        (_, Bound::Unbounded) => a,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x < y || (x == y && matches!(a, Bound::Excluded(_))) { a } else { b }
        }
    }
}
