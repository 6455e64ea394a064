//! Live queries: SUBSCRIBE and KILL LIVE QUERY.

use datafusion::sql::sqlparser::{
    ast,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use super::{
    dialect::KalamDialect,
    errors::{self, Parsed},
    query, refused,
    statement::{KillLiveQuery, Subscribe},
    words,
};
use crate::{
    error::{Error, Reason},
    live::LiveQueryId,
};

/// After SUBSCRIBE: `TO table [WHERE …]` or `SELECT …`.
pub(super) fn subscribe(parser: &mut Parser<'_>) -> Parsed<Subscribe> {
    if words::comes(parser, &["SELECT"]) {
        return Ok(Subscribe { query: query::query(parser)? });
    }
    if !words::accept(parser, &["TO"]) {
        return words::expected(parser, "TO table or SELECT columns FROM table");
    }
    if words::comes(parser, &["SELECT"]) || parser.peek_token_ref().token == Token::LParen {
        return Err(refused::here(parser, "SUBSCRIBE TO takes a table. Write SUBSCRIBE SELECT … without TO."));
    }
    let mut query = all_of_a_table()?;
    let relation = parser.parse_table_factor()?;
    let selection = if words::accept(parser, &["WHERE"]) { Some(parser.parse_expr()?) } else { None };
    if let ast::SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = relation;
        select.selection = selection;
    }
    query::check(&query)?;
    Ok(Subscribe { query })
}

/// After KILL: `LIVE QUERY id`, the id as a number or a text.
pub(super) fn kill(parser: &mut Parser<'_>) -> Parsed<KillLiveQuery> {
    if !words::comes(parser, &["LIVE"]) {
        return Err(refused::here(
            parser,
            "KILL ends live queries: KILL LIVE QUERY id. Cancelling a call stops its statement.",
        ));
    }
    words::expect(parser, &["LIVE", "QUERY"])?;
    let token = parser.next_token();
    let text = match &token.token {
        Token::Number(text, false) | Token::SingleQuotedString(text) => Some(text),
        _ => None,
    };
    match text.and_then(|text| text.parse().ok()) {
        Some(id) => Ok(KillLiveQuery { id: LiveQueryId(id) }),
        None => {
            let message = "The id of a live query is a number, such as system.live_queries shows it.";
            Err(errors::at(Error::new(Reason::InvalidStatement, message), errors::start(&token)).into())
        }
    }
}

/// `SELECT * FROM t`, to have its table and condition replaced.
pub(super) fn all_of_a_table() -> Parsed<Box<ast::Query>> {
    const TEXT: &str = "SELECT * FROM t";
    let dialect = KalamDialect::with_budget(TEXT.len());
    let tokens = Tokenizer::new(&dialect, TEXT).tokenize().map_err(Error::internal)?;
    Ok(Parser::new(&dialect).with_tokens(tokens).parse_query()?)
}
