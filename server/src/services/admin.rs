//! `AdminService`.

use std::{collections::HashMap, future::Future, sync::Arc};

use futures::Stream;
use kalamdb_engine::{
    ColumnInfo, Durability, Engine, Error, JobRecord, LiveQueryInfo, NamespaceInfo, PartitionStats, Reason,
    SchemaVersionInfo, SegmentInfo, Session, SettingInfo, StorageInfo, TableInfo, TableKind, UserId,
};
use kalamdb_proto::v1::{
    AlterNamespaceRequest, AlterNamespaceResponse, AlterStorageRequest, AlterStorageResponse, AlterUserRequest,
    AlterUserResponse, BackupDatabaseRequest, BackupDatabaseResponse, CompactTableRequest, CompactTableResponse,
    CreateApiKeyRequest, CreateApiKeyResponse, CreateNamespaceRequest, CreateNamespaceResponse, CreateStorageRequest,
    CreateStorageResponse, CreateUserRequest, CreateUserResponse, DescribeBackupRequest, DescribeBackupResponse,
    DropNamespaceRequest, DropNamespaceResponse, DropStorageRequest, DropStorageResponse, DropTableRequest,
    DropTableResponse, DropUserRequest, DropUserResponse, ExportRequest, GetJobRequest, GetJobResponse,
    GetServerInfoRequest, GetServerInfoResponse, GetTableRequest, GetTableResponse, GetTableStatsRequest,
    GetTableStatsResponse, GetUserRequest, GetUserResponse, KillLiveQueryRequest, KillLiveQueryResponse,
    ListApiKeysRequest, ListApiKeysResponse, ListJobsRequest, ListJobsResponse, ListLiveQueriesRequest,
    ListLiveQueriesResponse, ListNamespacesRequest, ListNamespacesResponse, ListSchemaVersionsRequest,
    ListSchemaVersionsResponse, ListSegmentsRequest, ListSegmentsResponse, ListSettingsRequest, ListSettingsResponse,
    ListStoragesRequest, ListStoragesResponse, ListTablesRequest, ListTablesResponse, ListUsersRequest,
    ListUsersResponse, Namespace, RestoreDatabaseRequest, RestoreDatabaseResponse, RevokeApiKeyRequest,
    RevokeApiKeyResponse, SchemaVersion, Setting, Storage, Table, TableColumn, TableType,
    admin_service_server::AdminService,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    backup,
    export::{self, Events},
    flush::{Answers, end_of_call, until},
    page::page,
    shutting_down, split, users,
};
use crate::{
    convert::{
        from_job_status, from_job_type, from_storage_type, to_column, to_job, to_live_query_id, to_live_query_info,
        to_partition_stats, to_segment, to_storage, to_tier_stats, to_timestamp,
    },
    errors,
    telemetry::build,
};

type Answer<T> = Result<Response<T>, Status>;

/// Administration.
pub(crate) struct AdminApi {
    engine: Arc<Engine>,
    started_at_us: i64,
    /// Ends calls that outlive the server's grace.
    stopping: CancellationToken,
}

impl AdminApi {
    pub(crate) fn new(engine: Arc<Engine>, started_at_us: i64, stopping: CancellationToken) -> Self {
        Self { engine, started_at_us, stopping }
    }

    /// Answers a call with what `work` makes of a session of its caller and its request.
    async fn answer<Q, A, F>(&self, request: Request<Q>, work: impl FnOnce(Session, Q) -> F) -> Answer<A>
    where
        F: Future<Output = kalamdb_engine::Result<A>>,
    {
        let (context, request) = split(request)?;
        let session = self.engine.session(context.caller.clone());
        context.within_deadline(work(session, request)).await.map(Response::new)
    }

    /// Answers a call with the stream that `begin` makes of a session of its caller and its request, for as long as the call
    /// may take.
    fn stream<Q, A, S>(
        &self,
        request: Request<Q>,
        begin: impl FnOnce(Session, Q) -> Result<S, Error>,
    ) -> Answer<Answers<A>>
    where
        A: Send + 'static,
        S: Stream<Item = Result<A, Error>> + Send + 'static,
    {
        let (context, request) = split(request)?;
        let session = self.engine.session(context.caller.clone());
        let answers = begin(session, request).map_err(|error| errors::to_status(&error, context.trace))?;
        let ends = end_of_call(context.timeout, self.stopping.clone());
        Ok(Response::new(until(answers, ends, context.trace)))
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn list_namespaces(&self, request: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        self.answer(request, async |session, request: ListNamespacesRequest| {
            let name = |info: &NamespaceInfo| info.name.clone();
            let (page, next_page_token) = page(session.namespaces()?, name, request.page_size, &request.page_token)?;
            Ok(ListNamespacesResponse { namespaces: page.into_iter().map(to_namespace).collect(), next_page_token })
        })
        .await
    }

    async fn create_namespace(&self, request: Request<CreateNamespaceRequest>) -> Answer<CreateNamespaceResponse> {
        self.answer(request, async |session, request: CreateNamespaceRequest| {
            let CreateNamespaceRequest { name, if_not_exists, options } = request;
            let created = session.create_namespace(&name, if_not_exists, sorted(options)).await?;
            Ok(CreateNamespaceResponse { namespace: find_namespace(&session, &name)?, created })
        })
        .await
    }

    async fn alter_namespace(&self, request: Request<AlterNamespaceRequest>) -> Answer<AlterNamespaceResponse> {
        self.answer(request, async |session, request: AlterNamespaceRequest| {
            session.alter_namespace(&request.name, sorted(request.options)).await?;
            Ok(AlterNamespaceResponse { namespace: find_namespace(&session, &request.name)? })
        })
        .await
    }

    async fn drop_namespace(&self, request: Request<DropNamespaceRequest>) -> Answer<DropNamespaceResponse> {
        self.answer(request, async |session, request: DropNamespaceRequest| {
            let dropped = session.drop_namespace(&request.name, request.if_exists).await?;
            Ok(DropNamespaceResponse { dropped })
        })
        .await
    }

    async fn list_tables(&self, request: Request<ListTablesRequest>) -> Answer<ListTablesResponse> {
        self.answer(request, async |session, request: ListTablesRequest| {
            let namespace = (!request.namespace.is_empty()).then_some(request.namespace.as_str());
            // A dot sorts before every character of a name, so that this order is that of (namespace, name).
            let name = |table: &TableInfo| format!("{}.{}", table.namespace, table.name);
            let (page, next_page_token) =
                page(session.tables(namespace)?, name, request.page_size, &request.page_token)?;
            Ok(ListTablesResponse { tables: page.into_iter().map(to_table).collect(), next_page_token })
        })
        .await
    }

    async fn get_table(&self, request: Request<GetTableRequest>) -> Answer<GetTableResponse> {
        self.answer(request, async |session, request: GetTableRequest| {
            Ok(GetTableResponse { table: Some(to_table(session.table(&request.namespace, &request.name)?)) })
        })
        .await
    }

    async fn drop_table(&self, request: Request<DropTableRequest>) -> Answer<DropTableResponse> {
        self.answer(request, async |session, request: DropTableRequest| {
            let dropped = session.drop_table(&request.namespace, &request.name, request.if_exists).await?;
            Ok(DropTableResponse { dropped })
        })
        .await
    }

    async fn list_schema_versions(
        &self,
        request: Request<ListSchemaVersionsRequest>,
    ) -> Answer<ListSchemaVersionsResponse> {
        self.answer(request, async |session, request: ListSchemaVersionsRequest| {
            let versions = session.schema_versions(&request.namespace, &request.name)?;
            let number = |info: &SchemaVersionInfo| format!("{:010}", info.version);
            let (page, next_page_token) = page(versions, number, request.page_size, &request.page_token)?;
            let versions = page.into_iter().map(to_schema_version).collect();
            Ok(ListSchemaVersionsResponse { versions, next_page_token })
        })
        .await
    }

    async fn get_table_stats(&self, request: Request<GetTableStatsRequest>) -> Answer<GetTableStatsResponse> {
        self.answer(request, async |session, request: GetTableStatsRequest| {
            let stats = session.table_stats(&request.namespace, &request.table).await?;
            let user = |partition: &PartitionStats| partition.user_id.as_str().to_owned();
            let (page, next_page_token) = page(stats.partitions, user, request.page_size, &request.page_token)?;
            Ok(GetTableStatsResponse {
                stats: Some(to_tier_stats(&stats.total)),
                partitions: page.into_iter().map(to_partition_stats).collect(),
                next_page_token,
            })
        })
        .await
    }

    async fn list_segments(&self, request: Request<ListSegmentsRequest>) -> Answer<ListSegmentsResponse> {
        self.answer(request, async |session, request: ListSegmentsRequest| {
            let ListSegmentsRequest { namespace, table, user_id, page_size, page_token } = request;
            let user = user_id.as_deref().map(UserId::new).transpose();
            let user = user.map_err(|error| Error::new(Reason::InvalidUserId, format!("user_id: {error}.")))?;
            let segments = session.segments(&namespace, &table, user).await?;
            let (page, next_page_token) = page(segments, place_of_segment, page_size, &page_token)?;
            let segments = page.into_iter().map(|segment| to_segment(segment, &namespace, &table)).collect();
            Ok(ListSegmentsResponse { segments, next_page_token })
        })
        .await
    }

    async fn compact_table(&self, request: Request<CompactTableRequest>) -> Answer<CompactTableResponse> {
        self.answer(request, async |session, request: CompactTableRequest| {
            let job = session.compact_table(&request.namespace, &request.table)?;
            if !request.wait.unwrap_or(true) {
                return Ok(CompactTableResponse { job: Some(to_job(session.job(&job.id().to_string())?)) });
            }
            tokio::select! {
                record = job.ended() => Ok(CompactTableResponse { job: Some(to_job(record)) }),
                () = self.stopping.cancelled() => Err(shutting_down()),
            }
        })
        .await
    }

    type ExportStream = Events;

    async fn export(&self, request: Request<ExportRequest>) -> Answer<Self::ExportStream> {
        let (context, request) = split(request)?;
        let session = self.engine.session(context.caller.clone());
        export::export(session, &context, request, self.stopping.clone()).await
    }

    async fn list_storages(&self, request: Request<ListStoragesRequest>) -> Answer<ListStoragesResponse> {
        self.answer(request, async |session, request: ListStoragesRequest| {
            let name = |info: &StorageInfo| info.name.clone();
            let (page, next_page_token) = page(session.storages()?, name, request.page_size, &request.page_token)?;
            Ok(ListStoragesResponse { storages: page.into_iter().map(to_storage).collect(), next_page_token })
        })
        .await
    }

    async fn create_storage(&self, request: Request<CreateStorageRequest>) -> Answer<CreateStorageResponse> {
        self.answer(request, async |session, request: CreateStorageRequest| {
            let kind = from_storage_type(request.r#type)?;
            let CreateStorageRequest { name, uri, credentials, if_not_exists, .. } = request;
            let credentials = (!credentials.is_empty()).then_some(credentials);
            let created = session.create_storage(&name, kind, &uri, credentials, if_not_exists).await?;
            Ok(CreateStorageResponse { storage: find_storage(&session, &name)?, created })
        })
        .await
    }

    async fn alter_storage(&self, request: Request<AlterStorageRequest>) -> Answer<AlterStorageResponse> {
        self.answer(request, async |session, request: AlterStorageRequest| {
            let AlterStorageRequest { name, uri, credentials } = request;
            session.alter_storage(&name, uri, credentials).await?;
            Ok(AlterStorageResponse { storage: find_storage(&session, &name)? })
        })
        .await
    }

    async fn drop_storage(&self, request: Request<DropStorageRequest>) -> Answer<DropStorageResponse> {
        self.answer(request, async |session, request: DropStorageRequest| {
            let dropped = session.drop_storage(&request.name, request.if_exists).await?;
            Ok(DropStorageResponse { dropped })
        })
        .await
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersResponse> {
        self.answer(request, users::list_users).await
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<GetUserResponse> {
        self.answer(request, users::get_user).await
    }

    async fn create_user(&self, request: Request<CreateUserRequest>) -> Answer<CreateUserResponse> {
        self.answer(request, users::create_user).await
    }

    async fn alter_user(&self, request: Request<AlterUserRequest>) -> Answer<AlterUserResponse> {
        self.answer(request, users::alter_user).await
    }

    async fn drop_user(&self, request: Request<DropUserRequest>) -> Answer<DropUserResponse> {
        self.answer(request, users::drop_user).await
    }

    async fn create_api_key(&self, request: Request<CreateApiKeyRequest>) -> Answer<CreateApiKeyResponse> {
        self.answer(request, users::create_api_key).await
    }

    async fn list_api_keys(&self, request: Request<ListApiKeysRequest>) -> Answer<ListApiKeysResponse> {
        self.answer(request, users::list_api_keys).await
    }

    async fn revoke_api_key(&self, request: Request<RevokeApiKeyRequest>) -> Answer<RevokeApiKeyResponse> {
        self.answer(request, users::revoke_api_key).await
    }

    type BackupDatabaseStream = Answers<BackupDatabaseResponse>;

    async fn backup_database(&self, request: Request<BackupDatabaseRequest>) -> Answer<Self::BackupDatabaseStream> {
        self.stream(request, |session, request| backup::back_up(&session, request))
    }

    type RestoreDatabaseStream = Answers<RestoreDatabaseResponse>;

    async fn restore_database(&self, request: Request<RestoreDatabaseRequest>) -> Answer<Self::RestoreDatabaseStream> {
        self.stream(request, |session, request| backup::restore(&session, request))
    }

    async fn describe_backup(&self, request: Request<DescribeBackupRequest>) -> Answer<DescribeBackupResponse> {
        self.answer(request, backup::describe).await
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        self.answer(request, async |session, request: ListJobsRequest| {
            let mut jobs = session.jobs()?;
            retain_asked_for(&mut jobs, &request)?;
            // Later jobs have greater ids: the newest comes first in the order of what is left to the greatest one.
            let place = |job: &JobRecord| format!("{:020}", i64::MAX.abs_diff(job.id.get()));
            let (page, next_page_token) = page(jobs, place, request.page_size, &request.page_token)?;
            Ok(ListJobsResponse { jobs: page.into_iter().map(to_job).collect(), next_page_token })
        })
        .await
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<GetJobResponse> {
        self.answer(request, async |session, request: GetJobRequest| {
            Ok(GetJobResponse { job: Some(to_job(session.job(&request.job_id)?)) })
        })
        .await
    }

    async fn list_live_queries(&self, request: Request<ListLiveQueriesRequest>) -> Answer<ListLiveQueriesResponse> {
        self.answer(request, async |session, request: ListLiveQueriesRequest| {
            let id = |info: &LiveQueryInfo| format!("{:020}", info.id.0);
            let (page, next_page_token) = page(session.live_queries()?, id, request.page_size, &request.page_token)?;
            let live_queries = page.into_iter().map(to_live_query_info).collect();
            Ok(ListLiveQueriesResponse { live_queries, next_page_token })
        })
        .await
    }

    async fn kill_live_query(&self, request: Request<KillLiveQueryRequest>) -> Answer<KillLiveQueryResponse> {
        self.answer(request, async |session, request: KillLiveQueryRequest| {
            session.kill_live_query(to_live_query_id(&request.live_id)?)?;
            Ok(KillLiveQueryResponse {})
        })
        .await
    }

    async fn list_settings(&self, request: Request<ListSettingsRequest>) -> Answer<ListSettingsResponse> {
        self.answer(request, async |session, request: ListSettingsRequest| {
            let mut settings = session.settings()?;
            settings.sort_by(|a, b| a.name.cmp(&b.name));
            let name = |setting: &SettingInfo| setting.name.clone();
            let (page, next_page_token) = page(settings, name, request.page_size, &request.page_token)?;
            Ok(ListSettingsResponse { settings: page.into_iter().map(to_setting).collect(), next_page_token })
        })
        .await
    }

    async fn get_server_info(&self, request: Request<GetServerInfoRequest>) -> Answer<GetServerInfoResponse> {
        let (context, _) = split(request)?;
        Ok(Response::new(GetServerInfoResponse {
            version: build::VERSION.to_owned(),
            git_branch: build::GIT_BRANCH.to_owned(),
            git_commit: build::GIT_COMMIT.to_owned(),
            started_at: Some(to_timestamp(self.started_at_us)),
            durability: match self.engine.durability() {
                Durability::Sync => "sync".to_owned(),
                Durability::Async => "async".to_owned(),
            },
            commit_seq: self.engine.last_commit_seq().get(),
            user_id: context.caller.effective_user().as_str().to_owned(),
            role: context.caller.role.to_string(),
        }))
    }
}

/// Options in an order that does not change from call to call.
fn sorted(options: HashMap<String, String>) -> Vec<(String, String)> {
    let mut options: Vec<_> = options.into_iter().collect();
    options.sort();
    options
}

/// The namespace as it is now.
fn find_namespace(session: &Session, name: &str) -> Result<Option<Namespace>, Error> {
    let found = session.namespaces()?.into_iter().find(|info| info.name == name);
    // Absent only when somebody dropped it in this moment.
    found.map(|info| Some(to_namespace(info))).ok_or_else(|| {
        Error::new(Reason::NamespaceNotFound, format!("Namespace '{name}' does not exist any more."))
            .with("namespace", name)
    })
}

/// The storage as it is now.
fn find_storage(session: &Session, name: &str) -> Result<Option<Storage>, Error> {
    let found = session.storages()?.into_iter().find(|info| info.name == name);
    // Absent only when somebody dropped it in this moment.
    found.map(|info| Some(to_storage(info))).ok_or_else(|| {
        Error::new(Reason::StorageNotFound, format!("Storage '{name}' does not exist any more.")).with("storage", name)
    })
}

/// A text in the order of which segments are listed: by user, then by id.
fn place_of_segment(segment: &SegmentInfo) -> String {
    let user = segment.user_id.as_ref().map_or(&b""[..], |user| user.as_str().as_bytes());
    // Digits keep the order of the bytes, and the dot is less than every digit.
    let digits: String = user.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.{}", segment.segment_id)
}

/// Drops the jobs that a request does not ask for.
fn retain_asked_for(jobs: &mut Vec<JobRecord>, request: &ListJobsRequest) -> Result<(), Error> {
    let (job_type, status) = (from_job_type(request.r#type)?, from_job_status(request.status)?);
    if request.namespace.is_empty() && !request.table.is_empty() {
        return Err(Error::new(Reason::InvalidRequest, "table needs a namespace.").with("field", "namespace"));
    }
    jobs.retain(|job| {
        let of_table = |namespace: &str, table: &str| {
            (request.namespace.is_empty() || request.namespace == namespace)
                && (request.table.is_empty() || request.table == table)
        };
        job_type.is_none_or(|job_type| job.job_type == job_type)
            && status.is_none_or(|status| job.status == status)
            && job.table.as_ref().map_or(request.namespace.is_empty(), |t| of_table(&t.namespace, &t.name))
    });
    Ok(())
}

fn to_namespace(info: NamespaceInfo) -> Namespace {
    Namespace {
        name: info.name,
        created_at: Some(to_timestamp(info.created_at_us)),
        table_count: u32::try_from(info.table_count).unwrap_or(u32::MAX),
        options: info.options.into_iter().collect(),
    }
}

fn to_table(info: TableInfo) -> Table {
    let table_type = match info.kind {
        TableKind::User => TableType::User,
        TableKind::Shared => TableType::Shared,
        TableKind::Stream => TableType::Stream,
    };
    Table {
        namespace: info.namespace,
        name: info.name,
        r#type: table_type.into(),
        created_at: Some(to_timestamp(info.created_at_us)),
        schema_version: info.schema_version,
        columns: info.columns.into_iter().map(to_table_column).collect(),
        properties: info.properties.into_iter().collect(),
    }
}

fn to_table_column(info: ColumnInfo) -> TableColumn {
    TableColumn {
        column: Some(to_column(&info.name, &info.sql_type, info.nullable)),
        default_expression: info.default.unwrap_or_default(),
        primary_key: info.primary_key,
    }
}

fn to_schema_version(info: SchemaVersionInfo) -> SchemaVersion {
    SchemaVersion {
        version: info.version,
        created_at: Some(to_timestamp(info.created_at_us)),
        change: info.change,
        columns: info.columns.into_iter().map(to_table_column).collect(),
    }
}

fn to_setting(info: SettingInfo) -> Setting {
    Setting { name: info.name, value: info.value, source: info.source, description: info.description }
}
