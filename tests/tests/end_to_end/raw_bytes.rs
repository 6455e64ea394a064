//! Bytes that no client library sends.

use std::time::Duration;

use kalamdb_tests::{
    client::{Client, expect_failure},
    server::shared_url,
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Code;

use crate::support::client_with_rows;

const EXECUTE: &str = "/kalamdb.v1.QueryService/Execute";

#[tokio::test]
async fn garbage_protobuf_and_invalid_utf8() {
    let client = client_with_rows().await;
    let garbage: [&[u8]; 7] = [
        // Field 1 (sql) with a length beyond the message.
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, b'x'],
        // Field 1 as text that is not UTF-8.
        &[0x0a, 0x04, b'a', 0xff, 0xfe, b'b'],
        // A key of ten continuation bytes.
        &[0xff; 11],
        // Field 1 as a number.
        &[0x08, 0x01],
        // Wire type 7 does not exist.
        &[0x0f],
        // A group that does not end.
        &[0x0b, 0x0b, 0x0b],
        // Field number 0.
        &[0x02, 0x00],
    ];
    for bytes in garbage {
        let failure = client.raw(EXECUTE, bytes.to_vec()).await.expect_err("garbage");
        expect_failure(&format!("{bytes:02x?}"), failure, "INVALID_REQUEST", Code::InvalidArgument);
    }
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5");
}

#[tokio::test]
async fn damaged_requests_never_break_the_server() {
    let client = client_with_rows().await;
    let good = client.execute_request(
        "SELECT * FROM t WHERE id = $1 AND name = 'x'",
        kalamdb_tests::client::Options {
            parameters: vec![
                kalamdb_tests::values::list([kalamdb_tests::values::int(-1)]),
                kalamdb_tests::values::text("é"),
            ],
            ..Default::default()
        },
    );
    let good = good.encode_to_vec();
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..2_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, rng.random()),
            }
        }
        if let Err(failure) = client.raw(EXECUTE, bytes.clone()).await {
            assert!(
                ![Code::Internal, Code::Unknown, Code::Unavailable].contains(&failure.code),
                "{bytes:02x?}\n{failure:#?}"
            );
        }
    }
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5");
}

#[tokio::test]
async fn a_method_that_does_not_exist() {
    let client = client_with_rows().await;
    for path in ["/kalamdb.v1.QueryService/Exekute", "/kalamdb.v1.NoService/Execute", "/x"] {
        let failure = client.raw(path, vec![]).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.code), ("NOT_SUPPORTED", Code::Unimplemented), "{path}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_protocol_at_all() {
    let address = shared_url().trim_start_matches("http://");
    let mut rng = StdRng::seed_from_u64(11);
    for round in 0..50 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut bytes: Vec<u8> = match round % 5 {
            0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            1 => b"GET /metrics HTTP/9.9\r\n\r\n".to_vec(),
            2 => b"POST /kalamdb.v1.QueryService/Execute HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n"
                .to_vec(),
            3 => vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00],
            _ => Vec::new(),
        };
        bytes.extend((0..rng.random_range(0..2_000)).map(|_| rng.random::<u8>()));
        // The server may close before it has read everything.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
        let ended = tokio::time::timeout(Duration::from_secs(30), reading).await;
        assert!(ended.is_ok(), "round {round}: the server closes a connection that makes no sense");
    }
    assert_eq!(Client::connect(shared_url()).await.scalar("SELECT 1").await, "1");
}
