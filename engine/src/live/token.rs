//! Resume tokens: where in the change log a subscriber of a certain query is.
//!
//! ```text
//! format u8 = 1 | database u64 | shard u16 | epoch u32 | table u32 | query 8 bytes | columns 4 bytes | commit u64 | check 4 bytes
//! ```
//!
//! Numbers are big-endian, the whole is base64url without padding. `query` is the beginning of the SHA-256 of the owner,
//! the query's normalised text and its parameters; `columns` that of the names and types of its columns; `check` the
//! CRC-32 of all bytes before it. A token is no secret and gives no rights: it says where to go on in the holder's own query.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kalamdb_store::ids::{ColumnId, CommitSeq, Owner, TableId};
use ring::digest::{Context, SHA256};

use crate::{
    error::{Error, Reason, Result},
    exec::{Parameter, ResultColumn},
};

const FORMAT: u8 = 1;
/// There is one shard and one epoch; both are in tokens so that more need no new format.
const SHARD: u16 = 0;
const EPOCH: u32 = 0;
const LEN: usize = 43;
/// Length of a token's text.
const TEXT_LEN: usize = (LEN * 4).div_ceil(3);
const CHECK_LEN: usize = 4;

/// What a token says beside its position: the same for all tokens of one query of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenScope {
    pub(super) database: u64,
    pub(super) table: TableId,
    pub(super) query: [u8; 8],
    pub(super) columns: [u8; 4],
}

/// A resume token: text, not made of parts that mean something to whoever gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken([u8; TEXT_LEN]);

impl ResumeToken {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Base64 is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Where a token goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// After this commit.
    After(CommitSeq),
    /// Nowhere: the query has other columns now.
    OtherColumns,
}

impl TokenScope {
    /// The token that resumes after `seq`.
    pub(super) fn token(&self, seq: CommitSeq) -> String {
        self.resume_token(seq).as_str().to_owned()
    }

    /// The same, without memory of its own.
    pub(super) fn resume_token(&self, seq: CommitSeq) -> ResumeToken {
        let mut bytes = [0; LEN];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &[FORMAT]);
        put(&mut rest, &self.database.to_be_bytes());
        put(&mut rest, &SHARD.to_be_bytes());
        put(&mut rest, &EPOCH.to_be_bytes());
        put(&mut rest, &self.table.get().to_be_bytes());
        put(&mut rest, &self.query);
        put(&mut rest, &self.columns);
        put(&mut rest, &seq.get().to_be_bytes());
        let (body, end) = bytes.split_at_mut(LEN - CHECK_LEN);
        end.copy_from_slice(&check(body));
        let mut text = [0; TEXT_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written.ok(), Some(TEXT_LEN));
        ResumeToken(text)
    }

    /// Where `token` goes on in this query.
    ///
    /// # Errors
    /// INVALID_RESUME_TOKEN when it is damaged, or is of another database, table, owner or query.
    pub(super) fn position(&self, token: &str) -> Result<Position> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let (body, last) = bytes.split_at_checked(LEN - CHECK_LEN).ok_or_else(malformed)?;
        if last != check(body) {
            return Err(malformed());
        }
        let mut rest = body;
        let [format] = take(&mut rest)?;
        if format != FORMAT {
            return Err(invalid("The resume token has a format that this server does not know. Subscribe without it."));
        }
        let database = u64::from_be_bytes(take(&mut rest)?);
        let shard = u16::from_be_bytes(take(&mut rest)?);
        let epoch = u32::from_be_bytes(take(&mut rest)?);
        let table = TableId::new(u32::from_be_bytes(take(&mut rest)?));
        let query: [u8; 8] = take(&mut rest)?;
        let columns: [u8; 4] = take(&mut rest)?;
        let seq = CommitSeq::new(u64::from_be_bytes(take(&mut rest)?));
        if database != self.database || shard != SHARD || epoch != EPOCH {
            return Err(invalid("The resume token is of another database. Subscribe without it."));
        }
        if table != self.table || query != self.query {
            return Err(invalid(
                "The resume token is of another query, table or user. Subscribe with the query that it came from, or without it.",
            ));
        }
        Ok(if columns == self.columns { Position::After(seq) } else { Position::OtherColumns })
    }
}

/// The identity of a query in tokens.
pub(super) fn query_fingerprint(owner: &Owner, normalized: &str, parameters: &[Parameter]) -> [u8; 8] {
    let owner = match owner {
        Owner::Shared => "",
        Owner::User(user) => user.as_str(),
    };
    let parameters = parameters.iter().map(|p| format!("{}={:?}", p.sql_type, p.value)).collect::<Vec<_>>().join("\0");
    digest([owner.as_bytes(), normalized.as_bytes(), parameters.as_bytes()])
}

/// The identity of a query's columns in tokens: what they are called, and which of the table's they, and the filter, are
/// made of. A column that was dropped and added again under the same name is another one.
pub(super) fn columns_fingerprint(columns: &[ResultColumn], made_of: &[ColumnId]) -> [u8; 4] {
    let columns = columns.iter().map(|c| format!("{} {}", c.name, c.sql_type));
    let parts: Vec<String> = columns.chain(made_of.iter().map(ToString::to_string)).collect();
    digest(parts.iter().map(String::as_bytes))
}

/// What tells a token that was damaged.
fn check(bytes: &[u8]) -> [u8; CHECK_LEN] {
    crc32fast::hash(bytes).to_be_bytes()
}

/// The beginning of the SHA-256 of the parts, each with its length before it.
fn digest<'p, const N: usize>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; N] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let whole = context.finish();
    let mut beginning = [0; N];
    beginning.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
    beginning
}

fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    let (to, behind) = std::mem::take(rest).split_at_mut(bytes.len());
    to.copy_from_slice(bytes);
    *rest = behind;
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or_else(malformed)?;
    *bytes = rest;
    Ok(*first)
}

fn malformed() -> Error {
    invalid("The resume token is not one that this server made, or it was damaged on its way. Subscribe without it.")
}

pub(super) fn invalid(message: &str) -> Error {
    Error::new(Reason::InvalidResumeToken, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> TokenScope {
        TokenScope { database: 7, table: TableId::new(3), query: [1; 8], columns: [2; 4] }
    }

    #[test]
    fn a_token_says_where_to_go_on() {
        let token = scope().token(CommitSeq::new(u64::MAX - 1));
        assert_eq!(scope().position(&token).unwrap(), Position::After(CommitSeq::new(u64::MAX - 1)));
        let other = TokenScope { columns: [9; 4], ..scope() };
        assert_eq!(other.position(&token).unwrap(), Position::OtherColumns);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let token = scope().token(CommitSeq::new(5));
        for other in [
            TokenScope { database: 8, ..scope() },
            TokenScope { table: TableId::new(4), ..scope() },
            TokenScope { query: [0; 8], ..scope() },
        ] {
            assert_eq!(other.position(&token).unwrap_err().reason(), Reason::InvalidResumeToken);
        }
    }

    #[test]
    fn every_damaged_token_is_refused() {
        let token = scope().token(CommitSeq::new(5));
        for at in 0..token.len() {
            for replacement in ["A", "z", "-", "", "=", "é"] {
                let damaged = format!("{}{replacement}{}", &token[..at], &token[at + 1..]);
                if damaged != token {
                    assert_eq!(scope().position(&damaged).unwrap_err().reason(), Reason::InvalidResumeToken);
                }
            }
        }
        assert!(scope().position("").is_err());
        assert!(scope().position(&token.repeat(2)).is_err());
    }
}
