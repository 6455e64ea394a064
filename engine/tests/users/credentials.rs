//! API keys and sessions: good for what they are, and for nothing once they ended.

use std::time::Duration;

use kalamdb_engine::{AccessChange, ApiKeyId, EngineSettings, Reason, Role, UserSettings};

use super::{caller, cheap, db};
use crate::harness::{Db, NOW_US, table, user_id};

/// Creates a key by SQL; answers its id and the key.
async fn new_key(db: &Db, sql: &str) -> (String, String) {
    let answer = db.admin().run(sql).await;
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["key_id", "key", "user_id", "name", "expires_at"]);
    assert_eq!(answer.rows.len(), 1);
    (answer.rows[0][0].clone(), answer.rows[0][1].clone())
}

async fn refused(db: &Db, key: &str) {
    let error = db.engine().users().authenticate_key(key).await.expect_err(key);
    assert_eq!(error.reason(), Reason::Unauthenticated, "{error}");
    assert!(key.len() < 20 || !error.message().contains(key));
}

#[tokio::test]
async fn a_key_is_good_until_it_is_revoked() {
    let db = db().await;
    let users = db.engine().users();
    db.admin().run("CREATE USER ana").await;
    let (id, key) = new_key(&db, "CREATE API KEY FOR USER ana NAME 'laptop'").await;
    assert!(key.starts_with(&format!("kdb_{id}_")), "{key}");
    assert_eq!(key.len(), 4 + 16 + 1 + 43);
    let (user, key_id) = users.authenticate_key(&key).await.unwrap();
    assert_eq!((user.user_id.as_str(), key_id.as_str()), ("ana", id.as_str()));
    for (place, _) in key.char_indices() {
        let mut wrong = key.clone();
        wrong.replace_range(place..=place, if &key[place..=place] == "x" { "y" } else { "x" });
        // The last character of a secret has bits that mean nothing; it is refused with others than those written.
        refused(&db, &wrong).await;
    }
    for wrong in ["", "kdb_", "kdb__", &key[..key.len() - 1], &format!("{key}a"), &key[4..], &"x".repeat(100_000)] {
        refused(&db, wrong).await;
    }
    let shown = db.admin().rows("SELECT key_id, user_id, name FROM system.api_keys").await;
    assert_eq!(shown, table(&[[id.as_str(), "ana", "laptop"]]));
    let mut changes = users.changes();
    db.admin().run(format!("REVOKE API KEY '{id}'")).await;
    assert_eq!(changes.try_recv().unwrap(), AccessChange::Key(ApiKeyId::new(&id).unwrap()));
    refused(&db, &key).await;
    assert!(!users.key_is_valid(&key_id).unwrap());
    db.admin().fails(Reason::ApiKeyNotFound, format!("REVOKE API KEY '{id}'")).await;
}

#[tokio::test]
async fn a_key_ends_with_its_time_and_its_user() {
    let db = db().await;
    let users = db.engine().users();
    db.admin().run("CREATE USER ana").await;
    let (_, hour) = new_key(&db, "CREATE API KEY FOR USER ana EXPIRES IN '1 hour'").await;
    let (_, dated) = new_key(&db, "CREATE API KEY FOR USER ana EXPIRES '2026-01-02T05:00:00Z'").await;
    let (_, lasting) = new_key(&db, "CREATE API KEY FOR ana").await;
    db.admin().fails(Reason::InvalidUser, "CREATE API KEY FOR USER ana EXPIRES '2025-01-01'").await;
    db.admin().fails(Reason::InvalidStatement, "CREATE API KEY FOR USER ana EXPIRES 'soon'").await;
    users.authenticate_key(&hour).await.unwrap();
    db.env.advance_us(3_600_000_000);
    refused(&db, &hour).await;
    users.authenticate_key(&dated).await.unwrap();
    db.env.advance_us(3_600_000_000);
    refused(&db, &dated).await;
    db.admin().run("ALTER USER ana DISABLE").await;
    assert_eq!(users.authenticate_key(&lasting).await.unwrap_err().reason(), Reason::UserDisabled);
    db.admin().run("ALTER USER ana ENABLE").await;
    users.authenticate_key(&lasting).await.unwrap();
    db.admin().run("DROP USER ana").await;
    refused(&db, &lasting).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM system.api_keys").await, "0");
    // A user of the same name is another.
    db.admin().run("CREATE USER ana").await;
    refused(&db, &lasting).await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_shown_and_kept() {
    let temp = tempfile::tempdir().unwrap();
    let storage = kalamdb_engine::StorageSettings::Directory(temp.path().join("data"));
    let mut db = Db::with(EngineSettings { storage, ..cheap() }).await;
    db.admin().run("CREATE USER ana").await;
    let (_, key) = new_key(&db, "CREATE API KEY FOR USER ana").await;
    let used = |db: &Db| db.admin().session.api_keys(None).unwrap()[0].last_used_us;
    assert_eq!(used(&db), None);
    db.engine().users().authenticate_key(&key).await.unwrap();
    assert_eq!(used(&db), Some(NOW_US));
    // Not each use is noted, only one in a minute.
    db.env.advance_us(59_000_000);
    db.engine().users().authenticate_key(&key).await.unwrap();
    assert_eq!(used(&db), Some(NOW_US));
    db.env.advance_us(1_000_000);
    db.engine().users().authenticate_key(&key).await.unwrap();
    assert_eq!(used(&db), Some(NOW_US + 60_000_000));
    db.engine().users().note_login(&user_id("ana"));
    db.reopen();
    assert_eq!(used(&db), Some(NOW_US + 60_000_000));
    assert_eq!(db.admin().session.user("ana").unwrap().last_login_us, Some(NOW_US + 60_000_000));
    assert_eq!(db.admin().value("SELECT last_login IS NULL FROM system.users").await, "false");
}

#[tokio::test]
async fn everybody_sees_and_revokes_its_own_keys() {
    let db = db().await;
    db.admin().run("CREATE USER ana; CREATE USER bob").await;
    let (anas, _) = new_key(&db, "CREATE API KEY FOR USER ana").await;
    let (bobs, whole) = new_key(&db, "CREATE API KEY FOR USER bob").await;
    let ana = db.user("ana");
    assert_eq!(ana.rows("SELECT key_id FROM system.api_keys").await, table(&[[anas.as_str()]]));
    assert_eq!(ana.run("SHOW API KEYS").await.row_count, 1);
    // One of others is as one that does not exist.
    let error = ana.fails(Reason::ApiKeyNotFound, format!("REVOKE API KEY '{bobs}'")).await;
    let unknown = ana.fails(Reason::ApiKeyNotFound, "REVOKE API KEY '0123456789abcdef'").await;
    assert_eq!(error.message().replace(&bobs, "0123456789abcdef"), unknown.message());
    ana.run(format!("REVOKE API KEY '{anas}'")).await;
    // Whoever gives the whole key means its id.
    db.user("bob").run(format!("REVOKE API KEY '{whole}'")).await;
    refused(&db, &whole).await;
}

#[tokio::test]
async fn a_dba_leaves_the_keys_of_those_above_alone() {
    let db = db().await;
    db.admin().run("CREATE USER root ROLE system; CREATE USER dan ROLE dba; CREATE USER ana").await;
    let (roots, _) = new_key(&db, "CREATE API KEY FOR USER root").await;
    let (anas, _) = new_key(&db, "CREATE API KEY FOR USER ana").await;
    let dan = caller(&db, "dan", Role::Dba);
    dan.fails(Reason::PermissionDenied, format!("REVOKE API KEY '{roots}'")).await;
    dan.run(format!("REVOKE API KEY '{anas}'")).await;
}

#[tokio::test]
async fn a_session_is_renewed_once_by_each_token() {
    let db = db().await;
    let users = db.engine().users();
    db.admin().run("CREATE USER ana").await;
    let first = users.open_session(&user_id("ana"), Duration::from_secs(100)).await.unwrap();
    assert_eq!(first.expires_at_us, NOW_US + 100_000_000);
    assert!(users.session_is_open(&first.session_id).unwrap());
    db.env.advance_us(50_000_000);
    let (user, second) = users.renew_session(&first.refresh_token).await.unwrap();
    assert_eq!(user.user_id.as_str(), "ana");
    assert_eq!(second.session_id, first.session_id);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(second.expires_at_us, NOW_US + 150_000_000);
    let (_, third) = users.renew_session(&second.refresh_token).await.unwrap();
    // A token that was used is in wrong hands: so may be its successors.
    let mut changes = users.changes();
    let error = users.renew_session(&first.refresh_token).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unauthenticated);
    assert_eq!(changes.try_recv().unwrap(), AccessChange::Session(first.session_id.clone()));
    assert!(!users.session_is_open(&first.session_id).unwrap());
    assert_eq!(users.renew_session(&third.refresh_token).await.unwrap_err().reason(), Reason::Unauthenticated);
}

#[tokio::test]
async fn who_knows_the_id_of_a_session_cannot_close_it() {
    let db = db().await;
    let users = db.engine().users();
    db.admin().run("CREATE USER ana").await;
    let session = users.open_session(&user_id("ana"), Duration::from_secs(100)).await.unwrap();
    let other = users.open_session(&user_id("ana"), Duration::from_secs(100)).await.unwrap();
    let place = other.refresh_token.find(&other.session_id).unwrap() + other.session_id.len() + 1;
    let forged = format!("kdr_{}_{}", session.session_id, &other.refresh_token[place..]);
    for wrong in [forged.as_str(), "", "kdr_", "kdr_0123456789abcdef_x", &session.refresh_token[1..]] {
        assert_eq!(users.renew_session(wrong).await.unwrap_err().reason(), Reason::Unauthenticated, "{wrong}");
    }
    assert!(users.session_is_open(&session.session_id).unwrap());
    users.renew_session(&session.refresh_token).await.unwrap();
}

#[tokio::test]
async fn sessions_end() {
    let db = db().await;
    let users = db.engine().users();
    let admin = db.admin();
    admin.run("CREATE USER ana").await;
    let ana = user_id("ana");
    let open = async || users.open_session(&ana, Duration::from_secs(100)).await.unwrap();
    let session = open().await;
    assert!(users.close_session(&session.session_id).await.unwrap());
    assert!(!users.close_session(&session.session_id).await.unwrap());
    assert!(!users.session_is_open(&session.session_id).unwrap());
    assert!(!users.session_is_open("../../etc").unwrap());
    // With their time.
    let session = open().await;
    db.env.advance_us(100_000_000);
    assert!(!users.session_is_open(&session.session_id).unwrap());
    assert_eq!(users.renew_session(&session.refresh_token).await.unwrap_err().reason(), Reason::Unauthenticated);
    // With the password that opened them.
    let session = open().await;
    admin.run("ALTER USER ana SET PASSWORD 'correct horse'").await;
    assert!(!users.session_is_open(&session.session_id).unwrap());
    // While the user is disabled they are not renewed.
    let session = open().await;
    admin.run("ALTER USER ana DISABLE").await;
    assert_eq!(users.renew_session(&session.refresh_token).await.unwrap_err().reason(), Reason::UserDisabled);
    assert_eq!(users.open_session(&ana, Duration::from_secs(1)).await.unwrap_err().reason(), Reason::UserDisabled);
    admin.run("ALTER USER ana ENABLE").await;
    users.renew_session(&session.refresh_token).await.unwrap();
    // With their user.
    admin.run("DROP USER ana").await;
    assert!(!users.session_is_open(&session.session_id).unwrap());
    assert_eq!(users.open_session(&ana, Duration::from_secs(1)).await.unwrap_err().reason(), Reason::UserNotFound);
}

#[tokio::test]
async fn a_user_has_so_many_sessions() {
    let settings = cheap();
    let users = UserSettings { max_sessions_per_user: 2, ..settings.users.clone() };
    let db = Db::with(EngineSettings { users, ..settings }).await;
    let users = db.engine().users();
    db.admin().run("CREATE USER ana").await;
    let ana = user_id("ana");
    let mut sessions = Vec::new();
    for lifetime_s in [300, 100, 200] {
        sessions.push(users.open_session(&ana, Duration::from_secs(lifetime_s)).await.unwrap().session_id);
    }
    let open: Vec<bool> = sessions.iter().map(|id| users.session_is_open(id).unwrap()).collect();
    assert_eq!(open, [true, false, true], "the one that would end first makes room");
}
