//! Segments: the Parquet files of the cold tier.
//!
//! A segment has rows of one partition. It is written once, sorted by primary key, and never changed; what becomes of
//! its rows later is said by deletion marks in the manifest (see `codec/segments.rs`).
//!
//! ```text
//! 0000018f3c5a9e01.parquet             the segment's id, hexadecimal
//! ┌──────────────────────────────┐
//! │ PAR1                         │
//! │ row group 0   131,072 rows   │     every row group has the same number of rows, the last can have fewer:
//! │   column: pages, 8,192 rows  │     so row n is row n % 131,072 of row group n / 131,072
//! │   column: …                  │
//! │ row group 1                  │     columns  those of the table, in creation order, field id = column id + 1
//! │   …                          │              _seq      INT64      commit sequence of the row's version
//! ├──────────────────────────────┤              _updated  TIMESTAMP  its commit time
//! │ bloom filters of the key     │
//! │ column index                 │     the least and greatest value of each page of each column
//! │ offset index                 │     where each page is, and its first row
//! │ footer                       │     schema, row groups, statistics, "sorted by the key", kalamdb.* metadata
//! │ PAR1                         │
//! └──────────────────────────────┘
//!   a CRC-32 of each 64 KiB of the file, in the key-value store
//! ```
//!
//! * Pages are compressed with zstd and small, because a read by key decompresses one page of each column. A column has
//!   a dictionary if it is small; otherwise numbers and times are delta encoded. A BIGINT key, `_seq` and `_updated` are
//!   only delta encoded: zstd would find nothing in them.
//! * Columns are REQUIRED exactly where SQL says NOT NULL. Texts, UUIDs and JSON are strings; an INTERVAL is a string
//!   too, for example `1 mons 2 days 0.500000000 secs`, since Parquet's own interval could not hold it.
//! * No Arrow schema is embedded, so that every reader sees plain strings and UTC; all types survive that.
//! * Metadata of the file: `kalamdb.format` (1), `.namespace`, `.table`, `.owner` (only for rows of a user),
//!   `.schema_version`, `.min_seq`, `.max_seq`.
//!
//! [`SegmentWriter`] makes a file, [`Segments::write`] puts it into a storage, [`Segments::open`] gives a
//! [`SegmentReader`] for reads by key. Scans are DataFusion's, over [`Segments::verified_store`]. Whatever is read is
//! compared with its checksum first: damage is an error that names the file, never a wrong row.

mod checksums;
mod error;
mod fields;
mod file_name;
mod grouped_file;
mod locate;
mod reader;
mod rows_file;
mod segments;
mod verified_store;
mod writer;

pub use checksums::{CHECKSUM_BLOCK, block_checksums};
pub use error::SegmentError;
pub use fields::{SEQ_COLUMN, SegmentFields, UPDATED_COLUMN, column_of_field, restore_column};
pub use file_name::{segment_file_name, segment_of_path};
pub use grouped_file::{EncodedGroup, GroupEncoder, GroupWriter, GroupedFile};
pub use reader::SegmentReader;
pub use rows_file::{RowsFileReader, RowsFileWriter, check_segment_file};
pub use segments::{SegmentSettings, SegmentStores, Segments};
pub use verified_store::VerifiedStore;
pub use writer::{SegmentFile, SegmentOrigin, SegmentWriter, WriterSettings};
