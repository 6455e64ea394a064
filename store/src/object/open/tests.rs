use std::io::{Read, Write};
use std::net::TcpListener;

use object_store::{Error, ObjectStoreExt};

use super::super::{Trouble, check_access};
use super::*;

fn definition(kind: StoreKind, uri: &str, credentials: &str) -> StoreDefinition {
    StoreDefinition::parse(kind, uri, Some(credentials)).unwrap()
}

fn opener() -> StoreOpener {
    let settings = StoreSettings { request_timeout: Duration::from_secs(5), max_retries: 0 };
    StoreOpener::new(FolderRoots::default(), settings)
}

/// Answers each request with the same bytes, and gives the first line and the headers of the first one.
fn service(answer: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 16 * 1024];
            let read = stream.read(&mut request).unwrap();
            let _ = sender.send(String::from_utf8_lossy(&request[..read]).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, receiver)
}

#[tokio::test]
async fn s3_asks_the_endpoint_for_the_bucket_and_signs() {
    let (port, requests) = service(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nlast-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\netag: \"x\"\r\n\r\nhello",
    );
    let credentials = format!(
        r#"{{"endpoint": "http://127.0.0.1:{port}", "allow_http": true, "access_key_id": "me", "secret_access_key": "hush",
            "session_token": "once", "region": "eu-central-1"}}"#
    );
    let store = opener().open(&definition(StoreKind::S3, "s3://bucket/some/where", &credentials));
    // The opener is gone: only what it opened keeps the network alive.
    let error = store.unwrap().get(&Path::from("a/b")).await.unwrap_err();
    assert_eq!(Trouble::of(&error), Trouble::Unreachable);

    let opener = opener();
    let store = opener.open(&definition(StoreKind::S3, "s3://bucket/some/where", &credentials)).unwrap();
    let got = store.get(&Path::from("a/b")).await.unwrap().bytes().await.unwrap();
    assert_eq!(got, "hello");
    let request = requests.recv().unwrap().to_lowercase();
    assert!(request.starts_with("get /bucket/some/where/a/b http/1.1"), "{request}");
    assert!(request.contains("credential=me/") && request.contains("eu-central-1/s3/aws4_request"), "{request}");
    assert!(request.contains("x-amz-security-token: once") && !request.contains("hush"), "{request}");
}

#[tokio::test]
async fn a_probe_tells_what_is_wrong_with_a_service() {
    for (answer, said) in [
        (
            "404 Not Found\r\ncontent-length: 26\r\n\r\n<Code>NoSuchBucket</Code> ",
            "bucket does not exist (it answered 404 NoSuchBucket)",
        ),
        (
            "403 Forbidden\r\ncontent-length: 32\r\n\r\n<Code>InvalidAccessKeyId</Code> ",
            "refuses: an object could not be written (it answered 403",
        ),
        ("503 Slow Down\r\ncontent-length: 0\r\n\r\n", "cannot be reached: it answered 503"),
        ("301 Moved Permanently\r\ncontent-length: 0\r\n\r\n", "another region"),
        ("507 Insufficient Storage\r\ncontent-length: 0\r\n\r\n", "is full"),
    ] {
        let answer: &'static str = Box::leak(format!("HTTP/1.1 {answer}").into_boxed_str());
        let (port, _requests) = service(answer);
        let credentials = format!(
            r#"{{"endpoint": "http://127.0.0.1:{port}", "allow_http": true, "access_key_id": "me", "secret_access_key": "hush"}}"#
        );
        let opener = opener();
        let store = opener.open(&definition(StoreKind::S3, "s3://bucket", &credentials)).unwrap();
        let error = check_access(store.as_ref(), StoreKind::S3, 7, Duration::from_secs(20)).await.unwrap_err();
        assert!(error.to_string().contains(said), "{answer}: {error}");
        assert!(!format!("{error:?}").contains("hush"));
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    // A port that was free a moment ago could be that of another test's service by now.
    let port: u16 = 1;
    let opener = opener();
    for (kind, uri, credentials) in [
        (StoreKind::S3, "s3://b", r#""access_key_id": "me", "secret_access_key": "hush""#),
        (StoreKind::Azure, "az://c", r#""account_name": "a", "account_key": "aHVzaA==""#),
        (StoreKind::Gcs, "gs://b", r#""anonymous": true"#),
    ] {
        let credentials = format!(r#"{{"endpoint": "http://127.0.0.1:{port}", "allow_http": true, {credentials}}}"#);
        let store = opener.open(&definition(kind, uri, &credentials)).unwrap();
        let error = check_access(store.as_ref(), kind, 7, Duration::from_secs(20)).await.unwrap_err();
        assert!(matches!(&error, ObjectError::Unreachable(text) if text.contains("refused")), "{kind}: {error}");
    }
}

#[test]
fn keys_that_are_none_are_refused_without_being_shown() {
    let opener = opener();
    for (kind, uri, credentials) in [
        (StoreKind::Azure, "az://c", r#"{"account_name": "a", "account_key": "hush!"}"#),
        (StoreKind::Gcs, "gs://b", r#"{"service_account": {"private_key": "hush!"}}"#),
    ] {
        match opener.open(&definition(kind, uri, credentials)) {
            Err(ObjectError::Invalid(message)) => assert!(!message.contains("hush"), "{message}"),
            other => panic!("{kind}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn folders_are_opened_below_the_roots_and_made_only_on_creation() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    let opener = StoreOpener::new(FolderRoots::new(vec![root.clone()]), StoreSettings::default());
    let cold = definition(StoreKind::FileSystem, &root.join("cold").display().to_string(), "");
    assert!(matches!(opener.open(&cold), Err(ObjectError::Unreachable(_))));
    let store = opener.create(&cold).unwrap();
    check_access(store.as_ref(), StoreKind::FileSystem, 7, Duration::from_secs(20)).await.unwrap();
    assert_eq!(std::fs::read_dir(root.join("cold")).unwrap().count(), 0, "nothing of the check stays");
    assert!(opener.open(&cold).is_ok());
    let outside = definition(StoreKind::FileSystem, "/proc/cold", "");
    assert!(matches!(opener.create(&outside), Err(ObjectError::Invalid(_))));
    assert!(matches!(store.get(&Path::from("x")).await, Err(Error::NotFound { .. })));
}
