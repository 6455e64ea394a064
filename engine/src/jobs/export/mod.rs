//! EXPORT: the rows of a query to a file.
//!
//! ```text
//!  plan ─▶ batches ─▶ groups of rows ─▶ encoded, several at a time ─▶ in order ─▶ parts ─▶ the file
//! ```
//!
//! An export is a job, so that operators see it and how far it is; but it belongs to whoever asked for it. When nobody
//! waits for it any more it ends, and as when it fails nothing is left of it. Until the last moment its file has another
//! name, or is none.

mod columns;
mod encode;
mod output;
mod text;
mod unfinished;

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use datafusion::arrow::array::RecordBatch;
use futures::{FutureExt, Stream, StreamExt, stream};
use kalamdb_store::ids::UserId;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

pub(super) use self::unfinished::{left_behind, sweep};
use self::{columns::Columns, output::Output, unfinished::Unfinished};
use crate::{
    access::Role,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{Parameter, Plan, RowStream, StatementContext, from_commit, run_on_snapshot, timed_out},
    jobs::{
        core::{Core, Order},
        fault::Fault,
        hooks::JobStep,
        live::{LiveJob, Outcome},
        record::{JobId, JobProgress, JobTable, JobTrigger, JobType},
        system::Jobs,
    },
    sql::ExportFormat,
    storage::TargetPlace,
};

/// Rows encoded in one go, and the row group of a Parquet file.
const GROUP_ROWS: usize = 131_072;
/// A group ends earlier when its rows have about so many bytes in memory.
const GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Exports that may wait for their turn.
const MAX_WAITING: usize = 100;
/// Exports of one user, under way or waiting.
const MAX_OF_USER: usize = 2;

/// What is to be exported.
pub(crate) struct ExportOrder {
    pub(crate) place: TargetPlace,
    pub(crate) format: ExportFormat,
    /// The table whose rows they are, if the statement names one.
    pub(crate) table: Option<JobTable>,
    /// Its snapshot was taken.
    pub(crate) context: Arc<StatementContext>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) parameters: Arc<[Parameter]>,
    pub(crate) deadline: Option<Instant>,
}

/// A file that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Where it is: a relative path as it was written, a uri always written in the same way.
    pub uri: String,
    /// What it is.
    pub format: ExportFormat,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// An export under way. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct ExportJob {
    job: Arc<LiveJob>,
    outcome: oneshot::Receiver<Result<Exported>>,
}

/// Which exports are under way or wait.
#[derive(Debug, Default)]
pub(super) struct Exports {
    of: Mutex<HashMap<UserId, usize>>,
    /// The objects that are being written, by their uris.
    objects: Mutex<HashSet<String>>,
}

/// An export's place among them.
struct Counted {
    core: Arc<Core>,
    user: UserId,
}

impl Jobs {
    /// Begins an export.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS, SHUTTING_DOWN.
    pub(crate) fn export(&self, shared: &Arc<Shared>, order: ExportOrder) -> Result<ExportJob> {
        let core = self.core();
        if core.stopping.is_cancelled() {
            return Err(shutting_down());
        }
        let caller = &order.context.caller;
        let counted = Counted::enter(core, caller.user_id.clone(), caller.role)?;
        let mut details = vec![
            format!("uri={}", order.place.uri()),
            format!("format={}", order.format.as_str()),
            format!("user_id={}", caller.user_id),
        ];
        details.extend(caller.acting_as.as_ref().map(|user| format!("acting_as={user}")));
        let what = Order { job_type: JobType::Export, force: false, trigger: JobTrigger::Manual, resumes: None };
        let job = core.new_job_with(order.table.clone(), what, details);
        core.book.add(&job);
        let (sender, outcome) = oneshot::channel();
        let run = Run { shared: Arc::clone(shared), core: Arc::clone(core), job: Arc::clone(&job), order };
        // On the threads of queries, whose work most of it is; but counted as a job, for which closing waits.
        core.threads.spawn_on(shared.runtime.handle(), async move {
            run.run_to_end(sender).await;
            drop(counted);
        });
        Ok(ExportJob { job, outcome })
    }
}

impl ExportJob {
    pub(crate) fn id(&self) -> JobId {
        self.job.id()
    }

    /// What was written so far.
    pub(crate) fn progress(&self) -> JobProgress {
        self.job.record().progress
    }

    /// What became of it. To be asked once.
    ///
    /// # Errors
    /// What made it fail.
    pub(crate) async fn outcome(&mut self) -> Result<Exported> {
        (&mut self.outcome).await.unwrap_or_else(|_| Err(shutting_down()))
    }
}

impl Drop for ExportJob {
    fn drop(&mut self) {
        self.job.cancel();
    }
}

impl Counted {
    fn enter(core: &Arc<Core>, user: UserId, role: Role) -> Result<Self> {
        let mut of = core.under_export.of.lock();
        let all: usize = of.values().sum();
        let own = of.get(&user).copied().unwrap_or_default();
        if role == Role::User && own >= MAX_OF_USER {
            let message = format!("{MAX_OF_USER} exports of yours are under way, the most there may be. Wait for one.");
            return Err(Error::new(Reason::TooManyRequests, message).with("limit", "the exports of a user"));
        }
        if all >= MAX_WAITING {
            let message = format!("{MAX_WAITING} exports are under way or wait, the most that may. Try again later.");
            return Err(Error::new(Reason::TooManyRequests, message).with("limit", "the exports that wait"));
        }
        *of.entry(user.clone()).or_default() += 1;
        drop(of);
        Ok(Self { core: Arc::clone(core), user })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut of = self.core.under_export.of.lock();
        if let Some(count) = of.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.user);
            }
        }
    }
}

/// An object that no other export writes meanwhile. A folder takes care of that itself, but an upload in parts that is
/// completed replaces whatever is there.
struct Claimed {
    core: Arc<Core>,
    uri: String,
}

impl Claimed {
    /// # Errors
    /// FILE_EXISTS when another export writes it.
    fn take(core: &Arc<Core>, uri: &str) -> Result<Self> {
        if !core.under_export.objects.lock().insert(uri.to_owned()) {
            let message = format!("Another export is writing the file at '{uri}'. Choose another name.");
            return Err(Error::new(Reason::FileExists, message).with("uri", uri));
        }
        Ok(Self { core: Arc::clone(core), uri: uri.to_owned() })
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.core.under_export.objects.lock().remove(&self.uri);
    }
}

/// An export from its beginning to its end.
struct Run {
    shared: Arc<Shared>,
    core: Arc<Core>,
    job: Arc<LiveJob>,
    order: ExportOrder,
}

impl Run {
    async fn run_to_end(self, sender: oneshot::Sender<Result<Exported>>) {
        let Self { core, job, .. } = &self;
        let started = Instant::now();
        // A panic ends this export alone.
        let exported = AssertUnwindSafe(self.run()).catch_unwind().await;
        let exported = exported.unwrap_or_else(|_| Err(Error::internal("an export panicked")));
        let outcome = match &exported {
            Ok(Exported { rows, bytes, .. }) => Outcome::completed(format!("Exported {rows} row(s), {bytes} bytes.")),
            Err(_) if core.stopping.is_cancelled() => Outcome::interrupted_of(JobType::Export),
            Err(error) if error.reason() == Reason::StatementCancelled => Outcome::cancelled(error.message()),
            Err(error) => Outcome::failed(&Fault::engine("export rows", error)),
        };
        core.metrics.ended(JobType::Export, outcome.status, started.elapsed());
        core.book.ended(job, outcome, None, self.shared.env.now_us()).await;
        // Nobody may be waiting.
        let _ = sender.send(exported);
    }

    async fn run(&self) -> Result<Exported> {
        let Self { shared, core, job, order } = self;
        let place = Arc::clone(&core.exports).acquire_owned();
        let _place = self.unless_stopped(async { place.await.map_err(|_| shutting_down()) }).await?;
        core.book.began(job, shared.env.now_us()).await.map_err(from_commit)?;
        let target = self.unless_stopped(order.place.open_file()).await?;
        let folder = target.folder.clone();
        let _claimed = match &folder {
            Some(_) => None,
            None => Some(Claimed::take(core, order.place.uri())?),
        };
        let min_free = shared.settings.min_free_disk_bytes;
        let mut output = self.unless_stopped(Output::new(target, job.id(), min_free)).await?;
        if let Some(folder) = folder {
            let name = output::temporary_name(order.place.file_name(), job.id());
            unfinished::note(shared, job.id(), &Unfinished { folder: folder.clone(), name })
                .await
                .map_err(from_commit)?;
            let outcome = self.write(&mut output).await;
            unfinished::forget(shared, job.id()).await;
            return outcome;
        }
        self.write(&mut output).await
    }

    /// Writes the file, or gives it up.
    async fn write(&self, output: &mut Output) -> Result<Exported> {
        let written = async {
            self.reached(JobStep::BeforeUpload)?;
            let rows = self.unless_stopped(self.write_rows(output)).await?;
            self.reached(JobStep::BeforeCommit)?;
            // From here on it is not stopped: whether there is a file is known then.
            output.finish().await?;
            Ok(rows)
        };
        // What is under way when it panics is given up, too.
        let written = AssertUnwindSafe(written).catch_unwind().await;
        let rows = match written.unwrap_or_else(|_| Err(Error::internal("an export panicked"))) {
            Ok(rows) => rows,
            Err(error) => {
                output.abandon().await;
                return Err(error);
            }
        };
        let bytes = output.bytes();
        self.job.advance(|progress| (progress.bytes, progress.segments) = (bytes, 1));
        let ExportOrder { place, format, .. } = &self.order;
        Ok(Exported { uri: place.uri().to_owned(), format: *format, rows, bytes })
    }

    async fn write_rows(&self, output: &mut Output) -> Result<u64> {
        let Self { shared, job, order, .. } = self;
        let Plan::Query(query) = order.plan.as_ref() else {
            return Err(Error::internal("an export of what is no query"));
        };
        let rows =
            run_on_snapshot(shared, Arc::clone(&order.context), query, &order.parameters, order.deadline).await?;
        let (mut file, encoder) = encode::begin(order.format, Columns::of(&rows.schema())?)?;
        let at_once = shared.runtime.threads() + 1;
        let encoded = groups(rows).map(|group| {
            let (encoder, job) = (Arc::clone(&encoder), Arc::clone(job));
            // Begun at once, not when it is asked for.
            let work = shared.runtime.spawn(async move { encoder.encode(group?, &job).await });
            async move { work.outcome().await? }
        });
        let mut encoded = std::pin::pin!(encoded.buffered(at_once));
        let mut written = 0;
        while let Some(encoded) = encoded.next().await {
            let encoded = encoded?;
            written += encoded.rows;
            let bytes = file.append(encoded)?;
            job.holds(at_once * GROUP_BYTES + bytes.len() + output.memory_bytes());
            output.write(&bytes).await?;
            job.advance(|progress| (progress.rows, progress.bytes) = (written, output.bytes()));
        }
        output.write(&file.finish()?).await?;
        Ok(written)
    }

    /// Does a part of the work unless the export must end: nobody waits for it any more, its time is over, or the server
    /// stops.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let late = async {
            match self.order.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.job.cancelled() => Err(match self.core.stopping.is_cancelled() {
                true => shutting_down(),
                false => Error::new(Reason::StatementCancelled, "The export was stopped: nobody waits for it any more."),
            }),
            () = late => Err(timed_out()),
            done = work => done,
        }
    }

    fn reached(&self, step: JobStep) -> Result<()> {
        self.core.reached(step).map_err(|fault| Error::new(fault.reason, fault.message))
    }
}

/// Batches of rows as groups that are encoded at once.
fn groups(rows: RowStream) -> impl Stream<Item = Result<Vec<RecordBatch>>> {
    stream::unfold(Some(rows), |rows| async move {
        let mut rows = rows?;
        let (mut group, mut count, mut bytes) = (Vec::new(), 0, 0);
        while count < GROUP_ROWS && bytes < GROUP_BYTES {
            match rows.next().await {
                Some(Ok(batch)) => {
                    count += batch.num_rows();
                    bytes += columns::bytes_of(&batch);
                    group.push(batch);
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return (!group.is_empty()).then_some((Ok(group), None)),
            }
        }
        Some((Ok(group), Some(rows)))
    })
}

fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again.")
}
