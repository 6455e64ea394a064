//! What a backup's own files say, and where they are.
//!
//! ```text
//! duckdb.sql                                  views of the newest backup, for DuckDB
//! backups/<backup>/backup.json                the manifest; written last: without it there is no backup
//! backups/<backup>/files-0001.jsonl           a line for each file with rows
//! backups/<backup>/marks-0001.parquet         rows of segments that are deleted
//! backups/<backup>/duckdb.sql                 views of this backup
//! data/<table>/<backup>/<segment>.parquet     a segment, byte for byte
//! data/<table>/<backup>/hot-0001.parquet      rows that were hot
//! ```
//!
//! A folder `<backup>` below `data` has what that backup copied. Later, incremental ones name files of earlier ones, which
//! therefore never change. `docs/reference/backup.md` describes all of it for people.

use std::{collections::BTreeMap, fmt};

use base64::engine::general_purpose::STANDARD;
use kalamdb_store::{
    codec::{PrimaryKey, SegmentEntry},
    ids::{CommitSeq, Owner, SchemaVersion, SegmentId, StorageId, TableId, UserId},
};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::catalog::TableRecord;

/// The format that is written, and the newest that is read.
pub(super) const FORMAT: u32 = 1;

/// The most bytes of a manifest. Definitions of tables are what makes one long.
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 * 1024 * 1024;
/// The most bytes of a script for DuckDB that are read again: more than paths and definitions lead to.
pub(super) const MAX_SCRIPT_BYTES: u64 = 128 * 1024 * 1024;

/// The folder of manifests.
pub(super) const BACKUPS: &str = "backups";
/// The folder of files with rows.
pub(super) const DATA: &str = "data";
/// The script for DuckDB.
pub(super) const DUCKDB: &str = "duckdb.sql";

/// A backup in a directory: the id of the job that made it, so that later ones are greater. 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BackupId(pub(super) u64);

impl BackupId {
    /// Reads 16 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        hex16(text).map(Self)
    }

    /// The folder of its manifest.
    pub(super) fn folder(self) -> String {
        format!("{BACKUPS}/{self}")
    }

    /// Its manifest.
    pub(super) fn manifest(self) -> String {
        format!("{BACKUPS}/{self}/backup.json")
    }

    /// The folder of the files that it copies of a table.
    pub(super) fn data_folder(self, table: &str) -> String {
        format!("{DATA}/{table}/{self}")
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for BackupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a backup's id is 16 hexadecimal digits"))
    }
}

/// Which files a backup has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupMode {
    /// All that it needs.
    Full,
    /// Those that the backup before it has not.
    Incremental,
}

impl BackupMode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            BackupMode::Full => "full",
            BackupMode::Incremental => "incremental",
        }
    }
}

/// The manifest of a backup: the content of `backup.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// The version of KalamDB that wrote it.
    pub(super) kalamdb: String,
    pub(super) backup: BackupId,
    pub(super) mode: BackupMode,
    /// The backup whose files an incremental one names.
    pub(super) based_on: Option<BackupId>,
    /// The database, 16 hexadecimal digits.
    pub(super) database_id: String,
    pub(super) namespace: String,
    pub(super) options: BTreeMap<String, String>,
    /// When the snapshot was taken.
    pub(super) created_at_us: i64,
    pub(super) finished_at_us: i64,
    /// The last commit in the snapshot.
    pub(super) commit_seq: CommitSeq,
    /// A SNOWFLAKE_ID() that is greater than all that were handed out before the snapshot. Early versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_id: Option<i64>,
    pub(super) tables: Vec<TableManifest>,
    /// The lists of files, in their order.
    pub(super) files: Vec<ListFile>,
    /// The lists of deletion marks, in their order.
    pub(super) marks: Vec<ListFile>,
    pub(super) totals: Totals,
}

/// A table of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TableManifest {
    /// The table as the catalog has it, with every schema version.
    pub(super) definition: TableRecord,
    /// The name of its storage.
    pub(super) storage: String,
    pub(super) counts: TableCounts,
}

/// What a backup has of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct TableCounts {
    pub(super) segments: u64,
    /// Rows of the segments, deleted ones among them.
    pub(super) segment_rows: u64,
    /// Rows of the segments that are deleted.
    pub(super) marks: u64,
    /// Files of hot rows, and their rows.
    pub(super) hot_files: u64,
    pub(super) hot_rows: u64,
}

impl TableCounts {
    /// Rows that are there.
    pub(super) fn live_rows(&self) -> u64 {
        (self.segment_rows + self.hot_rows).saturating_sub(self.marks)
    }

    /// Counts a file.
    pub(super) fn add(&mut self, line: &FileLine) {
        match &line.segment {
            Some(segment) => {
                self.segments += 1;
                self.segment_rows += line.rows;
                self.marks += segment.marks;
            }
            None => {
                self.hot_files += 1;
                self.hot_rows += line.rows;
            }
        }
    }
}

/// What a backup has altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Rows that are there.
    pub(super) rows: u64,
    /// Files with rows, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Those of them that the backup copied itself.
    pub(super) new_files: u64,
    pub(super) new_bytes: u64,
}

/// A file of a backup that lists something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListFile {
    /// From the directory.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Lines, or rows.
    pub(super) entries: u64,
}

/// A file with rows: a line of `files-….jsonl`.
///
/// Lines are in the order of tables by their ids; of a table those of segments come first, by owner and segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileLine {
    pub(super) table: TableId,
    /// From the directory.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) sha256: String,
    pub(super) schema_version: SchemaVersion,
    /// Of a segment of a USER table; a file of hot rows has rows of many owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<UserId>,
    /// `None`: hot rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) segment: Option<SegmentLine>,
}

/// What the database knows of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentLine {
    #[serde(with = "segment_id")]
    pub(super) id: SegmentId,
    pub(super) row_group_rows: u32,
    #[serde(with = "key")]
    pub(super) min_key: PrimaryKey,
    #[serde(with = "key")]
    pub(super) max_key: PrimaryKey,
    pub(super) min_seq: CommitSeq,
    pub(super) max_seq: CommitSeq,
    pub(super) created_at_us: i64,
    /// Its rows in the lists of deletion marks.
    pub(super) marks: u64,
}

impl FileLine {
    /// The line of a segment as it lies in `path`.
    pub(super) fn of_segment(
        table: TableId,
        owner: &Owner,
        entry: &SegmentEntry,
        path: String,
        sha256: String,
        marks: u64,
    ) -> Self {
        let segment = SegmentLine {
            id: entry.id,
            row_group_rows: entry.row_group_rows,
            min_key: entry.min_key.clone(),
            max_key: entry.max_key.clone(),
            min_seq: entry.min_seq,
            max_seq: entry.max_seq,
            created_at_us: entry.created_at_us,
            marks,
        };
        let owner = match owner {
            Owner::Shared => None,
            Owner::User(user) => Some(user.clone()),
        };
        Self {
            table,
            path,
            bytes: entry.file_bytes,
            rows: entry.rows,
            sha256,
            schema_version: entry.schema_version,
            owner,
            segment: Some(segment),
        }
    }

    /// Whose rows a segment has.
    pub(super) fn partition_owner(&self) -> Owner {
        self.owner.clone().map_or(Owner::Shared, Owner::User)
    }

    /// The name of the file.
    pub(super) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is the file of this segment: what never changes of one is the same.
    pub(super) fn is_of(&self, entry: &SegmentEntry) -> bool {
        self.segment.as_ref().is_some_and(|segment| {
            segment.id == entry.id
                && self.bytes == entry.file_bytes
                && self.rows == entry.rows
                && self.schema_version == entry.schema_version
                && segment.row_group_rows == entry.row_group_rows
                && segment.created_at_us == entry.created_at_us
                && (segment.min_seq, segment.max_seq) == (entry.min_seq, entry.max_seq)
                && segment.min_key == entry.min_key
                && segment.max_key == entry.max_key
        })
    }

    /// The entry of the segment as another one, at another place.
    pub(super) fn entry(&self, segment: &SegmentLine, id: SegmentId, storage: StorageId, path: String) -> SegmentEntry {
        SegmentEntry {
            id,
            storage,
            path,
            file_bytes: self.bytes,
            rows: self.rows,
            row_group_rows: segment.row_group_rows,
            schema_version: self.schema_version,
            min_key: segment.min_key.clone(),
            max_key: segment.max_key.clone(),
            min_seq: segment.min_seq,
            max_seq: segment.max_seq,
            created_at_us: segment.created_at_us,
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not what was written.
    Damaged(String),
    /// It is of a later version.
    Newer(u32),
}

/// A manifest as a file: a JSON object whose first line has the SHA-256 of all others.
pub(super) fn seal(manifest: &Manifest) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec_pretty(manifest)?;
    let rest = json.strip_prefix(b"{\n").unwrap_or(&json);
    let mut file = format!("{{\"sha256\": \"{}\",\n", sha256(rest)).into_bytes();
    file.extend_from_slice(rest);
    Ok(file)
}

/// Reads what [`seal`] wrote.
pub(super) fn unseal(file: &[u8]) -> Result<Manifest, Unusable> {
    let damaged = |why: &str| Unusable::Damaged(why.to_owned());
    let line_end = file.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let (line, rest) = file.split_at(line_end + 1);
    let expected = line.strip_prefix(b"{\"sha256\": \"").and_then(|line| line.strip_suffix(b"\",\n"));
    if expected != Some(sha256(rest).as_bytes()) {
        return Err(damaged("its content is not what its first line says"));
    }
    let json = [b"{", rest].concat();
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_slice(&json).map_err(|error| Unusable::Damaged(error.to_string()))?;
    if version.format > FORMAT {
        return Err(Unusable::Newer(version.format));
    }
    serde_json::from_slice(&json).map_err(|error| Unusable::Damaged(error.to_string()))
}

/// The SHA-256 of bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex16(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u64::from_str_radix(text, 16).ok())?
}

/// Whether a path of a manifest can be one of the directory's, so that nothing else is ever read.
pub(super) fn is_plain_path(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.contains('\\')
}

mod segment_id {
    use super::{Deserialize, Deserializer, SegmentId, Serializer, hex16};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(id: &SegmentId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", id.get()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SegmentId, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex16(&text).map(SegmentId::new).ok_or_else(|| D::Error::custom("a segment's id is 16 hexadecimal digits"))
    }
}

mod key {
    use super::{Deserialize, Deserializer, PrimaryKey, STANDARD, Serializer};
    use base64::Engine as _;
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(key: &PrimaryKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(key.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrimaryKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(PrimaryKey::from_encoded).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
