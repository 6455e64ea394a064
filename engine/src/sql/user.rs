//! CREATE, ALTER and DROP USER, CREATE and REVOKE API KEY.

use datafusion::sql::sqlparser::{
    parser::Parser,
    tokenizer::{Token, TokenWithSpan},
};

use super::{
    duration,
    errors::{self, Parsed},
    name, refused,
    statement::Name,
    user_statement::{AlterUser, CreateApiKey, CreateUser, DropUser, Expiry, Password, RevokeApiKey, UserProperties},
    words,
};
use crate::{
    access::Role,
    error::{Error, Position, Reason},
};

const NAME: &str = "the name of a user";

/// After CREATE USER.
pub(super) fn create(parser: &mut Parser<'_>) -> Parsed<CreateUser> {
    let if_not_exists = words::accept(parser, &["IF", "NOT", "EXISTS"]);
    let name = user_name(parser)?;
    words::accept(parser, &["WITH"]);
    let mut clauses = Clauses::default();
    while parser.peek_token_ref().token != Token::EOF {
        if !clauses.accept(parser, true)? {
            return words::expected(
                parser,
                "ROLE, PASSWORD, PERMISSIONS, METADATA, ID, DISABLE or the end of the statement",
            );
        }
        let _ = parser.consume_token(&Token::Comma);
    }
    let Clauses { user_id, properties } = clauses;
    Ok(CreateUser { name, user_id, properties, if_not_exists })
}

/// After ALTER USER.
pub(super) fn alter(parser: &mut Parser<'_>) -> Parsed<AlterUser> {
    let name = user_name(parser)?;
    if words::accept(parser, &["RENAME", "TO"]) {
        let rename_to = Some(user_name(parser)?);
        return Ok(AlterUser { name, rename_to, properties: UserProperties::default() });
    }
    let _ = words::accept(parser, &["SET"]) || words::accept(parser, &["WITH"]);
    if words::comes(parser, &["ID"]) {
        return Err(refused::here(parser, "The id of a user cannot be changed: its rows are stored under it."));
    }
    let mut clauses = Clauses::default();
    let mut more = true;
    while more {
        if !clauses.accept(parser, false)? {
            return words::expected(parser, "ROLE, PASSWORD, PERMISSIONS, METADATA, ENABLE, DISABLE or RENAME TO");
        }
        let comma = parser.consume_token(&Token::Comma);
        words::accept(parser, &["SET"]);
        more = comma || parser.peek_token_ref().token != Token::EOF;
    }
    Ok(AlterUser { name, rename_to: None, properties: clauses.properties })
}

/// After DROP USER.
pub(super) fn drop(parser: &mut Parser<'_>) -> Parsed<DropUser> {
    let if_exists = words::accept(parser, &["IF", "EXISTS"]);
    let name = user_name(parser)?;
    if parser.peek_token_ref().token == Token::Comma {
        return Err(refused::here(parser, "DROP USER drops one user. Send a statement for each."));
    }
    let cascade = words::accept(parser, &["CASCADE"]);
    if !cascade {
        words::accept(parser, &["RESTRICT"]);
    }
    Ok(DropUser { name, if_exists, cascade })
}

/// After CREATE API KEY.
pub(super) fn create_api_key(parser: &mut Parser<'_>) -> Parsed<CreateApiKey> {
    words::expect(parser, &["FOR"])?;
    words::accept(parser, &["USER"]);
    let user = user_name(parser)?;
    words::accept(parser, &["WITH"]);
    let (mut name, mut expires) = (None, None);
    while parser.peek_token_ref().token != Token::EOF {
        let at = errors::start(parser.peek_token_ref());
        let twice = if words::accept(parser, &["NAME"]) {
            name.replace(string(parser, "a name in '…'")?).is_some()
        } else if words::accept(parser, &["EXPIRES"]) {
            expires.replace(expiry(parser)?).is_some()
        } else {
            return words::expected(parser, "NAME, EXPIRES or the end of the statement");
        };
        if twice {
            return Err(invalid(at, "A clause is given twice.").into());
        }
        let _ = parser.consume_token(&Token::Comma);
    }
    Ok(CreateApiKey { user, name, expires })
}

/// After REVOKE API KEY. Whoever gives the whole key means its id.
pub(super) fn revoke_api_key(parser: &mut Parser<'_>) -> Parsed<RevokeApiKey> {
    words::accept(parser, &["IF", "EXISTS"]);
    let text = string(parser, "the id of an API key in '…'")?;
    let key_id = match text.strip_prefix("kdb_") {
        Some(rest) => rest.split_once('_').map_or(rest, |(id, _)| id).to_owned(),
        None => text,
    };
    Ok(RevokeApiKey { key_id })
}

/// After SHOW API KEYS: whose, if that is said.
pub(super) fn shown_keys_of(parser: &mut Parser<'_>) -> Parsed<Option<Name>> {
    if !words::accept(parser, &["FOR"]) && !words::accept(parser, &["OF"]) {
        return Ok(None);
    }
    words::accept(parser, &["USER"]);
    user_name(parser).map(Some)
}

/// Where the secrets of a statement begin: everything behind PASSWORD in CREATE and ALTER USER, and what REVOKE API KEY is
/// given, which may be the whole key. Nothing from there on may be shown or kept.
pub(super) fn first_secret(tokens: &[TokenWithSpan]) -> Option<usize> {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| words::is_word(&token.token, word));
    if is(0, "REVOKE") && is(1, "API") && is(2, "KEY") {
        return Some(3);
    }
    if !concerns_user(tokens) {
        return None;
    }
    let password = tokens.iter().position(|token| words::is_word(&token.token, "PASSWORD"))?;
    Some(password + 1)
}

/// Whether the token at `index` may be, or be part of, a secret. In CREATE and ALTER USER a string that stands where none
/// is expected may be one too, and passwords are also given to `system.users`.
pub(super) fn may_be_secret(tokens: &[TokenWithSpan], index: usize) -> bool {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| words::is_word(&token.token, word));
    if first_secret(tokens).is_some_and(|first| index >= first) {
        return true;
    }
    if is(0, "INSERT") || is(0, "UPDATE") {
        let before = tokens.get(..index).unwrap_or(tokens);
        let named = |word: &str| before.iter().any(|token| is_name(&token.token, word));
        return named("users") && named("password");
    }
    let plain = tokens.get(index).is_none_or(|token| match &token.token {
        Token::Word(word) => word.quote_style.is_none(),
        Token::EOF | Token::Comma | Token::Eq | Token::Period | Token::LParen | Token::RParen => true,
        _ => false,
    });
    concerns_user(tokens) && !plain
}

fn concerns_user(tokens: &[TokenWithSpan]) -> bool {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| words::is_word(&token.token, word));
    (is(0, "CREATE") || is(0, "ALTER")) && is(1, "USER") && !is(2, "TABLE")
}

/// Whether a token is this name, quoted or not.
fn is_name(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case(name))
}

#[derive(Default)]
struct Clauses {
    user_id: Option<String>,
    properties: UserProperties,
}

impl Clauses {
    /// Takes one clause if one comes next.
    fn accept(&mut self, parser: &mut Parser<'_>, with_id: bool) -> Parsed<bool> {
        let at = errors::start(parser.peek_token_ref());
        let properties = &mut self.properties;
        let (word, twice) = if words::accept(parser, &["ROLE"]) {
            ("ROLE", properties.role.replace(role(parser)?).is_some())
        } else if words::accept(parser, &["PASSWORD"]) {
            let password = nullable(parser, "a password in '…', or NULL")?.map(Password::new);
            ("PASSWORD", properties.password.replace(password).is_some())
        } else if words::accept(parser, &["PERMISSIONS"]) {
            ("PERMISSIONS", properties.permissions.replace(strings(parser)?).is_some())
        } else if words::accept(parser, &["METADATA"]) {
            let metadata = nullable(parser, "JSON in '…', or NULL")?;
            ("METADATA", properties.metadata.replace(metadata).is_some())
        } else if words::accept(parser, &["ENABLE"]) || words::accept(parser, &["ENABLED"]) {
            ("ENABLE", properties.disabled.replace(false).is_some())
        } else if words::accept(parser, &["DISABLE"]) || words::accept(parser, &["DISABLED"]) {
            ("DISABLE", properties.disabled.replace(true).is_some())
        } else if with_id && words::accept(parser, &["ID"]) {
            ("ID", self.user_id.replace(string(parser, "an id in '…'")?).is_some())
        } else {
            return Ok(false);
        };
        if twice {
            return Err(invalid(at, format!("{word} is said twice.")).into());
        }
        Ok(true)
    }
}

/// A name, or the same as a string, which is not folded: usernames may be addresses.
fn user_name(parser: &mut Parser<'_>) -> Parsed<Name> {
    let position = errors::start(parser.peek_token_ref());
    match &parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => Ok(Name { text: string(parser, NAME)?, position }),
        _ => name::name(parser, NAME),
    }
}

fn role(parser: &mut Parser<'_>) -> Parsed<Role> {
    let text = match &parser.peek_token_ref().token {
        Token::Word(word) => word.value.to_ascii_lowercase(),
        Token::SingleQuotedString(text) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    let Ok(role) = text.parse() else { return words::expected(parser, "USER, SERVICE, DBA or SYSTEM") };
    parser.advance_token();
    Ok(role)
}

/// `'2030-01-01…'` or `IN '30 days'`.
fn expiry(parser: &mut Parser<'_>) -> Parsed<Expiry> {
    if words::accept(parser, &["IN"]) {
        return duration::duration_us(parser, "EXPIRES IN").map(Expiry::In);
    }
    words::accept(parser, &["AT"]);
    let at = errors::start(parser.peek_token_ref());
    let text = string(parser, "a time such as '2030-01-01T00:00:00Z', or IN '30 days'")?;
    match crate::values::timestamp_us(&text) {
        Some(at_us) => Ok(Expiry::At(at_us)),
        None => {
            let message = format!(
                "EXPIRES '{}' is not a time. Write one such as '2030-01-01T00:00:00Z', or IN '30 days'.",
                errors::clip(&text)
            );
            Err(invalid(at, message).into())
        }
    }
}

/// Strings in parentheses or as an array; NULL is none.
fn strings(parser: &mut Parser<'_>) -> Parsed<Vec<String>> {
    const WHAT: &str = "rules in parentheses, such as ('ns.table.owner = CURRENT_USER()')";
    if words::accept(parser, &["NULL"]) {
        return Ok(Vec::new());
    }
    let end = if words::accept(parser, &["ARRAY"]) || parser.peek_token_ref().token == Token::LBracket {
        if !parser.consume_token(&Token::LBracket) {
            return words::expected(parser, "[");
        }
        Token::RBracket
    } else if parser.consume_token(&Token::LParen) {
        Token::RParen
    } else {
        return words::expected(parser, WHAT);
    };
    let mut texts = Vec::new();
    if parser.consume_token(&end) {
        return Ok(texts);
    }
    loop {
        texts.push(string(parser, "a rule in '…'")?);
        if parser.consume_token(&end) {
            return Ok(texts);
        }
        if !parser.consume_token(&Token::Comma) {
            return words::expected(parser, "a comma, or the end of the rules");
        }
    }
}

fn nullable(parser: &mut Parser<'_>, what: &str) -> Parsed<Option<String>> {
    if words::accept(parser, &["NULL"]) { Ok(None) } else { string(parser, what).map(Some) }
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
