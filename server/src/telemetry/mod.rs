//! Logs and metrics.

pub(crate) mod build;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod rpc;
pub(crate) mod sizes;
