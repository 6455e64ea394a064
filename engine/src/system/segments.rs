//! The segments of tables, as `system.segments` lists them.

use datafusion::arrow::array::RecordBatch;
use kalamdb_store::{
    codec::{
        PrimaryKey, SegmentEntry, SegmentsKey, decode_mark_list, mark_list_key, row_prefix, split_segments_key,
        table_range,
    },
    ids::{CommitSeq, Owner, Partition, SegmentId, UserId},
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    access::Role,
    catalog::Table,
    error::Result,
    exec::{StatementContext, corrupt, from_store},
    sql::TableKind,
    storage::Storages,
    system::{
        definition::{SEGMENT_COLUMNS, batch},
        rows::{integer, optional_text, text, time, visible_tables},
    },
    types::SqlType,
};

/// A Parquet file with rows of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id, 16 hexadecimal digits; the name of its file.
    pub segment_id: String,
    /// The user whose rows it holds; `None` for a SHARED table.
    pub user_id: Option<UserId>,
    /// Name of the storage it is in.
    pub storage: String,
    /// Its file, relative to the root of the storage.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Rows of the file that were deleted or superseded since.
    pub deleted_rows: u64,
    /// Schema version that its columns have.
    pub schema_version: u32,
    /// The first primary key in it, as text.
    pub min_key: String,
    /// The last primary key in it, as text.
    pub max_key: String,
    /// The lowest commit sequence of its rows.
    pub min_seq: CommitSeq,
    /// The highest commit sequence of its rows.
    pub max_seq: CommitSeq,
    /// When it was written, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
}

/// The segments of a table, or of one owner's partition alone; by owner, then by id.
pub(crate) fn segments_of(
    snapshot: &dyn Snapshot,
    storages: &Storages,
    table: &Table,
    owner: Option<Owner>,
) -> Result<Vec<SegmentInfo>> {
    let listed = listed(snapshot, table, owner)?;
    listed.into_iter().map(|listed| listed.info(table, storages)).collect()
}

/// `system.segments`: of an operator's tables all, of a user's its own partitions.
pub(super) fn rows(context: &StatementContext) -> Result<RecordBatch> {
    let crosses_users = context.caller.role.crosses_users();
    let shows_paths = context.caller.role >= Role::Dba;
    let mut rows = Vec::new();
    for table in visible_tables(context) {
        let owner = match table.kind() {
            TableKind::Stream => continue,
            _ if crosses_users => None,
            TableKind::Shared => continue,
            TableKind::User => Some(Owner::User(context.caller.effective_user().clone())),
        };
        let (namespace, name) = (text(table.namespace().as_str()), text(table.name().as_str()));
        for segment in segments_of(context.snapshot().as_ref(), &context.storages, table, owner)? {
            rows.push(vec![
                namespace.clone(),
                name.clone(),
                optional_text(segment.user_id.as_ref().map(UserId::as_str)),
                text(&segment.segment_id),
                text(&segment.storage),
                optional_text(shows_paths.then_some(segment.path.as_str())),
                integer(segment.rows as usize),
                integer(segment.deleted_rows as usize),
                integer(segment.bytes as usize),
                integer(segment.schema_version as usize),
                text(&segment.min_key),
                text(&segment.max_key),
                integer(segment.min_seq.get() as usize),
                integer(segment.max_seq.get() as usize),
                time(segment.created_at_us),
            ]);
        }
    }
    batch(&SEGMENT_COLUMNS, rows)
}

/// An entry of the manifest, with the number of its marks.
struct Listed {
    owner: Owner,
    entry: SegmentEntry,
    marks: u64,
}

impl Listed {
    fn info(self, table: &Table, storages: &Storages) -> Result<SegmentInfo> {
        let Self { owner, entry, marks } = self;
        Ok(SegmentInfo {
            segment_id: format!("{:016x}", entry.id.get()),
            user_id: match owner {
                Owner::User(user) => Some(user),
                Owner::Shared => None,
            },
            storage: storages.name_of(entry.storage),
            bytes: entry.file_bytes,
            rows: entry.rows,
            deleted_rows: marks,
            schema_version: entry.schema_version.get(),
            min_key: key_text(table, &entry.min_key)?,
            max_key: key_text(table, &entry.max_key)?,
            min_seq: entry.min_seq,
            max_seq: entry.max_seq,
            created_at_us: entry.created_at_us,
            path: entry.path,
        })
    }
}

fn listed(snapshot: &dyn Snapshot, table: &Table, owner: Option<Owner>) -> Result<Vec<Listed>> {
    let range = match owner {
        Some(owner) => KeyRange::prefix(&row_prefix(&Partition { table: table.id(), owner })),
        None => table_range(table.id()),
    };
    let mut listed: Vec<Listed> = Vec::new();
    // The first segment that the next mark can be of: a partition has its entries before its marks, both by segment.
    let mut marked = 0;
    let mut cursor = snapshot.cursor(Keyspace::Segments, range, Direction::Forward).map_err(from_store)?;
    while let Some((key, value)) = cursor.item() {
        let (partition, what) = split_segments_key(key).map_err(corrupt)?;
        match what {
            SegmentsKey::Entry(_) => {
                if listed.last().is_some_and(|last| last.owner != partition.owner) {
                    marked = listed.len();
                }
                let entry = SegmentEntry::decode(value).map_err(corrupt)?;
                listed.push(Listed { owner: partition.owner, entry, marks: 0 });
            }
            // Lists name the marks once more, by segment, in fewer keys.
            SegmentsKey::Mark(..) => {
                let lists = mark_list_key(&partition, SegmentId::new(0), CommitSeq::new(0));
                cursor.seek(&lists).map_err(from_store)?;
                continue;
            }
            SegmentsKey::MarkList(segment, _) => {
                while listed.get(marked).is_some_and(|listed| listed.entry.id < segment) {
                    marked += 1;
                }
                if let Some(listed) = listed.get_mut(marked).filter(|listed| listed.entry.id == segment) {
                    listed.marks += decode_mark_list(value).map_err(corrupt)?.len() as u64;
                }
            }
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok(listed)
}

fn key_text(table: &Table, key: &PrimaryKey) -> Result<String> {
    match table.key_column().sql_type {
        SqlType::BigInt => key.to_i64().map(|key| key.to_string()),
        _ => key.to_str().map(str::to_owned),
    }
    .map_err(corrupt)
}
