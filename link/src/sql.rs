//! SQL text as tokens and statements, without understanding it: what an editor, a script runner and the retries need.
//!
//! The lexical rules are those of the server: `'…'` with `''` inside, `E'…'` with backslashes, `"…"`, `$tag$…$tag$`,
//! `--` to the end of the line, `/* … */` nested.

mod lexer;

pub use lexer::{Lexer, Token, TokenKind};

/// What a statement may begin with that only reads.
const READING: [&str; 6] = ["SELECT", "SHOW", "DESCRIBE", "DESC", "VALUES", "WITH"];

/// What makes a statement write although it begins like one that reads.
const WRITING: [&str; 8] = ["INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "CREATE", "DROP", "ALTER"];

/// The tokens of a text, which together are the text.
///
/// ```
/// use kalam_link::sql::{TokenKind, tokens};
///
/// let kinds: Vec<_> = tokens("SELECT 'a;b'; -- done").map(|token| token.kind).collect();
/// use TokenKind::*;
/// assert_eq!(kinds, [Word, Space, Text, Semicolon, Space, Comment]);
/// ```
pub fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let mut lexer = Lexer::new();
    let mut position = 0;
    std::iter::from_fn(move || {
        let token = lexer.next(sql, position)?;
        position = token.end();
        Some(token)
    })
}

/// The statements of a text: the pieces between semicolons that hold more than space and comments, trimmed, without
/// their semicolon.
///
/// ```
/// assert_eq!(kalam_link::sql::split("SELECT ';' ; ; -- end\nSELECT 2"), ["SELECT ';'", "-- end\nSELECT 2"]);
/// ```
pub fn split(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut start, mut meaningful) = (0, false);
    for token in tokens(sql) {
        match token.kind {
            TokenKind::Semicolon => {
                if meaningful {
                    statements.extend(sql.get(start..token.start).map(str::trim));
                }
                (start, meaningful) = (token.end(), false);
            }
            TokenKind::Space | TokenKind::Comment => {}
            _ => meaningful = true,
        }
    }
    if meaningful {
        statements.extend(sql.get(start..).map(str::trim));
    }
    statements
}

/// Whether every statement of the text certainly only reads, judged by its words: a false answer is no claim.
///
/// ```
/// use kalam_link::sql::is_read_only;
///
/// assert!(is_read_only("SELECT 'INSERT'; SHOW TABLES"));
/// assert!(!is_read_only("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"));
/// ```
pub fn is_read_only(sql: &str) -> bool {
    let mut at_start = true;
    for token in tokens(sql) {
        match token.kind {
            TokenKind::Semicolon => at_start = true,
            TokenKind::Space | TokenKind::Comment => {}
            TokenKind::Word if at_start => {
                if !is_one_of(token.text, &READING) {
                    return false;
                }
                at_start = false;
            }
            TokenKind::Word if is_one_of(token.text, &WRITING) => return false,
            // A statement in parentheses is not judged.
            _ if at_start => return false,
            _ => {}
        }
    }
    true
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|candidate| candidate.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
