//! Lengths of time, as in `TTL '30 seconds'` and `INTERVAL '5 minutes'`.

use datafusion::sql::sqlparser::{parser::Parser, tokenizer::Token};

use super::{
    errors::{self, Parsed},
    words,
};
use crate::error::{Error, Reason};

pub(super) const US_PER_SECOND: i64 = 1_000_000;
const MAX_YEARS: i64 = 10;
const MAX_US: i64 = MAX_YEARS * 365 * 24 * 3600 * US_PER_SECOND;

/// Reads a time more than 0, which `clause` introduces: a string such as '5 minutes', or a number of seconds. Answers in
/// microseconds.
pub(super) fn duration_us(parser: &mut Parser<'_>, clause: &str) -> Parsed<i64> {
    let token = parser.peek_token_ref();
    let at = errors::start(token);
    let text = match &token.token {
        Token::SingleQuotedString(text) | Token::Number(text, false) => text.clone(),
        _ => return words::expected(parser, "a time such as '30 seconds'"),
    };
    parser.advance_token();
    parse(&text).map_err(|problem| {
        let written = errors::clip(&text);
        let error = Error::new(Reason::InvalidTableDefinition, format!("{clause} '{written}' {problem}"));
        errors::at(error, at).into()
    })
}

fn parse(text: &str) -> Result<i64, String> {
    const FORM: &str = "is not a time. Write a whole number and a unit, such as '30 seconds', '5m', '1 hour', '7 days' or \
         '500 milliseconds'.";
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(FORM.to_owned());
    }
    let unit_us = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => US_PER_SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * US_PER_SECOND,
        "h" | "hour" | "hours" => 3_600 * US_PER_SECOND,
        "d" | "day" | "days" => 86_400 * US_PER_SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * US_PER_SECOND,
        _ => return Err(FORM.to_owned()),
    };
    // A number that overflows is too long in any unit.
    let us = number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit_us)).unwrap_or(i64::MAX);
    match us {
        0 => Err("is no time at all: it must be more than 0.".to_owned()),
        us if us > MAX_US => Err(format!("is too long: at most {MAX_YEARS} years ('{} days').", MAX_YEARS * 365)),
        us => Ok(us),
    }
}
