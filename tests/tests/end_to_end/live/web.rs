//! Live queries from a browser: gRPC-web over HTTP/1.1, read as it comes.

use std::time::{Duration, Instant};

use kalamdb_proto::v1::{LiveQuery, SubscribeResponse, subscribe_response::Event};
use kalamdb_tests::{
    client::Client,
    http::{grpc_frame, grpc_frames},
    server::shared_url,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{CLEANUP_LIMIT, LIMIT, all_gone, live_count, query, shown, subscribe_request};
use crate::support::client_with_rows;

const SUBSCRIBE: &str = "/kalamdb.v1.SubscribeService/Subscribe";

/// Flags and payload.
type WebFrame = (u8, Vec<u8>);

/// A call whose answer is read as far as it has come.
struct WebCall {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl WebCall {
    async fn open(client: &Client, queries: Vec<LiveQuery>) -> Self {
        let address = shared_url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let message = grpc_frame(&subscribe_request(client, queries).encode_to_vec());
        let head = format!(
            "POST {SUBSCRIBE} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
             x-user-id: alice\r\ncontent-length: {}\r\n\r\n",
            message.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&message).await.unwrap();
        Self { stream, answer: Vec::new() }
    }

    /// The status line and headers, and the frames that are complete.
    fn parts(&self) -> Option<(String, Vec<WebFrame>)> {
        let split = self.answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.answer[..split]).to_lowercase();
        let body = &self.answer[split + 4..];
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_vec() };
        Some((head, grpc_frames(&body)))
    }

    /// Reads until the frames are enough.
    async fn read_until(&mut self, what: &str, enough: impl Fn(&[WebFrame]) -> bool) -> Vec<WebFrame> {
        let began = Instant::now();
        loop {
            if let Some((head, frames)) = self.parts() {
                assert!(head.starts_with("http/1.1 200"), "{head}");
                assert!(head.contains("application/grpc-web"), "{head}");
                if enough(&frames) {
                    return frames;
                }
            }
            let mut buffer = [0; 16_384];
            let left = LIMIT.checked_sub(began.elapsed()).unwrap_or_else(|| panic!("{what}: not in time"));
            let read = tokio::time::timeout(left, self.stream.read(&mut buffer)).await.expect(what).unwrap();
            assert!(read > 0, "{what}: the answer has ended: {}", String::from_utf8_lossy(&self.answer));
            self.answer.extend_from_slice(&buffer[..read]);
        }
    }

    /// The same for events.
    async fn events_until(&mut self, what: &str, enough: impl Fn(&Event) -> bool) -> Vec<Event> {
        let events = |frames: &[WebFrame]| -> Vec<Event> {
            let messages = frames.iter().filter(|(flags, _)| flags & 0x80 == 0);
            messages.filter_map(|(_, bytes)| SubscribeResponse::decode(bytes.as_slice()).unwrap().event).collect()
        };
        events(&self.read_until(what, |frames| events(frames).iter().any(&enough)).await)
    }
}

/// As much of a chunked body as is there.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let chunk = &rest[end + 2..];
        body.extend_from_slice(&chunk[..size.min(chunk.len())]);
        let Some(after) = chunk.get(size + 2..) else { break };
        rest = after;
    }
    body
}

#[tokio::test]
async fn events_arrive_as_they_happen() {
    let client = client_with_rows().await;
    let mut call = WebCall::open(&client, vec![query("SUBSCRIBE SELECT id, n FROM t WHERE n > 40")]).await;
    let begun = call.events_until("ready", |event| matches!(event, Event::Ready(_))).await;
    assert!(matches!(begun[0], Event::Started(_)));
    client.run("INSERT INTO t VALUES (6, 'six', 60)").await;
    let began = Instant::now();
    let events = call.events_until("the change", |event| matches!(event, Event::Changes(_))).await;
    assert!(began.elapsed() < Duration::from_secs(2), "held back for {:?}", began.elapsed());
    let Some(Event::Changes(changes)) = events.last() else { panic!("{events:?}") };
    assert_eq!(shown(&changes.commits[0]), ["+ 6 | 60"]);
    // Also when nothing happens.
    call.events_until("progress", |event| matches!(event, Event::Progress(_))).await;

    // The end is in the trailers.
    let Some(Event::Started(started)) = events.into_iter().next() else { panic!("started comes first") };
    client.run(&format!("KILL LIVE QUERY {}", started.live_id)).await;
    let frames = call.read_until("the trailers", |frames| frames.iter().any(|(flags, _)| flags & 0x80 != 0)).await;
    let trailers = String::from_utf8_lossy(&frames.last().unwrap().1).replace(' ', "");
    assert!(trailers.contains("grpc-status:1"), "{trailers}");
    all_gone(&client, "a killed query of a browser", CLEANUP_LIMIT).await;
}

#[tokio::test]
async fn a_closed_page_leaves_nothing() {
    let client = client_with_rows().await;
    let mut calls = Vec::new();
    for _ in 0..6 {
        let mut call = WebCall::open(&client, vec![query("SUBSCRIBE TO t"); 3]).await;
        call.events_until("ready", |event| matches!(event, Event::Ready(_))).await;
        calls.push(call);
    }
    assert_eq!(live_count(&client).await, 18);
    drop(calls);
    all_gone(&client, "closed pages", CLEANUP_LIMIT).await;
}
