//! Rows as Arrow record batches.

use std::sync::Arc;

use arrow::{array::RecordBatch, buffer::Buffer, datatypes::SchemaRef, error::ArrowError, ipc::reader::StreamDecoder};
use kalamdb_proto::v1::{ResultFormat, RowBatch};

use crate::{
    column::Columns,
    error::{Error, Result},
    stream::{Batch, sealed::Decode},
};

/// Rows of one statement as Arrow record batches.
///
/// Buffers are shared with the bytes received, not copied, where their alignment allows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArrowRows {
    columns: Arc<Columns>,
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
}

impl ArrowRows {
    /// The columns, as SQL knows them.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The Arrow schema; none for a statement that returns no rows.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// The batches in order.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Takes the batches out.
    pub fn into_batches(self) -> Vec<RecordBatch> {
        self.batches
    }

    /// Number of rows in all batches.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Batch for ArrowRows {}

impl Decode for ArrowRows {
    const FORMAT: ResultFormat = ResultFormat::ArrowIpc;

    fn decode(columns: Arc<Columns>, batch: RowBatch) -> Result<Self> {
        let malformed = |error: ArrowError| Error::protocol(format!("the Arrow data cannot be read: {error}"));
        let mut buffer = Buffer::from(batch.arrow_ipc);
        let mut decoder = StreamDecoder::new();
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            match decoder.decode(&mut buffer).map_err(malformed)? {
                Some(decoded) => batches.push(decoded),
                None => break,
            }
        }
        let schema = decoder.schema();
        decoder.finish().map_err(malformed)?;
        Ok(ArrowRows { columns, schema, batches })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Int64Array, RecordBatch},
        datatypes::{DataType, Field, Schema},
        ipc::writer::StreamWriter,
    };
    use kalamdb_proto::v1::RowBatch;

    use super::{ArrowRows, Decode};

    fn ipc(batches: usize) -> Vec<u8> {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        for start in 0..batches as i64 {
            let column = Int64Array::from(vec![start, start + 1]);
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        writer.into_inner().unwrap()
    }

    fn decode(bytes: Vec<u8>) -> crate::Result<ArrowRows> {
        ArrowRows::decode(Arc::default(), RowBatch { arrow_ipc: bytes.into(), ..Default::default() })
    }

    #[test]
    fn all_batches_are_read_and_an_empty_result_has_a_schema() {
        let rows = decode(ipc(3)).unwrap();
        assert_eq!((rows.batches().len(), rows.num_rows()), (3, 6));
        let rows = decode(ipc(0)).unwrap();
        assert_eq!((rows.num_rows(), rows.schema().unwrap().fields().len()), (0, 1));
        assert!(decode(Vec::new()).unwrap().schema().is_none());
    }

    #[test]
    fn cut_and_foreign_bytes_are_errors() {
        let whole = ipc(2);
        assert!(decode(whole[..whole.len() / 2].to_vec()).is_err());
        assert!(decode(b"not arrow at all".to_vec()).is_err());
    }
}
