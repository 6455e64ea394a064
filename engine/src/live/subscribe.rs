//! Subscribing, listing and killing live queries: what sessions offer.

use std::sync::Arc;

use serde_json::json;

use super::{
    compile::{CompileKey, Compiled, Source, compile},
    info::{LiveQueryId, LiveQueryInfo},
    query::{Beginning, LiveQuery, changes_expired},
    query_class::{ClassKey, QueryClass},
    request::{InitialRows, LiveOptions, LiveQueryRequest, SlowConsumer},
    subscriber::{Description, Subscriber},
    token::{self, Position, TokenScope, query_fingerprint},
};
use crate::{
    access::{self, Caller, Role, StatementKind},
    audit::Act,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{Parameter, ParsedBatch},
    session::{self, Session},
    sql::Statement,
};

/// What a subscriber asked for, to compile it again when the table changes.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) caller: Caller,
    batch: Arc<ParsedBatch>,
    namespace: Option<Arc<str>>,
    pub(super) parameters: Vec<Parameter>,
    options: LiveOptions,
}

impl Session {
    /// Subscribes to a query. What is wrong with the request is found here; nothing is read before the first
    /// [`LiveQuery::next`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use kalamdb_engine::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let engine = Engine::open(EngineSettings::default(), Vec::new(), Arc::new(SystemEnv)).unwrap();
    /// # let session = engine.session(Caller::new(UserId::new("ana").unwrap(), Role::System));
    /// # let mut setup = session.execute(Request::new("CREATE NAMESPACE chat; CREATE USER TABLE chat.notes (id BIGINT PRIMARY KEY)"));
    /// # while let Some(done) = setup.next().await { done.unwrap(); }
    /// let request = LiveQueryRequest { sql: "SUBSCRIBE TO chat.notes WHERE id > 10".to_owned(), ..Default::default() };
    /// let mut notes = session.subscribe(request).unwrap();
    /// assert!(matches!(notes.next().await, Some(LiveEvent::Ready { row_count: 0, .. })));
    /// # let mut insert = session.execute(Request::new("INSERT INTO chat.notes VALUES (5), (11)"));
    /// # while let Some(done) = insert.next().await { done.unwrap(); }
    /// let Some(LiveEvent::Changes(commits)) = notes.next().await else { panic!() };
    /// assert_eq!(commits[0].changes.len(), 1);
    /// # });
    /// ```
    ///
    /// # Errors
    /// What is wrong with the text, its names and parameters; NOT_SUPPORTED, by name, for what cannot be subscribed to;
    /// INVALID_RESUME_TOKEN; TOO_MANY_LIVE_QUERIES; SHUTTING_DOWN.
    pub fn subscribe(&self, request: LiveQueryRequest) -> Result<LiveQuery> {
        let shared = self.shared();
        let LiveQueryRequest { sql, parameters, namespace, options, resume_token } = request;
        let batch = session::parsed(shared, &sql, parameters.len())?;
        let namespace = namespace.filter(|n| !n.is_empty()).map(Arc::from);
        let subscription = Subscription { caller: self.caller().clone(), batch, namespace, parameters, options };
        let compiled = subscription.compile(shared)?;
        if subscription.options.slow_consumer == SlowConsumer::Coalesce && compiled.matcher.deleted_column.is_some() {
            let message = "Changes of a query that shows _deleted cannot be merged. Leave _deleted out, which the type of each \
                           change tells as well, or use the slow-consumer policy disconnect.";
            return Err(Error::new(Reason::NotSupported, message));
        }
        let class = subscription.class(shared, &compiled);
        let beginning = subscription.beginning(shared, &class, &compiled, resume_token.as_deref())?;

        let id = LiveQueryId(shared.ids.snowflake().cast_unsigned());
        let description = subscription.describe(&compiled, shared.env.now_us())?;
        let user = self.caller().effective_user().clone();
        let policy = (subscription.options.slow_consumer, subscription.options.before_images);
        let queue_bytes = shared.live.max_queue_bytes();
        let subscriber = Arc::new(Subscriber::new(id, user, compiled.table.id(), description, policy, queue_bytes));
        shared.live.register(&subscriber)?;
        Ok(LiveQuery::new(Arc::clone(shared), subscription, subscriber, class, &compiled, beginning))
    }

    /// Live queries by their ids: those of the caller's user, or all for roles dba and system.
    ///
    /// # Errors
    /// None today.
    pub fn live_queries(&self) -> Result<Vec<LiveQueryInfo>> {
        Ok(self.shared().live.list(sees_only(self.caller())))
    }

    /// Ends a live query: of the caller's user, or any for roles dba and system.
    ///
    /// # Errors
    /// LIVE_QUERY_NOT_FOUND, also for those that the caller may not see.
    pub fn kill_live_query(&self, id: LiveQueryId) -> Result<()> {
        let act = Act::new(StatementKind::KillLiveQuery, id.to_string());
        self.shared().audit.tell(self.caller(), act, kill_live_query(self.shared(), self.caller(), id))
    }
}

/// Ends a live query that concerns a caller.
///
/// # Errors
/// LIVE_QUERY_NOT_FOUND.
pub(crate) fn kill_live_query(shared: &Shared, caller: &Caller, id: LiveQueryId) -> Result<()> {
    shared.live.kill(id, sees_only(caller))
}

/// The one user whose live queries a caller sees; `None`: everybody's.
pub(crate) fn sees_only(caller: &Caller) -> Option<&kalamdb_store::ids::UserId> {
    (caller.role < Role::Dba).then(|| caller.effective_user())
}

impl Subscription {
    /// The query for the table as it is now.
    pub(super) fn compile(&self, shared: &Shared) -> Result<Arc<Compiled>> {
        let [statement] = self.batch.statements.as_slice() else {
            return Err(Error::new(Reason::InvalidStatement, "A live query is one statement."));
        };
        let Statement::Subscribe(subscribe) = &statement.parsed.statement else {
            return Err(Error::new(
                Reason::InvalidStatement,
                "Subscribe takes SUBSCRIBE TO table [WHERE …] or SUBSCRIBE SELECT columns FROM table [WHERE …]. Send other \
                 statements to Execute.",
            ));
        };
        let key = CompileKey {
            normalized: Arc::clone(&statement.normalized),
            namespace: self.namespace.clone(),
            parameters: self.parameters.iter().map(|p| (p.sql_type.clone(), p.value.clone())).collect(),
            last: match self.options.initial_rows {
                InitialRows::Last(n) => Some(n),
                InitialRows::None | InitialRows::All => None,
            },
        };
        if let Some(known) = shared.live.compiled.get(&key)
            && shared.catalog.state().is_current(&known.table)
        {
            access::may_use_table(&shared.viewer(self.caller.clone()), &known.table, known.scope)?;
            return Ok(known);
        }
        let source = Source {
            query: subscribe.query.as_ref(),
            namespace: self.namespace.as_deref(),
            parameters: &self.parameters,
            initial_rows: self.options.initial_rows,
        };
        let compiled = Arc::new(compile(shared, &self.caller, &source)?);
        if compiled.for_everybody {
            shared.live.compiled.insert(key, Arc::clone(&compiled));
        }
        Ok(compiled)
    }

    /// Those with whom this subscriber shares everything.
    pub(super) fn class(&self, shared: &Shared, compiled: &Compiled) -> Arc<QueryClass> {
        let partition = compiled.partition(&self.caller);
        let normalized = self.batch.statements.first().map_or("", |statement| &*statement.normalized);
        let tokens = TokenScope {
            database: shared.live.database_id,
            table: compiled.table.id(),
            query: query_fingerprint(&partition.owner, normalized, &self.parameters),
            columns: compiled.columns_id,
        };
        Arc::new(QueryClass {
            key: ClassKey {
                outputs: Arc::clone(&compiled.outputs),
                filter: compiled.filter.clone(),
                before_images: self.options.before_images,
                tokens,
            },
            table: Arc::clone(&compiled.table),
            matcher: Arc::clone(&compiled.matcher),
        })
    }

    pub(super) fn wants_rows(&self) -> bool {
        !matches!(self.options.initial_rows, InitialRows::None | InitialRows::Last(0))
    }

    fn beginning(
        &self,
        shared: &Shared,
        class: &QueryClass,
        compiled: &Arc<Compiled>,
        resume_token: Option<&str>,
    ) -> Result<Beginning> {
        let Some(resume_token) = resume_token.filter(|token| !token.is_empty()) else {
            return Ok(Beginning::Anew(Arc::clone(compiled)));
        };
        match class.key.tokens.position(resume_token)? {
            Position::After(seq) if seq > shared.live.published() => Err(token::invalid(
                "The resume token is of a commit that this database does not have: it is of a later state. Subscribe without it.",
            )),
            Position::After(seq) if seq < shared.change_log.floor() => Ok(Beginning::AnewBecause(changes_expired())),
            Position::After(seq) => Ok(Beginning::After(seq)),
            Position::OtherColumns => Ok(Beginning::AnewBecause(Error::new(
                Reason::SchemaChanged,
                "ALTER TABLE has changed the columns of the live query. Its rows follow with the new ones.",
            ))),
        }
    }

    fn describe(&self, compiled: &Compiled, created_at_us: i64) -> Result<Description> {
        let query = self.batch.statements.first().map(|statement| Arc::clone(&statement.normalized));
        let LiveOptions { initial_rows, before_images, slow_consumer, max_batch_delay_ms } = &self.options;
        let initial_rows = match initial_rows {
            InitialRows::None => json!("none"),
            InitialRows::Last(rows) => json!({ "last_rows": rows }),
            InitialRows::All => json!("all"),
        };
        let slow_consumer = match slow_consumer {
            SlowConsumer::Disconnect => "disconnect",
            SlowConsumer::Coalesce => "coalesce",
        };
        let options = json!({
            "initial_rows": initial_rows,
            "before_images": before_images,
            "slow_consumer": slow_consumer,
            "max_batch_delay_ms": max_batch_delay_ms,
        });
        Ok(Description {
            namespace: compiled.table.namespace().to_string(),
            table_name: compiled.table.name().to_string(),
            query: query.unwrap_or_else(|| Arc::from("")),
            options: options.to_string(),
            created_at_us,
        })
    }
}
