//! Why a step of a job failed, as operators are told: without paths and secrets, which are for the log alone.

use kalamdb_store::{commit::CommitError, segment::SegmentError};

use crate::{
    error::{Error, Reason},
    exec::{from_commit, from_store},
};

/// Characters of a cause that are kept.
const MAX_CAUSE_CHARS: usize = 500;

/// A failure of a step.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// What a statement fails with that waits for the job.
    pub(super) reason: Reason,
    /// What is wrong, and what to do.
    pub(super) message: String,
    /// From the step to the cause.
    causes: Vec<String>,
}

/// What a failure means for the rest of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Another attempt may succeed.
    Transient,
    /// Another attempt fails in the same way; other partitions may succeed.
    Lasting,
    /// The table was dropped: there is nothing left to do.
    Dropped,
    /// The store accepts nothing more.
    Closed,
}

impl Fault {
    /// The storage failed at a step.
    pub(super) fn storage(step: &str, error: &SegmentError) -> Self {
        tracing::warn!(step, %error, "a storage failed");
        let message = match error {
            SegmentError::UnknownStorage(_) => "Its storage does not exist any more.",
            SegmentError::Unreachable { .. } => "The storage cannot be reached.",
            SegmentError::NotFound { .. } => "A segment file does not exist; restore it from a backup.",
            SegmentError::Corrupt { .. } => "A segment file is damaged; restore it from a backup.",
            SegmentError::Full { .. } => "The storage is full. Free some space.",
            SegmentError::Denied { .. } => "The storage denies access. Check its credentials and permissions.",
            SegmentError::Exists { .. } => "The storage has another file under the name of a new segment.",
            SegmentError::Unsupported { .. } | SegmentError::Rows(_) => "The rows cannot be written to a segment.",
            SegmentError::Store(_) | SegmentError::Codec(_) => "Stored data cannot be read.",
            SegmentError::Other { .. } => "The storage failed.",
        };
        let reason = match error {
            SegmentError::UnknownStorage(_) => Reason::StorageNotFound,
            SegmentError::Unreachable { .. } | SegmentError::Other { .. } => Reason::StorageUnreachable,
            SegmentError::NotFound { .. } | SegmentError::Corrupt { .. } | SegmentError::Codec(_) => Reason::Corruption,
            SegmentError::Full { .. } => Reason::DiskFull,
            SegmentError::Denied { .. } => Reason::StorageDenied,
            SegmentError::Store(error) => from_store(error.clone()).reason(),
            SegmentError::Exists { .. } | SegmentError::Unsupported { .. } | SegmentError::Rows(_) => Reason::Internal,
        };
        let kind = if error.is_transient() { FaultKind::Transient } else { FaultKind::Lasting };
        Self { kind, reason, message: message.to_owned(), causes: vec![step.to_owned(), redacted(&error.to_string())] }
    }

    /// A hook made a step fail.
    pub(super) fn hook(step: &str, text: &str) -> Self {
        let message = "The storage cannot be reached.".to_owned();
        let reason = Reason::StorageUnreachable;
        Self { kind: FaultKind::Transient, reason, message, causes: vec![step.to_owned(), redacted(text)] }
    }

    /// The committer refused.
    pub(super) fn commit(step: &str, error: CommitError) -> Self {
        let kind = match &error {
            CommitError::TableDropped { .. } => FaultKind::Dropped,
            CommitError::Poisoned(_) | CommitError::Closed => FaultKind::Closed,
            CommitError::DiskFull | CommitError::SegmentsChanged { .. } | CommitError::LogTrimmed { .. } => {
                FaultKind::Transient
            }
            CommitError::KeyExists { .. }
            | CommitError::VersionChanged { .. }
            | CommitError::OwnerLeft { .. }
            | CommitError::TooLarge { .. }
            | CommitError::Storage(_) => FaultKind::Lasting,
        };
        let cause = redacted(&error.to_string());
        let error = from_commit(error);
        let (reason, message) = (error.reason(), error.message().to_owned());
        Self { kind, reason, message, causes: vec![step.to_owned(), cause] }
    }

    /// Rows could not be read.
    pub(super) fn engine(step: &str, error: &Error) -> Self {
        tracing::warn!(step, %error, "a job failed");
        Self {
            kind: FaultKind::Lasting,
            reason: error.reason(),
            message: error.message().to_owned(),
            causes: vec![step.to_owned(), redacted(&error.to_string())],
        }
    }

    /// The table was dropped.
    pub(super) fn dropped(step: &str) -> Self {
        let (reason, message) = (Reason::TableNotFound, "The table was dropped.".to_owned());
        Self { kind: FaultKind::Dropped, reason, message, causes: vec![step.to_owned()] }
    }

    /// A part of a job ended without an answer: it panicked, or the threads of jobs end.
    pub(super) fn lost(step: &str, error: &tokio::task::JoinError) -> Self {
        let (kind, reason, message) = if error.is_panic() {
            tracing::error!(step, "a job panicked");
            (FaultKind::Lasting, Reason::Internal, "Internal error; the server's log has the details.")
        } else {
            (FaultKind::Closed, Reason::ShuttingDown, "The job was stopped.")
        };
        Self { kind, reason, message: message.to_owned(), causes: vec![step.to_owned()] }
    }

    /// The causes, one a line.
    pub(super) fn trace(&self) -> String {
        self.causes.join("\n")
    }
}

/// A text without what could be a path, an address or a secret in one, and of bounded length.
fn redacted(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let tells = word.contains(['/', '\\', '@', '=']);
        if tells { "…" } else { word }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(MAX_CAUSE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_secrets_do_not_get_into_a_trace() {
        let error = SegmentError::Unreachable {
            file: "chat/users/ana/messages/00aa.parquet".to_owned(),
            reason: "error sending request for url (https://key:secret@host/bucket?sig=abc): refused".to_owned(),
        };
        let fault = Fault::storage("upload", &error);
        assert_eq!((fault.kind, fault.reason), (FaultKind::Transient, Reason::StorageUnreachable));
        assert_eq!(
            fault.trace(),
            "upload\nthe storage of … cannot be reached: error sending request for url … refused"
        );
    }

    #[test]
    fn causes_are_bounded() {
        assert_eq!(redacted(&"a ".repeat(10_000)).chars().count(), MAX_CAUSE_CHARS);
    }
}
