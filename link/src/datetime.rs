//! Dates and times as text, over the whole range of the stored integers.

const DAYS_PER_ERA: i64 = 146_097;
const DAYS_FROM_ERA_TO_EPOCH: i64 = 719_468;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A day as `YYYY-MM-DD`, from days since 1970-01-01. Years outside 0 to 9999 carry a sign, as in ISO 8601.
///
/// ```
/// assert_eq!(kalam_link::datetime::date(19_782), "2024-02-29");
/// ```
pub fn date(days_since_epoch: i64) -> String {
    // Days are counted from the 1st of March of year 0 in eras of 400 years, which are all of the same length; with
    // the year starting in March the leap day comes last.
    let days = days_since_epoch.saturating_add(DAYS_FROM_ERA_TO_EPOCH);
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

/// A time of day as `HH:MM:SS[.ffffff]`, from microseconds since midnight.
///
/// ```
/// assert_eq!(kalam_link::datetime::time(3_600_000_001), "01:00:00.000001");
/// ```
pub fn time(micros_since_midnight: i64) -> String {
    let sign = if micros_since_midnight < 0 { "-" } else { "" };
    format!("{sign}{}", clock(micros_since_midnight.unsigned_abs(), 6))
}

/// A point in time as `YYYY-MM-DD<separator>HH:MM:SS[.ffffff]`, from microseconds since 1970-01-01T00:00:00.
///
/// ```
/// assert_eq!(kalam_link::datetime::timestamp(-1, 'T'), "1969-12-31T23:59:59.999999");
/// ```
pub fn timestamp(micros_since_epoch: i64, separator: char) -> String {
    let days = micros_since_epoch.div_euclid(MICROS_PER_DAY);
    format!("{}{separator}{}", date(days), time(micros_since_epoch.rem_euclid(MICROS_PER_DAY)))
}

/// Hours, minutes, seconds and the fraction without trailing zeros; `ticks` are units of `10^-digits` seconds.
pub(crate) fn clock(ticks: u64, digits: u32) -> String {
    let per_second = 10u64.pow(digits);
    let seconds = ticks / per_second;
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = ticks % per_second;
    if fraction != 0 {
        let padded = format!("{fraction:0width$}", width = digits as usize);
        text.push('.');
        text.push_str(padded.trim_end_matches('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{date, time, timestamp};

    #[test]
    fn days_are_those_of_the_proleptic_gregorian_calendar() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
        ] {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn any_integer_has_a_text() {
        for value in [i64::MIN, i64::MAX] {
            assert!(!timestamp(value, ' ').is_empty());
            assert!(!time(value).is_empty());
        }
        assert!(date(i64::from(i32::MIN)).starts_with('-'));
        assert_eq!(timestamp(i64::MAX, 'T'), "+294247-01-10T04:00:54.775807");
    }
}
