//! Queries, and what is refused in them by name because DataFusion would ignore it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        self, Expr, GroupByExpr, PipeOperator, Query, Select, SetExpr, Spanned, TableFactor, Value, ValueWithSpan,
        Visit, Visitor,
    },
    parser::Parser,
    tokenizer::Span,
};

use super::{
    errors::{self, Parsed},
    guard, refused,
};
use crate::error::{Error, Result};

/// Parses a query.
pub(super) fn query(parser: &mut Parser<'_>) -> Parsed<Box<Query>> {
    let query = parser.parse_query()?;
    check(&query)?;
    Ok(query)
}

/// Refuses what cannot be done, anywhere within.
pub(super) fn check(node: &impl Visit) -> Result<()> {
    match node.visit(&mut Checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Checker;

impl Visitor for Checker {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        let message = match &*query.body {
            SetExpr::Insert(_) => {
                Some("WITH before INSERT is not supported. Write INSERT INTO t WITH … SELECT … instead.")
            }
            SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Some("WITH before UPDATE and DELETE is not supported. Use a subquery in WHERE.")
            }
            SetExpr::Table(_) => Some("TABLE t as a query is not supported. Use SELECT * FROM t."),
            _ => None,
        };
        if let Some(message) = message {
            return refuse(message, query.body.span());
        }
        if !query.locks.is_empty() {
            return refuse(
                "FOR UPDATE and FOR SHARE are not supported: a statement reads one snapshot and writes atomically.",
                query.body.span(),
            );
        }
        if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
            return refuse("FOR XML, FOR JSON, SETTINGS and FORMAT are not supported.", query.body.span());
        }
        if query.fetch.is_some() {
            return refuse("FETCH FIRST is not supported. Use LIMIT n.", query.body.span());
        }
        for operator in &query.pipe_operators {
            match operator {
                PipeOperator::TableSample { .. } => return refuse(TABLESAMPLE, query.body.span()),
                PipeOperator::Join(join) => self.pre_visit_table_factor(&join.relation)?,
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        if let Some(into) = &select.into {
            return refuse(
                "SELECT INTO is not supported. Use CREATE TABLE, then INSERT INTO t SELECT ….",
                into.name.span(),
            );
        }
        let modifiers = match &select.group_by {
            GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
        };
        let message = if !modifiers.is_empty() {
            "GROUP BY … WITH ROLLUP, CUBE or TOTALS is not supported. Write GROUP BY ROLLUP (…) or GROUP BY CUBE (…)."
        } else if select.top.is_some() {
            "TOP is not supported. Use LIMIT n."
        } else if !select.lateral_views.is_empty() {
            "LATERAL VIEW is not supported. Use unnest(…)."
        } else if select.prewhere.is_some() {
            "PREWHERE is not supported. Use WHERE."
        } else if !select.connect_by.is_empty() {
            "CONNECT BY is not supported. Use WITH RECURSIVE."
        } else if !select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty() {
            "CLUSTER BY, DISTRIBUTE BY and SORT BY are not supported. Use ORDER BY."
        } else if select.value_table_mode.is_some() {
            "SELECT AS STRUCT and AS VALUE are not supported."
        } else if select.select_modifiers.is_some() || select.exclude.is_some() || !select.optimizer_hints.is_empty() {
            "Hints and modifiers after SELECT are not supported."
        } else {
            return ControlFlow::Continue(());
        };
        refuse(message, select.select_token.0.span)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        let message = match factor {
            TableFactor::Table {
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                alias,
                ..
            } => {
                if sample.is_some() {
                    TABLESAMPLE
                } else if version.is_some() {
                    "Reading a table as of another time is not supported."
                } else if *with_ordinality {
                    "WITH ORDINALITY is not supported. Use row_number() OVER ()."
                } else if !with_hints.is_empty() || !index_hints.is_empty() {
                    "Hints on tables are not supported."
                } else if !partitions.is_empty() {
                    "PARTITION (…) on a table is not supported. Use WHERE."
                } else if json_path.is_some() || alias.as_ref().is_some_and(|alias| alias.at.is_some()) {
                    "Paths into a table's values are not supported in FROM. Use unnest(…)."
                } else {
                    return ControlFlow::Continue(());
                }
            }
            TableFactor::Derived { sample: Some(_), .. } => TABLESAMPLE,
            TableFactor::Function { with_ordinality: true, .. } | TableFactor::UNNEST { with_ordinality: true, .. } => {
                "WITH ORDINALITY is not supported. Use row_number() OVER ()."
            }
            TableFactor::UNNEST { with_offset: true, .. } => "WITH OFFSET is not supported. Use row_number() OVER ().",
            TableFactor::TableFunction { .. } => "TABLE (…) in FROM is not supported. Write the function itself.",
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } | TableFactor::XmlTable { .. } => {
                "JSON_TABLE, OPENJSON and XMLTABLE are not supported."
            }
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
                "PIVOT and UNPIVOT are not supported. Use GROUP BY with aggregates over CASE."
            }
            TableFactor::MatchRecognize { .. } => "MATCH_RECOGNIZE is not supported. Use window functions.",
            _ => return ControlFlow::Continue(()),
        };
        refuse(message, factor.span())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Error> {
        match expression {
            Expr::Collate { expr, .. } => {
                refuse("COLLATE is not supported: text compares by its UTF-8 bytes.", expr.span())
            }
            Expr::MatchAgainst { .. } => refuse("MATCH … AGAINST is not supported. Use LIKE or ILIKE.", Span::empty()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Error> {
        // The tokenizer knows $1; `:name` and `@name` become placeholders in the parser only.
        if let Value::Placeholder(text) = &value.value
            && let Err(error) = guard::parameter_number(text)
        {
            return ControlFlow::Break(errors::at(error, errors::position(value.span.start)));
        }
        ControlFlow::Continue(())
    }
}

const TABLESAMPLE: &str = "TABLESAMPLE is not supported. Use WHERE random() < 0.1 for a sample of a tenth.";

fn refuse(message: &str, span: Span) -> ControlFlow<Error> {
    ControlFlow::Break(refused::at(errors::position(span.start), message))
}

/// A table of an UPDATE or DELETE: its name and alias, if it is nothing but a table.
pub(super) fn plain_table(tables: &[ast::TableWithJoins]) -> Option<(&ast::ObjectName, Option<&ast::Ident>)> {
    let [ast::TableWithJoins { relation: TableFactor::Table { name, alias, args: None, .. }, joins }] = tables else {
        return None;
    };
    match alias {
        _ if !joins.is_empty() => None,
        None => Some((name, None)),
        Some(alias) if alias.columns.is_empty() => Some((name, Some(&alias.name))),
        Some(_) => None,
    }
}
