//! Rows in bulk, as Arrow record batches over Arrow Flight SQL: with the connection, identity and errors of the client.

mod parameters;
#[cfg(feature = "parquet")]
mod parquet_file;
mod read;
mod rows;
mod target;
mod write;

use arrow_flight::error::FlightError;
use tonic::{Request, metadata::AsciiMetadataValue};

#[cfg(feature = "parquet")]
pub use parquet_file::ParquetFile;
pub use read::BulkRows;
pub use target::BulkTarget;

use crate::{client::Client, error::Error};

/// The header that names the namespace of unqualified table names.
const NAMESPACE_HEADER: &str = "x-kalamdb-namespace";

/// What calls of Flight carry beside what all calls do.
#[derive(Clone)]
struct Headers {
    namespace: Option<AsciiMetadataValue>,
}

impl Headers {
    fn of(client: &Client) -> Headers {
        let namespace = Some(client.namespace()).filter(|name| !name.is_empty());
        // A namespace has letters and digits; of another name the statement says that there is none.
        Headers { namespace: namespace.and_then(|name| AsciiMetadataValue::try_from(name).ok()) }
    }

    fn on<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(namespace) = &self.namespace {
            request.metadata_mut().insert(NAMESPACE_HEADER, namespace.clone());
        }
        request
    }
}

/// An error of Flight as one of ours. Those of the server come as statuses.
fn from_flight(error: FlightError, endpoint: &str) -> Error {
    match error {
        FlightError::Tonic(status) => Error::from_status(*status, endpoint, None),
        other => Error::protocol(format!("the Arrow data cannot be read: {other}")),
    }
}
