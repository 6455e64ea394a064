use arrow::datatypes::DataType;

use crate::ids::{ColumnId, SchemaVersion};

/// Why bytes could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what any version of this software wrote there.
    #[error("stored bytes are damaged: {0}")]
    Corrupt(&'static str),
    /// The bytes are of a later format.
    #[error("stored bytes are of format {found}, which is not known here")]
    UnknownFormat {
        /// The format's number.
        found: u8,
    },
    /// The row was written with a schema version that the given history does not have.
    #[error("a row has schema version {0}, which is not known")]
    UnknownSchemaVersion(SchemaVersion),
    /// There is no encoding for this type.
    #[error("values of type {0} cannot be stored")]
    UnsupportedType(DataType),
    /// A column was given, or asked for, as another type than the one it is stored as.
    #[error("column {column} is stored as {stored}, not as {given}")]
    TypeMismatch {
        /// The column.
        column: ColumnId,
        /// Its type in the layout.
        stored: DataType,
        /// The type given or asked for.
        given: DataType,
    },
    /// The number or the lengths of the given columns do not fit.
    #[error("{0}")]
    Shape(&'static str),
    /// A value, a row or a batch is larger than its encoding can hold.
    #[error("{0} is too large to be stored")]
    TooLarge(&'static str),
}
