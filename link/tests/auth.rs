//! Credentials against a gRPC server in the same process: who is sent what, and what happens when it is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, future::join_all, stream};
use kalam_link::{
    AccessToken, Client, ClientBuilder, CredentialKind, Error, ErrorKind, NewUser, RetryPolicy, Subscription,
    SubscriptionEvent, UserChanges,
};
use kalamdb_proto::v1::{
    self, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse, LoginRequest, LoginResponse,
    LogoutRequest, LogoutResponse, RefreshRequest, RefreshResponse, SubscribeRequest, SubscribeResponse, WhoAmIRequest,
    WhoAmIResponse,
    auth_service_server::{AuthService, AuthServiceServer},
    query_service_server::{QueryService, QueryServiceServer},
    statement_result,
    subscribe_response::Event,
    subscribe_service_server::{SubscribeService, SubscribeServiceServer},
};
use tokio::sync::Notify;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt};

const PASSWORD: &str = "s3cret-password";
const HOUR: Duration = Duration::from_secs(3_600);

/// A server that knows one user and the tokens it has given out.
#[derive(Clone, Default)]
struct Guarded(Arc<State>);

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    /// While there is one, Refresh waits for it after it has used the token up.
    slow_refresh: Mutex<Option<Arc<Notify>>>,
}

struct Inner {
    /// Tokens that calls are accepted with.
    valid: BTreeSet<String>,
    refresh_tokens: BTreeSet<String>,
    lifetime: Duration,
    given: u32,
    logins: u32,
    refreshes: u32,
    /// Refresh tokens that came twice.
    reused: u32,
    /// The reason of refusals.
    reason: &'static str,
    /// Of each call of QueryService and SubscribeService.
    seen: Vec<Option<String>>,
    /// How live queries end, in order; then they stay.
    endings: Vec<&'static str>,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            valid: BTreeSet::new(),
            refresh_tokens: BTreeSet::new(),
            lifetime: HOUR,
            given: 0,
            logins: 0,
            refreshes: 0,
            reused: 0,
            reason: "UNAUTHENTICATED",
            seen: Vec::new(),
            endings: Vec::new(),
        }
    }
}

fn status(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, "refused", ErrorDetails::with_error_info(reason, "kalamdb", HashMap::new()))
}

impl Inner {
    fn tokens(&mut self) -> v1::Tokens {
        self.given += 1;
        let (access_token, refresh_token) = (format!("access-{}", self.given), format!("refresh-{}", self.given));
        self.valid.insert(access_token.clone());
        self.refresh_tokens.insert(refresh_token.clone());
        let timestamp = |lifetime: Duration| {
            #[allow(clippy::disallowed_methods, reason = "as a server does it")]
            let end = std::time::SystemTime::now() + lifetime;
            let since = end.duration_since(std::time::UNIX_EPOCH).unwrap();
            pbjson_types::Timestamp {
                seconds: since.as_secs().cast_signed(),
                nanos: since.subsec_nanos().cast_signed(),
            }
        };
        v1::Tokens {
            access_token,
            access_token_expires_at: Some(timestamp(self.lifetime)),
            refresh_token,
            refresh_token_expires_at: Some(timestamp(24 * HOUR)),
        }
    }

    fn admit(&mut self, metadata: &MetadataMap) -> Result<(), Status> {
        let header = metadata.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.seen.push(header.clone());
        let token = header.as_deref().and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
        if self.valid.contains(token) { Ok(()) } else { Err(status(Code::Unauthenticated, self.reason)) }
    }
}

fn alice() -> Option<v1::UserIdentity> {
    Some(v1::UserIdentity { user_id: "u1".into(), username: "alice".into(), role: "user".into() })
}

#[tonic::async_trait]
impl AuthService for Guarded {
    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        assert!(request.metadata().get("authorization").is_none(), "a login carries no credential");
        assert!(request.metadata().get("x-user-id").is_none(), "a login acts for nobody");
        let mut inner = self.0.inner.lock().unwrap();
        inner.logins += 1;
        let LoginRequest { username, password } = request.into_inner();
        if (username.as_str(), password.as_str()) != ("alice", PASSWORD) {
            return Err(status(Code::Unauthenticated, "UNAUTHENTICATED"));
        }
        Ok(Response::new(LoginResponse { tokens: Some(inner.tokens()), identity: alice() }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        assert!(request.metadata().get("authorization").is_none(), "a refresh carries no other credential");
        let tokens = {
            let mut inner = self.0.inner.lock().unwrap();
            inner.refreshes += 1;
            if !inner.refresh_tokens.remove(&request.get_ref().refresh_token) {
                inner.reused += 1;
                return Err(status(Code::Unauthenticated, "CREDENTIAL_REVOKED"));
            }
            inner.tokens()
        };
        let slow = self.0.slow_refresh.lock().unwrap().take();
        if let Some(slow) = slow {
            slow.notified().await;
        }
        Ok(Response::new(RefreshResponse { tokens: Some(tokens), identity: alice() }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let mut inner = self.0.inner.lock().unwrap();
        inner.admit(request.metadata())?;
        inner.valid.clear();
        inner.refresh_tokens.clear();
        Ok(Response::new(LogoutResponse {}))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        self.0.inner.lock().unwrap().admit(request.metadata())?;
        let acting = request.metadata().get("x-user-id").map(|value| value.to_str().unwrap().to_owned());
        let answer = WhoAmIResponse {
            identity: alice(),
            effective_user_id: acting.unwrap_or_else(|| "u1".into()),
            credential: v1::CredentialKind::Session.into(),
            expires_at: Some(pbjson_types::Timestamp { seconds: 7, nanos: 1_000 }),
        };
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl QueryService for Guarded {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        self.0.inner.lock().unwrap().admit(request.metadata())?;
        let affected = v1::Affected { row_count: 1, message: "INSERT 0 1".into() };
        let result = Some(statement_result::Result::Affected(affected));
        Ok(Response::new(ExecuteResponse {
            results: vec![v1::StatementResult { result, took_ms: 0.1, commit_seq: 1 }],
        }))
    }

    type ExecuteStreamStream = Pin<Box<dyn Stream<Item = Result<ExecuteStreamResponse, Status>> + Send>>;

    async fn execute_stream(
        &self,
        _: Request<ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

#[tonic::async_trait]
impl SubscribeService for Guarded {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let ending = {
            let mut inner = self.0.inner.lock().unwrap();
            inner.admit(request.metadata())?;
            if inner.endings.is_empty() { None } else { Some(inner.endings.remove(0)) }
        };
        let event = |event| Ok(SubscribeResponse { query_index: 0, event: Some(event) });
        let started = event(Event::Started(v1::LiveStarted { live_id: "1".into(), columns: Vec::new(), node_id: 1 }));
        let ready = v1::LiveReady { commit_seq: 1, resume_token: "@1".into(), row_count: 0 };
        let begin = stream::iter([started, event(Event::Ready(ready))]);
        let state = Arc::clone(&self.0);
        let rest = stream::once(async move {
            match ending {
                None => std::future::pending().await,
                Some(reason) => {
                    // As when its time is over: the token is not good for another call either.
                    state.inner.lock().unwrap().valid.clear();
                    Err(status(Code::Unauthenticated, reason))
                }
            }
        });
        Ok(Response::new(begin.chain(rest).boxed()))
    }
}

struct Running {
    endpoint: String,
    server: Guarded,
}

async fn serve() -> Running {
    let server = Guarded::default();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    let services = Server::builder()
        .add_service(AuthServiceServer::new(server.clone()))
        .add_service(QueryServiceServer::new(server.clone()))
        .add_service(SubscribeServiceServer::new(server.clone()));
    tokio::spawn(services.serve_with_incoming(incoming));
    Running { endpoint, server }
}

impl Running {
    fn builder(&self) -> ClientBuilder {
        let quick = RetryPolicy { base_delay: Duration::from_millis(1), ..RetryPolicy::default() };
        Client::builder(&self.endpoint).retry(quick)
    }

    async fn logged_in(&self) -> Client {
        self.builder().login("alice", PASSWORD).connect().await.unwrap()
    }

    fn with<T>(&self, what: impl FnOnce(&mut Inner) -> T) -> T {
        what(&mut self.server.0.inner.lock().unwrap())
    }

    /// Logins, refreshes, refresh tokens that came twice.
    fn counts(&self) -> (u32, u32, u32) {
        self.with(|inner| (inner.logins, inner.refreshes, inner.reused))
    }
}

async fn insert(client: &Client) -> Result<u64, Error> {
    client.execute("INSERT INTO t VALUES (1)", ()).await.map(|result| result.row_count())
}

#[tokio::test]
async fn one_login_serves_all_clones_and_calls() {
    let server = serve().await;
    let client = server.builder().login("alice", PASSWORD).user("bob").connect_lazy().unwrap();
    let clones: Vec<_> = (0..20).map(|number| client.for_user(format!("user-{number}"))).collect();
    let outcomes = join_all(clones.iter().map(insert)).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap() == 1));
    assert_eq!(server.counts(), (1, 0, 0));
    assert!(server.with(|inner| inner.seen.iter().all(|header| header.as_deref() == Some("Bearer access-1"))));
}

#[tokio::test]
async fn a_token_is_refreshed_before_it_expires() {
    let server = serve().await;
    server.with(|inner| inner.lifetime = Duration::from_millis(250));
    let client = server.logged_in().await;
    let begin = Instant::now();
    while server.counts().1 < 3 {
        insert(&client).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(20), "it is refreshed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((server.counts().0, server.counts().2), (1, 0));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_any_call_is_repeated() {
    let server = serve().await;
    let client = server.logged_in().await;
    insert(&client).await.unwrap();
    server.with(|inner| inner.valid.clear());
    let outcomes = join_all((0..20).map(|_| insert(&client))).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
    assert_eq!(server.counts(), (1, 1, 0), "one of them refreshes");

    // Where new tokens do not help, a call is repeated once and no more.
    server.with(|inner| {
        inner.seen.clear();
        inner.valid = BTreeSet::from(["none".to_owned()]);
    });
    let refusing = server.builder().token("fixed").connect().await.unwrap();
    assert_eq!(insert(&refusing).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.with(|inner| inner.seen.len()), 1, "a fixed token is not tried twice");
}

#[tokio::test]
async fn a_session_that_cannot_be_refreshed_begins_anew() {
    let server = serve().await;
    let client = server.logged_in().await;
    server.with(|inner| {
        inner.valid.clear();
        inner.refresh_tokens.clear();
    });
    insert(&client).await.unwrap();
    assert_eq!(server.counts(), (2, 1, 1));

    client.auth().logout().await.unwrap();
    insert(&client).await.unwrap();
    assert_eq!(server.counts(), (3, 1, 1), "after a logout there is nothing to refresh");
}

#[tokio::test]
async fn what_was_taken_away_is_not_tried_again() {
    let server = serve().await;
    let client = server.logged_in().await;
    for reason in ["CREDENTIAL_REVOKED", "USER_DISABLED"] {
        server.with(|inner| {
            inner.valid.clear();
            inner.seen.clear();
            inner.reason = reason;
        });
        let error = insert(&client).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unauthenticated, Some(reason)));
        assert_eq!((server.with(|inner| inner.seen.len()), server.counts()), (1, (1, 0, 0)));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_spoils_no_refresh() {
    let server = serve().await;
    let client = server.logged_in().await;
    let answer = Arc::new(Notify::new());
    *server.server.0.slow_refresh.lock().unwrap() = Some(Arc::clone(&answer));
    server.with(|inner| inner.valid.clear());
    {
        let mut call = Box::pin(insert(&client));
        while server.counts().1 == 0 {
            tokio::select! {
                _ = &mut call => panic!("the refresh has not been answered"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }
    answer.notify_one();
    insert(&client).await.unwrap();
    assert_eq!(server.counts(), (1, 1, 0), "the answer has arrived all the same");
}

#[tokio::test]
async fn a_wrong_password_is_known_when_connecting() {
    let server = serve().await;
    let builder = server.builder().login("alice", "wrong-s3cret");
    assert!(!format!("{builder:?}").contains("s3cret"));
    let error = builder.connect().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Unauthenticated, Some("UNAUTHENTICATED")));
    assert!(!format!("{error:?} {error}").contains("s3cret"));
    assert_eq!(server.counts(), (1, 0, 0), "a refused password is not sent again");
}

#[tokio::test]
async fn a_client_whose_password_is_refused_does_not_lock_its_user_out() {
    let server = serve().await;
    let client = server.builder().login("alice", "wrong-s3cret").connect_lazy().unwrap();
    let outcomes = join_all((0..50).map(|_| insert(&client))).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap_err().reason() == Some("UNAUTHENTICATED")));
    assert_eq!(insert(&client.for_user("bob")).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.counts(), (1, 0, 0), "one attempt for all");
    assert!(server.with(|inner| inner.seen.is_empty()), "nothing else is sent");
}

#[tokio::test]
async fn a_provider_is_asked_for_the_first_token_and_after_a_refusal() {
    let server = serve().await;
    server.with(|inner| inner.valid = BTreeSet::from(["provided-2".to_owned()]));
    let asked = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&asked);
    let builder = server.builder().token_provider(move || {
        let number = {
            let mut count = counter.lock().unwrap();
            *count += 1;
            *count
        };
        async move {
            if number > 2 {
                return Err("the token service is away".into());
            }
            Ok(AccessToken::new(format!("provided-{number}")))
        }
    });
    let client = builder.connect().await.unwrap();
    insert(&client).await.unwrap();
    insert(&client).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 2);

    server.with(|inner| inner.valid.clear());
    let error = insert(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("the token service is away"), "{error}");
}

#[tokio::test]
async fn sessions_by_hand() {
    let server = serve().await;
    let client = server.builder().connect().await.unwrap();
    assert_eq!(insert(&client).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    let session = client.auth().login("alice", PASSWORD).await.unwrap();
    assert_eq!((session.access_token(), session.refresh_token()), ("access-1", "refresh-1"));
    assert_eq!((session.user().user_id.as_str(), session.user().role.as_str()), ("u1", "user"));
    assert!(session.access_token_expires_at_us() < session.refresh_token_expires_at_us());
    let printed = format!("{session:?}");
    assert!(!printed.contains("access-1") && !printed.contains("refresh-1"), "{printed}");

    let alice = client.with_token(session.access_token()).unwrap();
    let who = alice.for_user("u2").auth().who_am_i().await.unwrap();
    assert_eq!((who.caller.username.as_str(), who.effective_user_id.as_str()), ("alice", "u2"));
    assert_eq!((who.credential, who.expires_at_us), (CredentialKind::Session, Some(7_000_001)));
    let next = client.auth().refresh(session.refresh_token()).await.unwrap();
    assert_eq!(next.access_token(), "access-2");
    assert_eq!(client.auth().refresh("nonsense").await.unwrap_err().reason(), Some("CREDENTIAL_REVOKED"));

    let logged_in = client.with_login("alice", PASSWORD).await.unwrap();
    insert(&logged_in).await.unwrap();
    assert!(client.with_login("alice", "no").await.is_err());
}

#[tokio::test]
async fn secrets_are_not_sent_where_others_can_read_them() {
    let elsewhere = || Client::builder("http://db.example:2900");
    for builder in [
        elsewhere().token("s3cret"),
        elsewhere().api_key("s3cret"),
        elsewhere().login("alice", "s3cret"),
        elsewhere().token_provider(|| async { Ok("s3cret".into()) }),
    ] {
        let error = builder.clone().connect_lazy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("https://") && !error.to_string().contains("s3cret"), "{error}");
        builder.allow_plaintext_secrets(true).connect_lazy().unwrap();
    }
    let client = elsewhere().connect_lazy().unwrap();
    assert_eq!(client.with_token("s3cret").unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(client.with_api_key("s3cret").unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(client.auth().login("alice", "s3cret").await.unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(client.auth().refresh("s3cret").await.unwrap_err().kind(), ErrorKind::Configuration);
    let admin = client.admin();
    let refusals = [
        admin.create_user(NewUser::new("bob").password("s3cret")).await.map(drop),
        admin.alter_user("bob", UserChanges::new().password("s3cret")).await.map(drop),
        admin.create_api_key("bob", None, None).await.map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().kind(), ErrorKind::Configuration);
    }
    for private in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
        Client::builder(private).token("s3cret").connect_lazy().unwrap();
    }
}

async fn subscribe(client: &Client) -> Subscription {
    let quick =
        RetryPolicy { max_attempts: 5, base_delay: Duration::from_millis(1), max_delay: Duration::from_millis(5) };
    client.subscribe("SUBSCRIBE TO t").reconnect(quick).report_reconnects(true).open().await.unwrap()
}

/// What comes until the first error, or until the query is ready again after a break.
async fn until_ready_again(events: &mut Subscription) -> Result<(), Error> {
    let mut broken = false;
    loop {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event in time");
        match event.expect("an event")? {
            SubscriptionEvent::Disconnected { .. } => broken = true,
            SubscriptionEvent::Ready { .. } if broken => return Ok(()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_live_query_outlives_its_token() {
    let server = serve().await;
    server.with(|inner| inner.endings = vec!["CREDENTIAL_EXPIRED"]);
    let client = server.logged_in().await;
    let mut events = subscribe(&client).await;
    until_ready_again(&mut events).await.unwrap();
    let seen = server.with(|inner| inner.seen.clone());
    let seen: Vec<_> = seen.iter().map(|header| header.as_deref().unwrap()).collect();
    assert_eq!(seen, ["Bearer access-1", "Bearer access-1", "Bearer access-2"], "refused, refreshed, accepted");
    assert_eq!(server.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_live_query_ends_with_its_right_or_a_token_that_cannot_be_renewed() {
    let server = serve().await;
    for reason in ["CREDENTIAL_REVOKED", "USER_DISABLED"] {
        server.with(|inner| inner.endings = vec![reason]);
        let client = server.builder().login("alice", PASSWORD).connect().await.unwrap();
        let calls = server.with(|inner| inner.seen.len());
        let mut events = subscribe(&client).await;
        let error = until_ready_again(&mut events).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unauthenticated, Some(reason)));
        assert!(events.next().await.is_none());
        assert_eq!(server.with(|inner| inner.seen.len()), calls + 1, "it does not come back");
    }
    server.with(|inner| {
        inner.endings = vec!["CREDENTIAL_EXPIRED"];
        inner.valid.insert("fixed".to_owned());
    });
    let client = server.builder().token("fixed").connect().await.unwrap();
    let mut events = subscribe(&client).await;
    let error = until_ready_again(&mut events).await.unwrap_err();
    assert_eq!(error.reason(), Some("CREDENTIAL_EXPIRED"));
}
