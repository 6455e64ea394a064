//! Live queries: a query's rows, then every change of them, in order, without a gap, for as long as anybody listens.
//!
//! The change log of the store is the only source of changes. [`feed`] reads it for all subscribers of a partition,
//! [`matcher`] decides what of it concerns a query, [`query`] is a subscriber's own view.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`subscribe`] | what sessions offer |
//! | [`compile`] | from the text to a filter and a projection |
//! | [`query`] | rows, catching up, following the feed |
//! | [`hub`] | all live queries; what the committer tells |
//! | [`feed`], [`tail`], [`index`], [`query_class`] | dealing out the changes of a partition |
//! | [`decoded`], [`matcher`] | log entries to Arrow, and what of them a query shows |
//! | [`subscriber`], [`coalesce`] | bounded queues |
//! | [`idle`] | progress of queries that wait |
//! | [`token`] | where to resume |

mod coalesce;
mod compile;
mod decoded;
mod event;
mod feed;
mod handle;
mod hub;
mod idle;
mod index;
mod info;
mod matcher;
mod query;
mod query_class;
mod request;
mod subscribe;
mod subscriber;
mod tail;
mod token;

pub use event::{ChangeKind, CommitChanges, LiveChange, LiveEnd, LiveEvent, RowImage};
pub use handle::LiveQueryHandle;
pub use hub::LiveCounters;
pub(crate) use hub::LiveHub;
pub use idle::IdleProgress;
pub use info::{LiveQueryId, LiveQueryInfo};
pub use query::LiveQuery;
pub use request::{InitialRows, LiveOptions, LiveQueryRequest, SlowConsumer};
pub(crate) use subscribe::{kill_live_query, sees_only};
pub use token::ResumeToken;
