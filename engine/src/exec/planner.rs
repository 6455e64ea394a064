//! Names to tables and functions, for DataFusion's SQL planner.

use std::{cell::RefCell, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, FieldRef, SchemaRef},
    common::{DFSchema, Result as DataFusionResult, TableReference, plan_datafusion_err},
    config::ConfigOptions,
    datasource::{cte_worktable::CteWorkTable, provider_as_source},
    error::DataFusionError,
    execution::SessionState,
    logical_expr::{
        AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF,
        planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner},
    },
    optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext},
    sql::{planner::ParserOptions, sqlparser::ast},
};

use crate::{
    access::{self, RowRule, Viewer},
    catalog::{CatalogState, Table},
    error::{Error, Reason, Result},
    exec::source::TableRows,
    sql::TableScope,
    system,
    types::SqlType,
};

/// How SQL expressions are read: `1.5` is an exact decimal, text is Utf8View, positions are kept for errors.
pub(crate) fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_collect_spans(true)
        .with_map_string_types_to_utf8view(true)
}

/// A table that a plan reads or writes, under which scope, and which of its rows: those that the rules of whoever the plan
/// was made for let through. A plan serves others only as far as they have the same rules.
#[derive(Debug, Clone)]
pub(crate) struct UsedTable {
    pub(crate) table: Arc<Table>,
    pub(crate) scope: TableScope,
    /// `None`: all rows.
    pub(crate) rule: Option<Arc<RowRule>>,
}

/// Where a statement's names are looked up.
pub(crate) struct Names<'a> {
    pub(crate) catalog: &'a CatalogState,
    pub(crate) viewer: &'a Viewer,
    /// Namespace of unqualified names.
    pub(crate) namespace: Option<&'a str>,
}

impl Names<'_> {
    /// The table that a name in a statement means, checked against the caller's rights.
    pub(crate) fn table(&self, name: &crate::sql::TableName) -> Result<UsedTable> {
        let namespace = name.namespace.as_ref().map(|n| n.text.as_str());
        self.resolve(namespace, name.scope, &name.table.text).map_err(|e| match name.table.position {
            Some(position) => e.at(position),
            None => e,
        })
    }

    fn resolve(&self, namespace: Option<&str>, scope: TableScope, name: &str) -> Result<UsedTable> {
        let namespace = self.namespace_or_default(namespace, name)?;
        let visible = |table: &Table| access::may_see_table(self.viewer, table);
        let table = self.catalog.table(namespace, name, visible)?;
        let visible = access::may_use_table(self.viewer, table, scope)?;
        Ok(UsedTable { table: Arc::clone(table), scope, rule: visible.rule().map(Arc::clone) })
    }

    pub(crate) fn namespace_or_default<'n>(&'n self, namespace: Option<&'n str>, table: &str) -> Result<&'n str> {
        namespace.or(self.namespace).ok_or_else(|| {
            Error::new(
                Reason::NamespaceRequired,
                format!("Table \"{table}\" has no namespace. Write namespace.{table}, or set the request's namespace."),
            )
            .with("table", table)
        })
    }
}

/// Looks up tables and functions, noting which tables a statement uses.
pub(crate) struct Planner<'a> {
    state: &'a SessionState,
    /// `None`: no table can be named.
    names: Option<Names<'a>>,
    /// Whether tables show their hidden columns.
    with_system: bool,
    used: RefCell<Vec<UsedTable>>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(state: &'a SessionState, names: Names<'a>, with_system: bool) -> Self {
        Self { state, names: Some(names), with_system, used: RefCell::new(Vec::new()) }
    }

    /// For expressions that stand outside any query.
    pub(crate) fn functions_only(state: &'a SessionState) -> Self {
        Self { state, names: None, with_system: false, used: RefCell::new(Vec::new()) }
    }

    pub(crate) fn state(&self) -> &'a SessionState {
        self.state
    }

    /// The tables looked up so far.
    pub(crate) fn used_tables(self) -> Vec<UsedTable> {
        self.used.into_inner()
    }

    /// A table as a source of rows, noted as used.
    pub(crate) fn source(&self, used: UsedTable, with_system: bool) -> Arc<dyn TableSource> {
        self.used.borrow_mut().push(used.clone());
        provider_as_source(Arc::new(TableRows::new(used, with_system)))
    }

    fn table_source(&self, name: &TableReference) -> Result<Arc<dyn TableSource>> {
        let (namespace, scope, table) = match name {
            TableReference::Bare { table } => (None, TableScope::Caller, table),
            TableReference::Partial { schema, table } => (Some(schema.as_ref()), TableScope::Caller, table),
            TableReference::Full { catalog, schema, table } => match schema.as_ref() {
                "user" => (Some(catalog.as_ref()), TableScope::ActingUser, table),
                "all_users" => (Some(catalog.as_ref()), TableScope::AllUsers, table),
                _ => {
                    return Err(Error::new(
                        Reason::InvalidStatement,
                        format!(
                            "'{name}' has three parts; write namespace.table, namespace.user.table or namespace.all_users.table."
                        ),
                    ));
                }
            },
        };
        let Some(names) = &self.names else {
            return Err(Error::new(Reason::InvalidStatement, "A query cannot stand here."));
        };
        let in_namespace = names.namespace_or_default(namespace, table)?;
        if system::is_system_namespace(in_namespace)
            && scope == TableScope::Caller
            && let Some(provider) = system::provider(in_namespace, table)
        {
            return Ok(provider_as_source(provider));
        }
        let used = names.resolve(namespace, scope, table)?;
        Ok(self.source(used, self.with_system))
    }
}

/// The dialect's types in CAST, so that a name means there what it means in CREATE TABLE. Types that are texts with a
/// check are left to DataFusion, which refuses them: a cast to them would check nothing.
#[derive(Debug)]
struct DialectTypes;

impl TypePlanner for DialectTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        Ok(match crate::sql::sql_type(sql_type) {
            Ok(SqlType::Uuid | SqlType::Json | SqlType::Interval) | Err(_) => None,
            Ok(known) => Some(Arc::new(known.to_field("cast", true))),
        })
    }
}

impl ContextProvider for Planner<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        self.table_source(&name).map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> DataFusionResult<Arc<dyn TableSource>> {
        let function =
            self.state.table_functions().get(name).ok_or_else(|| plan_datafusion_err!("Invalid function '{name}'"))?;
        let simplifier = ExprSimplifier::new(
            SimplifyContext::builder().with_config_options(Arc::clone(self.state.config_options())).build(),
        );
        let schema = DFSchema::empty();
        let args = args
            .into_iter()
            .map(|arg| simplifier.coerce(arg, &schema).and_then(|e| simplifier.simplify(e)))
            .collect::<DataFusionResult<Vec<_>>>()?;
        let provider =
            function.create_table_provider_with_args(datafusion::catalog::TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DataFusionResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(DialectTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
