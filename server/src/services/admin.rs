//! `AdminService`.

use std::{collections::HashMap, future::Future, sync::Arc};

use kalamdb_engine::{
    ColumnInfo, Durability, Engine, Error, NamespaceInfo, Reason, SchemaVersionInfo, Session, SettingInfo, TableInfo,
    TableKind,
};
use kalamdb_proto::v1::{
    AlterNamespaceRequest, AlterNamespaceResponse, CreateNamespaceRequest, CreateNamespaceResponse,
    DropNamespaceRequest, DropNamespaceResponse, DropTableRequest, DropTableResponse, GetServerInfoRequest,
    GetServerInfoResponse, GetTableRequest, GetTableResponse, ListNamespacesRequest, ListNamespacesResponse,
    ListSchemaVersionsRequest, ListSchemaVersionsResponse, ListSettingsRequest, ListSettingsResponse,
    ListTablesRequest, ListTablesResponse, Namespace, SchemaVersion, Setting, Table, TableColumn, TableType,
    admin_service_server::AdminService,
};
use tonic::{Request, Response, Status};

use super::{page::page, split};
use crate::{
    convert::{to_column, to_timestamp},
    telemetry::build,
};

type Answer<T> = Result<Response<T>, Status>;

/// Administration.
pub(crate) struct AdminApi {
    engine: Arc<Engine>,
    started_at_us: i64,
}

impl AdminApi {
    pub(crate) fn new(engine: Arc<Engine>, started_at_us: i64) -> Self {
        Self { engine, started_at_us }
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
