//! Names: identifiers as SQL folds them, and tables with their qualifiers.

use datafusion::sql::sqlparser::{ast, parser::Parser, tokenizer::Token};

use super::{
    errors::{self, Parsed},
    statement::{Name, TableName, TableScope},
    words,
};
use crate::error::{Error, Reason, Result};

/// The table that a name in a query means: `t`, `ns.t`, `ns.user.t` or `ns.all_users.t`.
///
/// # Errors
/// `INVALID_NAME` for any other form.
pub fn table_name(name: &ast::ObjectName) -> Result<TableName> {
    let mut parts = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        let identifier = part.as_ident().filter(|identifier| identifier.quote_style != Some('\''));
        let Some(identifier) = identifier else {
            return Err(invalid(name, "A table is named by identifiers, not by a string or a function."));
        };
        parts.push(fold_identifier(identifier));
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(table), None, None, None) => Ok(TableName { namespace: None, scope: TableScope::Caller, table }),
        (Some(namespace), Some(table), None, None) => {
            Ok(TableName { namespace: Some(namespace), scope: TableScope::Caller, table })
        }
        (Some(namespace), Some(scope), Some(table), None) => {
            let scope = match scope.text.as_str() {
                "user" => TableScope::ActingUser,
                "all_users" => TableScope::AllUsers,
                _ => return Err(invalid(name, FORMS)),
            };
            Ok(TableName { namespace: Some(namespace), scope, table })
        }
        _ => Err(invalid(name, FORMS)),
    }
}

/// An identifier as SQL resolves it: an unquoted one in lower case.
pub fn fold_identifier(identifier: &ast::Ident) -> Name {
    let text = match identifier.quote_style {
        None => identifier.value.to_ascii_lowercase(),
        Some(_) => identifier.value.clone(),
    };
    Name { text, position: errors::position(identifier.span.start) }
}

/// Reads a name.
pub(super) fn name(parser: &mut Parser<'_>, what: &str) -> Parsed<Name> {
    match &parser.peek_token_ref().token {
        Token::Word(_) => Ok(fold_identifier(&parser.parse_identifier()?)),
        _ => words::expected(parser, what),
    }
}

/// Reads names in parentheses, separated by commas; at least one.
pub(super) fn names_in_parentheses(parser: &mut Parser<'_>, what: &str) -> Parsed<Vec<Name>> {
    if !parser.consume_token(&Token::LParen) {
        return words::expected(parser, "(");
    }
    let mut names = vec![name(parser, what)?];
    while parser.consume_token(&Token::Comma) {
        names.push(name(parser, what)?);
    }
    if !parser.consume_token(&Token::RParen) {
        return words::expected(parser, "a comma or )");
    }
    Ok(names)
}

/// Reads the name of a table as a whole, not of some users' part of it.
pub(super) fn whole_table(parser: &mut Parser<'_>) -> Parsed<TableName> {
    if !matches!(parser.peek_token_ref().token, Token::Word(_)) {
        return words::expected(parser, "the name of a table");
    }
    let written = parser.parse_object_name(false)?;
    let table = table_name(&written)?;
    if table.scope != TableScope::Caller {
        let message = "This statement concerns the table of all users: name it as namespace.table.";
        return Err(invalid(&written, message).into());
    }
    Ok(table)
}

const FORMS: &str = "Write table, namespace.table, namespace.user.table or namespace.all_users.table.";

fn invalid(name: &ast::ObjectName, remedy: &str) -> Error {
    let written = errors::clip(&name.to_string());
    let error = Error::new(Reason::InvalidName, format!("{written} is not the name of a table. {remedy}"));
    let start = name.0.first().and_then(ast::ObjectNamePart::as_ident).map(|identifier| identifier.span.start);
    errors::at(error, start.and_then(errors::position))
}
