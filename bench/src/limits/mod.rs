//! The physical limits that workloads are compared with, each without any database around it.

pub(crate) mod broadcast;
mod child;
pub(crate) mod datafusion;
pub(crate) mod echo;
pub(crate) mod flight;
pub(crate) mod parquet;
pub(crate) mod rocks;
