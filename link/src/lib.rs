//! The Rust client of KalamDB: SQL over gRPC.
//!
//! [`Client`] holds the connection and is cheap to clone. [`Client::execute`] runs one statement,
//! [`Client::execute_batch`] several, [`Client::execute_stream`] delivers results while they are computed, and
//! [`Client::query`] is the form with options: time-out, namespace, read-your-writes, Arrow rows.
//!
//! ```no_run
//! use kalam_link::{Client, params};
//!
//! # async fn example() -> Result<(), kalam_link::Error> {
//! let client = Client::builder("http://127.0.0.1:2900").user("alice").namespace("chat").connect().await?;
//!
//! client.execute("INSERT INTO messages (content) VALUES ($1)", ("hello",)).await?;
//! let result = client.execute("SELECT id, content FROM messages WHERE id > $1", params![0]).await?;
//! for row in result.rows() {
//!     println!("{} {}", row.get::<i64>("id")?, row.get::<&str>("content")?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A live query begins with rows and goes on with their changes, also over a restart of the server:
//!
//! ```no_run
//! use futures::StreamExt;
//! use kalam_link::SubscriptionEvent;
//!
//! # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
//! let mut events = client.subscribe("SUBSCRIBE TO messages").open().await?;
//! while let Some(event) = events.next().await {
//!     if let SubscriptionEvent::Changes(commit) = event? {
//!         println!("{} changes at {}", commit.changes.len(), commit.commit_seq);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | part | what it offers |
//! | --- | --- |
//! | [`Client`], [`ClientBuilder`], [`Query`] | connecting and running SQL |
//! | [`Tls`], [`AccessToken`], [`Auth`] | encryption, tokens, logging in |
//! | [`Value`], [`SqlType`], [`FromValue`], [`IntoParams`] | values, exact for every SQL type, and conversions |
//! | [`Rows`], [`Row`], [`StatementResult`], [`ResultStream`] | results |
//! | [`Error`], [`ErrorKind`] | what went wrong, with the server's stable reason and the place in the statement |
//! | [`Client::bulk_read`], [`Client::bulk_write`] | many rows as Arrow record batches, by Arrow Flight SQL |
//! | [`FlushTable`], [`FlushAll`], [`FlushStream`] | moving rows to Parquet files, with progress |
//! | [`Admin`] | namespaces, tables, users, storages, jobs, live queries, settings, the server itself |
//! | [`Subscribe`], [`Subscription`], [`SubscriptionEvent`] | live queries: rows, then their changes |
//! | [`RetryPolicy`] | what is retried, and how |
//! | [`sql`] | splitting text into tokens and statements |
//!
//! # Features
//!
//! * `arrow` (default): rows as Arrow record batches.
//! * `parquet`: `ParquetFile`, rows read in bulk to Parquet files.
//! * `process`: [`process`], a real server as a child process, for integration tests.

mod admin;
mod auth;
#[cfg(feature = "arrow")]
mod batch;
mod builder;
#[cfg(feature = "arrow")]
mod bulk;
mod client;
mod column;
mod convert;
mod credential;
pub mod datetime;
mod endpoint;
mod error;
mod flush;
mod health;
mod identity;
#[cfg(feature = "process")]
pub mod process;
mod query;
mod result;
mod retry;
mod row;
pub mod sql;
mod stream;
mod subscribe;
mod tls;
mod value;

pub use admin::{
    Admin, ApiKey, Backup, BackupEvent, BackupFinished, BackupMode, BackupProgress, BackupStatus, BackupStream, Export,
    ExportEvent, ExportFormat, ExportStream, Exported, FailedPartition, Job, JobFilter, JobProgress, JobStatus,
    JobTrigger, JobType, LiveQueryInfo, Namespace, NewApiKey, NewStorage, NewUser, PartitionStats, Restore, Role,
    SchemaVersion, Segment, ServerInfo, Setting, Storage, StorageChanges, StorageType, Table, TableColumn, TableType,
    TierStats, User, UserChanges,
};
#[cfg(feature = "arrow")]
pub use arrow::{array::RecordBatch, datatypes::SchemaRef};
pub use auth::{Auth, CredentialKind, SessionTokens, UserIdentity, WhoAmI};
#[cfg(feature = "arrow")]
pub use batch::ArrowRows;
pub use builder::ClientBuilder;
#[cfg(feature = "parquet")]
pub use bulk::ParquetFile;
#[cfg(feature = "arrow")]
pub use bulk::{BulkRows, BulkTarget};
pub use client::Client;
pub use column::{Column, Columns, SqlType};
pub use credential::AccessToken;
pub use error::{Error, ErrorKind, Result, ServerError};
pub use flush::{
    AllTablesFlushed, FlushAll, FlushEvent, FlushFinished, FlushStarted, FlushStream, FlushTable, PartitionFailed,
    PartitionFlushed,
};
pub use health::HealthStatus;
pub use query::Query;
pub use result::StatementResult;
pub use retry::RetryPolicy;
pub use row::{ColumnIndex, Row, Rows};
pub use stream::{Batch, ResultStream, RowStream, StatementEnd, StreamEvent};
pub use subscribe::{
    Change, ChangeType, CommitChanges, InitialRows, LiveCall, LiveQuery, SlowConsumer, Subscribe, Subscription,
    SubscriptionEvent,
};
pub use tls::Tls;
pub use uuid::Uuid;
pub use value::{ConversionError, FromValue, Interval, IntoParams, Value};

// The guide's examples must compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/quickstart/authentication.md")]
struct AuthenticationGuide;
