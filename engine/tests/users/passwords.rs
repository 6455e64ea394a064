//! Passwords, and the first administrator.

use kalamdb_engine::{Reason, Role};

use super::db;
use crate::harness::user_id;

#[tokio::test]
async fn a_password_is_of_its_user() {
    let db = db().await;
    let users = db.engine().users();
    db.admin().run("CREATE USER ana PASSWORD 'correct horse'; CREATE USER bob PASSWORD 'battery staple'").await;
    db.admin().run("CREATE USER carl").await;
    let ana = users.authenticate_password("ana", "correct horse").await.unwrap();
    assert_eq!(ana.user_id.as_str(), "ana");
    let mut texts = Vec::new();
    for (name, password) in [
        ("ana", "battery staple"),
        ("ana", ""),
        ("Ana", "correct horse"),
        ("carl", ""),
        ("nobody", "correct horse"),
        ("", ""),
    ] {
        let error = users.authenticate_password(name, password).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Unauthenticated, "{name}");
        texts.push(error.message().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "who exists cannot be told: {texts:?}");
    // That a user is disabled is told to itself.
    db.admin().run("ALTER USER ana DISABLE").await;
    let error = users.authenticate_password("ana", "correct horse").await.unwrap_err();
    assert_eq!(error.reason(), Reason::UserDisabled);
    let error = users.authenticate_password("ana", "wrong horse").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unauthenticated);
    db.admin().run("ALTER USER ana ENABLE PASSWORD NULL").await;
    users.authenticate_password("ana", "correct horse").await.unwrap_err();
}

#[tokio::test]
async fn many_at_once_are_all_checked() {
    let db = db().await;
    db.admin().run("CREATE USER ana PASSWORD 'correct horse'").await;
    let checks = (0..100).map(|n| {
        let users = std::sync::Arc::clone(db.engine().users());
        async move {
            let password = if n % 2 == 0 { "correct horse" } else { "wrong horse" };
            users.authenticate_password("ana", password).await.is_ok() == (n % 2 == 0)
        }
    });
    assert!(futures::future::join_all(checks).await.into_iter().all(|right| right));
}

#[tokio::test]
async fn a_new_database_gets_an_administrator() {
    let db = db().await;
    let users = db.engine().users();
    assert!(users.is_empty().unwrap());
    let (user, key) = users.create_first_administrator().await.unwrap();
    assert_eq!((user.username.as_str(), user.role, user.disabled), ("admin", Role::System, false));
    assert!(!users.is_empty().unwrap());
    assert_eq!(users.authenticate_key(&key).await.unwrap().0.user_id, user_id("admin"));
    assert_eq!(users.create_first_administrator().await.unwrap_err().reason(), Reason::UserExists);
    db.admin().fails(Reason::LastAdministrator, "DROP USER admin").await;
}
