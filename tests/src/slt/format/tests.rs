//! Tests of the formatting.

use super::*;

#[test]
fn a_value_is_shown_by_the_declared_column_type() {
    use DefaultColumnType::{Any, FloatingPoint, Integer, Text};
    let decimal = |digits: &str| Value::Decimal(digits.to_owned());
    for (value, column, shown) in [
        (Value::Null, Integer, "NULL"),
        (Value::from(""), Text, "(empty)"),
        (Value::Int(i64::MIN), Integer, "-9223372036854775808"),
        (Value::Int(7), FloatingPoint, "7.000"),
        (Value::Double(2.0 / 3.0), FloatingPoint, "0.667"),
        (Value::Double(-2.9), Integer, "-2"),
        (decimal("-0.75"), Integer, "0"),
        (decimal("12.50"), Any, "12.50"),
        (Value::Bool(true), Integer, "1"),
        (Value::Bool(true), Any, "true"),
        (Value::Date(19_782), Any, "2024-02-29"),
    ] {
        assert_eq!(cell(&value, &column), shown);
    }
}
