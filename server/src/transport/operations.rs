//! What operators and load balancers ask by plain GET.

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    app::{App, text},
    body::ResponseBody,
};

/// Answers a GET of `path`.
pub(super) fn answer(app: &App, path: &str) -> Response<ResponseBody> {
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match not_ready(app) {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        "/metrics" => {
            let mut response = text(StatusCode::OK, app.metrics.render());
            let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "Nothing here. This is KalamDB: gRPC, gRPC-web, and POST of JSON to /kalamdb.v1.QueryService/Execute.\n",
        ),
    }
}

/// Why the server should get no calls now. What is wrong with the store is in the log, not here.
fn not_ready(app: &App) -> Option<&'static str> {
    if app.stopping.is_cancelled() {
        return Some("shutting down");
    }
    app.engine.poisoned().map(|_| "a write to disk failed and writes are refused; restart the server")
}
