//! What operators and load balancers ask by plain GET.

use http::{HeaderValue, Request, Response, StatusCode, header};
use kalamdb_engine::{Error, ErrorKind};

use super::{
    app::{App, text},
    body::ResponseBody,
    liveness::Peer,
};
use crate::{
    config::MetricsAccess,
    identity::{forwarding_header, is_local, may_read_metrics},
};

/// Answers a GET.
pub(super) async fn answer<B>(app: &App, peer: &Peer, request: &Request<B>) -> Response<ResponseBody> {
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match not_ready(app) {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        "/metrics" => match may_see_metrics(app, peer, request.headers()).await {
            Ok(()) => {
                app.shares.publish();
                let mut response = text(StatusCode::OK, app.metrics.render());
                let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                response
            }
            Err(error) => refused(&error),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "Nothing here. This is KalamDB: gRPC, gRPC-web, and POST of JSON to /kalamdb.v1.QueryService/Execute.\n",
        ),
    }
}

/// Metrics tell of nobody's rows, but of how much is going on.
async fn may_see_metrics(app: &App, peer: &Peer, headers: &http::HeaderMap) -> Result<(), Error> {
    let open = match app.metrics_access {
        MetricsAccess::Open => true,
        // A proxy on this machine passes on the requests of others.
        MetricsAccess::Loopback => is_local(peer.address()) && forwarding_header(headers).is_none(),
        MetricsAccess::Credential => false,
    };
    if open {
        return Ok(());
    }
    may_read_metrics(&app.identity.authenticate(peer, headers).await?.caller)
}

fn refused(error: &Error) -> Response<ResponseBody> {
    let status = match error.kind() {
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = text(status, format!("{}\n", error.message()));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Why the server should get no calls now. What is wrong with the store is in the log, not here.
fn not_ready(app: &App) -> Option<&'static str> {
    if app.stopping.is_cancelled() {
        return Some("shutting down");
    }
    app.engine.poisoned().map(|_| "a write to disk failed and writes are refused; restart the server")
}
