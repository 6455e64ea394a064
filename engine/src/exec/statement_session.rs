//! A DataFusion session for one statement: the engine's template plus what is of this statement alone.
//!
//! DataFusion's own `SessionState` would have to be cloned with its several hundred functions for each statement;
//! this refers to them.

use std::{any::Any, collections::HashMap, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProviderList, Session},
    common::{DFSchema, Result as DataFusionResult, config::TableOptions},
    execution::{SessionState, TaskContext, config::SessionConfig, runtime_env::RuntimeEnv},
    logical_expr::{
        AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, WindowUDF, execution_props::ExecutionProps,
        registry::ExtensionTypeRegistryRef,
    },
    physical_expr::PhysicalExpr,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner},
};

use crate::exec::StatementContext;

/// Rows of a batch that is only passed on. Several batches of each scan are on their way at a time, so that their size is the
/// memory of a reader; what is computed from them gains nothing by larger ones.
const PASSED_ON_ROWS: usize = 2_048;

/// The template's settings for plans that only pass rows on, made once: each statement shares them.
pub(crate) struct PassingOn(SessionConfig);

impl PassingOn {
    /// A template's settings with these beside.
    pub(crate) fn beside(config: SessionConfig) -> SessionConfig {
        let passing_on = Self(config.clone().with_batch_size(PASSED_ON_ROWS));
        config.with_extension(Arc::new(passing_on))
    }
}

/// The session of one statement.
pub(crate) struct StatementSession {
    template: Arc<SessionState>,
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
}

impl StatementSession {
    pub(crate) fn new(template: Arc<SessionState>, context: Arc<StatementContext>, runtime: Arc<RuntimeEnv>) -> Self {
        let config = template.config().clone().with_extension(context);
        Self { template, config, runtime }
    }

    /// From here on batches are as large as is good for a plan that only passes rows on.
    pub(crate) fn pass_rows_on(&mut self) {
        let context = self.config.get_extension::<StatementContext>();
        if let (Some(passing_on), Some(context)) = (self.config.get_extension::<PassingOn>(), context) {
            self.config = passing_on.0.clone().with_extension(context);
        }
    }
}

#[async_trait]
impl Session for StatementSession {
    fn session_id(&self) -> &str {
        self.template.session_id()
    }

    fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn catalog_list(&self) -> Arc<dyn CatalogProviderList> {
        Arc::clone(self.template.catalog_list())
    }

    fn optimize(&self, plan: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
        self.template.optimize(plan)
    }

    fn physical_optimizers(&self) -> &[Arc<dyn PhysicalOptimizerRule + Send + Sync>] {
        self.template.physical_optimizers()
    }

    /// Plans are optimised once, when they enter the plan cache.
    async fn create_physical_plan(&self, plan: &LogicalPlan) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::default().create_physical_plan(plan, self).await
    }

    fn create_physical_expr(&self, expr: Expr, schema: &DFSchema) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        self.template.create_physical_expr(expr, schema)
    }

    fn scalar_functions(&self) -> &HashMap<String, Arc<ScalarUDF>> {
        self.template.scalar_functions()
    }

    fn higher_order_functions(&self) -> &HashMap<String, Arc<HigherOrderUDF>> {
        self.template.higher_order_functions()
    }

    fn aggregate_functions(&self) -> &HashMap<String, Arc<AggregateUDF>> {
        self.template.aggregate_functions()
    }

    fn window_functions(&self) -> &HashMap<String, Arc<WindowUDF>> {
        self.template.window_functions()
    }

    fn extension_type_registry(&self) -> &ExtensionTypeRegistryRef {
        Session::extension_type_registry(self.template.as_ref())
    }

    fn runtime_env(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    fn execution_props(&self) -> &ExecutionProps {
        self.template.execution_props()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_options(&self) -> &TableOptions {
        self.template.table_options()
    }

    /// Table options are of file formats, which statements cannot name; nothing calls this.
    fn table_options_mut(&mut self) -> &mut TableOptions {
        Arc::make_mut(&mut self.template).table_options_mut()
    }

    fn task_ctx(&self) -> Arc<TaskContext> {
        Arc::new(TaskContext::new(
            None,
            self.template.session_id().to_owned(),
            self.config.clone(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::clone(&self.runtime),
        ))
    }
}
