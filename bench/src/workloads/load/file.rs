//! A Parquet file of messages, in memory, in the order of users and ids.

use std::{ops::Range, path::Path};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::{CastOptions, cast_with_options, concat_batches},
    datatypes::{DataType, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    error::DataFusionError,
    prelude::{ParquetReadOptions, SessionContext, col},
};
use kalamdb_proto::v1::{Value, value::Kind};

use crate::{
    data,
    error::{BenchError, Result},
};

/// The columns of the file and of the table, in order.
pub(super) const COLUMNS: [&str; 7] =
    ["id", "conversation_id", "user_id", "role", "content", "created_at", "files_changed"];
const USER: usize = 2;

/// The file's rows, all in memory.
pub(super) struct MessageFile {
    batch: RecordBatch,
    users: Vec<Range<usize>>,
}

impl MessageFile {
    /// Reads and sorts the whole file.
    ///
    /// # Errors
    /// A column is missing, or has values that the table's type does not hold exactly; a row has no user or no id.
    pub(super) async fn read(path: &Path) -> Result<Self> {
        let refused = |why: String| BenchError::Input(format!("{}: {why}", path.display()));
        let name = path.to_str().ok_or_else(|| refused("the name is not UTF-8".to_owned()))?;
        std::fs::File::open(path).map_err(BenchError::io(format!("cannot open {name}")))?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let options = ParquetReadOptions { file_extension: extension, ..ParquetReadOptions::default() };
        let frame = SessionContext::new().read_parquet(name, options).await?;
        for column in COLUMNS {
            let field = frame.schema().field_with_unqualified_name(column);
            let field = field.map_err(|_| refused(format!("there is no column {column}")))?;
            if matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) {
                return Err(refused(format!("column {column} has nanoseconds, a TIMESTAMP has microseconds")));
            }
        }
        let batches = frame
            .select_columns(&COLUMNS)?
            .sort(vec![col("user_id").sort(true, true), col("id").sort(true, true)])?
            .collect()
            .await?;
        let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| refused("there are no rows".to_owned()))?;
        let batch = concat_batches(&schema, &batches).map_err(DataFusionError::from)?;
        Self::from_sorted(&batch).map_err(refused)
    }

    /// Takes rows that are sorted by user and id.
    pub(super) fn from_sorted(batch: &RecordBatch) -> Result<Self, String> {
        let texts = DataType::Utf8View;
        let types = [
            ("id", DataType::Int64),
            ("conversation_id", texts.clone()),
            ("user_id", texts.clone()),
            ("role", texts.clone()),
            ("content", texts),
            ("created_at", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
            ("files_changed", DataType::Int32),
        ];
        // Not `safe`: a value that does not fit must be an error, not NULL.
        let exact = CastOptions { safe: false, ..CastOptions::default() };
        let mut columns = Vec::new();
        for (name, data_type) in types {
            let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"))?;
            let column = cast_with_options(column, &data_type, &exact).map_err(|e| format!("column {name}: {e}"))?;
            if matches!(name, "id" | "user_id") && column.null_count() > 0 {
                return Err(format!("{} rows have no {name}", column.null_count()));
            }
            columns.push((name, column));
        }
        let batch = RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())?;
        let users = user_ranges(&batch);
        Ok(Self { batch, users })
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows of each user, in order.
    pub(super) fn users(&self) -> &[Range<usize>] {
        &self.users
    }

    /// The user of a row.
    pub(super) fn user(&self, row: usize) -> &str {
        self.batch.column(USER).as_string_view().value(row)
    }

    /// A row as the values that are sent and that must come back.
    pub(super) fn values(&self, row: usize) -> Vec<Value> {
        let value = |column: &dyn Array| {
            if column.is_null(row) {
                return Kind::NullValue(0);
            }
            match column.data_type() {
                DataType::Int64 => Kind::IntValue(column.as_primitive::<Int64Type>().value(row)),
                DataType::Int32 => Kind::IntValue(i64::from(column.as_primitive::<Int32Type>().value(row))),
                DataType::Timestamp(..) => {
                    Kind::TimestamptzValue(column.as_primitive::<TimestampMicrosecondType>().value(row))
                }
                _ => Kind::TextValue(column.as_string_view().value(row).to_owned()),
            }
        };
        self.batch.columns().iter().map(|column| Value { kind: Some(value(column.as_ref())) }).collect()
    }

    /// Bytes that the server stores for a row, on average.
    pub(super) fn mean_row_bytes(&self) -> usize {
        let texts: usize = self
            .batch
            .columns()
            .iter()
            .filter_map(|column| column.as_string_view_opt())
            .map(|texts| texts.iter().flatten().map(str::len).sum::<usize>())
            .sum();
        // Four texts, each with its end offset.
        data::stored_row_bytes(&[""; 4]) + texts / self.rows().max(1)
    }
}

fn user_ranges(batch: &RecordBatch) -> Vec<Range<usize>> {
    let users = batch.column(USER).as_string_view();
    let mut ranges = Vec::new();
    let mut from = 0;
    for row in 1..=users.len() {
        if row == users.len() || users.value(row) != users.value(from) {
            ranges.push(from..row);
            from = row;
        }
    }
    ranges
}
