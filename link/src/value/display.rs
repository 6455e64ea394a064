//! Values as text for people, as PostgreSQL writes them where it has the type.

use std::fmt::{self, Display, Formatter};

use super::{Interval, Value};
use crate::datetime;

const MONTHS_PER_YEAR: i32 = 12;

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Bool(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::UInt(value) => value.fmt(f),
            Value::Float(value) => float(f64::from(*value), value, f),
            Value::Double(value) => float(*value, value, f),
            Value::Decimal(text) | Value::Text(text) | Value::Json(text) => f.write_str(text),
            Value::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Value::Date(days) => f.write_str(&datetime::date(i64::from(*days))),
            Value::Time(micros) => f.write_str(&datetime::time(*micros)),
            Value::Timestamp(micros) => f.write_str(&datetime::timestamp(*micros, ' ')),
            Value::TimestampTz(micros) => write!(f, "{}+00", datetime::timestamp(*micros, ' ')),
            Value::Interval(value) => value.fmt(f),
            Value::Uuid(value) => value.fmt(f),
            Value::List(values) => sequence(values, '[', ']', f),
            Value::Struct(values) => sequence(values, '(', ')', f),
        }
    }
}

/// The shortest text that reads back as the same number, with an exponent where digits would be mostly zeros.
fn float<T: Display + fmt::LowerExp>(magnitude: f64, value: &T, f: &mut Formatter<'_>) -> fmt::Result {
    let plain = magnitude == 0.0 || !magnitude.is_finite() || (1e-5..1e16).contains(&magnitude.abs());
    if plain { write!(f, "{value}") } else { write!(f, "{value:e}") }
}

fn sequence(values: &[Value], open: char, close: char, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{open}")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        value.fmt(f)?;
    }
    write!(f, "{close}")
}

impl Display for Interval {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::with_capacity(4);
        let mut unit = |count: i32, one: &str, many: &str| {
            if count != 0 {
                parts.push(format!("{count} {}", if count == 1 { one } else { many }));
            }
        };
        unit(self.months / MONTHS_PER_YEAR, "year", "years");
        unit(self.months % MONTHS_PER_YEAR, "mon", "mons");
        unit(self.days, "day", "days");
        if self.nanoseconds != 0 || parts.is_empty() {
            let sign = if self.nanoseconds < 0 { "-" } else { "" };
            parts.push(format!("{sign}{}", datetime::clock(self.nanoseconds.unsigned_abs(), 9)));
        }
        f.write_str(&parts.join(" "))
    }
}
