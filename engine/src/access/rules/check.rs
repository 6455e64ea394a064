//! Rules against the catalog: what they name must exist, and constants must be of their columns' types.

use datafusion::common::ScalarValue;

use super::parse::{Comparison, Condition, Named, Operand, Parsed, Rule, Target, Test, Value, Wrong};
use crate::{
    catalog::{CatalogState, Column, Table},
    error::{Error, Reason},
    sql::TableKind,
    system,
    types::SqlType,
    values::{CastContext, cast_scalar},
};

/// Checks a rule that is about to be stored.
pub(super) fn rule(rule: &Rule, catalog: &CatalogState) -> Parsed<()> {
    match &rule.target {
        Target::Everything => Ok(()),
        Target::Namespace(namespace) => not_of_the_system(namespace)
            .and_then(|()| catalog.namespace(&namespace.text).map(|_| ()).map_err(|e| at(e, namespace))),
        Target::Table { namespace, table } => shared_table(catalog, namespace, table).map(|_| ()),
        Target::Rows { namespace, table, condition } => {
            let table = shared_table(catalog, namespace, table)?;
            let index = table.column_index(&condition.column.text).map_err(|e| at(e, &condition.column))?;
            match table.columns().get(index) {
                Some(column) => self::condition(condition, column),
                None => Err(at(Error::internal("a column that is not there"), &condition.column)),
            }
        }
    }
}

fn shared_table<'c>(catalog: &'c CatalogState, namespace: &Named, table: &Named) -> Parsed<&'c Table> {
    not_of_the_system(namespace)?;
    catalog.namespace(&namespace.text).map_err(|e| at(e, namespace))?;
    let found = catalog.table(&namespace.text, &table.text, |_| true).map_err(|e| at(e, table))?;
    if found.kind() != TableKind::Shared {
        let message = format!(
            "table {} is a {} table: each user has its own partition of it. Rules are for SHARED tables.",
            found.full_name(),
            found.kind().as_str()
        );
        return Err(Wrong::new(Reason::InvalidRequest, message, table.position));
    }
    Ok(found)
}

fn not_of_the_system(namespace: &Named) -> Parsed<()> {
    if system::is_system_namespace(&namespace.text) {
        let message = format!("namespace '{}' is of the system: rules say nothing of it.", namespace.text);
        return Err(Wrong::new(Reason::InvalidRequest, message, namespace.position));
    }
    Ok(())
}

fn at(error: Error, name: &Named) -> Wrong {
    Wrong { error, position: name.position }
}

/// Checks that a condition can be asked of a column.
pub(super) fn condition(condition: &Condition, column: &Column) -> Parsed<()> {
    let comparable = |position| {
        if is_comparable(&column.sql_type) {
            return Ok(());
        }
        let message = format!("column {} is of type {}, which rules do not compare.", column.name, column.sql_type);
        Err(Wrong::new(Reason::InvalidRequest, message, position))
    };
    match &condition.test {
        Test::IsNull { .. } => Ok(()),
        Test::Compare(comparison, operand) => {
            comparable(condition.column.position)?;
            value(operand, column, *comparison == Comparison::Equal).map(|_| ())
        }
        Test::In { operands, negated } => {
            comparable(condition.column.position)?;
            operands.iter().try_for_each(|operand| value(operand, column, !negated).map(|_| ()))
        }
    }
}

fn is_comparable(sql_type: &SqlType) -> bool {
    !matches!(sql_type, SqlType::Null | SqlType::Json | SqlType::Interval | SqlType::List(_) | SqlType::Struct(_))
}

/// The value of an operand in the type of a column; `None`: CURRENT_USER(). `equality` is whether rows are looked for
/// that have the value.
pub(super) fn value(operand: &Operand, column: &Column, equality: bool) -> Parsed<Option<ScalarValue>> {
    let refuse = |why: String| Err(Wrong::new(Reason::InvalidValue, why, operand.position));
    let to = &column.sql_type;
    let given = match &operand.value {
        Value::CurrentUser => {
            // A UUID is stored in its canonical form, a user id in the form that it has: only where they are the same
            // text, both mean the same.
            return match to {
                SqlType::Text => Ok(None),
                SqlType::Uuid if equality => Ok(None),
                _ => refuse(format!("CURRENT_USER() is TEXT; column {} is of type {to}.", column.name)),
            };
        }
        Value::Boolean(value) if *to == SqlType::Boolean => return Ok(Some(ScalarValue::Boolean(Some(*value)))),
        Value::Text(text) if is_read_from_text(to) => (ScalarValue::Utf8View(Some(text.clone())), SqlType::Text),
        Value::Number(digits) if is_number(to) => match number(digits) {
            Some(number) => number,
            None => return refuse(format!("{digits} has more digits than a number can have.")),
        },
        other => return refuse(format!("column {} is of type {to}; {other} is not.", column.name)),
    };
    let (written, from) = given;
    let cast = cast_scalar(&written, &from, to, column.name.as_str(), CastContext::Literal)
        .map_err(|error| Wrong { error, position: operand.position })?;
    // Rounded, the constant would draw another line than the one that was written.
    let exact = !is_number(to) || is_floating(to) || cast.cast_to(&written.data_type()).ok().as_ref() == Some(&written);
    if cast.is_null() || !exact {
        return refuse(format!("column {} of type {to} cannot have the value {} exactly.", column.name, operand.value));
    }
    Ok(Some(cast))
}

fn is_read_from_text(sql_type: &SqlType) -> bool {
    matches!(
        sql_type,
        SqlType::Text
            | SqlType::Uuid
            | SqlType::Bytes
            | SqlType::Date
            | SqlType::Time
            | SqlType::Timestamp
            | SqlType::TimestampTz
    )
}

fn is_floating(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::Real | SqlType::Double)
}

fn is_number(sql_type: &SqlType) -> bool {
    is_floating(sql_type)
        || matches!(
            sql_type,
            SqlType::SmallInt
                | SqlType::Int
                | SqlType::BigInt
                | SqlType::SmallIntUnsigned
                | SqlType::IntUnsigned
                | SqlType::BigIntUnsigned
                | SqlType::Decimal { .. }
        )
}

/// A number as SQL reads it: whole ones as integers, others as exact decimals, those with an exponent as DOUBLE.
fn number(text: &str) -> Option<(ScalarValue, SqlType)> {
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        return value.is_finite().then(|| (ScalarValue::Float64(Some(value)), SqlType::Double));
    }
    if let Ok(value) = text.parse::<i64>() {
        return Some((ScalarValue::Int64(Some(value)), SqlType::BigInt));
    }
    if let Ok(value) = text.parse::<u64>() {
        return Some((ScalarValue::UInt64(Some(value)), SqlType::BigIntUnsigned));
    }
    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let scale = i8::try_from(scale).ok().filter(|scale| *scale <= 38)?;
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let value: i128 = digits.parse().ok()?;
    let fits = value.unsigned_abs() < 10_u128.pow(38);
    fits.then_some((ScalarValue::Decimal128(Some(value), 38, scale), SqlType::Decimal { precision: 38, scale }))
}
