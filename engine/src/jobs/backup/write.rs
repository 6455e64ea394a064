//! BACKUP DATABASE: a namespace, as of one snapshot, to a directory.
//!
//! ```text
//! note ─▶ snapshot ─▶ for each table: segments copied as they are ─▶ hot rows as Parquet ─▶ lists ─▶ manifest ─▶ note goes
//! ```
//!
//! The snapshot has hot rows, segments and their deletion marks as of one commit, and while it is registered the sweep
//! keeps the files that it names. So writes, flushes, compactions and DDL go on meanwhile.

use std::{cmp::Ordering, sync::Arc};

use kalamdb_store::{
    codec::SegmentEntry,
    commit::committed_seq,
    ids::{CommitSeq, Partition},
    kv::{Snapshot, WriteBatch},
    segment::segment_file_name,
};

use super::{
    BackupRequest,
    copy::{Copied, Copies, reached},
    duckdb::Views,
    format::{
        BackupId, BackupMode, DUCKDB, FORMAT, FileLine, MAX_MANIFEST_BYTES, Manifest, TableCounts, TableManifest,
        Totals, seal,
    },
    hot::HotFiles,
    lists::{LineReader, LineWriter, MarkWriter},
    place::Place,
    unfinished::{self, Note, Work},
    walk::{MarkWalk, PartitionWalk},
};
use crate::{
    catalog::{Namespace, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{SnapshotGuard, from_store},
    jobs::{core::Core, hooks::JobStep, live::LiveJob},
    sql::TableKind,
};

/// Makes a backup. Answers what it has.
pub(super) async fn run(
    shared: &Arc<Shared>,
    core: &Arc<Core>,
    job: &Arc<LiveJob>,
    request: &BackupRequest,
) -> Result<String> {
    let place = Place::new(request.place.open_folder(true).await?, shared.settings.min_free_disk_bytes);
    let base = base(core, &place, request).await?;
    reached(core, JobStep::BeforePending)?;
    let note = Note::of(core, job.id());
    let mut kv = WriteBatch::new();
    note.put_in(&mut kv, &Work::Backup { uri: request.place.uri().to_owned(), folder: place.opened() })?;
    unfinished::commit(shared, kv).await?;
    let backup = BackupId(job.id().get().cast_unsigned());
    let outcome = write(shared, core, job, request, &place, backup, base).await;
    match outcome {
        Ok(manifest) => {
            // The backup is there. What fails now is done later, when the note is found.
            if let Err(error) = end(shared, &place, backup, &note).await {
                tracing::warn!(job = %job.id(), %error, "a backup is complete; its views and its note are seen to later");
            }
            Ok(summary(&manifest))
        }
        Err(error) => {
            if let Err(left) = unfinished::remove(core, shared, job.id()).await {
                tracing::warn!(job = %job.id(), %left, "what a failed backup has left is removed later");
            }
            Err(error)
        }
    }
}

/// What is left to do once there is a manifest.
async fn end(shared: &Arc<Shared>, place: &Place, backup: BackupId, note: &Note) -> Result<()> {
    unfinished::show_views(place, backup).await?;
    let mut kv = WriteBatch::new();
    note.forget_in(&mut kv);
    unfinished::commit(shared, kv).await
}

/// The backup that an incremental one follows; fails where this one must not be.
async fn base(core: &Core, place: &Place, request: &BackupRequest) -> Result<Option<Manifest>> {
    let newest = place.newest().await?;
    let Some(newest) = newest else {
        if request.mode == BackupMode::Incremental {
            return Err(Error::new(
                Reason::BackupNotFound,
                format!(
                    "There is no backup at '{}' yet that an incremental one could follow. Make the first one without MODE \
                     INCREMENTAL.",
                    place.uri()
                ),
            )
            .with("uri", place.uri()));
        }
        if place.begun().await?.is_empty() && place.is_foreign().await? {
            return Err(mismatch(place, "has files that are of no backup"));
        }
        return Ok(None);
    };
    check_fits(core, place, request, &newest)?;
    Ok((request.mode == BackupMode::Incremental).then_some(newest))
}

/// Fails unless a backup of a directory is one that others can lie beside.
fn check_fits(core: &Core, place: &Place, request: &BackupRequest, other: &Manifest) -> Result<()> {
    if other.database_id != database_id(core) {
        return Err(mismatch(place, "has backups of another database"));
    }
    if other.namespace != request.namespace {
        return Err(mismatch(place, &format!("has backups of namespace '{}'", other.namespace)));
    }
    Ok(())
}

fn mismatch(place: &Place, what: &str) -> Error {
    let uri = place.uri();
    Error::new(Reason::BackupMismatch, format!("'{uri}' {what}. Choose a directory of its own for each namespace."))
        .with("uri", uri)
}

pub(super) fn database_id(core: &Core) -> String {
    format!("{:016x}", core.database_id)
}

/// A namespace as of a commit.
struct View {
    namespace: Arc<Namespace>,
    /// By their ids.
    tables: Vec<Arc<Table>>,
    snapshot: Arc<dyn Snapshot>,
    seq: CommitSeq,
    /// An id that nothing in the snapshot has, or a greater one.
    last_id: i64,
    created_at_us: i64,
    _guard: SnapshotGuard,
}

impl View {
    async fn take(shared: &Arc<Shared>, namespace: &str) -> Result<Self> {
        // While nobody changes the catalog, its state is that of the snapshot.
        let held = shared.catalog.hold().await;
        let found = Arc::clone(held.state.namespace(namespace)?);
        let mut tables: Vec<Arc<Table>> = held.state.tables_of(namespace).cloned().collect();
        tables.sort_unstable_by_key(|table| table.id());
        let guard = shared.snapshots.register(shared.committer.last_commit_seq());
        let snapshot = shared.backend.snapshot();
        let seq = committed_seq(snapshot.as_ref()).map_err(from_store)?;
        // Behind the snapshot: ids ascend.
        let (last_id, created_at_us) = (shared.ids.snowflake(), shared.env.now_us());
        Ok(Self { namespace: found, tables, snapshot, seq, last_id, created_at_us, _guard: guard })
    }
}

/// Writes all files; the manifest last.
async fn write(
    shared: &Arc<Shared>,
    core: &Arc<Core>,
    job: &Arc<LiveJob>,
    request: &BackupRequest,
    place: &Place,
    backup: BackupId,
    base: Option<Manifest>,
) -> Result<Manifest> {
    let view = View::take(shared, &request.namespace).await?;
    let mut writer = Writer {
        job,
        backup,
        copies: Copies::new(shared, core, job, place),
        lines: LineWriter::new(place.clone(), backup),
        marks: MarkWriter::new(place.clone(), backup),
        base: base.as_ref().map(|base| Base::new(place, base)),
        views: Views::new(backup, view.namespace.name.as_str()),
        counts: TableCounts::default(),
        totals: Totals::default(),
        hot_files: 0,
    };
    let tables = writer.tables(shared, core, &view).await;
    writer.copies.settle().await;
    let tables = tables?;
    let Writer { lines, marks, views, totals, .. } = writer;
    let (files, marks) = (lines.finish().await?, marks.finish().await?);
    let script = views.finish(&files, &marks);
    place.write(&format!("{}/{DUCKDB}", backup.folder()), script.into_bytes().into()).await?;
    let manifest = Manifest {
        format: FORMAT,
        kalamdb: env!("CARGO_PKG_VERSION").to_owned(),
        backup,
        mode: request.mode,
        based_on: base.map(|base| base.backup),
        database_id: database_id(core),
        namespace: view.namespace.name.to_string(),
        options: view.namespace.options.clone(),
        created_at_us: view.created_at_us,
        finished_at_us: shared.env.now_us(),
        commit_seq: view.seq,
        last_id: Some(view.last_id),
        tables,
        files,
        marks,
        totals,
    };
    let sealed = seal(&manifest).map_err(Error::internal)?;
    check_size(sealed.len() as u64)?;
    reached(core, JobStep::BeforeCommit)?;
    // Another server can have found the directory empty, too, and been faster.
    if let Some(newest) = place.newest().await? {
        check_fits(core, place, request, &newest)?;
    }
    place.write_whole(backup, &backup.manifest(), sealed.into()).await?;
    // It is there now, whatever is to be made of that.
    let _ = core.reached(JobStep::AfterCommit);
    Ok(manifest)
}

/// A manifest that could not be read again must not be written.
fn check_size(bytes: u64) -> Result<()> {
    if bytes <= MAX_MANIFEST_BYTES {
        return Ok(());
    }
    let most = MAX_MANIFEST_BYTES >> 20;
    let message = format!(
        "The definitions of the namespace's tables have more than {most} MiB, the most for one backup. Make some of \
         them anew in another namespace."
    );
    Err(Error::new(Reason::WriteTooLarge, message).with("limit", "the size of a manifest"))
}

struct Writer<'a> {
    job: &'a Arc<LiveJob>,
    backup: BackupId,
    copies: Copies,
    lines: LineWriter,
    marks: MarkWriter,
    base: Option<Base>,
    views: Views,
    /// Of the table under way.
    counts: TableCounts,
    totals: Totals,
    hot_files: u64,
}

impl Writer<'_> {
    async fn tables(&mut self, shared: &Arc<Shared>, core: &Arc<Core>, view: &View) -> Result<Vec<TableManifest>> {
        let mut tables = Vec::with_capacity(view.tables.len());
        for table in &view.tables {
            self.views.begin(table);
            if table.kind() != TableKind::Stream {
                self.segments(view, table).await?;
                self.hot_rows(shared, core, view, table).await?;
            }
            self.drain().await?;
            let counts = std::mem::take(&mut self.counts);
            self.totals.rows += counts.live_rows();
            let storage = shared.storages.name_of(table.storage());
            tables.push(TableManifest { definition: table.record().clone(), storage, counts });
        }
        Ok(tables)
    }

    async fn segments(&mut self, view: &View, table: &Arc<Table>) -> Result<()> {
        let snapshot = view.snapshot.as_ref();
        let mut walk = PartitionWalk::new(table.id());
        let folder = self.backup.data_folder(table.name().as_str());
        while let Some((partition, entries)) = self.job.busy(|| walk.next(snapshot))? {
            tokio::task::yield_now().await;
            for entry in entries {
                let before = match &mut self.base {
                    Some(base) => base.find(&partition, &entry).await?,
                    None => None,
                };
                let file = segment_file_name(entry.id);
                let mut count = 0;
                let mut walk = MarkWalk::new(&partition, entry.id);
                loop {
                    let marks = self.job.busy(|| walk.next(snapshot))?;
                    if marks.is_empty() {
                        break;
                    }
                    count += marks.len() as u64;
                    self.marks.push(&file, &marks).await?;
                    tokio::task::yield_now().await;
                }
                self.make_room(entry.file_bytes).await?;
                self.copies.segment(&partition, entry, count, format!("{folder}/{file}"), before);
            }
            self.job.advance(|progress| progress.partitions += 1);
        }
        Ok(())
    }

    async fn hot_rows(
        &mut self,
        shared: &Arc<Shared>,
        core: &Arc<Core>,
        view: &View,
        table: &Arc<Table>,
    ) -> Result<()> {
        let mut files = HotFiles::new(shared, core, self.job, &view.snapshot, table)?;
        while let Some(file) = files.next().await? {
            self.hot_files += 1;
            let folder = self.backup.data_folder(table.name().as_str());
            let path = format!("{folder}/hot-{:04}.parquet", self.hot_files);
            let (bytes, rows) = (file.bytes.len() as u64, file.rows);
            let (table, schema_version) = (table.id(), table.schema_version());
            let named = path.clone();
            let line = move |sha256| FileLine {
                table,
                path: named,
                bytes,
                rows,
                sha256,
                schema_version,
                owner: None,
                segment: None,
            };
            self.make_room(bytes).await?;
            self.copies.file(path, file.bytes, line);
        }
        Ok(())
    }

    async fn make_room(&mut self, bytes: u64) -> Result<()> {
        while self.copies.is_full(bytes) {
            self.take_one().await?;
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<()> {
        while self.take_one().await? {}
        Ok(())
    }

    /// Lists the next file that has arrived; false: there is none.
    async fn take_one(&mut self) -> Result<bool> {
        let Some(Copied { line, is_new }) = self.copies.next().await? else { return Ok(false) };
        self.counts.add(&line);
        self.views.file(&line);
        self.totals.files += 1;
        self.totals.bytes += line.bytes;
        if is_new {
            self.totals.new_files += 1;
            self.totals.new_bytes += line.bytes;
        }
        self.job.advance(|progress| {
            progress.segments += 1;
            progress.rows += line.rows;
            progress.bytes += line.bytes;
        });
        self.lines.push(&line).await?;
        Ok(true)
    }
}

/// The list of files of the backup before, read along: it is in the order in which segments are found.
struct Base {
    lines: LineReader,
    next: Option<FileLine>,
    is_begun: bool,
}

impl Base {
    fn new(place: &Place, manifest: &Manifest) -> Self {
        Self { lines: LineReader::new(place.clone(), &manifest.files), next: None, is_begun: false }
    }

    /// The line of a segment, if the backup before has it. Must be asked in the order of the list.
    async fn find(&mut self, partition: &Partition, entry: &SegmentEntry) -> Result<Option<FileLine>> {
        let wanted = (partition.table, &partition.owner, entry.id);
        loop {
            if self.next.is_none() {
                if self.is_begun && self.lines.is_at_end() {
                    return Ok(None);
                }
                self.next = self.lines.next().await?;
                self.is_begun = true;
            }
            let Some(line) = &self.next else { return Ok(None) };
            // Hot rows come behind the segments of their table. Owners' keys are in the order of owners.
            let place = match &line.segment {
                Some(segment) => (line.table, &line.partition_owner(), segment.id).cmp(&wanted),
                None => line.table.cmp(&partition.table).then(Ordering::Greater),
            };
            match place {
                Ordering::Less => self.next = None,
                Ordering::Equal => return Ok(self.next.take().filter(|line| line.is_of(entry))),
                Ordering::Greater => return Ok(None),
            }
        }
    }
}

fn summary(manifest: &Manifest) -> String {
    let Totals { rows, files, bytes, new_files, new_bytes } = manifest.totals;
    let tables = manifest.tables.len();
    let copied = match manifest.mode {
        BackupMode::Full => String::new(),
        BackupMode::Incremental => format!(", of which {new_files} file(s) of {new_bytes} bytes are new"),
    };
    format!(
        "Backup {}: {tables} table(s), {rows} row(s), {files} file(s) of {bytes} bytes{copied}, as of commit {}.",
        manifest.backup, manifest.commit_seq
    )
}
