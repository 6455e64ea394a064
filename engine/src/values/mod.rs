//! From the values of expressions to the values of columns: assignment casts and NOT NULL.

mod nested;
mod numeric;
mod temporal;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, new_null_array},
        compute::{CastOptions, cast_with_options},
        datatypes::DataType,
        error::ArrowError,
        util::display::{ArrayFormatter, FormatOptions},
    },
    common::ScalarValue,
};

pub(crate) use text::timestamp_us;

use crate::{
    error::{Error, Reason, Result},
    types::SqlType,
};

/// Longest part of a value that an error message quotes, in characters.
const MAX_QUOTED_CHARS: usize = 64;

/// NULLs without a type, which take no bytes where they come from, may take so many as elements of lists of a column.
const MAX_UNTYPED_BYTES: usize = 16 * 1024 * 1024;

/// Where a value assigned to a column comes from. It decides how far the value may be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastContext {
    /// A literal in the statement. As in PostgreSQL, a quoted one has no type yet and becomes any that it can be read as.
    Literal,
    /// The parameter `$n`, from 1.
    Parameter(usize),
    /// Any other expression: its type is what it is.
    Expression,
}

/// The values of `array`, of SQL type `from`, as a column of type `to` stores them: the result's Arrow type is exactly
/// [`SqlType::to_arrow`] of `to`.
///
/// The array may have any Arrow encoding of `from` (`Utf8`, dictionaries, other units of time, …). `from` itself is
/// only needed to tell UUID and JSON from TEXT.
///
/// Conversions are PostgreSQL's assignment casts:
/// * numbers to numbers, if in range; floating point to integer rounds half to even, decimals round half away from zero;
/// * DATE, TIME and the TIMESTAMPs among one another where it makes sense (without time zone means UTC);
/// * numbers, BOOLEAN, UUID, JSON and times to TEXT, as CAST writes them;
/// * TEXT to DATE, TIME, TIMESTAMP, INTERVAL, UUID (stored in lower case), JSON (checked, stored as given) and BYTES
///   (`\xDEADBEEF`, else the UTF-8 bytes), by reading it;
/// * TEXT to BOOLEAN and numbers only from a literal, and to DECIMAL also from a parameter, as there is no parameter of
///   that type;
/// * arrays and structs element by element.
///
/// # Errors
/// * `PARAMETER_TYPE_MISMATCH` for a parameter whose type has no conversion, else `INVALID_VALUE`; either names the
///   column and both types;
/// * `INVALID_VALUE` for a value that cannot be read or is out of range; the message names the column, the value and
///   the type.
pub(crate) fn cast_column(
    array: &ArrayRef,
    from: &SqlType,
    to: &SqlType,
    column: &str,
    context: CastContext,
) -> Result<ArrayRef> {
    Target { column, to, context, trusted: true, in_list: false }.cast(array, from)
}

/// [`cast_column`] for values that a client sent as Arrow. Nobody has checked that a text is the UUID or the JSON that it is
/// said to be, that a decimal has no more digits than its type, or that a time is within a day.
///
/// # Errors
/// Those of [`cast_column`].
pub(crate) fn cast_untrusted(array: &ArrayRef, from: &SqlType, to: &SqlType, column: &str) -> Result<ArrayRef> {
    Target { column, to, context: CastContext::Expression, trusted: false, in_list: false }.cast(array, from)
}

/// Values of the parameter `$number` that a client sent as Arrow, in the Arrow type of `sql_type`. Arrow does not say that
/// each of them is one of that type; the result does, and has UUIDs in lower case.
///
/// # Errors
/// INVALID_VALUE for a UUID or JSON that is none, a DECIMAL with too many digits, and a TIME that is not within a day.
pub fn checked_parameters(values: &ArrayRef, sql_type: &SqlType, number: usize) -> Result<ArrayRef> {
    let (column, context) = (format!("${number}"), CastContext::Parameter(number));
    Target { column: &column, to: sql_type, context, trusted: false, in_list: false }.cast(values, sql_type)
}

/// [`cast_column`] for a single value.
///
/// # Errors
/// Those of [`cast_column`].
pub(crate) fn cast_scalar(
    value: &ScalarValue,
    from: &SqlType,
    to: &SqlType,
    column: &str,
    context: CastContext,
) -> Result<ScalarValue> {
    if from == to && value.data_type() == to.to_arrow() {
        return Ok(value.clone());
    }
    let array = value.to_array().map_err(Error::internal)?;
    let array = cast_column(&array, from, to, column, context)?;
    ScalarValue::try_from_array(&array, 0).map_err(Error::internal)
}

/// Checks that a NOT NULL column gets no NULL.
///
/// # Errors
/// `NOT_NULL_VIOLATION`, naming the column.
pub(crate) fn check_not_null(array: &dyn Array, column: &str) -> Result<()> {
    // Logical, as an array of the NULL type, or a dictionary, has no nulls of its own.
    if array.logical_null_count() == 0 {
        return Ok(());
    }
    Err(Error::new(Reason::NotNullViolation, format!("Column \"{column}\" must not be NULL.")).with("column", column))
}

fn is_assignable(from: &SqlType, to: &SqlType, context: CastContext) -> bool {
    use SqlType::{Boolean, Bytes, Date, Decimal, Interval, Json, List, Null, Struct, Text};
    use SqlType::{Time, Timestamp, TimestampTz, Uuid};
    match (from, to) {
        (Null, _) => true,
        (from, to) if from == to => true,
        (List(from), List(to)) => is_assignable(from, to, context),
        (Struct(from), Struct(to)) => nested::pair_fields(from, to)
            .is_some_and(|pairs| pairs.iter().all(|(_, f, t)| is_assignable(&f.sql_type, &t.sql_type, context))),
        (List(_) | Struct(_) | Bytes, _) | (_, List(_) | Struct(_) | Null) => false,
        (_, Text) => true,
        (Text, Date | Time | Timestamp | TimestampTz | Interval | Uuid | Json | Bytes) => true,
        (Text, Decimal { .. }) => context != CastContext::Expression,
        (Text, to) => context == CastContext::Literal && (numeric::is_number(to) || *to == Boolean),
        (Date, Timestamp | TimestampTz) => true,
        (Timestamp | TimestampTz, Date | Time | Timestamp | TimestampTz) => true,
        (from, to) => numeric::is_number(from) && numeric::is_number(to),
    }
}

/// The same values in the one Arrow encoding that [`SqlType::to_arrow`] gives.
fn plain_encoding(array: &ArrayRef, structure: &SqlType) -> Result<ArrayRef, ArrowError> {
    let plain = structure.to_arrow();
    if *array.data_type() == plain {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), structure) {
        (DataType::List(_), SqlType::List(element)) => nested::plain_lists::<i32>(array, element),
        (DataType::LargeList(_), SqlType::List(element)) => nested::plain_lists::<i64>(array, element),
        (DataType::Struct(_), SqlType::Struct(fields)) => nested::plain_structs(array, fields),
        _ => cast_with_options(array, &plain, &STRICT),
    }
}

/// Whether not every value of the Arrow type of a SQL type is one of the SQL type.
fn is_restricted(sql_type: &SqlType) -> bool {
    match sql_type {
        SqlType::Uuid | SqlType::Json | SqlType::Decimal { .. } | SqlType::Time => true,
        SqlType::List(element) => is_restricted(element),
        SqlType::Struct(fields) => fields.iter().any(|field| is_restricted(&field.sql_type)),
        _ => false,
    }
}

/// Bytes that a NULL of a type takes in an array.
fn null_bytes(sql_type: &SqlType) -> usize {
    match sql_type {
        SqlType::Struct(fields) => fields.iter().map(|field| null_bytes(&field.sql_type)).sum::<usize>() + 1,
        // Texts and bytes are views of 16 bytes.
        other => other.to_arrow().primitive_width().unwrap_or(16),
    }
}

/// A failing value is an error, not NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// The column, or the part of one, that values are converted for.
#[derive(Clone, Copy)]
struct Target<'a> {
    column: &'a str,
    to: &'a SqlType,
    context: CastContext,
    /// Whether values that are said to be of a type are known to be.
    trusted: bool,
    /// Whether the values are elements of lists, or parts of elements.
    in_list: bool,
}

impl Target<'_> {
    /// Converts an array of any encoding.
    fn cast(self, array: &ArrayRef, from: &SqlType) -> Result<ArrayRef> {
        let structure = SqlType::from_arrow(array.data_type());
        // An encoding that does not fit the type announced is believed: it is what the values are.
        let from = if from.to_arrow() == structure.to_arrow() { from } else { &structure };
        if !is_assignable(from, self.to, self.context) {
            return Err(self.mismatch(from));
        }
        let plain = plain_encoding(array, &structure).map_err(|_| self.mismatch(from))?;
        self.convert(&plain, from)
    }

    /// Converts an array in plain encoding. The pair of types is assignable.
    fn convert(self, array: &ArrayRef, from: &SqlType) -> Result<ArrayRef> {
        if from == self.to {
            return if self.trusted { Ok(Arc::clone(array)) } else { self.checked(array) };
        }
        if self.in_list && *array.data_type() == DataType::Null {
            self.check_untyped(array.len())?;
        }
        let all_null = *array.data_type() == DataType::Null || array.null_count() == array.len();
        if all_null {
            return Ok(new_null_array(&self.to.to_arrow(), array.len()));
        }
        match (from, self.to) {
            (SqlType::List(from), SqlType::List(element)) => nested::convert_lists(self, array, from, element),
            (SqlType::Struct(from), SqlType::Struct(to)) => nested::convert_structs(self, array, from, to),
            (SqlType::Text, _) => text::parse(self, array.as_string_view()),
            (_, SqlType::Text) => text::write(self, array, from),
            (_, to) if numeric::is_number(to) => numeric::convert(self, array, from),
            _ => temporal::convert(self, array, from),
        }
    }

    /// The values of an array that is of the target's type already, if they are that, too.
    fn checked(self, array: &ArrayRef) -> Result<ArrayRef> {
        match self.to {
            to if !is_restricted(to) => {}
            SqlType::Uuid | SqlType::Json => return text::checked(self, array),
            SqlType::Decimal { precision, .. } => numeric::check_digits(self, array, *precision)?,
            SqlType::Time => temporal::check_times(self, array)?,
            SqlType::List(element) => return nested::convert_lists(self, array, element, element),
            SqlType::Struct(fields) => return nested::checked_structs(self, array, fields),
            _ => {}
        }
        Ok(Arc::clone(array))
    }

    /// Checks that NULLs without a type are few enough to be given one.
    fn check_untyped(self, count: usize) -> Result<()> {
        if count.saturating_mul(null_bytes(self.to)) <= MAX_UNTYPED_BYTES {
            return Ok(());
        }
        let Target { column, to, .. } = self;
        let message = format!(
            "Column \"{column}\": its lists have {count} NULLs without a type, too many to make {to} of them. Send them as {to}."
        );
        Err(self.invalid_value(message))
    }

    fn mismatch(self, from: &SqlType) -> Error {
        let Target { column, to, context, .. } = self;
        let error = match context {
            CastContext::Parameter(number) => Error::new(
                Reason::ParameterTypeMismatch,
                format!("Parameter ${number} for column \"{column}\" must be {to}, but {from} was given."),
            )
            .with("parameter", format!("${number}")),
            CastContext::Literal | CastContext::Expression => Error::new(
                Reason::InvalidValue,
                format!("Column \"{column}\" is {to}, but the value is {from}. Convert it with CAST if that is meant."),
            ),
        };
        error.with("column", column).with("expected", to.to_string()).with("given", from.to_string())
    }

    /// The text cannot be read as the type.
    fn invalid(self, text: &str) -> Error {
        let Target { column, to, .. } = self;
        let message = format!("Column \"{column}\": '{}' is not a valid {to}.", shortened(text));
        self.invalid_value(message)
    }

    /// The value in this row of an array does not fit into the type.
    fn out_of_range(self, array: &dyn Array, row: usize) -> Error {
        let options = FormatOptions::new();
        let value = ArrayFormatter::try_new(array, &options).map(|f| f.value(row).to_string());
        self.value_out_of_range(&value.unwrap_or_else(|_| "The value".to_owned()))
    }

    fn value_out_of_range(self, value: &str) -> Error {
        let Target { column, to, .. } = self;
        let message = format!("Column \"{column}\": {} is out of range for {to}.", shortened(value));
        self.invalid_value(message)
    }

    fn invalid_value(self, message: String) -> Error {
        let error = Error::new(Reason::InvalidValue, message);
        let error = error.with("column", self.column).with("expected", self.to.to_string());
        match self.context {
            CastContext::Parameter(number) => error.with("parameter", format!("${number}")),
            CastContext::Literal | CastContext::Expression => error,
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
