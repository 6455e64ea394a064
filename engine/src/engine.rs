//! The engine: everything below SQL and above nothing, as one value.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use datafusion::execution::SessionState;
use kalamdb_store::{
    codec::LAST_SEGMENT_KEY,
    commit::{ChangeLog, CommitSettings, Committer, FreeSpace},
    data_dir::{DataDir, DataDirError},
    ids::{CommitSeq, UserId},
    kv::{Durability, Keyspace, MemoryBackend, RocksBackend, RocksSettings, StorageBackend},
    object::StoreSettings,
    segment::{SegmentSettings, SegmentStores, Segments},
};
use parking_lot::Mutex;

use crate::{
    access::{Caller, Role, RowRules, RuleSource, Viewer},
    audit::{Audit, AuditWriter},
    catalog::{Catalog, ConstantEvaluator},
    env::Env,
    error::{Error, Reason, Result},
    exec::{
        Caches, ColdTables, ColdTier, ConflictTurns, HotImages, IngestMemory, LogPins, MarkCache, QueryRuntime,
        Services, SnapshotRegistry, SnapshotSource, StatementContext, corrupt, from_store, template_state,
    },
    ids::{IdSource, MARK_KEY},
    jobs::{Expiry, JobHooks, JobParts, Jobs, LogRetention, LogRetentionParts, NoHooks},
    live::{LiveCounters, LiveHub},
    session::Session,
    settings::{EngineSettings, SettingInfo, StorageSettings},
    storage::{StorageParts, Storages, TargetRoots},
    users::{ActivityWriter, Removal, Users},
};

/// Where the database's own id is kept.
const DATABASE_ID_KEY: &[u8] = b"database/id";

/// A database, open. Sessions made from it run statements.
///
/// ```
/// use std::sync::Arc;
/// use kalamdb_engine::{Body, Caller, Engine, EngineSettings, Request, Role, SystemEnv, UserId};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let engine = Engine::open(EngineSettings::default(), Vec::new(), Arc::new(SystemEnv)).unwrap();
/// let session = engine.session(Caller::new(UserId::new("admin").unwrap(), Role::System));
/// let mut run = session.execute(Request::new("CREATE NAMESPACE chat; SELECT 1 + 1"));
/// let created = run.next().await.unwrap().unwrap();
/// assert!(matches!(created.body, Body::Affected { .. }));
/// let selected = run.next().await.unwrap().unwrap();
/// assert!(matches!(selected.body, Body::Rows(_)));
/// # });
/// ```
pub struct Engine {
    shared: Arc<Shared>,
    expiry: Mutex<Option<Expiry>>,
    log_retention: LogRetention,
    audit_writer: Mutex<Option<AuditWriter>>,
    activity_writer: Mutex<Option<ActivityWriter>>,
    removal: Mutex<Option<Removal>>,
    /// Held for its lock.
    data_dir: Option<DataDir>,
}

/// What sessions, plans and jobs share.
pub(crate) struct Shared {
    pub(crate) settings: EngineSettings,
    pub(crate) settings_table: Arc<[SettingInfo]>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) backend: Arc<dyn StorageBackend>,
    pub(crate) committer: Committer,
    pub(crate) change_log: ChangeLog,
    pub(crate) catalog: Catalog,
    pub(crate) storages: Arc<Storages>,
    pub(crate) snapshots: SnapshotRegistry,
    pub(crate) log_pins: LogPins,
    pub(crate) cold: Arc<ColdTier>,
    pub(crate) hot_images: Arc<HotImages>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) template: Arc<SessionState>,
    pub(crate) runtime: QueryRuntime,
    pub(crate) caches: Caches,
    pub(crate) conflicts: ConflictTurns,
    /// What bulk ingests hold.
    pub(crate) ingest_memory: Arc<IngestMemory>,
    pub(crate) live: Arc<LiveHub>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) users: Arc<Users>,
    pub(crate) row_rules: Arc<RowRules>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens a database, creating its data directory when there is none. Blocks while the store recovers.
    ///
    /// `settings_table` is what `system.settings` shows; `env` is the source of time and randomness.
    ///
    /// # Errors
    /// INVALID_REQUEST with a text for the operator when the data directory cannot be used (another process has it, its
    /// format is newer, it cannot be written); CORRUPTION when what is in it cannot be read.
    pub fn open(settings: EngineSettings, settings_table: Vec<SettingInfo>, env: Arc<dyn Env>) -> Result<Arc<Self>> {
        Self::open_with_hooks(settings, settings_table, env, Arc::new(NoHooks))
    }

    /// The same as [`Engine::open`], with something that is called between the steps of background jobs. For tests.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_with_hooks(
        settings: EngineSettings,
        settings_table: Vec<SettingInfo>,
        env: Arc<dyn Env>,
        hooks: Arc<dyn JobHooks>,
    ) -> Result<Arc<Self>> {
        let (backend, data_dir) = open_store(&settings)?;
        let free_space = data_dir.as_ref().map(|dir| free_space_of(dir.path().to_path_buf()));
        let commit_settings = CommitSettings {
            durability: settings.durability,
            max_commit_bytes: settings.max_write_bytes.saturating_mul(4),
            min_free_bytes: Some(settings.min_free_disk_bytes),
            ..CommitSettings::default()
        };
        let committer = Committer::start(Arc::clone(&backend), commit_settings, free_space).map_err(from_store)?;
        let change_log = ChangeLog::new(Arc::clone(&backend)).map_err(from_store)?;
        let database_id = database_id(backend.as_ref(), env.as_ref())?;
        let ids = Arc::new(IdSource::new(Arc::clone(&env), settings.node_id)?);
        if let Some(last) = backend.get(Keyspace::System, LAST_SEGMENT_KEY).map_err(from_store)? {
            let last = last.try_into().map_err(|_| corrupt("the last segment id"))?;
            ids.resume_after(i64::from_be_bytes(last));
        }
        if let Some(mark) = backend.get(Keyspace::System, MARK_KEY).map_err(from_store)? {
            let mark = mark.try_into().map_err(|_| corrupt("the mark of ids"))?;
            ids.resume_after(i64::from_be_bytes(mark));
        }
        let template = Arc::new(template_state(&settings, &ids)?);
        let catalog = Catalog::load(
            backend.snapshot().as_ref(),
            committer.clone(),
            ConstantEvaluator::new(Arc::clone(&template)),
            Arc::clone(&env),
        )?;
        let parts = storage_parts(&settings, data_dir.as_ref(), &catalog, &committer, &env, &hooks);
        let storages = Storages::load(backend.snapshot().as_ref(), parts)?;
        let stores = hooks.stores(Arc::clone(&storages) as Arc<dyn SegmentStores>);
        let segment_settings = SegmentSettings {
            reader_cache_bytes: settings.segment_cache_bytes,
            checksum_cache_bytes: settings.checksum_cache_bytes,
        };
        let cold = Arc::new(ColdTier {
            segments: Arc::new(Segments::new(Arc::clone(&backend), stores, segment_settings)),
            tables: ColdTables::load(backend.snapshot().as_ref())?,
            marks: MarkCache::new(settings.mark_cache_bytes),
        });
        let parts = JobParts {
            backend: Arc::clone(&backend),
            committer: committer.clone(),
            env: Arc::clone(&env),
            ids: Arc::clone(&ids),
            node_id: settings.node_id,
            database_id,
            hooks,
            write_grace: write_grace(&settings),
        };
        let jobs = Arc::new(Jobs::open(parts, &settings.flush)?);
        // From here on ids can be handed out.
        keep_id_mark(backend.as_ref(), &ids);
        let runtime = QueryRuntime::new(&settings, spill_dir(&settings, data_dir.as_ref())?)?;
        let live = LiveHub::start(
            settings.live.clone(),
            settings.node_id,
            database_id,
            committer.clone(),
            catalog.clone(),
            change_log.clone(),
        )?;
        let audit =
            Audit::load(backend.snapshot().as_ref(), settings.audit.clone(), committer.clone(), Arc::clone(&env))?;
        let users = Users::new(
            Arc::clone(&backend),
            committer.clone(),
            catalog.clone(),
            Arc::clone(&env),
            settings.users.clone(),
        )?;
        let shared = Arc::new(Shared {
            caches: Caches::new(settings.plan_cache_entries),
            hot_images: HotImages::new(&settings.hot_image),
            ingest_memory: IngestMemory::new(settings.ingest.max_total_bytes),
            settings_table: settings_table.into(),
            settings,
            env,
            ids,
            backend,
            committer,
            change_log,
            catalog,
            storages,
            snapshots: SnapshotRegistry::default(),
            log_pins: LogPins::default(),
            cold,
            jobs,
            template,
            runtime,
            conflicts: ConflictTurns::new(),
            live,
            audit,
            users,
            row_rules: Arc::new(RowRules::new()),
        });
        let interval = Duration::from_millis(shared.settings.stream_expiry_interval_ms);
        let expiry = Expiry::start(shared.runtime.handle(), Arc::downgrade(&shared), interval);
        let retention = LogRetentionParts {
            backend: Arc::clone(&shared.backend),
            committer: shared.committer.clone(),
            env: Arc::clone(&shared.env),
            change_log: shared.change_log.clone(),
            snapshots: shared.snapshots.clone(),
            pins: shared.log_pins.clone(),
        };
        let log_retention = LogRetention::start(retention, &shared.settings.live)?;
        let audit_writer = Mutex::new(Some(AuditWriter::start(shared.runtime.handle(), &shared.audit)));
        let interval = Duration::from_millis(shared.settings.users.activity_interval_ms);
        let activity_writer =
            Mutex::new(Some(ActivityWriter::start(shared.runtime.handle(), Arc::downgrade(&shared.users), interval)));
        let removal = Mutex::new(Some(Removal::start(shared.runtime.handle(), Arc::downgrade(&shared))));
        shared.jobs.start(&shared);
        Ok(Arc::new(Self {
            shared,
            expiry: Mutex::new(Some(expiry)),
            log_retention,
            audit_writer,
            activity_writer,
            removal,
            data_dir,
        }))
    }

    /// A session of a caller. Cheap: make one for each call.
    pub fn session(&self, caller: Caller) -> Session {
        self.shared.audit.note_acting(&caller);
        Session::new(Arc::clone(&self.shared), caller)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Notes in `system.audit` that a caller was refused a method before there was a session.
    pub fn note_refused_call(&self, caller: &Caller, method: &str, error: &Error) {
        self.shared.note_refused_call(caller, method, error);
    }

    /// The users, their credentials and sessions.
    pub fn users(&self) -> &Arc<Users> {
        &self.shared.users
    }

    /// The last commit sequence that is visible.
    pub fn last_commit_seq(&self) -> CommitSeq {
        self.shared.committer.last_commit_seq()
    }

    /// Changes up to this commit are no longer kept: live queries can be resumed after it.
    pub fn change_log_floor(&self) -> CommitSeq {
        self.shared.change_log.floor()
    }

    /// Gives up changes that are older, or more, than [`LiveSettings`](crate::LiveSettings) says. That is done every few
    /// seconds anyway; this does it now, for tests. Blocks for a disk sync.
    ///
    /// # Errors
    /// Those of the store.
    pub fn apply_log_retention(&self) -> Result<()> {
        self.log_retention.apply()
    }

    /// Why the store refuses writes, if it does. Reads go on; a restart clears it if the disk is sound again.
    pub fn poisoned(&self) -> Option<String> {
        self.shared.committer.is_poisoned()
    }

    /// Bytes of the data directory; 0 in memory.
    pub fn data_size_bytes(&self) -> u64 {
        self.data_dir.as_ref().and_then(|dir| dir.size_bytes().ok()).unwrap_or(0)
    }

    /// When writes are acknowledged.
    pub fn durability(&self) -> Durability {
        self.shared.settings.durability
    }

    /// Memory that queries hold, in bytes.
    pub fn query_memory_bytes(&self) -> usize {
        self.shared.runtime.reserved_bytes()
    }

    /// Ends every live query with SHUTTING_DOWN and a resume token, and lets no more begin.
    pub fn end_live_queries(&self) {
        self.shared.live.end_all();
    }

    /// How much live queries do.
    pub fn live_counters(&self) -> LiveCounters {
        self.shared.live.counters()
    }

    /// Closes: ends queries, live ones too, and background work, finishes the commits under way and makes them durable. Blocks;
    /// further statements answer SHUTTING_DOWN.
    pub fn close(&self) {
        self.shared.live.shutdown();
        self.expiry.lock().take();
        self.log_retention.stop();
        self.shared.jobs.stop();
        self.audit_writer.lock().take();
        self.activity_writer.lock().take();
        self.removal.lock().take();
        self.shared.runtime.shutdown();
        // Nothing is recorded any more. A store that refuses writes has refused these before.
        if let Err(error) = futures::executor::block_on(self.shared.audit.write_pending()) {
            tracing::debug!(%error, "the last records of the audit are not stored");
        }
        if let Err(error) = futures::executor::block_on(self.shared.users.write_activity_at_end()) {
            tracing::debug!(%error, "the last logins are not stored");
        }
        self.shared.committer.stop();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A statement's view as of now.
    pub(crate) fn context(&self, caller: Caller) -> StatementContext {
        StatementContext::new(
            self.viewer(caller),
            self.env.now_us(),
            self.catalog.state(),
            Arc::clone(&self.settings_table),
            Services {
                storages: Arc::clone(&self.storages),
                jobs: Arc::clone(&self.jobs),
                live: Arc::clone(&self.live),
                users: Arc::clone(&self.users),
            },
            SnapshotSource {
                cold: Arc::clone(&self.cold),
                hot_images: Arc::clone(&self.hot_images),
                backend: Arc::clone(&self.backend),
                committer: self.committer.clone(),
                registry: self.snapshots.clone(),
                change_log: self.change_log.clone(),
            },
        )
    }

    /// A caller with its rules as of now.
    pub(crate) fn viewer(&self, caller: Caller) -> Viewer {
        Viewer::new(caller, Arc::clone(&self.users) as Arc<dyn RuleSource>, Arc::clone(&self.row_rules))
    }

    /// The view of background work.
    pub(crate) fn internal_context(&self) -> StatementContext {
        self.context(Caller::new(internal_user(), Role::System))
    }
}

fn internal_user() -> UserId {
    UserId::new("system").expect("a name within the rules")
}

fn open_store(settings: &EngineSettings) -> Result<(Arc<dyn StorageBackend>, Option<DataDir>)> {
    let path = match &settings.storage {
        StorageSettings::Memory => return Ok((Arc::new(MemoryBackend::new()), None)),
        StorageSettings::Directory(path) => path,
    };
    let data_dir = DataDir::open(path).map_err(from_data_dir)?;
    let rocks = RocksSettings {
        write_buffer_bytes: settings.write_buffer_bytes,
        block_cache_bytes: settings.block_cache_bytes,
        ..RocksSettings::default()
    };
    let backend = RocksBackend::open(data_dir.rocks_path(), &rocks).map_err(from_store)?;
    Ok((Arc::new(backend), Some(data_dir)))
}

/// The id of the database; made when it is opened for the first time.
fn database_id(backend: &dyn StorageBackend, env: &dyn Env) -> Result<u64> {
    if let Some(id) = backend.get(Keyspace::System, DATABASE_ID_KEY).map_err(from_store)? {
        let id = id.try_into().map_err(|_| corrupt("the id of the database"))?;
        return Ok(u64::from_le_bytes(id));
    }
    let id = env.random_u64();
    backend.put(Keyspace::System, DATABASE_ID_KEY, &id.to_le_bytes(), Durability::Sync).map_err(from_store)?;
    Ok(id)
}

/// Puts a mark in the store for ids that go on ahead of the clock, before there are any.
fn keep_id_mark(backend: &dyn StorageBackend, ids: &IdSource) {
    let Some(mark) = ids.due_mark() else { return };
    match backend.put(Keyspace::System, MARK_KEY, &mark.to_be_bytes(), Durability::Sync) {
        Ok(()) => ids.marked(mark),
        // No reason not to start: it is tried again, and where nothing can be written, ids are of little use.
        Err(error) => tracing::warn!(%error, "the ids that are ahead of the clock cannot be noted now"),
    }
}

fn storage_parts(
    settings: &EngineSettings,
    data_dir: Option<&DataDir>,
    catalog: &Catalog,
    committer: &Committer,
    env: &Arc<dyn Env>,
    hooks: &Arc<dyn JobHooks>,
) -> StorageParts {
    let data_dir = data_dir.map(|dir| dir.path().to_path_buf());
    StorageParts {
        local: data_dir.as_ref().map(|dir| dir.join("storage")),
        data_dir,
        roots: settings.storage_roots.clone(),
        target_roots: TargetRoots { export: settings.export_roots.clone(), backup: settings.backup_roots.clone() },
        settings: StoreSettings {
            request_timeout: Duration::from_secs(settings.storage_request_timeout_s),
            max_retries: settings.storage_max_retries,
        },
        secret_key: settings.storage_secret_key.clone(),
        catalog: catalog.clone(),
        committer: committer.clone(),
        env: Arc::clone(env),
        hooks: Arc::clone(hooks),
    }
}

/// Twice as long as a storage's client can be busy with one write.
fn write_grace(settings: &EngineSettings) -> Duration {
    let tries = u32::try_from(settings.storage_max_retries).unwrap_or(u32::MAX).saturating_add(1);
    Duration::from_secs(settings.storage_request_timeout_s).saturating_mul(tries).saturating_mul(2)
}

fn from_data_dir(error: DataDirError) -> Error {
    Error::new(Reason::InvalidRequest, error.to_string())
}

fn free_space_of(path: PathBuf) -> FreeSpace {
    Arc::new(move || kalamdb_store::data_dir::free_bytes(&path))
}

fn spill_dir(settings: &EngineSettings, data_dir: Option<&DataDir>) -> Result<PathBuf> {
    let dir = match (&settings.spill_dir, data_dir) {
        (Some(dir), _) => dir.clone(),
        (None, Some(data_dir)) => {
            let dir = data_dir.path().join("spill");
            remove_spilled(&dir);
            dir
        }
        (None, None) => std::env::temp_dir(),
    };
    std::fs::create_dir_all(&dir).map_err(|e| {
        Error::new(Reason::InvalidRequest, format!("The spill folder {} cannot be created: {e}.", dir.display()))
    })?;
    Ok(dir)
}

/// Removes what the queries of a process that was killed have left. The lock of the data directory is held: no other
/// process uses the folder. Failing is no reason not to start, as nothing is read from there.
fn remove_spilled(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        // DataFusion's; a folder of another name is somebody's.
        if entry.file_name().to_string_lossy().starts_with("datafusion-")
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), %error, "spilled rows of an earlier run cannot be removed");
        }
    }
}
