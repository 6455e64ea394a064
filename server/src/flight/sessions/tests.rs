use std::sync::Arc;

use kalamdb_engine::{FixedEnv, Role, SystemEnv};

use super::*;
use crate::{
    call::TraceIds,
    identity::{Basis, Grant},
};

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

/// A call whose credential is of a session.
fn context_in(user: &str, session: &str) -> CallContext {
    let credential = Credential::Session(session.to_owned());
    let basis = Basis { credential, user: None, acting_as: None, token_expires_at_us: None };
    CallContext { grant: Grant::of(basis), ..context(user) }
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
    let cookie = sessions.set(&sessions.call(context("ana"), &headers(None)).unwrap(), schema("shop")).unwrap();
    for name in NAMESPACE_HEADERS {
        let mut headers = headers(Some(&cookie));
        headers.insert(name, "chat".parse().unwrap());
        let call = sessions.call(context("ana"), &headers).unwrap();
        assert_eq!(call.namespace.as_deref(), Some("chat"), "{name}, before the option");
    }
    let mut both = headers(None);
    both.insert("schema", "shop".parse().unwrap());
    both.insert("x-kalamdb-namespace", "chat".parse().unwrap());
    assert_eq!(sessions.call(context("ana"), &both).unwrap().namespace.as_deref(), Some("chat"));
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
fn closing_ends_the_session_of_the_credential() {
    let sessions = sessions();
    // Of any age, whoever opened it, and whether or not it has options.
    let call = sessions.call(context_in("ana", "s1"), &headers(None)).unwrap();
    assert_eq!(sessions.close(&call), Some("s1"));
    sessions.set(&call, schema("chat"));
    assert_eq!(sessions.close(&call), Some("s1"));
    assert_eq!(sessions.call(context_in("ana", "s1"), &headers(None)).unwrap().namespace, None);
}

#[test]
fn new_sessions_take_the_place_of_old_ones() {
    let sessions = Sessions::new(10, Duration::from_secs(60), Arc::new(FixedEnv::new(0, 1)));
    let session = |number: usize| context_in("ana", &format!("s{number}"));
    for number in 0..100 {
        let call = sessions.call(session(number), &headers(None)).unwrap();
        sessions.set(&call, schema("chat"));
        // However often the others are asked for.
        for other in 0..=number {
            sessions.call(session(other), &headers(None)).unwrap();
        }
        sessions.options.run_pending_tasks();
        let again = sessions.call(session(number), &headers(None)).unwrap();
        assert_eq!(again.namespace.as_deref(), Some("chat"), "session {number}");
    }
    assert!(sessions.options.entry_count() <= 10);
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
