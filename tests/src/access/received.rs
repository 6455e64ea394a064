//! Calls whose whole answer is kept as it came: messages, headers, trailers, status, details.

use std::time::Duration;

use bytes::Bytes;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::{HeaderName, uri::PathAndQuery},
    metadata::MetadataMap,
};

use crate::{
    client::{BytesCodec, Client, Failure},
    http,
};

/// How long a stream that says nothing is listened to.
const SILENCE: Duration = Duration::from_millis(300);
/// How long a stream is listened to at all.
const LONGEST: Duration = Duration::from_secs(3);

/// All that a caller received of one call.
#[derive(Debug, Clone)]
pub struct Received {
    /// How it ended; `Ok` too when it had not.
    pub code: Code,
    /// The stable reason of an error.
    pub reason: String,
    /// The messages.
    pub messages: Vec<Bytes>,
    /// Everything, also of the parts that a client does not look at.
    pub bytes: Vec<u8>,
}

impl Received {
    fn new() -> Self {
        Self { code: Code::Ok, reason: String::new(), messages: Vec::new(), bytes: Vec::new() }
    }

    fn add(&mut self, bytes: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(bytes.as_ref());
        self.bytes.push(b'\n');
    }

    fn add_metadata(&mut self, metadata: &MetadataMap) {
        for (name, value) in metadata.clone().into_headers().iter() {
            self.add(name.as_str());
            self.add(value.as_bytes());
        }
    }

    fn end(&mut self, status: Status) {
        self.add_metadata(status.metadata());
        self.add(status.message());
        self.add(status.details());
        let failure = Failure::from(status);
        self.add(format!("{failure:?}"));
        (self.code, self.reason) = (failure.code, failure.reason);
    }

    /// Whether a text is somewhere in it.
    pub fn contains(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Everything as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Makes a call of gRPC with these bytes as its message and `metadata` beside the client's own. A stream that does not
/// end is listened to until it has been silent for a moment.
pub async fn call(client: &Client, path: &str, message: impl Into<Bytes>, metadata: &[(&str, &str)]) -> Received {
    let mut received = Received::new();
    let mut grpc = Grpc::new(client.channel()).max_decoding_message_size(256 << 20);
    grpc.ready().await.expect("the channel is open");
    let mut request: Request<Bytes> = client.request(message.into());
    for (name, value) in metadata {
        // As it stands, in the names that gRPC has for bytes, too: what a caller writes there is its own affair.
        let name: HeaderName = name.parse().expect("a header's name");
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        headers.append(name, value.parse().expect("a header's value"));
        *request.metadata_mut() = MetadataMap::from_headers(headers);
    }
    let path: PathAndQuery = path.parse().expect("a path");
    let mut stream = match grpc.server_streaming(request, path, BytesCodec).await {
        Ok(response) => {
            received.add_metadata(response.metadata());
            response.into_inner()
        }
        Err(status) => {
            received.end(status);
            return received;
        }
    };
    let began = tokio::time::Instant::now();
    while began.elapsed() < LONGEST {
        match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(message))) => {
                received.add(&message);
                received.messages.push(message);
            }
            Ok(Ok(None)) => {
                if let Ok(Some(trailers)) = stream.trailers().await {
                    received.add_metadata(&trailers);
                }
                break;
            }
            Ok(Err(status)) => {
                received.end(status);
                break;
            }
            Err(_) => break,
        }
    }
    received
}

/// Makes a call as JSON over HTTP/1.1.
pub async fn connect_json(address: &str, path: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Received {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    post(address, path, &all, body.to_string().as_bytes()).await
}

/// Makes a unary call of gRPC-web over HTTP/1.1.
pub async fn grpc_web(address: &str, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Received {
    let mut all = vec![("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
    all.extend_from_slice(headers);
    post(address, path, &all, &http::grpc_frame(message)).await
}

async fn post(address: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Received {
    let mut received = Received::new();
    let waiting = tokio::time::timeout(LONGEST * 10, http::request(address, "POST", path, headers, body));
    match waiting.await.expect("an answer in time") {
        Ok(response) => {
            for (name, value) in &response.headers {
                received.add(format!("{name}: {value}"));
            }
            received.add(&response.body);
            let json = response.json();
            received.reason = json["details"][0]["debug"]["reason"].as_str().unwrap_or_default().to_owned();
            received.code = match response.status {
                200 => Code::Ok,
                401 => Code::Unauthenticated,
                403 => Code::PermissionDenied,
                _ => Code::Unknown,
            };
            received.messages.push(response.body.into());
        }
        Err(error) => received.add(error.to_string()),
    }
    received
}
