//! The lists of a backup: its files, and the rows of them that are deleted. Both can be long, so they are written and read
//! in parts.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use datafusion::arrow::{
    array::{AsArray, BinaryViewBuilder, Int64Builder, RecordBatch, StringViewBuilder},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use kalamdb_store::{
    codec::{Mark, PrimaryKey},
    ids::CommitSeq,
    segment::{RowsFileReader, RowsFileWriter, SegmentError},
};

use super::{
    format::{BackupId, FileLine, ListFile, sha256},
    place::Place,
};
use crate::error::{Error, Result};

/// Bounds of one part of the list of files.
const LINES_IN_PART: u64 = 10_000;
/// Bounds of one part of the list of marks.
const MARKS_IN_PART: u64 = 4 * 1024 * 1024;
const MARK_PART_BYTES: usize = 32 * 1024 * 1024;
/// Marks in a batch.
const BATCH_MARKS: usize = 8_192;

/// Writes the list of files.
pub(super) struct LineWriter {
    place: Place,
    backup: BackupId,
    part: Vec<u8>,
    lines: u64,
    parts: Vec<ListFile>,
}

impl LineWriter {
    pub(super) fn new(place: Place, backup: BackupId) -> Self {
        Self { place, backup, part: Vec::new(), lines: 0, parts: Vec::new() }
    }

    pub(super) async fn push(&mut self, line: &FileLine) -> Result<()> {
        serde_json::to_writer(&mut self.part, line).map_err(Error::internal)?;
        self.part.push(b'\n');
        self.lines += 1;
        if self.lines == LINES_IN_PART { self.end_part().await } else { Ok(()) }
    }

    /// The parts, once all of them are written.
    pub(super) async fn finish(mut self) -> Result<Vec<ListFile>> {
        if self.lines > 0 {
            self.end_part().await?;
        }
        Ok(self.parts)
    }

    async fn end_part(&mut self) -> Result<()> {
        let path = format!("{}/files-{:04}.jsonl", self.backup.folder(), self.parts.len() + 1);
        let part = std::mem::take(&mut self.part);
        let entries = std::mem::take(&mut self.lines);
        self.parts.push(write_part(&self.place, path, part.into(), entries).await?);
        Ok(())
    }
}

/// Reads a list of files from its beginning.
pub(super) struct LineReader {
    place: Place,
    parts: VecDeque<ListFile>,
    path: String,
    part: Bytes,
    at: usize,
    /// Lines of the part that are still to come.
    left: u64,
}

impl LineReader {
    pub(super) fn new(place: Place, parts: &[ListFile]) -> Self {
        let parts = parts.iter().cloned().collect();
        Self { place, parts, path: String::new(), part: Bytes::new(), at: 0, left: 0 }
    }

    /// Whether there certainly are no more lines.
    pub(super) fn is_at_end(&self) -> bool {
        self.parts.is_empty() && self.at == self.part.len()
    }

    pub(super) async fn next(&mut self) -> Result<Option<FileLine>> {
        while self.at == self.part.len() {
            if self.left > 0 {
                return Err(self.place.damaged(&self.path, &"it has fewer lines than it should"));
            }
            let Some(next) = self.parts.pop_front() else { return Ok(None) };
            self.part = self.place.read_list(&next).await?;
            (self.path, self.at, self.left) = (next.path, 0, next.entries);
        }
        let rest = self.part.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        let line = serde_json::from_slice(line).map_err(|error| self.place.damaged(&self.path, &error))?;
        self.at = (self.at + end + 1).min(self.part.len());
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Err(self.place.damaged(&self.path, &"it has more lines than it should")),
        };
        Ok(Some(line))
    }
}

fn mark_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8View, false),
        Field::new("row", DataType::Int64, false),
        Field::new("seq", DataType::Int64, false),
        Field::new("key", DataType::BinaryView, false),
    ]))
}

/// Writes the list of deletion marks.
pub(super) struct MarkWriter {
    place: Place,
    backup: BackupId,
    schema: SchemaRef,
    batch: MarkBatch,
    part: Option<RowsFileWriter>,
    parts: Vec<ListFile>,
}

#[derive(Default)]
struct MarkBatch {
    files: StringViewBuilder,
    rows: Int64Builder,
    seqs: Int64Builder,
    keys: BinaryViewBuilder,
    len: usize,
}

impl MarkWriter {
    pub(super) fn new(place: Place, backup: BackupId) -> Self {
        let batch = MarkBatch::default();
        Self { place, backup, schema: mark_schema(), batch, part: None, parts: Vec::new() }
    }

    /// Adds marks of the segment whose file has this name, ascending by their rows.
    pub(super) async fn push(&mut self, file: &str, marks: &[(u32, Mark)]) -> Result<()> {
        for (row, mark) in marks {
            self.batch.files.append_value(file);
            self.batch.rows.append_value(i64::from(*row));
            self.batch.seqs.append_value(mark.commit_seq.get().cast_signed());
            self.batch.keys.append_value(mark.key.as_bytes());
            self.batch.len += 1;
            if self.batch.len == BATCH_MARKS {
                self.end_batch()?;
                let is_full = |part: &RowsFileWriter| {
                    part.row_count() >= MARKS_IN_PART || part.buffered_bytes() >= MARK_PART_BYTES
                };
                if self.part.as_ref().is_some_and(is_full) {
                    self.end_part().await?;
                }
            }
        }
        Ok(())
    }

    /// The parts, once all of them are written.
    pub(super) async fn finish(mut self) -> Result<Vec<ListFile>> {
        self.end_batch()?;
        self.end_part().await?;
        Ok(self.parts)
    }

    fn end_batch(&mut self) -> Result<()> {
        if self.batch.len == 0 {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let batch = RecordBatch::try_new(
            Arc::clone(&self.schema),
            vec![
                Arc::new(batch.files.finish()),
                Arc::new(batch.rows.finish()),
                Arc::new(batch.seqs.finish()),
                Arc::new(batch.keys.finish()),
            ],
        );
        let part = match self.part.take() {
            Some(part) => part,
            None => RowsFileWriter::plain(&self.schema, Vec::new()).map_err(Error::internal)?,
        };
        let part = self.part.insert(part);
        part.write(&batch.map_err(Error::internal)?).map_err(Error::internal)
    }

    async fn end_part(&mut self) -> Result<()> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let path = format!("{}/marks-{:04}.parquet", self.backup.folder(), self.parts.len() + 1);
        let entries = part.row_count();
        let bytes = part.finish().map_err(Error::internal)?;
        self.parts.push(write_part(&self.place, path, bytes, entries).await?);
        Ok(())
    }
}

/// Reads a list of marks from its beginning.
pub(super) struct MarkReader {
    place: Place,
    parts: VecDeque<ListFile>,
    path: String,
    part: Option<RowsFileReader>,
    batch: Option<RecordBatch>,
    at: usize,
}

impl MarkReader {
    pub(super) fn new(place: Place, parts: &[ListFile]) -> Self {
        let parts = parts.iter().cloned().collect();
        Self { place, parts, path: String::new(), part: None, batch: None, at: 0 }
    }

    /// The next `count` marks, which must be of the file with this name and below `rows`.
    pub(super) async fn take(&mut self, file: &str, count: u64, rows: u64) -> Result<Vec<(u32, Mark)>> {
        let mut marks: Vec<(u32, Mark)> = Vec::new();
        while (marks.len() as u64) < count {
            let Some(batch) = self.batch.clone().filter(|batch| self.at < batch.num_rows()) else {
                self.next_batch().await?;
                continue;
            };
            let (row, mark) = self.mark(&batch, file)?;
            let is_next = marks.last().is_none_or(|(last, _)| *last < row);
            if !is_next || u64::from(row) >= rows {
                return Err(self.damaged(&"its rows are not those of the segment"));
            }
            marks.push((row, mark));
            self.at += 1;
        }
        Ok(marks)
    }

    /// Fails unless there are no more.
    pub(super) async fn expect_end(&mut self) -> Result<()> {
        let more = self.batch.as_ref().is_some_and(|batch| self.at < batch.num_rows());
        let more = more || self.part.as_mut().is_some_and(|part| part.next().is_some());
        if more || !self.parts.is_empty() {
            return Err(self.damaged(&"it has more marks than there should be"));
        }
        Ok(())
    }

    fn mark(&self, batch: &RecordBatch, file: &str) -> Result<(u32, Mark)> {
        let wrong = || self.damaged(&"it is no list of marks");
        let (Some(files), Some(rows), Some(seqs), Some(keys)) = (
            batch.column(0).as_string_view_opt(),
            batch.column(1).as_primitive_opt::<Int64Type>(),
            batch.column(2).as_primitive_opt::<Int64Type>(),
            batch.column(3).as_binary_view_opt(),
        ) else {
            return Err(wrong());
        };
        if files.value(self.at) != file {
            return Err(self.damaged(&"its marks are of another segment than they should be"));
        }
        let row = u32::try_from(rows.value(self.at)).map_err(|_| wrong())?;
        let commit_seq = CommitSeq::new(u64::try_from(seqs.value(self.at)).map_err(|_| wrong())?);
        Ok((row, Mark { commit_seq, key: PrimaryKey::from_encoded(keys.value(self.at)) }))
    }

    async fn next_batch(&mut self) -> Result<()> {
        loop {
            if let Some(part) = &mut self.part {
                match part.next().transpose() {
                    Ok(Some(batch)) if batch.num_columns() == 4 => {
                        (self.batch, self.at) = (Some(batch), 0);
                        return Ok(());
                    }
                    Ok(Some(_)) => return Err(self.damaged(&"it is no list of marks")),
                    Ok(None) => self.part = None,
                    Err(error) => return Err(self.damaged(&error)),
                }
            }
            let Some(next) = self.parts.pop_front() else {
                return Err(self.damaged(&"it has fewer marks than there should be"));
            };
            let bytes = self.place.read_list(&next).await?;
            self.path = next.path;
            let part = RowsFileReader::open(&self.path, bytes, BATCH_MARKS);
            self.part = Some(part.map_err(|error: SegmentError| self.damaged(&error))?);
        }
    }

    fn damaged(&self, why: &dyn std::fmt::Display) -> Error {
        let path = if self.path.is_empty() { "the list of marks" } else { &self.path };
        self.place.damaged(path, why)
    }
}

async fn write_part(place: &Place, path: String, bytes: Bytes, entries: u64) -> Result<ListFile> {
    let list = ListFile { bytes: bytes.len() as u64, sha256: sha256(&bytes), entries, path };
    place.write(&list.path, bytes).await?;
    Ok(list)
}
