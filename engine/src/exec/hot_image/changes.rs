//! What has changed in a partition between an image and a statement's snapshot.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use kalamdb_store::{
    codec::{HotCount, LogEntry, PrimaryKey, hot_count_key, log_range, row_key},
    commit::committed_seq,
    ids::{CommitSeq, Partition},
    kv::{Direction, Keyspace, Snapshot},
};

use crate::{
    catalog::Table,
    error::Result,
    exec::{
        StatementContext, corrupt, from_store,
        hot_image::{
            cache::{HotImages, Room},
            decoder,
            image::{Changes, HotImage},
            segment_ids,
        },
    },
};

/// More of the log is not read to bring an image up to date.
const MAX_LOG_BYTES: usize = 16 * 1024 * 1024;

/// So many keys may have changed, and one for so many rows beside them.
const MAX_CHANGED_KEYS: usize = 1_000;
const ROWS_FOR_A_CHANGED_KEY: usize = 16;

/// Rows that are read before others get their turn.
const ROWS_PER_STEP: usize = 1_000;

/// An image is kept as of a later commit when it is so many commits old, though nothing in its partition has changed: the
/// log before it may go.
const KEPT_WITHOUT_CHANGES: u64 = 10_000;

/// An image with the rows that a snapshot has, and room for it if it is not one of those that are kept.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) image: Arc<HotImage>,
    room: Option<Room>,
}

/// How an image is related to a snapshot.
enum Age {
    /// The snapshot is older.
    Newer,
    /// Too much has changed, or it cannot be told what.
    Useless,
    /// These keys have changed until the commit that the snapshot ends with.
    Behind(CommitSeq, BTreeSet<PrimaryKey>),
}

/// The image with exactly the rows that the statement's snapshot has; `None` when it is cheaper to read them, or when the
/// image is newer.
pub(super) async fn as_of_snapshot(
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    image: Arc<HotImage>,
) -> Result<Option<Current>> {
    let (images, snapshot) = (context.hot_images(), context.snapshot());
    let (as_of, keys) = match age(context, partition, &image)? {
        Age::Newer => return Ok(None),
        Age::Useless => {
            images.remove(partition, &image);
            return Ok(None);
        }
        Age::Behind(as_of, keys) => (as_of, keys),
    };
    let mut current = if keys.is_empty() {
        let is_old = as_of.get().saturating_sub(image.as_of().get()) > KEPT_WITHOUT_CHANGES;
        let image = if is_old { Arc::new(image.unchanged_until(as_of)) } else { Arc::clone(&image) };
        Current { image, room: None }
    } else {
        let changes = read(snapshot, table, partition, &image, as_of, keys).await?;
        let Some(current) = apply(images, &image, &changes)? else { return Ok(None) };
        current
    };
    // The store counts the rows of each partition by itself. A table that was dropped has none, and no log.
    if current.image.rows() as u64 != counted_rows(snapshot.as_ref(), partition)? {
        images.remove(partition, &image);
        return Ok(None);
    }
    if !Arc::ptr_eq(&current.image, &image) && images.replace(partition, &image, Arc::clone(&current.image)) {
        // Its memory is that of a kept image now.
        current.room = None;
    }
    Ok(Some(current))
}

fn age(context: &StatementContext, partition: &Partition, image: &HotImage) -> Result<Age> {
    let snapshot = context.snapshot().as_ref();
    let as_of = committed_seq(snapshot).map_err(from_store)?;
    if as_of < image.as_of() {
        return Ok(Age::Newer);
    }
    // Rows become cold with a new segment, and a segment that goes without another in its place has none that was not
    // changed since: so with the same segments, the log has every change.
    if segment_ids(context, partition)? != image.segments() {
        return Ok(Age::Useless);
    }
    let max_keys = MAX_CHANGED_KEYS + image.rows() / ROWS_FOR_A_CHANGED_KEY;
    let since = log_range(partition, Bound::Excluded(image.as_of()), Bound::Included(as_of));
    let mut cursor = snapshot.cursor(Keyspace::Log, since, Direction::Forward).map_err(from_store)?;
    let (mut keys, mut bytes) = (BTreeSet::new(), 0);
    while let Some((_, entry)) = cursor.item() {
        bytes += entry.len();
        if bytes > MAX_LOG_BYTES {
            return Ok(Age::Useless);
        }
        keys.extend(LogEntry::decode_keys(entry).map_err(corrupt)?);
        if keys.len() > max_keys {
            return Ok(Age::Useless);
        }
        cursor.advance().map_err(from_store)?;
    }
    // Only now, as in `ChangeLog::read`: entries that are given up are gone from snapshots, too.
    if image.as_of() < context.change_log().floor() {
        return Ok(Age::Useless);
    }
    Ok(Age::Behind(as_of, keys))
}

/// The rows of the keys that have changed.
async fn read(
    snapshot: &Arc<dyn Snapshot>,
    table: &Table,
    partition: &Partition,
    image: &HotImage,
    as_of: CommitSeq,
    keys: BTreeSet<PrimaryKey>,
) -> Result<Changes> {
    let keys: Vec<PrimaryKey> = keys.into_iter().collect();
    let mut decoder = decoder(table, image.columns())?;
    let mut places = Vec::with_capacity(keys.len());
    for keys in keys.chunks(ROWS_PER_STEP) {
        let row_keys: Vec<Vec<u8>> = keys.iter().map(|key| row_key(partition, key)).collect();
        let row_keys: Vec<&[u8]> = row_keys.iter().map(Vec::as_slice).collect();
        let rows = snapshot.multi_get(Keyspace::Rows, &row_keys).map_err(from_store)?;
        for (key, row) in row_keys.iter().zip(rows) {
            places.push(row.is_some().then(|| decoder.len()));
            if let Some(row) = row {
                decoder.append(key, &row).map_err(corrupt)?;
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(Changes { as_of, keys, places, rows: decoder.finish().map_err(corrupt)? })
}

fn apply(images: &Arc<HotImages>, image: &HotImage, changes: &Changes) -> Result<Option<Current>> {
    let mut room = images.room();
    let changed = image.with(changes, images.settings().chunk_rows, &mut room)?;
    Ok(changed.map(|image| Current { image: Arc::new(image), room: Some(room) }))
}

fn counted_rows(snapshot: &dyn Snapshot, partition: &Partition) -> Result<u64> {
    let count = snapshot.get(Keyspace::System, &hot_count_key(partition)).map_err(from_store)?;
    count.map_or(Ok(0), |count| Ok(HotCount::decode(&count).map_err(corrupt)?.rows))
}
