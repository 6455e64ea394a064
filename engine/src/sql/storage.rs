//! CREATE, ALTER and DROP STORAGE, and the clauses of CREATE TABLE that name a storage.

use datafusion::sql::sqlparser::{
    parser::Parser,
    tokenizer::{Token, TokenWithSpan},
};

use super::{
    errors::{self, Parsed},
    name, refused,
    statement::{AlterStorage, CreateStorage, DropStorage, Name, Place, StorageKind},
    words,
};
use crate::error::{Error, Position, Reason};

/// After CREATE STORAGE.
pub(super) fn create(parser: &mut Parser<'_>) -> Parsed<CreateStorage> {
    let if_not_exists = words::accept(parser, &["IF", "NOT", "EXISTS"]);
    let name = name::name(parser, NAME)?;
    let mut properties = Properties::default();
    while parser.peek_token_ref().token != Token::EOF {
        if !properties.accept(parser, true)? {
            return words::expected(parser, "TYPE, URI, CREDENTIALS or the end of the statement");
        }
    }
    let Properties { kind: Some(kind), uri: Some(uri), credentials } = properties else {
        let message = "A storage has a TYPE and a URI, such as: CREATE STORAGE s TYPE S3 URI 's3://bucket/folder'";
        return Err(invalid(name.position, message).into());
    };
    Ok(CreateStorage { name, kind, uri, credentials, if_not_exists })
}

/// After ALTER STORAGE.
pub(super) fn alter(parser: &mut Parser<'_>) -> Parsed<AlterStorage> {
    let name = name::name(parser, NAME)?;
    if words::comes(parser, &["RENAME"]) {
        return Err(refused::here(parser, "A storage cannot be renamed."));
    }
    words::expect(parser, &["SET"])?;
    if words::comes(parser, &["TYPE"]) {
        return Err(refused::here(parser, "The TYPE of a storage cannot be changed. CREATE another storage."));
    }
    let mut properties = Properties::default();
    let mut more = true;
    while more {
        if !properties.accept(parser, false)? {
            return words::expected(parser, "URI or CREDENTIALS");
        }
        let comma = parser.consume_token(&Token::Comma);
        more = comma || words::comes(parser, &["URI"]) || words::comes(parser, &["CREDENTIALS"]);
    }
    Ok(AlterStorage { name, uri: properties.uri, credentials: properties.credentials })
}

/// After DROP STORAGE.
pub(super) fn drop(parser: &mut Parser<'_>) -> Parsed<DropStorage> {
    let if_exists = words::accept(parser, &["IF", "EXISTS"]);
    let name = name::name(parser, NAME)?;
    if words::comes(parser, &["CASCADE"]) || words::comes(parser, &["RESTRICT"]) {
        let message = "DROP STORAGE takes no CASCADE or RESTRICT: it drops a storage that no table uses.";
        return Err(refused::here(parser, message));
    }
    Ok(DropStorage { name, if_exists })
}

/// `STORAGE name`, `LOCATION REFERENCE 'name'` or `LOCATION 'uri template'`, if one of them comes next.
pub(super) fn place(parser: &mut Parser<'_>) -> Parsed<Option<Place>> {
    if words::accept(parser, &["STORAGE"]) {
        return Ok(Some(Place::Storage(storage_name(parser)?)));
    }
    if !words::accept(parser, &["LOCATION"]) {
        return Ok(None);
    }
    if words::accept(parser, &["REFERENCE"]) {
        return Ok(Some(Place::Storage(storage_name(parser)?)));
    }
    let position = errors::start(parser.peek_token_ref());
    let template = string(parser, "REFERENCE or a template such as '{storageLocation}/{namespace}/{tableName}'")?;
    Ok(Some(Place::Location { template, position }))
}

/// Where the secrets of a statement begin: everything behind CREDENTIALS in CREATE and ALTER STORAGE. Nothing from there
/// on may be shown or kept.
pub(super) fn first_secret(tokens: &[TokenWithSpan]) -> Option<usize> {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| words::is_word(&token.token, word));
    if !(is(0, "CREATE") || is(0, "ALTER")) || !is(1, "STORAGE") {
        return None;
    }
    let credentials = tokens.iter().position(|token| words::is_word(&token.token, "CREDENTIALS"))?;
    Some(credentials + 1)
}

/// Whether the token at `index` may be, or be part of, a secret. In CREATE and ALTER STORAGE a string that stands where
/// none is expected may be one too, and credentials are also columns of `system.storages`.
pub(super) fn may_be_secret(tokens: &[TokenWithSpan], index: usize) -> bool {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| words::is_word(&token.token, word));
    if first_secret(tokens).is_some_and(|first| index >= first) {
        return true;
    }
    if is(0, "INSERT") || is(0, "UPDATE") {
        let before = tokens.get(..index).unwrap_or(tokens);
        let named = |word: &str| before.iter().any(|token| words::is_word(&token.token, word));
        return named("STORAGES") && named("CREDENTIALS");
    }
    let plain = tokens.get(index).is_none_or(|token| match &token.token {
        Token::Word(word) => word.quote_style.is_none(),
        Token::EOF | Token::Comma | Token::Eq | Token::Period | Token::LParen | Token::RParen => true,
        _ => false,
    });
    (is(0, "CREATE") || is(0, "ALTER")) && is(1, "STORAGE") && !plain
}

const NAME: &str = "the name of a storage";

#[derive(Default)]
struct Properties {
    kind: Option<StorageKind>,
    uri: Option<String>,
    credentials: Option<String>,
}

impl Properties {
    /// Takes one property if one comes next.
    fn accept(&mut self, parser: &mut Parser<'_>, with_kind: bool) -> Parsed<bool> {
        let at = errors::start(parser.peek_token_ref());
        let (word, twice) = if with_kind && words::accept(parser, &["TYPE"]) {
            ("TYPE", self.kind.replace(kind(parser)?).is_some())
        } else if words::accept(parser, &["URI"]) {
            ("URI", self.uri.replace(string(parser, "a URI in '…'")?).is_some())
        } else if words::accept(parser, &["CREDENTIALS"]) {
            ("CREDENTIALS", self.credentials.replace(string(parser, "a JSON object in '…'")?).is_some())
        } else {
            return Ok(false);
        };
        if twice {
            return Err(invalid(at, format!("{word} is given twice.")).into());
        }
        Ok(true)
    }
}

fn kind(parser: &mut Parser<'_>) -> Parsed<StorageKind> {
    let text = match &parser.peek_token_ref().token {
        Token::Word(word) => word.value.to_ascii_uppercase(),
        Token::SingleQuotedString(text) => text.to_ascii_uppercase(),
        _ => String::new(),
    };
    let Some(kind) = StorageKind::ALL.into_iter().find(|kind| kind.as_str() == text) else {
        return words::expected(parser, "FILESYSTEM, S3, GCS or AZURE");
    };
    parser.advance_token();
    Ok(kind)
}

/// A name, or the same as a string, which is not folded.
fn storage_name(parser: &mut Parser<'_>) -> Parsed<Name> {
    let position = errors::start(parser.peek_token_ref());
    match &parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => Ok(Name { text: string(parser, NAME)?, position }),
        _ => name::name(parser, NAME),
    }
}

fn string(parser: &mut Parser<'_>, what: &str) -> Parsed<String> {
    let Token::SingleQuotedString(text) = &parser.peek_token_ref().token else {
        return words::expected(parser, what);
    };
    let text = text.clone();
    parser.advance_token();
    Ok(text)
}

fn invalid(at: Option<Position>, message: impl Into<String>) -> Error {
    errors::at(Error::new(Reason::InvalidStatement, message), at)
}
