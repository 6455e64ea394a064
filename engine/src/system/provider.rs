//! A system table as a DataFusion table: its rows are made when it is scanned.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::Result as DataFusionResult,
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};

use crate::{exec::StatementContext, system::TableDefinition};

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

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let context = state
            .config()
            .get_extension::<StatementContext>()
            .ok_or_else(|| DataFusionError::Internal("a scan outside any statement".to_owned()))?;
        let rows = (self.definition.rows)(&context).map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], Arc::clone(&self.schema), projection.cloned())?)
    }
}
