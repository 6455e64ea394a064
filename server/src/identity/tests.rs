use std::time::Duration;

use base64::Engine as _;
use http::{HeaderName, HeaderValue};
use kalamdb_engine::{
    Engine, EngineSettings, FixedEnv, NewUser, Password, Request, Role, Session, UserPatch, UserSettings,
};
use proptest::prelude::*;
use tokio::time::timeout;

use super::{
    acting::{BASE64, USER_ID, USER_ID_BIN},
    bypass::FORWARDING_HEADERS,
    *,
};

const LOCAL: &str = "127.0.0.1:4000";
const REMOTE: &str = "192.0.2.7:4000";
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    engine: Arc<Engine>,
    identity: Identity,
    env: Arc<FixedEnv>,
}

fn server(dev_role: Option<Role>, config: &AuthSection) -> Server {
    let env = Arc::new(FixedEnv::new(1_800_000_000_000_000, 11));
    // Hashing is measured elsewhere.
    let users = UserSettings { password_memory_kib: 64, password_iterations: 1, ..UserSettings::default() };
    let settings = EngineSettings { users, ..EngineSettings::default() };
    let engine = Engine::open(settings, Vec::new(), Arc::clone(&env) as Arc<dyn Env>).unwrap();
    let lifetime = Duration::from_secs(config.token_lifetime_s);
    let own_tokens = Arc::new(OwnTokens::open(None, lifetime, env.as_ref()).unwrap());
    let parts = IdentityParts {
        dev_caller: dev_role.map(|role| Caller::new(UserId::new("system").unwrap(), role)),
        allowed_origins: vec!["https://app.example".to_owned()],
        users: Arc::clone(engine.users()),
        own_tokens,
        env: Arc::clone(&env) as Arc<dyn Env>,
    };
    Server { identity: Identity::new(config, parts).unwrap(), engine, env }
}

impl Server {
    fn admin(&self) -> Session {
        self.engine.session(Caller::new(UserId::new("root").unwrap(), Role::System))
    }

    async fn user(&self, name: &str, role: Role) {
        let password = Some(Password::new(format!("the password of {name}")));
        let new = NewUser { role, password, ..NewUser::named(name) };
        assert!(self.admin().create_user(new, false).await.unwrap());
    }

    async fn key(&self, user: &str) -> String {
        self.admin().create_api_key(user, None, None).await.unwrap().key
    }

    async fn call(&self, peer: &str, values: &[(&'static str, &[u8])]) -> Result<Authenticated, Error> {
        self.identity.authenticate(&Peer::new(peer.parse().unwrap()), &headers(values)).await
    }

    async fn refused(&self, peer: &str, values: &[(&'static str, &[u8])]) -> Reason {
        self.call(peer, values).await.err().expect("refused").reason()
    }

    async fn login(&self, name: &str) -> SessionTokens {
        let peer = Peer::new(REMOTE.parse().unwrap());
        self.identity.login(&peer, name, &format!("the password of {name}")).await.unwrap()
    }

    /// Watches for the length of a test.
    fn watched(&self) -> tokio::task::JoinHandle<()> {
        let env = Arc::clone(&self.env) as Arc<dyn Env>;
        tokio::spawn(watch(Arc::clone(self.engine.users()), Arc::clone(self.identity.grants()), env))
    }
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

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

fn dev() -> Server {
    server(Some(Role::System), &AuthSection::default())
}

#[tokio::test]
async fn without_dev_a_call_needs_a_credential() {
    let server = server(None, &AuthSection::default());
    let error = server.call(LOCAL, &[]).await.err().unwrap();
    assert_eq!(error.reason(), Reason::Unauthenticated);
    assert!(error.message().contains("--dev") && error.message().contains("x-api-key"));
}

#[tokio::test]
async fn only_this_machine_may_call_without_a_credential() {
    let server = dev();
    for peer in [LOCAL, "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(server.call(peer, &[]).await.unwrap().caller.user_id.as_str(), "system", "{peer}");
    }
    for peer in ["192.168.1.5:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
        assert_eq!(server.refused(peer, &[]).await, Reason::Unauthenticated, "{peer}");
    }
}

#[tokio::test]
async fn forwarded_calls_without_a_credential_are_refused() {
    let server = dev();
    for name in FORWARDING_HEADERS {
        assert_eq!(server.refused(LOCAL, &[(name, b"127.0.0.1")]).await, Reason::Unauthenticated, "{name}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let server = dev();
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173", "https://app.example"] {
        assert!(server.call(LOCAL, &[("origin", origin.as_bytes())]).await.is_ok(), "{origin}");
    }
    for origin in
        ["https://evil.example", "http://localhost.evil.example", "null", "https://app.example.evil", "\u{e9}"]
    {
        let refused = server.refused(LOCAL, &[("origin", origin.as_bytes())]).await;
        assert_eq!(refused, Reason::Unauthenticated, "{origin}");
    }
}

#[tokio::test]
async fn a_wrong_credential_is_refused_even_where_none_is_needed() {
    let server = dev();
    for value in [&b"Bearer a.b.c"[..], b"Bearer kdb_x_y", b"Basic YTpi"] {
        assert_eq!(server.refused(LOCAL, &[("authorization", value)]).await, Reason::Unauthenticated);
    }
    server.user("ana", Role::User).await;
    let key = server.key("ana").await;
    let caller = server.call(LOCAL, &[("x-api-key", key.as_bytes())]).await.unwrap().caller;
    assert_eq!((caller.user_id.as_str(), caller.role), ("ana", Role::User), "the credential is preferred");
}

#[tokio::test]
async fn user_ids_of_every_kind() {
    let server = dev();
    let acts_for = async |values: &[(&'static str, &[u8])]| {
        let caller = server.call(LOCAL, values).await.map(|authenticated| authenticated.caller);
        caller.map(|caller| caller.effective_user().as_str().to_owned()).map_err(|error| error.reason())
    };
    assert_eq!(acts_for(&[]).await.unwrap(), "system");
    assert_eq!(acts_for(&[(USER_ID, b"../../etc")]).await.unwrap(), "../../etc");
    assert_eq!(acts_for(&[(USER_ID, "Zoë 🦀".as_bytes())]).await.unwrap(), "Zoë 🦀");
    assert_eq!(acts_for(&[(USER_ID_BIN, b"YQBi")]).await.unwrap(), "a\0b");
    assert_eq!(acts_for(&[(USER_ID_BIN, b"8J+mgA==")]).await.unwrap(), "🦀");
    assert_eq!(acts_for(&[(USER_ID_BIN, b"8J+mgA")]).await.unwrap(), "🦀");
    assert_eq!(acts_for(&[(USER_ID, b"a"), (USER_ID_BIN, b"YQ")]).await.unwrap(), "a");

    for wrong in [
        (USER_ID, &b""[..]),
        (USER_ID, b"\xff\xfe"),
        (USER_ID, "x".repeat(300).as_bytes()),
        (USER_ID_BIN, b"***"),
        (USER_ID_BIN, b""),
    ] {
        assert_eq!(acts_for(&[wrong]).await, Err(Reason::InvalidUserId), "{wrong:?}");
    }
    assert_eq!(acts_for(&[(USER_ID, b"a"), (USER_ID, b"b")]).await, Err(Reason::InvalidUserId));
    assert_eq!(acts_for(&[(USER_ID, b"a"), (USER_ID_BIN, b"Yg")]).await, Err(Reason::InvalidUserId));
}

#[tokio::test]
async fn a_plain_user_acts_for_itself_only() {
    let server = server(Some(Role::User), &AuthSection::default());
    let caller = server.call(LOCAL, &[(USER_ID, b"system")]).await.unwrap().caller;
    assert_eq!(caller.effective_user().as_str(), "system");
    assert_eq!(server.refused(LOCAL, &[(USER_ID, b"alice")]).await, Reason::PermissionDenied);
}

#[tokio::test]
async fn who_may_act_for_whom() {
    let server = server(None, &AuthSection::default());
    for (name, role) in
        [("ana", Role::User), ("bob", Role::User), ("bot", Role::Service), ("dora", Role::Dba), ("sys", Role::System)]
    {
        server.user(name, role).await;
    }
    server.user("gone", Role::User).await;
    let disable = UserPatch { disabled: Some(true), ..UserPatch::default() };
    server.admin().alter_user("gone", disable).await.unwrap();
    for (caller, target, expected) in [
        ("ana", "ana", Ok("ana")),
        ("ana", "bob", Err(Reason::PermissionDenied)),
        ("ana", "nobody", Err(Reason::PermissionDenied)),
        ("bot", "ana", Ok("ana")),
        ("bot", "bot", Ok("bot")),
        ("bot", "dora", Err(Reason::PermissionDenied)),
        ("bot", "gone", Err(Reason::PermissionDenied)),
        ("bot", "nobody", Err(Reason::UserNotFound)),
        ("dora", "bot", Ok("bot")),
        ("dora", "sys", Err(Reason::PermissionDenied)),
        ("sys", "dora", Ok("dora")),
    ] {
        let key = server.key(caller).await;
        let called = server.call(REMOTE, &[("x-api-key", key.as_bytes()), (USER_ID, target.as_bytes())]).await;
        let acted = called.map(|called| {
            assert_eq!(called.caller.user_id.as_str(), caller, "the role stays the caller's own");
            called.caller.effective_user().as_str().to_owned()
        });
        let acted = acted.map_err(|error| error.reason());
        assert_eq!(acted, expected.map(str::to_owned), "{caller} for {target}");
    }
}

#[tokio::test]
async fn unknown_users_are_accepted_if_so_configured() {
    let config = AuthSection { unknown_users: UnknownUsers::Accept, ..AuthSection::default() };
    let server = server(None, &config);
    server.user("bot", Role::Service).await;
    server.user("ana", Role::User).await;
    let key = server.key("bot").await;
    let caller = server.call(REMOTE, &[("x-api-key", key.as_bytes()), (USER_ID, b"nobody")]).await.unwrap().caller;
    assert_eq!(caller.effective_user().as_str(), "nobody");
    let key = server.key("ana").await;
    let values: &[(&'static str, &[u8])] = &[("x-api-key", key.as_bytes()), (USER_ID, b"nobody")];
    assert_eq!(server.refused(REMOTE, values).await, Reason::PermissionDenied);
}

#[tokio::test]
async fn passwords_become_tokens_that_are_renewed_and_end() {
    let server = server(None, &AuthSection::default());
    server.user("ana", Role::User).await;
    let peer = Peer::new(REMOTE.parse().unwrap());
    let wrong = server.identity.login(&peer, "ana", "wrong").await.err().unwrap();
    let unknown = server.identity.login(&peer, "nobody", "wrong").await.err().unwrap();
    assert_eq!((wrong.reason(), wrong.message()), (Reason::Unauthenticated, unknown.message()));

    let first = server.login("ana").await;
    let called = server.call(REMOTE, &[("authorization", &bearer(&first.access_token))]).await.unwrap();
    assert_eq!(called.caller.user_id.as_str(), "ana");
    let Credential::Session(session) = called.grant.basis.credential.clone() else { panic!("a session") };

    let second = server.identity.refresh(&peer, &first.refresh_token).await.unwrap();
    server.call(REMOTE, &[("authorization", &bearer(&second.access_token))]).await.unwrap();
    // Used twice: somebody else has it.
    let again = server.identity.refresh(&peer, &first.refresh_token).await.err().unwrap();
    assert_eq!(again.reason(), Reason::Unauthenticated);
    for token in [&first.access_token, &second.access_token] {
        let refused = server.refused(REMOTE, &[("authorization", &bearer(token))]).await;
        assert_eq!(refused, Reason::CredentialRevoked);
    }
    assert!(server.identity.refresh(&peer, &second.refresh_token).await.is_err());
    server.identity.logout(&session).await.unwrap();

    let third = server.login("ana").await;
    server.env.advance_us(900 * 1_000_000);
    let refused = server.refused(REMOTE, &[("authorization", &bearer(&third.access_token))]).await;
    assert_eq!(refused, Reason::CredentialExpired);
    let fourth = server.identity.refresh(&peer, &third.refresh_token).await.unwrap();
    server.call(REMOTE, &[("authorization", &bearer(&fourth.access_token))]).await.unwrap();
}

#[tokio::test]
async fn too_many_wrong_passwords_shut_an_account_even_for_the_right_one() {
    let config = AuthSection { max_failures_per_account: 3, ..AuthSection::default() };
    let server = server(None, &config);
    server.user("ana", Role::User).await;
    server.user("bob", Role::User).await;
    let peer = |n: u8| Peer::new(format!("192.0.2.{n}:1").parse().unwrap());
    for n in 0..3 {
        let refused = server.identity.login(&peer(n), "ana", "wrong").await.err().unwrap();
        assert_eq!(refused.reason(), Reason::Unauthenticated);
    }
    let refused = server.identity.login(&peer(9), "ana", "the password of ana").await.err().unwrap();
    assert_eq!(refused.reason(), Reason::TooManyAttempts);
    assert!(refused.metadata().contains_key("retry_after_ms"));
    server.identity.login(&peer(9), "bob", "the password of bob").await.unwrap();
}

#[tokio::test]
async fn an_address_that_fails_too_often_is_refused_unseen_and_good_credentials_go_on() {
    let config = AuthSection { max_failures_per_address: 5, ..AuthSection::default() };
    let server = server(None, &config);
    server.user("ana", Role::User).await;
    let key = server.key("ana").await;
    let token = server.login("ana").await.access_token;
    server.call(REMOTE, &[("authorization", &bearer(&token))]).await.unwrap();
    for _ in 0..5 {
        assert_eq!(server.refused(REMOTE, &[("x-api-key", b"kdb_x")]).await, Reason::Unauthenticated);
    }
    assert_eq!(server.refused(REMOTE, &[("x-api-key", b"kdb_x")]).await, Reason::TooManyAttempts);
    assert_eq!(server.refused(REMOTE, &[("authorization", b"Bearer a.b.c")]).await, Reason::TooManyAttempts);
    server.call(REMOTE, &[("x-api-key", key.as_bytes())]).await.unwrap();
    server.call(REMOTE, &[("authorization", &bearer(&token))]).await.unwrap();
    assert_eq!(server.refused("192.0.2.8:1", &[("x-api-key", b"kdb_x")]).await, Reason::Unauthenticated);
}

#[tokio::test]
async fn what_is_revoked_ends_calls_under_way() {
    let server = server(None, &AuthSection::default());
    for name in ["ana", "bob", "cid", "dan", "eve"] {
        server.user(name, Role::User).await;
    }
    server.user("bot", Role::Service).await;
    let watching = server.watched();
    let by_key = async |user: &str| {
        let key = server.key(user).await;
        (server.call(REMOTE, &[("x-api-key", key.as_bytes())]).await.unwrap().grant, key)
    };
    let (ana, ana_key) = by_key("ana").await;
    let (bob, _) = by_key("bob").await;
    let (cid, _) = by_key("cid").await;
    let (eve, _) = by_key("eve").await;
    let bot_key = server.key("bot").await;
    let for_dan: &[(&'static str, &[u8])] = &[("x-api-key", bot_key.as_bytes()), (USER_ID, b"dan")];
    let for_dan = server.call(REMOTE, for_dan).await.unwrap().grant;
    let bot = server.call(REMOTE, &[("x-api-key", bot_key.as_bytes())]).await.unwrap().grant;
    let session = server.login("ana").await;
    let ana_session = server.call(REMOTE, &[("authorization", &bearer(&session.access_token))]).await.unwrap().grant;
    assert_eq!(server.identity.grants().count(), 7);

    let admin = server.admin();
    admin.revoke_api_key(&ana_key).await.unwrap();
    admin.drop_user("bob", false, false).await.unwrap();
    admin.alter_user("cid", UserPatch { disabled: Some(true), ..UserPatch::default() }).await.unwrap();
    admin.alter_user("dan", UserPatch { disabled: Some(true), ..UserPatch::default() }).await.unwrap();
    admin.alter_user("eve", UserPatch { role: Some(Role::Service), ..UserPatch::default() }).await.unwrap();
    for (grant, reason) in [
        (&ana, Reason::CredentialRevoked),
        (&bob, Reason::CredentialRevoked),
        (&cid, Reason::UserDisabled),
        (&for_dan, Reason::CredentialRevoked),
        (&eve, Reason::CredentialRevoked),
    ] {
        let why = timeout(PATIENCE, grant.withdrawn()).await.expect("the call ends");
        assert_eq!(why.reason(), reason);
    }
    assert!(bot.ended().is_none() && ana_session.ended().is_none(), "what does not concern them goes on");

    let Credential::Session(id) = ana_session.basis.credential.clone() else { panic!("a session") };
    server.identity.logout(&id).await.unwrap();
    let why = timeout(PATIENCE, ana_session.withdrawn()).await.expect("the call ends");
    assert_eq!(why.reason(), Reason::CredentialRevoked);

    drop((ana, bob, cid, eve, for_dan, bot, ana_session));
    assert_eq!(server.identity.grants().count(), 0, "nothing remains of calls that ended");
    watching.abort();
}

#[tokio::test]
async fn a_change_of_other_things_ends_nothing() {
    let server = server(None, &AuthSection::default());
    server.user("ana", Role::User).await;
    server.user("bob", Role::User).await;
    let watching = server.watched();
    let key = server.key("ana").await;
    let grant = server.call(REMOTE, &[("x-api-key", key.as_bytes())]).await.unwrap().grant;
    let bob_key = server.key("bob").await;
    let bob = server.call(REMOTE, &[("x-api-key", bob_key.as_bytes())]).await.unwrap().grant;
    let metadata = UserPatch { metadata: Some(Some("{}".to_owned())), ..UserPatch::default() };
    server.admin().alter_user("ana", metadata).await.unwrap();
    // Comes after it in the same queue.
    server.admin().revoke_api_key(&bob_key).await.unwrap();
    timeout(PATIENCE, bob.withdrawn()).await.expect("the other call ends");
    assert!(grant.ended().is_none());
    watching.abort();
}

#[tokio::test]
async fn a_session_runs_with_the_role_that_the_user_has_now() {
    let server = server(None, &AuthSection::default());
    server.user("ana", Role::User).await;
    let key = server.key("ana").await;
    let call = async || server.call(REMOTE, &[("x-api-key", key.as_bytes())]).await.unwrap().caller;
    let caller = call().await;
    let mut run = server.engine.session(caller).execute(Request::new("CREATE NAMESPACE n"));
    assert_eq!(run.next().await.unwrap().err().unwrap().reason(), Reason::PermissionDenied);
    let patch = UserPatch { role: Some(Role::Dba), ..UserPatch::default() };
    server.admin().alter_user("ana", patch).await.unwrap();
    let caller = call().await;
    let mut run = server.engine.session(caller).execute(Request::new("CREATE NAMESPACE n"));
    run.next().await.unwrap().unwrap();
}

proptest! {
    #[test]
    fn any_user_id_arrives_as_it_was_sent(id in "\\PC{1,64}") {
        let encoded = BASE64.encode(&id);
        let map = headers(&[(USER_ID_BIN, encoded.as_bytes())]);
        let named = acting::named_user(&map).unwrap().unwrap();
        prop_assert_eq!(named.as_str(), id);
    }
}
