use arrow_flight::sql::{CommandGetCatalogs, CommandStatementQuery, ProstMessageExt};

use super::*;

fn path(parts: &[&str]) -> FlightDescriptor {
    FlightDescriptor::new_path(parts.iter().map(|part| (*part).to_owned()).collect())
}

#[test]
fn messages_of_flight_sql_are_told_from_plain_text() {
    let query = CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: None };
    for bytes in [query.as_any().encode_to_vec(), CommandGetCatalogs {}.as_any().encode_to_vec()] {
        assert!(matches!(Asked::of_bytes(&bytes.into()), Ok(Asked::Sql(_))));
    }
    for text in ["SELECT 1", "\nSELECT * FROM chat.messages WHERE body = 'type.googleapis.com/'", "\u{12}\u{1}x"] {
        assert_eq!(Asked::of_bytes(&Bytes::from(text)).unwrap(), Asked::Query(text.to_owned()), "{text:?}");
    }
}

#[test]
fn what_is_neither_is_refused() {
    for bytes in [&b""[..], b"  \n", b"\xff\xfe"] {
        let error = Asked::of_bytes(&Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidRequest, "{bytes:?}");
    }
    let unknown = Any { type_url: "type.googleapis.com/some.Other".to_owned(), value: Bytes::new() };
    let error = Asked::of_bytes(&unknown.encode_to_vec().into()).unwrap_err();
    assert_eq!(error.reason(), Reason::NotSupported);
    assert!(error.message().contains("Other"), "{error}");
    let broken = Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery".to_owned(),
        value: Bytes::from_static(b"\xff\xff"),
    };
    let error = Asked::of_bytes(&broken.encode_to_vec().into()).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
}

#[test]
fn a_path_names_a_table() {
    for (parts, sql) in [
        (&["chat", "messages"][..], r#"SELECT * FROM "chat"."messages""#),
        (&["kalamdb", "chat", "messages"][..], r#"SELECT * FROM "chat"."messages""#),
        (&["messages"][..], r#"SELECT * FROM "messages""#),
        (&["chat", "x\"; DROP"][..], r#"SELECT * FROM "chat"."x""; DROP""#),
    ] {
        assert_eq!(Asked::of_descriptor(&path(parts)).unwrap(), Asked::Query(sql.to_owned()));
    }
    for parts in [&[][..], &["other", "chat", "messages"][..], &["kalamdb", "a", "b", "c"][..]] {
        assert!(Asked::of_descriptor(&path(parts)).is_err(), "{parts:?}");
    }
    assert!(Asked::of_descriptor(&FlightDescriptor::default()).is_err());
}

#[test]
fn transactions_are_refused() {
    assert!(no_transaction(None).is_ok());
    assert!(no_transaction(Some(&Bytes::new())).is_ok());
    assert_eq!(no_transaction(Some(&Bytes::from_static(b"1"))).unwrap_err().reason(), Reason::NotSupported);
}
