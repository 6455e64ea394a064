//! CREATE, ALTER and DROP NAMESPACE.

use datafusion::sql::sqlparser::{parser::Parser, tokenizer::Token};

use super::{
    errors::{self, Parsed},
    name, refused,
    statement::{AlterNamespace, CreateNamespace, DropNamespace},
    words,
};
use crate::error::{Error, Reason};

/// After CREATE NAMESPACE.
pub(super) fn create(parser: &mut Parser<'_>) -> Parsed<CreateNamespace> {
    let if_not_exists = words::accept(parser, &["IF", "NOT", "EXISTS"]);
    let name = name::name(parser, "the name of a namespace")?;
    let options = if words::accept(parser, &["WITH"]) {
        words::expect(parser, &["OPTIONS"])?;
        options(parser)?
    } else if parser.peek_token_ref().token == Token::EOF {
        Vec::new()
    } else {
        return words::expected(parser, "WITH OPTIONS or the end of the statement");
    };
    Ok(CreateNamespace { name, if_not_exists, options })
}

/// After ALTER NAMESPACE.
pub(super) fn alter(parser: &mut Parser<'_>) -> Parsed<AlterNamespace> {
    let name = name::name(parser, "the name of a namespace")?;
    if words::comes(parser, &["RENAME"]) {
        return Err(refused::here(parser, "A namespace cannot be renamed."));
    }
    words::expect(parser, &["SET", "OPTIONS"])?;
    Ok(AlterNamespace { name, options: options(parser)? })
}

/// After DROP NAMESPACE.
pub(super) fn drop(parser: &mut Parser<'_>) -> Parsed<DropNamespace> {
    let if_exists = words::accept(parser, &["IF", "EXISTS"]);
    let name = name::name(parser, "the name of a namespace")?;
    if words::comes(parser, &["CASCADE"]) || words::comes(parser, &["RESTRICT"]) {
        let message = "DROP NAMESPACE drops an empty namespace only and takes no CASCADE or RESTRICT: DROP its tables \
                       first.";
        return Err(refused::here(parser, message));
    }
    Ok(DropNamespace { name, if_exists })
}

/// `(key = value, …)`.
fn options(parser: &mut Parser<'_>) -> Parsed<Vec<(String, String)>> {
    if !parser.consume_token(&Token::LParen) {
        return words::expected(parser, "( and options");
    }
    let mut options: Vec<(String, String)> = Vec::new();
    loop {
        let at = errors::start(parser.peek_token_ref());
        let key = match &parser.peek_token_ref().token {
            Token::SingleQuotedString(key) => {
                let key = key.clone();
                parser.advance_token();
                key
            }
            _ => name::name(parser, "the name of an option")?.text,
        };
        if !parser.consume_token(&Token::Eq) {
            return words::expected(parser, "=");
        }
        let value = option_value(parser)?;
        if options.iter().any(|(known, _)| *known == key) {
            let key = errors::clip(&key);
            let error = Error::new(Reason::InvalidStatement, format!("The option {key} is given twice."));
            return Err(errors::at(error, at).into());
        }
        options.push((key, value));
        if parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        if !parser.consume_token(&Token::Comma) {
            return words::expected(parser, "a comma or )");
        }
    }
}

fn option_value(parser: &mut Parser<'_>) -> Parsed<String> {
    let negative = parser.consume_token(&Token::Minus);
    let token = parser.peek_token_ref();
    let value = match &token.token {
        Token::Number(number, false) if negative => format!("-{number}"),
        Token::Number(number, false) => number.clone(),
        Token::SingleQuotedString(text) if !negative => text.clone(),
        word if !negative && words::is_word(word, "TRUE") => "true".to_owned(),
        word if !negative && words::is_word(word, "FALSE") => "false".to_owned(),
        _ => return words::expected(parser, "a string in '…', a number, TRUE or FALSE"),
    };
    parser.advance_token();
    Ok(value)
}
