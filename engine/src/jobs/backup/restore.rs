//! RESTORE DATABASE: a namespace from a backup.
//!
//! ```text
//! reserve ids of tables, note them ─▶ each file read, compared with its SHA-256, copied ─▶ counts compared
//!                                             ─▶ commit: the namespace with its tables, and the note goes
//! ```
//!
//! Until that commit nobody sees anything of it: rows and segments lie under ids that no table has. If anything is not as
//! it was written, or the process ends, they are removed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use kalamdb_store::{
    codec::{Mark, encode_mark_list, mark_key, mark_list_key},
    commit::{NewSegment, PreparedCommit, SegmentChange},
    ids::{CommitSeq, Partition, SegmentId, StorageId, TableId},
    kv::{Keyspace, WriteBatch},
    segment::{block_checksums, check_segment_file},
};
use tokio::task::JoinSet;

use super::{
    RestoreRequest,
    copy::{lost, reached},
    format::{BackupId, FileLine, Manifest, TableCounts, TableManifest},
    lists::{LineReader, MarkReader},
    place::Place,
    restore_rows::restore_rows,
    room::{full, has_room, room},
    unfinished::{self, Note, Work},
};
use crate::{
    catalog::{NamespaceName, Table, TableRecord},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{from_commit, from_segment},
    ids::{MAX_SNOWFLAKE, last_snowflake_at, snowflake_time_us},
    jobs::{core::Core, hooks::JobStep, id_mark, live::LiveJob, pending::Pending, record::RESTORED},
    settings::StorageSettings,
    sql::Name,
};

/// Segments whose files are noted, and whose entries are committed, with one commit each.
const SEGMENTS_AT_ONCE: usize = 64;
/// Segments that are copied at a time, and about how many bytes of them.
const PARALLEL: usize = 8;
const PARALLEL_BYTES: u64 = 128 * 1024 * 1024;
/// No database comes near it; the commits of this one go on from that of the backup.
const MAX_COMMIT_SEQ: CommitSeq = CommitSeq::new(1 << 60);
/// Bytes of deletion marks in a commit.
const MARK_COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// How many times the bytes of a file of hot rows the hot tier can take: it compresses less, and writes rows to its log and
/// to its tables.
const HOT_TIMES: u64 = 4;
/// How much later than the clock and the ids of its server told when it began the ids of a backup can be.
const MAX_IDS_AHEAD_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Restores a backup. Answers what was restored.
pub(super) async fn run(
    shared: &Arc<Shared>,
    core: &Arc<Core>,
    job: &Arc<LiveJob>,
    request: &RestoreRequest,
) -> Result<String> {
    let place = Place::new(request.place.open_folder(false).await?, shared.settings.min_free_disk_bytes);
    let manifest = chosen(&place, request.backup).await?;
    if manifest.namespace != request.namespace {
        let (has, uri) = (&manifest.namespace, place.uri());
        return Err(Error::new(
            Reason::BackupMismatch,
            format!(
                "The backup at '{uri}' is of namespace '{has}', not of '{}'. Write RESTORE DATABASE {has} FROM '{uri}' AS {}.",
                request.namespace, request.into
            ),
        )
        .with("uri", uri));
    }
    if manifest.commit_seq > MAX_COMMIT_SEQ {
        return Err(place.damaged(&manifest.backup.manifest(), &"no database has made so many commits"));
    }
    let last_id = last_id(&place, &manifest)?;
    check_free(shared, &request.into)?;
    let storages = storages_of(shared, &manifest)?;
    check_room(shared, &manifest, &storages)?;
    reached(core, JobStep::BeforePending)?;
    let note = Note::of(core, job.id());
    let mut reserved = Vec::new();
    let reserving = shared.catalog.reserve_tables(manifest.tables.len(), |tables, batch| {
        reserved = tables.to_vec();
        note.put_in(batch, &Work::Restore { tables: tables.to_vec() })
    });
    reserving.await?;
    crate::jobs::pending::sync(shared).await.map_err(from_commit)?;
    let (tables, based_on) = (BTreeMap::new(), manifest.commit_seq);
    let mut restore = Restore { shared, core, job, place, tables, based_on, last_id };
    let outcome = restore.run(&manifest, request, &reserved, &storages, &note).await;
    if outcome.is_err()
        && let Err(left) = unfinished::remove(core, shared, job.id()).await
    {
        tracing::warn!(job = %job.id(), %left, "what a failed restore has left is removed later");
    }
    let rows = outcome?;
    Ok(format!(
        "{RESTORED}{} into namespace {}: {} table(s), {rows} row(s), as of commit {}.",
        manifest.backup,
        request.into,
        manifest.tables.len(),
        manifest.commit_seq
    ))
}

/// The manifest of the backup that is asked for; without one, of the newest.
async fn chosen(place: &Place, wanted: Option<BackupId>) -> Result<Manifest> {
    let uri = place.uri();
    let (found, message) = match wanted {
        Some(backup) => (
            place.manifest(backup).await?,
            format!("There is no backup {backup} at '{uri}'. SHOW BACKUP '{uri}' lists them."),
        ),
        None => (place.newest().await?, format!("There is no backup at '{uri}'.")),
    };
    found.ok_or_else(|| Error::new(Reason::BackupNotFound, message).with("uri", uri))
}

/// # Errors
/// NAMESPACE_EXISTS.
pub(super) fn check_free(shared: &Shared, namespace: &NamespaceName) -> Result<()> {
    if shared.catalog.state().namespaces.contains_key(namespace) {
        return Err(namespace_exists(namespace));
    }
    Ok(())
}

fn namespace_exists(namespace: &NamespaceName) -> Error {
    Error::new(
        Reason::NamespaceExists,
        format!(
            "Namespace '{namespace}' exists already, and nothing is restored over it. Restore under another name with AS, or \
             drop it first."
        ),
    )
    .with("namespace", namespace.as_str())
}

/// The storage of each table, as it is named here.
fn storages_of(shared: &Shared, manifest: &Manifest) -> Result<Vec<StorageId>> {
    let storage = |table: &TableManifest| {
        shared.storages.resolve(&Name { text: table.storage.clone(), position: None }).map_err(|_| {
            Error::new(
                Reason::StorageNotFound,
                format!(
                    "Table {} of the backup has its files in storage '{}', which does not exist here. Create it first with \
                     CREATE STORAGE.",
                    table.definition.name, table.storage
                ),
            )
            .with("storage", table.storage.as_str())
        })
    };
    manifest.tables.iter().map(storage).collect()
}

/// A SNOWFLAKE_ID() that no row of the backup is beyond, so that those to come are others.
fn last_id(place: &Place, manifest: &Manifest) -> Result<i64> {
    // The backup's own is an id of its server, taken a while before.
    let known = manifest.backup.0.cast_signed().max(last_snowflake_at(manifest.created_at_us));
    let last = manifest.last_id.unwrap_or(known);
    let latest_us = snowflake_time_us(known).saturating_add(MAX_IDS_AHEAD_US);
    if !(0..=MAX_SNOWFLAKE).contains(&last) || snowflake_time_us(last) > latest_us {
        return Err(place.damaged(&manifest.backup.manifest(), &"its ids are of a time that was still to come"));
    }
    Ok(last)
}

/// Fails when the disks that the tables' files go to have no room for the backup. Storages that are no folders have.
fn check_room(shared: &Shared, manifest: &Manifest, storages: &[StorageId]) -> Result<()> {
    let folder_of = |storage: &StorageId| shared.storages.folder_of(*storage);
    let folders: Option<BTreeSet<PathBuf>> = storages.iter().map(folder_of).collect();
    let min_free = shared.settings.min_free_disk_bytes;
    let rooms: Option<Vec<u64>> =
        folders.and_then(|folders| folders.iter().map(|folder| room(folder, min_free)).collect());
    // How much each of them gets is not known yet.
    if rooms.is_some_and(|rooms| rooms.into_iter().fold(0, u64::saturating_add) < manifest.totals.bytes) {
        return Err(no_room());
    }
    Ok(())
}

fn no_room() -> Error {
    full("no backup is restored to it")
}

/// A restore under way.
struct Restore<'a> {
    shared: &'a Arc<Shared>,
    core: &'a Arc<Core>,
    job: &'a Arc<LiveJob>,
    place: Place,
    /// The tables, by the ids that they have in the backup.
    tables: BTreeMap<TableId, Restored>,
    /// The last commit of the backup: none of its rows and marks is later.
    based_on: CommitSeq,
    /// An id that none of its rows is beyond.
    last_id: i64,
}

/// A table as it will be.
struct Restored {
    table: Arc<Table>,
    /// What the backup says, and what was found.
    expected: TableCounts,
    found: TableCounts,
}

impl Restore<'_> {
    /// Restores everything. Answers how many rows there are.
    async fn run(
        &mut self,
        manifest: &Manifest,
        request: &RestoreRequest,
        reserved: &[TableId],
        storages: &[StorageId],
        note: &Note,
    ) -> Result<u64> {
        for ((table, id), storage) in manifest.tables.iter().zip(reserved).zip(storages) {
            let before = table.definition.id;
            let namespace = request.into.clone();
            let record = TableRecord { id: *id, namespace, storage: *storage, ..table.definition.clone() };
            let table = Restored {
                table: Arc::new(self.shared.catalog.prepare_table(record)?),
                expected: table.counts,
                found: TableCounts::default(),
            };
            self.tables.insert(before, table);
        }
        self.files(manifest).await?;
        let mut rows = 0;
        for table in self.tables.values() {
            if table.found != table.expected {
                let why = format!(
                    "of table {} it has {:?}, but its manifest says {:?}",
                    table.table.name(),
                    table.found,
                    table.expected
                );
                return Err(self.place.damaged("the list of files", &why));
            }
            rows += table.found.live_rows();
        }
        // Before anybody can insert into the tables: their keys are not compared with those that are generated.
        self.shared.ids.resume_after(self.last_id);
        id_mark::keep(self.core, self.shared).await.map_err(from_commit)?;
        reached(self.core, JobStep::BeforeCommit)?;
        let mut kv = WriteBatch::new();
        note.forget_in(&mut kv);
        let records = self.tables.values().map(|table| table.table.record().clone()).collect();
        let (shared, options) = (self.shared, manifest.options.clone());
        // One that is not used can be dropped meanwhile.
        let are_there = || storages.iter().try_for_each(|storage| shared.storages.check_there(*storage));
        let restoring = shared.catalog.restore_namespace(&request.into, options, records, kv, self.based_on, are_there);
        if !restoring.await? {
            return Err(namespace_exists(&request.into));
        }
        // It has been committed, whatever is to be made of that.
        let _ = self.core.reached(JobStep::AfterCommit);
        for table in self.tables.values() {
            self.shared.jobs.rows_written(table.table.id(), table.found.hot_rows);
            self.core.check_soon(table.table.id());
        }
        Ok(rows)
    }

    async fn files(&mut self, manifest: &Manifest) -> Result<()> {
        let mut lines = LineReader::new(self.place.clone(), &manifest.files);
        let mut marks = MarkReader::new(self.place.clone(), &manifest.marks);
        let mut next = lines.next().await?;
        while let Some(line) = next.take() {
            if line.segment.is_none() {
                self.hot_rows(&line).await?;
                next = lines.next().await?;
                continue;
            }
            let table = line.table;
            let mut some = vec![line];
            next = lines.next().await?;
            while some.len() < SEGMENTS_AT_ONCE
                && let Some(line) = next.take_if(|line| line.table == table && line.segment.is_some())
            {
                some.push(line);
                next = lines.next().await?;
            }
            self.segments(table, some, &mut marks).await?;
        }
        marks.expect_end().await
    }

    fn restored(&mut self, table: TableId) -> Result<&mut Restored> {
        let place = &self.place;
        let unknown = || place.damaged("the list of files", &"it has a table that the manifest has not");
        self.tables.get_mut(&table).ok_or_else(unknown)
    }

    /// Restores segments of a table.
    async fn segments(&mut self, table: TableId, lines: Vec<FileLine>, marks: &mut MarkReader) -> Result<()> {
        let restored = self.restored(table)?;
        lines.iter().for_each(|line| restored.found.add(line));
        let table = Arc::clone(&restored.table);
        let bytes = lines.iter().map(|line| line.bytes).fold(0, u64::saturating_add);
        let min_free = self.shared.settings.min_free_disk_bytes;
        if self.shared.storages.folder_of(table.storage()).is_some_and(|folder| !has_room(&folder, min_free, bytes)) {
            return Err(no_room());
        }
        let partitions: Vec<Partition> =
            lines.iter().map(|line| Partition { table: table.id(), owner: line.partition_owner() }).collect();
        let folders = partitions.iter().map(|p| self.shared.storages.partition_path(table.record(), &p.owner));
        let pending = self.core.pending.reserve(self.shared, table.storage(), folders).await.map_err(from_commit)?;
        let outcome = self.reserved_segments(&partitions, lines, &pending, marks).await;
        // After an error files may be there, which the sweep deletes.
        let is_open =
            outcome.as_ref().is_err_and(|error| matches!(error.reason(), Reason::StorePoisoned | Reason::ShuttingDown));
        if !is_open {
            pending.into_iter().for_each(if outcome.is_ok() { Pending::settled } else { Pending::abandon });
        }
        outcome
    }

    async fn reserved_segments(
        &self,
        partitions: &[Partition],
        lines: Vec<FileLine>,
        pending: &[Pending],
        marks: &mut MarkReader,
    ) -> Result<()> {
        for ((line, pending), partition) in lines.iter().zip(pending).zip(partitions) {
            let count = line.segment.as_ref().map_or(0, |segment| segment.marks);
            let of_segment = marks.take(line.file_name(), count, line.rows).await?;
            self.marks(partition, pending.id, of_segment).await?;
        }
        let mut changes: Vec<Option<SegmentChange>> = vec![None; lines.len()];
        let mut copies: JoinSet<Result<(usize, SegmentChange)>> = JoinSet::new();
        let mut bytes_under_way = 0;
        let mut outcome = Ok(());
        for (index, (line, partition)) in lines.into_iter().zip(partitions).enumerate() {
            let Some((pending, segment)) = pending.get(index).zip(line.segment.clone()) else { continue };
            while outcome.is_ok()
                && !copies.is_empty()
                && (copies.len() >= PARALLEL || bytes_under_way + line.bytes > PARALLEL_BYTES)
            {
                outcome = self.arrived(&mut copies, &mut changes, &mut bytes_under_way).await;
            }
            if outcome.is_err() {
                break;
            }
            bytes_under_way += line.bytes;
            let entry = line.entry(&segment, pending.id, pending.storage, pending.path.clone());
            let (shared, core, job, place) =
                (Arc::clone(self.shared), Arc::clone(self.core), Arc::clone(self.job), self.place.clone());
            let (partition, based_on) = (partition.clone(), self.shared.committer.last_commit_seq());
            copies.spawn(async move {
                let bytes: Bytes = job.busy_in(place.read_verified(&line.path, line.bytes, &line.sha256)).await?;
                let fits = check_segment_file(&entry, bytes.clone()).await;
                fits.map_err(|error| place.damaged(&line.path, &error))?;
                let checksums = job.busy(|| block_checksums(&bytes));
                reached(&core, JobStep::BeforeUpload)?;
                let written = shared.cold.segments.write_bytes(entry.storage, &entry.path, bytes).await;
                written.map_err(|error| from_segment(&error))?;
                reached(&core, JobStep::AfterUpload)?;
                let new = NewSegment { entry, checksums, keys: Default::default(), hot_bytes: 0 };
                let (add, remove) = (vec![new], Vec::new());
                Ok((index, SegmentChange { partition, based_on, add, remove, takes_hot_rows: false }))
            });
        }
        while !copies.is_empty() {
            // All of them end before their files are given up.
            let arrived = self.arrived(&mut copies, &mut changes, &mut bytes_under_way).await;
            outcome = outcome.and(arrived);
        }
        outcome?;
        self.commit_segments(changes.into_iter().flatten().collect(), pending).await
    }

    async fn arrived(
        &self,
        copies: &mut JoinSet<Result<(usize, SegmentChange)>>,
        changes: &mut [Option<SegmentChange>],
        bytes_under_way: &mut u64,
    ) -> Result<()> {
        self.job.holds(usize::try_from(*bytes_under_way).unwrap_or(usize::MAX));
        let Some(copied) = copies.join_next().await else { return Ok(()) };
        let (index, change) = copied.map_err(|error| lost(&error))??;
        let (rows, bytes) =
            change.add.iter().fold((0, 0), |(rows, bytes), new| (rows + new.entry.rows, bytes + new.entry.file_bytes));
        *bytes_under_way = bytes_under_way.saturating_sub(bytes);
        if let Some(place) = changes.get_mut(index) {
            *place = Some(change);
        }
        self.job.advance(|progress| {
            progress.segments += 1;
            progress.rows += rows;
            progress.bytes += bytes;
        });
        Ok(())
    }

    async fn commit_segments(&self, segments: Vec<SegmentChange>, pending: &[Pending]) -> Result<()> {
        let mut kv = WriteBatch::new();
        pending.iter().for_each(|pending| pending.forget_in(&mut kv));
        if let Some(first) = segments.first() {
            self.shared.cold.tables.insert(first.partition.table);
        }
        let commit_time_us = self.shared.env.now_us();
        let commit = PreparedCommit { commit_time_us, kv, segments, ..PreparedCommit::default() };
        self.shared.committer.commit(commit).await.map(|_| ()).map_err(from_commit)
    }

    /// Commits the marks of a segment. One list has all of them, as if the last commit of the backup had made them.
    async fn marks(&self, partition: &Partition, segment: SegmentId, marks: Vec<(u32, Mark)>) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let most = MARK_COMMIT_BYTES.min(self.shared.settings.max_write_bytes);
        let rows: Vec<u32> = marks.iter().map(|(row, _)| *row).collect();
        let mut kv = WriteBatch::new();
        let list = mark_list_key(partition, segment, self.based_on);
        kv.put(Keyspace::Segments, list, encode_mark_list(&rows));
        for (row, mark) in marks {
            if mark.commit_seq > self.based_on {
                return Err(self.place.damaged("the list of marks", &"it has a commit that the backup has not"));
            }
            kv.put(Keyspace::Segments, mark_key(partition, segment, row), mark.encode());
            if kv.byte_size() >= most {
                self.commit_kv(std::mem::take(&mut kv)).await?;
            }
        }
        self.commit_kv(kv).await
    }

    async fn commit_kv(&self, kv: WriteBatch) -> Result<()> {
        if kv.is_empty() {
            return Ok(());
        }
        let commit = PreparedCommit { commit_time_us: self.shared.env.now_us(), kv, ..PreparedCommit::default() };
        self.shared.committer.commit(commit).await.map(|_| ()).map_err(from_commit)
    }

    /// Restores a file of hot rows.
    async fn hot_rows(&mut self, line: &FileLine) -> Result<()> {
        let restored = self.restored(line.table)?;
        restored.found.add(line);
        let table = Arc::clone(&restored.table);
        let settings = &self.shared.settings;
        if let StorageSettings::Directory(folder) = &settings.storage
            && !has_room(folder, settings.min_free_disk_bytes, line.bytes.saturating_mul(HOT_TIMES))
        {
            return Err(no_room());
        }
        let bytes = self.job.busy_in(self.place.read_verified(&line.path, line.bytes, &line.sha256)).await?;
        self.job.holds(bytes.len());
        let rows =
            restore_rows(self.shared, self.core, self.job, &table, &self.place, line, bytes, self.based_on).await?;
        self.job.advance(|progress| {
            progress.segments += 1;
            progress.rows += rows;
            progress.bytes += line.bytes;
        });
        Ok(())
    }
}
