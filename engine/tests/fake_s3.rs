//! A server that speaks as much of S3's protocol as storages need, in memory, for one bucket and one key.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// The server; its thread ends with the process.
pub(crate) struct FakeS3 {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The one access key that is allowed.
    key_id: String,
    objects: BTreeMap<String, Vec<u8>>,
    /// Uploads in parts that were neither completed nor aborted: the object's key and its parts, by number.
    uploads: BTreeMap<String, (String, BTreeMap<u32, Vec<u8>>)>,
    begun_uploads: u32,
}

struct Request {
    method: String,
    /// Without the query.
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl FakeS3 {
    /// With an empty bucket `bucket` that `key_id` may use.
    pub(crate) fn start(key_id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            key_id: key_id.to_owned(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            begun_uploads: 0,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || stream.map(|stream| serve(&stream, &state)));
            }
        });
        Self { port, state }
    }

    /// The CREDENTIALS of a storage in it.
    pub(crate) fn credentials(&self, key_id: &str, secret: &str) -> String {
        format!(
            r#"{{"endpoint": "http://127.0.0.1:{}", "allow_http": true, "access_key_id": "{key_id}", "secret_access_key": "{secret}"}}"#,
            self.port
        )
    }

    /// Lets another key in, and the one before no more.
    pub(crate) fn allow(&self, key_id: &str) {
        self.state.lock().unwrap().key_id = key_id.to_owned();
    }

    /// An object's bytes.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().objects.get(key).cloned()
    }

    /// How many uploads in parts were begun, and how many of them are neither completed nor aborted.
    pub(crate) fn uploads(&self) -> (u32, usize) {
        let state = self.state.lock().unwrap();
        (state.begun_uploads, state.uploads.len())
    }

    /// The keys of its objects.
    pub(crate) fn objects(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = read(&mut reader) {
        let mut response = answer(&request, &mut state.lock().unwrap());
        let length = response.body.len();
        if request.method == "HEAD" {
            response.body.clear();
        }
        let headers: String = response.headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("HTTP/1.1 {}\r\n{headers}content-length: {length}\r\n\r\n", response.status);
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&response.body)).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (decoded(path), decoded(query));
    let mut headers = BTreeMap::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, query, headers, body })
}

fn answer(request: &Request, state: &mut State) -> Response {
    let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
    if !header("authorization").contains(&format!("Credential={}/", state.key_id)) {
        return failed("403 Forbidden", "InvalidAccessKeyId");
    }
    let path = request.path.strip_prefix('/').unwrap_or(&request.path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    if bucket != "bucket" {
        return failed("404 Not Found", "NoSuchBucket");
    }
    if !key.is_empty()
        && let Some(response) = upload(request, key, state)
    {
        return response;
    }
    match (request.method.as_str(), key) {
        ("GET", "") => list(&request.query, state),
        ("POST", "") => delete(&String::from_utf8_lossy(&request.body), state),
        ("PUT", key) if header("if-none-match") == "*" && state.objects.contains_key(key) => {
            failed("412 Precondition Failed", "PreconditionFailed")
        }
        ("PUT", key) => {
            state.objects.insert(key.to_owned(), request.body.clone());
            ok("200 OK", Vec::new())
        }
        ("GET" | "HEAD", key) => match state.objects.get(key) {
            None => failed("404 Not Found", "NoSuchKey"),
            Some(object) => get(object, header("range")),
        },
        _ => failed("501 Not Implemented", "NotImplemented"),
    }
}

/// What concerns uploads in parts; nothing if the request does not.
fn upload(request: &Request, key: &str, state: &mut State) -> Option<Response> {
    let asked = |name: &str| {
        request.query.split('&').find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found == name).then(|| value.to_owned())
        })
    };
    if request.method == "POST" && asked("uploads").is_some() {
        state.begun_uploads += 1;
        let id = format!("upload-{}", state.begun_uploads);
        state.uploads.insert(id.clone(), (key.to_owned(), BTreeMap::new()));
        let answer = format!(
            "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        );
        return Some(ok("200 OK", answer.into_bytes()));
    }
    let id = asked("uploadId")?;
    Some(match request.method.as_str() {
        "PUT" => match (state.uploads.get_mut(&id), asked("partNumber").and_then(|number| number.parse().ok())) {
            (Some((_, parts)), Some(number)) => {
                parts.insert(number, request.body.clone());
                ok("200 OK", Vec::new())
            }
            _ => failed("404 Not Found", "NoSuchUpload"),
        },
        "POST" => match state.uploads.remove(&id) {
            Some((key, parts)) => {
                state.objects.insert(key, parts.into_values().flatten().collect());
                let answer = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
                ok("200 OK", answer.as_bytes().to_vec())
            }
            None => failed("404 Not Found", "NoSuchUpload"),
        },
        "DELETE" => {
            state.uploads.remove(&id);
            ok("204 No Content", Vec::new())
        }
        _ => return None,
    })
}

fn get(object: &[u8], range: &str) -> Response {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return ok("200 OK", object.to_vec());
    };
    let length = object.len();
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, to.min(length - 1)),
        (Ok(from), Err(_)) => (from, length - 1),
        (Err(_), Ok(last)) => (length.saturating_sub(last), length - 1),
        (Err(_), Err(_)) => (0, length - 1),
    };
    let mut response = ok("206 Partial Content", object[from..=to].to_vec());
    response.headers.push(format!("content-range: bytes {from}-{to}/{length}"));
    response
}

fn list(query: &str, state: &State) -> Response {
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
    let (prefix, delimiter) = (asked("prefix="), asked("delimiter="));
    // Keys that have the delimiter behind the prefix are told as one common prefix.
    let folder = |key: &str| {
        let behind = key.strip_prefix(prefix).filter(|_| !delimiter.is_empty())?;
        behind.find(delimiter).map(|at| key[..prefix.len() + at + delimiter.len()].to_owned())
    };
    let below = || state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
    let folders: std::collections::BTreeSet<String> = below().filter_map(|(key, _)| folder(key)).collect();
    let folders: String =
        folders.iter().map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")).collect();
    let found = below().filter(|(key, _)| folder(key).is_none()).map(|(key, object)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>x</ETag><Size>{}</Size>\
             </Contents>",
            object.len()
        )
    });
    let found: String = found.collect();
    let answer = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{found}{folders}</ListBucketResult>");
    ok("200 OK", answer.into_bytes())
}

fn delete(body: &str, state: &mut State) -> Response {
    let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(key, _)| key);
    let deleted: String = keys
        .map(|key| {
            state.objects.remove(key);
            format!("<Deleted><Key>{key}</Key></Deleted>")
        })
        .collect();
    ok("200 OK", format!("<DeleteResult>{deleted}</DeleteResult>").into_bytes())
}

fn ok(status: &'static str, body: Vec<u8>) -> Response {
    let headers = ["etag: \"x\"", "last-modified: Fri, 02 Jan 2026 03:04:05 GMT"].map(str::to_owned).into();
    Response { status, headers, body }
}

fn failed(status: &'static str, code: &str) -> Response {
    Response { status, headers: Vec::new(), body: format!("<Error><Code>{code}</Code></Error>").into_bytes() }
}

/// `%21` is `!`.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
