//! Values as sqllogictest files write them, which depends on the column type that the file declares.
//!
//! `I` shows integers, `R` three decimals, `T` text; any other letter shows a value by its own type. NULL is `NULL`,
//! an empty text `(empty)`.

use kalam_link::Value;
use sqllogictest::DefaultColumnType;

/// A value in a column declared with this type.
pub fn cell(value: &Value, column: &DefaultColumnType) -> String {
    let shown = match column {
        DefaultColumnType::Integer => integer(value),
        DefaultColumnType::FloatingPoint => number(value).map(|number| format!("{number:.3}")),
        DefaultColumnType::Text | DefaultColumnType::Any => None,
    };
    shown.unwrap_or_else(|| match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) if text.is_empty() => "(empty)".to_owned(),
        other => other.to_string(),
    })
}

/// As sqlite shows a value asked for as an integer: fractions cut off, truth as 1 and 0.
fn integer(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(i64::from(*truth).to_string()),
        Value::Float(number) => Some((*number as i64).to_string()),
        Value::Double(number) => Some((*number as i64).to_string()),
        Value::Decimal(digits) => Some(match digits.split_once('.') {
            Some(("-0", _)) => "0".to_owned(),
            Some((whole, _)) => whole.to_owned(),
            None => digits.clone(),
        }),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(truth) => Some(f64::from(*truth)),
        Value::Int(number) => Some(*number as f64),
        Value::UInt(number) => Some(*number as f64),
        Value::Float(number) => Some(f64::from(*number)),
        Value::Double(number) => Some(*number),
        Value::Decimal(digits) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
