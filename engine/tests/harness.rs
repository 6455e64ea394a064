//! An engine to test, callers of it, and rows as texts that can be compared.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use kalamdb_engine::{
    Body, Caller, CommitSeq, Engine, EngineSettings, Env, Error, FixedEnv, JobHooks, NoHooks, Parameter, Reason,
    Request, ResultColumn, Role, Session, SettingInfo, SqlType, StorageSettings, UserId,
};

/// 2026-01-02T03:04:05.000006, at which the clock of every test stands.
pub(crate) const NOW_US: i64 = 1_767_323_045_000_006;

/// An engine with a clock that stands still.
pub(crate) struct Db {
    engine: Option<Arc<Engine>>,
    settings: EngineSettings,
    hooks: Arc<dyn JobHooks>,
    pub(crate) env: Arc<FixedEnv>,
}

impl Db {
    /// In memory, with the namespace `app`.
    pub(crate) async fn memory() -> Self {
        Self::with(EngineSettings::default()).await
    }

    /// On RocksDB below `path`, with the namespace `app`.
    pub(crate) async fn on_disk(path: &Path) -> Self {
        Self::with(EngineSettings { storage: StorageSettings::Directory(path.to_path_buf()), ..small() }).await
    }

    /// With these settings and the namespace `app`.
    pub(crate) async fn with(settings: EngineSettings) -> Self {
        Self::with_hooks(settings, Arc::new(NoHooks)).await
    }

    /// The same, with hooks that stay through [`Db::reopen`].
    pub(crate) async fn with_hooks(settings: EngineSettings, hooks: Arc<dyn JobHooks>) -> Self {
        let mut db = Self { engine: None, settings, hooks, env: Arc::new(FixedEnv::new(NOW_US, 7)) };
        db.open();
        db.admin().run("CREATE NAMESPACE IF NOT EXISTS app").await;
        db
    }

    /// Closes the engine and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.engine = None;
        self.open();
    }

    /// Closes the engine; [`Db::reopen`] opens it again.
    pub(crate) fn close(&mut self) {
        self.engine = None;
    }

    /// How much of the disk must be free, from the next [`Db::reopen`] on.
    pub(crate) fn set_min_free_disk_bytes(&mut self, bytes: u64) {
        self.settings.min_free_disk_bytes = bytes;
    }

    /// Where backups may be, from the next [`Db::reopen`] on.
    pub(crate) fn set_backup_roots(&mut self, roots: Vec<PathBuf>) {
        self.settings.backup_roots = roots;
    }

    fn open(&mut self) {
        let shown = SettingInfo {
            name: "limits.max_write_mb".to_owned(),
            value: "64".to_owned(),
            source: "default".to_owned(),
            description: "Bytes that one statement may write.".to_owned(),
        };
        let open = || {
            let (env, hooks) = (Arc::clone(&self.env) as Arc<dyn Env>, Arc::clone(&self.hooks));
            Engine::open_with_hooks(self.settings.clone(), vec![shown.clone()], env, hooks)
        };
        // A task of the engine before may hold the store for a moment more.
        let began = std::time::Instant::now();
        self.engine = Some(loop {
            match open() {
                Ok(engine) => break engine,
                Err(error) if began.elapsed() > std::time::Duration::from_secs(5) => panic!("cannot open: {error}"),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        });
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    pub(crate) fn caller(&self, caller: Caller) -> Client {
        Client { session: self.engine().session(caller), namespace: Some("app".to_owned()) }
    }

    /// An end user.
    pub(crate) fn user(&self, id: &str) -> Client {
        self.caller(Caller::new(user_id(id), Role::User))
    }

    pub(crate) fn role(&self, role: Role) -> Client {
        self.caller(Caller::new(user_id("operator"), role))
    }

    /// A caller that acts for a user.
    pub(crate) fn acting(&self, role: Role, user: &str) -> Client {
        self.caller(Caller::new(user_id("operator"), role).acting_as(user_id(user)))
    }

    pub(crate) fn admin(&self) -> Client {
        self.role(Role::System)
    }
}

/// Settings that open fast.
pub(crate) fn small() -> EngineSettings {
    const MIB: usize = 1024 * 1024;
    EngineSettings { write_buffer_bytes: 4 * MIB, block_cache_bytes: 4 * MIB, ..EngineSettings::default() }
}

pub(crate) fn user_id(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// A caller's way to run statements, in namespace `app` unless said otherwise.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) session: Session,
    namespace: Option<String>,
}

/// What a statement answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<ResultColumn>,
    /// The values as texts; NULL is `NULL`.
    pub(crate) rows: Vec<Vec<String>>,
    /// Rows affected; for rows answered their number.
    pub(crate) row_count: u64,
    /// What was answered besides; empty for rows.
    pub(crate) message: String,
    pub(crate) commit_seq: Option<CommitSeq>,
}

impl Client {
    /// The same caller with another namespace for unqualified names, or none.
    pub(crate) fn in_namespace(&self, namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), ..self.clone() }
    }

    pub(crate) fn request(&self, sql: impl Into<String>, parameters: &[Parameter]) -> Request {
        Request {
            sql: sql.into(),
            parameters: parameters.to_vec(),
            namespace: self.namespace.clone(),
            ..Request::default()
        }
    }

    /// Runs a batch; answers its last statement's outcome.
    pub(crate) async fn try_request(&self, request: Request) -> Result<Answer, Error> {
        let mut execution = self.session.execute(request);
        let mut last = Answer::default();
        while let Some(output) = execution.next().await {
            let output = output?;
            last = match output.body {
                Body::Rows(mut stream) => {
                    let columns = stream.columns().to_vec();
                    let mut rows = Vec::new();
                    while let Some(batch) = stream.next().await {
                        rows.extend(texts(&batch?));
                    }
                    Answer {
                        columns,
                        row_count: rows.len() as u64,
                        rows,
                        commit_seq: output.commit_seq,
                        ..Answer::default()
                    }
                }
                Body::Affected { row_count, message } => {
                    Answer { row_count, message, commit_seq: output.commit_seq, ..Answer::default() }
                }
            };
        }
        Ok(last)
    }

    pub(crate) async fn try_with(&self, sql: impl Into<String>, parameters: &[Parameter]) -> Result<Answer, Error> {
        self.try_request(self.request(sql, parameters)).await
    }

    pub(crate) async fn try_run(&self, sql: impl Into<String>) -> Result<Answer, Error> {
        self.try_with(sql, &[]).await
    }

    /// Runs a batch that must succeed.
    #[track_caller]
    pub(crate) fn run<S: Into<String>>(&self, sql: S) -> impl Future<Output = Answer> + use<S> {
        self.run_with(sql, &[])
    }

    #[track_caller]
    pub(crate) fn run_with<S: Into<String>>(
        &self,
        sql: S,
        parameters: &[Parameter],
    ) -> impl Future<Output = Answer> + use<S> {
        let at = std::panic::Location::caller();
        let sql = sql.into();
        let shown: String = sql.chars().take(300).collect();
        let running = self.clone();
        let request = self.request(sql, parameters);
        async move {
            match running.try_request(request).await {
                Ok(answer) => answer,
                Err(error) => panic!("{at}: {shown}\n  failed: {error}"),
            }
        }
    }

    /// The rows of a query that must succeed.
    #[track_caller]
    pub(crate) fn rows<S: Into<String>>(&self, sql: S) -> impl Future<Output = Vec<Vec<String>>> + use<S> {
        let run = self.run(sql);
        async move { run.await.rows }
    }

    /// The one value of a query that must succeed.
    #[track_caller]
    pub(crate) fn value<S: Into<String>>(&self, sql: S) -> impl Future<Output = String> + use<S> {
        let at = std::panic::Location::caller();
        let run = self.run(sql);
        async move {
            let rows = run.await.rows;
            assert!(rows.len() == 1 && rows[0].len() == 1, "{at}: one value was expected: {rows:?}");
            rows[0][0].clone()
        }
    }

    /// The error of a batch that must fail for this reason.
    #[track_caller]
    pub(crate) fn fails<S: Into<String>>(&self, reason: Reason, sql: S) -> impl Future<Output = Error> + use<S> {
        self.fails_with(reason, sql, &[])
    }

    #[track_caller]
    pub(crate) fn fails_with<S: Into<String>>(
        &self,
        reason: Reason,
        sql: S,
        parameters: &[Parameter],
    ) -> impl Future<Output = Error> + use<S> {
        let at = std::panic::Location::caller();
        let sql = sql.into();
        let shown: String = sql.chars().take(300).collect();
        let running = self.clone();
        let request = self.request(sql, parameters);
        async move {
            match running.try_request(request).await {
                Ok(answer) => panic!("{at}: {shown}\n  succeeded: {answer:?}"),
                Err(error) => {
                    assert!(error.reason() == reason, "{at}: {shown}\n  expected {reason:?}, failed with: {error}");
                    error
                }
            }
        }
    }
}

/// The values of a batch as texts.
pub(crate) fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()).collect()
}

/// Rows written as `[["1", "a"], …]` in the form that queries answer.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[&str; COLUMNS]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|v| (*v).to_owned()).collect()).collect()
}

pub(crate) fn int(value: i64) -> Parameter {
    Parameter { value: ScalarValue::Int64(Some(value)), sql_type: SqlType::BigInt }
}

pub(crate) fn text(value: &str) -> Parameter {
    Parameter { value: ScalarValue::Utf8View(Some(value.to_owned())), sql_type: SqlType::Text }
}

pub(crate) fn double(value: f64) -> Parameter {
    Parameter { value: ScalarValue::Float64(Some(value)), sql_type: SqlType::Double }
}

pub(crate) fn boolean(value: bool) -> Parameter {
    Parameter { value: ScalarValue::Boolean(Some(value)), sql_type: SqlType::Boolean }
}

pub(crate) fn null() -> Parameter {
    Parameter { value: ScalarValue::Null, sql_type: SqlType::Null }
}
