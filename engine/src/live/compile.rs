//! From the text of a subscription to what is matched and what is read at the beginning.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, SchemaRef},
    common::{
        Column, DFSchema, DFSchemaRef, ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, SortExpr, utils::split_conjunction,
    },
    sql::{planner::SqlToRel, sqlparser::ast},
};
use kalamdb_store::ids::{ColumnId, Owner, Partition};

use super::{
    matcher::{Equality, Matcher},
    request::InitialRows,
    token::columns_fingerprint,
};
use crate::{
    access::Caller,
    catalog::{DELETED_COLUMN, SEQ_COLUMN, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        Names, OutputNames, Parameter, Planner, QueryPlan, ResultColumn, RowExpr, convert_parameters, from_datafusion,
        parameter_types, parser_options, physical_expr, planner_context, reconcile, scientific_as_double,
        show_system_columns,
    },
    functions::{Bindings, bind_expr, into_datafusion, is_time_of_statement, names_current_user},
    sql::{TableKind, TableScope},
    types::SqlType,
};

/// A subscription's query, compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) table: Arc<Table>,
    pub(super) scope: TableScope,
    pub(super) matcher: Arc<Matcher>,
    pub(super) outputs: Arc<[Expr]>,
    pub(super) filter: Option<Arc<Expr>>,
    pub(super) columns: Arc<[ResultColumn]>,
    pub(super) schema: SchemaRef,
    /// Other columns have another one.
    pub(super) columns_id: [u8; 4],
    /// What reads the initial rows.
    pub(super) initial: QueryPlan,
    /// Whether it is the same for every user.
    pub(super) for_everybody: bool,
}

/// What a compiled query depends on, beside the state of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CompileKey {
    pub(super) normalized: Arc<str>,
    pub(super) namespace: Option<Arc<str>>,
    pub(super) parameters: Vec<(SqlType, ScalarValue)>,
    pub(super) last: Option<u64>,
}

/// A subscription to be compiled.
pub(super) struct Source<'a> {
    pub(super) query: &'a ast::Query,
    pub(super) namespace: Option<&'a str>,
    pub(super) parameters: &'a [Parameter],
    pub(super) initial_rows: InitialRows,
}

/// Compiles a subscription for `caller`.
///
/// # Errors
/// What is wrong with the query; NOT_SUPPORTED, by name, for what cannot be kept up to date change by change.
pub(super) fn compile(shared: &Shared, caller: &Caller, source: &Source<'_>) -> Result<Compiled> {
    refuse_shape(source.query)?;
    let state = shared.template.as_ref();
    let catalog = shared.catalog.state();
    let viewer = shared.viewer(caller.clone());
    let names = || Names { catalog: &catalog, viewer: &viewer, namespace: source.namespace };
    let last = match source.initial_rows {
        InitialRows::Last(n) => Some(n),
        InitialRows::None | InitialRows::All => None,
    };

    let mut query = ast::Statement::Query(Box::new(source.query.clone()));
    let names_to_show = OutputNames::give(&mut query);
    scientific_as_double(&mut query);
    let (query, with_system) = show_system_columns(query, last.is_some())?;
    let plan_with = |types: &[SqlType]| -> Result<(LogicalPlan, Vec<_>)> {
        let planner = Planner::new(state, names(), with_system);
        let plan = SqlToRel::new_with_options(&planner, parser_options())
            .sql_statement_to_plan_with_context(query.clone(), &mut planner_context(types))
            .map_err(from_datafusion)?;
        Ok((plan, planner.used_tables()))
    };
    let given = parameter_types(source.parameters);
    let types = if given.is_empty() {
        Vec::new()
    } else {
        reconcile(plan_with(&vec![SqlType::Null; given.len()]).map(|(plan, _)| plan), &given)?
    };
    let (plan, tables) = plan_with(&types)?;
    let mut for_everybody = true;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            refuse_expr(expr).map_err(into_datafusion)?;
            for_everybody &= !names_current_user(expr);
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map_err(from_datafusion)?;
    let [used] = tables.as_slice() else {
        return Err(not_supported(
            "A live query is of one table of users' rows; system tables cannot be subscribed to.",
        ));
    };
    refuse_table(&used.table, used.scope)?;

    let Shape { outputs, input } = shape_of(&plan)?;
    let base = base_schema(&used.table, input)?;
    let values = convert_parameters(source.parameters, &types)?;
    let user = caller.effective_user();
    // The time was refused above, so that it does not matter which one is given.
    let bindings = Bindings::new(&values, 0, user);
    let prepare =
        |expr: &Expr| -> Result<Expr> { bind_expr(RowExpr::new(expr.clone(), &base)?.expr().clone(), &bindings) };
    let outputs = outputs.into_iter().map(prepare).collect::<Result<Vec<_>>>()?;

    let initial_plan = match last {
        Some(last) => last_rows(&plan, last)?,
        None => plan.clone(),
    };
    let initial = QueryPlan::from_logical(state, initial_plan, tables.clone(), types)?.showing(&names_to_show);
    let schema = Arc::clone(initial.schema());
    let columns = Arc::clone(initial.columns());
    if schema.fields().len() != outputs.len() {
        return Err(Error::internal("a live query's rows and changes have other columns"));
    }

    // As the query itself has it when it is run, so that it lets through what SELECT does, to the last bit.
    let filter = initial.filter().map_err(from_datafusion)?;
    let filter = filter.map(|filter| bind_expr(filter, &bindings)).transpose()?;
    let plain =
        DFSchema::try_from(Arc::clone(used.table.schema_with_system())).map(Arc::new).map_err(from_datafusion)?;
    let (equality, equality_is_all) = equality_of(filter.as_ref(), &plain, used.table.key_index());
    let physical = |expr: Expr| physical_expr(state, expr, &base).map_err(from_datafusion);
    let matcher = Matcher {
        filter: filter
            .clone()
            .map(|filter| state.create_physical_expr(filter, &plain))
            .transpose()
            .map_err(from_datafusion)?,
        equality,
        equality_is_all,
        outputs: outputs.iter().cloned().map(&physical).collect::<Result<Vec<_>>>()?,
        schema: Arc::clone(&schema),
        deleted_column: outputs
            .iter()
            .any(|output| output.column_refs().iter().any(|column| column.name == DELETED_COLUMN))
            .then(|| used.table.schema_with_system().index_of(DELETED_COLUMN).ok())
            .flatten(),
    };
    let columns_id = columns_fingerprint(&columns, &columns_used(&used.table, outputs.iter().chain(&filter)));
    Ok(Compiled {
        columns_id,
        table: Arc::clone(&used.table),
        scope: used.scope,
        matcher: Arc::new(matcher),
        outputs: outputs.into(),
        filter: filter.map(Arc::new),
        columns,
        schema,
        initial,
        for_everybody,
    })
}

impl Compiled {
    /// The partition whose rows it means for `caller`.
    pub(super) fn partition(&self, caller: &Caller) -> Partition {
        Partition { table: self.table.id(), owner: Owner::User(caller.effective_user().clone()) }
    }
}

/// A query as a list of columns over rows of one table.
struct Shape<'p> {
    outputs: Vec<&'p Expr>,
    /// The table, under the name that the query has for it.
    input: &'p LogicalPlan,
}

fn shape_of(plan: &LogicalPlan) -> Result<Shape<'_>> {
    let LogicalPlan::Projection(Projection { expr, input, .. }) = plan else { return Err(too_complex()) };
    let input = match input.as_ref() {
        LogicalPlan::Filter(filter) => filter.input.as_ref(),
        other => other,
    };
    let is_table = match input {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => matches!(alias.input.as_ref(), LogicalPlan::TableScan(_)),
        LogicalPlan::Aggregate(_) => {
            return Err(not_supported(
                "Aggregates are not supported in live queries. Subscribe to the rows and aggregate them where they arrive.",
            ));
        }
        _ => false,
    };
    if is_table { Ok(Shape { outputs: expr.iter().collect(), input }) } else { Err(too_complex()) }
}

/// The table's columns, hidden ones too, under the name that the query has for it.
fn base_schema(table: &Table, input: &LogicalPlan) -> Result<DFSchemaRef> {
    let fields = table.schema_with_system();
    let qualifier = input.schema().iter().find_map(|(qualifier, _)| qualifier.cloned());
    let schema = match qualifier {
        Some(qualifier) => DFSchema::try_from_qualified_schema(qualifier, fields),
        None => DFSchema::try_from(Arc::clone(fields)),
    };
    schema.map(Arc::new).map_err(from_datafusion)
}

/// The rows of `plan` that were written last, oldest first.
fn last_rows(plan: &LogicalPlan, last: u64) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(Projection { expr, input, .. }) = plan else { return Err(too_complex()) };
    let by_time = |ascending: bool| {
        let (qualifier, field) =
            input.schema().qualified_field_with_unqualified_name(SEQ_COLUMN).map_err(from_datafusion)?;
        Ok::<_, Error>(SortExpr::new(Expr::Column(Column::from((qualifier, field))), ascending, false))
    };
    let fetch = usize::try_from(last).unwrap_or(usize::MAX);
    LogicalPlanBuilder::from(input.as_ref().clone())
        .sort_with_limit([by_time(false)?], Some(fetch))
        .map_err(from_datafusion)?
        .sort([by_time(true)?])
        .and_then(|builder| builder.project(expr.clone()))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)
}

/// A condition `column = value` that the filter implies, and whether it is all of it.
fn equality_of(filter: Option<&Expr>, base: &DFSchema, key: usize) -> (Option<Equality>, bool) {
    let Some(filter) = filter else { return (None, false) };
    let conditions = split_conjunction(filter);
    let mut found: Option<Equality> = None;
    for condition in &conditions {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { continue };
        let (Expr::Column(column), Expr::Literal(value, _)) = (match (left.as_ref(), right.as_ref()) {
            (literal @ Expr::Literal(..), column @ Expr::Column(_)) => (column, literal),
            (left, right) => (left, right),
        }) else {
            continue;
        };
        let Ok(index) = base.index_of_column(column) else { continue };
        let data_type = base.field(index).data_type();
        // Other pairs of types are compared as a third one.
        if !compares_by_bytes(data_type, &value.data_type()) || value.is_null() {
            continue;
        }
        // A value that the column cannot hold exactly is left to the filter.
        let Ok(cast) = value.cast_to(data_type) else { continue };
        if cast.is_null() || cast.cast_to(&value.data_type()).ok().as_ref() != Some(value) {
            continue;
        }
        if found.is_none() || index == key {
            found = Some(Equality { column: index, value: cast });
        }
    }
    let is_all = found.is_some() && conditions.len() == 1;
    (found, is_all)
}

/// The table's columns that expressions are made of.
fn columns_used<'e>(table: &Table, expressions: impl Iterator<Item = &'e Expr>) -> Vec<ColumnId> {
    let names: BTreeSet<&str> =
        expressions.flat_map(|expr| expr.column_refs()).map(|column| column.name.as_str()).collect();
    table.columns().iter().filter(|column| names.contains(column.name.as_str())).map(|column| column.id).collect()
}

/// Whether values of these types are equal in SQL when they are the same value of either: not so floats (-0 and 0, NaN).
fn compares_by_bytes(left: &DataType, right: &DataType) -> bool {
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    (left.is_integer() && right.is_integer())
        || (is_text(left) && is_text(right))
        || (*left == DataType::Boolean && *right == DataType::Boolean)
}

fn refuse_table(table: &Table, scope: TableScope) -> Result<()> {
    if table.kind() == TableKind::Shared {
        return Err(
            not_supported("Live query subscriptions not supported on shared tables").with("table", table.full_name())
        );
    }
    if scope == TableScope::AllUsers {
        return Err(not_supported(
            "A live query is of one user's rows. Name the table without all_users; a service acts for a user with x-user-id.",
        ));
    }
    Ok(())
}

/// Refuses, by name, what no list of rows can be kept up to date for.
fn refuse_shape(query: &ast::Query) -> Result<()> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return Err(not_supported(
            "UNION, INTERSECT, EXCEPT and VALUES are not supported in live queries. Subscribe to each part.",
        ));
    };
    let is_grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    let what = if query.with.is_some() {
        "WITH"
    } else if query.order_by.is_some() {
        "ORDER BY"
    } else if query.limit_clause.is_some() || query.fetch.is_some() {
        "LIMIT and OFFSET"
    } else if select.distinct.is_some() {
        "DISTINCT"
    } else if is_grouped {
        "GROUP BY"
    } else if select.having.is_some() {
        "HAVING"
    } else if select.qualify.is_some() || !select.named_window.is_empty() {
        "Window functions"
    } else if !query.pipe_operators.is_empty() {
        "Pipe operators"
    } else if select.from.len() != 1 || select.from.iter().any(|from| !from.joins.is_empty()) {
        return Err(not_supported("JOIN is not supported in live queries: subscribe to one table with FROM table."));
    } else if select.from.iter().any(|from| !matches!(from.relation, ast::TableFactor::Table { args: None, .. })) {
        "A subquery or function in FROM"
    } else {
        return Ok(());
    };
    Err(not_supported(format!(
        "{what} is not supported in live queries. Write SUBSCRIBE TO table [WHERE …] or SUBSCRIBE SELECT columns FROM table [WHERE …]."
    )))
}

/// Refuses expressions whose value can change although the row does not.
fn refuse_expr(expr: &Expr) -> Result<()> {
    let mut refused = None;
    expr.apply(|e| {
        let found = match e {
            Expr::AggregateFunction(_) => Some(not_supported(
                "Aggregates are not supported in live queries. Subscribe to the rows and aggregate them where they arrive.",
            )),
            Expr::WindowFunction(_) => Some(not_supported("Window functions are not supported in live queries.")),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                Some(not_supported("Subqueries are not supported in live queries."))
            }
            e if is_time_of_statement(e) => Some(not_supported(
                "NOW() and its like are not supported in live queries: rows would come and go without a change. Compare with a \
                 time that you give as a parameter.",
            )),
            Expr::ScalarFunction(function)
                if function.func.signature().volatility == datafusion::logical_expr::Volatility::Volatile =>
            {
                Some(not_supported(format!(
                    "{}() is not supported in live queries: it has another value each time.",
                    function.func.name().to_uppercase()
                )))
            }
            _ => None,
        };
        if refused.is_none() {
            refused = found;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    refused.map_or(Ok(()), Err)
}

fn too_complex() -> Error {
    not_supported(
        "This query cannot be subscribed to. Write SUBSCRIBE TO table [WHERE …] or SUBSCRIBE SELECT columns FROM table [WHERE …].",
    )
}

fn not_supported(message: impl Into<String>) -> Error {
    Error::new(Reason::NotSupported, message)
}
