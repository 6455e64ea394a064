//! Messages that say more than they have, and values that are not what they are said to be.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Decimal128Array, Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Schema},
};
use arrow_flight::{FlightData, encode::FlightDataEncoderBuilder, sql::CommandStatementIngest};
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use kalamdb_tests::client::Client;
use tonic::Code;

use super::{descriptor, fails, flight, put};
use crate::support;

const ELEMENTS: i32 = 12_345;

fn into(client: &Client, table: &str) -> CommandStatementIngest {
    CommandStatementIngest {
        table: table.to_owned(),
        schema: Some(client.namespace_name().to_owned()),
        ..CommandStatementIngest::default()
    }
}

/// The messages of an ingest: a schema, and a batch.
async fn messages(command: &CommandStatementIngest, columns: Vec<(&str, ArrayRef)>) -> Vec<FlightData> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor(command)));
    encoder.build(stream::iter([Ok(batch)])).try_collect().await.unwrap()
}

/// The bytes, with another number for [`ELEMENTS`].
fn counted<const N: usize>(bytes: &Bytes, elements: [u8; N], others: [u8; N]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&elements)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + N].copy_from_slice(&others);
    }
    bytes.into()
}

#[tokio::test]
async fn messages_that_say_more_than_they_have_are_refused() {
    let client = support::client().await;
    client.run("CREATE USER TABLE own (id BIGINT PRIMARY KEY, tags TEXT[])").await;
    let mut flight = flight(&client);
    let command = into(&client, "own");
    let id = || -> ArrayRef { Arc::new(Int64Array::from(vec![1])) };
    // Two thousand million NULLs, in a few hundred bytes.
    let item = Arc::new(Field::new("item", DataType::Null, true));
    let nulls = Arc::new(NullArray::new(ELEMENTS as usize));
    let tags = ListArray::new(item, OffsetBuffer::from_lengths([ELEMENTS as usize]), nulls, None);
    let mut large = messages(&command, vec![("id", id()), ("tags", Arc::new(tags))]).await;
    let batch = large.last_mut().unwrap();
    batch.data_header =
        counted(&batch.data_header, i64::from(ELEMENTS).to_le_bytes(), i64::from(i32::MAX).to_le_bytes());
    batch.data_body = counted(&batch.data_body, ELEMENTS.to_le_bytes(), i32::MAX.to_le_bytes());
    let refused = fails(put(&mut flight, large).await.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    assert!(refused.message.contains("2147483647 values"), "{}", refused.message);
    // Less than its buffers.
    let mut short = messages(&command, vec![("id", id())]).await;
    short.last_mut().unwrap().data_body.clear();
    fails(put(&mut flight, short).await.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    // A batch of another schema, with buffers that no column has.
    let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a text that is longer than a view"]));
    let mut mixed = messages(&command, vec![("id", id())]).await;
    mixed.truncate(1);
    mixed.extend(messages(&command, vec![("id", views)]).await.into_iter().skip(1));
    fails(put(&mut flight, mixed).await.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    // And nobody else notices.
    assert_eq!(client.scalar("SELECT count(*) FROM own").await, "0");
}

#[tokio::test]
async fn values_are_what_they_are_said_to_be() {
    let client = support::client().await;
    client.run("CREATE USER TABLE own (id BIGINT PRIMARY KEY, u UUID, doc JSON, price DECIMAL(10, 2))").await;
    let mut flight = flight(&client);
    let row = |name: &str, values: ArrayRef, mark: &str| {
        let metadata = [("kalamdb.type".to_owned(), mark.to_owned())].into();
        let field = Field::new(name, values.data_type().clone(), true).with_metadata(metadata);
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), field]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![1])), values]).unwrap()
    };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let price = Decimal128Array::from(vec![10_i128.pow(30)]).with_precision_and_scale(10, 2).unwrap();
    for (name, values, mark) in [
        ("doc", text("not json"), "json"),
        ("u", text("ABC"), "uuid"),
        ("price", Arc::new(price) as ArrayRef, "decimal"),
    ] {
        let ingested = flight.execute_ingest(into(&client, "own"), stream::iter([Ok(row(name, values, mark))])).await;
        let refused = fails(ingested, "INVALID_VALUE", Code::InvalidArgument);
        assert_eq!(refused.meta("column"), name);
    }
    let upper = row("u", text("67E55044-10B1-426F-9247-BB680E5FE0C8"), "uuid");
    assert_eq!(flight.execute_ingest(into(&client, "own"), stream::iter([Ok(upper)])).await.unwrap(), 1);
    assert_eq!(client.rows("SELECT u, doc FROM own").await, ["67e55044-10b1-426f-9247-bb680e5fe0c8 | NULL"]);
}
