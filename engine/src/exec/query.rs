//! SELECT: planned once, optimised once, bound and run each time.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    common::{
        Result as DataFusionResult, ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    execution::SessionState,
    logical_expr::{Expr, LogicalPlan, lit, utils::conjunction},
    physical_plan::{ExecutionPlan, execute_stream, execution_plan::EmissionType},
    sql::{
        planner::SqlToRel,
        sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut},
    },
};
use futures::StreamExt;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    catalog::{DELETED_COLUMN, SEQ_COLUMN, UPDATED_COLUMN},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        errors::from_datafusion,
        float_compare, in_lists,
        output::{ResultColumn, RowStream, result_columns, timed_out},
        output_names::{OutputNames, with_names},
        params::{self, Parameter},
        planner::{Names, Planner, UsedTable, parser_options},
        point_read::PointRead,
        scan::batch_of,
        source::strip_qualifiers,
        statement_session::StatementSession,
        uuid_text,
    },
    functions::{Bindings, bind_parameters, bind_statement_values},
    types::SqlType,
};

/// Batches between the plan and whoever reads its rows.
const BATCHES_AHEAD: usize = 2;

/// A query that was planned.
#[derive(Debug)]
pub(crate) struct QueryPlan {
    pub(crate) tables: Vec<UsedTable>,
    /// Optimised; `$n`, NOW() and CURRENT_USER() are still placeholders in it.
    plan: LogicalPlan,
    parameter_types: Vec<SqlType>,
    columns: Arc<[ResultColumn]>,
    schema: SchemaRef,
    /// Whether the plan's columns have other names than those of `schema`.
    renamed: bool,
    point: Option<PointRead>,
}

impl QueryPlan {
    /// Plans a query.
    pub(crate) fn new<'a>(
        state: &SessionState,
        names: impl Fn() -> Names<'a> + Copy,
        query: ast::Statement,
        given: &[SqlType],
    ) -> Result<Self> {
        check_expansion(&query)?;
        let mut query = query;
        let names_to_show = OutputNames::give(&mut query);
        scientific_as_double(&mut query);
        let (query, with_system) = show_system_columns(query, false)?;
        let plan_with = |types: &[SqlType]| -> Result<(LogicalPlan, Vec<UsedTable>)> {
            let planner = Planner::new(state, names(), with_system);
            let plan = SqlToRel::new_with_options(&planner, parser_options())
                .sql_statement_to_plan_with_context(query.clone(), &mut params::planner_context(types))
                .map_err(from_datafusion)?;
            Ok((plan, planner.used_tables()))
        };
        let parameter_types = if given.is_empty() {
            Vec::new()
        } else {
            params::reconcile(plan_with(&vec![SqlType::Null; given.len()]).map(|(plan, _)| plan), given)?
        };
        let (plan, tables) = plan_with(&parameter_types)?;
        Self::from_logical(state, plan, tables, parameter_types).map(|plan| plan.showing(&names_to_show))
    }

    /// Takes a plan as SQL made it.
    pub(crate) fn from_logical(
        state: &SessionState,
        plan: LogicalPlan,
        tables: Vec<UsedTable>,
        parameter_types: Vec<SqlType>,
    ) -> Result<Self> {
        let plan = uuid_text::in_plan(bind_statement_values(plan)?).map_err(from_datafusion)?;
        let plan = float_compare::in_plan(plan).map_err(from_datafusion)?;
        let plan = in_lists::in_plan(plan).map_err(from_datafusion)?;
        let plan = state.optimize(&plan).map_err(from_datafusion)?;
        let schema: SchemaRef = Arc::clone(plan.schema().inner());
        let point = PointRead::recognise(&plan)?;
        let columns = result_columns(&schema);
        Ok(Self { tables, columns, schema, renamed: false, point, plan, parameter_types })
    }

    /// The same with the names that its columns are to be shown by.
    pub(crate) fn showing(mut self, names: &OutputNames) -> Self {
        if let Some(schema) = names.shown(&self.schema) {
            self.columns = result_columns(&schema);
            self.schema = schema;
            self.renamed = true;
        }
        self
    }

    /// Whether it is a read by key.
    pub(crate) fn is_point_read(&self) -> bool {
        self.point.is_some()
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The types of its parameters.
    pub(crate) fn parameter_types(&self) -> &[SqlType] {
        &self.parameter_types
    }

    /// The condition that rows of its one table must meet, as it was optimised, over the table's unqualified columns; `None`:
    /// every row is read. Of a query that reads no row whatever there is, it is `false`.
    pub(crate) fn filter(&self) -> DataFusionResult<Option<Expr>> {
        let (mut conditions, mut reads) = (Vec::new(), false);
        self.plan.apply(|node| {
            match node {
                LogicalPlan::Filter(filter) => conditions.push(filter.predicate.clone()),
                LogicalPlan::TableScan(scan) => {
                    reads = true;
                    conditions.extend(scan.filters.iter().cloned());
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !reads {
            return Ok(Some(lit(false)));
        }
        conjunction(conditions).map(strip_qualifiers).transpose()
    }

    pub(crate) fn columns(&self) -> &Arc<[ResultColumn]> {
        &self.columns
    }
}

/// Runs a planned query.
pub(crate) async fn run_query(
    shared: &Arc<Shared>,
    context: Arc<StatementContext>,
    query: &QueryPlan,
    parameters: &[Parameter],
    deadline: Option<Instant>,
) -> Result<RowStream> {
    let values = params::convert(parameters, &query.parameter_types)?;
    if let Some(point) = &query.point {
        let read = point.read(&context, &values, &query.schema);
        let batch = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, read).await.map_err(|_| timed_out())??,
            None => read.await?,
        };
        return Ok(RowStream::ready(Arc::clone(&query.columns), batch));
    }
    Box::pin(run_plan(shared, context, query, values, deadline)).await
}

/// Runs a planned query on the context's snapshot: a read by key, too, which else may see what was written since.
pub(crate) async fn run_on_snapshot(
    shared: &Arc<Shared>,
    context: Arc<StatementContext>,
    query: &QueryPlan,
    parameters: &[Parameter],
    deadline: Option<Instant>,
) -> Result<RowStream> {
    let values = params::convert(parameters, &query.parameter_types)?;
    Box::pin(run_plan(shared, context, query, values, deadline)).await
}

/// Runs a plan on the query threads.
async fn run_plan(
    shared: &Arc<Shared>,
    context: Arc<StatementContext>,
    query: &QueryPlan,
    values: Vec<ScalarValue>,
    deadline: Option<Instant>,
) -> Result<RowStream> {
    let turn = shared.runtime.turn().await?;
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    let plan = query.plan.clone();
    let renamed = query.renamed.then(|| Arc::clone(&query.schema));
    let template = Arc::clone(&shared.template);
    let environment = shared.runtime.environment();
    let work = shared.runtime.spawn(async move {
        let _turn = turn;
        if let Err(error) = send_batches(template, environment, context, plan, renamed, &values, &sender).await {
            // A reader that is gone needs no error.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(RowStream::running(Arc::clone(&query.columns), Arc::clone(&query.schema), batches, work, deadline))
}

async fn send_batches(
    template: Arc<SessionState>,
    environment: Arc<datafusion::execution::runtime_env::RuntimeEnv>,
    context: Arc<StatementContext>,
    plan: LogicalPlan,
    renamed: Option<SchemaRef>,
    values: &[ScalarValue],
    sender: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let plan = bind_parameters(plan, &Bindings::new(values, context.now_us, context.caller.effective_user()))?;
    let mut session = StatementSession::new(template, context, environment);
    let physical =
        datafusion::catalog::Session::create_physical_plan(&session, &plan).await.map_err(from_datafusion)?;
    if passes_rows_on(physical.as_ref()) {
        session.pass_rows_on();
    }
    let tasks = datafusion::catalog::Session::task_ctx(&session);
    let mut stream = execute_stream(physical, tasks).map_err(from_datafusion)?;
    while let Some(batch) = stream.next().await {
        let mut batch = batch.map_err(from_datafusion)?;
        if let Some(renamed) = &renamed {
            batch = with_names_of(renamed, batch)?;
        }
        if batch.num_rows() > 0 && sender.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a plan gathers no rows: they go from its scans to whoever reads them, batch by batch.
fn passes_rows_on(plan: &dyn ExecutionPlan) -> bool {
    plan.properties().emission_type == EmissionType::Incremental
        && plan.children().into_iter().all(|child| passes_rows_on(child.as_ref()))
}

/// The same batch, its columns named as those of `schema`.
fn with_names_of(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let schema = with_names(&batch.schema(), names);
    let rows = batch.num_rows();
    batch_of(&schema, batch.columns().to_vec(), rows).map_err(from_datafusion)
}

/// Runs a planned query to its end, holding all its rows.
///
/// # Errors
/// WRITE_TOO_LARGE when they are more than one statement may write.
pub(crate) async fn collect_query(
    shared: &Arc<Shared>,
    context: Arc<StatementContext>,
    query: &QueryPlan,
    parameters: &[Parameter],
    deadline: Option<Instant>,
) -> Result<Vec<RecordBatch>> {
    let mut rows = run_query(shared, context, query, parameters, deadline).await?;
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        bytes += batch.get_array_memory_size();
        // Arrow needs several times the bytes of encoded rows; the exact check follows when they are encoded.
        if bytes > shared.settings.max_write_bytes.saturating_mul(4) {
            return Err(super::write::too_large(shared.settings.max_write_bytes));
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// The most copies of a common table expression that a plan may come to hold.
const MAX_EXPANSION: u64 = 10_000;

/// Refuses queries whose common table expressions multiply: DataFusion plans each once for each place that names it,
/// so that twenty of them, each naming the one before twice, would be a million.
fn check_expansion(query: &ast::Statement) -> Result<()> {
    #[derive(Default)]
    struct Count {
        defined: HashSet<String>,
        named: HashMap<String, u64>,
    }
    impl Visitor for Count {
        type Break = ();
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
            let names = query.with.iter().flat_map(|w| &w.cte_tables).map(|c| c.alias.name.value.to_ascii_lowercase());
            self.defined.extend(names);
            ControlFlow::Continue(())
        }
        fn pre_visit_relation(&mut self, name: &ast::ObjectName) -> ControlFlow<()> {
            if let [ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() {
                *self.named.entry(name.value.to_ascii_lowercase()).or_default() += 1;
            }
            ControlFlow::Continue(())
        }
    }
    let mut count = Count::default();
    let _ = Visit::visit(query, &mut count);
    let copies = count.defined.iter().filter_map(|name| count.named.get(name)).fold(1_u64, |a, b| a.saturating_mul(*b));
    if copies > MAX_EXPANSION {
        return Err(Error::new(
            Reason::NestingTooDeep,
            "The common table expressions of WITH name each other so often that the plan would hold too many copies. Name \
             each fewer times, or keep what they compute in a table.",
        )
        .with("limit", "the copies of common table expressions"));
    }
    Ok(())
}

/// Makes numbers in scientific notation, such as `1e308`, DOUBLE: as decimals most would be out of range.
pub(crate) fn scientific_as_double(node: &mut impl VisitMut) {
    let _: ControlFlow<()> = ast::visit_expressions_mut(node, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Number(text, _) = &value.value
            && text.contains(['e', 'E'])
        {
            *expr = ast::Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(ast::Expr::value(ast::Value::SingleQuotedString(text.clone()))),
                data_type: ast::DataType::Double(ast::ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    });
}

/// Whether a query is to be planned over hidden columns, too: if it names one, or `always`. If so, `*` in it is made to
/// leave them out.
pub(crate) fn show_system_columns(mut query: ast::Statement, always: bool) -> Result<(ast::Statement, bool)> {
    if !always && !names_system_column(&query) {
        return Ok((query, false));
    }
    match VisitMut::visit(&mut query, &mut HideFromWildcards) {
        ControlFlow::Continue(()) => Ok((query, true)),
        ControlFlow::Break(error) => Err(error),
    }
}

const HIDDEN: [&str; 3] = [SEQ_COLUMN, UPDATED_COLUMN, DELETED_COLUMN];

/// Whether an expression or a query names `_seq`, `_updated` or `_deleted`.
pub(crate) fn names_system_column(node: &impl Visit) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            let last = match expr {
                ast::Expr::Identifier(ident) => Some(ident),
                ast::Expr::CompoundIdentifier(parts) => parts.last(),
                _ => None,
            };
            match last {
                Some(ident) if HIDDEN.iter().any(|h| ident.value.eq_ignore_ascii_case(h)) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    node.visit(&mut Find).is_break()
}

struct HideFromWildcards;

impl VisitorMut for HideFromWildcards {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        let one_table = matches!(
            select.from.as_slice(),
            [ast::TableWithJoins { relation: ast::TableFactor::Table { .. }, joins }] if joins.is_empty()
        );
        for item in &mut select.projection {
            let (ast::SelectItem::Wildcard(options) | ast::SelectItem::QualifiedWildcard(_, options)) = item else {
                continue;
            };
            if !one_table || options.opt_except.is_some() || options.opt_exclude.is_some() {
                return ControlFlow::Break(Error::new(
                    Reason::InvalidStatement,
                    "A query that names _seq, _updated or _deleted can use * only over a single table. Name the columns.",
                ));
            }
            let [first, rest @ ..] = HIDDEN.map(ast::Ident::new);
            options.opt_except =
                Some(ast::ExceptSelectItem { first_element: first, additional_elements: rest.to_vec() });
        }
        ControlFlow::Continue(())
    }
}
