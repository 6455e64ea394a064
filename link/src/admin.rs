//! Administration: namespaces, tables, storages, users, jobs, settings and the server itself.

mod backups;
mod export;
mod jobs;
mod live;
mod segments;
mod storages;
mod users;

use std::{collections::BTreeMap, future::Future};

use kalamdb_proto::v1::{self, admin_service_client::AdminServiceClient};
use tonic::{Request, Response, Status, transport::Channel};

pub(crate) use self::jobs::{failed_partition, job_status};
pub use self::{
    backups::{Backup, BackupEvent, BackupFinished, BackupMode, BackupProgress, BackupStatus, BackupStream, Restore},
    export::{Export, ExportEvent, ExportFormat, ExportStream, Exported},
    jobs::{FailedPartition, Job, JobFilter, JobProgress, JobStatus, JobTrigger, JobType},
    live::LiveQueryInfo,
    segments::{PartitionStats, Segment, TierStats},
    storages::{NewStorage, Storage, StorageChanges, StorageType},
    users::{ApiKey, NewApiKey, NewUser, Role, User, UserChanges},
};
use crate::{
    client::Client,
    column::Column,
    convert,
    error::{Error, Result},
    retry::Safety,
};

/// Entries asked for with each page of a list: the most the server gives.
const PAGE_SIZE: u32 = 1_000;

/// Typed calls of `kalamdb.v1.AdminService`, made by [`Client::admin`]. Lists are complete and ordered by name.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// Number of its tables.
    pub table_count: u32,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// Whose rows a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TableType {
    /// One isolated partition for each user.
    User,
    /// One partition for all.
    Shared,
    /// Per-user rows that expire.
    Stream,
    /// A type that this version of the client does not know.
    Unknown,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose rows it holds.
    pub table_type: TableType,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// The current schema version, from 1.
    pub schema_version: u32,
    /// Columns of the current schema version, in creation order.
    pub columns: Vec<TableColumn>,
    /// Further properties as DESCRIBE shows them.
    pub properties: BTreeMap<String, String>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Name, type and nullability.
    pub column: Column,
    /// The DEFAULT clause in SQL, if there is one.
    pub default_expression: Option<String>,
    /// Whether it is the primary key.
    pub primary_key: bool,
}

/// One version of a table's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// Number of the version, from 1.
    pub version: u32,
    /// When it was made, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// What made it, such as `ADD COLUMN note`.
    pub change: String,
    /// Its columns in creation order.
    pub columns: Vec<TableColumn>,
}

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted key, such as `limits.max_result_rows`.
    pub name: String,
    /// Its value; secrets are redacted.
    pub value: String,
    /// `default`, `file`, `environment` or `flag`.
    pub source: String,
    /// What it does.
    pub description: String,
}

/// The server, and the caller as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Version, such as `0.1.0`.
    pub version: String,
    /// Git branch it was built from.
    pub git_branch: String,
    /// Git commit it was built from.
    pub git_commit: String,
    /// When it was started, in microseconds since 1970-01-01T00:00:00Z.
    pub started_at_us: i64,
    /// `sync` or `async`.
    pub durability: String,
    /// The last commit sequence assigned.
    pub commit_seq: u64,
    /// The user that the call acts as.
    pub user_id: String,
    /// The role of the caller.
    pub role: String,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Admin { client }
    }

    /// Every namespace.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn list_namespaces(&self) -> Result<Vec<Namespace>> {
        self.pages(async |page_token| {
            let request = v1::ListNamespacesRequest { page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_namespaces(request).await });
            let page = page.await?;
            Ok((page.namespaces.into_iter().map(namespace).collect(), page.next_page_token))
        })
        .await
    }

    /// Creates a namespace. Answers whether it was created: false when it existed and `if_not_exists` is set.
    ///
    /// # Errors
    /// Those of the server, such as `NAMESPACE_EXISTS`.
    pub async fn create_namespace(
        &self,
        name: impl Into<String>,
        if_not_exists: bool,
        options: BTreeMap<String, String>,
    ) -> Result<bool> {
        let options = options.into_iter().collect();
        let request = v1::CreateNamespaceRequest { name: name.into(), if_not_exists, options };
        let answer = self.write(request, |mut client, request| async move { client.create_namespace(request).await });
        Ok(answer.await?.created)
    }

    /// Replaces the values of the options named; the others stay.
    ///
    /// # Errors
    /// Those of the server, such as `NAMESPACE_NOT_FOUND`.
    pub async fn alter_namespace(
        &self,
        name: impl Into<String>,
        options: BTreeMap<String, String>,
    ) -> Result<Namespace> {
        let request = v1::AlterNamespaceRequest { name: name.into(), options: options.into_iter().collect() };
        let answer = self.write(request, |mut client, request| async move { client.alter_namespace(request).await });
        present(answer.await?.namespace, "namespace").map(namespace)
    }

    /// Drops an empty namespace. Answers whether it was dropped: false when it did not exist and `if_exists` is set.
    ///
    /// # Errors
    /// Those of the server, such as `NAMESPACE_NOT_EMPTY`.
    pub async fn drop_namespace(&self, name: impl Into<String>, if_exists: bool) -> Result<bool> {
        let request = v1::DropNamespaceRequest { name: name.into(), if_exists };
        let answer = self.write(request, |mut client, request| async move { client.drop_namespace(request).await });
        Ok(answer.await?.dropped)
    }

    /// The tables of one namespace, or of all.
    ///
    /// # Errors
    /// Those of the server, such as `NAMESPACE_NOT_FOUND`.
    pub async fn list_tables(&self, namespace: Option<&str>) -> Result<Vec<Table>> {
        let namespace = namespace.unwrap_or_default();
        self.pages(async |page_token| {
            let request = v1::ListTablesRequest { namespace: namespace.to_owned(), page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_tables(request).await });
            let page = page.await?;
            let tables = page.tables.into_iter().map(table).collect::<Result<_>>()?;
            Ok((tables, page.next_page_token))
        })
        .await
    }

    /// One table.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn get_table(&self, namespace: impl Into<String>, name: impl Into<String>) -> Result<Table> {
        let request = v1::GetTableRequest { namespace: namespace.into(), name: name.into() };
        let answer = self.read(request, |mut client, request| async move { client.get_table(request).await });
        present(answer.await?.table, "table").and_then(table)
    }

    /// Drops a table with its rows. Answers whether it was dropped: false when it did not exist and `if_exists` is
    /// set.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn drop_table(
        &self,
        namespace: impl Into<String>,
        name: impl Into<String>,
        if_exists: bool,
    ) -> Result<bool> {
        let request = v1::DropTableRequest { namespace: namespace.into(), name: name.into(), if_exists };
        let answer = self.write(request, |mut client, request| async move { client.drop_table(request).await });
        Ok(answer.await?.dropped)
    }

    /// Every schema version of a table, oldest first.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn list_schema_versions(&self, namespace: &str, name: &str) -> Result<Vec<SchemaVersion>> {
        self.pages(async |page_token| {
            let request = v1::ListSchemaVersionsRequest {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                page_size: PAGE_SIZE,
                page_token,
            };
            let page =
                self.read(request, |mut client, request| async move { client.list_schema_versions(request).await });
            let page = page.await?;
            let versions = page.versions.into_iter().map(schema_version).collect::<Result<_>>()?;
            Ok((versions, page.next_page_token))
        })
        .await
    }

    /// The settings in effect.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn list_settings(&self) -> Result<Vec<Setting>> {
        self.pages(async |page_token| {
            let request = v1::ListSettingsRequest { page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_settings(request).await });
            let page = page.await?;
            Ok((page.settings.into_iter().map(setting).collect(), page.next_page_token))
        })
        .await
    }

    /// The server, and the caller as it sees it.
    ///
    /// # Errors
    /// Those of the server, such as `UNAUTHENTICATED`.
    pub async fn server_info(&self) -> Result<ServerInfo> {
        let request = v1::GetServerInfoRequest {};
        let answer = self.read(request, |mut client, request| async move { client.get_server_info(request).await });
        let info = answer.await?;
        Ok(ServerInfo {
            version: info.version,
            git_branch: info.git_branch,
            git_commit: info.git_commit,
            started_at_us: convert::micros(info.started_at.map(|time| (time.seconds, time.nanos))),
            durability: info.durability,
            commit_seq: info.commit_seq,
            user_id: info.user_id,
            role: info.role,
        })
    }

    async fn read<Q: Clone + prost::Message, R, F>(
        &self,
        request: Q,
        call: impl Fn(AdminServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(Safety::Repeatable, request, call).await
    }

    async fn write<Q: Clone + prost::Message, R, F>(
        &self,
        request: Q,
        call: impl Fn(AdminServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(Safety::Once, request, call).await
    }

    async fn call<Q: Clone + prost::Message, R, F>(
        &self,
        safety: Safety,
        request: Q,
        call: impl Fn(AdminServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.client
            .call(safety, self.client.default_timeout(), request, |channel, limits, request| {
                call(limits.apply(AdminServiceClient::new(channel)), request)
            })
            .await
    }

    /// Reads a list to its end.
    async fn pages<T>(&self, page: impl AsyncFn(String) -> Result<(Vec<T>, String)>) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let (mut entries, next) = page(token.clone()).await?;
            all.append(&mut entries);
            if next.is_empty() {
                return Ok(all);
            }
            if next == token {
                return Err(Error::protocol("a list answers the same page again"));
            }
            token = next;
        }
    }
}

fn present<T>(part: Option<T>, what: &str) -> Result<T> {
    part.ok_or_else(|| Error::protocol(format!("the answer has no {what}")))
}

fn namespace(namespace: v1::Namespace) -> Namespace {
    Namespace {
        name: namespace.name,
        created_at_us: convert::micros(namespace.created_at.map(|time| (time.seconds, time.nanos))),
        table_count: namespace.table_count,
        options: namespace.options.into_iter().collect(),
    }
}

fn table(table: v1::Table) -> Result<Table> {
    let table_type = match table.r#type() {
        v1::TableType::User => TableType::User,
        v1::TableType::Shared => TableType::Shared,
        v1::TableType::Stream => TableType::Stream,
        v1::TableType::Unspecified => TableType::Unknown,
    };
    Ok(Table {
        table_type,
        created_at_us: convert::micros(table.created_at.map(|time| (time.seconds, time.nanos))),
        namespace: table.namespace,
        name: table.name,
        schema_version: table.schema_version,
        columns: table.columns.into_iter().map(table_column).collect::<Result<_>>()?,
        properties: table.properties.into_iter().collect(),
    })
}

fn table_column(column: v1::TableColumn) -> Result<TableColumn> {
    Ok(TableColumn {
        column: present(column.column, "column").map(convert::column)?,
        default_expression: (!column.default_expression.is_empty()).then_some(column.default_expression),
        primary_key: column.primary_key,
    })
}

fn schema_version(version: v1::SchemaVersion) -> Result<SchemaVersion> {
    Ok(SchemaVersion {
        version: version.version,
        created_at_us: convert::micros(version.created_at.map(|time| (time.seconds, time.nanos))),
        change: version.change,
        columns: version.columns.into_iter().map(table_column).collect::<Result<_>>()?,
    })
}

fn setting(setting: v1::Setting) -> Setting {
    let v1::Setting { name, value, source, description } = setting;
    Setting { name, value, source, description }
}
