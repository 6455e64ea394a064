use std::sync::Arc;

use kalamdb_engine::{FixedEnv, Role, SystemEnv};

use super::*;
use crate::{call::TraceIds, identity::Grant};

fn sessions() -> Sessions {
    Sessions::new(100, Duration::from_secs(60), Arc::new(FixedEnv::new(0, 1)))
}

/// A call of a user whose credential is of no session.
fn context(user: &str) -> CallContext {
    CallContext {
        caller: Caller::new(UserId::new(user).unwrap(), Role::User),
        grant: Grant::bypass(),
        timeout: None,
        trace: TraceIds::new(&SystemEnv).of(&http::HeaderMap::new()),
    }
}

fn headers(cookie: Option<&str>) -> MetadataMap {
    let mut headers = MetadataMap::new();
    if let Some(cookie) = cookie {
        headers.insert("cookie", format!("other=1; {}", set_cookie(cookie)).parse().unwrap());
    }
    headers
}

fn schema(name: &str) -> Vec<(String, Option<String>)> {
    vec![(SCHEMA_OPTION.to_owned(), Some(name.to_owned()))]
}

#[test]
fn options_are_found_by_the_cookie() {
    let sessions = sessions();
    let first = sessions.call(context("ana"), &headers(None)).unwrap();
    assert_eq!(first.namespace, None);
    let cookie = sessions.set(&first, schema("chat")).unwrap();
    let second = sessions.call(context("ana"), &headers(Some(&cookie))).unwrap();
    assert_eq!(second.namespace.as_deref(), Some("chat"));
    // Set again, they stay where they are; without a value they go.
    assert_eq!(sessions.set(&second, schema("shop")), None);
    assert_eq!(sessions.get(&second).get(SCHEMA_OPTION).map(String::as_str), Some("shop"));
    assert_eq!(sessions.get(&second).get(CATALOG_OPTION).map(String::as_str), Some("kalamdb"));
    sessions.set(&second, vec![(SCHEMA_OPTION.to_owned(), None)]);
    assert_eq!(sessions.call(context("ana"), &headers(Some(&cookie))).unwrap().namespace, None);
}

#[test]
fn a_cookie_is_good_for_its_user_alone() {
    let sessions = sessions();
    let cookie = sessions.set(&sessions.call(context("ana"), &headers(None)).unwrap(), schema("chat")).unwrap();
    let mallory = sessions.call(context("mallory"), &headers(Some(&cookie))).unwrap();
    assert_eq!(mallory.namespace, None);
    let own = sessions.set(&mallory, schema("other")).unwrap();
    assert_ne!(own, cookie);
    assert_eq!(sessions.call(context("ana"), &headers(Some(&cookie))).unwrap().namespace.as_deref(), Some("chat"));
    // Nor does one that nobody was given find anything.
    assert_eq!(sessions.call(context("ana"), &headers(Some("1"))).unwrap().namespace, None);
}

#[test]
fn a_header_names_the_namespace_of_one_call() {
    let sessions = sessions();
    let mut headers = headers(None);
    headers.insert(NAMESPACE_HEADER, "chat".parse().unwrap());
    assert_eq!(sessions.call(context("ana"), &headers).unwrap().namespace.as_deref(), Some("chat"));
}

#[test]
fn closing_forgets() {
    let sessions = sessions();
    let cookie = sessions.set(&sessions.call(context("ana"), &headers(None)).unwrap(), schema("chat")).unwrap();
    let call = sessions.call(context("ana"), &headers(Some(&cookie))).unwrap();
    assert_eq!(sessions.close(&call), None);
    assert_eq!(sessions.call(context("ana"), &headers(Some(&cookie))).unwrap().namespace, None);
}

#[test]
fn options_are_checked() {
    for (name, value, outcome) in [
        ("catalog", Some("kalamdb"), Ok(())),
        ("catalog", Some("other"), Err(Fault::Value)),
        ("schema", Some("chat"), Ok(())),
        ("schema", None, Ok(())),
        ("kalamdb.ingest.atomic", Some("false"), Ok(())),
        ("kalamdb.ingest.atomic", Some("perhaps"), Err(Fault::Value)),
        ("kalamdb.ingest.nothing", Some("1"), Err(Fault::Name)),
        ("autocommit", Some("true"), Err(Fault::Name)),
    ] {
        assert_eq!(check(name, value), outcome, "{name} = {value:?}");
    }
}
