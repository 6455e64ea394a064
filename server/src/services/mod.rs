//! The RPCs.

pub(crate) mod admin;
pub(crate) mod auth;
mod backup;
pub(crate) mod export;
pub(crate) mod flush;
mod page;
pub(crate) mod query;
mod stream;
pub(crate) mod subscribe;
mod users;

use kalamdb_engine::{Error, Reason};
use tonic::{Request, Status};

use crate::{call::CallContext, errors};

/// Takes a request apart. The transport puts a context into every request that it lets through.
fn split<T>(mut request: Request<T>) -> Result<(CallContext, T), Status> {
    let context = request.extensions_mut().remove::<CallContext>();
    match context {
        Some(context) => Ok((context, request.into_inner())),
        None => Err(errors::refusal(&Error::internal("a call reached its service without a context"))),
    }
}

/// The error of calls that the server ends because it stops.
pub(crate) fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again, or to another node.")
}
