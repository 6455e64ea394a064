//! Why a run could not be made.

use std::io;

/// Result of the benchmark's own steps.
pub(crate) type Result<T, E = BenchError> = std::result::Result<T, E>;

/// Why a workload could not be run. Failures of the calls under load are counted by the driver instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// What was asked for is not possible with the options given.
    #[error("{0}")]
    Usage(String),
    /// A call that prepares or checks a workload failed.
    #[error("{action}: {message}")]
    Call { action: String, message: String },
    /// The same, through the client library.
    #[error("{action}: {source}")]
    Client { action: String, source: kalam_link::Error },
    /// The server answered something else than it must.
    #[error("wrong answer: {0}")]
    WrongAnswer(String),
    /// A file, a folder or a child process.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The server could not be started.
    #[error(transparent)]
    Server(#[from] kalam_link::process::ProcessError),
    /// A limit's process did not start, or something went away.
    #[error("{0}")]
    Process(String),
    /// The input file is not what the workload needs.
    #[error("{0}")]
    Input(String),
    /// DataFusion, as a limit or as the reader of a file.
    #[error("DataFusion: {0}")]
    DataFusion(#[from] datafusion::error::DataFusionError),
    /// RocksDB, as a limit.
    #[error("RocksDB: {0}")]
    RocksDb(#[from] rocksdb::Error),
}

impl BenchError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn client(action: impl Into<String>) -> impl FnOnce(kalam_link::Error) -> Self {
        let action = action.into();
        move |source| Self::Client { action, source }
    }

    pub(crate) fn call(action: impl Into<String>) -> impl FnOnce(tonic::Status) -> Self {
        let action = action.into();
        move |status| Self::Call { action, message: status_text(&status) }
    }
}

/// A status as a line of text: its code and its message.
pub(crate) fn status_text(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
