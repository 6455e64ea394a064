//! The sections of the configuration, with their defaults. Meanings and ranges are in [`super::keys`].

use std::{fmt, path::PathBuf};

use kalamdb_engine::{
    AuditSettings, CompactionSettings, Durability, EngineSettings, FlushSettings, HotImageSettings, IngestSettings,
    LiveSettings, Role, SecretKey, StorageSettings, UserSettings,
};
use serde::{Deserialize, Serialize};

const MIB: usize = 1024 * 1024;

/// A configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct Config {
    pub server: ServerSection,
    pub storage: StorageSection,
    pub paths: PathsSection,
    pub auth: AuthSection,
    pub tls: TlsSection,
    pub limits: LimitsSection,
    pub query: QuerySection,
    pub flush: FlushSection,
    pub compaction: CompactionSection,
    pub live: LiveSection,
    pub flight: FlightSection,
    pub ingest: IngestSection,
    pub audit: AuditSection,
    pub shutdown: ShutdownSection,
    pub log: LogSection,
    pub cors: CorsSection,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct ServerSection {
    pub listen: String,
    pub dev: bool,
    pub dev_user: String,
    pub dev_role: RoleName,
    pub worker_threads: usize,
    pub node_id: u16,
    pub max_connections: usize,
    pub max_concurrent_streams: u32,
    pub keepalive_interval_ms: u64,
    pub keepalive_timeout_ms: u64,
    pub stream_window_kb: u32,
    pub connection_window_kb: u32,
    pub shutdown_grace_ms: u64,
    pub metrics_access: MetricsAccess,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:2900".to_owned(),
            dev: false,
            dev_user: "system".to_owned(),
            dev_role: RoleName::System,
            worker_threads: 0,
            node_id: 0,
            max_connections: 10_000,
            max_concurrent_streams: 1_024,
            keepalive_interval_ms: 30_000,
            keepalive_timeout_ms: 20_000,
            stream_window_kb: 1_024,
            connection_window_kb: 4_096,
            shutdown_grace_ms: 10_000,
            metrics_access: MetricsAccess::Loopback,
        }
    }
}

/// `[storage]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct StorageSection {
    pub backend: BackendName,
    pub data_dir: String,
    pub durability: DurabilityName,
    pub write_buffer_mb: usize,
    pub block_cache_mb: usize,
    pub segment_cache_mb: u64,
    pub checksum_cache_mb: u64,
    pub mark_cache_mb: u64,
    pub hot_image_mb: u64,
    pub min_free_disk_mb: u64,
    pub stream_expiry_interval_ms: u64,
    pub roots: Vec<String>,
    pub secret_key: SecretText,
    pub request_timeout_s: u64,
    pub max_retries: usize,
}

/// A text that is not shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The text. Not to be logged or answered.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "redacted" })
    }
}

impl Default for StorageSection {
    fn default() -> Self {
        Self {
            backend: BackendName::Rocksdb,
            data_dir: "kalamdb-data".to_owned(),
            durability: DurabilityName::Sync,
            write_buffer_mb: 64,
            block_cache_mb: 256,
            segment_cache_mb: 64,
            checksum_cache_mb: 8,
            mark_cache_mb: 32,
            hot_image_mb: 128,
            min_free_disk_mb: 64,
            stream_expiry_interval_ms: 5_000,
            roots: Vec::new(),
            secret_key: SecretText::default(),
            request_timeout_s: 30,
            max_retries: 5,
        }
    }
}

/// `[paths]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct PathsSection {
    pub export_roots: Vec<String>,
    pub backup_roots: Vec<String>,
}

/// `[auth]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct AuthSection {
    pub jwt_secret: SecretText,
    pub jwt_keys: Vec<String>,
    pub jwks_file: String,
    pub jwks_url: String,
    pub jwks_algorithms: Vec<JwtAlgorithm>,
    pub jwks_refresh_s: u64,
    pub jwks_min_interval_s: u64,
    pub jwks_timeout_ms: u64,
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub leeway_s: u64,
    pub max_token_bytes: usize,
    pub token_cache_entries: u64,
    pub token_lifetime_s: u64,
    pub refresh_lifetime_s: u64,
    pub unknown_users: UnknownUsers,
    pub max_failures_per_address: u32,
    pub max_failures_per_account: u32,
    pub failure_window_s: u64,
    pub user_cache_mb: u64,
    pub min_password_chars: usize,
    pub password_memory_kb: u32,
    pub password_iterations: u32,
    pub password_concurrency: usize,
    pub max_sessions_per_user: usize,
}

impl Default for AuthSection {
    fn default() -> Self {
        Self {
            jwt_secret: SecretText::default(),
            jwt_keys: Vec::new(),
            jwks_file: String::new(),
            jwks_url: String::new(),
            jwks_algorithms: vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa],
            jwks_refresh_s: 300,
            jwks_min_interval_s: 10,
            jwks_timeout_ms: 5_000,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_s: 30,
            max_token_bytes: 8_192,
            token_cache_entries: 50_000,
            token_lifetime_s: 900,
            refresh_lifetime_s: 30 * 86_400,
            unknown_users: UnknownUsers::Refuse,
            max_failures_per_address: 60,
            max_failures_per_account: 10,
            failure_window_s: 60,
            user_cache_mb: 48,
            min_password_chars: 8,
            password_memory_kb: 19_456,
            password_iterations: 2,
            password_concurrency: 0,
            max_sessions_per_user: 100,
        }
    }
}

/// `[tls]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct TlsSection {
    pub cert_file: String,
    pub key_file: String,
    pub client_ca_file: String,
    pub client_auth: ClientAuth,
    pub client_identity: ClientIdentity,
    pub required: bool,
    pub handshake_timeout_ms: u64,
    pub reload_interval_ms: u64,
}

impl TlsSection {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            cert_file: String::new(),
            key_file: String::new(),
            client_ca_file: String::new(),
            client_auth: ClientAuth::None,
            client_identity: ClientIdentity::None,
            required: false,
            handshake_timeout_ms: 10_000,
            reload_interval_ms: 1_000,
        }
    }
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct LimitsSection {
    pub max_concurrent_calls: usize,
    pub max_request_bytes: usize,
    pub max_result_bytes: usize,
    pub max_result_rows: u64,
    pub max_statement_bytes: usize,
    pub max_statements_per_batch: usize,
    pub max_parameters: usize,
    pub max_nesting_depth: usize,
    pub max_write_bytes: usize,
    pub statement_timeout_ms: u64,
    pub user_calls_per_s: u32,
    pub user_call_burst: u32,
    pub user_concurrent_calls: usize,
    pub user_streams: usize,
    pub address_calls_per_s: u32,
    pub address_call_burst: u32,
    pub address_concurrent_calls: usize,
    pub address_streams: usize,
    pub address_connections: usize,
    pub max_tracked: usize,
    pub exempt_loopback: bool,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            max_concurrent_calls: 10_000,
            max_request_bytes: 64 * MIB,
            // Most gRPC clients refuse messages of more than 4 MiB unless told otherwise.
            max_result_bytes: 4_000_000,
            max_result_rows: 100_000,
            max_statement_bytes: MIB,
            max_statements_per_batch: 1_000,
            max_parameters: 32_767,
            max_nesting_depth: 200,
            max_write_bytes: 64 * MIB,
            statement_timeout_ms: 60_000,
            // What a person with several devices does not reach. Services are not limited as users.
            user_calls_per_s: 1_000,
            user_call_burst: 2_000,
            user_concurrent_calls: 500,
            user_streams: 200,
            // What a back end, or the users behind one router, do not reach.
            address_calls_per_s: 20_000,
            address_call_burst: 40_000,
            address_concurrent_calls: 5_000,
            address_streams: 10_000,
            address_connections: 2_000,
            max_tracked: 100_000,
            exempt_loopback: true,
        }
    }
}

/// `[query]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct QuerySection {
    pub threads: usize,
    pub max_concurrent: usize,
    pub memory_mb: usize,
    pub total_memory_mb: usize,
    pub spill_dir: String,
    pub max_spill_mb: u64,
    pub plan_cache_entries: u64,
}

impl Default for QuerySection {
    fn default() -> Self {
        Self {
            threads: 0,
            max_concurrent: 64,
            memory_mb: 256,
            total_memory_mb: 1_024,
            spill_dir: String::new(),
            max_spill_mb: 8_192,
            plan_cache_entries: 1_024,
        }
    }
}

/// `[flush]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct FlushSection {
    pub min_partition_rows: u64,
    pub max_partition_age_s: u64,
    pub segment_mb: usize,
    pub segment_rows: u32,
    pub concurrency: usize,
    pub max_retries: u32,
    pub retry_interval_ms: u64,
}

impl Default for FlushSection {
    fn default() -> Self {
        Self {
            min_partition_rows: 1_000,
            max_partition_age_s: 86_400,
            segment_mb: 64,
            segment_rows: 1_048_576,
            concurrency: 1,
            max_retries: 5,
            retry_interval_ms: 500,
        }
    }
}

/// `[compaction]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct CompactionSection {
    pub automatic: bool,
    pub min_segments: usize,
    pub small_segment_mb: u64,
    pub max_deleted_percent: u64,
}

impl Default for CompactionSection {
    fn default() -> Self {
        Self { automatic: true, min_segments: 8, small_segment_mb: 16, max_deleted_percent: 20 }
    }
}

/// `[live]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct LiveSection {
    pub max_queries: usize,
    pub max_queries_per_user: usize,
    pub max_queries_per_call: usize,
    pub queue_bytes: usize,
    pub threads: usize,
    pub log_retention_s: u64,
    pub log_retention_bytes: u64,
}

impl Default for LiveSection {
    fn default() -> Self {
        Self {
            max_queries: 200_000,
            max_queries_per_user: 10_000,
            max_queries_per_call: 100,
            queue_bytes: MIB,
            threads: 0,
            log_retention_s: 86_400,
            log_retention_bytes: 1024 * MIB as u64,
        }
    }
}

/// `[flight]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct FlightSection {
    pub max_message_bytes: usize,
    pub max_handle_bytes: usize,
    pub ticket_lifetime_s: u64,
    pub session_lifetime_s: u64,
    pub max_sessions: u64,
}

impl Default for FlightSection {
    fn default() -> Self {
        Self {
            // Clients send a batch as one message, and a frame of pandas as one batch.
            max_message_bytes: 256 * MIB,
            max_handle_bytes: 2 * MIB,
            ticket_lifetime_s: 3_600,
            session_lifetime_s: 43_200,
            max_sessions: 10_000,
        }
    }
}

/// `[ingest]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct IngestSection {
    pub max_bytes: usize,
    pub max_total_bytes: usize,
}

impl Default for IngestSection {
    fn default() -> Self {
        let defaults = IngestSettings::default();
        Self { max_bytes: defaults.max_bytes, max_total_bytes: defaults.max_total_bytes }
    }
}

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct AuditSection {
    pub max_records: usize,
    pub max_age_s: u64,
    pub notice_interval_s: u64,
}

impl Default for AuditSection {
    fn default() -> Self {
        Self { max_records: 50_000, max_age_s: 90 * 86_400, notice_interval_s: 60 }
    }
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct ShutdownSection {
    pub flush_timeout_s: u64,
}

impl Default for ShutdownSection {
    fn default() -> Self {
        // With the grace for calls, and a little for the rest, less than the 30 s after which Kubernetes kills.
        Self { flush_timeout_s: 15 }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct LogSection {
    pub format: LogFormat,
    pub level: String,
    pub data_size_interval_s: u64,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, level: "info".to_owned(), data_size_interval_s: 300 }
    }
}

/// `[cors]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each key is documented once, in `keys`")]
pub struct CorsSection {
    pub allowed_origins: Vec<String>,
    pub max_age_s: u64,
}

impl Default for CorsSection {
    fn default() -> Self {
        Self { allowed_origins: Vec::new(), max_age_s: 3_600 }
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// The name as it is written in a configuration.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! {
    /// Where the data is kept.
    BackendName {
        /// In `storage.data_dir`.
        Rocksdb = "rocksdb",
        /// In memory: gone when the server stops.
        Memory = "memory",
    }
}

names! {
    /// When a write is acknowledged.
    DurabilityName {
        /// After its log record is on disk.
        Sync = "sync",
        /// After its log record is handed to the operating system.
        Async = "async",
    }
}

names! {
    /// How log lines are written.
    LogFormat {
        /// For people.
        Pretty = "pretty",
        /// One JSON object a line.
        Json = "json",
    }
}

names! {
    /// A role.
    RoleName {
        /// See [`Role::User`].
        User = "user",
        /// See [`Role::Service`].
        Service = "service",
        /// See [`Role::Dba`].
        Dba = "dba",
        /// See [`Role::System`].
        System = "system",
    }
}

names! {
    /// An algorithm that tokens are signed with.
    JwtAlgorithm {
        /// HMAC with SHA-256: whoever can verify a token can make one.
        Hs256 = "HS256",
        /// RSA, PKCS #1 v1.5, with SHA-256.
        Rs256 = "RS256",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

names! {
    /// What becomes of `x-user-id` that names no user.
    UnknownUsers {
        /// The call is refused.
        Refuse = "refuse",
        /// The call acts for it.
        Accept = "accept",
    }
}

names! {
    /// Whether clients show a certificate.
    ClientAuth {
        /// They are not asked for one.
        None = "none",
        /// They may; a wrong one is refused.
        Optional = "optional",
        /// They must.
        Required = "required",
    }
}

names! {
    /// What names the user in a client's certificate.
    ClientIdentity {
        /// Nothing.
        None = "none",
        /// The subject's common name.
        CommonName = "common_name",
        /// A URI among the subject's alternative names.
        Uri = "uri",
    }
}

names! {
    /// Who may read metrics.
    MetricsAccess {
        /// This machine; others need a credential.
        Loopback = "loopback",
        /// Whoever has a credential.
        Credential = "credential",
        /// Everybody.
        Open = "open",
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::User => Role::User,
            RoleName::Service => Role::Service,
            RoleName::Dba => Role::Dba,
            RoleName::System => Role::System,
        }
    }
}

impl Config {
    /// What the engine is told.
    pub fn engine_settings(&self) -> EngineSettings {
        let mib = |mb: usize| mb.saturating_mul(MIB);
        let mib_u64 = |mb: u64| mb.saturating_mul(MIB as u64);
        EngineSettings {
            storage: match self.storage.backend {
                BackendName::Rocksdb => StorageSettings::Directory(PathBuf::from(&self.storage.data_dir)),
                BackendName::Memory => StorageSettings::Memory,
            },
            durability: match self.storage.durability {
                DurabilityName::Sync => Durability::Sync,
                DurabilityName::Async => Durability::Async,
            },
            write_buffer_bytes: mib(self.storage.write_buffer_mb),
            block_cache_bytes: mib(self.storage.block_cache_mb),
            segment_cache_bytes: mib_u64(self.storage.segment_cache_mb),
            checksum_cache_bytes: mib_u64(self.storage.checksum_cache_mb),
            mark_cache_bytes: mib_u64(self.storage.mark_cache_mb),
            hot_image: HotImageSettings { bytes: mib_u64(self.storage.hot_image_mb), ..HotImageSettings::default() },
            min_free_disk_bytes: mib_u64(self.storage.min_free_disk_mb),
            query_threads: self.query.threads,
            query_memory_bytes: mib(self.query.memory_mb),
            total_query_memory_bytes: mib(self.query.total_memory_mb),
            spill_dir: (!self.query.spill_dir.is_empty()).then(|| PathBuf::from(&self.query.spill_dir)),
            max_spill_bytes: mib_u64(self.query.max_spill_mb),
            max_concurrent_queries: self.query.max_concurrent,
            max_statement_bytes: self.limits.max_statement_bytes,
            max_statements_per_batch: self.limits.max_statements_per_batch,
            max_parameters: self.limits.max_parameters,
            max_nesting_depth: self.limits.max_nesting_depth,
            max_write_bytes: self.limits.max_write_bytes,
            statement_timeout_ms: self.limits.statement_timeout_ms,
            plan_cache_entries: self.query.plan_cache_entries,
            stream_expiry_interval_ms: self.storage.stream_expiry_interval_ms,
            storage_roots: self.storage.roots.iter().map(PathBuf::from).collect(),
            export_roots: self.paths.export_roots.iter().map(PathBuf::from).collect(),
            backup_roots: self.paths.backup_roots.iter().map(PathBuf::from).collect(),
            // Checked before; an empty one is none.
            storage_secret_key: SecretKey::from_base64(self.storage.secret_key.expose()).ok(),
            storage_request_timeout_s: self.storage.request_timeout_s,
            storage_max_retries: self.storage.max_retries,
            flush: FlushSettings {
                min_partition_rows: self.flush.min_partition_rows,
                max_partition_age_s: self.flush.max_partition_age_s,
                segment_bytes: mib(self.flush.segment_mb),
                segment_rows: self.flush.segment_rows,
                concurrency: self.flush.concurrency,
                max_retries: self.flush.max_retries,
                retry_interval_ms: self.flush.retry_interval_ms,
            },
            compaction: CompactionSettings {
                automatic: self.compaction.automatic,
                min_segments: self.compaction.min_segments,
                small_segment_bytes: mib_u64(self.compaction.small_segment_mb),
                max_deleted_percent: self.compaction.max_deleted_percent,
            },
            ingest: IngestSettings { max_bytes: self.ingest.max_bytes, max_total_bytes: self.ingest.max_total_bytes },
            live: LiveSettings {
                max_queries: self.live.max_queries,
                max_queries_per_user: self.live.max_queries_per_user,
                max_queries_per_call: self.live.max_queries_per_call,
                queue_bytes: self.live.queue_bytes,
                threads: self.live.threads,
                log_retention_s: self.live.log_retention_s,
                log_retention_bytes: self.live.log_retention_bytes,
            },
            users: UserSettings {
                cache_bytes: mib_u64(self.auth.user_cache_mb),
                password_memory_kib: self.auth.password_memory_kb,
                password_iterations: self.auth.password_iterations,
                password_concurrency: self.auth.password_concurrency,
                min_password_chars: self.auth.min_password_chars,
                max_sessions_per_user: self.auth.max_sessions_per_user,
                ..UserSettings::default()
            },
            audit: AuditSettings {
                max_records: self.audit.max_records,
                max_age_s: self.audit.max_age_s,
                notice_interval_s: self.audit.notice_interval_s,
            },
            node_id: self.server.node_id,
        }
    }
}
