//! Flushing: FLUSH POLICY, FLUSH and COMPACT.

use datafusion::sql::sqlparser::{parser::Parser, tokenizer::Token};

use super::{
    duration::{US_PER_SECOND, duration_us},
    errors::{self, Parsed},
    name,
    statement::{CompactTable, FlushAll, FlushPolicy, FlushTable, Statement},
    words,
};
use crate::error::{Error, Reason};

/// The most that ROWS of a policy can be.
const MAX_ROWS: u64 = 1_000_000_000;

/// After FLUSH POLICY: `ROWS n`, `INTERVAL '…'`, or both in either order.
pub(super) fn policy(parser: &mut Parser<'_>) -> Parsed<FlushPolicy> {
    let mut policy = FlushPolicy { rows: None, interval_s: None };
    loop {
        let at = errors::start(parser.peek_token_ref());
        let twice = if words::accept(parser, &["ROWS"]) {
            policy.rows.replace(rows(parser)?).is_some()
        } else if words::accept(parser, &["INTERVAL"]) {
            policy.interval_s.replace(interval_s(parser)?).is_some()
        } else if policy.rows.is_some() || policy.interval_s.is_some() {
            return Ok(policy);
        } else {
            return words::expected(parser, "ROWS or INTERVAL");
        };
        if twice {
            let error = Error::new(Reason::InvalidTableDefinition, "A FLUSH POLICY has ROWS once and INTERVAL once.");
            return Err(errors::at(error, at).into());
        }
    }
}

/// After FLUSH.
pub(super) fn flush(parser: &mut Parser<'_>) -> Parsed<Statement> {
    if words::accept(parser, &["ALL"]) {
        words::expect(parser, &["TABLES"])?;
        let named = words::accept(parser, &["IN"]) || words::accept(parser, &["FROM"]);
        let namespace = if named { Some(name::name(parser, "the name of a namespace")?) } else { None };
        return Ok(Statement::FlushAll(FlushAll { namespace, force: words::accept(parser, &["FORCE"]) }));
    }
    if !words::accept(parser, &["TABLE"]) {
        return words::expected(parser, "TABLE or ALL TABLES");
    }
    let table = name::whole_table(parser)?;
    Ok(Statement::FlushTable(FlushTable { table, force: words::accept(parser, &["FORCE"]) }))
}

/// After COMPACT.
pub(super) fn compact(parser: &mut Parser<'_>) -> Parsed<CompactTable> {
    words::expect(parser, &["TABLE"])?;
    Ok(CompactTable { table: name::whole_table(parser)? })
}

fn rows(parser: &mut Parser<'_>) -> Parsed<u64> {
    let token = parser.peek_token_ref();
    let at = errors::start(token);
    let Token::Number(text, false) = &token.token else {
        return words::expected(parser, "a number of rows");
    };
    let rows = text.parse::<u64>().ok().filter(|rows| (1..=MAX_ROWS).contains(rows));
    let problem = || {
        let written = errors::clip(text);
        let message = format!("ROWS {written} is out of range: a whole number from 1 to {MAX_ROWS}.");
        errors::at(Error::new(Reason::InvalidTableDefinition, message), at)
    };
    let rows = rows.ok_or_else(problem)?;
    parser.advance_token();
    Ok(rows)
}

fn interval_s(parser: &mut Parser<'_>) -> Parsed<u64> {
    let at = errors::start(parser.peek_token_ref());
    let us = duration_us(parser, "INTERVAL")?;
    match u64::try_from(us / US_PER_SECOND) {
        Ok(seconds) if seconds > 0 && us % US_PER_SECOND == 0 => Ok(seconds),
        _ => {
            let message = "The INTERVAL of a FLUSH POLICY is a number of whole seconds, at least '1 second'.";
            Err(errors::at(Error::new(Reason::InvalidTableDefinition, message), at).into())
        }
    }
}
