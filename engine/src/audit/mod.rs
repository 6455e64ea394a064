//! The audit: who did what to the server, whom, and from where. `system.audit` shows it.
//!
//! ```text
//!  administration ─▶ record ─▶ committer, and then the answer ─▶ keyspace system, shelf 1
//!  refusals, acting for others ─▶ first of a minute ─▶ pending ─▶ committer, soon ─▶ keyspace system, shelf 2
//! ```
//!
//! A record of administration is durable before the caller has its answer. What anybody can cause (being refused, acting
//! for a user) is written in the background, once in a while for each caller, and on a shelf of its own, so that nobody
//! can wash away what operators did by being refused often. Both shelves are bounded in number and age.
//!
//! A record has no secret: names, and the text of a statement if it can have none. Every record is logged, too.

mod observe;
mod record;
mod rows;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use kalamdb_store::{
    codec::{audit_key, audit_range, split_audit_key},
    commit::{CommitError, Committer, PreparedCommit},
    kv::{Direction, Keyspace, Snapshot, WriteBatch},
};
use metrics::counter;
use moka::sync::Cache;
use parking_lot::Mutex;

pub(crate) use self::{
    observe::{audited, id_of_key, statement_act},
    record::{Act, AuditRecord, Outcome, Shelf},
    rows::rows,
};
use crate::{
    access::Caller,
    engine::Shared,
    env::Env,
    error::{Error, ErrorKind, Result},
    exec::{corrupt, from_store},
    settings::AuditSettings,
};

/// How soon pending records are written.
const WRITE_INTERVAL: Duration = Duration::from_millis(250);
/// The most records that wait to be written; further ones are only logged and counted.
const MAX_PENDING: usize = 10_000;
/// Callers whose last notice is remembered.
const MAX_REMEMBERED: u64 = 100_000;
/// Records removed by one commit, beside those that it adds.
const MAX_REMOVED: usize = 10_000;

/// The audit of an engine.
#[derive(Debug)]
pub(crate) struct Audit {
    settings: AuditSettings,
    committer: Committer,
    env: Arc<dyn Env>,
    shelves: Mutex<Shelves>,
    pending: Mutex<VecDeque<Entry>>,
    /// When the last notice of a caller was taken, by the hash of what it is about.
    noticed_us: Cache<u64, i64>,
    hasher: RandomState,
}

/// The ids of the records that are stored.
#[derive(Debug, Default)]
struct Shelves {
    administration: VecDeque<u64>,
    notices: VecDeque<u64>,
    last_id: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    shelf: Shelf,
    id: u64,
    record: AuditRecord,
}

impl Audit {
    /// Finds the records that are stored.
    ///
    /// # Errors
    /// CORRUPTION, and those of the store.
    pub(crate) fn load(
        snapshot: &dyn Snapshot,
        settings: AuditSettings,
        committer: Committer,
        env: Arc<dyn Env>,
    ) -> Result<Arc<Self>> {
        let mut shelves = Shelves::default();
        for shelf in Shelf::ALL {
            let range = audit_range(shelf.byte());
            let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
            while cursor.valid() {
                let id = split_audit_key(cursor.key()).map_err(corrupt)?;
                shelves.last_id = shelves.last_id.max(id);
                shelves.of(shelf).push_back(id);
                cursor.advance().map_err(from_store)?;
            }
        }
        Ok(Arc::new(Self {
            settings,
            committer,
            env,
            shelves: Mutex::new(shelves),
            pending: Mutex::new(VecDeque::new()),
            noticed_us: Cache::new(MAX_REMEMBERED),
            hasher: RandomState::new(),
        }))
    }

    /// Records what became of an act of administration. When this returns, the record is durable.
    async fn record(&self, caller: &Caller, act: Act, outcome: Outcome, error: Option<&Error>) {
        let record = AuditRecord::new(self.env.now_us(), caller, act, outcome, error);
        let entry = self.enter(Shelf::Administration, record);
        if let Err(error) = self.write(std::slice::from_ref(&entry)).await {
            // What was done is done: the caller is told so, and the log has the record.
            tracing::error!(%error, "a record of the audit cannot be stored; the log has it");
            counter!("kalamdb_audit_lost_total").increment(1);
        }
    }

    /// Records what became of an act, soon.
    fn record_soon(&self, caller: &Caller, act: Act, outcome: Outcome, error: Option<&Error>) {
        let record = AuditRecord::new(self.env.now_us(), caller, act, outcome, error);
        let entry = self.enter(Shelf::Administration, record);
        self.push(entry);
    }

    /// Records, soon, an act that is done by asking for it: the answer does not wait for the record.
    pub(crate) fn tell<T>(&self, caller: &Caller, act: Act, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Ok(_) => self.record_soon(caller, act, Outcome::Done, None),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.note_refusal(caller, act, error),
            Err(error) => self.record_soon(caller, act, Outcome::Failed, Some(error)),
        }
        outcome
    }

    /// Notes, soon, that a caller may not do something; the first time in a while.
    pub(crate) fn note_refusal(&self, caller: &Caller, act: Act, error: &Error) {
        // Not by the act: a caller that tries everything there is would fill the shelf.
        let about = self.hasher.hash_one(("refused", &caller.user_id, &caller.acting_as, caller.address));
        if self.is_new(about) {
            let record = AuditRecord::new(self.env.now_us(), caller, act, Outcome::Refused, Some(error));
            let entry = self.enter(Shelf::Notices, record);
            self.push(entry);
        } else {
            counter!("kalamdb_audit_repeated_total").increment(1);
        }
    }

    /// Notes, soon, that a caller acts for another user, if it does; the first time in a while.
    pub(crate) fn note_acting(&self, caller: &Caller) {
        let Some(user) = caller.acting_as.as_ref().filter(|user| **user != caller.user_id) else { return };
        let about = self.hasher.hash_one(("acting", &caller.user_id, user, caller.address));
        if self.is_new(about) {
            let act = Act::named("ACT AS", Some(user.to_string()));
            let record = AuditRecord::new(self.env.now_us(), caller, act, Outcome::Done, None);
            let entry = self.enter(Shelf::Notices, record);
            self.push(entry);
        }
    }

    /// Whether nothing was noted about this for a while.
    fn is_new(&self, about: u64) -> bool {
        let now_us = self.env.now_us();
        let interval_us = i64::try_from(self.settings.notice_interval_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        // A clock that was set back must not silence the audit.
        let known = self.noticed_us.get(&about);
        if known.is_some_and(|at_us| at_us <= now_us && now_us - at_us < interval_us) {
            return false;
        }
        self.noticed_us.insert(about, now_us);
        true
    }

    /// Gives a record its id, and logs it.
    fn enter(&self, shelf: Shelf, record: AuditRecord) -> Entry {
        counter!("kalamdb_audit_records_total", "outcome" => record.outcome.as_str()).increment(1);
        log(shelf, &record);
        let mut shelves = self.shelves.lock();
        // Ids are about times, so that those too old are known by their ids.
        let id = u64::try_from(record.at_us).unwrap_or(0).max(shelves.last_id.saturating_add(1));
        shelves.last_id = id;
        Entry { shelf, id, record }
    }

    fn push(&self, entry: Entry) {
        let mut pending = self.pending.lock();
        if pending.len() >= MAX_PENDING {
            counter!("kalamdb_audit_lost_total").increment(1);
            return;
        }
        pending.push_back(entry);
    }

    /// Writes what is pending, and removes what is too old. To be called by one at a time.
    ///
    /// # Errors
    /// Those of the committer. What is pending stays so.
    pub(crate) async fn write_pending(&self) -> Result<(), CommitError> {
        let entries: Vec<Entry> = self.pending.lock().iter().cloned().collect();
        self.write(&entries).await?;
        // Written again with the same ids if this is not reached: that changes nothing.
        self.pending.lock().drain(..entries.len());
        Ok(())
    }

    async fn write(&self, entries: &[Entry]) -> Result<(), CommitError> {
        let now_us = self.env.now_us();
        let mut kv = WriteBatch::new();
        {
            let mut shelves = self.shelves.lock();
            for entry in entries {
                match serde_json::to_vec(&entry.record) {
                    Ok(value) => kv.put(Keyspace::System, audit_key(entry.shelf.byte(), entry.id), value),
                    // Plain values in plain structs: there is nothing in them that could fail.
                    Err(error) => tracing::error!(%error, "a record of the audit cannot be written"),
                }
                let ids = shelves.of(entry.shelf);
                // Another may have got a greater id and been faster.
                let place = ids.partition_point(|id| *id < entry.id);
                if ids.get(place) != Some(&entry.id) {
                    ids.insert(place, entry.id);
                }
            }
            let oldest = self.oldest_kept(now_us);
            for shelf in Shelf::ALL {
                for id in shelves.take_surplus(shelf, self.settings.max_records, oldest) {
                    kv.delete(Keyspace::System, audit_key(shelf.byte(), id));
                }
            }
        }
        if kv.is_empty() {
            return Ok(());
        }
        let prepared = PreparedCommit { commit_time_us: now_us, kv, ..PreparedCommit::default() };
        self.committer.commit(prepared).await.map(|_| ())
    }

    /// Records with lesser ids are too old.
    fn oldest_kept(&self, now_us: i64) -> u64 {
        let max_age_us = i64::try_from(self.settings.max_age_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        u64::try_from(now_us.saturating_sub(max_age_us)).unwrap_or(0)
    }
}

impl Shelves {
    fn of(&mut self, shelf: Shelf) -> &mut VecDeque<u64> {
        match shelf {
            Shelf::Administration => &mut self.administration,
            Shelf::Notices => &mut self.notices,
        }
    }

    /// The oldest records of a shelf that are too many or too old, which are not of it any more.
    fn take_surplus(&mut self, shelf: Shelf, max_records: usize, oldest: u64) -> Vec<u64> {
        let ids = self.of(shelf);
        let too_many = ids.len().saturating_sub(max_records.max(1));
        let too_old = ids.partition_point(|id| *id < oldest);
        ids.drain(..too_many.max(too_old).min(MAX_REMOVED)).collect()
    }
}

/// Acting for users is what services do all day; the rest is worth a line.
fn log(shelf: Shelf, record: &AuditRecord) {
    let AuditRecord { user_id, role, acting_as, address, action, object, outcome, reason, .. } = record;
    let (acting_as, address) = (acting_as.as_deref(), address.as_deref());
    let (object, reason, outcome) = (object.as_deref(), reason.as_deref(), outcome.as_str());
    if shelf == Shelf::Notices && reason.is_none() {
        tracing::debug!(user_id, role, acting_as, address, action, object, outcome, reason, "audit");
    } else {
        tracing::info!(user_id, role, acting_as, address, action, object, outcome, reason, "audit");
    }
}

/// The writing of what is pending; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AuditWriter(tokio::task::JoinHandle<()>);

impl AuditWriter {
    /// Starts to write on `runtime`.
    pub(crate) fn start(runtime: &tokio::runtime::Handle, audit: &Arc<Audit>) -> Self {
        let audit = Arc::downgrade(audit);
        Self(runtime.spawn(async move {
            let mut ticks = tokio::time::interval(WRITE_INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(audit) = audit.upgrade() else { return };
                if let Err(error) = audit.write_pending().await {
                    tracing::warn!(%error, "the audit cannot be stored; trying again");
                }
            }
        }))
    }
}

impl Drop for AuditWriter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    /// Notes that a caller was refused a call of the API before it came here.
    pub(crate) fn note_refused_call(&self, caller: &Caller, method: &str, error: &Error) {
        self.audit.note_refusal(caller, Act::named("CALL", Some(method.to_owned())), error);
    }
}

#[cfg(test)]
mod tests;
