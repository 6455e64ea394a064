//! One ingest, from its first batch to its last commit.

use std::{pin::Pin, sync::Arc, time::Duration};

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::{Stream, StreamExt, stream::FuturesOrdered};
use kalamdb_store::{
    codec::PrimaryKey,
    commit::{CommitError, Committed, PreparedCommit, Unique},
    ids::{CommitSeq, Owner, TableId},
};

use super::{
    columns::Columns,
    create,
    existing::{self, Existing},
    lot::{EncodedLot, Encoder, Gathering, Lot, bytes_of, check_schema, row_too_large},
    memory::Held,
    part::{Finished, Part, whose},
    target::{IfExists, IfMissing, IngestOutcome, IngestTarget},
};
use crate::{
    access::{self, Caller, StatementKind},
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        dml::check_writable,
        errors::from_commit,
        output::timed_out,
        planner::{Names, UsedTable},
        write::{self, display_key},
    },
    session::Session,
    sql::{CreateTable, Name, TableName, TableScope},
};

/// An ingest that is not atomic commits its rows when they have so many bytes.
const PART_BYTES: usize = 32 * 1024 * 1024;

/// Lots that are encoded at the same time, for each thread that can.
const LOTS_PER_THREAD: usize = 2;

/// How often a commit is tried again because segments came meanwhile.
const MAX_ATTEMPTS: usize = 100;

/// Rows on their way in.
type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

impl Session {
    /// Puts rows into a table: all of them or, if the target says so, in parts. They are durable when it returns.
    ///
    /// Columns are matched by name. Those that the data does not have get their defaults; a column `_user_id` says whose
    /// rows they are, for roles from service on. If `batches` ends with an error nothing (more) is ingested, and the error
    /// is answered. Rows are counted from 0 in messages, and in the metadata `row` of errors.
    ///
    /// # Errors
    /// As for INSERT. WRITE_TOO_LARGE for an atomic ingest beyond `ingest.max_bytes`; TOO_MANY_REQUESTS when all ingests
    /// together hold too much; STATEMENT_TIMEOUT when no batch comes for as long as a statement may take. Of an ingest
    /// that is not atomic the metadata `rows_ingested` says how many rows are in.
    pub async fn ingest<S>(&self, target: IngestTarget, schema: SchemaRef, batches: S) -> Result<IngestOutcome>
    where
        S: Stream<Item = Result<RecordBatch>> + Send + 'static,
    {
        let (shared, caller) = (Arc::clone(self.shared()), self.caller().clone());
        let batches: Batches = Box::pin(batches);
        // Decoding, converting and encoding take the query threads, not those that serve calls.
        let running = self.shared().runtime.spawn(run(shared, caller, target, schema, batches));
        running.outcome().await?
    }
}

async fn run(
    shared: Arc<Shared>,
    caller: Caller,
    target: IngestTarget,
    schema: SchemaRef,
    batches: Batches,
) -> Result<IngestOutcome> {
    access::may_run(&caller, StatementKind::Insert)?;
    let context = Arc::new(shared.context(caller));
    let goal = Goal::find(&shared, &context, &target, &schema).await?;
    let mut outcome = IngestOutcome::default();
    let mut ingest = Ingest::new(shared, context, target, &schema, goal)?;
    let mut ended = ingest.run(&schema, batches, &mut outcome).await;
    // The part before the one that failed is in, or failed first.
    if let Err(first) = ingest.committed(&mut outcome).await {
        ended = Err(first);
    }
    ended.map_err(|error| told_what_is_in(error, &outcome))?;
    Ok(outcome)
}

/// Says of an error which rows are in.
fn told_what_is_in(error: Error, outcome: &IngestOutcome) -> Error {
    // After these it is not known what became of the last commit.
    if matches!(error.reason(), Reason::StorePoisoned | Reason::ShuttingDown | Reason::Internal) {
        return error;
    }
    match outcome.rows {
        0 => error.saying("Nothing was ingested."),
        rows => error
            .saying(&format!("The first {rows} rows are ingested, and none of the others."))
            .with("rows_ingested", rows.to_string()),
    }
}

/// The table that rows go to.
struct Goal {
    table: Arc<Table>,
    used: Option<UsedTable>,
    /// The statement that makes it, if there is none yet.
    create: Option<CreateTable>,
}

impl Goal {
    async fn find(
        shared: &Shared,
        context: &StatementContext,
        target: &IngestTarget,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let name = table_name(target);
        check_writable(&name, None)?;
        match used_table(context, &name) {
            Ok(used) => match target.if_exists {
                IfExists::Append => Ok(Self { table: Arc::clone(&used.table), used: Some(used), create: None }),
                IfExists::Fail => Err(exists(target)),
            },
            Err(error) if error.reason() == Reason::TableNotFound && target.if_missing == IfMissing::Create => {
                create::may_create(shared, &context.caller, target).await?;
                let statement = create::statement(target, schema)?;
                let table = Arc::new(shared.catalog.planned_table(&target.namespace, &statement)?);
                Ok(Self { table, used: None, create: Some(statement) })
            }
            Err(error) => Err(error),
        }
    }
}

fn table_name(target: &IngestTarget) -> TableName {
    let plain = |text: &str| Name { text: text.to_owned(), position: None };
    TableName { namespace: Some(plain(&target.namespace)), scope: TableScope::Caller, table: plain(&target.table) }
}

fn used_table(context: &StatementContext, name: &TableName) -> Result<UsedTable> {
    Names { catalog: &context.catalog, viewer: &context.viewer, namespace: None }.table(name)
}

fn exists(target: &IngestTarget) -> Error {
    let message = format!("Table {}.{} exists already.", target.namespace, target.table);
    Error::new(Reason::TableExists, message)
        .with("namespace", target.namespace.as_str())
        .with("table", target.table.as_str())
}

/// An ingest under way.
struct Ingest {
    shared: Arc<Shared>,
    context: Arc<StatementContext>,
    target: IngestTarget,
    encoder: Arc<Encoder>,
    unique: Unique,
    /// What makes the table, until it is made.
    create: Option<CreateTable>,
    /// The table, once there is one.
    used: Option<UsedTable>,
    /// The commit of the part before.
    committing: Option<Committing>,
}

/// A part on its way to the committer.
type Committing = Pin<Box<dyn Future<Output = Result<Done>> + Send>>;

/// A part that was committed.
struct Done {
    rows: u64,
    commit_seq: CommitSeq,
}

impl Ingest {
    fn new(
        shared: Arc<Shared>,
        context: Arc<StatementContext>,
        target: IngestTarget,
        schema: &SchemaRef,
        goal: Goal,
    ) -> Result<Self> {
        let Goal { table, used, create } = goal;
        let columns = Columns::plan(&table, schema, &context.caller)?;
        let Some(owner) = context.owner(&table, TableScope::Caller) else {
            return Err(Error::internal("an ingest into no partition"));
        };
        let unique = if columns.generates_keys() { Unique::Generated } else { Unique::Check };
        let rule = used.as_ref().and_then(|used| used.rule.clone());
        let encoder =
            Arc::new(Encoder { shared: Arc::clone(&shared), context: Arc::clone(&context), columns, rule, owner });
        Ok(Self { shared, context, target, encoder, unique, create, used, committing: None })
    }

    async fn run(&mut self, schema: &SchemaRef, mut batches: Batches, outcome: &mut IngestOutcome) -> Result<()> {
        let mut received = Received { gathering: Gathering::default(), rows: 0 };
        let mut encoding = FuturesOrdered::new();
        let at_once = std::thread::available_parallelism().map_or(1, usize::from) * LOTS_PER_THREAD;
        let mut part = self.new_part();
        loop {
            let batch = next(&mut batches, self.shared.settings.statement_timeout_ms).await?;
            let is_end = batch.is_none();
            let lots = match batch {
                Some(batch) => {
                    check_schema(&batch, schema)?;
                    received.gathering.add(batch)
                }
                None => received.gathering.take().into_iter().collect(),
            };
            for batches in lots {
                let lot = self.lot(batches, &mut received.rows)?;
                let encoder = Arc::clone(&self.encoder);
                encoding.push_back(self.shared.runtime.spawn(async move { encoder.encode(lot) }).outcome());
                while encoding.len() >= at_once
                    && let Some(encoded) = encoding.next().await
                {
                    self.add(&mut part, encoded??, outcome).await?;
                }
            }
            if is_end {
                break;
            }
        }
        while let Some(encoded) = encoding.next().await {
            self.add(&mut part, encoded??, outcome).await?;
        }
        if part.rows() > 0 || self.create.is_some() {
            self.commit(part, outcome).await?;
        }
        self.committed(outcome).await
    }

    fn new_part(&self) -> Part {
        Part::new(Held::none(&self.shared.ingest_memory))
    }

    /// Rows that are to be encoded, with their numbers and generated keys.
    fn lot(&self, batches: Vec<RecordBatch>, received: &mut u64) -> Result<Lot> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        // Before it is in memory once more.
        if rows == 1 && batches.iter().map(bytes_of).sum::<usize>() > self.shared.settings.max_write_bytes {
            return Err(row_too_large(*received, self.shared.settings.max_write_bytes));
        }
        let keys = self.encoder.columns.keys_for(&self.shared, &self.context, rows)?;
        let first_row = *received;
        *received += rows as u64;
        Ok(Lot { batches, first_row, keys })
    }

    /// Adds encoded rows to the part, and begins the next one when it is full.
    async fn add(&mut self, part: &mut Part, lot: EncodedLot, outcome: &mut IngestOutcome) -> Result<()> {
        let settings = &self.shared.settings.ingest;
        part.add(lot)?;
        if self.target.options.atomic {
            if part.bytes() > settings.max_bytes {
                return Err(too_large(settings.max_bytes));
            }
            return Ok(());
        }
        if part.bytes() >= PART_BYTES.min(settings.max_bytes) {
            let full = std::mem::replace(part, self.new_part());
            self.commit(full, outcome).await?;
        }
        Ok(())
    }

    /// Begins to commit a part, after the one before it.
    async fn commit(&mut self, part: Part, outcome: &mut IngestOutcome) -> Result<()> {
        let rows = part.rows();
        let finished = part.finish(&self.shared, self.encoder.columns.table(), self.unique).await?;
        self.committed(outcome).await?;
        if let Some(statement) = self.create.take() {
            return self.create(statement, finished, rows, outcome).await;
        }
        self.commit_finished(finished, rows)
    }

    /// Begins to commit a part to the table that is there.
    fn commit_finished(&mut self, finished: Finished, rows: u64) -> Result<()> {
        let used = self.still_allowed()?;
        // Rows of an ingest that made its table were encoded before it had an id.
        finished.rows.set_table(used.table.id());
        let (shared, context) = (Arc::clone(&self.shared), Arc::clone(&self.context));
        let committing = committed(Arc::clone(&shared), context, used.table, finished, rows);
        let committing = shared.runtime.spawn(committing);
        self.committing = Some(Box::pin(async move { committing.outcome().await? }));
        Ok(())
    }

    /// Waits for the part that is being committed.
    async fn committed(&mut self, outcome: &mut IngestOutcome) -> Result<()> {
        let Some(committing) = self.committing.take() else { return Ok(()) };
        let done = committing.await?;
        note(outcome, done.rows, done.commit_seq);
        Ok(())
    }

    /// Makes the table with its first rows.
    async fn create(
        &mut self,
        statement: CreateTable,
        finished: Finished,
        rows: u64,
        outcome: &mut IngestOutcome,
    ) -> Result<()> {
        let Finished { rows: bulk, .. } = &finished;
        let bulk = (rows > 0).then(|| bulk.clone());
        let (namespace, began_at) = (&self.target.namespace, self.context.began_at);
        let creating = create::create(&self.shared, &self.context.caller, &statement, namespace, bulk, began_at);
        let (id, commit_seq) = match creating.await {
            Err(error) if error.reason() == Reason::TableExists && self.target.if_exists == IfExists::Append => {
                return self.append_to_new(finished, rows).await;
            }
            created => created?,
        };
        outcome.created = true;
        outcome.commit_seq = Some(commit_seq);
        if rows > 0 {
            note(outcome, rows, commit_seq);
            self.shared.jobs.rows_written(id, rows);
        }
        // What follows goes to the table that was made, not to one that took its name since.
        let context = self.shared.context(self.context.caller.clone());
        let used = used_table(&context, &table_name(&self.target))?;
        if used.table.id() != id {
            return Err(changed(&used.table));
        }
        self.used = Some(used);
        Ok(())
    }

    /// Begins to commit rows that were prepared for a table that somebody else has made meanwhile: several clients may begin
    /// with one table together.
    async fn append_to_new(&mut self, finished: Finished, rows: u64) -> Result<()> {
        let context = self.shared.context(self.context.caller.clone());
        let used = used_table(&context, &table_name(&self.target))?;
        if used.rule.is_some() || !used.table.stores_rows_as(self.encoder.columns.table()) {
            return Err(changed(&used.table));
        }
        self.used = Some(used);
        if rows == 0 { Ok(()) } else { self.commit_finished(finished, rows) }
    }

    /// The table, if the caller may still write these rows to it: between the first batch and a commit there can be
    /// minutes.
    fn still_allowed(&self) -> Result<UsedTable> {
        let Some(before) = &self.used else { return Err(Error::internal("a commit without a table")) };
        let context = self.shared.context(self.context.caller.clone());
        let now = used_table(&context, &table_name(&self.target))?;
        if now.table.id() != before.table.id() || now.rule != before.rule {
            return Err(changed(&before.table));
        }
        // The rows are of the schema version that they were encoded for.
        Ok(before.clone())
    }
}

/// The next batch, if it comes in time.
async fn next(batches: &mut Batches, timeout_ms: u64) -> Result<Option<RecordBatch>> {
    let next = match timeout_ms {
        0 => batches.next().await,
        ms => tokio::time::timeout(Duration::from_millis(ms), batches.next()).await.map_err(|_| timed_out())?,
    };
    next.transpose()
}

/// What has come of the stream.
struct Received {
    gathering: Gathering,
    rows: u64,
}

fn note(outcome: &mut IngestOutcome, rows: u64, commit_seq: CommitSeq) {
    outcome.rows += rows;
    outcome.parts += 1;
    outcome.commit_seq = Some(commit_seq);
}

/// Searches for the keys, and commits; again if segments came meanwhile.
async fn committed(
    shared: Arc<Shared>,
    context: Arc<StatementContext>,
    table: Arc<Table>,
    finished: Finished,
    rows: u64,
) -> Result<Done> {
    let mut context = context;
    for _ in 0..MAX_ATTEMPTS {
        context = Arc::new(context.renewed());
        let checked_at = if finished.is_generated() {
            None
        } else {
            // Before the snapshot, which may so be newer but never older.
            let checked_at = shared.committer.last_commit_seq();
            let found = existing::find(&shared, &context, &table, &finished.rows).await?;
            if let Some(existing) = found.existing {
                return Err(exists_already(&table, &finished, &existing));
            }
            if !found.expired.is_empty() {
                match write::commit(&shared, &context, found.expired).await {
                    // Search again: what else has come meanwhile is not in this snapshot.
                    Ok(_) | Err(CommitError::VersionChanged { .. }) => continue,
                    Err(other) => return Err(from_commit(other)),
                }
            }
            Some(checked_at)
        };
        let prepared = PreparedCommit {
            commit_time_us: shared.env.now_us(),
            bulk: Some(finished.rows.clone()),
            cold_checked_at: checked_at,
            began_at: Some(context.began_at),
            ..PreparedCommit::default()
        };
        match commit(&shared, table.id(), prepared, rows).await? {
            Ok(committed) => return Ok(Done { rows, commit_seq: committed.commit_seq }),
            Err(CommitError::SegmentsChanged { .. } | CommitError::LogTrimmed { .. }) => {}
            Err(CommitError::KeyExists { change }) => {
                return Err(match finished.row(change) {
                    Some(existing) => exists_already(&table, &finished, &existing),
                    None => Error::internal("a conflict at no row"),
                });
            }
            Err(other) => return Err(from_commit(other)),
        }
    }
    Err(from_commit(CommitError::VersionChanged { change: 0 }))
}

/// Commits; also if the client goes away meanwhile: once the committer has the rows, what follows a commit has to follow.
async fn commit(
    shared: &Arc<Shared>,
    table: TableId,
    prepared: PreparedCommit,
    rows: u64,
) -> Result<Result<Committed, CommitError>> {
    let shared = Arc::clone(shared);
    let committing = shared.runtime.handle().clone().spawn(async move {
        let outcome = shared.committer.commit(prepared).await;
        if outcome.is_ok() {
            shared.jobs.rows_written(table, rows);
        }
        outcome
    });
    match committing.await {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.is_cancelled() => Ok(Err(CommitError::Closed)),
        Err(error) => Err(Error::internal(error)),
    }
}

impl Finished {
    /// Whether all keys were generated.
    fn is_generated(&self) -> bool {
        self.rows.inserts().iter().all(|insert| insert.unique() == Unique::Generated)
    }

    /// The row that the committer counts so.
    fn row(&self, change: usize) -> Option<Existing> {
        let mut before = 0;
        for (partition, insert) in self.rows.inserts().iter().enumerate() {
            if change < before + insert.rows().len() {
                let place = change - before;
                let key = PrimaryKey::from_encoded(insert.rows().key(place));
                return Some(Existing { partition, place, key });
            }
            before += insert.rows().len();
        }
        None
    }
}

fn exists_already(table: &Table, finished: &Finished, existing: &Existing) -> Error {
    let row = finished.numbers.of(existing.partition, existing.place);
    let shown = display_key(table, &existing.key);
    let column = table.key_column().name.as_str();
    let owner = finished.rows.inserts().get(existing.partition).map(|insert| insert.partition().owner.clone());
    let of_user = whose(&owner.unwrap_or(Owner::Shared));
    let message = format!(
        "Row {row} of the data has {column} = {shown}{of_user}, which table {} has already.",
        table.full_name()
    );
    Error::new(Reason::PrimaryKeyViolation, message)
        .with("table", table.full_name())
        .with("column", column)
        .with("key", shown)
        .with("row", row.to_string())
}

fn too_large(limit_bytes: usize) -> Error {
    let message = format!(
        "The ingest has more than {limit_bytes} bytes of rows, the most that are written at once. Send them in several \
         ingests, allow parts with kalamdb.ingest.atomic = false, or raise ingest.max_bytes."
    );
    Error::new(Reason::WriteTooLarge, message).with("limit", "ingest.max_bytes")
}

fn changed(table: &Table) -> Error {
    let message = format!(
        "Table {}, or what the caller may write to it, changed while rows were ingested. Run the ingest again.",
        table.full_name()
    );
    Error::new(Reason::WriteConflict, message).with("table", table.full_name())
}
