//! Numbers from numbers and from text.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Builder, Decimal256Builder, PrimitiveArray,
        PrimitiveBuilder,
    },
    compute::cast,
    datatypes::{
        DataType, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Int16Type, Int32Type,
        Int64Type, UInt16Type, UInt32Type, UInt64Type, i256,
    },
};

use super::Target;
use crate::{
    error::{Error, Result},
    types::SqlType,
};

/// Most decimal digits of a DECIMAL.
const MAX_DIGITS: u32 = 76;

pub(super) fn is_number(sql_type: &SqlType) -> bool {
    is_integer(sql_type) || matches!(sql_type, SqlType::Real | SqlType::Double | SqlType::Decimal { .. })
}

fn is_integer(sql_type: &SqlType) -> bool {
    matches!(
        sql_type,
        SqlType::SmallInt
            | SqlType::Int
            | SqlType::BigInt
            | SqlType::SmallIntUnsigned
            | SqlType::IntUnsigned
            | SqlType::BigIntUnsigned
    )
}

/// Numbers of one type to numbers of another.
pub(super) fn convert(target: Target<'_>, array: &ArrayRef, from: &SqlType) -> Result<ArrayRef> {
    match (from, target.to) {
        (from, to) if is_integer(from) && is_integer(to) => integers_from_integers(target, array),
        (SqlType::Real | SqlType::Double, to) if is_integer(to) => {
            let floats = widened(array)?;
            let floats = floats.as_primitive::<Float64Type>();
            build_integers(target, array, |row| {
                let rounded = floats.value(row).round_ties_even();
                // `as` turns NaN into 0 and saturates at the ends of i128, which no type reaches.
                rounded.is_finite().then_some(rounded as i128)
            })
        }
        (SqlType::Decimal { scale, .. }, to) if is_integer(to) => {
            let unscaled = unscaled_values(array)?;
            build_integers(target, array, |row| rescale(unscaled(row), i32::from(*scale), 0)?.to_i128())
        }
        (_, SqlType::Real | SqlType::Double) => floats_from_numbers(target, array),
        (SqlType::Real, SqlType::Decimal { .. }) => {
            let floats = array.as_primitive::<Float32Type>();
            // Through the shortest text that means the number, so that 0.1 becomes 0.1.
            build_decimals(target, array, |row, scale| {
                decimal_from_text(&format!("{:e}", floats.value(row)), scale).ok()
            })
        }
        (SqlType::Double, SqlType::Decimal { .. }) => {
            let floats = array.as_primitive::<Float64Type>();
            build_decimals(target, array, |row, scale| {
                decimal_from_text(&format!("{:e}", floats.value(row)), scale).ok()
            })
        }
        (SqlType::Decimal { scale: from_scale, .. }, SqlType::Decimal { .. }) => {
            let unscaled = unscaled_values(array)?;
            build_decimals(target, array, |row, scale| rescale(unscaled(row), i32::from(*from_scale), scale))
        }
        (_, SqlType::Decimal { .. }) => {
            let integers = cast(array, &DataType::Decimal128(38, 0)).map_err(Error::internal)?;
            let integers = integers.as_primitive::<Decimal128Type>();
            build_decimals(target, array, |row, scale| rescale(i256::from_i128(integers.value(row)), 0, scale))
        }
        _ => Err(target.mismatch(from)),
    }
}

/// Builds integers from values given row by row; None is out of range.
pub(super) fn build_integers(
    target: Target<'_>,
    array: &dyn Array,
    value: impl Fn(usize) -> Option<i128>,
) -> Result<ArrayRef> {
    match target.to {
        SqlType::SmallInt => build_integers_of::<Int16Type>(target, array, value),
        SqlType::Int => build_integers_of::<Int32Type>(target, array, value),
        SqlType::BigInt => build_integers_of::<Int64Type>(target, array, value),
        SqlType::SmallIntUnsigned => build_integers_of::<UInt16Type>(target, array, value),
        SqlType::IntUnsigned => build_integers_of::<UInt32Type>(target, array, value),
        SqlType::BigIntUnsigned => build_integers_of::<UInt64Type>(target, array, value),
        other => Err(Error::internal(format!("{other} is not an integer type"))),
    }
}

fn build_integers_of<T>(
    target: Target<'_>,
    array: &dyn Array,
    value: impl Fn(usize) -> Option<i128>,
) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: TryFrom<i128>>,
{
    let mut builder = PrimitiveBuilder::<T>::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
            continue;
        }
        let value = value(row).and_then(|v| T::Native::try_from(v).ok());
        builder.append_value(value.ok_or_else(|| target.out_of_range(array, row))?);
    }
    Ok(Arc::new(builder.finish()))
}

/// Builds decimals from values given, for a row and the column's scale, without their point; None is out of range.
pub(super) fn build_decimals(
    target: Target<'_>,
    array: &dyn Array,
    value: impl Fn(usize, i32) -> Option<i256>,
) -> Result<ArrayRef> {
    let SqlType::Decimal { precision, scale } = target.to else {
        return Err(Error::internal(format!("{} is not a decimal type", target.to)));
    };
    let (precision, scale) = (*precision, *scale);
    let limit = power_of_ten(u32::from(precision)).unwrap_or(i256::MAX);
    let in_range = |row| {
        let value = value(row, i32::from(scale)).filter(|v| *v < limit && v.wrapping_neg() < limit);
        value.ok_or_else(|| target.out_of_range(array, row))
    };
    let data_type = target.to.to_arrow();
    if let DataType::Decimal128(..) = data_type {
        let mut builder = Decimal128Builder::with_capacity(array.len()).with_data_type(data_type);
        for row in 0..array.len() {
            if array.is_null(row) {
                builder.append_null();
            } else {
                builder.append_value(in_range(row)?.to_i128().ok_or_else(|| target.out_of_range(array, row))?);
            }
        }
        return Ok(Arc::new(builder.finish()));
    }
    let mut builder = Decimal256Builder::with_capacity(array.len()).with_data_type(data_type);
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
        } else {
            builder.append_value(in_range(row)?);
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Checks that decimals have no more digits than their type, which Arrow does not look at.
pub(super) fn check_digits(target: Target<'_>, array: &ArrayRef, precision: u8) -> Result<()> {
    let too_long = match (array.as_primitive_opt::<Decimal128Type>(), array.as_primitive_opt::<Decimal256Type>()) {
        (Some(values), _) => first_beyond(values, precision),
        (_, Some(values)) => first_beyond(values, precision),
        _ => return Err(Error::internal(format!("{} is not a decimal type", array.data_type()))),
    };
    too_long.map_or(Ok(()), |row| Err(target.out_of_range(array, row)))
}

fn first_beyond<T: DecimalType>(values: &PrimitiveArray<T>, precision: u8) -> Option<usize> {
    let is_beyond = |row: &usize| !T::is_valid_decimal_precision(values.value(*row), precision);
    (0..values.len()).find(|row| values.is_valid(*row) && is_beyond(row))
}

fn integers_from_integers(target: Target<'_>, array: &ArrayRef) -> Result<ArrayRef> {
    // This cast makes NULL of what does not fit, so that the good case is vectorised.
    let converted = cast(array, &target.to.to_arrow()).map_err(Error::internal)?;
    match first_new_null(array, &converted) {
        Some(row) => Err(target.out_of_range(array, row)),
        None => Ok(converted),
    }
}

fn first_new_null(before: &dyn Array, after: &dyn Array) -> Option<usize> {
    if before.null_count() == after.null_count() {
        return None;
    }
    (0..before.len()).find(|row| before.is_valid(*row) && after.is_null(*row))
}

fn floats_from_numbers(target: Target<'_>, array: &ArrayRef) -> Result<ArrayRef> {
    let converted = cast(array, &target.to.to_arrow()).map_err(Error::internal)?;
    if let Some(row) = first_new_null(array, &converted) {
        return Err(target.out_of_range(array, row));
    }
    if *array.data_type() == DataType::Float64
        && let Some(narrow) = converted.as_primitive_opt::<Float32Type>()
    {
        let wide = array.as_primitive::<Float64Type>();
        let overflows = |row: &usize| narrow.value(*row).is_infinite() && wide.value(*row).is_finite();
        if let Some(row) = (0..wide.len()).find(|row| wide.is_valid(*row) && overflows(row)) {
            return Err(target.out_of_range(array, row));
        }
    }
    Ok(converted)
}

fn widened(array: &ArrayRef) -> Result<ArrayRef> {
    cast(array, &DataType::Float64).map_err(Error::internal)
}

/// The values of a decimal array without their point, by row.
fn unscaled_values(array: &ArrayRef) -> Result<Box<dyn Fn(usize) -> i256 + '_>> {
    if let Some(values) = array.as_primitive_opt::<Decimal128Type>() {
        Ok(Box::new(|row| i256::from_i128(values.value(row))))
    } else if let Some(values) = array.as_primitive_opt::<Decimal256Type>() {
        Ok(Box::new(|row| values.value(row)))
    } else {
        Err(Error::internal(format!("{} is not a decimal type", array.data_type())))
    }
}

fn power_of_ten(exponent: u32) -> Option<i256> {
    if exponent > MAX_DIGITS {
        return None;
    }
    i256::from_i128(10).checked_pow(exponent)
}

/// The number `unscaled * 10^-from_scale` at another scale, rounded half away from zero; None if it has too many digits.
fn rescale(unscaled: i256, from_scale: i32, to_scale: i32) -> Option<i256> {
    if to_scale >= from_scale {
        if unscaled == i256::ZERO {
            return Some(unscaled);
        }
        return unscaled.checked_mul(power_of_ten(to_scale.abs_diff(from_scale))?);
    }
    let Some(divisor) = power_of_ten(from_scale.abs_diff(to_scale)) else {
        // More digits are dropped than a decimal can have.
        return Some(i256::ZERO);
    };
    let quotient = unscaled.checked_div(divisor)?;
    let remainder = unscaled.checked_rem(divisor)?;
    let half = divisor.checked_div(i256::from_i128(2))?;
    if remainder >= half {
        quotient.checked_add(i256::ONE)
    } else if remainder <= half.wrapping_neg() {
        quotient.checked_sub(i256::ONE)
    } else {
        Some(quotient)
    }
}

/// Why a text is not a decimal.
pub(super) enum NotDecimal {
    /// It is no number.
    Invalid,
    /// It has more digits than any decimal.
    OutOfRange,
}

/// Reads `[+-]digits[.digits][e[+-]digits]`; the result is without its point and rounded half away from zero to `scale`.
pub(super) fn decimal_from_text(text: &str, scale: i32) -> Result<i256, NotDecimal> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| NotDecimal::Invalid)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotDecimal::Invalid);
    }
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    digits.drain(..zeros);
    if digits.is_empty() {
        return Ok(i256::ZERO);
    }
    // How many of the digits stand before the place where the number is rounded. Texts are shorter than 2^62.
    let kept = whole.len() as i64 - zeros as i64 + i64::from(exponent) + i64::from(scale);
    if kept > i64::from(MAX_DIGITS) {
        return Err(NotDecimal::OutOfRange);
    }
    let Ok(kept) = usize::try_from(kept) else { return Ok(i256::ZERO) };
    let ten = i256::from_i128(10);
    let digit = |at: usize| i128::from(digits.get(at).map_or(0, |d| d - b'0'));
    let mut value = i256::ZERO;
    for at in 0..kept {
        let next = value.checked_mul(ten).and_then(|v| v.checked_add(i256::from_i128(digit(at))));
        value = next.ok_or(NotDecimal::OutOfRange)?;
    }
    if digit(kept) >= 5 {
        value = value.checked_add(i256::ONE).ok_or(NotDecimal::OutOfRange)?;
    }
    Ok(if negative { value.wrapping_neg() } else { value })
}
