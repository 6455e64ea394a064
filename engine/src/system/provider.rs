//! A system table as a DataFusion table: its rows are made when it is scanned.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::Result as DataFusionResult,
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};

use crate::{
    access,
    exec::StatementContext,
    system::{TableDefinition, users},
};

/// The rows of a system table, as they concern whoever scans it.
#[derive(Debug)]
pub(crate) struct SystemRows {
    definition: &'static TableDefinition,
    schema: SchemaRef,
}

impl SystemRows {
    pub(crate) fn new(definition: &'static TableDefinition) -> Self {
        Self { definition, schema: definition.schema() }
    }
}

#[async_trait]
impl TableProvider for SystemRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let support = if users::looks_up(self.definition) {
            TableProviderFilterPushDown::Inexact
        } else {
            TableProviderFilterPushDown::Unsupported
        };
        Ok(vec![support; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let context = state
            .config()
            .get_extension::<StatementContext>()
            .ok_or_else(|| DataFusionError::Internal("a scan outside any statement".to_owned()))?;
        let TableDefinition { namespace, name, rows, .. } = self.definition;
        let rows = access::may_read_system_table(&context.caller, namespace, name).and_then(|()| {
            if users::looks_up(self.definition) { users::matching(&context, filters) } else { rows(&context) }
        });
        let rows = rows.map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], Arc::clone(&self.schema), projection.cloned())?)
    }
}
