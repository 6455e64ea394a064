//! What an [`Engine`](crate::Engine) can be told: plain values only; replaceable parts are arguments of
//! [`Engine::open`](crate::Engine::open).

use std::path::PathBuf;

use kalamdb_store::kv::Durability;

/// Where an engine keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageSettings {
    /// In RocksDB below this data directory, which is created when it does not exist.
    Directory(PathBuf),
    /// In memory, gone when the engine is dropped: for tests.
    Memory,
}

/// Settings of an engine. [`Default`] gives the values that each field names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Where the data is. Default: memory.
    pub storage: StorageSettings,
    /// When a write is acknowledged. Default: sync.
    pub durability: Durability,
    /// RocksDB's write buffers, all together. Default: 64 MiB.
    pub write_buffer_bytes: usize,
    /// RocksDB's block cache. Default: 256 MiB.
    pub block_cache_bytes: usize,
    /// Writes are refused with DISK_FULL while less than this is free where the data is. Default: 64 MiB.
    pub min_free_disk_bytes: u64,
    /// Threads that run DataFusion plans; 0: one for each core. Default: 0.
    pub query_threads: usize,
    /// Memory of one query; beyond it, it spills to disk where its operators can, and fails with
    /// QUERY_MEMORY_EXCEEDED where they cannot. Default: 256 MiB.
    pub query_memory_bytes: usize,
    /// Memory of all queries together. Default: 1 GiB.
    pub total_query_memory_bytes: usize,
    /// Where queries spill; `None`: below the data directory, or the system's temporary folder for one in memory.
    pub spill_dir: Option<PathBuf>,
    /// Disk space for spilling, all queries together. Default: 8 GiB.
    pub max_spill_bytes: u64,
    /// DataFusion plans under way at once; further ones wait, then fail with TOO_MANY_REQUESTS. Default: 64.
    pub max_concurrent_queries: usize,
    /// Length of one batch of statements. Default: 1 MiB.
    pub max_statement_bytes: usize,
    /// Statements in one batch. Default: 1,000.
    pub max_statements_per_batch: usize,
    /// Parameters of one batch. Default: 32,767.
    pub max_parameters: usize,
    /// Nesting of parentheses and expressions. Default: 200.
    pub max_nesting_depth: usize,
    /// Bytes of rows that one statement may write. Default: 64 MiB.
    pub max_write_bytes: usize,
    /// Default and upper bound of a request's time-out; 0: none. Default: 60,000.
    pub statement_timeout_ms: u64,
    /// Statements whose plan is kept. Default: 1,024.
    pub plan_cache_entries: u64,
    /// How often expired rows of STREAM tables are removed from disk (they are invisible at once). Default: 5,000.
    pub stream_expiry_interval_ms: u64,
    /// This node's number in SNOWFLAKE_ID(), 0 to 1,023; two servers that share clients' ids need two numbers.
    /// Default: 0.
    pub node_id: u16,
}

impl Default for EngineSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            storage: StorageSettings::Memory,
            durability: Durability::Sync,
            write_buffer_bytes: 64 * MIB,
            block_cache_bytes: 256 * MIB,
            min_free_disk_bytes: 64 * MIB as u64,
            query_threads: 0,
            query_memory_bytes: 256 * MIB,
            total_query_memory_bytes: 1024 * MIB,
            spill_dir: None,
            max_spill_bytes: 8 * 1024 * MIB as u64,
            max_concurrent_queries: 64,
            max_statement_bytes: MIB,
            max_statements_per_batch: 1_000,
            max_parameters: 32_767,
            max_nesting_depth: 200,
            max_write_bytes: 64 * MIB,
            statement_timeout_ms: 60_000,
            plan_cache_entries: 1_024,
            stream_expiry_interval_ms: 5_000,
            node_id: 0,
        }
    }
}

/// One row of `system.settings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingInfo {
    /// Dotted key, such as `limits.max_result_rows`.
    pub name: String,
    /// Value in effect; secrets are redacted before they come here.
    pub value: String,
    /// `default`, `file`, `environment` or `flag`.
    pub source: String,
    /// What it does.
    pub description: String,
}
