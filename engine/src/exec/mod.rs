//! Running statements: planning, reading, writing.
//!
//! A statement takes one snapshot and one state of the catalog ([`StatementContext`]). Queries become DataFusion
//! plans, kept in the plan cache, over [`scan`]s of the hot tier; reads and writes by primary key skip DataFusion.
//! Writes are evaluated to rows here and handed to the committer, which orders and checks them ([`write`]).

mod assignment;
pub(crate) mod backup;
pub(crate) mod cold;
mod compact;
mod context;
mod ddl;
mod delete;
mod describe;
mod dml;
mod errors;
mod export;
mod expr;
mod float_compare;
mod guarded_scan;
mod hot_image;
mod in_lists;
mod ingest;
mod insert;
mod insert_values;
mod key_filter;
mod leakproof;
mod maintenance;
mod memory;
mod on_conflict;
mod output;
mod output_names;
mod params;
mod plan_cache;
mod planner;
mod point_read;
mod query;
mod returning;
mod runtime;
mod scan;
mod show;
mod snapshots;
mod sorted_tiers;
mod source;
mod statement;
mod statement_session;
mod stats;
mod update;
mod uuid_text;
mod write;
mod yielding;

pub(crate) use cold::{ColdTables, ColdTier, MarkCache};
pub(crate) use context::{Services, SnapshotSource, StatementContext};
pub(crate) use ddl::{
    alter_namespace, alter_storage, create_namespace, create_storage, drop_namespace, drop_storage, drop_table,
};
pub use describe::StatementDescription;
pub(crate) use describe::describe;
pub(crate) use errors::{from_commit, from_datafusion, from_segment, from_store};
pub(crate) use export::begin as begin_export;
pub(crate) use expr::{RowExpr, physical_expr, qualified};
pub(crate) use hot_image::HotImages;
pub(crate) use ingest::IngestMemory;
pub use ingest::{IfExists, IfMissing, IngestOptions, IngestOutcome, IngestTarget, value_bytes};
pub use output::{Body, ResultColumn, RowStream, StatementOutput};
pub(crate) use output::{result_columns, timed_out};
pub(crate) use output_names::OutputNames;
pub use params::Parameter;
pub(crate) use params::{
    check_count, convert as convert_parameters, planner_context, reconcile, types_of as parameter_types,
};
pub(crate) use plan_cache::{CachedStatement, Caches, ParsedBatch, Plan};
pub(crate) use planner::{Names, Planner, parser_options};
pub(crate) use point_read::value_of;
pub(crate) use query::{QueryPlan, run_on_snapshot, scientific_as_double, show_system_columns};
pub(crate) use runtime::{QueryRuntime, template_state};
pub(crate) use scan::{batch_of, corrupt};
pub(crate) use snapshots::{LogPin, LogPins, SnapshotGuard, SnapshotRegistry};
pub(crate) use source::decode_column;

pub(crate) use statement::{Invocation, run};
pub(crate) use stats::count as count_tiers;
pub use stats::{PartitionStats, TableStats, TierStats};
pub(crate) use write::{ConflictTurns, commit, encode as encode_whole_rows};
