//! The engine's error: what to do (kind), why (stable reason), and a message with the remedy.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and stays wrong: fix it.
    InvalidRequest,
    /// A named thing does not exist.
    NotFound,
    /// A named thing, or a row with this key, exists already.
    AlreadyExists,
    /// The request is right but the state of the database does not allow it now.
    FailedPrecondition,
    /// The feature is not supported.
    NotSupported,
    /// No valid credential.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// A configured limit was reached; the message names it.
    LimitExceeded,
    /// Lost against concurrent writers: run the statement again.
    Conflict,
    /// Stopped at its time-out.
    Timeout,
    /// Stopped at the caller's wish.
    Cancelled,
    /// Not now: try again, here or elsewhere.
    Unavailable,
    /// Stored data is damaged.
    Corruption,
    /// A defect of KalamDB. The message is safe to show; details go to the log.
    Internal,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $kind:ident,)*) => {
        /// Stable names of what went wrong; the API's `ErrorReason` documents each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "each is documented once, in proto/kalamdb/v1/errors.proto")]
        pub enum Reason { $(#[serde(rename = $text)] $name,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The constant that clients see, such as `TABLE_NOT_FOUND`.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The kind that goes with this reason.
            pub fn kind(self) -> ErrorKind {
                match self { $(Reason::$name => ErrorKind::$kind,)* }
            }
        }
    };
}

reasons! {
    SyntaxError = "SYNTAX_ERROR" => InvalidRequest,
    InvalidStatement = "INVALID_STATEMENT" => InvalidRequest,
    NotSupported = "NOT_SUPPORTED" => NotSupported,
    InvalidName = "INVALID_NAME" => InvalidRequest,
    InvalidRequest = "INVALID_REQUEST" => InvalidRequest,
    NamespaceNotFound = "NAMESPACE_NOT_FOUND" => NotFound,
    NamespaceExists = "NAMESPACE_EXISTS" => AlreadyExists,
    NamespaceNotEmpty = "NAMESPACE_NOT_EMPTY" => FailedPrecondition,
    NamespaceRequired = "NAMESPACE_REQUIRED" => InvalidRequest,
    TableNotFound = "TABLE_NOT_FOUND" => NotFound,
    TableExists = "TABLE_EXISTS" => AlreadyExists,
    ColumnNotFound = "COLUMN_NOT_FOUND" => InvalidRequest,
    ColumnExists = "COLUMN_EXISTS" => AlreadyExists,
    InvalidTableDefinition = "INVALID_TABLE_DEFINITION" => InvalidRequest,
    FunctionNotFound = "FUNCTION_NOT_FOUND" => InvalidRequest,
    StorageNotFound = "STORAGE_NOT_FOUND" => NotFound,
    StorageExists = "STORAGE_EXISTS" => AlreadyExists,
    StorageInUse = "STORAGE_IN_USE" => FailedPrecondition,
    InvalidStorage = "INVALID_STORAGE" => InvalidRequest,
    StorageDenied = "STORAGE_DENIED" => FailedPrecondition,
    StorageKeyMissing = "STORAGE_KEY_MISSING" => FailedPrecondition,
    PathNotAllowed = "PATH_NOT_ALLOWED" => FailedPrecondition,
    FileExists = "FILE_EXISTS" => AlreadyExists,
    BackupNotFound = "BACKUP_NOT_FOUND" => NotFound,
    BackupMismatch = "BACKUP_MISMATCH" => FailedPrecondition,
    BackupDamaged = "BACKUP_DAMAGED" => Corruption,
    JobNotFound = "JOB_NOT_FOUND" => NotFound,
    TicketInvalid = "TICKET_INVALID" => InvalidRequest,
    TicketExpired = "TICKET_EXPIRED" => FailedPrecondition,
    UserNotFound = "USER_NOT_FOUND" => NotFound,
    UserExists = "USER_EXISTS" => AlreadyExists,
    InvalidUser = "INVALID_USER" => InvalidRequest,
    UserHasData = "USER_HAS_DATA" => FailedPrecondition,
    LastAdministrator = "LAST_ADMINISTRATOR" => FailedPrecondition,
    ApiKeyNotFound = "API_KEY_NOT_FOUND" => NotFound,
    PrimaryKeyViolation = "PRIMARY_KEY_VIOLATION" => AlreadyExists,
    NotNullViolation = "NOT_NULL_VIOLATION" => InvalidRequest,
    InvalidValue = "INVALID_VALUE" => InvalidRequest,
    WriteConflict = "WRITE_CONFLICT" => Conflict,
    ParameterCountMismatch = "PARAMETER_COUNT_MISMATCH" => InvalidRequest,
    ParameterTypeMismatch = "PARAMETER_TYPE_MISMATCH" => InvalidRequest,
    Unauthenticated = "UNAUTHENTICATED" => Unauthenticated,
    PermissionDenied = "PERMISSION_DENIED" => PermissionDenied,
    InvalidUserId = "INVALID_USER_ID" => InvalidRequest,
    CredentialRevoked = "CREDENTIAL_REVOKED" => Unauthenticated,
    CredentialExpired = "CREDENTIAL_EXPIRED" => Unauthenticated,
    UserDisabled = "USER_DISABLED" => Unauthenticated,
    TooManyAttempts = "TOO_MANY_ATTEMPTS" => LimitExceeded,
    ResultTooLarge = "RESULT_TOO_LARGE" => LimitExceeded,
    StatementTooLarge = "STATEMENT_TOO_LARGE" => LimitExceeded,
    QueryMemoryExceeded = "QUERY_MEMORY_EXCEEDED" => LimitExceeded,
    TooManyRequests = "TOO_MANY_REQUESTS" => LimitExceeded,
    WriteTooLarge = "WRITE_TOO_LARGE" => LimitExceeded,
    StatementTimeout = "STATEMENT_TIMEOUT" => Timeout,
    StatementCancelled = "STATEMENT_CANCELLED" => Cancelled,
    NestingTooDeep = "NESTING_TOO_DEEP" => InvalidRequest,
    ShuttingDown = "SHUTTING_DOWN" => Unavailable,
    StorePoisoned = "STORE_POISONED" => Unavailable,
    StorageUnreachable = "STORAGE_UNREACHABLE" => Unavailable,
    DiskFull = "DISK_FULL" => LimitExceeded,
    SlowConsumer = "SLOW_CONSUMER" => LimitExceeded,
    LiveQueryKilled = "LIVE_QUERY_KILLED" => Cancelled,
    LiveQueryNotFound = "LIVE_QUERY_NOT_FOUND" => NotFound,
    InvalidResumeToken = "INVALID_RESUME_TOKEN" => InvalidRequest,
    ChangesExpired = "CHANGES_EXPIRED" => FailedPrecondition,
    SchemaChanged = "SCHEMA_CHANGED" => FailedPrecondition,
    TooManyLiveQueries = "TOO_MANY_LIVE_QUERIES" => LimitExceeded,
    TableHasLiveQueries = "TABLE_HAS_LIVE_QUERIES" => FailedPrecondition,
    Corruption = "CORRUPTION" => Corruption,
    Internal = "INTERNAL" => Internal,
}

/// Where in the statement's text an error lies; both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// An error of the engine.
///
/// The message is written for the person who sent the request: it says what is wrong and what to do, and never
/// holds a path, a key or another user's data. What an operator needs beyond it is in [`Error::detail`].
#[derive(Debug, Clone)]
pub struct Error(Box<ErrorBody>);

#[derive(Debug, Clone)]
struct ErrorBody {
    reason: Reason,
    message: String,
    metadata: BTreeMap<&'static str, String>,
    position: Option<Position>,
    statement_index: Option<usize>,
    detail: Option<String>,
}

impl Error {
    /// An error with a message for the caller.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorBody {
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            position: None,
            statement_index: None,
            detail: None,
        }))
    }

    /// A defect: the caller sees a neutral message, the log gets `detail`.
    pub fn internal(detail: impl fmt::Display) -> Self {
        let mut error = Self::new(
            Reason::Internal,
            "Internal error; the server's log has the details. Please report it if it happens again.",
        );
        error.0.detail = Some(detail.to_string());
        error
    }

    /// The expression for a column with secrets fails. What its error says may repeat the secret.
    pub(crate) fn of_secret(column: &str) -> Self {
        let message = format!(
            "The value for column \"{column}\" cannot be evaluated. Why is not shown, as it could repeat a secret: give a \
             text or a parameter."
        );
        Self::new(Reason::InvalidValue, message).with("column", column)
    }

    /// The same error with a name concerned, such as `("table", "chat.messages")`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(name, value.into());
        self
    }

    /// The same error with the place in the statement that it concerns.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.0.position.get_or_insert(position);
        self
    }

    /// The same error with a sentence more.
    #[must_use]
    pub(crate) fn saying(mut self, sentence: &str) -> Self {
        self.0.message.push(' ');
        self.0.message.push_str(sentence);
        self
    }

    /// The same error with details for the operator's log.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.0.detail = Some(detail.to_string());
        self
    }

    /// The same error, said of the statement with this index (from 0) of its batch.
    #[must_use]
    pub fn in_statement(mut self, index: usize) -> Self {
        self.0.statement_index.get_or_insert(index);
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.reason.kind()
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The text for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Names concerned.
    pub fn metadata(&self) -> &BTreeMap<&'static str, String> {
        &self.0.metadata
    }

    /// The place in the statement, if known.
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// The index of the failing statement in its batch, if it was one of a batch.
    pub fn statement_index(&self) -> Option<usize> {
        self.0.statement_index
    }

    /// Details for the operator; never shown to the caller.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.as_str(), self.0.message)?;
        if let Some(detail) = &self.0.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
