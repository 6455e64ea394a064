//! CREATE, ALTER and DROP USER: what they do, who may, and what they refuse.

use kalamdb_engine::{AccessChange, Reason, Role};

use super::{caller, db};
use crate::harness::{table, user_id};

#[tokio::test]
async fn a_user_is_created_changed_and_dropped() {
    let db = db().await;
    let admin = db.admin();
    assert_eq!(admin.run("CREATE USER Ana").await.message, "User ana created");
    admin
        .run(
            "CREATE USER IF NOT EXISTS 'bob@example.com' WITH ROLE service PASSWORD 'correct horse' ID 'bob' \
             METADATA '{\"team\": 7}' DISABLE",
        )
        .await;
    let columns = "user_id, username, role, permissions, metadata, disabled, has_password";
    let rows = admin.rows(format!("SELECT {columns} FROM system.users ORDER BY user_id")).await;
    assert_eq!(
        rows,
        table(&[
            ["ana", "ana", "user", "[]", "NULL", "false", "false"],
            ["bob", "bob@example.com", "service", "[]", "{\"team\": 7}", "true", "true"],
        ])
    );
    admin.run("CREATE SHARED TABLE orders (id BIGINT PRIMARY KEY, owner TEXT) ACCESS restricted").await;
    admin
        .run(
            "ALTER USER ana SET ROLE dba, PERMISSIONS ('app.orders.owner = CURRENT_USER()', 'app.*'), METADATA '[1]', \
             PASSWORD 'something else'",
        )
        .await;
    admin.run("ALTER USER 'bob@example.com' ENABLE METADATA NULL").await;
    admin.run("ALTER USER bob RENAME TO robert").await;
    let rows = admin.rows(format!("SELECT {columns} FROM system.users ORDER BY user_id")).await;
    assert_eq!(
        rows,
        table(&[
            ["ana", "ana", "dba", "[app.orders.owner = CURRENT_USER(), app.*]", "[1]", "false", "true"],
            ["bob", "robert", "service", "[]", "NULL", "false", "true"],
        ])
    );
    assert_eq!(admin.run("DROP USER robert").await.message, "User robert dropped");
    assert_eq!(admin.run("DROP USER IF EXISTS robert").await.message, "User robert does not exist");
    assert_eq!(admin.value("SELECT count(*) FROM system.users").await, "1");
    // The id and the name can be given again.
    admin.run("CREATE USER robert ID 'bob'").await;
}

#[tokio::test]
async fn duplicates_and_unknown_users_have_exact_messages() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER ana").await;
    let error = admin.fails(Reason::UserExists, "CREATE USER ana").await;
    assert_eq!(error.message(), "User with user_id 'ana' already exists");
    assert_eq!(error.metadata().get("user_id").map(String::as_str), Some("ana"));
    assert_eq!(admin.run("CREATE USER IF NOT EXISTS ana").await.message, "User ana exists already");
    let error = admin.fails(Reason::UserExists, "CREATE USER other ID 'ana'").await;
    assert_eq!(error.message(), "User with user_id 'ana' already exists");
    let error = admin.fails(Reason::UserExists, "CREATE USER ana ID 'other'").await;
    assert_eq!(error.message(), "User with username 'ana' already exists");
    admin.run("CREATE USER bob").await;
    admin.fails(Reason::UserExists, "ALTER USER bob RENAME TO ana").await;
    for sql in ["ALTER USER nobody DISABLE", "DROP USER nobody", "CREATE API KEY FOR USER nobody"] {
        let error = admin.fails(Reason::UserNotFound, sql).await;
        assert_eq!(error.message(), "User with user_id 'nobody' not found", "{sql}");
    }
}

#[tokio::test]
async fn a_rename_frees_the_name_and_keeps_the_id() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER ana; ALTER USER ana RENAME TO anna; CREATE USER ana ID 'ana2'").await;
    let users = db.engine().users();
    assert_eq!(users.find_by_name("anna").unwrap().unwrap().user_id, user_id("ana"));
    assert_eq!(users.find_by_name("ana").unwrap().unwrap().user_id, user_id("ana2"));
    // A statement means the username before the id.
    admin.run("ALTER USER ana DISABLE").await;
    assert!(users.find(&user_id("ana2")).unwrap().unwrap().disabled);
    assert!(!users.find(&user_id("ana")).unwrap().unwrap().disabled);
}

#[tokio::test]
async fn malformed_properties_say_where() {
    let db = db().await;
    let admin = db.admin();
    let error = admin.fails(Reason::InvalidUser, "CREATE USER a METADATA '{\"a\": 1,\n \"b\": }'").await;
    assert!(error.message().contains("line 2, column 7"), "{error}");
    assert_eq!(error.metadata().get("json_line").map(String::as_str), Some("2"));
    admin.fails(Reason::InvalidUser, "CREATE USER a METADATA ''").await;
    admin.fails(Reason::InvalidUser, "CREATE USER a METADATA '{} {}'").await;
    for sql in ["CREATE USER ''", "CREATE USER 'a\nb'", "CREATE USER ' a'", "CREATE USER a PASSWORD 'short'"] {
        admin.fails(Reason::InvalidUser, sql).await;
    }
    admin.fails(Reason::InvalidUser, format!("CREATE USER '{}'", "x".repeat(257))).await;
    let error = admin.fails(Reason::SyntaxError, "CREATE USER a PERMISSIONS ('app.t.owner = = 1')").await;
    assert!(error.message().contains("column"), "{error}");
    admin.fails(Reason::TableNotFound, "CREATE USER a PERMISSIONS ('app.nothing.owner = CURRENT_USER()')").await;
    admin.fails(Reason::SyntaxError, "CREATE USER a ROLE root").await;
    admin.fails(Reason::SyntaxError, "CREATE USER a SUPERUSER").await;
    admin.fails(Reason::InvalidStatement, "CREATE USER a ROLE user ROLE dba").await;
    admin.fails(Reason::SyntaxError, "ALTER USER a").await;
    admin.fails(Reason::NotSupported, "ALTER USER a SET ID 'b'").await;
    assert_eq!(admin.value("SELECT count(*) FROM system.users").await, "0");
}

#[tokio::test]
async fn a_dba_administers_those_below_it() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER root ROLE system; CREATE USER dan ROLE dba; CREATE USER dora ROLE dba").await;
    let dan = caller(&db, "dan", Role::Dba);
    dan.run("CREATE USER ana; CREATE USER bot ROLE service; ALTER USER ana SET ROLE service; ALTER USER ana DISABLE")
        .await;
    dan.run("CREATE API KEY FOR USER bot; CREATE API KEY FOR USER dan; DROP USER bot").await;
    for sql in [
        "CREATE USER x ROLE dba",
        "CREATE USER x ROLE system",
        "ALTER USER dan SET ROLE system",
        "ALTER USER dan SET ROLE dba",
        "ALTER USER dan SET PERMISSIONS ('app.*')",
        "ALTER USER ana SET ROLE dba",
        "ALTER USER dora DISABLE",
        "ALTER USER dora SET PASSWORD 'correct horse'",
        "ALTER USER root SET ROLE user",
        "DROP USER root",
        "DROP USER dora",
        "DROP USER dan",
        "CREATE API KEY FOR USER root",
        "CREATE API KEY FOR USER dora",
    ] {
        dan.fails(Reason::PermissionDenied, sql).await;
    }
    // What everybody may.
    dan.run("ALTER USER dan SET PASSWORD 'correct horse'").await;
    let roles = dan.rows("SELECT role FROM system.users ORDER BY user_id").await;
    assert_eq!(roles, table(&[["service"], ["dba"], ["dba"], ["system"]]));
}

#[tokio::test]
async fn others_administer_nobody() {
    let db = db().await;
    db.admin()
        .run("CREATE USER ana; CREATE USER bob; CREATE USER bot ROLE service; CREATE USER root ROLE system")
        .await;
    let ana = db.user("ana");
    let bot = caller(&db, "bot", Role::Service);
    for sql in ["CREATE USER x", "DROP USER bob", "DROP USER ana", "CREATE API KEY FOR USER ana"] {
        ana.fails(Reason::PermissionDenied, sql).await;
        bot.fails(Reason::PermissionDenied, sql).await;
    }
    for sql in ["ALTER USER ana SET ROLE dba", "ALTER USER ana SET PASSWORD 'correct horse', ROLE dba"] {
        ana.fails(Reason::PermissionDenied, sql).await;
    }
    // To a plain user others do not exist.
    ana.fails(Reason::UserNotFound, "ALTER USER bob SET PASSWORD 'correct horse'").await;
    ana.fails(Reason::UserNotFound, "SHOW API KEYS FOR USER bob").await;
    bot.fails(Reason::PermissionDenied, "ALTER USER bob SET PASSWORD 'correct horse'").await;
    ana.run("ALTER USER ana SET PASSWORD 'correct horse'").await;
    db.engine().users().authenticate_password("ana", "correct horse").await.unwrap();
    assert_eq!(ana.rows("SELECT username FROM system.users").await, table(&[["ana"]]));
    assert_eq!(ana.rows("SELECT username FROM system.users WHERE username LIKE 'b%'").await, Vec::<Vec<String>>::new());
    assert_eq!(ana.value("SELECT count(*) FROM system.users WHERE user_id IN ('bob', 'root')").await, "0");
    assert_eq!(ana.run("SHOW USERS").await.row_count, 1);
    // A service knows those that it may act for.
    let known = bot.rows("SELECT username FROM system.users ORDER BY username").await;
    assert_eq!(known, table(&[["ana"], ["bob"], ["bot"]]));
}

#[tokio::test]
async fn somebody_is_left_to_administer() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER root ROLE system").await;
    let root = caller(&db, "root", Role::System);
    for sql in ["ALTER USER root DISABLE", "ALTER USER root SET ROLE dba", "UPDATE system.users SET disabled = TRUE"] {
        root.fails(Reason::LastAdministrator, sql).await;
    }
    let error = root.fails(Reason::PermissionDenied, "DROP USER root").await;
    assert!(error.message().contains("Nobody drops itself"), "{error}");
    admin.fails(Reason::LastAdministrator, "DROP USER root").await;
    admin.fails(Reason::LastAdministrator, "DELETE FROM system.users").await;
    // One who is disabled does not count.
    admin.run("CREATE USER spare ROLE system DISABLE").await;
    admin.fails(Reason::LastAdministrator, "DROP USER root").await;
    admin.run("ALTER USER spare ENABLE; DROP USER root").await;
    admin.fails(Reason::LastAdministrator, "ALTER USER spare SET ROLE user").await;
}

#[tokio::test]
async fn what_changes_rights_is_told() {
    let db = db().await;
    let admin = db.admin();
    admin.run("CREATE USER ana").await;
    let mut changes = db.engine().users().changes();
    let ana = || AccessChange::User(user_id("ana"));
    admin.run("ALTER USER ana SET METADATA '{}'").await;
    assert!(changes.try_recv().is_err(), "metadata are no right");
    admin.run("ALTER USER ana SET ROLE service").await;
    assert_eq!(changes.try_recv().unwrap(), ana());
    // Nothing that changes is nothing to tell.
    admin.run("ALTER USER ana SET ROLE service").await;
    assert!(changes.try_recv().is_err());
    admin.run("ALTER USER ana DISABLE").await;
    assert_eq!(changes.try_recv().unwrap(), ana());
    admin.run("ALTER USER ana SET PERMISSIONS ('app.*')").await;
    assert_eq!(changes.try_recv().unwrap(), ana());
    admin.run("ALTER USER ana SET PASSWORD 'correct horse'").await;
    assert_eq!(changes.try_recv().unwrap(), ana());
    admin.run("DROP USER ana").await;
    assert_eq!(changes.try_recv().unwrap(), ana());
}

#[tokio::test]
async fn users_outlive_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = super::cheap();
    settings.storage = kalamdb_engine::StorageSettings::Directory(temp.path().join("data"));
    let mut db = crate::harness::Db::with(settings).await;
    db.admin().run("CREATE USER ana ROLE dba PASSWORD 'correct horse' METADATA '{\"a\": 1}'").await;
    let before = db.engine().users().find(&user_id("ana")).unwrap().unwrap();
    db.reopen();
    let after = db.engine().users().find(&user_id("ana")).unwrap().unwrap();
    assert_eq!(before, after);
    assert!(!db.engine().users().is_empty().unwrap());
    db.engine().users().authenticate_password("ana", "correct horse").await.unwrap();
}
