//! The unary half of the Connect protocol: `POST /kalamdb.v1.<Service>/<Method>` with a JSON (or protobuf) body.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use futures::FutureExt;
use http::{Extensions, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use kalamdb_engine::{Error, Reason};
use kalamdb_proto::v1::{
    ExecuteRequest, admin_service_server::AdminService, auth_service_server::AuthService,
    query_service_server::QueryService,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Instrument;

use super::{
    app::{Admitted, App, MAX_REQUEST_BYTES, no_such_method, read_away, text, until_withdrawn},
    body::ResponseBody,
    json,
    liveness::Peer,
    methods::{self, METHODS, Service},
};
use crate::{
    call::{OpenCall, TraceId},
    errors,
};

/// How long a client may take to send the body of one call.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Json,
    Proto,
}

/// Answers a POST that is not gRPC.
pub(super) async fn answer(app: &App, peer: &Peer, request: Request<Incoming>) -> Response<ResponseBody> {
    let Some(codec) = codec(&request) else {
        return text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Use content-type application/json (Connect), application/grpc-web or application/grpc.\n",
        );
    };
    let Some(index) = methods::find(request.uri().path()) else {
        let status = no_such_method(request.uri().path());
        read_away(request.into_body()).await;
        return refusal(&status);
    };
    let Admitted { context, mut record, permit: _permit } = match app.admit(index, peer, request.headers()).await {
        Ok(admitted) => admitted,
        Err(status) => {
            read_away(request.into_body()).await;
            return refusal(&status);
        }
    };
    let trace = record.trace();
    let grant = context.as_ref().map(|context| Arc::clone(&context.grant));
    let mut extensions = Extensions::new();
    match context {
        Some(context) => {
            extensions.insert(context);
        }
        None if METHODS[index].service == Service::Auth => {
            extensions.insert(OpenCall { peer: peer.clone(), trace });
        }
        None => return refusal(&streaming_only("Health and reflection are")),
    }
    let calling =
        AssertUnwindSafe(call(app, codec, trace, extensions, request)).catch_unwind().instrument(record.span());
    let outcome = match until_withdrawn(grant.as_deref(), calling).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(errors::defect("a call panicked; the log has the place", trace)),
        Err(withdrawn) => Err(errors::to_status(&withdrawn, trace)),
    };
    match outcome {
        Ok(bytes) => {
            record.set_code(Code::Ok);
            let mut response = Response::new(ResponseBody::of(bytes));
            let content_type = match codec {
                Codec::Json => "application/json",
                Codec::Proto => "application/proto",
            };
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
        Err(status) => {
            record.set_code(status.code());
            refusal(&status)
        }
    }
}

async fn call(
    app: &App,
    codec: Codec,
    trace: TraceId,
    caller: Extensions,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Status> {
    /// Calls the method of this name with the decoded body.
    macro_rules! unary {
        ($service:expr, $method:ident) => {
            unary(app, codec, trace, caller, request, |request| $service.$method(request)).await
        };
    }
    match request.uri().path() {
        "/kalamdb.v1.QueryService/Execute" => execute(app, codec, trace, caller, request).await,
        "/kalamdb.v1.AuthService/Login" => unary!(app.auth, login),
        "/kalamdb.v1.AuthService/Refresh" => unary!(app.auth, refresh),
        "/kalamdb.v1.AuthService/Logout" => unary!(app.auth, logout),
        "/kalamdb.v1.AuthService/WhoAmI" => unary!(app.auth, who_am_i),
        "/kalamdb.v1.AdminService/ListNamespaces" => unary!(app.admin, list_namespaces),
        "/kalamdb.v1.AdminService/CreateNamespace" => unary!(app.admin, create_namespace),
        "/kalamdb.v1.AdminService/AlterNamespace" => unary!(app.admin, alter_namespace),
        "/kalamdb.v1.AdminService/DropNamespace" => unary!(app.admin, drop_namespace),
        "/kalamdb.v1.AdminService/ListTables" => unary!(app.admin, list_tables),
        "/kalamdb.v1.AdminService/GetTable" => unary!(app.admin, get_table),
        "/kalamdb.v1.AdminService/DropTable" => unary!(app.admin, drop_table),
        "/kalamdb.v1.AdminService/ListSchemaVersions" => unary!(app.admin, list_schema_versions),
        "/kalamdb.v1.AdminService/GetTableStats" => unary!(app.admin, get_table_stats),
        "/kalamdb.v1.AdminService/ListSegments" => unary!(app.admin, list_segments),
        "/kalamdb.v1.AdminService/CompactTable" => unary!(app.admin, compact_table),
        "/kalamdb.v1.AdminService/ListStorages" => unary!(app.admin, list_storages),
        "/kalamdb.v1.AdminService/CreateStorage" => unary!(app.admin, create_storage),
        "/kalamdb.v1.AdminService/AlterStorage" => unary!(app.admin, alter_storage),
        "/kalamdb.v1.AdminService/DropStorage" => unary!(app.admin, drop_storage),
        "/kalamdb.v1.AdminService/ListJobs" => unary!(app.admin, list_jobs),
        "/kalamdb.v1.AdminService/GetJob" => unary!(app.admin, get_job),
        "/kalamdb.v1.AdminService/ListLiveQueries" => unary!(app.admin, list_live_queries),
        "/kalamdb.v1.AdminService/KillLiveQuery" => unary!(app.admin, kill_live_query),
        "/kalamdb.v1.AdminService/ListSettings" => unary!(app.admin, list_settings),
        "/kalamdb.v1.AdminService/GetServerInfo" => unary!(app.admin, get_server_info),
        _ => Err(streaming_only("This method is")),
    }
}

/// `Execute`, whose values need more care in JSON than the generated code takes.
async fn execute(
    app: &App,
    codec: Codec,
    trace: TraceId,
    caller: Extensions,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Status> {
    if codec == Codec::Proto {
        return unary(app, codec, trace, caller, request, |request| app.query.execute(request)).await;
    }
    let body = read_body(request, app.max_request_bytes).await?;
    let mut message: ExecuteRequest = decode(codec, &body)?;
    drop(body);
    json::null_where_absent(&mut message.parameters);
    let mut call = tonic::Request::new(message);
    *call.extensions_mut() = caller;
    let answer = app.query.execute(call).await?.into_inner();
    json::to_vec(&answer).map_err(|error| errors::to_status(&Error::internal(error), trace))
}

async fn unary<Q, A, F>(
    app: &App,
    codec: Codec,
    trace: TraceId,
    caller: Extensions,
    request: Request<Incoming>,
    method: impl FnOnce(tonic::Request<Q>) -> F,
) -> Result<Vec<u8>, Status>
where
    Q: Message + Default + DeserializeOwned,
    A: Message + Serialize,
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let body = read_body(request, app.max_request_bytes).await?;
    let message: Q = decode(codec, &body)?;
    drop(body);
    let mut call = tonic::Request::new(message);
    *call.extensions_mut() = caller;
    let answer = method(call).await?.into_inner();
    match codec {
        Codec::Proto => Ok(answer.encode_to_vec()),
        Codec::Json => serde_json::to_vec(&answer).map_err(|error| errors::to_status(&Error::internal(error), trace)),
    }
}

fn codec(request: &Request<Incoming>) -> Option<Codec> {
    let content_type = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "application/json" => Some(Codec::Json),
        "application/proto" => Some(Codec::Proto),
        _ => None,
    }
}

async fn read_body(request: Request<Incoming>, max_bytes: usize) -> Result<Bytes, Status> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).map_or(&b"identity"[..], HeaderValue::as_bytes);
    if encoding != b"identity" {
        let error =
            Error::new(Reason::NotSupported, "Compressed requests are not supported; leave content-encoding out.");
        return Err(errors::refusal(&error));
    }
    let reading = Limited::new(request.into_body(), max_bytes).collect();
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(errors::amend(&Status::out_of_range("the body is too large"), max_bytes, MAX_REQUEST_BYTES))
        }
        Ok(Err(_)) => Err(errors::amend(&Status::cancelled(""), max_bytes, MAX_REQUEST_BYTES)),
        Err(_) => {
            let error = Error::new(Reason::InvalidRequest, "The body of the request did not arrive in time.");
            Err(errors::refusal(&error))
        }
    }
}

fn decode<Q: Message + Default + DeserializeOwned>(codec: Codec, body: &[u8]) -> Result<Q, Status> {
    let decoded = match codec {
        Codec::Proto => Q::decode(body).map_err(|error| error.to_string()),
        Codec::Json if body.is_empty() => Ok(Q::default()),
        Codec::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
    };
    decoded.map_err(|reason| {
        let text = format!("The body is not a valid message of this method: {reason}.");
        errors::refusal(&Error::new(Reason::InvalidRequest, text))
    })
}

fn streaming_only(what: &str) -> Status {
    let text = format!("{what} not available as unary JSON; use gRPC or gRPC-web, or QueryService/Execute.");
    errors::refusal(&Error::new(Reason::NotSupported, text))
}

/// An error as Connect writes it.
fn refusal(status: &Status) -> Response<ResponseBody> {
    let mut details = Vec::new();
    if let Some(info) = status.get_details_error_info() {
        let encoded = ErrorInfoMessage::from(&info).encode_to_vec();
        details.push(json!({
            "type": "google.rpc.ErrorInfo",
            "value": BASE64_STANDARD_NO_PAD.encode(encoded),
            "debug": { "reason": info.reason, "domain": info.domain, "metadata": info.metadata },
        }));
    }
    let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    if let Some(delay) = retry_after {
        let encoded = RetryInfoMessage { retry_delay: Some(delay.into()) }.encode_to_vec();
        details.push(json!({
            "type": "google.rpc.RetryInfo",
            "value": BASE64_STANDARD_NO_PAD.encode(encoded),
            "debug": { "retryDelay": format!("{}s", delay.as_secs_f64()) },
        }));
    }
    let (code, http_status) = code_and_status(status.code());
    let body = json!({ "code": code, "message": status.message(), "details": details }).to_string();
    let mut response = Response::new(ResponseBody::of(body));
    *response.status_mut() = http_status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(delay) = retry_after {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfoMessage {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<pbjson_types::Duration>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfoMessage {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: std::collections::BTreeMap<String, String>,
}

impl From<&tonic_types::ErrorInfo> for ErrorInfoMessage {
    fn from(info: &tonic_types::ErrorInfo) -> Self {
        Self {
            reason: info.reason.clone(),
            domain: info.domain.clone(),
            metadata: info.metadata.clone().into_iter().collect(),
        }
    }
}

/// Connect's name and HTTP status of a code.
fn code_and_status(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::Cancelled => ("canceled", StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT)),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
        Code::Ok | Code::Unknown => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
    }
}
