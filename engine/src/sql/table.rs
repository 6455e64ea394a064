//! CREATE TABLE, and the definition of a column.

use datafusion::sql::sqlparser::{
    ast::{self, ColumnOption},
    parser::Parser,
    tokenizer::Token,
};

use super::{
    duration,
    errors::{self, Failure, Parsed},
    flush, name, query, refused,
    statement::{Access, ColumnDefinition, CreateTable, Name, TableKind},
    storage, types, words,
};
use crate::error::{Error, Position, Reason};

/// After CREATE { USER | SHARED | STREAM } TABLE.
pub(super) fn create(parser: &mut Parser<'_>, kind: TableKind) -> Parsed<CreateTable> {
    let if_not_exists = words::accept(parser, &["IF", "NOT", "EXISTS"]);
    let table = name::whole_table(parser)?;
    if ["AS", "LIKE", "CLONE"].iter().any(|word| words::comes(parser, &[word])) {
        refuse(parser, refused::table_clause)?;
    }
    let mut create = CreateTable {
        kind,
        table,
        if_not_exists,
        columns: Vec::new(),
        primary_key: Vec::new(),
        access: None,
        ttl_us: None,
        place: None,
        flush_policy: None,
    };
    elements(parser, &mut create)?;
    clauses(parser, &mut create)?;
    if kind == TableKind::Stream && create.ttl_us.is_none() {
        return Err(invalid(
            create.table.table.position,
            "A STREAM table needs the time its rows live. Add after the columns: TTL '30 seconds'",
        ));
    }
    Ok(create)
}

/// A column's name, type and options, and whether it is the PRIMARY KEY.
pub(super) fn column(parser: &mut Parser<'_>) -> Parsed<(ColumnDefinition, bool)> {
    let name = name::name(parser, "the name of a column")?;
    if matches!(parser.peek_token_ref().token, Token::Comma | Token::RParen | Token::EOF) {
        return words::expected(parser, "the type of the column");
    }
    let at = errors::start(parser.peek_token_ref());
    let sql_type = types::sql_type(&column_type(parser)?).map_err(|error| errors::at(error, at))?;
    let mut column = ColumnDefinition { name, sql_type, not_null: false, default: None, auto_increment: false };
    let (mut nullable, mut primary_key) = (false, false);
    loop {
        let at = errors::start(parser.peek_token_ref());
        if words::accept(parser, &["NOT", "NULL"]) {
            column.not_null = true;
        } else if words::accept(parser, &["NULL"]) {
            nullable = true;
        } else if words::accept(parser, &["PRIMARY", "KEY"]) {
            primary_key = true;
        } else if words::accept(parser, &["AUTO_INCREMENT"]) || words::accept(parser, &["AUTOINCREMENT"]) {
            column.auto_increment = true;
        } else if words::comes(parser, &["DEFAULT"]) {
            if column.default.is_some() {
                return Err(invalid(at, "The column has two DEFAULTs."));
            }
            column.default = Some(default(parser)?);
        } else {
            refuse(parser, refused::column_option)?;
            break;
        }
        let problem = if nullable && column.not_null {
            "The column is both NULL and NOT NULL."
        } else if nullable && primary_key {
            "The PRIMARY KEY cannot be NULL."
        } else if column.auto_increment && column.default.is_some() {
            "AUTO_INCREMENT is a DEFAULT: the column cannot have both."
        } else {
            continue;
        };
        return Err(invalid(at, problem));
    }
    Ok((column, primary_key))
}

/// `public`, `restricted` or `private`, as a word or a string.
pub(super) fn access(parser: &mut Parser<'_>) -> Parsed<Access> {
    let text = match &parser.peek_token_ref().token {
        Token::Word(word) => word.value.to_ascii_lowercase(),
        Token::SingleQuotedString(text) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    let access = match text.as_str() {
        "public" => Access::Public,
        "restricted" => Access::Restricted,
        "private" => Access::Private,
        _ => return words::expected(parser, "PUBLIC, RESTRICTED or PRIVATE"),
    };
    parser.advance_token();
    Ok(access)
}

/// `(column, …, PRIMARY KEY (column))`.
fn elements(parser: &mut Parser<'_>, create: &mut CreateTable) -> Parsed<()> {
    if !parser.consume_token(&Token::LParen) {
        return words::expected(parser, "( and the columns");
    }
    if parser.peek_token_ref().token == Token::RParen {
        let at = errors::start(parser.peek_token_ref());
        return Err(invalid(at, "A table has at least one column: (id BIGINT PRIMARY KEY AUTO_INCREMENT, …)."));
    }
    loop {
        let at = errors::start(parser.peek_token_ref());
        if words::accept(parser, &["PRIMARY", "KEY"]) {
            let key = name::names_in_parentheses(parser, "the name of a column")?;
            set_primary_key(create, key, at)?;
        } else {
            if is_table_constraint(parser) {
                refuse(parser, refused::column_option)?;
            }
            if words::comes(parser, &["LIKE"]) {
                refuse(parser, refused::table_clause)?;
            }
            let (column, primary_key) = column(parser)?;
            if create.columns.iter().any(|known| known.name.text == column.name.text) {
                let message = format!("The column {} is defined twice.", errors::clip(&column.name.text));
                return Err(invalid(at, message));
            }
            if primary_key {
                set_primary_key(create, vec![column.name.clone()], at)?;
            }
            create.columns.push(column);
        }
        if parser.consume_token(&Token::RParen) {
            break;
        }
        if !parser.consume_token(&Token::Comma) {
            return words::expected(
                parser,
                "a comma, ) or a column's option (NOT NULL, DEFAULT, PRIMARY KEY, AUTO_INCREMENT)",
            );
        }
    }
    if create.columns.is_empty() {
        return Err(invalid(
            create.table.table.position,
            "A table has at least one column besides its PRIMARY KEY clause.",
        ));
    }
    Ok(())
}

fn clauses(parser: &mut Parser<'_>, create: &mut CreateTable) -> Parsed<()> {
    loop {
        let at = errors::start(parser.peek_token_ref());
        if words::accept(parser, &["ACCESS"]) {
            let access = access(parser)?;
            if create.kind != TableKind::Shared {
                let message = format!(
                    "ACCESS is for SHARED tables: the rows of a {} table belong to their user. Leave the clause out, or \
                     use CREATE SHARED TABLE.",
                    create.kind.as_str()
                );
                return Err(invalid(at, message));
            }
            if create.access.replace(access).is_some() {
                return Err(invalid(at, "ACCESS is given twice."));
            }
        } else if words::accept(parser, &["TTL"]) {
            let ttl_us = duration::duration_us(parser, "TTL")?;
            if create.kind != TableKind::Stream {
                let message = format!(
                    "TTL is for STREAM tables: the rows of a {} table do not expire. Leave the clause out, or use \
                     CREATE STREAM TABLE.",
                    create.kind.as_str()
                );
                return Err(invalid(at, message));
            }
            if create.ttl_us.replace(ttl_us).is_some() {
                return Err(invalid(at, "TTL is given twice."));
            }
        } else if words::comes(parser, &["STORAGE"]) || words::comes(parser, &["LOCATION"]) {
            let clause = words::word_text(parser.peek_token_ref()).unwrap_or_default();
            let place = storage::place(parser)?;
            refuse_for_streams(create.kind, &clause, at)?;
            if create.place.is_some() {
                return Err(invalid(at, "A table has one STORAGE or LOCATION."));
            }
            create.place = place;
        } else if words::accept(parser, &["FLUSH", "POLICY"]) {
            let policy = flush::policy(parser)?;
            refuse_for_streams(create.kind, "FLUSH POLICY", at)?;
            if create.flush_policy.replace(policy).is_some() {
                return Err(invalid(at, "FLUSH POLICY is given twice."));
            }
        } else if parser.peek_token_ref().token == Token::EOF {
            return Ok(());
        } else {
            refuse(parser, refused::table_clause)?;
            return words::expected(parser, "STORAGE, LOCATION, FLUSH POLICY, ACCESS, TTL or the end of the statement");
        }
    }
}

/// Fails for a clause about the cold tier on a table that has none.
fn refuse_for_streams(kind: TableKind, clause: &str, at: Option<Position>) -> Parsed<()> {
    if kind != TableKind::Stream {
        return Ok(());
    }
    let message = format!(
        "{clause} is for USER and SHARED tables: the rows of a STREAM table expire and are never flushed. Leave the \
         clause out, or use CREATE USER TABLE."
    );
    Err(invalid(at, message))
}

/// DEFAULT and its expression. `sqlparser` knows that a NOT NULL after it is the column's only when it reads the option
/// as a whole.
fn default(parser: &mut Parser<'_>) -> Parsed<ast::Expr> {
    match parser.parse_optional_column_option()? {
        Some(ColumnOption::Default(expression)) => {
            query::check(&expression)?;
            Ok(expression)
        }
        _ => words::expected(parser, "DEFAULT and a value"),
    }
}

/// A type; other than `sqlparser` it takes STRUCT(a BIGINT) for STRUCT<a BIGINT>.
fn column_type(parser: &mut Parser<'_>) -> Parsed<ast::DataType> {
    if !words::comes(parser, &["STRUCT"]) || parser.peek_nth_token_ref(1).token != Token::LParen {
        return Ok(parser.parse_data_type()?);
    }
    parser.advance_token();
    parser.advance_token();
    let mut fields = Vec::new();
    // Without fields it is refused as STRUCT alone is.
    while !(fields.is_empty() && parser.consume_token(&Token::RParen)) {
        if !matches!(parser.peek_token_ref().token, Token::Word(_)) {
            return words::expected(parser, "the name of a field");
        }
        let field_name = Some(parser.parse_identifier()?);
        let field_type = column_type(parser)?;
        fields.push(ast::StructField { field_name, field_type, options: None });
        if parser.consume_token(&Token::RParen) {
            break;
        }
        if !parser.consume_token(&Token::Comma) {
            return words::expected(parser, "a comma or )");
        }
    }
    let mut data_type = ast::DataType::Struct(fields, ast::StructBracketKind::Parentheses);
    while parser.consume_token(&Token::LBracket) {
        if !parser.consume_token(&Token::RBracket) {
            return words::expected(parser, "]");
        }
        data_type = ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(data_type), None));
    }
    Ok(data_type)
}

fn set_primary_key(create: &mut CreateTable, key: Vec<Name>, at: Option<Position>) -> Parsed<()> {
    if create.primary_key.is_empty() {
        create.primary_key = key;
        Ok(())
    } else {
        Err(invalid(at, "The table has two PRIMARY KEYs: it has exactly one, of one column."))
    }
}

/// Whether a constraint on the table comes next, rather than a column of that name.
fn is_table_constraint(parser: &Parser<'_>) -> bool {
    let opens = parser.peek_nth_token_ref(1).token == Token::LParen;
    words::comes(parser, &["CONSTRAINT"])
        || words::comes(parser, &["FOREIGN", "KEY"])
        || (opens && ["UNIQUE", "CHECK"].iter().any(|word| words::comes(parser, &[word])))
        || words::comes(parser, &["EXCLUDE", "USING"])
}

/// Fails if the next word is one of those refused.
fn refuse(parser: &Parser<'_>, message_of: fn(&str) -> Option<&'static str>) -> Parsed<()> {
    match words::word_text(parser.peek_token_ref()).as_deref().and_then(message_of) {
        Some(message) => Err(refused::here(parser, message)),
        None => Ok(()),
    }
}

fn invalid(at: Option<Position>, message: impl Into<String>) -> Failure {
    errors::at(Error::new(Reason::InvalidTableDefinition, message), at).into()
}
