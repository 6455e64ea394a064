//! Storages, segments and statistics as protobuf.

use kalamdb_engine::{Error, PartitionStats, Reason, SegmentInfo, StorageInfo, StorageKind, TierStats};
use kalamdb_proto::v1;

use super::{jobs::unknown, to_timestamp};

/// The most tables that a storage names.
const MAX_TABLES: usize = 100;

/// A storage.
pub(crate) fn to_storage(info: StorageInfo) -> v1::Storage {
    v1::Storage {
        name: info.name,
        r#type: to_storage_type(info.kind).into(),
        uri: info.uri,
        has_credentials: info.has_credentials,
        created_at: Some(to_timestamp(info.created_at_us)),
        usage_count: u32::try_from(info.tables.len()).unwrap_or(u32::MAX),
        tables: info.tables.into_iter().take(MAX_TABLES).collect(),
    }
}

/// The kind of a storage to be.
///
/// # Errors
/// INVALID_REQUEST when there is none.
pub(crate) fn from_storage_type(number: i32) -> Result<StorageKind, Error> {
    match v1::StorageType::try_from(number).map_err(|_| unknown("type", "StorageType", number))? {
        v1::StorageType::Unspecified => Err(Error::new(
            Reason::InvalidRequest,
            "type is missing; it is one of STORAGE_TYPE_FILESYSTEM, STORAGE_TYPE_S3, STORAGE_TYPE_GCS and \
             STORAGE_TYPE_AZURE.",
        )
        .with("field", "type")),
        v1::StorageType::Filesystem => Ok(StorageKind::Filesystem),
        v1::StorageType::S3 => Ok(StorageKind::S3),
        v1::StorageType::Gcs => Ok(StorageKind::Gcs),
        v1::StorageType::Azure => Ok(StorageKind::Azure),
    }
}

/// A segment of the table `namespace.table`.
pub(crate) fn to_segment(info: SegmentInfo, namespace: &str, table: &str) -> v1::Segment {
    v1::Segment {
        segment_id: info.segment_id,
        namespace: namespace.to_owned(),
        table: table.to_owned(),
        user_id: info.user_id.map(|user| user.as_str().to_owned()).unwrap_or_default(),
        storage: info.storage,
        path: info.path,
        bytes: info.bytes,
        rows: info.rows,
        deleted_rows: info.deleted_rows,
        schema_version: info.schema_version,
        min_key: info.min_key,
        max_key: info.max_key,
        min_commit_seq: info.min_seq.get(),
        max_commit_seq: info.max_seq.get(),
        created_at: Some(to_timestamp(info.created_at_us)),
    }
}

/// The statistics of a partition.
pub(crate) fn to_partition_stats(partition: PartitionStats) -> v1::PartitionStats {
    v1::PartitionStats { user_id: partition.user_id.as_str().to_owned(), stats: Some(to_tier_stats(&partition.stats)) }
}

/// The statistics of a table or a partition.
pub(crate) fn to_tier_stats(stats: &TierStats) -> v1::TierStats {
    v1::TierStats {
        hot_rows: stats.hot_rows,
        cold_rows: stats.cold_rows,
        hot_bytes: stats.hot_bytes,
        cold_bytes: stats.cold_bytes,
        segments: stats.segments,
        last_flush_at: stats.last_flush_us.map(to_timestamp),
    }
}

fn to_storage_type(kind: StorageKind) -> v1::StorageType {
    match kind {
        StorageKind::Filesystem => v1::StorageType::Filesystem,
        StorageKind::S3 => v1::StorageType::S3,
        StorageKind::Gcs => v1::StorageType::Gcs,
        StorageKind::Azure => v1::StorageType::Azure,
    }
}
