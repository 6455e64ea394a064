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
