//! Ids of a backup and those that are generated after it is restored: no key comes twice, whatever clocks say.

use std::{fs, path::Path};

use kalamdb_engine::Reason;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::{Place, back_up};
use crate::harness::{Client, Db, NOW_US};

const SECOND: i64 = 1_000_000;
const ROWS: usize = 5_000;

/// More than one millisecond of a clock that stands still has ids for.
async fn insert(client: &Client) {
    client.run(format!("INSERT INTO app.s (n) SELECT value FROM generate_series(1, {ROWS})")).await;
}

async fn rows(db: &Db) -> usize {
    db.admin().value("SELECT count(*) FROM app.s").await.parse().unwrap()
}

#[tokio::test]
async fn keys_of_a_server_whose_clock_was_ahead_do_not_come_twice() {
    let place = Place::new();
    let db = place.open().await;
    db.env.advance_us(120 * SECOND);
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT AUTO_INCREMENT PRIMARY KEY, n BIGINT) FLUSH POLICY ROWS 1000000").await;
    insert(&admin).await;
    back_up(&admin, "b", "").await;
    drop(admin);
    drop(db);

    // Its clock is two minutes earlier.
    let mut other = place.open_other().await;
    other.admin().run("DROP NAMESPACE app; RESTORE DATABASE app FROM 'b'").await;
    assert_eq!(rows(&other).await, ROWS);
    insert(&other.admin()).await;
    assert_eq!(rows(&other).await, 2 * ROWS, "at once");
    // What was handed out since is beyond what the backup told, and known after a restart nevertheless.
    for round in 3..5 {
        other.reopen();
        insert(&other.admin()).await;
        assert_eq!(rows(&other).await, round * ROWS, "after a restart");
    }
    for (round, seconds) in [(5, 100), (6, 120), (7, 121), (8, 600)] {
        other.env.set_now_us(NOW_US + seconds * SECOND);
        insert(&other.admin()).await;
        assert_eq!(rows(&other).await, round * ROWS, "when the clock gets there, after {seconds} s");
    }
}

/// Writes a manifest anew with something changed, sealed as it should be.
fn rewrite(manifest: &Path, change: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(manifest).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    let mut content: Value = serde_json::from_str(&format!("{{\n{rest}")).unwrap();
    change(&mut content);
    let content = serde_json::to_string_pretty(&content).unwrap();
    let rest = content.strip_prefix("{\n").unwrap();
    let sum: String = digest(&SHA256, rest.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(manifest, format!("{{\"sha256\": \"{sum}\",\n{rest}")).unwrap();
}

#[tokio::test]
async fn ids_that_cannot_be_are_damage() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n BIGINT)").await;
    admin.run("INSERT INTO s (n) VALUES (1)").await;
    let id = back_up(&admin, "b", "").await;
    let manifest = place.folder("b").join(format!("backups/{id}/backup.json"));
    let whole = fs::read(&manifest).unwrap();
    let two_days = (2 * 24 * 60 * 60 * 1_000) << 22;
    let last = serde_json::from_slice::<Value>(&whole).unwrap()["last_id"].as_i64().unwrap();
    let key: i64 = admin.value("SELECT id FROM s").await.parse().unwrap();
    assert!(last > key && last - key < two_days);
    for wrong in [last + two_days, i64::MAX, -1, i64::MIN] {
        fs::write(&manifest, &whole).unwrap();
        rewrite(&manifest, |content| content["last_id"] = wrong.into());
        let error = admin.fails(Reason::BackupDamaged, "RESTORE DATABASE app FROM 'b' AS copy").await;
        assert!(error.message().contains("ids"), "{wrong}: {error}");
    }
    // A backup of a version that did not note it is restored, and its own id tells about as much.
    fs::write(&manifest, &whole).unwrap();
    rewrite(&manifest, |content| drop(content.as_object_mut().unwrap().remove("last_id")));
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    admin.run("INSERT INTO copy.s (n) VALUES (2)").await;
    assert_eq!(admin.value("SELECT count(*) FROM copy.s").await, "2");
}
