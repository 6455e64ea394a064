//! Bulk ingest: streams of Arrow record batches into a table, with the guarantees of INSERT.
//!
//! ```text
//! batches ─▶ lots ─▶ [ cast · defaults · NOT NULL · row rules · encode ] ─▶ part ─▶ sort keys ─▶ search both tiers ─▶ commit
//!           one at        several at a time, on the query threads         all, or up
//!           a time                                                     to a bound of bytes
//! ```
//!
//! An atomic ingest is one part, one commit, and bounded by `ingest.max_bytes`. Any other is committed in parts while the
//! next one is being made. Of a row nothing is done in the committer that can be done before: see
//! [`kalamdb_store::commit::BulkRows`].
//!
//! | module | what is there |
//! | --- | --- |
//! | [`target`] | what is asked for, and the answer |
//! | [`run`] | one ingest from its first batch to its last commit |
//! | [`columns`] | which column of the data goes where, and its conversion |
//! | [`lot`] | a number of rows, encoded |
//! | [`part`] | what goes into one commit, by partition and key |
//! | [`existing`] | keys that are there already |
//! | [`create`] | the table for rows that have none yet |
//! | [`size`] | how large values are, written out |
//! | [`memory`] | bounds of what all ingests hold together |

mod columns;
mod create;
mod existing;
mod lot;
mod memory;
mod part;
mod run;
mod size;
mod target;

pub(crate) use memory::IngestMemory;
pub use size::value_bytes;
pub use target::{IfExists, IfMissing, IngestOptions, IngestOutcome, IngestTarget};
