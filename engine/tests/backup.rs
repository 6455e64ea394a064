//! Backups and restores: what comes back is what was there at one commit, whatever went on meanwhile; and what is not whole
//! is not restored.

mod content;
mod damage;
mod ids;
mod interrupted;
mod meanwhile;
mod places;
mod refusals;
mod under_load;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use kalamdb_engine::{EngineSettings, JobHooks, JobStep, StorageSettings};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::harness::{Answer, Client, Db, small};

/// A data directory, and a folder beside it for backups.
pub(crate) struct Place {
    temp: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("backups")).unwrap();
        Self { temp }
    }

    pub(crate) fn path(&self) -> &Path {
        self.temp.path()
    }

    /// The folder of backups `name`.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.temp.path().join("backups").join(name)
    }

    pub(crate) fn settings(&self) -> EngineSettings {
        settings_in(self.temp.path())
    }

    pub(crate) async fn open(&self) -> Db {
        Db::with(self.settings()).await
    }

    /// Another database, which has the same backups.
    pub(crate) async fn open_other(&self) -> Db {
        let storage = StorageSettings::Directory(self.temp.path().join("other"));
        Db::with(EngineSettings { storage, ..self.settings() }).await
    }
}

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(60);

/// What is done at each step, as a test has set it.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    acts: Mutex<HashMap<JobStep, Act>>,
    standing: Mutex<HashSet<JobStep>>,
}

/// What is done at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Fail,
    /// It stands still until something else is to be done.
    Wait,
}

impl Steps {
    pub(crate) fn set(&self, step: JobStep, act: Act) {
        self.acts.lock().insert(step, act);
    }

    pub(crate) fn pass(&self, step: JobStep) {
        self.acts.lock().remove(&step);
    }

    /// Waits until a job stands at a step.
    pub(crate) async fn until_standing(&self, step: JobStep) {
        until(&format!("a job stands at {step:?}"), true, async || self.standing.lock().contains(&step)).await;
    }

    fn act(&self, step: JobStep) -> Option<Act> {
        self.acts.lock().get(&step).copied()
    }
}

impl JobHooks for Steps {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        if self.act(step) == Some(Act::Wait) {
            self.standing.lock().insert(step);
            // Other tasks of the thread go on.
            tokio::task::block_in_place(|| {
                let end = Instant::now() + LIMIT;
                while self.act(step) == Some(Act::Wait) && Instant::now() < end {
                    thread::sleep(Duration::from_millis(2));
                }
            });
            self.standing.lock().remove(&step);
        }
        match self.act(step) {
            Some(Act::Fail) => Err("as the test wants".to_owned()),
            Some(Act::Wait) | None => Ok(()),
        }
    }
}

/// Waits until something is as it should be.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, mut now: impl AsyncFnMut() -> T) {
    let end = Instant::now() + LIMIT;
    loop {
        let is = now().await;
        if is == expected {
            return;
        }
        assert!(Instant::now() < end, "{what}\nis       {is:?}\nexpected {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Settings of a database in `folder`/data, with backups below `folder`/backups. Segments are small, so that there are many.
pub(crate) fn settings_in(folder: &Path) -> EngineSettings {
    let mut settings = EngineSettings {
        storage: StorageSettings::Directory(folder.join("data")),
        backup_roots: vec![folder.join("backups")],
        ..small()
    };
    settings.flush.segment_rows = 40;
    settings.flush.retry_interval_ms = 5;
    // Merged segments are new ones, which a test must be ready for.
    settings.compaction.automatic = false;
    settings
}

/// The files below a folder, relative to it, in order.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![folder.to_owned()];
    while let Some(next) = rest.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                rest.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Everything that can be read of the tables of a namespace.
pub(crate) async fn state(db: &Db, namespace: &str, tables: &[&str]) -> Vec<Vec<Vec<String>>> {
    let admin = db.admin().in_namespace(Some(namespace));
    let mut state = Vec::new();
    for table in tables {
        let described = admin.rows(format!("DESCRIBE {table}")).await;
        // It names the namespace.
        state.push(described.into_iter().filter(|line| line[0] != "schema_history").collect());
        let kind = admin
            .value(format!(
                "SELECT table_type FROM system.tables WHERE namespace = '{namespace}' AND table_name = '{table}'"
            ))
            .await;
        let from =
            if kind == "SHARED" { format!("{namespace}.{table}") } else { format!("{namespace}.all_users.{table}") };
        let order = if kind == "SHARED" { "id" } else { "_user_id, id" };
        state.push(admin.rows(format!("SELECT *, _seq, _updated FROM {from} ORDER BY {order}")).await);
        let versions = format!(
            "SELECT schema_version, change, columns FROM system.table_schemas WHERE namespace = '{namespace}' AND \
             table_name = '{table}' ORDER BY schema_version"
        );
        state.push(admin.rows(versions).await);
    }
    state
}

/// Makes a backup; answers its id.
pub(crate) async fn back_up(client: &Client, place: &str, mode: &str) -> String {
    let answer = client.run(format!("BACKUP DATABASE app TO '{place}' {mode}")).await;
    id_of(&answer)
}

fn id_of(answer: &Answer) -> String {
    let rest = answer.message.strip_prefix("Backup ").unwrap_or_else(|| panic!("{answer:?}"));
    rest[..16].to_owned()
}
