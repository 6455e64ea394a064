//! Arrow Flight and Flight SQL: bulk reads and writes for any client of Arrow.
//!
//! ```text
//! GetFlightInfo ─▶ command ─▶ statement: described, sealed in a ticket      DoGet ─▶ ticket opened ─▶ engine ─▶ stream
//!                         └─▶ listing: catalogs, tables, keys, …                └─▶ listing
//! DoPut ─▶ put: rows ─▶ update, parameters of a prepared statement, or ingest
//! DoAction ─▶ prepared statements, cancellation, session options
//! ```
//!
//! The server keeps nothing of statements between calls: tickets and prepared handles hold them, sealed (see [`seal`]).
//! All that runs is the engine's, as the caller of the call at hand. `FlightService` is implemented as it is, and not by
//! arrow-flight's `FlightSqlService`: that one answers errors without reasons, and has no `GetSchema` nor `PollFlightInfo`.

mod actions;
mod command;
mod handshake;
mod info;
mod ingest;
mod listing;
mod parameters;
mod prepared;
mod put;
mod running;
mod schema;
mod seal;
mod service;
mod sessions;
mod sql_info;
mod statement;
mod stream;
mod update;
mod xdbc;

use std::{sync::Arc, time::Duration};

use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use kalamdb_engine::{Engine, Env, Error, Session};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use self::{running::Tickets, seal::Sealer, sessions::Sessions};
use crate::{call::CallContext, config::Config, errors, identity::Identity, services::shutting_down};

/// The name of the service.
pub(crate) const SERVICE_NAME: &str = "arrow.flight.protocol.FlightService";

/// Messages of the handshake, which anybody may send, are no larger.
pub(crate) const MAX_HANDSHAKE_BYTES: usize = 16 * 1024;

/// What a request may have beside its statement: columns of the FlightInfo that it brings back, names, options.
const MAX_BESIDE_BYTES: usize = 4 * 1024 * 1024;

/// The most that a request without rows has. A FlightInfo that is brought back has its statement twice: in the
/// descriptor, and sealed in the ticket.
pub(crate) fn max_request_bytes(config: &Config) -> usize {
    let statement = config.flight.max_handle_bytes.max(config.limits.max_statement_bytes);
    let request = statement.saturating_mul(2).saturating_add(MAX_BESIDE_BYTES);
    request.min(config.limits.max_request_bytes)
}

/// Answers the calls of Flight.
pub(crate) struct FlightApi {
    engine: Arc<Engine>,
    identity: Arc<Identity>,
    sealer: Sealer,
    tickets: Arc<Tickets>,
    sessions: Sessions,
    sql_info: SqlInfoData,
    xdbc_types: XdbcTypeInfoData,
    max_message_bytes: usize,
    session_lifetime: Duration,
    /// Ends calls that outlive the server's grace.
    stopping: CancellationToken,
}

/// What a [`FlightApi`] is made of.
pub(crate) struct FlightParts {
    pub(crate) engine: Arc<Engine>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) stopping: CancellationToken,
}

/// A call, and what its client's session says.
struct Call {
    context: CallContext,
    /// Of unqualified names.
    namespace: Option<String>,
    /// The options of the session for ingests.
    ingest_options: Vec<(String, String)>,
    /// The cookie of the session, if the client sends one.
    cookie: Option<String>,
}

impl FlightApi {
    /// # Errors
    /// INTERNAL.
    pub(crate) fn new(config: &Config, parts: FlightParts) -> Result<Self, Error> {
        let FlightParts { engine, identity, env, stopping } = parts;
        let flight = &config.flight;
        let ticket_lifetime = Duration::from_secs(flight.ticket_lifetime_s);
        let session_lifetime = Duration::from_secs(flight.session_lifetime_s);
        Ok(Self {
            engine,
            identity,
            sealer: Sealer::new(ticket_lifetime, flight.max_handle_bytes, Arc::clone(&env))?,
            tickets: Tickets::new(ticket_lifetime),
            sessions: Sessions::new(flight.max_sessions, session_lifetime, env),
            sql_info: sql_info::sql_info(config)?,
            xdbc_types: xdbc::types()?,
            max_message_bytes: flight.max_message_bytes,
            session_lifetime,
            stopping,
        })
    }

    /// Takes a request apart. The transport puts a context into every request that it lets through.
    fn split<T>(&self, mut request: Request<T>) -> Result<(Call, T), Status> {
        let Some(context) = request.extensions_mut().remove::<CallContext>() else {
            return Err(errors::refusal(&Error::internal("a call reached its service without a context")));
        };
        let trace = context.trace;
        let call = self.sessions.call(context, request.metadata()).map_err(|error| errors::to_status(&error, trace))?;
        Ok((call, request.into_inner()))
    }

    /// Runs the work of a call, unless the server ends before, and makes its error a status.
    async fn run<T>(&self, call: &Call, work: impl Future<Output = Result<T, Error>>) -> Result<T, Status> {
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            () = self.stopping.cancelled() => Err(shutting_down()),
        };
        outcome.map_err(|error| errors::to_status(&error, call.context.trace))
    }

    fn session(&self, call: &Call) -> Session {
        self.engine.session(call.context.caller.clone())
    }
}
