//! From a parser's failure to an error that helps.

use datafusion::sql::sqlparser::{
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, TokenWithSpan, TokenizerError, Word},
};

use super::{storage, user};
use crate::error::{Error, Position, Reason};

/// Why a statement was not parsed.
pub(super) enum Failure {
    /// It is not SQL.
    Syntax(ParserError),
    /// It is SQL that says something wrong, or something that is not supported.
    Refused(Error),
}

/// The result of a parsing function.
pub(super) type Parsed<T> = std::result::Result<T, Failure>;

impl From<ParserError> for Failure {
    fn from(error: ParserError) -> Self {
        Self::Syntax(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The error of a failure, in the words of this parser's tokens.
pub(super) fn into_error(failure: Failure, parser: Parser<'_>) -> Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::Syntax(ParserError::RecursionLimitExceeded) => Error::new(
            Reason::NestingTooDeep,
            "The statement is too deep or too ambiguous to parse: nest fewer parentheses.",
        )
        .with("limit", "limits.max_nesting_depth"),
        Failure::Syntax(ParserError::ParserError(text) | ParserError::TokenizerError(text)) => {
            let index = parser.index();
            syntax_error(&text, &parser.into_tokens(), index)
        }
    }
}

/// The error of text that cannot be cut into tokens.
pub(super) fn from_tokenizer(error: TokenizerError) -> Error {
    // The tokenizer may name the place in its text, after where it knows it.
    let (message, named) = split_location(&error.message);
    let place = named.or_else(|| position(error.location));
    let what = message.trim_end_matches('.').to_owned();
    at(Error::new(Reason::SyntaxError, format!("Syntax error{}: {what}.", place_text(place))), place)
}

/// A position, where `sqlparser` knows it.
pub(super) fn position(location: Location) -> Option<Position> {
    (location.line > 0).then_some(Position { line: location.line, column: location.column })
}

/// Where a token starts.
pub(super) fn start(token: &TokenWithSpan) -> Option<Position> {
    position(token.span.start)
}

/// The error with this position, if there is one.
pub(super) fn at(error: Error, place: Option<Position>) -> Error {
    match place {
        Some(place) => error.at(place),
        None => error,
    }
}

/// A text from the caller, short enough to show.
pub(super) fn clip(text: &str) -> String {
    const MAX_CHARACTERS: usize = 60;
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The word of `candidates` that `word` is most likely a misspelling of.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let allowed = match length {
        0..3 => return None,
        3..5 => 1,
        _ => 2,
    };
    // Words longer than any keyword are not compared: the comparison takes time with the square of the length.
    if length > 40 {
        return None;
    }
    let word = word.to_ascii_uppercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance > 0 && *distance <= allowed && candidate.len() > 2)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len().abs_diff(length)))
        .map(|(_, candidate)| candidate)
}

fn syntax_error(text: &str, tokens: &[TokenWithSpan], index: usize) -> Error {
    let (body, location) = split_location(text);
    let expected = body.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: "));
    let token = match location {
        Some(place) => tokens.iter().position(|token| start(token) == Some(place)),
        // What `sqlparser` found at the end has no place.
        None if expected.is_some() => None,
        None => Some(index),
    };
    let found = token.and_then(|token| tokens.get(token));
    let place = location.or_else(|| found.and_then(start)).or_else(|| end(tokens));
    let secret = token.is_some_and(|token| storage::may_be_secret(tokens, token) || user::may_be_secret(tokens, token));
    let found_text = match found {
        Some(_) if secret => "a value that is not shown, since it may be a secret".to_owned(),
        Some(token) => clip(&token.token.to_string()),
        None => "the end of the statement".to_owned(),
    };
    let what = match expected {
        Some((expected, _)) => format!("expected {}, found {found_text}", clip_expected(expected)),
        None if secret => "a value is not what is expected here".to_owned(),
        None => clip(body).trim_end_matches('.').to_owned(),
    };
    let suggestion = expected.and_then(|(expected, _)| suggest(expected, tokens, token));
    let mut message = format!("Syntax error{}: {what}.", place_text(place));
    if let Some(keyword) = &suggestion {
        message.push_str(&format!(" Did you mean {keyword}?"));
    }
    let mut error = Error::new(Reason::SyntaxError, message).with("token", found_text);
    if let Some(keyword) = suggestion {
        error = error.with("suggestion", keyword);
    }
    at(error, place)
}

/// The keyword that the token found, or the one before it, was meant to be: after `SELECT a FORM t` the parser finds
/// `t`, having taken FORM for an alias.
fn suggest(expected: &str, tokens: &[TokenWithSpan], token: Option<usize>) -> Option<String> {
    let token = token.unwrap_or(tokens.len());
    let word = |index: usize| match &tokens.get(index)?.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word),
        _ => None,
    };
    let found = word(token);
    let before = token.checked_sub(1).and_then(word);
    // A word that is a keyword somewhere is misspelt only where another one was expected.
    let misspelt = |word: &&Word| word.keyword == Keyword::NoKeyword;
    let wanted = || {
        expected
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
    };
    let meant = |word: &Word| nearest(&word.value, wanted()).map(str::to_owned);
    let known = |word: &Word| nearest(&word.value, KEYWORDS.iter().copied()).map(str::to_owned);
    found
        .and_then(meant)
        .or_else(|| before.and_then(meant))
        .or_else(|| found.filter(misspelt).and_then(known))
        .or_else(|| before.filter(misspelt).and_then(known))
}

/// `sqlparser` writes the place at the end of a message: ` at Line: 1, Column: 8`.
fn split_location(text: &str) -> (&str, Option<Position>) {
    let split = || {
        let (body, place) = text.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        let place = Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
        Some((body, Some(place)))
    };
    split().unwrap_or((text, None))
}

fn end(tokens: &[TokenWithSpan]) -> Option<Position> {
    tokens.last().and_then(|token| position(token.span.end))
}

fn place_text(place: Option<Position>) -> String {
    place.map(|place| format!(" at line {}, column {}", place.line, place.column)).unwrap_or_default()
}

/// `sqlparser` words some of its expectations for its own developers.
fn clip_expected(expected: &str) -> &str {
    match expected {
        "end of statement" => "the end of the statement",
        "identifier" => "a name",
        "an SQL statement" => "a statement",
        other => other,
    }
}

/// The keywords that a misspelt one is compared with.
const KEYWORDS: &[&str] = &[
    "ACCESS",
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "API",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "COLUMN",
    "COMPACT",
    "CONFLICT",
    "CREATE",
    "CREDENTIALS",
    "CROSS",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISABLE",
    "DISTINCT",
    "DO",
    "DROP",
    "ELSE",
    "ENABLE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPIRES",
    "EXPLAIN",
    "FLUSH",
    "FORCE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "METADATA",
    "NAMESPACE",
    "NAMESPACES",
    "NOT",
    "NOTHING",
    "NULL",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PASSWORD",
    "PERMISSIONS",
    "POLICY",
    "PRIMARY",
    "QUALIFY",
    "REFERENCE",
    "RENAME",
    "RETURNING",
    "REVOKE",
    "RIGHT",
    "ROLE",
    "ROWS",
    "SELECT",
    "SET",
    "SHARED",
    "SHOW",
    "STATS",
    "STORAGE",
    "STORAGES",
    "STREAM",
    "SUBSCRIBE",
    "TABLE",
    "TABLES",
    "THEN",
    "TO",
    "TTL",
    "TYPE",
    "UNION",
    "UPDATE",
    "URI",
    "USER",
    "USERS",
    "USING",
    "VALUES",
    "VERBOSE",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];
