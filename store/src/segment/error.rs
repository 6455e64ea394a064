//! What can go wrong with segments.

use std::error::Error;

use arrow::datatypes::DataType;
use object_store::Error as StoreError;

use crate::codec::CodecError;
use crate::ids::StorageId;
use crate::kv::KvError;
use crate::object::{Trouble, summary};

/// Why a segment could not be written or read. Files are named by their path within their storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// No storage has this id.
    #[error("there is no storage {0}")]
    UnknownStorage(StorageId),
    /// The storage did not answer, or not as a storage does. Another attempt may succeed.
    #[error("the storage of {file} cannot be reached: {reason}")]
    Unreachable {
        /// The file.
        file: String,
        /// What the storage answered.
        reason: String,
    },
    /// The file is not there.
    #[error("segment file {file} does not exist")]
    NotFound {
        /// The file.
        file: String,
    },
    /// The file is not what was written.
    #[error("segment file {file} is damaged: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// How it differs.
        reason: String,
    },
    /// There is no space left. Another attempt may succeed.
    #[error("the storage of {file} is full: {reason}")]
    Full {
        /// The file.
        file: String,
        /// What the storage answered.
        reason: String,
    },
    /// The storage refuses access.
    #[error("the storage of {file} denies access: {reason}")]
    Denied {
        /// The file.
        file: String,
        /// What the storage answered.
        reason: String,
    },
    /// Another file is already there.
    #[error("{file} exists already, with other content")]
    Exists {
        /// The file.
        file: String,
    },
    /// A column cannot be stored in Parquet.
    #[error("column {column} of type {data_type} cannot be stored in a segment")]
    Unsupported {
        /// The column's name.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// The rows given to a writer, or asked of a reader, are not as they must be.
    #[error("{0}")]
    Rows(String),
    /// The key-value store failed.
    #[error(transparent)]
    Store(#[from] KvError),
    /// A record about segments is damaged.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Anything else.
    #[error("{file}: {reason}")]
    Other {
        /// The file.
        file: String,
        /// What the storage answered, or what is wrong with the file's name.
        reason: String,
    },
}

impl SegmentError {
    /// Whether the same attempt, some time later, may succeed.
    pub fn is_transient(&self) -> bool {
        // What cannot be told apart may pass, too: storages answer many failures of a moment in ways of their own.
        matches!(self, SegmentError::Unreachable { .. } | SegmentError::Full { .. } | SegmentError::Other { .. })
    }

    /// The segment error among the causes of `error`, if there is one. A [`VerifiedStore`](super::VerifiedStore) can
    /// only report object store errors; this finds what it meant, however deep DataFusion has wrapped it.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a SegmentError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<SegmentError>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// What an object store reports about `file`. Addresses, paths of the server and keys are left out.
    pub fn from_store(error: &StoreError, file: &str) -> Self {
        if let Some(found) = SegmentError::find(error) {
            return found.clone();
        }
        tracing::debug!(%error, file, "an object store failed");
        let (file, reason) = (file.to_owned(), summary(error));
        match Trouble::of(error) {
            _ if matches!(error, StoreError::AlreadyExists { .. }) => SegmentError::Exists { file },
            Trouble::Missing => SegmentError::NotFound { file },
            Trouble::Unreachable => SegmentError::Unreachable { file, reason },
            Trouble::Denied => SegmentError::Denied { file, reason },
            Trouble::Full => SegmentError::Full { file, reason },
            Trouble::Unsupported | Trouble::Elsewhere | Trouble::Other => SegmentError::Other { file, reason },
        }
    }
}

impl From<SegmentError> for StoreError {
    fn from(error: SegmentError) -> Self {
        StoreError::Generic { store: "segments", source: Box::new(error) }
    }
}
