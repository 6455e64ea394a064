//! Accepts connections, and ends them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    app::App,
    body::ResponseBody,
    liveness::{Acknowledged, Peer},
    tls::Tls,
};
use crate::config::Config;

/// How long a client may take to send the headers of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Enough for the user id of 256 characters, percent encoding and tracing headers.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// How long connections without a call may take to go once the server stops: enough for the farewell to arrive.
const IDLE_GRACE: Duration = Duration::from_millis(200);
/// How long live queries, which end when the server begins to stop, may take to tell their clients so.
const FAREWELL_GRACE: Duration = Duration::from_secs(2);

/// How connections are served.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    max_connections: usize,
    max_concurrent_streams: u32,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    stream_window_bytes: u32,
    connection_window_bytes: u32,
    grace: Duration,
}

impl From<&Config> for ConnectionSettings {
    fn from(config: &Config) -> Self {
        let server = &config.server;
        Self {
            max_connections: server.max_connections,
            max_concurrent_streams: server.max_concurrent_streams,
            keepalive_interval: Duration::from_millis(server.keepalive_interval_ms),
            keepalive_timeout: Duration::from_millis(server.keepalive_timeout_ms),
            stream_window_bytes: server.stream_window_kb.saturating_mul(1_024).min(MAX_WINDOW_BYTES),
            connection_window_bytes: server.connection_window_kb.saturating_mul(1_024).min(MAX_WINDOW_BYTES),
            grace: Duration::from_millis(server.shutdown_grace_ms),
        }
    }
}

/// The largest window that HTTP/2 knows.
const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// A bound port.
pub(crate) struct Listener {
    listener: TcpListener,
    settings: ConnectionSettings,
}

impl Listener {
    /// Binds the address. Clients can connect from now on, and wait until the listener is run.
    pub(crate) async fn bind(address: SocketAddr, settings: ConnectionSettings) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, settings })
    }

    /// The address, with the port that the system chose if it was asked to.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections, encrypted ones if there is a `tls`, until `stopping`, then ends them: no new calls; calls under way have the configured grace,
    /// and are then cancelled by `calls_end`; at last every connection is dropped.
    pub(crate) async fn run(
        self,
        app: Arc<App>,
        tls: Option<Arc<Tls>>,
        stopping: CancellationToken,
        calls_end: CancellationToken,
    ) {
        let Self { listener, settings } = self;
        let counts = ConnectionCounts::new();
        let server = Arc::new(http_server(&settings));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                Some(_) = connections.join_next() => counts.open.set(connections.len() as f64),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() < settings.max_connections => {
                        let share = match app.shares.connection(peer.ip()) {
                            Ok(share) => share,
                            Err(error) => {
                                counts.refused.increment(1);
                                tracing::debug!(%peer, "connection refused: {}", error.message());
                                continue;
                            }
                        };
                        counts.accepted.increment(1);
                        let serving = accepted_connection(stream, peer, tls.clone(), Arc::clone(&app), Arc::clone(&server), stopping.clone());
                        connections.spawn(async move {
                            let _share = share;
                            serving.await;
                        });
                        counts.open.set(connections.len() as f64);
                    }
                    Ok((_, peer)) => {
                        counts.refused.increment(1);
                        tracing::warn!(%peer, "connection refused: server.max_connections are open");
                    }
                    Err(error) => {
                        // Such as too many open files: accepting again at once would only burn the processor.
                        tracing::warn!("cannot accept a connection: {error}");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(listener);
        end(connections, &app, settings.grace, &calls_end).await;
    }
}

/// Waits for connections to end, no longer than they need and never longer than the grace.
async fn end(mut connections: JoinSet<()>, app: &App, grace: Duration, calls_end: &CancellationToken) {
    // Calls that outlive the grace get a status that says why; that takes a moment too.
    let now = Instant::now();
    wait(&mut connections, app, now + grace, now + grace.min(FAREWELL_GRACE)).await;
    calls_end.cancel();
    let soon = Instant::now() + IDLE_GRACE * 2;
    wait(&mut connections, app, soon, soon).await;
    if !connections.is_empty() {
        tracing::info!(connections = connections.len(), "dropping the remaining connections");
    }
    connections.shutdown().await;
}

/// Waits until all connections ended, or none has had a call for a moment, or the deadline.
///
/// A connection without a call ends by itself only when its client reads the farewell, which a client that is gone
/// or asleep never does.
///
/// Live queries count as calls until `farewell` only: one whose client does not read never ends.
async fn wait(connections: &mut JoinSet<()>, app: &App, deadline: Instant, farewell: Instant) {
    let mut idle_since = None;
    while !connections.is_empty() && Instant::now() < deadline {
        let next_look = (Instant::now() + Duration::from_millis(20)).min(deadline);
        if timeout_at(next_look, connections.join_next()).await.is_ok() {
            continue;
        }
        let has_live_queries = app.subscriptions_under_way() > 0 && Instant::now() < farewell;
        if app.calls_under_way() > 0 || has_live_queries {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE_GRACE {
            return;
        }
    }
}

async fn accepted_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    app: Arc<App>,
    server: Arc<auto::Builder<TokioExecutor>>,
    stopping: CancellationToken,
) {
    // Answers are small and must not wait for more bytes; a failure only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "TCP_NODELAY: {error}");
    }
    let client = Peer::new(peer);
    let stream = Acknowledged::new(stream, &client);
    let Some(tls) = tls else { return serve(stream, client, app, server, stopping).await };
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = stopping.cancelled() => return,
    };
    match accepted {
        Ok((stream, name)) => serve(stream, client.with_certificate(name), app, server, stopping).await,
        // Whoever does not speak TLS, or has no certificate that is accepted, gets no answer but TLS's own.
        Err(error) => tracing::debug!(%peer, "no TLS connection: {error}"),
    }
}

async fn serve<S>(
    stream: S,
    client: Peer,
    app: Arc<App>,
    server: Arc<auto::Builder<TokioExecutor>>,
    stopping: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = client.address();
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, client) = (Arc::clone(&app), client.clone());
        // Boxed: what answers a call is large, and would stay in memory beside its body for as long as that is read.
        Box::pin(
            async move { Ok::<Response<ResponseBody>, std::convert::Infallible>(app.answer(client, request).await) },
        )
    });
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "connection ended: {error}");
    }
}

fn http_server(settings: &ConnectionSettings) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(true);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_stream_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .max_header_list_size(MAX_HEADER_BYTES);
    server
}

struct ConnectionCounts {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
}

impl ConnectionCounts {
    fn new() -> Self {
        Self {
            open: gauge!("kalamdb_connections"),
            accepted: counter!("kalamdb_connections_accepted_total"),
            refused: counter!("kalamdb_connections_refused_total"),
        }
    }
}
