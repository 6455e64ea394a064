//! EXPORT.

use datafusion::sql::sqlparser::{ast, parser::Parser, tokenizer::Token};

use super::{
    errors::{self, Parsed},
    name, query, refused,
    statement::{Export, ExportFormat},
    subscribe, words,
};
use crate::error::{Error, Reason};

/// After EXPORT: `FROM { table | (query) } TO 'uri' [FORMAT format]`.
pub(super) fn export(parser: &mut Parser<'_>) -> Parsed<Export> {
    words::expect(parser, &["FROM"])?;
    if words::comes(parser, &["SELECT"]) || words::comes(parser, &["WITH"]) || words::comes(parser, &["VALUES"]) {
        return Err(refused::here(
            parser,
            "Write the query of an EXPORT in parentheses: EXPORT FROM (SELECT …) TO '…'.",
        ));
    }
    let (query, table) = if parser.consume_token(&Token::LParen) {
        let query = query::query(parser)?;
        if !parser.consume_token(&Token::RParen) {
            return words::expected(parser, ")");
        }
        (query, None)
    } else {
        let Token::Word(_) = parser.peek_token_ref().token else {
            return words::expected(parser, "the name of a table or a query in parentheses");
        };
        let written = parser.parse_object_name(false)?;
        let table = name::table_name(&written)?;
        let mut query = subscribe::all_of_a_table()?;
        if let ast::SetExpr::Select(select) = query.body.as_mut()
            && let Some(ast::TableWithJoins { relation: ast::TableFactor::Table { name, .. }, .. }) =
                select.from.first_mut()
        {
            *name = written;
        }
        (query, Some(table))
    };
    words::expect(parser, &["TO"])?;
    let token = parser.next_token();
    let uri_position = errors::start(&token);
    let Token::SingleQuotedString(uri) = token.token else {
        parser.prev_token();
        return words::expected(parser, "where to write, as a text: 'messages.parquet'");
    };
    let format = if words::accept(parser, &["FORMAT"]) { Some(format(parser)?) } else { None };
    Ok(Export { query, table, uri, uri_position, format })
}

fn format(parser: &mut Parser<'_>) -> Parsed<ExportFormat> {
    let token = parser.next_token();
    let word = match &token.token {
        Token::Word(word) => Some(word.value.to_ascii_lowercase()),
        Token::SingleQuotedString(text) => Some(text.to_ascii_lowercase()),
        _ => None,
    };
    let known = word.and_then(|word| ExportFormat::ALL.into_iter().find(|format| format.as_str() == word));
    known.ok_or_else(|| {
        let message = "The FORMAT of an EXPORT is parquet, csv or json.";
        errors::at(Error::new(Reason::InvalidStatement, message), errors::start(&token)).into()
    })
}
