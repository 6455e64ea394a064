//! Storage of KalamDB: everything between rows in memory and bytes on disk. It knows no SQL.
//!
//! * [`kv`]: the [`kv::StorageBackend`] trait and its two implementations, RocksDB and an ordered in-memory store.
//! * [`codec`]: keys, rows and log entries to bytes and back. No key is built outside this module.
//! * [`commit`]: the committer, the only writer of rows. It validates and orders prepared commits and makes many of
//!   them durable with one disk sync.
//! * [`data_dir`]: the data directory, its format version and its lock.
//! * [`segment`]: the cold tier's Parquet files: written, read, verified.
//! * [`object`]: storages, which are the places of those files, and the paths in them.
//! * [`ids`]: the identifiers that all of these share.

pub mod codec;
pub mod commit;
pub mod data_dir;
pub mod ids;
pub mod kv;
pub mod object;
pub mod segment;

pub use codec::*;
pub use commit::*;
pub use data_dir::*;
pub use ids::*;
pub use kv::*;
pub use segment::*;
