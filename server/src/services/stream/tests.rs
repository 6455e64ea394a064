use kalamdb_proto::v1::{Value, value::Kind};
use prost::Message;

use super::*;

fn row(bytes: usize) -> Row {
    Row { values: vec![Value { kind: Some(Kind::BytesValue(vec![7; bytes])) }] }
}

#[test]
fn rows_are_dealt_out_to_messages_of_bounded_size() {
    let sizes = [10, 400, 400, 400, 5_000, 1, 1, 900, 0];
    let messages = into_messages(sizes.map(row).into(), 1_000);
    let dealt: Vec<Row> = messages.iter().flat_map(|message| message.rows.clone()).collect();
    assert_eq!(dealt, sizes.map(row), "no row is lost, doubled or moved");
    for message in &messages {
        assert_eq!(message.row_count, message.rows.len() as u64);
        assert!(message.rows.len() == 1 || message.encoded_len() <= 1_010, "{}", message.encoded_len());
    }
    assert_eq!(messages.len(), 4);
    assert!(into_messages(Vec::new(), 1_000).is_empty());
}
