//! Bulk ingest: Arrow record batches into tables, with the guarantees of INSERT.
//!
//! | module | what it shows |
//! | --- | --- |
//! | `columns` | which column of the data goes where, and what is refused about them |
//! | `keys` | keys that are NULL, there twice, or there already, hot and cold |
//! | `owners` | rows of several users at once |
//! | `create` | tables that are made for their rows |
//! | `parts` | bounds, parts, and streams that fail |
//! | `rights` | who may ingest what |
//! | `together` | ingests beside other writers, flushes and live queries |

mod columns;
mod create;
mod keys;
mod owners;
mod parts;
mod rights;
mod together;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema, SchemaRef},
};
use futures::stream;
use kalamdb_engine::{Error, IngestOutcome, IngestTarget, Reason};

use crate::harness::Client;

/// Rows of these columns. A column is nullable, as those of most clients are.
fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn ints<V: Into<Option<i64>>>(values: impl IntoIterator<Item = V>) -> ArrayRef {
    Arc::new(values.into_iter().map(Into::into).collect::<Int64Array>())
}

fn texts<'a, V: Into<Option<&'a str>>>(values: impl IntoIterator<Item = V>) -> ArrayRef {
    Arc::new(values.into_iter().map(Into::into).collect::<StringArray>())
}

/// Rows with a key and a text.
fn notes(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let bodies: Vec<String> = ids.iter().map(|id| format!("note {id}")).collect();
    batch(vec![("id", ints(ids)), ("body", texts(bodies.iter().map(String::as_str)))])
}

/// Ingests batches, all of them there from the beginning.
async fn ingest(client: &Client, target: IngestTarget, batches: Vec<RecordBatch>) -> Result<IngestOutcome, Error> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    ingest_all(client, target, schema, batches.into_iter().map(Ok).collect()).await
}

async fn ingest_all(
    client: &Client,
    target: IngestTarget,
    schema: SchemaRef,
    batches: Vec<Result<RecordBatch, Error>>,
) -> Result<IngestOutcome, Error> {
    client.session.ingest(target, schema, stream::iter(batches)).await
}

/// Appends rows to a table of `app`, which must succeed.
async fn append(client: &Client, table: &str, rows: RecordBatch) -> IngestOutcome {
    ingest(client, IngestTarget::append("app", table), vec![rows]).await.unwrap()
}

/// Appends rows to a table of `app`, which must fail for this reason.
async fn refused(client: &Client, table: &str, reason: Reason, rows: RecordBatch) -> Error {
    let error = ingest(client, IngestTarget::append("app", table), vec![rows]).await.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    error
}
