//! Keys, rows and log entries to bytes and back. See `docs/architecture` for the formats as pictures.

mod builder;
mod catalog;
mod decode;
mod encode;
mod error;
mod keys;
mod layout;
mod log;
mod value;

pub use catalog::{CatalogKey, catalog_key, catalog_keys};
pub use decode::{BatchDecoder, DecodeColumn};
pub use encode::{EncodedRow, encode_rows};
pub use error::CodecError;
pub(crate) use keys::{LAST_COMMIT_KEY, write_log_key, write_row_key};
pub use keys::{
    PrimaryKey, log_key, log_range, partition_prefix_len, row_key, row_prefix, row_range, split_log_key, split_row_key,
    table_prefix, table_range,
};
pub use layout::{LayoutColumn, LayoutHistory, RowHeader, RowLayout};
pub use log::{ChangeOp, LogChange, LogEntry};
pub(crate) use log::{ChangeRef, EntryHeader, encode_entry};
