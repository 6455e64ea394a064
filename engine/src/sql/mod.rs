//! KalamDB's SQL: text to typed statements.
//!
//! A thin layer over `sqlparser`: its tokenizer, expressions, types and queries, with KalamDB's own statements parsed
//! from the same token stream. What `sqlparser` accepts and KalamDB does not do is refused by name, never ignored.
//!
//! ```text
//! text -> tokens -> one statement's tokens -> guard (depth) -> dispatch (first keyword) -> Statement
//! ```

mod alter;
mod backup;
mod dialect;
mod dispatch;
mod dml;
mod duration;
mod errors;
mod export;
mod flush;
mod guard;
mod name;
mod namespace;
mod normalize;
mod query;
mod refused;
mod statement;
mod storage;
mod subscribe;
mod table;
mod types;
mod user;
mod user_statement;
mod words;

#[cfg(test)]
mod tests;

use datafusion::sql::sqlparser::{
    ast,
    parser::Parser,
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

use self::{dialect::KalamDialect, errors::Parsed};
pub use self::{
    name::{fold_identifier, table_name},
    statement::*,
    types::sql_type,
    user_statement::*,
};
use crate::error::{Error, Position, Reason, Result};

/// Bounds of what [`parse`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// Bytes of the whole text.
    pub max_statement_bytes: usize,
    /// Nested parentheses, brackets, braces and CASEs. Two limits follow from it: an expression has at most
    /// [`OPERATORS_PER_LEVEL`] times as many operators, and a query twice as many joins and set operations.
    pub max_nesting_depth: usize,
    /// Statements in one text.
    pub max_statements: usize,
}

pub use self::guard::OPERATORS_PER_LEVEL;
pub(crate) use self::types::{MAX_DECIMAL_DIGITS, MAX_TYPE_DEPTH};

/// A statement and what its text tells about it.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    /// The statement.
    pub statement: Statement,
    /// Its text without comments, with one form of white space, keywords and unquoted identifiers in lower case. Two
    /// statements with equal `normalized` mean the same, so it is a cache key; but it ends where secrets begin, and
    /// statements that have some are not to be cached.
    pub normalized: String,
    /// The highest `n` of its `$n` parameters; 0 without any.
    pub parameter_count: usize,
    /// Where it starts in the whole text. Positions in errors are in the whole text too.
    pub position: Position,
}

/// Parses the statements of a text, separated by `;`. A text of white space and comments has none.
///
/// # Errors
/// `SYNTAX_ERROR` with a position, `NOT_SUPPORTED` for what KalamDB does not do, `STATEMENT_TOO_LARGE` and
/// `NESTING_TOO_DEEP` for the limits, `INVALID_STATEMENT`, `INVALID_NAME` and `INVALID_TABLE_DEFINITION` for what a
/// statement says. Each tells the index of its statement, and none leaves statements half parsed: it is all or none.
pub fn parse(sql: &str, limits: &ParseLimits) -> Result<Vec<ParsedStatement>> {
    if sql.len() > limits.max_statement_bytes {
        return Err(Error::new(
            Reason::StatementTooLarge,
            format!(
                "The statement has {} bytes; the limit limits.max_statement_bytes is {}. Send less at once, or pass large \
                 values as parameters.",
                sql.len(),
                limits.max_statement_bytes
            ),
        )
        .with("limit", "limits.max_statement_bytes"));
    }
    let mut statements = Vec::new();
    for tokens in split(tokenize(sql)?) {
        let index = statements.len();
        if index >= limits.max_statements {
            return Err(Error::new(
                Reason::StatementTooLarge,
                format!(
                    "The text has more than {} statements, the limit limits.max_statements_per_batch. Send several requests.",
                    limits.max_statements
                ),
            )
            .with("limit", "limits.max_statements_per_batch"));
        }
        statements.push(parse_one(tokens, limits).map_err(|error| error.in_statement(index))?);
    }
    Ok(statements)
}

/// Parses one expression, such as a stored DEFAULT.
///
/// # Errors
/// As [`parse`].
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    const MAX_NESTING_DEPTH: usize = 100;
    let mut tokens = tokenize(text)?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    normalize::split_type_brackets(&mut tokens);
    guard::check(&tokens, MAX_NESTING_DEPTH)?;
    run(tokens, MAX_NESTING_DEPTH, |parser| {
        let expression = parser.parse_expr()?;
        words::expect_end(parser)?;
        query::check(&expression)?;
        Ok(expression)
    })
}

fn parse_one(mut tokens: Vec<TokenWithSpan>, limits: &ParseLimits) -> Result<ParsedStatement> {
    normalize::split_type_brackets(&mut tokens);
    guard::check(&tokens, limits.max_nesting_depth)?;
    let parameter_count = guard::parameter_count(&tokens)?;
    let first_secret = storage::first_secret(&tokens).or_else(|| user::first_secret(&tokens));
    let shown = first_secret.and_then(|first| tokens.get(..first));
    let normalized = normalize::normalize(shown.unwrap_or(&tokens));
    let position = tokens.first().and_then(errors::start).unwrap_or(Position { line: 1, column: 1 });
    let parameter_at = guard::first_parameter(&tokens);
    let statement = run(tokens, limits.max_nesting_depth, dispatch::statement)?;
    if let Some(at) = parameter_at
        && !dispatch::takes_parameters(&statement)
    {
        return Err(Error::new(
            Reason::InvalidStatement,
            "Parameters such as $1 are possible in queries, INSERT, UPDATE and DELETE only: write the value itself.",
        )
        .at(at));
    }
    Ok(ParsedStatement { statement, normalized, parameter_count, position })
}

/// Runs a parsing function on tokens that [`guard::check`] let pass.
fn run<T>(
    tokens: Vec<TokenWithSpan>,
    max_nesting_depth: usize,
    parse: impl FnOnce(&mut Parser<'_>) -> Parsed<T>,
) -> Result<T> {
    let dialect = KalamDialect::with_budget(tokens.len());
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(guard::recursion_limit(max_nesting_depth))
        .with_tokens_with_locations(tokens);
    parse(&mut parser).map_err(|failure| errors::into_error(failure, parser))
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(&KalamDialect::with_budget(0), sql).tokenize_with_location().map_err(errors::from_tokenizer)
}

/// The tokens of each statement, without white space, comments and the `;`.
fn split(tokens: Vec<TokenWithSpan>) -> impl Iterator<Item = Vec<TokenWithSpan>> {
    let mut tokens = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    std::iter::from_fn(move || {
        while tokens.next_if(|token| token.token == Token::SemiColon).is_some() {}
        tokens.peek()?;
        Some(std::iter::from_fn(|| tokens.next_if(|token| token.token != Token::SemiColon)).collect())
    })
}
