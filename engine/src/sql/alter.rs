//! ALTER TABLE.

use datafusion::sql::sqlparser::{parser::Parser, tokenizer::Token};

use super::{
    duration,
    errors::{self, Parsed},
    flush, name, refused,
    statement::{AlterTable, AlterTableAction},
    table, words,
};
use crate::error::{Error, Reason};

/// After ALTER TABLE.
pub(super) fn alter(parser: &mut Parser<'_>) -> Parsed<AlterTable> {
    let if_exists = words::accept(parser, &["IF", "EXISTS"]);
    let table = name::whole_table(parser)?;
    let action = if words::accept(parser, &["ADD"]) {
        add(parser)?
    } else if words::accept(parser, &["DROP"]) {
        drop(parser)?
    } else if words::accept(parser, &["RENAME"]) {
        rename(parser)?
    } else if words::accept(parser, &["SET"]) {
        set(parser)?
    } else if ["ALTER", "MODIFY", "CHANGE"].iter().any(|word| words::comes(parser, &[word])) {
        let message = "The type, default and nullability of a column cannot be changed. ADD COLUMN a new one, UPDATE it \
                       from the old one, and DROP COLUMN the old one.";
        return Err(refused::here(parser, message));
    } else if words::comes(parser, &["OWNER"]) {
        return Err(refused::here(parser, "Tables have no owners."));
    } else {
        return words::expected(
            parser,
            "ADD COLUMN, DROP COLUMN, RENAME COLUMN, SET ACCESS, SET FLUSH POLICY or SET TTL",
        );
    };
    if parser.peek_token_ref().token == Token::Comma {
        return Err(refused::here(parser, "ALTER TABLE makes one change. Send a statement for each."));
    }
    Ok(AlterTable { table, if_exists, action })
}

fn add(parser: &mut Parser<'_>) -> Parsed<AlterTableAction> {
    let column = words::accept(parser, &["COLUMN"]);
    if !column {
        refuse_constraint(parser)?;
    }
    let if_not_exists = words::accept(parser, &["IF", "NOT", "EXISTS"]);
    let at = errors::start(parser.peek_token_ref());
    let (column, primary_key) = table::column(parser)?;
    if primary_key {
        let message = "A new column cannot be the PRIMARY KEY: a table's key is fixed when it is created.";
        return Err(errors::at(Error::new(Reason::InvalidTableDefinition, message), at).into());
    }
    if words::comes(parser, &["FIRST"]) || words::comes(parser, &["AFTER"]) {
        return Err(refused::here(parser, "A new column is the last one: FIRST and AFTER are not supported."));
    }
    Ok(AlterTableAction::AddColumn { column: Box::new(column), if_not_exists })
}

fn drop(parser: &mut Parser<'_>) -> Parsed<AlterTableAction> {
    if !words::accept(parser, &["COLUMN"]) {
        refuse_constraint(parser)?;
    }
    let if_exists = words::accept(parser, &["IF", "EXISTS"]);
    let column = name::name(parser, "the name of a column")?;
    if words::comes(parser, &["CASCADE"]) || words::comes(parser, &["RESTRICT"]) {
        return Err(refused::here(parser, "DROP COLUMN takes no CASCADE or RESTRICT: nothing depends on a column."));
    }
    Ok(AlterTableAction::DropColumn { column, if_exists })
}

fn rename(parser: &mut Parser<'_>) -> Parsed<AlterTableAction> {
    if words::comes(parser, &["TO"]) || words::comes(parser, &["AS"]) {
        return Err(refused::here(parser, "A table cannot be renamed. Use RENAME COLUMN a TO b for a column."));
    }
    words::accept(parser, &["COLUMN"]);
    let from = name::name(parser, "the name of a column")?;
    words::expect(parser, &["TO"])?;
    let to = name::name(parser, "the new name of the column")?;
    Ok(AlterTableAction::RenameColumn { from, to })
}

fn set(parser: &mut Parser<'_>) -> Parsed<AlterTableAction> {
    if words::accept(parser, &["ACCESS"]) {
        return Ok(AlterTableAction::SetAccess(table::access(parser)?));
    }
    if words::accept(parser, &["TTL"]) {
        return Ok(AlterTableAction::SetTtl(duration::duration_us(parser, "TTL")?));
    }
    if words::accept(parser, &["FLUSH", "POLICY"]) {
        let policy = if words::accept(parser, &["NONE"]) { None } else { Some(flush::policy(parser)?) };
        return Ok(AlterTableAction::SetFlushPolicy(policy));
    }
    if words::comes(parser, &["STORAGE"]) || words::comes(parser, &["LOCATION"]) {
        let message = "The storage and the location of a table are fixed when it is created: they say where its files \
                       are.";
        return Err(refused::here(parser, message));
    }
    let word = words::word_text(parser.peek_token_ref()).unwrap_or_default();
    match refused::table_clause(&word) {
        Some(message) => Err(refused::here(parser, message)),
        None => words::expected(parser, "ACCESS, FLUSH POLICY or TTL"),
    }
}

fn refuse_constraint(parser: &Parser<'_>) -> Parsed<()> {
    if words::comes(parser, &["PRIMARY", "KEY"]) {
        return Err(refused::here(parser, "The PRIMARY KEY of a table is fixed when it is created."));
    }
    let next = &parser.peek_nth_token_ref(1).token;
    let constraint = words::comes(parser, &["CONSTRAINT"])
        || words::comes(parser, &["FOREIGN", "KEY"])
        || (*next == Token::LParen && ["UNIQUE", "CHECK"].iter().any(|word| words::comes(parser, &[word])));
    if constraint {
        let message = "Constraints cannot be added or dropped: a table has its PRIMARY KEY and NOT NULL columns only.";
        return Err(refused::here(parser, message));
    }
    Ok(())
}
