use std::io;

use super::*;

fn generic(source: impl StdError + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(source) }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Text(&'static str);

#[test]
fn troubles_are_told_from_what_lies_beneath() {
    for (error, trouble, said) in [
        (generic(io::Error::from(io::ErrorKind::StorageFull)), Trouble::Full, "no storage space"),
        (generic(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)), Trouble::Denied, "read-only"),
        (generic(HttpError::new(HttpErrorKind::Timeout, Text("x"))), Trouble::Unreachable, "in time"),
        (
            generic(HttpError::new(HttpErrorKind::Connect, io::Error::from_raw_os_error(111))),
            Trouble::Unreachable,
            "refused",
        ),
        (generic(Text("Received redirect without LOCATION, …")), Trouble::Elsewhere, "another region"),
        (
            generic(Text("Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>")),
            Trouble::Unreachable,
            "503 SlowDown",
        ),
        (
            generic(Text("Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>")),
            Trouble::Denied,
            "400 ExpiredToken",
        ),
        (generic(Text("Server returned non-2xx status code: 507 : ")), Trouble::Full, "507"),
        (generic(Text("what?")), Trouble::Other, "failed"),
    ] {
        assert_eq!(Trouble::of(&error), trouble, "{error}");
        assert!(summary(&error).contains(said), "{}", summary(&error));
    }
}

#[test]
fn a_summary_has_nothing_of_what_was_sent() {
    let error = object_store::Error::PermissionDenied {
        path: "bucket/secret-path".to_owned(),
        source: Box::new(Text(
            "Error performing PUT http://host/bucket/secret-path - Server returned non-2xx status code: 403 Forbidden: \
             <Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA123</AWSAccessKeyId></Error>",
        )),
    };
    assert_eq!(summary(&error), "it answered 403 SignatureDoesNotMatch");
    assert_eq!(Trouble::of(&error), Trouble::Denied);
}
