//! The RocksDB backend.

mod log_filter;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DBPinnableSlice, DBRawIterator, DBRecoveryMode, InfoLogger, LogLevel, Options, ReadOptions,
    SliceTransform, WriteOptions,
};
use self_cell::self_cell;

use self::log_filter::{LogFilterFactory, LogTrim};
use super::range::{just_after, successor};
use super::{Cursor, Direction, Durability, KeyRange, Keyspace, KeyspaceSize, KvError, Snapshot, StorageBackend};
use super::{LogRemoved, WriteBatch, WriteOp};
use crate::codec::partition_prefix_len;
use crate::ids::CommitSeq;

const MIB: usize = 1024 * 1024;

/// How a [`RocksBackend`] uses memory and the machine.
#[derive(Debug, Clone)]
pub struct RocksSettings {
    /// Memory for writes that are not in table files yet, of all keyspaces together. Beyond it the oldest memory table is
    /// written to a file; meanwhile further writes can exceed it for a moment.
    pub write_buffer_bytes: usize,
    /// Memory for blocks of table files, their indexes and filters.
    pub block_cache_bytes: usize,
    /// How many files may be open at a time; -1 for no limit.
    pub max_open_files: i32,
    /// Threads that flush memory tables and compact table files.
    pub max_background_jobs: i32,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self {
            write_buffer_bytes: 64 * MIB,
            block_cache_bytes: 128 * MIB,
            max_open_files: 1024,
            max_background_jobs: 2,
        }
    }
}

/// A store on disk, in RocksDB.
///
/// Each [`Keyspace`] is a column family; all share one write-ahead log, which is what makes a batch over several of
/// them atomic.
#[derive(Clone)]
pub struct RocksBackend {
    db: Arc<OpenDb>,
    block_cache: Cache,
    log_trim: Arc<LogTrim>,
}

/// The column families, by [`Keyspace::index`].
type Families<'a> = [&'a ColumnFamily; Keyspace::ALL.len()];

self_cell!(
    struct OpenDb {
        owner: DB,

        #[covariant]
        dependent: Families,
    }
);

impl OpenDb {
    fn db(&self) -> &DB {
        self.borrow_owner()
    }

    fn family(&self, keyspace: Keyspace) -> &ColumnFamily {
        self.borrow_dependent()[keyspace.index()]
    }
}

impl RocksBackend {
    /// Opens the store in the folder `path`, or makes one. Replays what the write-ahead log has beyond the table files.
    ///
    /// The log is replayed to its last whole batch. After a failure of the machine it can end in a batch that is not
    /// whole; under [`Durability::Sync`] that batch was never acknowledged. Dropped bytes are logged as a warning, and
    /// a log that lacks bytes which a table file or an earlier sync proves to have existed is refused as corrupt.
    pub fn open(path: impl AsRef<Path>, settings: &RocksSettings) -> Result<Self, KvError> {
        let block_cache = Cache::new_lru_cache(settings.block_cache_bytes);
        let log_trim = Arc::new(LogTrim::default());
        let families = Keyspace::ALL.map(|keyspace| {
            let mut options = family_options(keyspace, settings, &block_cache);
            if keyspace == Keyspace::Log {
                options.set_compaction_filter_factory(LogFilterFactory(log_trim.clone()));
            }
            ColumnFamilyDescriptor::new(keyspace.name(), options)
        });
        let db = DB::open_cf_descriptors(&db_options(settings), path, families).map_err(error)?;
        let db = OpenDb::try_new(db, |db| {
            let mut families = Vec::with_capacity(Keyspace::ALL.len());
            for keyspace in Keyspace::ALL {
                let family = db.cf_handle(keyspace.name());
                families.push(family.ok_or_else(|| KvError::Other(format!("no column family {}", keyspace.name())))?);
            }
            families.try_into().map_err(|_| KvError::Other("wrong number of column families".to_owned()))
        })?;
        Ok(Self { db: Arc::new(db), block_cache, log_trim })
    }

    /// Bytes of memory in use by cached blocks.
    pub fn block_cache_usage_bytes(&self) -> usize {
        self.block_cache.get_usage()
    }
}

fn db_options(settings: &RocksSettings) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(settings.max_open_files);
    options.set_max_background_jobs(settings.max_background_jobs.max(2));
    options.set_bytes_per_sync(MIB as u64);
    // Replay stops at the first batch that is not whole. The strict modes would refuse to start after a power failure
    // that tore the unacknowledged tail in a way that looks like damage (its second half reached the disk, its first
    // did not). That nothing else gets lost this way is checked: files synced and closed are tracked in the manifest
    // with their sizes, and a log that ends before what a table file has is refused.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_db_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_total_wal_size((settings.write_buffer_bytes as u64).saturating_mul(6));
    // One writer, the committer: what serves concurrent writers only costs it.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "kalamdb_store::rocksdb", "{message}"),
        // Said whatever the level: several hundred lines of options at each start.
        LogLevel::Header => tracing::trace!(target: "kalamdb_store::rocksdb", "{message}"),
        LogLevel::Warn => tracing::warn!(target: "kalamdb_store::rocksdb", "{message}"),
        // At every start RocksDB writes a thousand lines of options, at a level above all others.
        _ => tracing::trace!(target: "kalamdb_store::rocksdb", "{message}"),
    }));
    options
}

fn family_options(keyspace: Keyspace, settings: &RocksSettings, block_cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(block_cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_size(16 * 1024);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table.set_optimize_filters_for_memory(true);

    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_level_compaction_dynamic_level_bytes(true);
    // lz4 where data is young and often rewritten, zstd on the bottom level, where nearly all of it lies. Rows of the hot
    // tier stay young: they are read often, and leave for the cold tier.
    options.set_compression_type(DBCompressionType::Lz4);
    if keyspace != Keyspace::Rows {
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
    }
    match keyspace {
        Keyspace::Rows | Keyspace::Log => {
            options.set_write_buffer_size(settings.write_buffer_bytes);
            options.set_max_write_buffer_number(4);
        }
        Keyspace::Catalog | Keyspace::Segments | Keyspace::System => {
            // Small against the whole: memory is taken in blocks of an eighth of this.
            options.set_write_buffer_size((settings.write_buffer_bytes / 16).clamp(MIB / 4, 4 * MIB));
            options.set_max_write_buffer_number(2);
        }
    }
    if keyspace.is_partitioned() {
        options.set_prefix_extractor(SliceTransform::create("kalamdb.partition", partition_of, Some(has_partition)));
        // About ten bits for each of the keys of a full memory table of rows of 100 bytes.
        options.set_memtable_prefix_bloom_ratio(0.015);
        options.set_memtable_whole_key_filtering(true);
    }
    options
}

fn partition_of(key: &[u8]) -> &[u8] {
    partition_prefix_len(key).and_then(|len| key.get(..len)).unwrap_or(key)
}

fn has_partition(key: &[u8]) -> bool {
    partition_prefix_len(key).is_some()
}

impl fmt::Debug for RocksBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksBackend").field("path", &self.db.db().path()).finish_non_exhaustive()
    }
}

impl StorageBackend for RocksBackend {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.db.db().get_cf(self.db.family(keyspace), key).map_err(error)
    }

    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), KvError> {
        // A record's own header is a few bytes, for the column family and the lengths.
        let mut native = rocksdb::WriteBatch::with_capacity_bytes(batch.byte_size() + batch.len() * 16 + 16);
        for op in batch.iter() {
            let family = self.db.family(op.keyspace());
            match op {
                WriteOp::Put { key, value, .. } => native.put_cf(family, key, value),
                WriteOp::Delete { key, .. } => native.delete_cf(family, key),
                WriteOp::DeleteRange { from, to, .. } => native.delete_range_cf(family, from, to),
            }
        }
        batch.for_each_bulk(|keyspace, key, value| native.put_cf(self.db.family(keyspace), key, value));
        // Its bytes are in `native` now, and can be many.
        drop(batch);
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Sync);
        self.db.db().write_opt(native, &options).map_err(error)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(RocksSnapshot(SnapshotCell::new(self.db.clone(), |db| {
            let snapshot = db.db().snapshot();
            let mut point_read = ReadOptions::default();
            point_read.set_snapshot(&snapshot);
            View { point_read, snapshot }
        })))
    }

    fn sync(&self) -> Result<(), KvError> {
        self.db.db().flush_wal(true).map_err(error)
    }

    fn flush(&self) -> Result<(), KvError> {
        let families = Keyspace::ALL.map(|keyspace| self.db.family(keyspace));
        let wait = rocksdb::FlushOptions::default();
        self.db.db().flush_cfs_opt(&families, &wait).map_err(error)
    }

    fn size(&self, keyspace: Keyspace) -> Result<KeyspaceSize, KvError> {
        let property = |name: &str| {
            let value = self.db.db().property_int_value_cf(self.db.family(keyspace), name).map_err(error)?;
            Ok(value.unwrap_or(0))
        };
        Ok(KeyspaceSize {
            disk_bytes: property("rocksdb.total-sst-files-size")?,
            memory_bytes: property("rocksdb.cur-size-all-mem-tables")?,
            estimated_keys: property("rocksdb.estimate-num-keys")?,
        })
    }

    fn discard_log(&self, floor: CommitSeq) {
        self.log_trim.raise_floor(floor);
    }

    fn reclaim_log(&self, from: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let end = self.end_of_step(from)?;
        let mut options = CompactOptions::default();
        // RocksDB's own compactions, of this keyspace and others, go on meanwhile.
        options.set_exclusive_manual_compaction(false);
        // Files that are on the last level already are rewritten too, but not those that this compaction makes.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        let log = self.db.family(Keyspace::Log);
        self.db.db().compact_range_cf_opt(log, Some(from), end.as_deref(), &options);
        Ok(end.map(just_after))
    }

    fn log_removed(&self) -> LogRemoved {
        self.log_trim.removed()
    }
}

/// Bytes that a bulk cursor reads of a table file in one go.
const BULK_READAHEAD_BYTES: usize = MIB;

/// Bytes of table files that are compacted in one go.
const RECLAIMED_AT_ONCE: usize = 128 * MIB;

impl RocksBackend {
    /// The last key of the log that is compacted together with `from`; `None`: all that follow.
    ///
    /// Steps end where files of the deepest level do, where nearly everything lies. Files of other levels, that span more
    /// than a step, are compacted with the first step that meets them.
    fn end_of_step(&self, from: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let mut files = self.db.db().live_files().map_err(error)?;
        files.retain(|file| file.column_family_name == Keyspace::Log.name());
        let deepest = files.iter().map(|file| file.level).max().unwrap_or(0);
        // On level 0 files overlap.
        files.retain(|file| deepest > 0 && file.level == deepest && file.end_key.as_deref() >= Some(from));
        files.sort_by(|a, b| a.end_key.cmp(&b.end_key));
        let mut bytes = 0;
        let mut rest = files.into_iter().skip_while(|file| {
            bytes += file.size;
            bytes < RECLAIMED_AT_ONCE
        });
        let last = rest.next();
        // Behind the last file there can still be keys in other levels, which then come along.
        Ok(if rest.next().is_some() { last.and_then(|file| file.end_key) } else { None })
    }
}

struct View<'a> {
    // Before the snapshot, which it points to, so that it is dropped before it.
    point_read: ReadOptions,
    snapshot: rocksdb::Snapshot<'a>,
}

self_cell!(
    struct SnapshotCell {
        owner: Arc<OpenDb>,

        #[covariant]
        dependent: View,
    }
);

struct RocksSnapshot(SnapshotCell);

impl Snapshot for RocksSnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let open = self.0.borrow_owner();
        let view = self.0.borrow_dependent();
        open.db().get_cf_opt(open.family(keyspace), key, &view.point_read).map_err(error)
    }

    fn multi_get(&self, keyspace: Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        let open = self.0.borrow_owner();
        let view = self.0.borrow_dependent();
        let keys = keys.iter().copied();
        let values = open.db().batched_multi_get_cf_opt(open.family(keyspace), keys, false, &view.point_read);
        let owned = |value: Option<DBPinnableSlice<'_>>| value.map(|value| value.to_vec());
        values.into_iter().map(|value| value.map(owned).map_err(error)).collect()
    }

    fn cursor(
        &self,
        keyspace: Keyspace,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + '_>, KvError> {
        self.open_cursor(keyspace, range, direction, ReadOptions::default())
    }

    fn bulk_cursor(&self, keyspace: Keyspace, range: KeyRange) -> Result<Box<dyn Cursor + '_>, KvError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(BULK_READAHEAD_BYTES);
        self.open_cursor(keyspace, range, Direction::Forward, options)
    }
}

impl RocksSnapshot {
    fn open_cursor(
        &self,
        keyspace: Keyspace,
        range: KeyRange,
        direction: Direction,
        mut options: ReadOptions,
    ) -> Result<Box<dyn Cursor + '_>, KvError> {
        let open = self.0.borrow_owner();
        let view = self.0.borrow_dependent();
        let (lower, upper) = range.half_open();
        // Prefix filters answer "is there anything of this partition in this file?". They serve only a range within one
        // partition, and only forwards: RocksDB places a reverse iterator by the upper bound, whose prefix is another.
        let in_partition = keyspace.is_partitioned()
            && direction == Direction::Forward
            && upper.as_deref().is_some_and(|upper| lies_in_one_partition(&lower, upper));
        if in_partition {
            options.set_prefix_same_as_start(true);
        } else {
            options.set_total_order_seek(true);
        }
        options.set_iterate_lower_bound(lower.as_slice());
        if let Some(upper) = &upper {
            options.set_iterate_upper_bound(upper.as_slice());
        }
        // A long cursor should not hold up the thread that drops it with the removal of files that became obsolete.
        options.set_background_purge_on_iterator_cleanup(true);
        options.set_snapshot(&view.snapshot);
        let iterator = open.db().raw_iterator_cf_opt(open.family(keyspace), options);
        let mut cursor = RocksCursor { iterator, lower, upper, direction };
        cursor.start()?;
        Ok(Box::new(cursor))
    }
}

fn lies_in_one_partition(lower: &[u8], upper: &[u8]) -> bool {
    let prefix = partition_prefix_len(lower).and_then(|len| lower.get(..len));
    prefix.and_then(successor).is_some_and(|end| upper <= end.as_slice())
}

struct RocksCursor<'a> {
    iterator: DBRawIterator<'a>,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    direction: Direction,
}

impl RocksCursor<'_> {
    fn start(&mut self) -> Result<(), KvError> {
        match self.direction {
            // Not `seek_to_first`: only a seek with a key says which prefix it is about.
            Direction::Forward => self.iterator.seek(&self.lower),
            Direction::Reverse => self.iterator.seek_to_last(),
        }
        self.check()
    }

    /// An invalid iterator is either at its end or broken.
    fn check(&self) -> Result<(), KvError> {
        if self.iterator.valid() { Ok(()) } else { self.iterator.status().map_err(error) }
    }
}

impl Cursor for RocksCursor<'_> {
    fn valid(&self) -> bool {
        self.iterator.valid()
    }

    fn key(&self) -> &[u8] {
        self.iterator.key().unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.iterator.value().unwrap_or_default()
    }

    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    fn advance(&mut self) -> Result<(), KvError> {
        match self.direction {
            Direction::Forward => self.iterator.next(),
            Direction::Reverse => self.iterator.prev(),
        }
        self.check()
    }

    fn seek(&mut self, key: &[u8]) -> Result<(), KvError> {
        let beyond_upper = self.upper.as_deref().is_some_and(|upper| key >= upper);
        match self.direction {
            // A key beyond the range would name another prefix. The upper bound itself has none, and ends the cursor.
            Direction::Forward if beyond_upper => {
                let end = self.upper.clone().unwrap_or_default();
                self.iterator.seek(end);
            }
            Direction::Forward => self.iterator.seek(if key < self.lower.as_slice() { &self.lower } else { key }),
            Direction::Reverse if beyond_upper => self.iterator.seek_to_last(),
            Direction::Reverse => self.iterator.seek_for_prev(key),
        }
        self.check()
    }
}

fn error(error: rocksdb::Error) -> KvError {
    let detail = error.to_string();
    match error.kind() {
        // Both the status of its own and the one it makes of ENOSPC begin so.
        rocksdb::ErrorKind::IOError if detail.contains("No space left on device") => KvError::DiskFull(detail),
        rocksdb::ErrorKind::IOError => KvError::Io(detail),
        rocksdb::ErrorKind::Corruption => KvError::Corruption(detail),
        rocksdb::ErrorKind::ShutdownInProgress => KvError::Closed,
        _ => KvError::Other(detail),
    }
}
