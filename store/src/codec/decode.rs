//! Rows to Arrow columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int64Builder, StringViewBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, TimeUnit};

use super::builder::ColumnBuilder;
use super::encode::encode_value;
use super::keys::{decode_i64, decode_str, owner_text, partition_prefix_len};
use super::layout::{LayoutHistory, Place, RowHeader, RowLayout};
use super::value::{TRUNCATED, fixed_width, is_null, same_encoding};
use super::{CodecError, LayoutColumn};
use crate::ids::{ColumnId, SchemaVersion};

/// A column that a [`BatchDecoder`] makes.
#[derive(Debug, Clone)]
pub enum DecodeColumn {
    /// The primary key, from the row's key: `Int64` or `Utf8View`.
    PrimaryKey {
        /// The key's type.
        data_type: DataType,
    },
    /// A column of the payload.
    Stored {
        /// The column.
        id: ColumnId,
        /// Its type, as in every layout that has it.
        data_type: DataType,
        /// Its value in rows of schema versions without it: one value, or `None` for NULL.
        missing: Option<ArrayRef>,
    },
    /// The sequence of the commit that wrote the row: `Int64`.
    CommitSeq,
    /// The time of that commit: `Timestamp(Microsecond, "+00:00")`.
    CommitTime,
    /// Whether the row is deleted, `Boolean`: always false, as a deleted row is not there.
    Deleted,
    /// The user that owns the row: `Utf8View`, NULL for shared rows.
    Owner,
}

/// Decodes rows, of whatever schema versions, into the chosen columns.
///
/// Where each column lies in each version's rows is worked out once, so that a value costs a null test and a copy.
///
/// After an error from [`BatchDecoder::append`] the rows appended so far are lost: [`BatchDecoder::finish`] fails once,
/// and then the decoder is empty and usable again.
pub struct BatchDecoder {
    history: Arc<LayoutHistory>,
    columns: Vec<Output>,
    plans: Vec<Plan>,
    /// The plan of the row before: neighbours mostly have the same version.
    last_plan: usize,
    /// The partition of the row before, for the same reason.
    last_prefix: Vec<u8>,
    needs_key: bool,
    len: usize,
    bytes: usize,
    bytes_per_row: usize,
    damaged: bool,
}

enum Output {
    IntKey(Int64Builder),
    TextKey(StringViewBuilder),
    Stored(StoredColumn),
    CommitSeq(Int64Builder),
    CommitTime(TimestampMicrosecondBuilder),
    Deleted(BooleanBuilder),
    Owner(StringViewBuilder),
}

struct StoredColumn {
    id: ColumnId,
    data_type: DataType,
    /// The encoded value of rows without the column.
    missing: Option<Vec<u8>>,
    builder: ColumnBuilder,
}

/// Where the stored columns lie in the rows of one schema version.
struct Plan {
    version: SchemaVersion,
    ends_start: usize,
    variable_start: usize,
    /// One for each stored column among the outputs, in their order.
    places: Vec<Source>,
}

#[derive(Clone, Copy)]
enum Source {
    Missing,
    At { ordinal: usize, place: Place },
}

impl BatchDecoder {
    /// A decoder of rows of any version in `history`. Fails on types that cannot be stored and on columns that a layout
    /// has as another type.
    pub fn new(history: Arc<LayoutHistory>, columns: Vec<DecodeColumn>) -> Result<Self, CodecError> {
        let needs_key =
            columns.iter().any(|column| matches!(column, DecodeColumn::PrimaryKey { .. } | DecodeColumn::Owner));
        let columns = columns.into_iter().map(Output::new).collect::<Result<Vec<_>, _>>()?;
        for (_, layout) in history.iter() {
            for column in columns.iter().filter_map(Output::stored) {
                column.check(layout)?;
            }
        }
        let bytes_per_row = columns.iter().map(Output::bytes_per_value).sum();
        Ok(Self {
            history,
            columns,
            plans: Vec::new(),
            last_plan: 0,
            last_prefix: Vec::new(),
            needs_key,
            len: 0,
            bytes: 0,
            bytes_per_row,
            damaged: false,
        })
    }

    /// Adds a row.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
        let appended = self.append_row(key, value);
        self.damaged |= appended.is_err();
        appended
    }

    /// How many rows were appended since the last [`BatchDecoder::finish`].
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row was appended since the last [`BatchDecoder::finish`].
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// About how many bytes the columns so far take.
    pub fn memory_size(&self) -> usize {
        self.bytes
    }

    /// The columns, in the order asked for, all of [`BatchDecoder::len`] rows. The decoder is empty afterwards.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>, CodecError> {
        self.len = 0;
        self.bytes = 0;
        // Every builder is emptied, whatever comes of it.
        let finished: Vec<_> = self.columns.iter_mut().map(Output::finish).collect();
        if std::mem::take(&mut self.damaged) {
            return Err(CodecError::Corrupt("the batch has a row that could not be decoded"));
        }
        finished.into_iter().collect()
    }

    fn append_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
        let (header, payload) = RowHeader::split(value)?;
        let primary_key = if self.needs_key { self.primary_key(key)? } else { &[] };
        self.choose_plan(header.schema_version)?;
        let plan = self.plans.get(self.last_plan);
        let mut variable_bytes = 0;
        let mut stored = 0;
        for column in &mut self.columns {
            match column {
                Output::Stored(column) => {
                    if let Some(plan) = plan {
                        // `plan` has a place for each stored column.
                        let source = plan.places.get(stored).copied().unwrap_or(Source::Missing);
                        variable_bytes += column.append(plan, source, payload)?;
                    }
                    stored += 1;
                }
                Output::IntKey(builder) => builder.append_value(decode_i64(primary_key)?),
                Output::TextKey(builder) => {
                    append_text(builder, decode_str(primary_key)?)?;
                    variable_bytes += primary_key.len();
                }
                Output::CommitSeq(builder) => builder.append_value(header.commit_seq.get().cast_signed()),
                Output::CommitTime(builder) => builder.append_value(header.commit_time_us),
                Output::Deleted(builder) => builder.append_value(false),
                Output::Owner(builder) => {
                    let owner = owner_text(&self.last_prefix)?;
                    if owner.is_empty() {
                        builder.append_null();
                    } else {
                        append_text(builder, &owner)?;
                        variable_bytes += owner.len();
                    }
                }
            }
        }
        self.len += 1;
        self.bytes += self.bytes_per_row + variable_bytes;
        Ok(())
    }

    /// The primary key's bytes in a row's key; `last_prefix` is the row's partition afterwards.
    fn primary_key<'k>(&mut self, key: &'k [u8]) -> Result<&'k [u8], CodecError> {
        // No partition's prefix begins another's, so this says that the row is in the same partition.
        if !self.last_prefix.is_empty()
            && let Some(primary_key) = key.strip_prefix(self.last_prefix.as_slice())
        {
            return Ok(primary_key);
        }
        let prefix_len = partition_prefix_len(key).ok_or(TRUNCATED)?;
        let (prefix, primary_key) = key.split_at_checked(prefix_len).ok_or(TRUNCATED)?;
        self.last_prefix.clear();
        self.last_prefix.extend_from_slice(prefix);
        Ok(primary_key)
    }

    /// Makes `last_plan` the plan of `version`.
    fn choose_plan(&mut self, version: SchemaVersion) -> Result<(), CodecError> {
        if self.plans.get(self.last_plan).is_some_and(|plan| plan.version == version) {
            return Ok(());
        }
        self.last_plan = match self.plans.iter().position(|plan| plan.version == version) {
            Some(known) => known,
            None => {
                let layout = self.history.get(version).ok_or(CodecError::UnknownSchemaVersion(version))?;
                self.plans.push(Plan {
                    version,
                    ends_start: layout.ends_start(),
                    variable_start: layout.variable_start(),
                    places: self.columns.iter().filter_map(Output::stored).map(|column| column.find(layout)).collect(),
                });
                self.plans.len() - 1
            }
        };
        Ok(())
    }
}

impl std::fmt::Debug for BatchDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchDecoder").field("len", &self.len).finish_non_exhaustive()
    }
}

impl StoredColumn {
    fn check(&self, layout: &RowLayout) -> Result<(), CodecError> {
        match layout.ordinal(self.id).and_then(|ordinal| layout.columns().get(ordinal)) {
            Some(LayoutColumn { data_type, .. }) if !same_encoding(data_type, &self.data_type) => {
                Err(CodecError::TypeMismatch {
                    column: self.id,
                    stored: data_type.clone(),
                    given: self.data_type.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    fn find(&self, layout: &RowLayout) -> Source {
        match layout.ordinal(self.id).and_then(|ordinal| Some((ordinal, *layout.places().get(ordinal)?))) {
            Some((ordinal, place)) => Source::At { ordinal, place },
            None => Source::Missing,
        }
    }

    /// Adds the column's value of a row; says how many variable bytes it has.
    #[inline]
    fn append(&mut self, plan: &Plan, source: Source, payload: &[u8]) -> Result<usize, CodecError> {
        let Source::At { ordinal, place } = source else {
            match &self.missing {
                Some(missing) => self.builder.append(missing)?,
                None => self.builder.append_null(),
            }
            return Ok(self.missing.as_ref().map_or(0, Vec::len));
        };
        if payload.len() < plan.variable_start {
            return Err(TRUNCATED);
        }
        if is_null(payload, ordinal) {
            self.builder.append_null();
            return Ok(0);
        }
        match place {
            Place::Fixed { offset, width } => {
                self.builder.append(payload.get(offset..offset + width).ok_or(TRUNCATED)?)?;
                Ok(0)
            }
            Place::Variable { index } => {
                let end_at = |index: usize| {
                    let at = plan.ends_start + index * size_of::<u32>();
                    let bytes = payload.get(at..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
                    Ok(u32::from_le_bytes(*bytes) as usize)
                };
                let start = if index == 0 { 0 } else { end_at(index - 1)? };
                let end = end_at(index)?;
                let bytes = payload.get(plan.variable_start..).and_then(|bytes| bytes.get(start..end));
                self.builder.append(bytes.ok_or(TRUNCATED)?)?;
                Ok(end - start)
            }
        }
    }
}

impl Output {
    fn new(column: DecodeColumn) -> Result<Self, CodecError> {
        Ok(match column {
            DecodeColumn::PrimaryKey { data_type: DataType::Int64 } => Output::IntKey(Int64Builder::new()),
            DecodeColumn::PrimaryKey { data_type: DataType::Utf8View } => Output::TextKey(StringViewBuilder::new()),
            DecodeColumn::PrimaryKey { data_type } => return Err(CodecError::UnsupportedType(data_type)),
            DecodeColumn::Stored { id, data_type, missing } => {
                fixed_width(&data_type)?;
                let missing = match missing {
                    Some(value) => encode_value(id, &data_type, &value)?,
                    None => None,
                };
                let builder = ColumnBuilder::new(&data_type)?;
                Output::Stored(StoredColumn { id, data_type, missing, builder })
            }
            DecodeColumn::CommitSeq => Output::CommitSeq(Int64Builder::new()),
            DecodeColumn::CommitTime => Output::CommitTime(
                TimestampMicrosecondBuilder::new()
                    .with_data_type(DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
            ),
            DecodeColumn::Deleted => Output::Deleted(BooleanBuilder::new()),
            DecodeColumn::Owner => Output::Owner(StringViewBuilder::new()),
        })
    }

    fn stored(&self) -> Option<&StoredColumn> {
        match self {
            Output::Stored(column) => Some(column),
            _ => None,
        }
    }

    fn bytes_per_value(&self) -> usize {
        match self {
            Output::Stored(column) => column.builder.bytes_per_value(),
            Output::IntKey(_) | Output::CommitSeq(_) | Output::CommitTime(_) => size_of::<i64>(),
            Output::Deleted(_) => 1,
            Output::TextKey(_) | Output::Owner(_) => size_of::<u128>(),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, CodecError> {
        Ok(match self {
            Output::IntKey(builder) | Output::CommitSeq(builder) => Arc::new(builder.finish()),
            Output::TextKey(builder) | Output::Owner(builder) => Arc::new(builder.finish()),
            Output::CommitTime(builder) => Arc::new(builder.finish()),
            Output::Deleted(builder) => Arc::new(builder.finish()),
            Output::Stored(column) => column.builder.finish()?,
        })
    }
}

fn append_text(builder: &mut StringViewBuilder, text: &str) -> Result<(), CodecError> {
    builder.try_append_value(text).map_err(|_| CodecError::TooLarge("a batch of texts"))
}
