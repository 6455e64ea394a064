//! Running statements: planning, reading, writing.
//!
//! A statement takes one snapshot and one state of the catalog ([`StatementContext`]). Queries become DataFusion
//! plans, kept in the plan cache, over [`scan`]s of the hot tier; reads and writes by primary key skip DataFusion.
//! Writes are evaluated to rows here and handed to the committer, which orders and checks them ([`write`]).

mod context;
mod ddl;
mod delete;
mod dml;
mod errors;
mod expr;
mod in_lists;
mod insert;
mod key_filter;
mod memory;
mod output;
mod params;
mod plan_cache;
mod planner;
mod point_read;
mod query;
mod returning;
mod runtime;
mod scan;
mod show;
mod source;
mod statement;
mod statement_session;
mod update;
mod write;
mod yielding;

pub(crate) use context::StatementContext;
pub(crate) use ddl::{alter_namespace, create_namespace, drop_namespace, drop_table};
pub(crate) use errors::{from_commit, from_datafusion, from_store};
pub(crate) use expr::physical_expr;
pub(crate) use output::timed_out;
pub use output::{Body, ResultColumn, RowStream, StatementOutput};
pub use params::Parameter;
pub(crate) use params::check_count;
pub(crate) use plan_cache::{Caches, ParsedBatch};
pub(crate) use planner::{Planner, parser_options};
pub(crate) use runtime::{QueryRuntime, template_state};
pub(crate) use scan::corrupt;

pub(crate) use statement::{Invocation, run};
pub(crate) use write::{ConflictTurns, commit};
