//! Arrays without what no row of theirs refers to.
//!
//! A filter leaves texts and bytes where they are and only drops the references to them: a batch with one row of a
//! thousand still holds the texts of all. Of rows that somebody may not see, nothing may stay.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray},
        buffer::OffsetBuffer,
        datatypes::DataType,
    },
    common::Result as DataFusionResult,
};

use crate::exec::scan::batch_of;

/// The same rows in buffers of their own.
pub(crate) fn compacted(batch: &RecordBatch) -> DataFusionResult<RecordBatch> {
    let columns = batch.columns().iter().map(compacted_array).collect::<DataFusionResult<Vec<_>>>()?;
    batch_of(batch.schema_ref(), columns, batch.num_rows())
}

fn compacted_array(array: &ArrayRef) -> DataFusionResult<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let ends = (list.offsets().first().copied(), list.offsets().last().copied());
            let (Some(first), Some(last)) = ends else { return Ok(Arc::clone(array)) };
            let values = list.values().slice(first as usize, (last - first) as usize);
            let offsets = OffsetBuffer::from_lengths(list.offsets().lengths());
            let values = compacted_array(&values)?;
            Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, list.nulls().cloned())?)
        }
        DataType::Struct(fields) => {
            let columns =
                array.as_struct().columns().iter().map(compacted_array).collect::<DataFusionResult<Vec<_>>>()?;
            let nulls = array.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{BooleanArray, ListBuilder, StringViewArray, StringViewBuilder},
        compute::filter,
        datatypes::Field,
    };

    use super::*;

    /// Whether a text is somewhere in the buffers of an array.
    fn holds(array: &dyn Array, text: &str) -> bool {
        let data = array.to_data();
        let mut all = vec![data];
        while let Some(data) = all.pop() {
            let found = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if data.buffers().iter().any(|buffer| found(buffer.as_slice())) {
                return true;
            }
            all.extend(data.child_data().iter().cloned());
        }
        false
    }

    #[test]
    fn texts_of_rows_that_were_dropped_are_gone() {
        let (shown, hidden) = ("a text that may be shown", "a text that must be hidden");
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some(shown), Some(hidden), None]));
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        for text in [shown, hidden] {
            lists.values().append_value(text);
            lists.append(true);
        }
        lists.append(false);
        let lists: ArrayRef = Arc::new(lists.finish());
        let field = Arc::new(Field::new("text", DataType::Utf8View, true));
        let structs: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&texts))]));
        for array in [texts, lists, structs] {
            let kept = filter(&array, &BooleanArray::from(vec![true, false, true])).unwrap();
            assert!(holds(&kept, hidden) || !matches!(array.data_type(), DataType::Utf8View));
            let compact = compacted_array(&kept).unwrap();
            assert!(holds(&compact, shown) && !holds(&compact, hidden));
            assert_eq!(compact.as_ref(), kept.as_ref());
        }
    }
}
