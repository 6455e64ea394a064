//! Backups that are not what was written: refused, and nothing of them is ever visible.

use std::{
    fs,
    time::{Duration, Instant},
};

use kalamdb_engine::Reason;

use super::{Place, back_up, files};
use crate::harness::Db;

async fn small_backup(db: &Db) {
    let admin = db.admin();
    admin
        .run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT); CREATE SHARED TABLE s (id BIGINT PRIMARY KEY)")
        .await;
    for user in ["ana", "bo"] {
        let rows: Vec<String> = (0..30).map(|id| format!("({id}, 'body {id}')")).collect();
        db.user(user).run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
    admin.run("INSERT INTO s VALUES (1), (2); FLUSH ALL TABLES IN app FORCE").await;
    db.user("ana").run("DELETE FROM t WHERE id < 5; INSERT INTO t VALUES (100, 'hot')").await;
    admin.run("INSERT INTO s VALUES (3)").await;
    back_up(&admin, "b", "").await;
}

/// Nothing of a restore is there: no namespace, no table, no segment, and in time no file.
async fn nothing_is_left(db: &Db, place: &Place) {
    let admin = db.admin();
    assert_eq!(admin.value("SELECT count(*) FROM system.namespaces WHERE name = 'copy'").await, "0");
    assert_eq!(admin.value("SELECT count(*) FROM system.segments WHERE namespace <> 'app'").await, "0");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let known = admin.rows("SELECT path FROM system.segments ORDER BY path").await.concat();
        let stored: Vec<String> = files(&place.path().join("data/storage"));
        if stored == known {
            return;
        }
        assert!(Instant::now() < until, "files {stored:?}\nsegments {known:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn no_file_can_be_missing_cut_or_altered() {
    let place = Place::new();
    let db = place.open().await;
    small_backup(&db).await;
    let admin = db.admin();
    let folder = place.folder("b");
    let all = files(&folder);
    assert!(all.len() > 8, "{all:?}");
    for file in all {
        // For people and other programs; KalamDB does not read it.
        if file.ends_with("duckdb.sql") {
            continue;
        }
        let path = folder.join(&file);
        let whole = fs::read(&path).unwrap();
        let middle = whole.len() / 2;
        let mut altered = whole.clone();
        altered[middle] ^= 1;
        let longer = [whole.as_slice(), b"\n"].concat();
        let cases = [
            ("missing", None),
            ("empty", Some(Vec::new())),
            ("cut", Some(whole[..middle].to_vec())),
            ("cut by a byte", Some(whole[..whole.len() - 1].to_vec())),
            ("altered", Some(altered)),
            ("longer", Some(longer)),
        ];
        for (case, content) in cases {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let error = admin.try_run("RESTORE DATABASE app FROM 'b' AS copy").await.unwrap_err();
            // Without its manifest it is no backup.
            let expected = if case == "missing" && file.ends_with("backup.json") {
                Reason::BackupNotFound
            } else {
                Reason::BackupDamaged
            };
            assert_eq!(error.reason(), expected, "{file} {case}: {error}");
            assert_eq!(error.metadata()["uri"], "b", "{file} {case}");
            nothing_is_left(&db, &place).await;
            fs::write(&path, &whole).unwrap();
        }
    }
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    assert_eq!(admin.value("SELECT count(*) FROM copy.all_users.t").await, "56");
    assert_eq!(admin.value("SELECT count(*) FROM copy.s").await, "3");
}

/// Files that have no room in memory are not read.
#[tokio::test]
async fn no_file_can_have_become_huge() {
    let place = Place::new();
    let db = place.open().await;
    small_backup(&db).await;
    let admin = db.admin();
    let folder = place.folder("b");
    for file in files(&folder) {
        if file.ends_with("duckdb.sql") {
            continue;
        }
        let path = folder.join(&file);
        let whole = fs::read(&path).unwrap();
        // Without blocks on the disk.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let error = admin.fails(Reason::BackupDamaged, "RESTORE DATABASE app FROM 'b' AS copy").await;
        assert!(error.message().contains(&(1u64 << 40).to_string()), "{file}: {error}");
        if file.ends_with("backup.json") {
            assert_eq!(admin.rows("SHOW BACKUP 'b'").await[0][1], "damaged");
        }
        fs::write(&path, &whole).unwrap();
    }
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
}

#[tokio::test]
async fn files_of_other_tables_are_noticed() {
    let place = Place::new();
    let db = place.open().await;
    small_backup(&db).await;
    let folder = place.folder("b");
    let segments: Vec<String> =
        files(&folder).into_iter().filter(|file| file.starts_with("data/t/") && !file.contains("hot-")).collect();
    let [a, b, ..] = segments.as_slice() else { panic!("{segments:?}") };
    // Two whole files, each in the place of the other.
    let (first, second) = (fs::read(folder.join(a)).unwrap(), fs::read(folder.join(b)).unwrap());
    fs::write(folder.join(a), second).unwrap();
    fs::write(folder.join(b), first).unwrap();
    db.admin().fails(Reason::BackupDamaged, "RESTORE DATABASE app FROM 'b' AS copy").await;
    nothing_is_left(&db, &place).await;
}

#[tokio::test]
async fn a_damaged_backup_is_shown_and_not_passed_over() {
    let place = Place::new();
    let db = place.open().await;
    small_backup(&db).await;
    let admin = db.admin();
    let newest = back_up(&admin, "b", "MODE INCREMENTAL").await;
    let manifest = place.folder("b").join(format!("backups/{newest}/backup.json"));
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() - 2]).unwrap();
    let shown = admin.rows("SELECT 1; SHOW BACKUP 'b'").await;
    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0][1].as_str(), shown[1][1].as_str()), ("complete", "damaged"));
    assert!(shown[1][16].contains("backup.json"), "{shown:?}");
    let older = shown[0][0].clone();
    admin.fails(Reason::BackupDamaged, "RESTORE DATABASE app FROM 'b' AS copy").await;
    // By its id the older one can be had.
    admin.run(format!("RESTORE DATABASE app FROM 'b' BACKUP '{older}' AS copy")).await;
    assert_eq!(admin.value("SELECT count(*) FROM copy.s").await, "3");
    // Nothing is built on a damaged one.
    admin.fails(Reason::BackupDamaged, "BACKUP DATABASE app TO 'b' MODE INCREMENTAL").await;
}

#[tokio::test]
async fn a_segment_that_is_damaged_in_the_database_fails_the_backup() {
    let place = Place::new();
    let db = place.open().await;
    small_backup(&db).await;
    let admin = db.admin();
    let path =
        admin.rows("SELECT path FROM system.segments WHERE table_name = 't' ORDER BY path").await.remove(0).remove(0);
    let path = place.path().join("data/storage").join(path);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let before = files(&place.folder("b"));
    admin.fails(Reason::Corruption, "BACKUP DATABASE app TO 'b'").await;
    assert_eq!(files(&place.folder("b")), before, "nothing is left of it");
    admin.fails(Reason::Corruption, "BACKUP DATABASE app TO 'fresh'").await;
    assert_eq!(files(&place.folder("fresh")), Vec::<String>::new());
    // An incremental one does not need the file.
    back_up(&admin, "b", "MODE INCREMENTAL").await;
}
