//! Every key of the configuration: what it means and what it may be.

/// A key.
pub(crate) struct Key {
    /// Dotted name.
    pub(crate) name: &'static str,
    /// Meaning, with unit.
    pub(crate) description: &'static str,
    /// Least and greatest value of a number.
    pub(crate) range: Option<(u64, u64)>,
    /// Whether its value is never shown.
    pub(crate) secret: bool,
}

const fn key(name: &'static str, description: &'static str) -> Key {
    Key { name, description, range: None, secret: false }
}

const fn secret(name: &'static str, description: &'static str) -> Key {
    Key { name, description, range: None, secret: true }
}

const fn number(name: &'static str, min: u64, max: u64, description: &'static str) -> Key {
    Key { name, description, range: Some((min, max)), secret: false }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const MAX_AGE_S: u64 = 100 * 365 * 24 * 60 * 60;
/// More than any machine has, less than what overflows when turned into bytes.
const MAX_MB: u64 = 1 << 40;

/// All keys, section by section.
pub(crate) const KEYS: &[Key] = &[
    key("server.listen", "Address and port of gRPC, gRPC-web, Connect and /metrics; port 0 takes a free one"),
    key("server.dev", "Accept calls from this machine without a credential: for development only"),
    key("server.dev_user", "The user such calls are made by"),
    key("server.dev_role", "The role of that user: user, service, dba or system"),
    number("server.worker_threads", 0, 1_024, "Threads that serve calls; 0: one for each core"),
    number("server.node_id", 0, 1_023, "This node's number in SNOWFLAKE_ID()"),
    number("server.max_connections", 1, 1_000_000, "Connections at once; further ones are closed at once"),
    number("server.max_concurrent_streams", 1, 1_000_000, "Calls at once on one HTTP/2 connection"),
    number("server.keepalive_interval_ms", 1_000, DAY_MS, "How often a quiet HTTP/2 connection is pinged"),
    number(
        "server.keepalive_timeout_ms",
        100,
        DAY_MS,
        "How long a ping may stay unanswered before the connection ends",
    ),
    number("server.stream_window_kb", 64, 1_048_576, "HTTP/2 flow control window of a call, in KiB"),
    number("server.connection_window_kb", 64, 1_048_576, "HTTP/2 flow control window of a connection, in KiB"),
    number("server.shutdown_grace_ms", 0, DAY_MS, "How long calls may go on after SIGTERM before they are ended"),
    key(
        "server.metrics_access",
        "Who may GET /metrics: loopback (this machine; others with a credential of role service, dba or system), \
         credential (nobody without one) or open (everybody)",
    ),
    key("storage.backend", "Where the data is: rocksdb (in storage.data_dir) or memory (gone when the server stops)"),
    key("storage.data_dir", "Folder of the data; created when it does not exist"),
    key(
        "storage.durability",
        "sync: a write is acknowledged once it is on disk. async: once the system has it; a crash \
         of the machine can lose the last moments",
    ),
    number("storage.write_buffer_mb", 1, MAX_MB, "RocksDB's write buffers, all together, in MiB"),
    number("storage.block_cache_mb", 1, MAX_MB, "RocksDB's block cache, in MiB"),
    number("storage.segment_cache_mb", 1, MAX_MB, "Cache of segments' footers, page indexes and key filters, in MiB"),
    number("storage.checksum_cache_mb", 1, MAX_MB, "Cache of segments' checksums, in MiB"),
    number("storage.mark_cache_mb", 0, MAX_MB, "Cache of segments' deletion marks, in MiB"),
    number("storage.hot_image_mb", 0, MAX_MB, "Images of the hot rows of partitions that are scanned often, in MiB"),
    number("storage.min_free_disk_mb", 0, MAX_MB, "Writes are refused with DISK_FULL while less is free, in MiB"),
    number("storage.stream_expiry_interval_ms", 100, DAY_MS, "How often expired rows of STREAM tables are removed"),
    key(
        "storage.roots",
        "Folders below which FILESYSTEM storages may be; empty: the folder storage of the data folder only",
    ),
    secret(
        "storage.secret_key",
        "Key that the credentials of storages are encrypted with, 32 random bytes in base64; empty: storages have none",
    ),
    number(
        "storage.request_timeout_s",
        1,
        300,
        "How long one request to a storage may take, and the check of a new storage",
    ),
    number(
        "storage.max_retries",
        0,
        20,
        "How often a request to a storage is repeated that failed for a reason that can pass",
    ),
    key(
        "paths.export_roots",
        "Folders below which EXPORT may write, the first for paths that are not absolute; of each, users have users/<id> \
         only. Empty: EXPORT writes to storages only",
    ),
    key(
        "paths.backup_roots",
        "Folders below which backups may be, the first for paths that are not absolute. Empty: backups are in storages only",
    ),
    secret(
        "auth.jwt_secret",
        "Text that tokens of algorithm HS256 are signed with, 32 bytes at least; empty: no such tokens",
    ),
    key(
        "auth.jwt_keys",
        "Public keys of those whose tokens are accepted, each as ALGORITHM=FILE or ALGORITHM:KEY_ID=FILE, such as \
         RS256:2026=/etc/kalamdb/issuer.pem; algorithms are RS256, ES256 and EdDSA, files PEM",
    ),
    key("auth.jwks_file", "File with such keys as a JSON Web Key Set; read again when it changes. Empty: none"),
    key(
        "auth.jwks_url",
        "Address of such a set: https, or http on this machine. Fetched in the background, and when a token names a key \
         that is not in it. Empty: none",
    ),
    key("auth.jwks_algorithms", "Algorithms of the keys of sets; keys of others are left out"),
    number("auth.jwks_refresh_s", 1, 86_400, "How often a set is fetched without cause"),
    number("auth.jwks_min_interval_s", 1, 3_600, "How long to wait at least before fetching it again with cause"),
    number("auth.jwks_timeout_ms", 10, 60_000, "How long fetching it may take"),
    key("auth.issuers", "Issuers (claim iss) whose tokens are accepted; empty: tokens are accepted whatever they say"),
    key("auth.audiences", "Tokens are accepted that are for one of these (claim aud); empty: whomever they are for"),
    number("auth.leeway_s", 0, 300, "How far the clocks of issuers may be wrong, in seconds"),
    number("auth.max_token_bytes", 256, 24_576, "Length of a token; longer ones are refused"),
    number("auth.token_cache_entries", 0, 10_000_000, "Tokens that are kept as verified until they expire"),
    number("auth.token_lifetime_s", 1, 86_400, "How long an access token that Login gives is valid"),
    number("auth.refresh_lifetime_s", 60, MAX_AGE_S, "How long a refresh token that Login gives is valid"),
    key(
        "auth.unknown_users",
        "What x-user-id may name: refuse (users of this server only) or accept (also ids that only the calling service \
         knows)",
    ),
    number(
        "auth.max_failures_per_address",
        0,
        1_000_000,
        "Failed attempts from one address (of IPv6: one /64 network) in auth.failure_window_s; further ones are refused \
         unseen. 0: any number",
    ),
    number(
        "auth.max_failures_per_account",
        0,
        1_000_000,
        "Wrong passwords for one account in auth.failure_window_s; further ones are refused unseen. 0: any number",
    ),
    number("auth.failure_window_s", 1, 86_400, "How long failed attempts count"),
    number("auth.user_cache_mb", 1, MAX_MB, "Users, API keys and sessions that are kept in memory, in MiB"),
    number("auth.min_password_chars", 1, 1_024, "Characters that a new password has at least"),
    number("auth.password_memory_kb", 8, 4_194_304, "Memory that checking a password takes (argon2id), in KiB"),
    number("auth.password_iterations", 1, 1_000, "Passes over that memory"),
    number(
        "auth.password_concurrency",
        0,
        1_024,
        "Passwords checked at a time; 0: half as many as cores, at least one",
    ),
    number(
        "auth.max_sessions_per_user",
        1,
        100_000,
        "Sessions of a user; a further one closes the one that would end first",
    ),
    key("tls.cert_file", "PEM file with the server's certificate, and those between it and its root; empty: no TLS"),
    key("tls.key_file", "PEM file with the key of that certificate"),
    key("tls.client_ca_file", "PEM file with the certificates that clients' certificates are signed by"),
    key("tls.client_auth", "Whether clients show a certificate: none, optional or required"),
    key(
        "tls.client_identity",
        "What names the user in a client's certificate: none (a certificate is no credential), common_name, or uri (a \
         subject alternative name kalamdb:user:<id>)",
    ),
    key("tls.required", "Refuse to start without TLS on an address that other machines can reach"),
    number("tls.handshake_timeout_ms", 100, 60_000, "How long a client may take for the TLS handshake"),
    number(
        "tls.reload_interval_ms",
        100,
        DAY_MS,
        "How often it is looked whether the files of TLS, and auth.jwks_file, have changed",
    ),
    number("limits.max_concurrent_calls", 1, 1_000_000, "Calls under way at once; further ones get TOO_MANY_REQUESTS"),
    number("limits.max_request_bytes", 1_024, 2_147_483_647, "Size of one request message"),
    number("limits.max_result_bytes", 1_024, 2_147_483_647, "Size of the rows that Execute answers with"),
    number("limits.max_result_rows", 1, u64::MAX, "Number of rows that Execute answers with"),
    number("limits.max_statement_bytes", 16, 2_147_483_647, "Length of the SQL text of one request"),
    number("limits.max_statements_per_batch", 1, 1_000_000, "Statements in one request"),
    number("limits.max_parameters", 1, 1_000_000, "Parameters of one request"),
    number("limits.max_nesting_depth", 8, 10_000, "Nesting of parentheses and expressions"),
    number("limits.max_write_bytes", 1_024, 2_147_483_647, "Bytes of rows that one statement may write"),
    number(
        "limits.statement_timeout_ms",
        0,
        DAY_MS,
        "Time-out of a request that gives none, and the longest one it may \
         give; 0: none",
    ),
    number(
        "limits.user_calls_per_s",
        0,
        1_000_000_000,
        "Calls of one user in a second, on average; 0: no limit. Roles service, dba and system are not limited as users",
    ),
    number("limits.user_call_burst", 1, 1_000_000_000, "Calls of one user that may come at once"),
    number("limits.user_concurrent_calls", 0, 1_000_000, "Unary calls of one user under way; 0: no limit"),
    number("limits.user_streams", 0, 1_000_000, "Streams of one user: ExecuteStream, Subscribe; 0: no limit"),
    number(
        "limits.address_calls_per_s",
        0,
        1_000_000_000,
        "Calls from one address in a second, on average, whoever makes them; 0: no limit. The addresses of a network of \
         IPv6 that has one owner (/64) are one",
    ),
    number("limits.address_call_burst", 1, 1_000_000_000, "Calls from one address that may come at once"),
    number("limits.address_concurrent_calls", 0, 1_000_000, "Unary calls from one address under way; 0: no limit"),
    number("limits.address_streams", 0, 1_000_000, "Streams to one address; 0: no limit"),
    number(
        "limits.address_connections",
        0,
        1_000_000,
        "Connections of one address; further ones are closed at once. 0: no limit",
    ),
    number(
        "limits.max_tracked",
        1_000,
        10_000_000,
        "Users, and addresses, whose calls are counted one by one; when more call at a time, the rest share one count",
    ),
    key(
        "limits.exempt_loopback",
        "Whether calls from this machine are not limited by user and address. Set it to false when a proxy on this \
         machine passes on the calls of others",
    ),
    number("query.threads", 0, 1_024, "Threads that run DataFusion plans; 0: one for each core"),
    number(
        "query.max_concurrent",
        1,
        100_000,
        "Queries run by DataFusion at once; further ones wait, then get TOO_MANY_REQUESTS",
    ),
    number("query.memory_mb", 1, MAX_MB, "Memory of one query, in MiB; beyond it, it spills to disk or fails"),
    number("query.total_memory_mb", 1, MAX_MB, "Memory of all queries together, in MiB"),
    key("query.spill_dir", "Folder that queries spill to; empty: below the data folder"),
    number("query.max_spill_mb", 0, MAX_MB, "Disk space for spilling, all queries together, in MiB"),
    number("query.plan_cache_entries", 0, 1_000_000, "Statements whose plan is kept"),
    number(
        "flush.min_partition_rows",
        1,
        1_000_000_000,
        "A user's partition with fewer rows is not worth a file: a flush leaves it in the hot tier",
    ),
    number(
        "flush.max_partition_age_s",
        1,
        MAX_AGE_S,
        "A partition is flushed nevertheless when one of its rows was written longer ago, in seconds",
    ),
    number("flush.segment_mb", 1, 1_024, "About the most MiB of a segment's file"),
    number("flush.segment_rows", 1_000, 16_777_216, "The most rows of a segment"),
    number("flush.concurrency", 1, 64, "Tables flushed at a time"),
    number(
        "flush.max_retries",
        0,
        100,
        "How often a flush tries partitions again that failed for a reason that can pass",
    ),
    number(
        "flush.retry_interval_ms",
        1,
        60_000,
        "How long it waits before the first time; each time twice as long, 30 s at most",
    ),
    key("compaction.automatic", "Compact tables without being asked to; COMPACT TABLE works in any case"),
    number("compaction.min_segments", 2, 1_000, "So many small, or overlapping, segments of a partition are merged"),
    number("compaction.small_segment_mb", 0, 1_024, "A segment with a smaller file is small, in MiB"),
    number(
        "compaction.max_deleted_percent",
        0,
        100,
        "A segment is rewritten when more of its rows were changed or deleted",
    ),
    number("live.max_queries", 0, 10_000_000, "Live queries at once; further ones get TOO_MANY_LIVE_QUERIES"),
    number("live.max_queries_per_user", 0, 10_000_000, "Live queries of one user at once"),
    number("live.max_queries_per_call", 1, 10_000, "Live queries of one call of Subscribe"),
    number(
        "live.queue_bytes",
        1_024,
        1_073_741_824,
        "Bytes of changes that wait for one live query whose client does not read them; beyond it the query's policy for \
         slow consumers applies",
    ),
    number(
        "live.threads",
        0,
        1_024,
        "Threads that read changes and match them with live queries; 0: half as many as cores, at least one",
    ),
    number(
        "live.log_retention_s",
        1,
        MAX_AGE_S,
        "How long changes are kept for live queries that are resumed, in seconds",
    ),
    number(
        "live.log_retention_bytes",
        1_048_576,
        1 << 60,
        "About the most bytes of changes that are kept, before compression; the oldest go first",
    ),
    number(
        "flight.max_message_bytes",
        65_536,
        2_147_483_647,
        "Size of one message with rows that a client of Flight sends, which is one record batch",
    ),
    number(
        "flight.max_handle_bytes",
        4_096,
        16_777_216,
        "Size of a statement with its parameters in a ticket or prepared statement of Flight, which clients keep",
    ),
    number("flight.ticket_lifetime_s", 1, 604_800, "How long tickets and prepared statements of Flight can be used"),
    number("flight.session_lifetime_s", 60, 2_592_000, "How long the token that Flight's handshake gives is valid"),
    number(
        "flight.max_sessions",
        1,
        10_000_000,
        "Sessions of Flight whose options are kept; those not used for longest go first",
    ),
    number(
        "ingest.max_bytes",
        65_536,
        536_870_912,
        "Bytes of rows that a bulk ingest writes at once: the most of one that is atomic",
    ),
    number(
        "ingest.max_total_bytes",
        131_072,
        1 << 40,
        "Bytes of rows that all bulk ingests under way hold together; further ones get TOO_MANY_REQUESTS",
    ),
    number(
        "audit.max_records",
        100,
        10_000_000,
        "Records of administration in system.audit; as many of refusals and of acting for users are kept beside them",
    ),
    number("audit.max_age_s", 60, MAX_AGE_S, "Older records of system.audit are removed, in seconds"),
    number(
        "audit.notice_interval_s",
        1,
        86_400,
        "That a caller was refused something, and that it acted for a certain user, is recorded once in so many seconds",
    ),
    number(
        "shutdown.flush_timeout_s",
        0,
        86_400,
        "How long tables are flushed after SIGTERM, once calls have ended; what is not flushed stays where it is. 0: \
         not at all",
    ),
    key("log.format", "pretty (for people) or json (one object a line)"),
    key("log.level", "error, warn, info, debug or trace, or filters such as info,kalamdb_engine=debug"),
    number("log.data_size_interval_s", 0, 86_400, "How often the size of the data is logged; 0: never"),
    key(
        "cors.allowed_origins",
        "Origins of web pages that may call, such as https://app.example.com; * allows every \
         one. With server.dev, pages of this machine may always call",
    ),
    number("cors.max_age_s", 0, 86_400, "How long a browser may remember that a call is allowed"),
];

/// The key with this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The valid name most like `name`, if one is.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let wanted_last = name.rsplit('.').next().unwrap_or(name);
    KEYS.iter()
        .map(|key| {
            let whole = strsim::normalized_damerau_levenshtein(name, key.name);
            // The right key in the wrong section.
            let tail = strsim::normalized_damerau_levenshtein(wanted_last, last(key.name)) * 0.95;
            (whole.max(tail), key.name)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
