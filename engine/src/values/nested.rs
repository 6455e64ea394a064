//! Arrays and structs, element by element.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, OffsetSizeTrait, StructArray, UInt64Array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::{nullif, take},
    datatypes::{DataType, Fields},
    error::ArrowError,
};

use super::{Target, plain_encoding};
use crate::{
    error::{Error, Result},
    types::{SqlType, StructField},
};

/// For each field of `to`, in order: the index and the field of `from` that it gets. By name; by position if `from` has
/// the names that a constructor without names gives (`c0`, `c1`, …). None if they do not fit.
pub(super) fn pair_fields<'f, 't>(
    from: &'f [StructField],
    to: &'t [StructField],
) -> Option<Vec<(usize, &'f StructField, &'t StructField)>> {
    if from.len() != to.len() {
        return None;
    }
    let by_name = to.iter().map(|t| {
        let index = from.iter().position(|f| f.name == t.name)?;
        Some((index, from.get(index)?, t))
    });
    if let Some(pairs) = by_name.collect() {
        return Some(pairs);
    }
    let unnamed = from.iter().enumerate().all(|(i, f)| f.name == format!("c{i}"));
    unnamed.then(|| from.iter().zip(to).enumerate().map(|(i, (f, t))| (i, f, t)).collect())
}

/// Lists in plain encoding. Arrow's own cast would convert the elements of all lists that there are in the memory of these.
pub(super) fn plain_lists<O: OffsetSizeTrait>(array: &ArrayRef, element: &SqlType) -> Result<ArrayRef, ArrowError> {
    let list = array.as_list::<O>();
    let offsets = list.value_offsets();
    let (start, end) = offsets.first().zip(offsets.last()).map_or((0, 0), |(a, b)| (a.as_usize(), b.as_usize()));
    let values = plain_encoding(&list.values().slice(start, end - start), element)?;
    let offsets: Vec<i32> = offsets
        .iter()
        .map(|offset| i32::try_from(offset.as_usize() - start))
        .collect::<Result<_, _>>()
        .map_err(|_| ArrowError::ComputeError("the lists have more elements than an i32 counts".to_owned()))?;
    let field = Arc::new(element.to_field("item", true));
    let plain = ListArray::try_new(field, OffsetBuffer::new(offsets.into()), values, list.nulls().cloned())?;
    Ok(Arc::new(plain))
}

/// Structs in plain encoding.
pub(super) fn plain_structs(array: &ArrayRef, fields: &[StructField]) -> Result<ArrayRef, ArrowError> {
    let source = array.as_struct();
    let columns = source.columns().iter().zip(fields).map(|(child, field)| plain_encoding(child, &field.sql_type));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields: Fields = fields.iter().map(|field| field.sql_type.to_field(&field.name, true)).collect();
    let plain = StructArray::try_new_with_length(fields, columns, source.nulls().cloned(), source.len())?;
    Ok(Arc::new(plain))
}

pub(super) fn convert_lists(
    target: Target<'_>,
    array: &ArrayRef,
    from: &SqlType,
    element: &SqlType,
) -> Result<ArrayRef> {
    let list = compacted(array.as_list::<i32>())?;
    let values = Target { to: element, in_list: true, ..target }.convert(list.values(), from)?;
    let field = match target.to.to_arrow() {
        DataType::List(field) => field,
        other => return Err(Error::internal(format!("{other} is not a list type"))),
    };
    let converted = ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned());
    Ok(Arc::new(converted.map_err(Error::internal)?))
}

/// The same lists, over just the elements that they hold: others must not fail to convert.
fn compacted(list: &ListArray) -> Result<ListArray> {
    let hidden = |row: usize| list.is_null(row) && list.value_length(row) > 0;
    let used = list.offsets().last().zip(list.offsets().first()).map_or(0, |(last, first)| last - first);
    if used as usize == list.values().len() && !(0..list.len()).any(hidden) {
        return Ok(list.clone());
    }
    let mut indices = Vec::with_capacity(used as usize);
    let mut lengths = Vec::with_capacity(list.len());
    for (row, bounds) in list.offsets().windows(2).enumerate() {
        let (start, end) = match bounds {
            [start, end] if list.is_valid(row) => (*start as u64, *end as u64),
            _ => (0, 0),
        };
        indices.extend(start..end);
        lengths.push((end - start) as usize);
    }
    let values = take(list.values(), &UInt64Array::from(indices), None).map_err(Error::internal)?;
    let DataType::List(field) = list.data_type() else {
        return Err(Error::internal("a list array is of a list type"));
    };
    let offsets = OffsetBuffer::from_lengths(lengths);
    ListArray::try_new(Arc::clone(field), offsets, values, list.nulls().cloned()).map_err(Error::internal)
}

pub(super) fn convert_structs(
    target: Target<'_>,
    array: &ArrayRef,
    from: &[StructField],
    to: &[StructField],
) -> Result<ArrayRef> {
    let source = array.as_struct();
    let pairs = pair_fields(from, to).ok_or_else(|| target.mismatch(&SqlType::Struct(from.to_vec())))?;
    let mut columns = Vec::with_capacity(pairs.len());
    for (index, from, to) in pairs {
        let child = source.columns().get(index).ok_or_else(|| Error::internal("a struct has its fields"))?;
        let child = masked(child, source.nulls())?;
        columns.push(Target { to: &to.sql_type, ..target }.convert(&child, &from.sql_type)?);
    }
    let fields = match target.to.to_arrow() {
        DataType::Struct(fields) => fields,
        _ => Fields::empty(),
    };
    let converted = StructArray::try_new_with_length(fields, columns, source.nulls().cloned(), source.len());
    Ok(Arc::new(converted.map_err(Error::internal)?))
}

/// The values of structs that are of the target's type already, if all that is in them is.
pub(super) fn checked_structs(target: Target<'_>, array: &ArrayRef, fields: &[StructField]) -> Result<ArrayRef> {
    let source = array.as_struct();
    let mut columns = Vec::with_capacity(fields.len());
    // By place: what pairs fields of different types, by name, would take the first one of a name twice.
    for (child, field) in source.columns().iter().zip(fields) {
        let child = masked(child, source.nulls())?;
        columns.push(Target { to: &field.sql_type, ..target }.checked(&child)?);
    }
    let nulls = source.nulls().cloned();
    let checked = StructArray::try_new_with_length(source.fields().clone(), columns, nulls, source.len());
    Ok(Arc::new(checked.map_err(Error::internal)?))
}

/// The child with NULL where its struct is NULL: what lies there must not fail to convert.
fn masked(child: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(nulls) = nulls else { return Ok(Arc::clone(child)) };
    let of_no_struct = BooleanArray::new(!nulls.inner(), None);
    nullif(child.as_ref(), &of_no_struct).map_err(Error::internal)
}
