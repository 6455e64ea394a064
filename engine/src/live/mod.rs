//! Live queries: a query's rows, then every change of them.

mod event;
mod info;
mod request;

pub use event::{ChangeKind, CommitChanges, LiveChange, LiveEnd, LiveEvent, RowImage};
pub use info::{LiveQueryId, LiveQueryInfo};
pub use request::{InitialRows, LiveOptions, LiveQueryRequest, SlowConsumer};
