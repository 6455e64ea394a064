//! STREAM tables: rows that vanish.

use std::time::Duration;

use kalamdb_engine::{EngineSettings, Reason};

use crate::harness::{Db, NOW_US, small, table};

const SECOND: i64 = 1_000_000;

async fn typing(settings: EngineSettings) -> Db {
    let db = Db::with(settings).await;
    db.admin().run("CREATE STREAM TABLE typing (id TEXT PRIMARY KEY DEFAULT ULID(), who TEXT) TTL '10 seconds'").await;
    db
}

/// At most the sweep at the start.
fn unswept() -> EngineSettings {
    EngineSettings { stream_expiry_interval_ms: 3_600_000, ..small() }
}

#[tokio::test]
async fn rows_are_gone_when_their_time_is_over() {
    let db = typing(unswept()).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'ana')").await;
    db.env.advance_us(4 * SECOND);
    ana.run("INSERT INTO typing VALUES ('b', 'bob')").await;
    db.env.set_now_us(NOW_US + 10 * SECOND - 1);
    assert_eq!(ana.value("SELECT count(*) FROM typing").await, "2");
    assert_eq!(ana.value("SELECT who FROM typing WHERE id = 'a'").await, "ana");
    db.env.set_now_us(NOW_US + 10 * SECOND);
    assert_eq!(ana.rows("SELECT id FROM typing").await, table(&[["b"]]));
    assert!(ana.rows("SELECT who FROM typing WHERE id = 'a'").await.is_empty());
    assert!(ana.rows("SELECT who FROM typing WHERE id IN ('a', 'x')").await.is_empty());
    assert_eq!(ana.run("UPDATE typing SET who = 'x' WHERE id = 'a'").await.row_count, 0);
    assert_eq!(ana.run("UPDATE typing SET who = 'x' WHERE who = 'ana'").await.row_count, 0);
    assert_eq!(ana.run("DELETE FROM typing WHERE id = 'a'").await.row_count, 0);
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.typing").await, "1");
    db.env.advance_us(4 * SECOND);
    assert_eq!(ana.value("SELECT count(*) FROM typing").await, "0");
}

#[tokio::test]
async fn an_update_gives_a_row_its_time_again() {
    let db = typing(unswept()).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'ana')").await;
    db.env.advance_us(9 * SECOND);
    assert_eq!(ana.run("UPDATE typing SET who = 'still' WHERE id = 'a'").await.row_count, 1);
    db.env.advance_us(9 * SECOND);
    assert_eq!(ana.value("SELECT who FROM typing").await, "still");
    db.env.advance_us(SECOND);
    assert_eq!(ana.value("SELECT count(*) FROM typing").await, "0");
}

#[tokio::test]
async fn the_key_of_an_expired_row_is_free() {
    let db = typing(unswept()).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'first'), ('b', 'first')").await;
    ana.fails(Reason::PrimaryKeyViolation, "INSERT INTO typing VALUES ('a', 'second')").await;
    db.env.advance_us(11 * SECOND);
    ana.run("INSERT INTO typing VALUES ('a', 'second')").await;
    let upsert =
        "INSERT INTO typing VALUES ('b', 'third') ON CONFLICT (id) DO UPDATE SET who = typing.who || '!' RETURNING who";
    assert_eq!(ana.rows(upsert).await, table(&[["third"]]));
    assert_eq!(ana.run("INSERT INTO typing VALUES ('a', 'x') ON CONFLICT DO NOTHING").await.row_count, 0);
    ana.fails(Reason::PrimaryKeyViolation, "INSERT INTO typing VALUES ('c', ''), ('a', '')").await;
    assert_eq!(ana.rows("SELECT * FROM typing ORDER BY id").await, table(&[["a", "second"], ["b", "third"]]));
}

#[tokio::test]
async fn a_changed_ttl_holds_for_the_rows_there_are() {
    let db = typing(unswept()).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'ana')").await;
    db.env.advance_us(5 * SECOND);
    db.admin().run("ALTER TABLE typing SET TTL '1 hour'").await;
    db.env.advance_us(20 * SECOND);
    assert_eq!(ana.value("SELECT count(*) FROM typing").await, "1");
    db.admin().run("ALTER TABLE typing SET TTL '3 seconds'").await;
    assert_eq!(ana.value("SELECT count(*) FROM typing").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_frees_expired_rows_and_no_others() {
    let db = typing(EngineSettings { stream_expiry_interval_ms: 20, ..small() }).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing (who) SELECT 'x' || value FROM generate_series(1, 2500)").await;
    db.env.advance_us(5 * SECOND);
    ana.run("INSERT INTO typing VALUES ('late', 'ana')").await;
    db.user("bob").run("INSERT INTO typing VALUES ('late', 'bob')").await;
    db.env.advance_us(6 * SECOND);
    let before = db.engine().last_commit_seq().get();
    // Each commit of the sweep removes up to 1,000 rows.
    let swept = async {
        while db.engine().last_commit_seq().get() < before + 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swept).await.expect("nothing was swept");
    // With the clock set back, rows that were only hidden would be seen again.
    db.env.set_now_us(NOW_US);
    let rows = db.admin().rows("SELECT _user_id, id, who FROM app.all_users.typing ORDER BY 1").await;
    assert_eq!(rows, table(&[["ana", "late", "ana"], ["bob", "late", "bob"]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_the_sweep_do_not_disturb_each_other() {
    let db = typing(EngineSettings { stream_expiry_interval_ms: 10, ..small() }).await;
    let ana = db.user("ana");
    for round in 0..200 {
        // The row of the round before has just expired: it is there, or the sweep takes it away now.
        ana.run(format!("INSERT INTO typing VALUES ('a', '{round}')")).await;
        assert_eq!(ana.value("SELECT who FROM typing").await, round.to_string());
        db.env.advance_us(10 * SECOND);
        if round % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

#[tokio::test]
async fn expired_rows_stay_gone_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        EngineSettings { storage: kalamdb_engine::StorageSettings::Directory(dir.path().to_path_buf()), ..unswept() };
    let mut db = typing(settings).await;
    db.user("ana").run("INSERT INTO typing VALUES ('a', 'ana')").await;
    db.env.advance_us(6 * SECOND);
    db.user("ana").run("INSERT INTO typing VALUES ('b', 'ana')").await;
    db.env.advance_us(5 * SECOND);
    db.reopen();
    assert_eq!(db.user("ana").rows("SELECT id FROM typing").await, table(&[["b"]]));
}

#[tokio::test]
async fn what_a_stream_table_needs() {
    let db = Db::memory().await;
    let admin = db.admin();
    for sql in [
        "CREATE STREAM TABLE s (id TEXT PRIMARY KEY DEFAULT ULID())",
        "CREATE STREAM TABLE s (id BIGINT PRIMARY KEY) TTL '1 second'",
        "CREATE STREAM TABLE s (id BIGINT PRIMARY KEY DEFAULT 5) TTL '1 second'",
        "CREATE STREAM TABLE s (id BIGINT PRIMARY KEY AUTO_INCREMENT) TTL '0 seconds'",
        "CREATE STREAM TABLE s (id BIGINT PRIMARY KEY AUTO_INCREMENT) TTL 'soon'",
        "CREATE STREAM TABLE s (id BIGINT PRIMARY KEY AUTO_INCREMENT) TTL '1 second' ACCESS PUBLIC",
        "CREATE USER TABLE s (id BIGINT PRIMARY KEY) TTL '1 second'",
    ] {
        admin.fails(Reason::InvalidTableDefinition, sql).await;
    }
    assert!(admin.rows("SHOW TABLES").await.is_empty());
}
