//! Sessions: a caller's statements, run in order.

use std::{sync::Arc, time::Duration};

use datafusion::arrow::datatypes::SchemaRef;
use kalamdb_store::ids::CommitSeq;
use tokio::time::Instant;

use crate::{
    access::{self, Caller, StatementKind, Visible},
    audit::{Act, audited},
    catalog::{CatalogState, NamespaceInfo, SchemaVersionInfo, Table, TableInfo},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{self, Invocation, Parameter, ParsedBatch, StatementDescription, StatementOutput},
    settings::SettingInfo,
    sql::{Name, ParseLimits, parse},
    system,
    types::SqlType,
};

/// A batch of statements to run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// One or more statements, separated by `;`.
    pub sql: String,
    /// Values of `$1`, `$2`, …, shared by all statements; as many as the highest one used.
    pub parameters: Vec<Parameter>,
    /// Namespace of unqualified table names.
    pub namespace: Option<String>,
    /// The longest time the batch may take; `None`, and more than `statement_timeout_ms`: that.
    pub timeout: Option<Duration>,
    /// The least commit sequence the statements must see; 0: none beyond every write acknowledged before.
    pub min_commit_seq: u64,
}

impl Request {
    /// Statements without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }
}

/// A caller's access to an engine.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
    caller: Caller,
}

/// A table of the system.
#[derive(Debug, Clone)]
pub struct SystemTableInfo {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: SchemaRef,
}

/// Statements under way. Dropping it stops them; what was committed stays.
#[derive(Debug)]
pub struct Execution {
    shared: Arc<Shared>,
    state: State,
}

#[derive(Debug)]
enum State {
    New { caller: Caller, request: Box<Request> },
    Running { batch: Arc<ParsedBatch>, invocation: Box<Invocation>, next: usize },
    Done,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, caller: Caller) -> Self {
        Self { shared, caller }
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Prepares to run statements; nothing happens before the first [`Execution::next`].
    pub fn execute(&self, request: Request) -> Execution {
        Execution {
            shared: Arc::clone(&self.shared),
            state: State::New { caller: self.caller.clone(), request: Box::new(request) },
        }
    }

    /// What one statement would answer. It is planned, and not run; the caller's rights are checked as if it were.
    /// `parameter_types`: the types of its parameters, if they are known.
    ///
    /// # Errors
    /// As of [`Execution::next`]; INVALID_STATEMENT for several statements, and for none.
    pub async fn describe(
        &self,
        sql: &str,
        namespace: Option<&str>,
        parameter_types: Option<&[SqlType]>,
    ) -> Result<StatementDescription> {
        let shared = &self.shared;
        let batch = parse_batch(shared, sql)?;
        let [statement] = batch.statements.as_slice() else {
            let message = format!("One statement is expected; the text has {}.", batch.statements.len());
            return Err(Error::new(Reason::InvalidStatement, message));
        };
        let invocation = Invocation {
            caller: self.caller.clone(),
            namespace: namespace.filter(|n| !n.is_empty()).map(Arc::from),
            parameters: Arc::from([]),
            deadline: deadline(None, shared.settings.statement_timeout_ms),
        };
        exec::describe(shared, &invocation, statement, batch.parameter_count, parameter_types).await
    }

    /// Namespaces, by name.
    ///
    /// # Errors
    /// None today; the catalog may come to be remote.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        let state = self.shared.catalog.state();
        let viewer = self.shared.viewer(self.caller.clone());
        let visible = |table: &Table| access::may_see_table(&viewer, table);
        Ok(state
            .namespaces
            .values()
            .map(|n| NamespaceInfo::new(n, state.tables_of(n.name.as_str()).filter(|t| visible(t)).count()))
            .collect())
    }

    /// Creates a namespace; durable when it returns. False: it existed and `if_not_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, INVALID_NAME, NAMESPACE_EXISTS.
    pub async fn create_namespace(
        &self,
        name: &str,
        if_not_exists: bool,
        options: Vec<(String, String)>,
    ) -> Result<bool> {
        let plain = plain(name);
        let creating = exec::create_namespace(&self.shared, &self.caller, &plain, if_not_exists, &options);
        audited(&self.shared, &self.caller, Act::new(StatementKind::CreateNamespace, name), creating).await
    }

    /// Sets options of a namespace; durable when it returns.
    ///
    /// # Errors
    /// PERMISSION_DENIED, NAMESPACE_NOT_FOUND.
    pub async fn alter_namespace(&self, name: &str, options: Vec<(String, String)>) -> Result<()> {
        let plain = plain(name);
        let altering = exec::alter_namespace(&self.shared, &self.caller, &plain, &options);
        audited(&self.shared, &self.caller, Act::new(StatementKind::AlterNamespace, name), altering).await
    }

    /// Drops an empty namespace; durable when it returns. False: it did not exist and `if_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, NAMESPACE_NOT_FOUND, NAMESPACE_NOT_EMPTY.
    pub async fn drop_namespace(&self, name: &str, if_exists: bool) -> Result<bool> {
        let plain = plain(name);
        let dropping = exec::drop_namespace(&self.shared, &self.caller, &plain, if_exists);
        audited(&self.shared, &self.caller, Act::new(StatementKind::DropNamespace, name), dropping).await
    }

    /// Tables that concern the caller, of one namespace or of all, by namespace and name.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND.
    pub fn tables(&self, namespace: Option<&str>) -> Result<Vec<TableInfo>> {
        let state = self.shared.catalog.state();
        if let Some(namespace) = namespace {
            state.namespace(namespace)?;
        }
        let viewer = self.shared.viewer(self.caller.clone());
        Ok(state
            .all_tables()
            .filter(|t| namespace.is_none_or(|n| t.namespace().as_str() == n))
            .filter(|t| access::may_see_table(&viewer, t))
            .map(|t| TableInfo::new(t, &self.shared.storages))
            .collect())
    }

    /// The tables of the system that the caller may read, namespace by namespace.
    pub fn system_tables(&self) -> Vec<SystemTableInfo> {
        let may_read = |table: &&system::TableDefinition| {
            access::may_read_system_table(&self.caller, table.namespace, table.name).is_ok()
        };
        let mut tables: Vec<SystemTableInfo> = system::TABLES
            .iter()
            .filter(may_read)
            .map(|table| SystemTableInfo { namespace: table.namespace, name: table.name, columns: table.schema() })
            .collect();
        tables.sort_by_key(|table| (table.namespace, table.name));
        tables
    }

    /// One table.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND, PERMISSION_DENIED.
    pub fn table(&self, namespace: &str, name: &str) -> Result<TableInfo> {
        self.visible_table(namespace, name).map(|t| TableInfo::new(&t, &self.shared.storages))
    }

    /// Drops a table with its rows; durable when it returns. False: it did not exist and `if_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND.
    pub async fn drop_table(&self, namespace: &str, name: &str, if_exists: bool) -> Result<bool> {
        let act = Act::new(StatementKind::DropTable, format!("{namespace}.{name}"));
        let plain = plain(name);
        let dropping = exec::drop_table(&self.shared, &self.caller, namespace, &plain, if_exists);
        audited(&self.shared, &self.caller, act, dropping).await
    }

    /// Every schema version of a table, oldest first.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND, PERMISSION_DENIED.
    pub fn schema_versions(&self, namespace: &str, name: &str) -> Result<Vec<SchemaVersionInfo>> {
        self.visible_table(namespace, name).map(|t| CatalogState::schema_versions(&t))
    }

    /// The settings in effect.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba.
    pub fn settings(&self) -> Result<Vec<SettingInfo>> {
        access::sees_all_of(&self.caller, "settings", "Reading the settings")?;
        Ok(self.shared.settings_table.to_vec())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn visible_table(&self, namespace: &str, name: &str) -> Result<Arc<Table>> {
        self.seen_table(namespace, name).map(|(table, _)| table)
    }

    /// A table, and what of it the caller sees.
    pub(crate) fn seen_table(&self, namespace: &str, name: &str) -> Result<(Arc<Table>, Visible)> {
        let state = self.shared.catalog.state();
        let viewer = self.shared.viewer(self.caller.clone());
        let visible = |table: &Table| access::may_see_table(&viewer, table);
        let table = state.table(namespace, name, visible)?;
        let visible = access::may_use_table(&viewer, table, crate::sql::TableScope::Caller)?;
        Ok((Arc::clone(table), visible))
    }
}

impl Execution {
    /// Runs the next statement and answers its result; `None` when there is none left, and after an error. The rows
    /// of a statement are to be read, or dropped, before the next is run.
    ///
    /// # Errors
    /// What is wrong with the batch or with the statement, whose index the error then has. Statements before it stay
    /// done.
    pub async fn next(&mut self) -> Option<Result<StatementOutput>> {
        match self.step().await {
            Ok(Some(output)) => Some(Ok(output)),
            Ok(None) => {
                self.state = State::Done;
                None
            }
            Err(error) => {
                self.state = State::Done;
                Some(Err(error))
            }
        }
    }

    async fn step(&mut self) -> Result<Option<StatementOutput>> {
        if let State::New { .. } = self.state
            && let State::New { caller, request } = std::mem::replace(&mut self.state, State::Done)
        {
            self.state = start(&self.shared, caller, *request).await?;
        }
        let State::Running { batch, invocation, next } = &mut self.state else { return Ok(None) };
        let index = *next;
        let Some(statement) = batch.statements.get(index) else { return Ok(None) };
        *next += 1;
        if invocation.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(exec::timed_out().in_statement(index));
        }
        let (body, commit_seq) =
            exec::run(&self.shared, invocation, statement).await.map_err(|e| e.in_statement(index))?;
        Ok(Some(StatementOutput { index, body, commit_seq }))
    }
}

async fn start(shared: &Arc<Shared>, caller: Caller, request: Request) -> Result<State> {
    let settings = &shared.settings;
    let deadline = deadline(request.timeout, settings.statement_timeout_ms);
    let batch = parsed(shared, &request.sql, request.parameters.len())?;
    if request.min_commit_seq > shared.committer.last_commit_seq().get() {
        Box::pin(wait_for(shared, CommitSeq::new(request.min_commit_seq), deadline)).await?;
    }
    let invocation = Invocation {
        caller,
        namespace: request.namespace.filter(|n| !n.is_empty()).map(Arc::from),
        parameters: request.parameters.into(),
        deadline,
    };
    Ok(State::Running { batch, invocation: Box::new(invocation), next: 0 })
}

/// The statements of a text that was sent with so many parameters.
pub(crate) fn parsed(shared: &Shared, sql: &str, parameters: usize) -> Result<Arc<ParsedBatch>> {
    let settings = &shared.settings;
    if parameters > settings.max_parameters {
        let message = format!("{parameters} parameters were given; the most is {}.", settings.max_parameters);
        return Err(Error::new(Reason::InvalidRequest, message).with("limit", "limits.max_parameters"));
    }
    let batch = parse_batch(shared, sql)?;
    exec::check_count(batch.parameter_count, parameters)?;
    Ok(batch)
}

fn parse_batch(shared: &Shared, sql: &str) -> Result<Arc<ParsedBatch>> {
    let settings = &shared.settings;
    let limits = ParseLimits {
        max_statement_bytes: settings.max_statement_bytes,
        max_nesting_depth: settings.max_nesting_depth,
        max_statements: settings.max_statements_per_batch,
    };
    shared.caches.parsed(sql, |sql| parse(sql, &limits))
}

/// Waits until a commit sequence is visible.
async fn wait_for(shared: &Shared, seq: CommitSeq, deadline: Option<Instant>) -> Result<()> {
    let waiting = shared.committer.wait_for(seq);
    let waited = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, waiting).await.map_err(|_| {
            let last = shared.committer.last_commit_seq();
            let message = format!("Commit sequence {seq} was not reached in time; the last one is {last}.");
            Error::new(Reason::StatementTimeout, message)
        })?,
        None => waiting.await,
    };
    waited.map_err(exec::from_commit)
}

/// The earlier of what the request and the settings allow.
pub(crate) fn deadline(asked: Option<Duration>, most_ms: u64) -> Option<Instant> {
    let most = (most_ms > 0).then(|| Duration::from_millis(most_ms));
    let allowed = match (asked, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }?;
    Instant::now().checked_add(allowed)
}

fn plain(name: &str) -> Name {
    Name { text: name.to_owned(), position: None }
}
