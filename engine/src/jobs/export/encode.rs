//! Rows to the bytes of a file: groups of rows are encoded on several threads at a time, and follow each other in order.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use kalamdb_store::segment::{EncodedGroup, GroupEncoder, GroupedFile, SegmentError};

use super::{columns::Columns, text};
use crate::{
    error::{Error, Reason, Result},
    jobs::live::LiveJob,
    sql::ExportFormat,
};

/// Encodes groups of rows.
#[derive(Debug)]
pub(super) struct Encoder {
    columns: Columns,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Parquet(GroupEncoder),
    Csv,
    Json,
}

/// Rows that were encoded.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) rows: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Group(EncodedGroup),
    Text(Vec<u8>),
}

/// What follows the encoded rows in a file, and precedes them.
#[derive(Debug)]
pub(super) enum File {
    Parquet(GroupedFile),
    Text {
        /// What is in the file before any rows.
        begin: Vec<u8>,
    },
}

/// A file with these columns, and what encodes its rows.
///
/// # Errors
/// NOT_SUPPORTED when the format has no type for a column.
pub(super) fn begin(format: ExportFormat, columns: Columns) -> Result<(File, Arc<Encoder>)> {
    let (file, form) = match format {
        ExportFormat::Parquet => {
            let (file, groups) = GroupedFile::new(&columns.schema).map_err(from_segment)?;
            (File::Parquet(file), Form::Parquet(groups))
        }
        ExportFormat::Csv => (File::Text { begin: text::csv_header(&columns) }, Form::Csv),
        ExportFormat::Json => (File::Text { begin: Vec::new() }, Form::Json),
    };
    Ok((file, Arc::new(Encoder { columns, form })))
}

impl Encoder {
    /// Encodes a group of rows. Lets others have the thread between batches.
    pub(super) async fn encode(&self, batches: Vec<RecordBatch>, job: &LiveJob) -> Result<Encoded> {
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let content = match &self.form {
            Form::Parquet(groups) => {
                let mut group = groups.begin().map_err(from_segment)?;
                for batch in batches {
                    job.busy(|| group.write(&self.columns.convert(&batch)?).map_err(from_segment))?;
                    drop(batch);
                    tokio::task::yield_now().await;
                }
                Content::Group(job.busy(|| group.finish()).map_err(from_segment)?)
            }
            Form::Csv | Form::Json => {
                let mut lines = Vec::new();
                for batch in batches {
                    job.busy(|| {
                        let batch = self.columns.convert(&batch)?;
                        match self.form {
                            Form::Csv => text::push_csv(&self.columns, &batch, &mut lines),
                            _ => text::push_json(&self.columns, &batch, &mut lines),
                        }
                    })?;
                    drop(batch);
                    tokio::task::yield_now().await;
                }
                Content::Text(lines)
            }
        };
        Ok(Encoded { rows, content })
    }
}

impl File {
    /// Adds rows, and gives the bytes that follow in the file.
    pub(super) fn append(&mut self, encoded: Encoded) -> Result<Vec<u8>> {
        match (self, encoded.content) {
            (File::Parquet(file), Content::Group(group)) => {
                file.append(group).map_err(from_segment)?;
                Ok(file.take_bytes())
            }
            (File::Text { begin }, Content::Text(lines)) if begin.is_empty() => Ok(lines),
            (File::Text { begin }, Content::Text(lines)) => {
                let mut bytes = std::mem::take(begin);
                bytes.extend_from_slice(&lines);
                Ok(bytes)
            }
            _ => Err(Error::internal("rows encoded for another format")),
        }
    }

    /// The last bytes of the file.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        match self {
            File::Parquet(file) => file.finish().map_err(from_segment),
            File::Text { begin } => Ok(begin),
        }
    }
}

fn from_segment(error: SegmentError) -> Error {
    match error {
        SegmentError::Unsupported { column, data_type } => {
            let message =
                format!("Column {column} is of a type that Parquet does not have. CAST it, for example to TEXT.");
            Error::new(Reason::NotSupported, message).with("column", column).with_detail(data_type)
        }
        other => Error::internal(other),
    }
}
