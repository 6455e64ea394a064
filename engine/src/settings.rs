//! What an [`Engine`](crate::Engine) can be told: plain values only; replaceable parts are arguments of
//! [`Engine::open`](crate::Engine::open).

use std::path::PathBuf;

use kalamdb_store::{kv::Durability, object::SecretKey};

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
    /// Footers, page indexes and key filters of segments that are kept in memory. Default: 64 MiB.
    pub segment_cache_bytes: u64,
    /// Checksums of segments that are kept in memory. Default: 8 MiB.
    pub checksum_cache_bytes: u64,
    /// Deletion marks of segments that are kept in memory. Default: 32 MiB.
    pub mark_cache_bytes: u64,
    /// Images of the hot rows of partitions that are scanned often.
    pub hot_image: HotImageSettings,
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
    /// Folders below which FILESYSTEM storages may be. Default: none but the folder `storage` of the data directory.
    pub storage_roots: Vec<PathBuf>,
    /// Folders below which EXPORT may write; of each, role user has `users/<its id>`. Default: none.
    pub export_roots: Vec<PathBuf>,
    /// Folders below which backups may be. Default: none.
    pub backup_roots: Vec<PathBuf>,
    /// The key that the credentials of storages are encrypted with; without one, no storage can have any. Default: none.
    pub storage_secret_key: Option<SecretKey>,
    /// How long one request to a storage may take, and the check of a new one. Default: 30.
    pub storage_request_timeout_s: u64,
    /// How often a request to a storage is repeated that failed for a reason that can pass. Default: 5.
    pub storage_max_retries: usize,
    /// Flushes: rows of the hot tier to segments.
    pub flush: FlushSettings,
    /// Compactions: segments to fewer segments.
    pub compaction: CompactionSettings,
    /// Bulk ingests.
    pub ingest: IngestSettings,
    /// Live queries, and how long the changes that they resume from are kept.
    pub live: LiveSettings,
    /// Users, their credentials, and how they are checked.
    pub users: UserSettings,
    /// The audit.
    pub audit: AuditSettings,
    /// This node's number in SNOWFLAKE_ID(), 0 to 1,023; two servers that share clients' ids need two numbers.
    /// Default: 0.
    pub node_id: u16,
}

/// Which hot rows are kept in memory as columns, beside where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotImageSettings {
    /// Memory of all images; one has at most half of it; 0: none are made. While one is made or brought up to date, up to
    /// half as much again. Default: 128 MiB.
    pub bytes: u64,
    /// A partition with fewer hot rows gets none. Default: 1,000.
    pub min_rows: u64,
    /// About how many rows are made anew when one of them changes. Default: 8,192.
    pub chunk_rows: usize,
}

impl Default for HotImageSettings {
    fn default() -> Self {
        Self { bytes: 128 * 1024 * 1024, min_rows: 1_000, chunk_rows: 8_192 }
    }
}

/// How tables are flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushSettings {
    /// A partition of a USER table with fewer rows is not worth a file and stays hot. Default: 1,000.
    pub min_partition_rows: u64,
    /// A partition is flushed nevertheless when one of its rows was written longer ago. Default: 86,400.
    pub max_partition_age_s: u64,
    /// A segment's file is finished when it has about this size. Default: 64 MiB.
    pub segment_bytes: usize,
    /// The most rows of a segment. Default: 1,048,576.
    pub segment_rows: u32,
    /// Tables flushed at a time. Default: 1.
    pub concurrency: usize,
    /// How often a flush tries partitions again that failed for a reason that can pass. Default: 5.
    pub max_retries: u32,
    /// How long it waits before it does so the first time; it waits twice as long each time, 30 s at most. Default: 500.
    pub retry_interval_ms: u64,
}

impl Default for FlushSettings {
    fn default() -> Self {
        Self {
            min_partition_rows: 1_000,
            max_partition_age_s: 86_400,
            segment_bytes: 64 * 1024 * 1024,
            segment_rows: 1_048_576,
            concurrency: 1,
            max_retries: 5,
            retry_interval_ms: 500,
        }
    }
}

/// How segments are compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Whether tables are compacted without being asked to. Default: true.
    pub automatic: bool,
    /// So many small segments of a partition are merged, and so many that overlap. Default: 8.
    pub min_segments: usize,
    /// A segment with a smaller file is small. Default: 16 MiB.
    pub small_segment_bytes: u64,
    /// A segment is rewritten when more of its rows were changed or deleted, in percent. Default: 20.
    pub max_deleted_percent: u64,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self { automatic: true, min_segments: 8, small_segment_bytes: 16 * 1024 * 1024, max_deleted_percent: 20 }
    }
}

/// Bounds of bulk ingests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestSettings {
    /// Bytes of rows that are written at once: the most of an ingest that is atomic. For a moment it takes about five times
    /// as much memory. Default: 256 MiB.
    pub max_bytes: usize,
    /// Bytes of rows that all ingests under way hold together; further ones fail with TOO_MANY_REQUESTS. Default: 1 GiB.
    pub max_total_bytes: usize,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self { max_bytes: 256 * 1024 * 1024, max_total_bytes: 1024 * 1024 * 1024 }
    }
}

/// Bounds of live queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// Live queries at a time; further ones fail with TOO_MANY_LIVE_QUERIES. Default: 200,000.
    pub max_queries: usize,
    /// Live queries of one user at a time. Default: 10,000.
    pub max_queries_per_user: usize,
    /// Live queries of one call. The engine knows no calls; whoever serves them sees to it. Default: 100.
    pub max_queries_per_call: usize,
    /// Changes that wait for one subscriber, in bytes. What happens to one that is slower is its own choice: it ends with
    /// SLOW_CONSUMER, or its changes merge. Default: 1 MiB.
    pub queue_bytes: usize,
    /// Threads that read changes and match them with queries; 0: half as many as cores, at least one. Default: 0.
    pub threads: usize,
    /// For how long at least a live query can be resumed: changes that are older are given up. Default: 86,400.
    pub log_retention_s: u64,
    /// The oldest changes are given up earlier when all of them together have more than about so many bytes, as they
    /// are before compression. On disk there can be as much again that is given up and not yet removed.
    /// Default: 1 GiB.
    pub log_retention_bytes: u64,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            max_queries: 200_000,
            max_queries_per_user: 10_000,
            max_queries_per_call: 100,
            queue_bytes: 1024 * 1024,
            threads: 0,
            log_retention_s: 86_400,
            log_retention_bytes: 1024 * 1024 * 1024,
        }
    }
}

/// How users are kept and their credentials checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSettings {
    /// Users, API keys and sessions that are kept in memory, decoded. Default: 48 MiB.
    pub cache_bytes: u64,
    /// Memory that hashing a password takes, of argon2id. Default: 19,456 KiB.
    pub password_memory_kib: u32,
    /// Passes over that memory. Default: 2.
    pub password_iterations: u32,
    /// Lanes of that memory. Default: 1.
    pub password_parallelism: u32,
    /// Passwords hashed at a time; 0: half as many as there are cores, at least one. Default: 0.
    pub password_concurrency: usize,
    /// Passwords being hashed, and waiting for that; further ones fail with TOO_MANY_REQUESTS. Default: 256.
    pub max_waiting_passwords: usize,
    /// Characters that a new password has at least. Default: 8.
    pub min_password_chars: usize,
    /// Open sessions of a user; a further one closes the one that would end first. Default: 100.
    pub max_sessions_per_user: usize,
    /// How often it is written who logged in and which keys were used. Default: 1,000.
    pub activity_interval_ms: u64,
    /// How exact the last use of an API key is. Default: 60.
    pub key_use_resolution_s: u64,
}

impl UserSettings {
    pub(crate) fn key_use_resolution_us(&self) -> i64 {
        i64::try_from(self.key_use_resolution_s).unwrap_or(i64::MAX).saturating_mul(1_000_000)
    }
}

impl Default for UserSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 48 * 1024 * 1024,
            password_memory_kib: 19_456,
            password_iterations: 2,
            password_parallelism: 1,
            password_concurrency: 0,
            max_waiting_passwords: 256,
            min_password_chars: 8,
            max_sessions_per_user: 100,
            activity_interval_ms: 1_000,
            key_use_resolution_s: 60,
        }
    }
}

/// How much of the audit is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Records of administration; as many of refusals and of acting for users are kept beside them. Default: 50,000.
    pub max_records: usize,
    /// Older records are removed. Default: 90 days.
    pub max_age_s: u64,
    /// A refusal of a caller, and that it acts for a certain user, are recorded once in so long. Default: 60.
    pub notice_interval_s: u64,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { max_records: 50_000, max_age_s: 90 * 24 * 60 * 60, notice_interval_s: 60 }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            storage: StorageSettings::Memory,
            durability: Durability::Sync,
            write_buffer_bytes: 64 * MIB,
            block_cache_bytes: 256 * MIB,
            segment_cache_bytes: 64 * MIB as u64,
            checksum_cache_bytes: 8 * MIB as u64,
            mark_cache_bytes: 32 * MIB as u64,
            hot_image: HotImageSettings::default(),
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
            storage_roots: Vec::new(),
            export_roots: Vec::new(),
            backup_roots: Vec::new(),
            storage_secret_key: None,
            storage_request_timeout_s: 30,
            storage_max_retries: 5,
            flush: FlushSettings::default(),
            compaction: CompactionSettings::default(),
            ingest: IngestSettings::default(),
            live: LiveSettings::default(),
            users: UserSettings::default(),
            audit: AuditSettings::default(),
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
