//! Values from text, and text from values.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewBuilder, BooleanBuilder, Float32Array, Float64Array,
        PrimitiveArray, StringViewArray, StringViewBuilder, timezone::Tz,
    },
    compute::{
        cast_with_options,
        kernels::cast_utils::{Parser, parse_interval_month_day_nano, string_to_datetime, string_to_time_nanoseconds},
    },
    datatypes::{DataType, Date32Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType},
};
use serde::de::IgnoredAny;

use super::{STRICT, Target, numeric, temporal};
use crate::{
    error::{Error, Result},
    types::{SqlType, UTC},
};

/// Deepest nesting of arrays and objects in a JSON value; readers of it may recurse.
const MAX_JSON_DEPTH: usize = 128;

/// Text to the target's type, which is not TEXT.
pub(super) fn parse(target: Target<'_>, array: &StringViewArray) -> Result<ArrayRef> {
    match target.to {
        SqlType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(array.len());
            for text in array {
                builder.append_option(text.map(|t| boolean(t).ok_or_else(|| target.invalid(t))).transpose()?);
            }
            Ok(Arc::new(builder.finish()))
        }
        SqlType::Real => {
            let values: Float32Array = primitives(array, |t| float::<f32>(target, t))?;
            Ok(Arc::new(values))
        }
        SqlType::Double => {
            let values: Float64Array = primitives(array, |t| float::<f64>(target, t))?;
            Ok(Arc::new(values))
        }
        SqlType::Decimal { scale, .. } => parse_decimals(target, array, i32::from(*scale)),
        SqlType::Date => Ok(temporal::dates(primitives(array, |t| date(t).ok_or_else(|| target.invalid(t)))?)),
        SqlType::Time => {
            let read = |t: &str| string_to_time_nanoseconds(t.trim()).map(|ns| ns / 1000);
            let read = |t: &str| read(t).map_err(|_| target.invalid(t));
            Ok(Arc::new(primitives::<Time64MicrosecondType>(array, read)?))
        }
        SqlType::Timestamp | SqlType::TimestampTz => {
            let utc: Tz = UTC.parse().map_err(Error::internal)?;
            let read = |t: &str| timestamp(&utc, t).ok_or_else(|| target.invalid(t));
            Ok(temporal::timestamps(primitives::<TimestampMicrosecondType>(array, read)?, target.to))
        }
        SqlType::Interval => {
            let read = |t: &str| parse_interval_month_day_nano(t.trim()).map_err(|_| target.invalid(t));
            Ok(Arc::new(primitives::<IntervalMonthDayNanoType>(array, read)?))
        }
        SqlType::Uuid => {
            let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
            let mut builder = StringViewBuilder::with_capacity(array.len());
            for text in array {
                let Some(text) = text else {
                    builder.append_null();
                    continue;
                };
                let uuid = uuid::Uuid::try_parse(text.trim()).map_err(|_| target.invalid(text))?;
                builder.append_value(uuid.hyphenated().encode_lower(&mut buffer));
            }
            Ok(Arc::new(builder.finish()))
        }
        SqlType::Json => {
            array.iter().flatten().try_for_each(|text| check_json(target, text))?;
            Ok(Arc::new(array.clone()))
        }
        SqlType::Bytes => {
            let mut builder = BinaryViewBuilder::with_capacity(array.len());
            for text in array {
                match text {
                    Some(text) => builder.append_value(bytes(text).ok_or_else(|| target.invalid(text))?),
                    None => builder.append_null(),
                }
            }
            Ok(Arc::new(builder.finish()))
        }
        // Integers: those that are no number at all are told apart from those out of range.
        _ => {
            for text in array.iter().flatten() {
                if !is_integer(text) {
                    return Err(target.invalid(text));
                }
            }
            numeric::build_integers(target, array, |row| array.value(row).trim().parse().ok())
        }
    }
}

/// Texts that are said to be of the target's type, which is UUID or JSON.
pub(super) fn checked(target: Target<'_>, array: &ArrayRef) -> Result<ArrayRef> {
    let texts = array.as_string_view();
    if *target.to == SqlType::Uuid && texts.iter().flatten().all(is_canonical_uuid) {
        return Ok(Arc::clone(array));
    }
    parse(target, texts)
}

fn is_canonical_uuid(text: &str) -> bool {
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    uuid::Uuid::try_parse(text).is_ok_and(|uuid| *uuid.hyphenated().encode_lower(&mut buffer) == *text)
}

/// Any scalar type to TEXT, as CAST does it.
pub(super) fn write(target: Target<'_>, array: &ArrayRef, from: &SqlType) -> Result<ArrayRef> {
    if matches!(from, SqlType::Uuid | SqlType::Json) {
        return Ok(Arc::clone(array));
    }
    let text = cast_with_options(array, &DataType::Utf8, &STRICT).map_err(|_| {
        // Times have no text beyond the years that a calendar is kept for, or the end of a day.
        let message = format!("Column \"{}\": a {from} is out of range and cannot be written as TEXT.", target.column);
        target.invalid_value(message)
    })?;
    cast_with_options(&text, &DataType::Utf8View, &STRICT).map_err(Error::internal)
}

fn primitives<T: ArrowPrimitiveType>(
    array: &StringViewArray,
    read: impl Fn(&str) -> Result<T::Native>,
) -> Result<PrimitiveArray<T>> {
    array.iter().map(|text| text.map(&read).transpose()).collect()
}

fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_one_of(&["true", "t", "yes", "y", "on", "1"]) {
        Some(true)
    } else if is_one_of(&["false", "f", "no", "n", "off", "0"]) {
        Some(false)
    } else {
        None
    }
}

fn is_integer(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn float<F: std::str::FromStr + Into<f64> + Copy>(target: Target<'_>, text: &str) -> Result<F> {
    let value: F = text.trim().parse().map_err(|_| target.invalid(text))?;
    // A number too large reads as infinity, which must be asked for by name.
    if value.into().is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(target.value_out_of_range(text));
    }
    Ok(value)
}

fn parse_decimals(target: Target<'_>, array: &StringViewArray, scale: i32) -> Result<ArrayRef> {
    for text in array.iter().flatten() {
        if let Err(numeric::NotDecimal::Invalid) = numeric::decimal_from_text(text, scale) {
            return Err(target.invalid(text));
        }
    }
    numeric::build_decimals(target, array, |row, scale| numeric::decimal_from_text(array.value(row), scale).ok())
}

fn date(text: &str) -> Option<i32> {
    let text = text.trim();
    Date32Type::parse(text).or_else(|| {
        let utc: Tz = UTC.parse().ok()?;
        timestamp(&utc, text).map(temporal::day_of)
    })
}

/// Microseconds since 1970; a text without time zone means UTC.
/// The time that a text names, in microseconds since 1970-01-01T00:00:00Z; without a time zone it is UTC.
pub(crate) fn timestamp_us(text: &str) -> Option<i64> {
    timestamp(&UTC.parse().ok()?, text)
}

fn timestamp(utc: &Tz, text: &str) -> Option<i64> {
    string_to_datetime(utc, text.trim()).ok().map(|time| time.timestamp_micros())
}

/// `\x` and hexadecimal digits, as PostgreSQL writes bytes; any other text is its UTF-8 bytes.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix("\\x").or_else(|| text.strip_prefix("\\X")) else {
        return Some(text.as_bytes().to_vec());
    };
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some((digit(high)? << 4) | digit(low)?) } else { None }).collect()
}

fn check_json(target: Target<'_>, text: &str) -> Result<()> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let message = format!("Column \"{}\": the value is not valid JSON: {error}.", target.column);
        return Err(target.invalid_value(message));
    }
    if json_depth(text) > MAX_JSON_DEPTH {
        let message =
            format!("Column \"{}\": the JSON value is nested deeper than {MAX_JSON_DEPTH} levels.", target.column);
        return Err(target.invalid_value(message));
    }
    Ok(())
}

/// The deepest nesting in a valid JSON text.
fn json_depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
