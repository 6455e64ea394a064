//! INSERT, UPDATE, DELETE and SELECT on `system.users`.

use kalamdb_engine::{Parameter, Reason, Role, SqlType};

use super::{caller, db};
use crate::harness::{NOW_US, boolean, table, text, user_id};

#[tokio::test]
async fn rows_are_users() {
    let db = db().await;
    let admin = db.admin();
    let inserted = admin
        .run(
            "INSERT INTO system.users (user_id, username, role, password, permissions, metadata) VALUES \
             ('u1', 'ana', 'user', 'correct horse', ARRAY['app.*'], '{\"a\": 1}'), \
             ('u2', 'bob', DEFAULT, NULL, NULL, NULL)",
        )
        .await;
    assert_eq!((inserted.row_count, inserted.message.as_str()), (2, "INSERT 0 2"));
    // Either of the two names is enough.
    admin.run("INSERT INTO system.users (user_id) VALUES ('u3')").await;
    admin.run("INSERT INTO system.users (username, role) VALUES (lower('DORA'), 'dba')").await;
    assert_eq!(
        admin
            .rows("SELECT user_id, username, role, permissions, has_password FROM system.users ORDER BY user_id")
            .await,
        table(&[
            ["dora", "dora", "dba", "[]", "false"],
            ["u1", "ana", "user", "[app.*]", "true"],
            ["u2", "bob", "user", "[]", "false"],
            ["u3", "u3", "user", "[]", "false"],
        ])
    );
    db.engine().users().authenticate_password("ana", "correct horse").await.unwrap();
}

#[tokio::test]
async fn an_update_is_of_what_it_names() {
    let db = db().await;
    let admin = db.admin();
    admin
        .run("CREATE USER ana PASSWORD 'correct horse' METADATA '{\"a\": 1}'; CREATE USER bob; CREATE USER carl")
        .await;
    db.env.advance_us(1_000);
    let updated = admin.run("UPDATE system.users SET role = 'service' WHERE username IN ('ana', 'bob')").await;
    assert_eq!((updated.row_count, updated.message.as_str()), (2, "UPDATE 2"));
    let ana = db.engine().users().find(&user_id("ana")).unwrap().unwrap();
    assert_eq!((ana.role, ana.metadata.as_deref(), ana.has_password), (Role::Service, Some("{\"a\": 1}"), true));
    assert_eq!((ana.created_at_us, ana.updated_at_us), (NOW_US, NOW_US + 1_000));
    assert_eq!(db.engine().users().find(&user_id("carl")).unwrap().unwrap().updated_at_us, NOW_US);
    admin.run("UPDATE system.users SET metadata = '{\"name\": \"' || username || '\"}', disabled = NOT disabled").await;
    assert_eq!(
        admin.rows("SELECT metadata, disabled FROM system.users WHERE user_id = 'bob'").await,
        table(&[["{\"name\": \"bob\"}", "true"]])
    );
    admin
        .run("UPDATE system.users SET metadata = NULL, password = NULL, permissions = NULL WHERE user_id = 'ana'")
        .await;
    let ana = db.engine().users().find(&user_id("ana")).unwrap().unwrap();
    assert_eq!((ana.metadata.clone(), ana.has_password, ana.role), (None, false, Role::Service));
    let deleted = admin.run("DELETE FROM system.users WHERE role = 'service'").await;
    assert_eq!((deleted.row_count, deleted.message.as_str()), (2, "DELETE 2"));
    assert_eq!(admin.rows("SELECT username FROM system.users").await, table(&[["carl"]]));
}

#[tokio::test]
async fn parameters_are_values() {
    let db = db().await;
    let admin = db.admin();
    admin
        .run_with(
            "INSERT INTO system.users (username, password, disabled) VALUES ($1, $2, $3)",
            &[text("ana"), text("correct horse"), boolean(true)],
        )
        .await;
    admin.run_with("UPDATE system.users SET disabled = $2 WHERE user_id = $1", &[text("ana"), boolean(false)]).await;
    db.engine().users().authenticate_password("ana", "correct horse").await.unwrap();
    let rows = admin.run_with("SELECT user_id FROM system.users WHERE username LIKE $1", &[text("an%")]).await.rows;
    assert_eq!(rows, table(&[["ana"]]));
    let null = Parameter { value: datafusion::common::ScalarValue::Null, sql_type: SqlType::Null };
    let none = admin.run_with("SELECT user_id FROM system.users WHERE user_id = $1", &[null]).await;
    assert_eq!(none.row_count, 0);
}

#[tokio::test]
async fn a_statement_changes_all_of_its_users_or_none() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER ana; CREATE USER root ROLE system").await;
    let error =
        admin.fails(Reason::UserExists, "INSERT INTO system.users (username) VALUES ('x'), ('ana'), ('y')").await;
    assert_eq!(error.message(), "User with user_id 'ana' already exists");
    admin.fails(Reason::UserExists, "INSERT INTO system.users (username) VALUES ('x'), ('x')").await;
    admin
        .fails(Reason::InvalidUser, "INSERT INTO system.users (username, metadata) VALUES ('x', '{}'), ('y', '{')")
        .await;
    assert_eq!(admin.value("SELECT count(*) FROM system.users").await, "2");
    let dan = caller(&db, "dan", Role::Dba);
    dan.fails(Reason::PermissionDenied, "UPDATE system.users SET disabled = TRUE").await;
    dan.fails(Reason::PermissionDenied, "DELETE FROM system.users").await;
    assert_eq!(admin.value("SELECT count(*) FROM system.users WHERE NOT disabled").await, "2");
}

#[tokio::test]
async fn unknown_users_are_not_found_by_their_id() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER ana").await;
    for sql in [
        "UPDATE system.users SET disabled = TRUE WHERE user_id = 'X'",
        "DELETE FROM system.users WHERE user_id = 'X'",
        "DELETE FROM system.users AS u WHERE 'X' = u.user_id",
    ] {
        let error = admin.fails(Reason::UserNotFound, sql).await;
        assert_eq!(error.message(), "User with user_id 'X' not found", "{sql}");
    }
    // Of a user who is there but does not fulfil the rest of the condition, and of many, none is no mistake.
    for sql in [
        "DELETE FROM system.users WHERE user_id = 'ana' AND role = 'dba'",
        "DELETE FROM system.users WHERE user_id IN ('X', 'Y')",
        "DELETE FROM system.users WHERE username = 'X'",
        "UPDATE system.users SET disabled = TRUE WHERE role = 'dba'",
    ] {
        assert_eq!(admin.run(sql).await.row_count, 0, "{sql}");
    }
    // One who is not shown is not found either.
    admin.run("CREATE USER bob").await;
    db.user("bob").fails(Reason::UserNotFound, "DELETE FROM system.users WHERE user_id = 'ana'").await;
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_by_name() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER ana").await;
    for (reason, sql) in [
        (Reason::NotSupported, "INSERT INTO system.users (username) VALUES ('x') RETURNING user_id"),
        (Reason::NotSupported, "UPDATE system.users SET disabled = TRUE RETURNING user_id"),
        (Reason::NotSupported, "DELETE FROM system.users RETURNING user_id"),
        (Reason::NotSupported, "INSERT INTO system.users (username) VALUES ('x') ON CONFLICT DO NOTHING"),
        (Reason::NotSupported, "INSERT INTO system.users (username) SELECT 'x'"),
        (Reason::NotSupported, "INSERT INTO system.users VALUES ('x')"),
        (Reason::InvalidStatement, "INSERT INTO system.users (username, created_at) VALUES ('x', NOW())"),
        (Reason::InvalidStatement, "INSERT INTO system.users (username, username) VALUES ('x', 'y')"),
        (Reason::InvalidStatement, "INSERT INTO system.users (username) VALUES ('x', 'y')"),
        (Reason::InvalidStatement, "UPDATE system.users SET user_id = 'x'"),
        (Reason::InvalidStatement, "UPDATE system.users SET last_login = NOW()"),
        (Reason::ColumnNotFound, "INSERT INTO system.users (username, pasword) VALUES ('x', 'correct horse')"),
        (Reason::NotNullViolation, "INSERT INTO system.users (role) VALUES ('user')"),
        (Reason::NotNullViolation, "UPDATE system.users SET role = NULL"),
        (Reason::NotNullViolation, "UPDATE system.users SET username = NULL"),
        (Reason::InvalidValue, "INSERT INTO system.users (username, role) VALUES ('x', 'root')"),
        (Reason::InvalidValue, "INSERT INTO system.users (username, disabled) VALUES ('x', 'yes')"),
        (Reason::InvalidValue, "INSERT INTO system.users (username, permissions) VALUES ('x', 'app.*')"),
        (Reason::InvalidValue, "INSERT INTO system.users (username) VALUES (5)"),
        (Reason::InvalidUser, "INSERT INTO system.users (user_id, username) VALUES ('', 'x')"),
        (Reason::ColumnNotFound, "SELECT password FROM system.users"),
        (Reason::ColumnNotFound, "SELECT user_id FROM system.users WHERE password IS NULL"),
        (Reason::ColumnNotFound, "UPDATE system.users SET metadata = password"),
        (Reason::InvalidStatement, "INSERT INTO system.api_keys (key_id) VALUES ('x')"),
    ] {
        let error = admin.fails(reason, sql).await;
        assert!(!format!("{error:?}").contains("correct horse"), "{error:?}");
    }
    assert_eq!(admin.value("SELECT count(*) FROM system.users").await, "1");
}

#[tokio::test]
async fn texts_with_passwords_are_shown_nowhere() {
    const PASSWORD: &str = "s3cr3t-s3cr3t";
    let db = db().await;
    let admin = db.admin();
    for sql in [
        "CREATE USER a PASSWORD s3cr3t-s3cr3t",
        "CREATE USER a 's3cr3t-s3cr3t'",
        "CREATE USER a PASSWORD 's3cr3t-s3cr3t' PASSWORD 's3cr3t-s3cr3t'",
        "CREATE USER a PASSWORD = 's3cr3t-s3cr3t'",
        "CREATE USER a PASSWORD ('s3cr3t-s3cr3t')",
        "ALTER USER a 's3cr3t-s3cr3t'",
        "ALTER USER a SET PASSWORD 's3cr3t-s3cr3t' 's3cr3t-s3cr3t'",
        "ALTER USER nobody SET PASSWORD 's3cr3t-s3cr3t'",
        "INSERT INTO system.users (username, password) VALUES ('a', 's3cr3t-s3cr3t'))",
        "INSERT INTO system.users (username, password) VALUES ('a', nope('s3cr3t-s3cr3t'))",
        "UPDATE system.users SET password = nope('s3cr3t-s3cr3t')",
        "REVOKE API KEY 'kdb_0123456789abcdef_s3cr3t-s3cr3t'",
        "REVOKE API KEY 's3cr3t-s3cr3t' 's3cr3t-s3cr3t'",
    ] {
        let error = admin.try_run(sql).await.expect_err(sql);
        // What somebody takes for a key's id is repeated to tell that it is none; a key is not.
        assert!(!format!("{error:?} {error}").contains(PASSWORD), "{sql}: {error:?}");
    }
    admin.run("CREATE USER a PASSWORD 's3cr3t-s3cr3t'").await;
    for name in ["users", "api_keys", "audit", "settings", "jobs"] {
        let rows = admin.rows(format!("SELECT * FROM system.{name}")).await;
        assert!(!format!("{rows:?}").contains("s3cr3t"), "{name}: {rows:?}");
        assert!(!format!("{rows:?}").contains("argon2"), "{name}: {rows:?}");
    }
}
