//! Segments, and how rows lie in the two tiers.

use kalamdb_proto::v1;

use super::{Admin, PAGE_SIZE, present};
use crate::{convert, error::Result};

/// A Parquet file with rows of one partition, as in `system.segments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id, 16 hexadecimal digits; the name of its file.
    pub segment_id: String,
    /// Namespace of its table.
    pub namespace: String,
    /// Its table.
    pub table: String,
    /// The user whose rows it holds; none for a SHARED table.
    pub user_id: Option<String>,
    /// Name of the storage it is in.
    pub storage: String,
    /// Its file, relative to the root of the storage.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Rows of the file that were deleted or superseded since; compaction drops them.
    pub deleted_rows: u64,
    /// Schema version that its columns have.
    pub schema_version: u32,
    /// The first primary key in it, as text.
    pub min_key: String,
    /// The last primary key in it, as text.
    pub max_key: String,
    /// The lowest commit sequence of its rows.
    pub min_commit_seq: u64,
    /// The highest commit sequence of its rows.
    pub max_commit_seq: u64,
    /// When it was written, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
}

/// How the rows of a table, or of one partition of it, lie in the two tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Rows in the hot tier, which wait for a flush.
    pub hot_rows: u64,
    /// Rows in segments, without those deleted or superseded since.
    pub cold_rows: u64,
    /// Bytes in the hot tier, estimated.
    pub hot_bytes: u64,
    /// Bytes of the segments' files.
    pub cold_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// When rows last became cold, in microseconds since 1970-01-01T00:00:00Z; none: never.
    pub last_flush_at_us: Option<i64>,
}

/// The statistics of one user's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// The user.
    pub user_id: String,
    /// How the rows lie.
    pub stats: TierStats,
}

impl Admin {
    /// How the rows of a table lie in the two tiers.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn table_stats(&self, namespace: &str, table: &str) -> Result<TierStats> {
        let answer = self.stats_page(namespace, table, 1, String::new()).await?;
        present(answer.stats, "statistics").map(tier_stats)
    }

    /// The same for each partition of a USER table, by user.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn partition_stats(&self, namespace: &str, table: &str) -> Result<Vec<PartitionStats>> {
        self.pages(async |page_token| {
            let page = self.stats_page(namespace, table, PAGE_SIZE, page_token).await?;
            let partitions = page.partitions.into_iter().map(partition_stats).collect::<Result<_>>()?;
            Ok((partitions, page.next_page_token))
        })
        .await
    }

    /// The segments of a table, or of one user's partition of it, by user and id.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn list_segments(&self, namespace: &str, table: &str, user_id: Option<&str>) -> Result<Vec<Segment>> {
        self.pages(async |page_token| {
            let request = v1::ListSegmentsRequest {
                namespace: namespace.to_owned(),
                table: table.to_owned(),
                user_id: user_id.map(str::to_owned),
                page_size: PAGE_SIZE,
                page_token,
            };
            let page = self.read(request, |mut client, request| async move { client.list_segments(request).await });
            let page = page.await?;
            Ok((page.segments.into_iter().map(segment).collect(), page.next_page_token))
        })
        .await
    }

    async fn stats_page(
        &self,
        namespace: &str,
        table: &str,
        page_size: u32,
        page_token: String,
    ) -> Result<v1::GetTableStatsResponse> {
        let (namespace, table) = (namespace.to_owned(), table.to_owned());
        let request = v1::GetTableStatsRequest { namespace, table, page_size, page_token };
        self.read(request, |mut client, request| async move { client.get_table_stats(request).await }).await
    }
}

fn tier_stats(stats: v1::TierStats) -> TierStats {
    TierStats {
        hot_rows: stats.hot_rows,
        cold_rows: stats.cold_rows,
        hot_bytes: stats.hot_bytes,
        cold_bytes: stats.cold_bytes,
        segments: stats.segments,
        last_flush_at_us: stats.last_flush_at.map(|time| convert::micros(Some((time.seconds, time.nanos)))),
    }
}

fn partition_stats(partition: v1::PartitionStats) -> Result<PartitionStats> {
    let stats = present(partition.stats, "statistics").map(tier_stats)?;
    Ok(PartitionStats { user_id: partition.user_id, stats })
}

fn segment(segment: v1::Segment) -> Segment {
    Segment {
        created_at_us: convert::micros(segment.created_at.map(|time| (time.seconds, time.nanos))),
        segment_id: segment.segment_id,
        namespace: segment.namespace,
        table: segment.table,
        user_id: (!segment.user_id.is_empty()).then_some(segment.user_id),
        storage: segment.storage,
        path: segment.path,
        bytes: segment.bytes,
        rows: segment.rows,
        deleted_rows: segment.deleted_rows,
        schema_version: segment.schema_version,
        min_key: segment.min_key,
        max_key: segment.max_key,
        min_commit_seq: segment.min_commit_seq,
        max_commit_seq: segment.max_commit_seq,
    }
}
