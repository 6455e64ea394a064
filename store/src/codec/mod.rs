//! Keys, rows, log entries and the manifest of segments to bytes and back. See `docs/architecture` for the formats as pictures.

mod audit;
mod builder;
mod catalog;
mod decode;
mod encode;
mod error;
mod hot_counts;
mod keys;
mod layout;
mod log;
mod packed_inserts;
mod packed_keys;
mod segments;
mod storages;
mod users;
mod value;

pub use audit::{audit_key, audit_range, split_audit_key};
pub use catalog::{CatalogKey, catalog_key, catalog_keys};
pub use decode::{BatchDecoder, DecodeColumn};
pub use encode::{EncodedRow, encode_rows};
pub use error::CodecError;
pub(crate) use hot_counts::HOT_COUNTED_KEY;
pub use hot_counts::{HotCount, hot_count_key, hot_count_range, split_hot_count_key};
pub(crate) use keys::{LAST_COMMIT_KEY, LOG_FLOOR_KEY, encode_i64, log_key_seq, write_log_key, write_row_key};
pub use keys::{
    PrimaryKey, log_key, log_range, partition_prefix_len, row_key, row_prefix, row_range, split_log_key, split_row_key,
    table_prefix, table_range,
};
pub use layout::{LayoutColumn, LayoutHistory, RowHeader, RowLayout};
pub use log::{ChangeOp, LogChange, LogEntry};
pub(crate) use log::{ChangeRef, EntryHeader, encode_entry};
pub use packed_inserts::{DuplicateKey, PackedInserts};
pub use packed_keys::PackedKeys;
pub use segments::{
    GarbageFile, LAST_SEGMENT_KEY, Mark, PendingFile, SegmentEntry, SegmentsKey, checksums_key, decode_checksums,
    decode_mark_list, encode_checksums, encode_mark_list, garbage_key, garbage_range, mark_key, mark_list_key,
    mark_list_range, mark_range, pending_key, pending_range, segment_key, segment_range, split_garbage_key,
    split_pending_key, split_segments_key,
};
pub use storages::{next_storage_id_key, split_storage_key, storage_key, storage_range};
pub use users::{
    administrator_key, administrator_range, api_key_key, api_key_of_range, api_key_of_user_key, api_key_range,
    api_key_used_key, session_key, session_of_range, session_of_user_key, session_range, split_administrator_key,
    split_api_key_key, split_api_key_of_user_key, split_session_key, split_session_of_user_key, split_user_key,
    split_user_leaving_key, split_user_name_key, user_key, user_last_login_key, user_last_login_range,
    user_leaving_key, user_leaving_range, user_name_key, user_name_range, user_range,
};
