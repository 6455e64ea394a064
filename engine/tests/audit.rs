//! The audit: who did what, kept within bounds and without secrets.

use std::time::Duration;

use kalamdb_engine::{AuditSettings, Caller, EngineSettings, Reason, Role, SecretKey, StorageSettings};

use crate::harness::{Client, Db, small, table, text, user_id};

const SECOND: i64 = 1_000_000;

/// What is recorded but for the harness's own namespace.
const ACTS: &str = "SELECT user_id, role, action, object, outcome, reason FROM system.audit \
                    WHERE coalesce(object, '') <> 'app' ORDER BY audit_id";

fn caller(role: Role) -> Caller {
    Caller::new(user_id("olga"), role).calling_from("192.0.2.9".parse().unwrap())
}

/// The rows of a query when there are so many: what is recorded in the background comes soon.
async fn rows_when(client: &Client, sql: &str, count: usize) -> Vec<Vec<String>> {
    let waiting = async {
        loop {
            let rows = client.rows(sql).await;
            if rows.len() >= count {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let rows = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("not recorded");
    assert_eq!(rows.len(), count, "{rows:?}");
    rows
}

#[tokio::test]
async fn statements_and_calls_leave_the_same_records() {
    let db = Db::memory().await;
    let olga = db.caller(caller(Role::Dba));
    olga.run("CREATE NAMESPACE shop").await;
    olga.run("CREATE USER TABLE shop.carts (id BIGINT PRIMARY KEY)").await;
    olga.fails(Reason::TableExists, "CREATE USER TABLE shop.carts (id BIGINT PRIMARY KEY)").await;
    olga.run("ALTER TABLE shop.carts ADD COLUMN n INT").await;
    olga.session.drop_table("shop", "carts", false).await.unwrap();
    olga.session.create_namespace("other", false, Vec::new()).await.unwrap();
    olga.session.alter_namespace("other", vec![("a".to_owned(), "b".to_owned())]).await.unwrap();
    olga.session.drop_namespace("other", false).await.unwrap();
    olga.session.drop_namespace("missing", false).await.unwrap_err();
    assert_eq!(
        olga.rows(ACTS).await,
        table(&[
            ["olga", "dba", "CREATE NAMESPACE", "shop", "done", "NULL"],
            ["olga", "dba", "CREATE TABLE", "shop.carts", "done", "NULL"],
            ["olga", "dba", "CREATE TABLE", "shop.carts", "failed", "TABLE_EXISTS"],
            ["olga", "dba", "ALTER TABLE", "shop.carts", "done", "NULL"],
            ["olga", "dba", "DROP TABLE", "shop.carts", "done", "NULL"],
            ["olga", "dba", "CREATE NAMESPACE", "other", "done", "NULL"],
            ["olga", "dba", "ALTER NAMESPACE", "other", "done", "NULL"],
            ["olga", "dba", "DROP NAMESPACE", "other", "done", "NULL"],
            ["olga", "dba", "DROP NAMESPACE", "missing", "failed", "NAMESPACE_NOT_FOUND"],
        ])
    );
    let said = "SELECT statement, address FROM system.audit WHERE action = 'ALTER TABLE'";
    assert_eq!(olga.rows(said).await, table(&[["alter table shop.carts add column n int", "192.0.2.9"]]));
    // Rows of tables are nobody's administration.
    let before = olga.value("SELECT count(*) FROM system.audit").await;
    olga.run("CREATE USER TABLE app.t (id BIGINT PRIMARY KEY); INSERT INTO app.t VALUES (1); SELECT * FROM app.t")
        .await;
    let after = olga.value("SELECT count(*) FROM system.audit").await;
    assert_eq!(after.parse::<i64>().unwrap(), before.parse::<i64>().unwrap() + 1);
}

#[tokio::test]
async fn what_a_call_only_asks_for_is_recorded_soon() {
    let db = Db::memory().await;
    let olga = db.caller(caller(Role::Dba));
    olga.run("CREATE USER TABLE app.t (id BIGINT PRIMARY KEY)").await;
    olga.session.flush_table("app", "t", false).unwrap().ended().await;
    olga.session.compact_table("app", "t").unwrap().ended().await;
    olga.session.flush_table("app", "nothing", false).unwrap_err();
    let acts = "SELECT action, object, outcome FROM system.audit WHERE action LIKE '%FLUSH%' OR action LIKE '%COMPACT%' \
                ORDER BY audit_id";
    assert_eq!(
        rows_when(&olga, acts, 3).await,
        table(&[
            ["FLUSH TABLE", "app.t", "done"],
            ["COMPACT TABLE", "app.t", "done"],
            ["FLUSH TABLE", "app.nothing", "failed"],
        ])
    );
}

#[tokio::test]
async fn refusals_are_noted_once_in_a_while() {
    let db = Db::memory().await;
    let olga = db.caller(caller(Role::Dba));
    for round in 0..3 {
        let mallory = db.user("mallory");
        for _ in 0..50 {
            mallory.fails(Reason::PermissionDenied, "DROP NAMESPACE app").await;
            mallory.fails(Reason::PermissionDenied, "CREATE NAMESPACE mine").await;
        }
        let noted = "SELECT user_id, action, outcome, reason FROM system.audit WHERE outcome = 'refused'";
        let rows = rows_when(&olga, noted, round + 1).await;
        assert_eq!(rows[round], ["mallory", "DROP NAMESPACE", "refused", "PERMISSION_DENIED"]);
        db.env.advance_us(61 * SECOND);
    }
    // Another user is noted for itself.
    db.user("bob").fails(Reason::PermissionDenied, "CREATE NAMESPACE mine").await;
    rows_when(&olga, "SELECT 1 FROM system.audit WHERE outcome = 'refused' AND user_id = 'bob'", 1).await;
}

#[tokio::test]
async fn acting_for_others_is_noted_once_in_a_while_for_each() {
    let db = Db::memory().await;
    let olga = db.caller(caller(Role::Dba));
    for _ in 0..20 {
        for user in ["ana", "bob"] {
            db.caller(caller(Role::Service).acting_as(user_id(user))).run("SELECT 1").await;
        }
        // Itself is nobody else.
        db.caller(caller(Role::Service).acting_as(user_id("olga"))).run("SELECT 1").await;
    }
    let noted = "SELECT user_id, role, acting_as, address FROM system.audit WHERE action = 'ACT AS' ORDER BY acting_as";
    let expected = table(&[["olga", "service", "ana", "192.0.2.9"], ["olga", "service", "bob", "192.0.2.9"]]);
    assert_eq!(rows_when(&olga, noted, 2).await, expected);
    db.env.advance_us(61 * SECOND);
    db.caller(caller(Role::Service).acting_as(user_id("ana"))).run("SELECT 1").await;
    rows_when(&olga, noted, 3).await;
}

#[tokio::test]
async fn both_shelves_are_bounded_apart() {
    let audit = AuditSettings { max_records: 20, ..AuditSettings::default() };
    let db = Db::with(EngineSettings { audit, ..small() }).await;
    let olga = db.caller(caller(Role::Dba));
    olga.run("CREATE NAMESPACE kept").await;
    // However many are refused, what operators did stays.
    for n in 0..100 {
        db.user(&format!("mallory{n}")).fails(Reason::PermissionDenied, "CREATE NAMESPACE mine").await;
    }
    rows_when(&olga, "SELECT 1 FROM system.audit WHERE user_id = 'mallory99'", 1).await;
    assert_eq!(olga.value("SELECT count(*) FROM system.audit WHERE outcome = 'refused'").await, "20");
    assert_eq!(olga.value("SELECT count(*) FROM system.audit WHERE object = 'kept'").await, "1");
    // And that is bounded as well.
    for n in 0..30 {
        olga.run(format!("CREATE NAMESPACE n{n}")).await;
    }
    assert_eq!(olga.value("SELECT count(*) FROM system.audit WHERE outcome = 'done'").await, "20");
    assert_eq!(olga.value("SELECT count(*) FROM system.audit WHERE object = 'kept'").await, "0");
}

#[tokio::test]
async fn old_records_go() {
    let audit = AuditSettings { max_age_s: 3_600, ..AuditSettings::default() };
    let db = Db::with(EngineSettings { audit, ..small() }).await;
    let olga = db.caller(caller(Role::Dba));
    olga.run("CREATE NAMESPACE old").await;
    db.env.advance_us(3_599 * SECOND);
    olga.run("CREATE NAMESPACE younger").await;
    let there = "SELECT object FROM system.audit WHERE object IN ('old', 'younger') ORDER BY 1";
    assert_eq!(olga.rows(there).await, table(&[["old"], ["younger"]]));
    db.env.advance_us(2 * SECOND);
    // Also when nothing more happens.
    let gone = async {
        while olga.rows(there).await != table(&[["younger"]]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("old records stay");
}

#[tokio::test]
async fn records_survive_a_restart_and_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let audit = AuditSettings { max_records: 10, ..AuditSettings::default() };
    let storage = StorageSettings::Directory(temp.path().to_path_buf());
    let mut db = Db::with(EngineSettings { audit, storage, ..small() }).await;
    db.caller(caller(Role::Dba)).run("CREATE NAMESPACE shop").await;
    // Pending when the engine is closed.
    db.caller(caller(Role::Service).acting_as(user_id("ana"))).run("SELECT 1").await;
    db.user("mallory").fails(Reason::PermissionDenied, "CREATE NAMESPACE mine").await;
    db.reopen();
    let olga = db.caller(caller(Role::Dba));
    let acts = "SELECT action, outcome FROM system.audit WHERE coalesce(object, '') <> 'app' ORDER BY audit_id";
    let before = table(&[["CREATE NAMESPACE", "done"], ["ACT AS", "done"], ["CREATE NAMESPACE", "refused"]]);
    assert_eq!(olga.rows(acts).await, before);
    for n in 0..20 {
        olga.run(format!("CREATE NAMESPACE n{n}")).await;
    }
    assert_eq!(olga.value("SELECT count(*) FROM system.audit WHERE action = 'CREATE NAMESPACE'").await, "11");
    let ids = olga.rows("SELECT audit_id FROM system.audit ORDER BY at, audit_id").await;
    let ids: Vec<i64> = ids.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}

#[tokio::test]
async fn no_secret_is_recorded() {
    let temp = tempfile::tempdir().unwrap();
    let key = SecretKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let settings = EngineSettings {
        storage: StorageSettings::Directory(temp.path().to_path_buf()),
        storage_secret_key: Some(key),
        storage_request_timeout_s: 1,
        storage_max_retries: 0,
        ..small()
    };
    let db = Db::with(settings).await;
    let olga = db.caller(caller(Role::Dba));
    let credentials = r#"{"access_key_id": "hush-id", "secret_access_key": "hush-secret", "endpoint": "http://127.0.0.1:1", "allow_http": "true"}"#;
    // Whether they can be reached or not, and also when it is a refusal.
    for client in [&olga, &db.user("mallory")] {
        for sql in [
            format!("CREATE STORAGE s TYPE S3 URI 's3://bucket/x' CREDENTIALS '{credentials}'"),
            format!("ALTER STORAGE s SET CREDENTIALS '{credentials}'"),
            format!(
                "INSERT INTO system.storages (name, type, uri, credentials) VALUES ('s', 'S3', 's3://b/x', '{credentials}')"
            ),
            format!("UPDATE system.storages SET credentials = '{credentials}' WHERE name = 's'"),
        ] {
            let _ = client.try_run(sql).await;
        }
    }
    let insert = "INSERT INTO system.storages (name, type, uri, credentials) VALUES ('s', 'S3', 's3://b/x', $1)";
    olga.try_with(insert, &[text(credentials)]).await.unwrap_err();
    rows_when(&olga, "SELECT 1 FROM system.audit WHERE outcome = 'refused'", 1).await;
    let all = olga.rows("SELECT * FROM system.audit").await;
    assert!(all.len() > 5, "{all:?}");
    assert!(!format!("{all:?}").contains("hush"), "{all:?}");
}

#[tokio::test]
async fn operators_read_it_and_nobody_writes_it() {
    let db = Db::memory().await;
    for role in [Role::User, Role::Service] {
        db.role(role).fails(Reason::PermissionDenied, "SELECT count(*) FROM system.audit").await;
        db.role(role).fails(Reason::PermissionDenied, "SELECT 1 FROM (SELECT action FROM system.audit) AS a").await;
    }
    for role in [Role::Dba, Role::System] {
        assert_ne!(db.role(role).value("SELECT count(*) FROM system.audit").await, "0");
        for sql in [
            "DELETE FROM system.audit",
            "UPDATE system.audit SET outcome = 'done'",
            "INSERT INTO system.audit (audit_id) VALUES (1)",
            "DROP TABLE system.audit",
        ] {
            db.role(role).try_run(sql).await.unwrap_err();
        }
    }
    // The attempts are in it.
    let tried = "SELECT count(*) FROM system.audit WHERE object = 'system.audit' AND outcome <> 'done'";
    assert_eq!(db.admin().value(tried).await, "8");
}

#[tokio::test]
async fn what_nobody_waits_for_is_recorded_as_abandoned() {
    let db = Db::memory().await;
    let olga = db.caller(caller(Role::Dba));
    let mut execution = olga.session.execute(olga.request("CREATE NAMESPACE half", &[]));
    {
        let next = execution.next();
        tokio::pin!(next);
        // Once, so that it begins.
        assert!(futures::poll!(next.as_mut()).is_pending());
    }
    drop(execution);
    let acts = "SELECT outcome FROM system.audit WHERE object = 'half'";
    assert_eq!(rows_when(&olga, acts, 1).await, table(&[["abandoned"]]));
}
