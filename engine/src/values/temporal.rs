//! Dates, times and timestamps among one another.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, Date32Array, Time64MicrosecondArray, TimestampMicrosecondArray},
    datatypes::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType},
};

use super::Target;
use crate::{
    error::Result,
    types::{SqlType, UTC},
};

/// Microseconds of a day.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// The day of a time, in days since 1970.
pub(super) fn day_of(time_us: i64) -> i32 {
    // An i64 of microseconds spans 107 million days either way.
    time_us.div_euclid(DAY_US) as i32
}

pub(super) fn convert(target: Target<'_>, array: &ArrayRef, from: &SqlType) -> Result<ArrayRef> {
    Ok(match (from, target.to) {
        (SqlType::Date, SqlType::Timestamp | SqlType::TimestampTz) => {
            let days = array.as_primitive::<Date32Type>();
            let times = (0..days.len()).map(|row| {
                if days.is_null(row) {
                    return Ok(None);
                }
                let time = i64::from(days.value(row)).checked_mul(DAY_US);
                time.map(Some).ok_or_else(|| target.out_of_range(days, row))
            });
            timestamps(times.collect::<Result<_>>()?, target.to)
        }
        (SqlType::Timestamp | SqlType::TimestampTz, to) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            match to {
                SqlType::Date => Arc::new(times.unary::<_, Date32Type>(day_of)) as ArrayRef,
                SqlType::Time => {
                    let times: Time64MicrosecondArray = times.unary(|time| time.rem_euclid(DAY_US));
                    Arc::new(times)
                }
                // Without time zone means UTC: the number stays.
                to => timestamps(times.clone(), to),
            }
        }
        (from, _) => return Err(target.mismatch(from)),
    })
}

/// Checks that times are within a day, which Arrow does not look at.
pub(super) fn check_times(target: Target<'_>, array: &ArrayRef) -> Result<()> {
    let times = array.as_primitive::<Time64MicrosecondType>();
    let is_outside = |row: &usize| times.is_valid(*row) && !(0..DAY_US).contains(&times.value(*row));
    match (0..times.len()).find(is_outside) {
        // There is no other text for it.
        Some(row) => Err(target.value_out_of_range(&format!("{} µs", times.value(row)))),
        None => Ok(()),
    }
}

/// The array with the time zone that the type has.
pub(super) fn timestamps(array: TimestampMicrosecondArray, to: &SqlType) -> ArrayRef {
    let zone = (*to == SqlType::TimestampTz).then_some(UTC);
    Arc::new(array.with_timezone_opt(zone))
}

/// The array as one of dates.
pub(super) fn dates(array: Date32Array) -> ArrayRef {
    Arc::new(array)
}
