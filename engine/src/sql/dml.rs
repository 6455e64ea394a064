//! INSERT, UPDATE and DELETE.

use datafusion::sql::sqlparser::{
    ast::{self, Expr, SetExpr, Spanned},
    parser::Parser,
    tokenizer::Span,
};

use super::{
    errors::{self, Failure, Parsed},
    name::{fold_identifier, table_name},
    query, refused,
    statement::{Assignment, ConflictAction, Delete, Insert, InsertSource, Name, OnConflict, Update},
    words,
};
use crate::error::{Error, Reason, Result};

/// At INSERT.
pub(super) fn insert(parser: &mut Parser<'_>) -> Parsed<Insert> {
    let token = parser.next_token();
    const VARIANTS: &[&str] = &["OVERWRITE", "OR", "REPLACE", "IGNORE", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED"];
    if VARIANTS.iter().any(|word| words::comes(parser, &[word])) {
        let message = "Only INSERT INTO is supported. Say what happens to keys that exist with ON CONFLICT (key) DO \
                       NOTHING or DO UPDATE SET ….";
        return Err(refused::here(parser, message));
    }
    if !words::comes(parser, &["INTO"]) {
        return words::expected(parser, "INTO");
    }
    let statement = parser.parse_insert(token)?;
    query::check(&statement)?;
    let ast::Statement::Insert(insert) = statement else {
        return Err(unsupported("INSERT into a directory is not supported.", Span::empty()));
    };
    convert_insert(insert)
}

/// At UPDATE.
pub(super) fn update(parser: &mut Parser<'_>) -> Parsed<Update> {
    let token = parser.next_token();
    if words::comes(parser, &["OR"]) {
        return Err(refused::here(parser, "UPDATE OR … is not supported."));
    }
    let statement = parser.parse_update(token)?;
    query::check(&statement)?;
    let ast::Statement::Update(update) = statement else {
        return words::expected(parser, "UPDATE t SET …");
    };
    let span = update.table.span();
    if update.from.is_some() {
        return Err(unsupported("UPDATE … FROM is not supported. Use subqueries in SET and WHERE.", span));
    }
    if !update.order_by.is_empty() || update.limit.is_some() {
        return Err(unsupported("ORDER BY and LIMIT in UPDATE are not supported. Say in WHERE which rows.", span));
    }
    if update.output.is_some() || update.or.is_some() {
        return Err(unsupported("OUTPUT in UPDATE is not supported. Use RETURNING.", span));
    }
    let Some((table, alias)) = query::plain_table(std::slice::from_ref(&update.table)) else {
        return Err(unsupported("UPDATE changes one table, without joins. Use subqueries in SET and WHERE.", span));
    };
    Ok(Update {
        table: table_name(table)?,
        alias: alias.map(fold_identifier),
        assignments: assignments(update.assignments)?,
        filter: update.selection,
        returning: update.returning,
    })
}

/// At DELETE.
pub(super) fn delete(parser: &mut Parser<'_>) -> Parsed<Delete> {
    let token = parser.next_token();
    if !words::comes(parser, &["FROM"]) {
        return words::expected(parser, "FROM");
    }
    let statement = parser.parse_delete(token)?;
    query::check(&statement)?;
    let ast::Statement::Delete(delete) = statement else {
        return words::expected(parser, "DELETE FROM t");
    };
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = delete.from;
    let span = from.first().map_or_else(Span::empty, Spanned::span);
    if delete.using.is_some() {
        return Err(unsupported("DELETE … USING is not supported. Use a subquery in WHERE.", span));
    }
    if !delete.order_by.is_empty() || delete.limit.is_some() {
        return Err(unsupported("ORDER BY and LIMIT in DELETE are not supported. Say in WHERE which rows.", span));
    }
    if delete.output.is_some() {
        return Err(unsupported("OUTPUT in DELETE is not supported. Use RETURNING.", span));
    }
    let Some((table, alias)) = query::plain_table(&from) else {
        return Err(unsupported("DELETE changes one table, without joins. Use a subquery in WHERE.", span));
    };
    Ok(Delete {
        table: table_name(table)?,
        alias: alias.map(fold_identifier),
        filter: delete.selection,
        returning: delete.returning,
    })
}

fn convert_insert(insert: ast::Insert) -> Parsed<Insert> {
    let ast::TableObject::TableName(table) = &insert.table else {
        return Err(unsupported("INSERT takes the name of a table.", Span::empty()));
    };
    let span = table.span();
    let message = if insert.has_table_keyword {
        Some("Write INSERT INTO t without TABLE.")
    } else if insert.partitioned.is_some() || !insert.after_columns.is_empty() {
        Some("INSERT … PARTITION is not supported.")
    } else if insert.table_alias.is_some() || insert.insert_alias.is_some() {
        Some("An alias in INSERT is not supported. ON CONFLICT names the new row excluded.")
    } else if insert.output.is_some() {
        Some("OUTPUT in INSERT is not supported. Use RETURNING.")
    } else if !insert.assignments.is_empty() {
        Some("INSERT … SET is not supported. Use VALUES.")
    } else if insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.replace_into
        || insert.priority.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
    {
        Some("This form of INSERT is not supported. Use INSERT INTO t (…) VALUES (…).")
    } else {
        None
    };
    if let Some(message) = message {
        return Err(unsupported(message, span));
    }
    let columns = insert.columns.iter().map(column_name).collect::<Result<Vec<_>>>()?;
    refuse_twice(&columns)?;
    Ok(Insert {
        table: table_name(table)?,
        columns,
        source: insert.source.map_or(InsertSource::DefaultValues, insert_source),
        on_conflict: insert.on.map(on_conflict).transpose()?,
        returning: insert.returning,
    })
}

fn insert_source(source: Box<ast::Query>) -> InsertSource {
    let plain = source.with.is_none()
        && source.order_by.is_none()
        && source.limit_clause.is_none()
        && source.pipe_operators.is_empty();
    let mut source = source;
    match &mut *source.body {
        SetExpr::Values(values) if plain => InsertSource::Values(
            std::mem::take(&mut values.rows)
                .into_iter()
                .map(|row| row.content.into_iter().map(value_or_default).collect())
                .collect(),
        ),
        _ => InsertSource::Query(source),
    }
}

fn on_conflict(on: ast::OnInsert) -> Parsed<OnConflict> {
    let conflict = match on {
        ast::OnInsert::OnConflict(conflict) => conflict,
        _ => {
            let message = "ON DUPLICATE KEY UPDATE is not supported. Use ON CONFLICT (key) DO UPDATE SET ….";
            return Err(unsupported(message, Span::empty()));
        }
    };
    let target = match conflict.conflict_target {
        None => Vec::new(),
        Some(ast::ConflictTarget::Columns(columns)) => columns.iter().map(fold_identifier).collect(),
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let message = "ON CONFLICT ON CONSTRAINT is not supported: constraints have no names. Name the key: ON \
                           CONFLICT (key).";
            return Err(unsupported(message, name.span()));
        }
    };
    let action = match conflict.action {
        ast::OnConflictAction::DoNothing => ConflictAction::DoNothing,
        ast::OnConflictAction::DoUpdate(update) => {
            ConflictAction::DoUpdate { assignments: assignments(update.assignments)?, filter: update.selection }
        }
    };
    Ok(OnConflict { target, action })
}

fn assignments(assignments: Vec<ast::Assignment>) -> Parsed<Vec<Assignment>> {
    let assignments = assignments
        .into_iter()
        .map(|assignment| match &assignment.target {
            ast::AssignmentTarget::ColumnName(column) => {
                Ok(Assignment { column: column_name(column)?, value: value_or_default(assignment.value) })
            }
            ast::AssignmentTarget::Tuple(columns) => {
                let span = columns.first().map_or_else(Span::empty, Spanned::span);
                Err(unsupported("SET (a, b) = (…) is not supported. Write SET a = …, b = ….", span))
            }
        })
        .collect::<Parsed<Vec<_>>>()?;
    let columns: Vec<Name> = assignments.iter().map(|assignment| assignment.column.clone()).collect();
    refuse_twice(&columns)?;
    Ok(assignments)
}

/// The value, or `None` for the keyword DEFAULT.
fn value_or_default(value: Expr) -> Option<Expr> {
    match &value {
        Expr::Identifier(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default") => None,
        _ => Some(value),
    }
}

fn column_name(column: &ast::ObjectName) -> Result<Name> {
    let message = match column.0.as_slice() {
        [ast::ObjectNamePart::Identifier(name)] if name.quote_style != Some('\'') => return Ok(fold_identifier(name)),
        [_] => "A column is named by an identifier, not by a string.",
        _ => "Name the column alone here, without its table; fields of a STRUCT are changed by setting the column.",
    };
    let error = Error::new(Reason::InvalidStatement, message);
    Err(errors::at(error, errors::position(column.span().start)))
}

fn refuse_twice(columns: &[Name]) -> Result<()> {
    let mut seen = std::collections::HashSet::with_capacity(columns.len());
    for column in columns {
        if !seen.insert(column.text.as_str()) {
            let name = errors::clip(&column.text);
            let error = Error::new(Reason::InvalidStatement, format!("The column {name} is given twice."));
            return Err(errors::at(error, column.position));
        }
    }
    Ok(())
}

fn unsupported(message: &str, span: Span) -> Failure {
    refused::at(errors::position(span.start), message).into()
}
