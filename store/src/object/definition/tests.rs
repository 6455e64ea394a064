use super::*;

const KEYS: &str = r#"{"access_key_id": "id", "secret_access_key": "hush"}"#;

fn refused(kind: StoreKind, uri: &str, credentials: &str) -> String {
    match StoreDefinition::parse(kind, uri, Some(credentials)) {
        Err(ObjectError::Invalid(message)) => message,
        other => panic!("{uri}: {other:?}"),
    }
}

#[test]
fn uris_are_written_in_one_way() {
    use StoreKind::{Azure, FileSystem, Gcs, S3};
    for (kind, uri, canonical) in [
        (FileSystem, "/srv/cold", "file:///srv/cold"),
        (FileSystem, "/srv//./cold/", "file:///srv/cold"),
        (FileSystem, "file:///srv/cold/", "file:///srv/cold"),
        (FileSystem, "/", "file:///"),
        (S3, "s3://bucket", "s3://bucket"),
        (S3, "s3a://my.bucket/a/b_c/", "s3://my.bucket/a/b_c"),
        (Gcs, "gcs://bucket/a", "gs://bucket/a"),
        (Azure, "abfs://c@acc.dfs.core.windows.net/p/", "abfss://c@acc.dfs.core.windows.net/p"),
    ] {
        let definition = StoreDefinition::parse(kind, uri, None).unwrap();
        assert_eq!(definition.uri(), canonical);
        assert_eq!(StoreDefinition::parse(kind, canonical, None).unwrap(), definition);
        assert_eq!(canonical_uri(uri).unwrap(), canonical);
    }
    let azure = StoreDefinition::parse(Azure, "az://c/p", Some(r#"{"account_name": "acc"}"#)).unwrap();
    assert_eq!(azure.uri(), "az://c/p");
}

#[test]
fn what_is_wrong_with_a_definition_is_said() {
    use StoreKind::{Azure, FileSystem, Gcs, S3};
    for (kind, uri, credentials, said) in [
        (FileSystem, "srv/cold", "", "absolute path"),
        (FileSystem, "", "", "absolute path"),
        (FileSystem, "s3://bucket", "", "absolute path"),
        (FileSystem, "file://host/x", "", "absolute path"),
        (FileSystem, "/srv/../etc", "", "'..'"),
        (FileSystem, "file:///a%2e%2e/b", "", "plainly"),
        (FileSystem, "/a\0b", "", "control character"),
        (FileSystem, "/srv", KEYS, "takes no credentials"),
        (S3, "/srv", "", "is s3://bucket/prefix"),
        (S3, "gs://bucket", "", "is s3://bucket/prefix"),
        (S3, "s3://", "", "bucket name"),
        (S3, "s3://-x/", "", "bucket name"),
        (S3, "s3://id:hush@bucket/x", "", "belong in CREDENTIALS"),
        (S3, "s3://bucket/a//b", "", "empty part"),
        (S3, "s3://bucket/../b", "", "'..'"),
        (S3, "s3://bucket/a?b", "", "advise against"),
        (S3, "s3://bucket", "{", "JSON object such as"),
        (S3, "s3://bucket", "[]", "JSON object such as"),
        (S3, "s3://bucket", r#"{"secret_acess_key": "x"}"#, "Did you mean 'secret_access_key'?"),
        (S3, "s3://bucket", r#"{"zzzzzzzzzz": "x"}"#, "unknown key. Keys are access_key_id"),
        (S3, "s3://bucket", r#"{"access_key_id": "x"}"#, "need secret_access_key too"),
        (S3, "s3://bucket", r#"{"session_token": "x"}"#, "need access_key_id too"),
        (S3, "s3://bucket", r#"{"access_key_id": 7}"#, "is a text"),
        (S3, "s3://bucket", r#"{"allow_http": "yes"}"#, "is true or false"),
        (S3, "s3://bucket", r#"{"endpoint": "http://127.0.0.1:9000"}"#, "allow_http"),
        (S3, "s3://bucket", r#"{"endpoint": "minio:9000"}"#, "is a URL"),
        (S3, "s3://bucket", r#"{"endpoint": "https://u:p@host"}"#, "without user or query"),
        (Gcs, "gs://bucket", r#"{"service_account": "x"}"#, "the content of the key file"),
        (Gcs, "gs://bucket", r#"{"service_account_path": "/etc/shadow"}"#, "unknown key"),
        (Azure, "az://container", "", "needs its account"),
        (Azure, "abfss://c@/x", "", "account name"),
        (Azure, "az://c", r#"{"account_name": "a", "client_secret": "s"}"#, "need client_id too"),
    ] {
        let message = refused(kind, uri, credentials);
        assert!(message.contains(said), "{uri} {credentials}: {message}");
        assert!(!message.contains("hush"), "{message}");
    }
    assert!(canonical_uri("ftp://x").is_err());
}

#[test]
fn a_place_is_where_objects_are_and_not_who_asks() {
    let of = |uri: &str, credentials: &str| StoreDefinition::parse(StoreKind::S3, uri, Some(credentials)).unwrap();
    let one = of("s3://b/p", KEYS);
    assert!(one.same_place(&of("s3://b/p/", r#"{"access_key_id": "other", "secret_access_key": "other"}"#)));
    assert!(one.same_place(&of("s3://b/p", "")));
    assert!(!one.same_place(&of("s3://b/q", KEYS)));
    assert!(!one.same_place(&of("s3://b/p", r#"{"endpoint": "https://other"}"#)));
}

#[test]
fn credentials_are_never_shown() {
    let definition = StoreDefinition::parse(StoreKind::S3, "s3://b", Some(KEYS)).unwrap();
    let shown = format!("{definition:?} {definition:#?}");
    assert!(shown.contains("secret_access_key") && !shown.contains("hush"), "{shown}");
    let missing = StoreDefinition::parse(StoreKind::S3, "s3://b", Some(r#"{"hush": 1}"#)).unwrap_err();
    assert!(!format!("{missing:?}").contains("hush"));
}
