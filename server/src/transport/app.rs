//! Routes requests: what a request is (gRPC, gRPC-web, Connect, plain HTTP), who makes it, and which service answers.

use std::{convert::Infallible, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use arrow_flight::flight_service_server::FlightServiceServer;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use kalamdb_engine::{Engine, Error, Reason};
use kalamdb_proto::v1::{
    admin_service_server::AdminServiceServer, auth_service_server::AuthServiceServer,
    flush_service_server::FlushServiceServer, query_service_server::QueryServiceServer,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service as _, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::Instrument;

use super::{
    body::{CallBody, ResponseBody, grpc_code},
    connect,
    liveness::Peer,
    methods::{self, Callers, METHODS, Service},
    operations,
};
use crate::{
    call::{self, CallContext, OpenCall, TraceId, TraceIds},
    config::{Config, MetricsAccess},
    errors,
    flight::{self, FlightApi, MAX_HANDSHAKE_BYTES},
    identity::{Authenticated, Grant, Identity},
    limits::{CallLimit, CallPermit, FairShares, ResultLimits},
    services::{
        admin::AdminApi,
        auth::AuthApi,
        flush::FlushApi,
        query::QueryApi,
        subscribe::{SubscribeApi, SubscribeServer},
    },
    telemetry::{
        metrics::Metrics,
        rpc::{CallRecord, RpcMetrics},
    },
};

/// How long the message of a refused call is waited for, and how much of it.
const REFUSED_BODY_WAIT: Duration = Duration::from_millis(50);
const REFUSED_BODY_BYTES: usize = 64 << 10;

/// The setting that bounds requests.
pub(super) const MAX_REQUEST_BYTES: &str = "limits.max_request_bytes";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service whose type is not worth naming.
pub(crate) type OpenService = BoxCloneSyncService<Request<tonic::body::Body>, Response<tonic::body::Body>, Infallible>;

/// Everything that answers requests.
pub(crate) struct App {
    pub(super) engine: Arc<Engine>,
    pub(super) query: Arc<QueryApi>,
    pub(super) admin: Arc<AdminApi>,
    pub(super) auth: Arc<AuthApi>,
    query_server: QueryServiceServer<QueryApi>,
    subscribe_server: SubscribeServer,
    flush_server: FlushServiceServer<FlushApi>,
    admin_server: AdminServiceServer<AdminApi>,
    auth_server: AuthServiceServer<AuthApi>,
    flight: Arc<FlightApi>,
    /// Of calls of Flight, but for those that bring rows.
    max_flight_bytes: usize,
    max_upload_bytes: usize,
    health: OpenService,
    reflection: OpenService,
    pub(super) identity: Arc<Identity>,
    pub(super) metrics_access: MetricsAccess,
    cors: CorsLayer,
    calls: Arc<CallLimit>,
    pub(super) shares: FairShares,
    /// Calls of `Subscribe` that have begun to answer: they last, and have limits of their own.
    subscriptions: Arc<CallLimit>,
    rpc_metrics: Arc<RpcMetrics>,
    trace_ids: TraceIds,
    pub(super) metrics: Metrics,
    pub(super) max_request_bytes: usize,
    pub(super) stopping: CancellationToken,
}

/// What an [`App`] is made of.
pub(crate) struct AppParts {
    pub(crate) engine: Arc<Engine>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) flight: Arc<FlightApi>,
    pub(crate) health: OpenService,
    pub(crate) reflection: OpenService,
    pub(crate) metrics: Metrics,
    pub(crate) trace_ids: TraceIds,
    pub(crate) started_at_us: i64,
    /// Cancelled when the server begins to stop: `/readyz` says so.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when the grace for calls under way is over.
    pub(crate) calls_end: CancellationToken,
}

impl App {
    pub(crate) fn new(config: &Config, parts: AppParts) -> Arc<Self> {
        let limits =
            ResultLimits { max_rows: config.limits.max_result_rows, max_bytes: config.limits.max_result_bytes };
        let query = Arc::new(QueryApi::new(Arc::clone(&parts.engine), limits, parts.calls_end.clone()));
        let subscribe =
            SubscribeApi::new(Arc::clone(&parts.engine), config.live.max_queries_per_call, config.server.node_id);
        let flush = FlushApi::new(Arc::clone(&parts.engine), parts.calls_end.clone());
        let admin = Arc::new(AdminApi::new(Arc::clone(&parts.engine), parts.started_at_us, parts.calls_end));
        let max_request_bytes = config.limits.max_request_bytes;
        let identity = parts.identity;
        let auth = Arc::new(AuthApi::new(Arc::clone(&identity)));
        Arc::new(Self {
            engine: parts.engine,
            query_server: QueryServiceServer::from_arc(Arc::clone(&query)).max_decoding_message_size(max_request_bytes),
            subscribe_server: SubscribeServer::new(subscribe, max_request_bytes),
            flush_server: FlushServiceServer::new(flush).max_decoding_message_size(max_request_bytes),
            admin_server: AdminServiceServer::from_arc(Arc::clone(&admin)).max_decoding_message_size(max_request_bytes),
            auth_server: AuthServiceServer::from_arc(Arc::clone(&auth)).max_decoding_message_size(max_request_bytes),
            query,
            admin,
            auth,
            flight: parts.flight,
            max_flight_bytes: flight::max_request_bytes(config),
            max_upload_bytes: config.flight.max_message_bytes,
            health: parts.health,
            reflection: parts.reflection,
            cors: cors(Arc::clone(&identity), Duration::from_secs(config.cors.max_age_s)),
            identity,
            metrics_access: config.server.metrics_access,
            calls: CallLimit::new(config.limits.max_concurrent_calls),
            shares: FairShares::new(&config.limits),
            subscriptions: CallLimit::new(usize::MAX),
            rpc_metrics: Arc::new(RpcMetrics::new()),
            trace_ids: parts.trace_ids,
            metrics: parts.metrics,
            max_request_bytes,
            stopping: parts.stopping,
        })
    }

    /// Number of calls under way, but for health, reflection and live queries.
    pub(crate) fn calls_under_way(&self) -> usize {
        self.calls.under_way()
    }

    /// Number of calls with live queries.
    pub(crate) fn subscriptions_under_way(&self) -> usize {
        self.subscriptions.under_way()
    }

    /// Answers a request of `peer`.
    pub(crate) async fn answer(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<ResponseBody> {
        // Only browsers send an origin; other clients do not pay for the look at it.
        if !request.headers().contains_key(header::ORIGIN) {
            return self.route(peer, request).await;
        }
        let cors = self.cors.clone();
        let service = service_fn(move |request| {
            let (app, peer) = (Arc::clone(&self), peer.clone());
            async move { Ok::<_, Infallible>(app.route(peer, request).await) }
        });
        match cors.layer(service).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn route(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<ResponseBody> {
        let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if content_type.starts_with(b"application/grpc-web") {
            let service = service_fn(move |request: Request<tonic::body::Body>| {
                let (app, peer) = (Arc::clone(&self), peer.clone());
                async move { Ok::<_, Infallible>(app.grpc(peer, request).await) }
            });
            return match GrpcWebLayer::new().layer(service).oneshot(request).await {
                Ok(response) => response.map(ResponseBody::Translated),
                Err(never) => match never {},
            };
        }
        if content_type.starts_with(b"application/grpc") {
            if request.version() < Version::HTTP_2 {
                return text(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "gRPC needs HTTP/2; over HTTP/1.1 use gRPC-web.\n",
                );
            }
            return self.grpc(peer, request).await;
        }
        match *request.method() {
            HttpMethod::GET | HttpMethod::HEAD => operations::answer(&self, &peer, &request).await,
            HttpMethod::POST => connect::answer(&self, &peer, request).await,
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "Use POST for calls and GET for /metrics, /healthz, /readyz.\n"),
        }
    }

    /// Answers a gRPC call.
    async fn grpc<B>(self: Arc<Self>, peer: Peer, mut request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let path = request.uri().path();
        let Some(index) = methods::find(path) else {
            let status = no_such_method(path);
            read_away(request.into_body()).await;
            return status.into_http();
        };
        let Admitted { context, mut record, mut permit } = match self.admit(index, &peer, request.headers()).await {
            Ok(admitted) => admitted,
            Err(status) => {
                read_away(request.into_body()).await;
                return status.into_http();
            }
        };
        let trace = record.trace();
        let mut grant = None;
        match context {
            Some(context) => {
                grant = Some(Arc::clone(&context.grant));
                request.extensions_mut().insert(context);
            }
            None => {
                request.extensions_mut().insert(OpenCall { peer: peer.clone(), trace });
            }
        }

        let service = METHODS[index].service;
        let answering = match service {
            Service::Query => self.query_server.clone().call(request),
            Service::Subscribe => self.subscribe_server.call(request),
            Service::Flush => self.flush_server.clone().call(request),
            Service::Admin => self.admin_server.clone().call(request),
            Service::Auth => self.auth_server.clone().call(request),
            Service::Flight => {
                self.flight_server(METHODS[index].name).call(request.map(|body| body.map_err(broken_off)))
            }
            Service::Health => self.health.clone().call(request.map(tonic::body::Body::new)),
            Service::Reflection => self.reflection.clone().call(request.map(tonic::body::Body::new)),
        };
        let answering = AssertUnwindSafe(answering).catch_unwind().instrument(record.span());
        let answered = until_withdrawn(grant.as_deref(), answering).await;
        let mut response = match answered {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_)) => errors::defect("a call panicked; the log has the place", trace).into_http(),
            Err(withdrawn) => errors::to_status(&withdrawn, trace).into_http(),
        };

        // Trailers come with the body; a status in the headers means that there is no body.
        if let Some(code) = grpc_code(response.headers()) {
            record.set_code(code);
            let from_tonic = code != Code::Ok && !response.headers().contains_key("grpc-status-details-bin");
            if from_tonic
                && !service.is_open()
                && let Some(status) = Status::from_header_map(response.headers())
            {
                let (max_bytes, limit) = self.message_limit(service);
                let amended = errors::amend(&status, max_bytes, limit);
                record.set_code(amended.code());
                response = amended.into_http();
            }
        }
        if service == Service::Subscribe && grpc_code(response.headers()).is_none() {
            // The call has begun, and lasts: its place is for others now.
            permit = self.subscriptions.begin().ok();
            peer.must_acknowledge();
        }
        // Live queries end by themselves, with a reason and a token for each.
        let cut = METHODS[index].streams && service != Service::Subscribe;
        response.map(|body| ResponseBody::Call(CallBody::new(body, record, permit, grant, cut)))
    }

    /// The service that answers a call of Flight. Messages may be as large as what the method is for.
    fn flight_server(&self, method: &str) -> FlightServiceServer<FlightApi> {
        let max_bytes = match method.rsplit('/').next() {
            Some("Handshake") => MAX_HANDSHAKE_BYTES,
            Some("DoPut" | "DoExchange") => self.max_upload_bytes,
            _ => self.max_flight_bytes,
        };
        FlightServiceServer::from_arc(Arc::clone(&self.flight)).max_decoding_message_size(max_bytes)
    }

    /// The most bytes of a call that is one message, and the setting by which they are.
    fn message_limit(&self, service: Service) -> (usize, &'static str) {
        if service == Service::Flight && self.max_flight_bytes < self.max_request_bytes {
            (self.max_flight_bytes, "flight.max_handle_bytes")
        } else {
            (self.max_request_bytes, MAX_REQUEST_BYTES)
        }
    }

    /// Lets a call in: counts it, finds out who makes it, and how long it may take.
    ///
    /// # Errors
    /// The status to refuse it with; the refusal is counted already.
    pub(super) async fn admit(&self, index: usize, client: &Peer, headers: &HeaderMap) -> Result<Admitted, Status> {
        let peer = client.address();
        let trace = self.trace_ids.of(headers);
        let mut record = CallRecord::begin(Arc::clone(&self.rpc_metrics), index, peer, trace);
        let method = &METHODS[index];
        match self.shares.call_from(peer.ip(), method.streams) {
            Ok(share) => record.hold_of_address(share),
            Err(error) => return Err(refuse(&mut record, &error, trace)),
        }
        if method.callers == Callers::Anybody {
            return Ok(Admitted { context: None, record, permit: None });
        }
        let admitted = self.identity.authenticate(client, headers).await.and_then(|Authenticated { caller, grant }| {
            record.set_caller(&caller);
            record.hold_of_user(self.shares.call_of(&caller, peer.ip(), method.streams)?);
            if let Err(error) = method.check(&caller) {
                self.engine.note_refused_call(&caller, method.name, &error);
                return Err(error);
            }
            let timeout = call::client_timeout(headers)?;
            Ok((CallContext { caller, grant, timeout, trace }, self.calls.begin()?))
        });
        match admitted {
            Ok((context, permit)) => Ok(Admitted { context: Some(context), record, permit: Some(permit) }),
            Err(error) => Err(refuse(&mut record, &error, trace)),
        }
    }
}

/// The error of a body that broke off, without what tonic would know it by: it takes the rest of a call that was cancelled for
/// the end of its messages, and half of an upload would be all of it.
fn broken_off(error: impl Into<BoxError>) -> BoxError {
    format!("the request broke off: {}", error.into()).into()
}

/// What comes of a call, unless its right to go on goes before.
///
/// # Errors
/// Why it is gone.
pub(super) async fn until_withdrawn<T>(grant: Option<&Grant>, work: impl Future<Output = T>) -> Result<T, Error> {
    let Some(grant) = grant else { return Ok(work.await) };
    tokio::select! {
        // Most calls need no waiting, and never look at the grant.
        biased;
        outcome = work => Ok(outcome),
        why = grant.withdrawn() => Err(why),
    }
}

/// The status of a call that may not go on.
fn refuse(record: &mut CallRecord, error: &Error, trace: TraceId) -> Status {
    let status = errors::to_status(error, trace);
    record.set_code(status.code());
    status
}

/// A call that may go on.
pub(super) struct Admitted {
    /// Of calls that need an identity.
    pub(super) context: Option<CallContext>,
    pub(super) record: CallRecord,
    pub(super) permit: Option<CallPermit>,
}

/// The status for a path that no method has.
pub(super) fn no_such_method(path: &str) -> Status {
    let error = Error::new(Reason::NotSupported, format!("The server has no method {path}."));
    errors::refusal(&error)
}

/// Reads what a refused call still sends, before it is answered.
///
/// A stream that is answered before its request has ended is reset, and HTTP/2 ends a connection that has too many of
/// those, and with it the calls of others who share it. Small messages are here already, or within a moment.
pub(super) async fn read_away<B>(body: B)
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(Limited::new(body, REFUSED_BODY_BYTES));
    let reading = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever sends more, or waits, is answered nevertheless.
    let _ = tokio::time::timeout(REFUSED_BODY_WAIT, reading).await;
}

/// A plain answer.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::of(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Which web pages may call, and what of the answer they may read.
fn cors(identity: Arc<Identity>, max_age: Duration) -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| identity.allows_origin(origin.as_bytes())))
        .allow_methods([HttpMethod::GET, HttpMethod::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed)
        .max_age(max_age)
}
