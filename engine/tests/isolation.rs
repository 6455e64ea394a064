//! Whose rows a statement sees and changes.

use kalamdb_engine::{Caller, Reason, Role};

use crate::harness::{Db, table, user_id};

async fn notes() -> Db {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    db.user("ana").run("INSERT INTO notes VALUES (1, 'of ana'), (2, 'also of ana')").await;
    db.user("bob").run("INSERT INTO notes VALUES (1, 'of bob')").await;
    db
}

#[tokio::test]
async fn the_same_sql_means_each_users_own_rows() {
    let db = notes().await;
    for _ in 0..2 {
        assert_eq!(db.user("ana").rows("SELECT body FROM notes WHERE id = 1").await, table(&[["of ana"]]));
        assert_eq!(db.user("bob").rows("SELECT body FROM notes WHERE id = 1").await, table(&[["of bob"]]));
        assert_eq!(db.user("ana").value("SELECT count(*) FROM app.user.notes").await, "2");
        assert_eq!(db.user("bob").value("SELECT count(*) FROM app.user.notes").await, "1");
        assert_eq!(db.user("eve").value("SELECT count(*) FROM notes").await, "0");
    }
}

#[tokio::test]
async fn writes_reach_only_the_callers_rows() {
    let db = notes().await;
    assert_eq!(db.user("bob").run("UPDATE notes SET body = 'changed'").await.row_count, 1);
    assert_eq!(db.user("bob").run("DELETE FROM notes WHERE id = 2").await.row_count, 0);
    assert_eq!(db.user("bob").run("DELETE FROM notes").await.row_count, 1);
    db.user("eve").run("INSERT INTO notes SELECT id, body FROM notes").await;
    let rows = db.admin().rows("SELECT _user_id, id, body FROM app.all_users.notes ORDER BY _user_id, id").await;
    assert_eq!(rows, table(&[["ana", "1", "of ana"], ["ana", "2", "also of ana"]]));
}

#[tokio::test]
async fn only_service_dba_and_system_read_across_users() {
    let db = notes().await;
    let count = "SELECT count(*) FROM app.all_users.notes";
    for role in [Role::Service, Role::Dba, Role::System] {
        assert_eq!(db.role(role).value(count).await, "3");
    }
    // The plan is in the cache now; the right is checked each time all the same.
    db.user("ana").fails(Reason::PermissionDenied, count).await;
    let inner = "SELECT * FROM notes WHERE id IN (SELECT id FROM app.all_users.notes)";
    db.user("ana").fails(Reason::PermissionDenied, inner).await;
    db.user("ana").fails(Reason::PermissionDenied, "EXPLAIN SELECT * FROM app.all_users.notes").await;
    db.user("ana")
        .fails(Reason::PermissionDenied, "INSERT INTO notes SELECT id + 9, body FROM app.all_users.notes")
        .await;
    db.user("ana")
        .fails(Reason::PermissionDenied, "DELETE FROM notes WHERE id IN (SELECT id FROM app.all_users.notes)")
        .await;
    db.user("ana").fails(Reason::PermissionDenied, "UPDATE app.all_users.notes SET body = ''").await;
}

#[tokio::test]
async fn all_users_is_read_only() {
    let db = notes().await;
    for sql in [
        "INSERT INTO app.all_users.notes VALUES (9, 'x')",
        "UPDATE app.all_users.notes SET body = 'x'",
        "DELETE FROM app.all_users.notes",
    ] {
        db.admin().fails(Reason::InvalidStatement, sql).await;
    }
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.notes").await, "3");
}

#[tokio::test]
async fn the_user_qualifier_needs_a_user_to_act_for() {
    let db = notes().await;
    let sql = "SELECT body FROM app.user.notes WHERE id = 1";
    for role in [Role::Service, Role::Dba, Role::System] {
        assert_eq!(db.acting(role, "ana").rows(sql).await, table(&[["of ana"]]));
        let error = db.role(role).fails(Reason::PermissionDenied, sql).await;
        assert!(error.message().contains("x-user-id"), "{error}");
        db.role(role).fails(Reason::PermissionDenied, "INSERT INTO app.user.notes VALUES (5, 'x')").await;
    }
    assert_eq!(db.user("bob").rows(sql).await, table(&[["of bob"]]));
}

#[tokio::test]
async fn acting_for_a_user_writes_its_rows() {
    let db = notes().await;
    let service = db.acting(Role::Service, "ana");
    service.run("INSERT INTO app.user.notes VALUES (7, current_user())").await;
    service.run("UPDATE notes SET body = 'by service' WHERE id = 1").await;
    let rows = db.user("ana").rows("SELECT id, body FROM notes ORDER BY id").await;
    assert_eq!(rows, table(&[["1", "by service"], ["2", "also of ana"], ["7", "ana"]]));
    assert_eq!(db.user("bob").value("SELECT body FROM notes").await, "of bob");
}

#[tokio::test]
async fn conditions_on_all_users_are_exact() {
    let db = notes().await;
    let admin = db.admin();
    let of = |condition: &str| format!("SELECT _user_id, id FROM app.all_users.notes WHERE {condition} ORDER BY 1, 2");
    assert_eq!(admin.rows(of("id = 1")).await, table(&[["ana", "1"], ["bob", "1"]]));
    assert_eq!(admin.rows(of("id > 1")).await, table(&[["ana", "2"]]));
    assert_eq!(admin.rows(of("_user_id = 'bob'")).await, table(&[["bob", "1"]]));
    assert_eq!(admin.rows(of("id IN (1, 5) AND _user_id <> 'bob'")).await, table(&[["ana", "1"]]));
    let ordered = "SELECT id FROM app.all_users.notes ORDER BY id DESC LIMIT 2";
    assert_eq!(admin.rows(ordered).await, table(&[["2"], ["1"]]));
}

#[tokio::test]
async fn odd_user_ids_have_rows_of_their_own() {
    let db = notes().await;
    let long = "ü".repeat(200);
    let ids =
        ["../../etc", "ana/", "ana\0", "ana\0\0", "\0", "🙂", "ANA", " ana", "'; DROP TABLE app.notes; --", &long];
    for id in ids {
        assert_eq!(db.user(id).value("SELECT count(*) FROM notes").await, "0", "{id:?}");
        db.user(id).run("INSERT INTO notes VALUES (1, current_user())").await;
    }
    for id in ids {
        assert_eq!(db.user(id).rows("SELECT id, body FROM notes").await, table(&[["1", id]]));
    }
    assert_eq!(db.user("ana").value("SELECT count(*) FROM notes").await, "2");
    let distinct = db.admin().value("SELECT count(DISTINCT _user_id) FROM app.all_users.notes").await;
    assert_eq!(distinct, (ids.len() + 2).to_string());
}

#[tokio::test]
async fn access_of_shared_tables() {
    let db = Db::memory().await;
    for access in ["public", "restricted", "private"] {
        db.admin().run(format!("CREATE SHARED TABLE {access}_t (id BIGINT PRIMARY KEY) ACCESS {access}")).await;
        db.admin().run(format!("INSERT INTO {access}_t VALUES (1)")).await;
    }
    db.admin().run("CREATE SHARED TABLE default_t (id BIGINT PRIMARY KEY)").await;
    let user = db.user("ana");
    assert_eq!(user.value("SELECT count(*) FROM public_t").await, "1");
    user.run("INSERT INTO public_t VALUES (2)").await;
    assert_eq!(db.user("bob").value("SELECT count(*) FROM public_t").await, "2");
    for closed in ["restricted_t", "private_t", "default_t"] {
        user.fails(Reason::PermissionDenied, format!("SELECT * FROM {closed}")).await;
        user.fails(Reason::PermissionDenied, format!("INSERT INTO {closed} VALUES (5)")).await;
        user.fails(Reason::PermissionDenied, format!("DELETE FROM {closed}")).await;
        user.fails(Reason::PermissionDenied, format!("DESCRIBE {closed}")).await;
        db.role(Role::Service).run(format!("INSERT INTO {closed} VALUES (3)")).await;
    }
    db.admin().fails(Reason::InvalidStatement, "SELECT * FROM app.all_users.public_t").await;
    db.acting(Role::Service, "ana").fails(Reason::InvalidStatement, "SELECT * FROM app.user.public_t").await;
}

#[tokio::test]
async fn access_that_is_taken_away_closes_cached_plans() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY) ACCESS PUBLIC").await;
    for sql in ["SELECT * FROM t", "INSERT INTO t VALUES (1)", "SELECT * FROM t WHERE id = 1"] {
        db.user("ana").run(sql).await;
    }
    db.admin().run("ALTER TABLE t SET ACCESS private").await;
    for sql in ["SELECT * FROM t", "INSERT INTO t VALUES (1)", "SELECT * FROM t WHERE id = 1"] {
        db.user("ana").fails(Reason::PermissionDenied, sql).await;
    }
}

#[tokio::test]
async fn users_and_services_cannot_change_the_catalog() {
    let db = notes().await;
    for role in [Role::User, Role::Service] {
        for sql in [
            "CREATE NAMESPACE other",
            "ALTER NAMESPACE app SET OPTIONS (a = 1)",
            "DROP NAMESPACE app",
            "CREATE USER TABLE other (id BIGINT PRIMARY KEY)",
            "ALTER TABLE notes ADD COLUMN x BIGINT",
            "DROP TABLE notes",
            "SELECT * FROM system.settings",
        ] {
            db.role(role).fails(Reason::PermissionDenied, sql).await;
        }
        assert!(db.role(role).session.settings().is_err());
        assert!(db.role(role).session.drop_table("app", "notes", false).await.is_err());
    }
    db.role(Role::Dba).run("ALTER TABLE notes ADD COLUMN x BIGINT").await;
}

#[tokio::test]
async fn private_tables_are_not_shown_to_users() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE secret_plans (id BIGINT PRIMARY KEY) ACCESS private").await;
    let user = db.user("ana");
    for sql in [
        "SHOW TABLES",
        "SELECT * FROM system.tables",
        "SELECT * FROM system.columns",
        "SELECT * FROM system.table_schemas",
        "SELECT * FROM information_schema.tables WHERE table_schema = 'app'",
        "SELECT * FROM information_schema.columns WHERE table_schema = 'app'",
    ] {
        let rows = user.rows(sql).await;
        assert!(rows.iter().flatten().all(|v| !v.contains("secret")), "{sql}: {rows:?}");
    }
    assert_eq!(user.value("SELECT table_count FROM system.namespaces WHERE name = 'app'").await, "0");
    let error = user.fails(Reason::TableNotFound, "SELECT * FROM secret_plan").await;
    assert!(!error.message().contains("secret_plans"), "the suggestion tells of a hidden table: {error}");
    assert!(user.session.tables(None).unwrap().is_empty());
    assert_eq!(db.admin().value("SELECT table_name FROM system.tables").await, "secret_plans");
}

#[tokio::test]
async fn errors_tell_nothing_of_others_rows() {
    let db = notes().await;
    // bob's key 1 exists; ana's own does too, eve's does not.
    let error = db.user("ana").fails(Reason::PrimaryKeyViolation, "INSERT INTO notes VALUES (1, 'x')").await;
    assert!(!error.to_string().contains("bob"));
    db.user("eve").run("INSERT INTO notes VALUES (1, 'x')").await;
    let explain = db.user("eve").rows("EXPLAIN ANALYZE SELECT * FROM notes").await;
    let text = format!("{explain:?}");
    assert!(text.contains("output_rows=1") || text.contains("output_rows: 1"), "{text}");
    assert!(!text.contains("ana") || !text.contains("of ana"), "{text}");
}

#[tokio::test]
async fn a_caller_without_namespace_must_name_one() {
    let db = notes().await;
    let ana = db.caller(Caller::new(user_id("ana"), Role::User)).in_namespace(None);
    ana.fails(Reason::NamespaceRequired, "SELECT * FROM notes").await;
    ana.fails(Reason::NamespaceRequired, "INSERT INTO notes VALUES (1, '')").await;
    assert_eq!(ana.value("SELECT count(*) FROM app.notes").await, "2");
    db.user("ana").in_namespace(Some("nowhere")).fails(Reason::NamespaceNotFound, "SELECT * FROM notes").await;
}
