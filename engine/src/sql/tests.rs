//! What the dialect takes, refuses and says.

mod backup;
mod batch;
mod depth;
mod export;
mod live;
mod names;
mod queries;
mod rows;
mod soup;
mod storage;
mod syntax;
mod tables;
mod types;
mod users;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use proptest::prelude::*;

use super::{statement::*, *};
use crate::{
    error::Reason,
    types::{SqlType, StructField},
};

const LIMITS: ParseLimits = ParseLimits { max_statement_bytes: 1 << 20, max_nesting_depth: 100, max_statements: 100 };

fn batch(sql: &str) -> Vec<ParsedStatement> {
    parse(sql, &LIMITS).unwrap_or_else(|error| panic!("{sql:.80}: {error}"))
}

fn one(sql: &str) -> Statement {
    let [parsed] = <[_; 1]>::try_from(batch(sql)).expect("one statement");
    parsed.statement
}

fn fails(sql: &str) -> Error {
    match parse(sql, &LIMITS) {
        Ok(_) => panic!("{:.80} was parsed", sql),
        Err(error) => error,
    }
}

/// The statement fails with this reason and a message that holds the text.
#[track_caller]
fn refused(sql: &str, reason: Reason, text: &str) {
    let error = fails(sql);
    assert_eq!(error.reason(), reason, "{sql}: {error}");
    assert!(error.message().contains(text), "{sql}: {error}");
}

fn place(line: u64, column: u64) -> Option<Position> {
    Some(Position { line, column })
}

fn text(name: &Name) -> &str {
    &name.text
}

fn create_table(sql: &str) -> CreateTable {
    match one(sql) {
        Statement::CreateTable(create) => *create,
        other => panic!("{sql}: {other:?}"),
    }
}

fn alter_action(action: &str) -> AlterTableAction {
    match one(&format!("ALTER TABLE chat.t {action}")) {
        Statement::AlterTable(alter) => alter.action,
        other => panic!("{action}: {other:?}"),
    }
}

fn column_type(sql: &str) -> Result<SqlType> {
    let text = format!("CREATE USER TABLE t (c {sql})");
    match parse(&text, &LIMITS)?.pop().map(|parsed| parsed.statement) {
        Some(Statement::CreateTable(create)) => Ok(create.columns[0].sql_type.clone()),
        other => panic!("{sql}: {other:?}"),
    }
}

fn filter(sql: &str) -> Expr {
    parse_expression(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}
