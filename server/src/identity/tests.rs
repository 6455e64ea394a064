use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const LOCAL: &str = "127.0.0.1:4000";

fn identity(role: Role) -> Identity {
    let caller = Caller::new(UserId::new("system").unwrap(), role);
    Identity::new(Some(caller), vec!["https://app.example".to_owned()])
}

fn headers(values: &[(&'static str, &[u8])]) -> HeaderMap {
    values.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())).fold(
        HeaderMap::new(),
        |mut map, (name, value)| {
            map.append(name, value);
            map
        },
    )
}

fn call(peer: &str, values: &[(&'static str, &[u8])]) -> Result<Caller, Reason> {
    identity(Role::System).caller(peer.parse().unwrap(), &headers(values)).map_err(|error| error.reason())
}

fn acts_for(values: &[(&'static str, &[u8])]) -> Result<String, Reason> {
    call(LOCAL, values).map(|caller| caller.effective_user().as_str().to_owned())
}

#[test]
fn without_dev_every_call_is_refused() {
    let error = Identity::new(None, vec![]).caller(LOCAL.parse().unwrap(), &HeaderMap::new()).unwrap_err();
    assert_eq!(error.reason(), Reason::Unauthenticated);
    assert!(error.message().contains("--dev"));
}

#[test]
fn only_this_machine_may_call() {
    for peer in [LOCAL, "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(call(peer, &[]).unwrap().user_id.as_str(), "system", "{peer}");
    }
    for peer in ["192.168.1.5:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
        assert_eq!(call(peer, &[]), Err(Reason::Unauthenticated), "{peer}");
    }
}

#[test]
fn forwarded_calls_are_refused() {
    for name in FORWARDING_HEADERS {
        assert_eq!(call(LOCAL, &[(name, b"127.0.0.1")]), Err(Reason::Unauthenticated), "{name}");
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173", "https://app.example"] {
        assert!(call(LOCAL, &[("origin", origin.as_bytes())]).is_ok(), "{origin}");
    }
    for origin in
        ["https://evil.example", "http://localhost.evil.example", "null", "https://app.example.evil", "\u{e9}"]
    {
        assert_eq!(call(LOCAL, &[("origin", origin.as_bytes())]), Err(Reason::Unauthenticated), "{origin}");
    }
}

#[test]
fn user_ids_of_every_kind() {
    assert_eq!(acts_for(&[]).unwrap(), "system");
    assert_eq!(acts_for(&[(USER_ID, b"../../etc")]).unwrap(), "../../etc");
    assert_eq!(acts_for(&[(USER_ID, "Zoë 🦀".as_bytes())]).unwrap(), "Zoë 🦀");
    assert_eq!(acts_for(&[(USER_ID_BIN, b"YQBi")]).unwrap(), "a\0b");
    assert_eq!(acts_for(&[(USER_ID_BIN, b"8J+mgA==")]).unwrap(), "🦀");
    assert_eq!(acts_for(&[(USER_ID_BIN, b"8J+mgA")]).unwrap(), "🦀");
    assert_eq!(acts_for(&[(USER_ID, b"a"), (USER_ID_BIN, b"YQ")]).unwrap(), "a");

    for wrong in [
        (USER_ID, &b""[..]),
        (USER_ID, b"\xff\xfe"),
        (USER_ID, "x".repeat(300).as_bytes()),
        (USER_ID_BIN, b"***"),
        (USER_ID_BIN, b""),
    ] {
        assert_eq!(acts_for(&[wrong]), Err(Reason::InvalidUserId), "{wrong:?}");
    }
    assert_eq!(acts_for(&[(USER_ID, b"a"), (USER_ID, b"b")]), Err(Reason::InvalidUserId));
    assert_eq!(acts_for(&[(USER_ID, b"a"), (USER_ID_BIN, b"Yg")]), Err(Reason::InvalidUserId));
}

#[test]
fn a_plain_user_acts_for_itself_only() {
    let call = |user: &'static [u8]| {
        identity(Role::User)
            .caller(LOCAL.parse().unwrap(), &headers(&[(USER_ID, user)]))
            .map_err(|error| error.reason())
    };
    assert_eq!(call(b"system").unwrap().effective_user().as_str(), "system");
    assert_eq!(call(b"alice"), Err(Reason::PermissionDenied));
}

proptest! {
    #[test]
    fn any_user_id_arrives_as_it_was_sent(id in "\\PC{1,64}") {
        let encoded = BASE64.encode(&id);
        let map = headers(&[(USER_ID_BIN, encoded.as_bytes())]);
        let caller = identity(Role::System).caller(LOCAL.parse().unwrap(), &map).unwrap();
        prop_assert_eq!(caller.effective_user().as_str(), id);
    }
}
