//! A backup while rows are written, flushed and compacted: it has the state of one commit.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{Place, back_up};
use crate::harness::Db;

const ACCOUNTS: i64 = 60;
const USERS: [&str; 3] = ["ana", "bo", "../cy"];

/// Money that is moved between rows by one statement each: whatever commit is looked at, there is as much of it.
async fn move_money(db: &Db, user: &str, round: i64) {
    let (from, to) = (round * 7 % ACCOUNTS, (round * 13 + 1) % ACCOUNTS);
    if from == to {
        return;
    }
    let user = db.user(user);
    let change = format!("CASE WHEN id = {from} THEN -5 ELSE 5 END");
    user.run(format!("UPDATE accounts SET v = v + {change} WHERE id IN ({from}, {to})")).await;
    // Both rows or none.
    let (a, b) = (1_000_000 + round * 2, 1_000_001 + round * 2);
    user.run(format!("INSERT INTO pairs VALUES ({a}, {round}), ({b}, {round})")).await;
    if round % 3 == 0 {
        user.run(format!("DELETE FROM pairs WHERE n = {}", round / 2)).await;
    }
}

/// What must be true of every commit.
async fn check(db: &Db, namespace: &str) {
    let admin = db.admin();
    let sums = admin
        .rows(format!(
            "SELECT _user_id, CAST(sum(v) AS BIGINT), count(*) FROM {namespace}.all_users.accounts GROUP BY 1"
        ))
        .await;
    assert_eq!(sums.len(), USERS.len());
    for row in &sums {
        assert_eq!(row[1..], ["6000".to_owned(), ACCOUNTS.to_string()], "{namespace}: {row:?}");
    }
    let halves =
        format!("SELECT n, count(*) FROM {namespace}.all_users.pairs GROUP BY _user_id, n HAVING count(*) <> 2");
    assert_eq!(admin.rows(halves).await, Vec::<Vec<String>>::new(), "{namespace}");
    // The last pair of a user and the moves before it were made in this order, by one writer.
    for user in USERS {
        let client = db.user(user).in_namespace(Some(namespace));
        let moved = client.value("SELECT coalesce(max(n), 0) FROM pairs").await.parse::<i64>().unwrap();
        let mut expected = vec![100i64; ACCOUNTS as usize];
        let mut next = expected.clone();
        for round in 1..=moved + 1 {
            let (from, to) = (round * 7 % ACCOUNTS, (round * 13 + 1) % ACCOUNTS);
            if from != to {
                next[from as usize] -= 5;
                next[to as usize] += 5;
            }
            if round == moved {
                expected.clone_from(&next);
            }
        }
        let rows = client.rows("SELECT v FROM accounts ORDER BY id").await.concat();
        let rows: Vec<i64> = rows.iter().map(|v| v.parse().unwrap()).collect();
        // The pair of the last move may not be there yet.
        assert!(rows == expected || rows == next, "{namespace}, {user} after {moved}: {rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_load_is_of_one_commit() {
    let place = Place::new();
    let db = Arc::new(place.open().await);
    db.admin()
        .run("CREATE USER TABLE accounts (id BIGINT PRIMARY KEY, v BIGINT); CREATE USER TABLE pairs (id BIGINT PRIMARY KEY, n BIGINT)")
        .await;
    for user in USERS {
        let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, 100)")).collect();
        db.user(user).run(format!("INSERT INTO accounts VALUES {}", rows.join(", "))).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for user in USERS {
        let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
        running.push(tokio::spawn(async move {
            let mut round = 1;
            while !stop.load(Ordering::Relaxed) {
                move_money(&db, user, round).await;
                round += 1;
            }
        }));
    }
    {
        let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
        running.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                db.admin().run("FLUSH ALL TABLES IN app FORCE; COMPACT TABLE accounts; COMPACT TABLE pairs").await;
            }
        }));
    }
    let mut backups = Vec::new();
    for number in 0..6 {
        let mode = if number == 0 { "" } else { "MODE INCREMENTAL" };
        backups.push(back_up(&db.admin(), "b", mode).await);
        // One while others write, too.
        if number % 3 == 1 {
            let as_name = format!("live{number}");
            db.admin().run(format!("RESTORE DATABASE app FROM 'b' AS {as_name}")).await;
            check(&db, &as_name).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await.unwrap();
    }
    for (number, backup) in backups.iter().enumerate() {
        let name = format!("copy{number}");
        db.admin().run(format!("RESTORE DATABASE app FROM 'b' BACKUP '{backup}' AS {name}")).await;
        check(&db, &name).await;
    }
    let written = db.admin().value("SELECT count(*) FROM app.all_users.pairs").await.parse::<u64>().unwrap();
    assert!(written > 20, "there was no load: {written}");
}

/// Tables that come and go meanwhile are in a backup as of its commit, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tables_that_come_and_go_are_whole_or_absent() {
    let place = Place::new();
    let db = Arc::new(place.open().await);
    let stop = Arc::new(AtomicBool::new(false));
    let running = {
        let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let admin = db.admin();
                admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, v TEXT) ACCESS public").await;
                let rows: Vec<String> = (0..50).map(|id| format!("({id}, 'x')")).collect();
                admin.run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
                if round % 2 == 0 {
                    admin.run("FLUSH TABLE t FORCE").await;
                }
                admin.run("ALTER TABLE t ADD COLUMN w INT DEFAULT 7").await;
                admin.run("DROP TABLE t").await;
                round += 1;
            }
        })
    };
    for number in 0..8 {
        db.admin().run(format!("BACKUP DATABASE app TO 'b{number}'")).await;
    }
    stop.store(true, Ordering::Relaxed);
    running.await.unwrap();
    for number in 0..8 {
        db.admin().run(format!("RESTORE DATABASE app FROM 'b{number}' AS copy{number}")).await;
        let copy = db.admin().in_namespace(Some(format!("copy{number}").as_str()));
        if copy.rows("SHOW TABLES").await.is_empty() {
            continue;
        }
        let rows = copy.value("SELECT count(*) FROM t").await;
        assert!(rows == "0" || rows == "50", "{number}: {rows}");
    }
}
