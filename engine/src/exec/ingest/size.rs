//! How large values are, written out.

use datafusion::arrow::{
    array::{AnyDictionaryArray, Array, ArrayRef, AsArray, OffsetSizeTrait},
    buffer::NullBuffer,
    datatypes::DataType,
};

/// Bytes of a NULL without a type, which is given one: none is larger but structs.
const NULL_BYTES: usize = 32;

/// Bytes of a view, by which each text is told where it is.
const VIEW_BYTES: usize = 16;

/// The bytes that the values of an array take once each row has its own. In the array, a value may be there once for many
/// rows; so what is decoded of a small message can be of any size when it is written.
pub fn value_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    let data_type = array.data_type();
    if let Some(bytes) = width(data_type) {
        return rows.saturating_mul(bytes);
    }
    match data_type {
        DataType::Utf8 => texts(rows, array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => texts(rows, array.as_string::<i64>().value_offsets()),
        DataType::Binary => texts(rows, array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => texts(rows, array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => views(array.as_string_view().views(), array.nulls()),
        DataType::BinaryView => views(array.as_binary_view().views(), array.nulls()),
        DataType::List(_) => lists(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values()),
        DataType::LargeList(_) => lists(array.as_list::<i64>().value_offsets(), array.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => rows.saturating_add(value_bytes(array.as_fixed_size_list().values())),
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter().map(|column| value_bytes(column.as_ref()));
            columns.fold(rows, usize::saturating_add)
        }
        _ => match array.as_any_dictionary_opt() {
            Some(dictionary) => from_dictionary(dictionary),
            // Views of lists, runs, unions: as if all were in each row.
            None => rows.saturating_mul(array.get_buffer_memory_size()),
        },
    }
}

/// Bytes of each value of a type, if all have as many.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Null => Some(NULL_BYTES),
        DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(size) => Some(usize::try_from(*size).unwrap_or_default().saturating_add(VIEW_BYTES)),
        other => other.primitive_width(),
    }
}

/// The part of the values that is between the first offset and the last.
fn span<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    let ends = offsets.first().zip(offsets.last());
    ends.map_or((0, 0), |(first, last)| (first.as_usize(), last.as_usize().saturating_sub(first.as_usize())))
}

fn texts<O: OffsetSizeTrait>(rows: usize, offsets: &[O]) -> usize {
    rows.saturating_mul(VIEW_BYTES).saturating_add(span(offsets).1)
}

fn lists<O: OffsetSizeTrait>(offsets: &[O], values: &ArrayRef) -> usize {
    let (start, count) = span(offsets);
    size_of_val(offsets).saturating_add(value_bytes(values.slice(start, count).as_ref()))
}

fn views(views: &[u128], nulls: Option<&NullBuffer>) -> usize {
    let is_valid = |row: &usize| nulls.is_none_or(|nulls| nulls.is_valid(*row));
    let valid = views.iter().enumerate().filter(|(row, _)| is_valid(row));
    valid.map(|(_, view)| view_length(*view)).fold(views.len().saturating_mul(VIEW_BYTES), usize::saturating_add)
}

/// The length of the value that a view shows.
fn view_length(view: u128) -> usize {
    // It has it in its lowest four bytes.
    view as u32 as usize
}

fn from_dictionary(dictionary: &dyn AnyDictionaryArray) -> usize {
    let (rows, values) = (dictionary.len(), dictionary.values());
    if let Some(bytes) = width(values.data_type()) {
        return rows.saturating_mul(bytes);
    }
    let views = rows.saturating_mul(VIEW_BYTES);
    if values.is_empty() {
        return views;
    }
    let length = lengths(values);
    let keys = dictionary.normalized_keys().into_iter().enumerate();
    // The key of a NULL may be any.
    let shown = keys.filter(|(row, _)| dictionary.is_valid(*row)).map(|(_, key)| length(key));
    shown.fold(views, usize::saturating_add)
}

/// The length of each value of a dictionary, by its key.
fn lengths(values: &ArrayRef) -> Box<dyn Fn(usize) -> usize + '_> {
    fn between<O: OffsetSizeTrait>(offsets: &[O]) -> Box<dyn Fn(usize) -> usize + '_> {
        Box::new(move |key| offsets.get(key..=key + 1).map_or(0, |ends| span(ends).1))
    }
    fn shown(views: &[u128]) -> Box<dyn Fn(usize) -> usize + '_> {
        Box::new(move |key| views.get(key).map_or(0, |view| view_length(*view)))
    }
    match values.data_type() {
        DataType::Utf8 => between(values.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => between(values.as_string::<i64>().value_offsets()),
        DataType::Binary => between(values.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => between(values.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => shown(values.as_string_view().views()),
        DataType::BinaryView => shown(values.as_binary_view().views()),
        // Nested ones: as if all were in each row.
        _ => {
            let all = value_bytes(values);
            Box::new(move |_| all)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{
        array::{
            BinaryArray, BooleanArray, Decimal256Array, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray,
            Int8Array, Int32Array, Int64Array, LargeListArray, LargeStringArray, ListArray, NullArray, StringArray,
            StringViewArray, StructArray,
        },
        buffer::OffsetBuffer,
        datatypes::{Field, Int8Type, Int32Type},
    };

    use super::*;

    const LONG: &str = "a text that is longer than the twelve bytes of a view";

    #[test]
    fn numbers_take_their_width() {
        assert_eq!(value_bytes(&Int64Array::from(vec![1, 2, 3])), 24);
        assert_eq!(value_bytes(&Int64Array::from(vec![1, 2, 3]).slice(1, 1)), 8);
        assert_eq!(value_bytes(&Decimal256Array::new_null(2)), 64);
        assert_eq!(value_bytes(&BooleanArray::from(vec![true; 10])), 10);
        assert_eq!(value_bytes(&NullArray::new(10)), 320);
        assert_eq!(value_bytes(&NullArray::new(usize::MAX)), usize::MAX);
    }

    #[test]
    fn texts_and_bytes_take_what_is_shown_of_them() {
        assert_eq!(value_bytes(&StringArray::from(vec!["abc", "", "de"])), 3 * 16 + 5);
        assert_eq!(value_bytes(&StringArray::from(vec!["abc", "", "de"]).slice(1, 2)), 2 * 16 + 2);
        assert_eq!(value_bytes(&LargeStringArray::from(vec![Some("abc"), None])), 2 * 16 + 3);
        assert_eq!(value_bytes(&BinaryArray::from(vec![&b"abc"[..]])), 16 + 3);
        let bytes = FixedSizeBinaryArray::try_from_iter([[1_u8; 20], [2; 20]].into_iter()).unwrap();
        assert_eq!(value_bytes(&bytes), 2 * (16 + 20));
    }

    #[test]
    fn a_value_that_many_views_show_counts_for_each() {
        let one = StringViewArray::from(vec![LONG]);
        let many = StringViewArray::new(vec![one.views()[0]; 1_000].into(), one.data_buffers().to_vec(), None);
        assert_eq!(value_bytes(&many), 1_000 * (16 + LONG.len()));
        assert_eq!(value_bytes(&many.slice(10, 2)), 2 * (16 + LONG.len()));
        assert_eq!(value_bytes(&StringViewArray::from(vec![Some("abc"), None])), 2 * 16 + 3);
    }

    #[test]
    fn a_value_of_a_dictionary_counts_for_each_key() {
        let keys = Int8Array::from(vec![Some(0), Some(0), None, Some(1)]);
        let values: ArrayRef = Arc::new(StringArray::from(vec![LONG, "ab"]));
        let dictionary = DictionaryArray::<Int8Type>::new(keys.clone(), values);
        assert_eq!(value_bytes(&dictionary), 4 * 16 + 2 * LONG.len() + 2);
        assert_eq!(value_bytes(&dictionary.slice(2, 2)), 2 * 16 + 2);
        let viewed: ArrayRef = Arc::new(StringViewArray::from(vec![LONG, "ab"]));
        assert_eq!(value_bytes(&DictionaryArray::<Int8Type>::new(keys.clone(), viewed)), 4 * 16 + 2 * LONG.len() + 2);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        assert_eq!(value_bytes(&DictionaryArray::<Int8Type>::new(keys, numbers)), 4 * 4);
        let nothing: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
        let nulls = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![None, None]), nothing);
        assert_eq!(value_bytes(&nulls), 2 * 16);
    }

    #[test]
    fn lists_take_the_elements_that_they_show() {
        let three = || vec![Some(vec![Some(1), None]), None, Some(vec![Some(2), Some(3), Some(4)])];
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(three());
        assert_eq!(value_bytes(&list), 4 * 4 + 5 * 4);
        assert_eq!(value_bytes(&list.slice(0, 1)), 2 * 4 + 2 * 4);
        let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(three());
        assert_eq!(value_bytes(&large.slice(1, 2)), 3 * 8 + 3 * 4);
        let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            [Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])],
            2,
        );
        assert_eq!(value_bytes(&fixed), 2 + 4 * 4);
        assert_eq!(value_bytes(&fixed.slice(1, 1)), 1 + 2 * 4);
        // Elements that take no bytes at all where they are.
        let field = Arc::new(Field::new("item", DataType::Null, true));
        let offsets = OffsetBuffer::from_lengths([1_000_000]);
        let nulls = ListArray::new(field, offsets, Arc::new(NullArray::new(1_000_000)), None);
        assert_eq!(value_bytes(&nulls), 2 * 4 + 32_000_000);
    }

    #[test]
    fn structs_take_what_their_fields_do() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
            ("body", Arc::new(StringArray::from(vec!["abc", "", "de"]))),
        ];
        let structs = StructArray::try_from(columns).unwrap();
        assert_eq!(value_bytes(&structs), 3 + 24 + 3 * 16 + 5);
        assert_eq!(value_bytes(&structs.slice(2, 1)), 1 + 8 + 16 + 2);
    }
}
