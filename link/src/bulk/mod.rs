//! Rows in bulk, as Arrow record batches over Arrow Flight SQL: with the connection, identity and errors of the client.

mod parameters;
mod read;
mod target;
mod write;

use arrow_flight::error::FlightError;

pub use read::BulkRows;
pub use target::BulkTarget;

use crate::error::Error;

/// An error of Flight as one of ours. Those of the server come as statuses.
fn from_flight(error: FlightError, endpoint: &str) -> Error {
    match error {
        FlightError::Tonic(status) => Error::from_status(*status, endpoint, None),
        other => Error::protocol(format!("the Arrow data cannot be read: {other}")),
    }
}
