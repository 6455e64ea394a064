//! Reads over both tiers: whatever lies where, every query answers the same.

use std::fmt::Write as _;

use futures::StreamExt;
use kalamdb_engine::{Body, Reason, Role};

use crate::harness::{Client, Db, int, table, text, texts};

/// Where the rows of a table lie when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// All in the hot tier.
    Hot,
    /// All in segments.
    Cold,
    /// In segments that were flushed one after the other, some of their rows changed or deleted since, and the hot tier.
    Mixed,
}

const COLD_PLACEMENTS: [Placement; 2] = [Placement::Cold, Placement::Mixed];

async fn flush(db: &Db, table: &str) {
    db.admin().run(format!("FLUSH TABLE {table} FORCE")).await;
}

/// The physical plan of a query.
async fn plan(client: &Client, sql: &str) -> String {
    let rows = client.rows(format!("EXPLAIN {sql}")).await;
    rows.into_iter().find(|r| r[0] == "physical_plan").map(|r| r[1].clone()).unwrap_or_default()
}

const COLUMNS: &str = "id BIGINT PRIMARY KEY, who TEXT, n INT, at TIMESTAMP, d DOUBLE, price DECIMAL(20, 4), ok BOOLEAN, \
     day DATE, tags TEXT[], pair STRUCT<a BIGINT, b TEXT>, span INTERVAL, j JSON, u UUID, raw BYTES, big BIGINT UNSIGNED";

/// The row that a seed makes, without its key.
fn row(seed: i64) -> String {
    let mut values = String::new();
    let or_null = |every: i64, value: String| if seed % every == 0 { "NULL".to_owned() } else { value };
    let d = match seed % 17 {
        3 => "'NaN'".to_owned(),
        5 => "'-inf'".to_owned(),
        7 => "-0.0".to_owned(),
        _ => format!("{}.5", seed % 40 - 20),
    };
    let _ = write!(
        values,
        "{}, {}, '2026-01-{:02} {:02}:00:00', {}, {}.25, {}, '2026-02-{:02}', {}, {}, {}, {}, {}, {}, {}",
        or_null(11, format!("'user {}'", seed % 7)),
        or_null(13, (seed % 50).to_string()),
        seed % 28 + 1,
        seed % 24,
        or_null(19, d),
        seed * 3 - 100,
        or_null(5, (seed % 2 == 0).to_string()),
        seed % 28 + 1,
        or_null(6, format!("['t{}', NULL, 'a tag that is longer than a view {}']", seed % 3, seed % 5)),
        or_null(9, format!("named_struct('a', {}, 'b', 'b{}')", seed % 10, seed % 4)),
        or_null(8, format!("INTERVAL '{} days'", seed % 12)),
        or_null(10, format!("'{{\"k\": {}}}'", seed % 6)),
        or_null(12, format!("'6ba7b810-9dad-11d1-80b4-00c04fd4{:04x}'", seed % 20)),
        or_null(14, format!("X'{:04x}'", seed % 300)),
        18_446_744_073_709_551_615_u64 - (seed % 30).cast_unsigned(),
    );
    values
}

async fn insert(client: &Client, table: &str, keys: impl Iterator<Item = i64>) {
    let rows: Vec<String> = keys.map(|id| format!("({id}, {})", row(id.abs() * 7 + 3))).collect();
    client.run(format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
}

/// A table `t` with 400 rows that were written, changed and deleted, and where they lie.
async fn filled(placement: Placement) -> (Db, Client) {
    let db = Db::memory().await;
    db.admin().run(format!("CREATE USER TABLE t ({COLUMNS})")).await;
    let ana = db.user("ana");
    let flush_if_mixed = async || {
        if placement == Placement::Mixed {
            flush(&db, "t").await;
        }
    };
    insert(&ana, "t", (0..150).map(|i| i * 2)).await;
    flush_if_mixed().await;
    insert(&ana, "t", (0..150).map(|i| i * 2 + 1)).await;
    flush_if_mixed().await;
    insert(&ana, "t", 1_000..1_140).await;
    flush_if_mixed().await;
    ana.run("UPDATE t SET n = n + 1000, who = 'changed' WHERE id % 29 = 4").await;
    ana.run("DELETE FROM t WHERE id % 31 = 5").await;
    ana.run("DELETE FROM t WHERE id BETWEEN 1100 AND 1109").await;
    flush_if_mixed().await;
    ana.run("UPDATE t SET ok = NOT ok WHERE id IN (8, 9, 1001, 77)").await;
    ana.run("DELETE FROM t WHERE id = 12").await;
    ana.run("INSERT INTO t (id, who) VALUES (12, 'again'), (5000, 'new')").await;
    ana.run("INSERT INTO t (id, who) VALUES (1002, 'upserted') ON CONFLICT (id) DO UPDATE SET who = excluded.who")
        .await;
    if placement == Placement::Cold {
        flush(&db, "t").await;
    }
    (db, ana)
}

/// Queries over `t`; those with ORDER BY answer in that order, the others in any.
const QUERIES: &[&str] = &[
    "SELECT * FROM t",
    "SELECT * FROM t ORDER BY id",
    "SELECT * FROM t ORDER BY id DESC",
    "SELECT id FROM t ORDER BY id LIMIT 7",
    "SELECT id, who FROM t ORDER BY id DESC LIMIT 7",
    "SELECT id FROM t ORDER BY id DESC LIMIT 5 OFFSET 3",
    "SELECT id FROM t WHERE id < 1050 ORDER BY id DESC LIMIT 6",
    "SELECT id FROM t WHERE id > 40 AND id <= 1000 ORDER BY id LIMIT 200",
    "SELECT id FROM t WHERE n > 30 ORDER BY id DESC LIMIT 6",
    "SELECT id, n FROM t ORDER BY n DESC NULLS LAST, id LIMIT 9",
    "SELECT id, d FROM t ORDER BY d DESC NULLS LAST, id LIMIT 40",
    "SELECT id, d FROM t ORDER BY d NULLS LAST, id LIMIT 40",
    "SELECT id, at FROM t ORDER BY id, at LIMIT 3",
    "SELECT id, at FROM t ORDER BY id DESC, at LIMIT 3",
    "SELECT count(*) FROM t",
    "SELECT count(*), count(id), min(id), max(id) FROM t",
    "SELECT count(n), count(who), count(d), count(tags) FROM t",
    "SELECT min(n), max(n), sum(n), avg(price) FROM t",
    "SELECT min(d), max(d), min(at), max(at), min(who), max(who), min(big), max(big) FROM t",
    "SELECT count(*) FROM t WHERE id > 100",
    "SELECT count(*) FROM t WHERE id BETWEEN 50 AND 1010",
    "SELECT min(id), max(id), count(*) FROM t WHERE id >= 1000",
    "SELECT count(*) FROM (SELECT id FROM t LIMIT 10)",
    "SELECT who, count(*), sum(n) FROM t GROUP BY who",
    "SELECT ok, day, count(*) FROM t GROUP BY ok, day",
    "SELECT id FROM t WHERE who = 'user 3'",
    "SELECT id FROM t WHERE who IS NULL",
    "SELECT id FROM t WHERE who IS NOT NULL AND n IS NULL",
    "SELECT id FROM t WHERE who LIKE 'user%' AND n < 10",
    "SELECT id FROM t WHERE who NOT LIKE 'user%'",
    "SELECT id FROM t WHERE d > 5",
    "SELECT id FROM t WHERE d <= 0",
    "SELECT id FROM t WHERE d = 'NaN'",
    "SELECT id FROM t WHERE d <> 3.5",
    "SELECT id FROM t WHERE price > 100.25 AND price < 500",
    "SELECT id FROM t WHERE at >= '2026-01-20' AND day < '2026-02-25'",
    "SELECT id FROM t WHERE ok",
    "SELECT id FROM t WHERE NOT ok",
    "SELECT id FROM t WHERE ok IS NOT TRUE",
    "SELECT id FROM t WHERE tags[1] = 't1'",
    "SELECT id FROM t WHERE array_has(tags, 't2')",
    "SELECT id FROM t WHERE tags IS NULL",
    "SELECT id, cardinality(tags) FROM t WHERE cardinality(tags) = 3",
    "SELECT id FROM t WHERE pair['a'] > 5",
    "SELECT id, pair['b'] FROM t WHERE pair IS NOT NULL AND pair['b'] <> 'b1'",
    "SELECT id, pair FROM t WHERE pair = named_struct('a', CAST(3 AS BIGINT), 'b', 'b3')",
    "SELECT id FROM t WHERE span > INTERVAL '5 days'",
    "SELECT id, span FROM t WHERE span IS NOT NULL",
    "SELECT id FROM t WHERE u = '6ba7b810-9dad-11d1-80b4-00c04fd40003'",
    "SELECT id FROM t WHERE j = '{\"k\": 4}'",
    "SELECT id FROM t WHERE raw > X'0080'",
    "SELECT id FROM t WHERE big > 18446744073709551600",
    "SELECT id FROM t WHERE n IN (1, 2, 3, 1004)",
    "SELECT id FROM t WHERE n NOT IN (1, 2, 3)",
    "SELECT id FROM t WHERE id IN (3, 4, 5, 12, 99999, -1, 1002, 1105) AND n > 0",
    "SELECT id FROM t WHERE id = 40 OR id = 1003 OR who = 'new'",
    "SELECT id FROM t WHERE id < -5",
    "SELECT id FROM t WHERE id > 9000 OR id < 3",
    "SELECT id, who FROM t WHERE n % 7 = 3",
    "SELECT id, n / 2, upper(who) FROM t WHERE length(who) = 6 AND n + 1 > 20",
    "SELECT id FROM t WHERE CASE WHEN n IS NULL THEN id > 100 ELSE n > 45 END",
    "SELECT id FROM t WHERE coalesce(n, 49) = 49",
    "SELECT id FROM t WHERE date_trunc('day', at) = '2026-01-05'",
    "SELECT id, row_number() OVER (PARTITION BY who ORDER BY id) FROM t WHERE n < 9",
    "SELECT a.id, b.id FROM t a JOIN t b ON a.id = b.id + 1000",
    "SELECT a.id FROM t a JOIN t b ON a.id = b.n WHERE b.ok",
    "SELECT id FROM t WHERE n = (SELECT max(n) FROM t)",
    "SELECT id FROM t a WHERE EXISTS (SELECT 1 FROM t b WHERE b.id = a.id + 1)",
    "SELECT id FROM t WHERE id IN (SELECT n FROM t)",
    "SELECT id FROM t WHERE who = 'user 1' UNION ALL SELECT n FROM t WHERE n > 1020",
    "SELECT DISTINCT who FROM t",
    "SELECT id, _deleted FROM t WHERE _seq > 0 AND NOT _deleted",
    "SELECT count(*) FROM t WHERE _deleted",
    "SELECT id FROM t WHERE id = 17",
    "SELECT * FROM t WHERE id = 40",
    "SELECT * FROM t WHERE id = 5",
    "SELECT * FROM t WHERE id = 12",
    "SELECT id AS key, tags, span, pair FROM t WHERE id IN (1010, 33, 4, 1100, 1002, 5000, 77, 6, 777777)",
    "SELECT who FROM t WHERE id = 1002 LIMIT 1",
];

/// The rows of a query; those without an order of their own are sorted.
async fn answer(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let mut rows = client.rows(sql).await;
    if !sql.contains("ORDER BY") || sql.contains("OVER") {
        rows.sort();
    }
    rows
}

#[tokio::test]
async fn every_query_answers_the_same_wherever_the_rows_are() {
    let (_hot_db, hot) = filled(Placement::Hot).await;
    for placement in COLD_PLACEMENTS {
        let (_db, cold) = filled(placement).await;
        let mut wrong = Vec::new();
        for sql in QUERIES {
            let (found, expected) = (answer(&cold, sql).await, answer(&hot, sql).await);
            if found != expected {
                wrong.push(format!("{sql}\n  found    {found:?}\n  expected {expected:?}"));
            }
        }
        assert!(wrong.is_empty(), "{placement:?}:\n{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn hidden_columns_are_those_of_the_commit() {
    let (_hot_db, hot) = filled(Placement::Hot).await;
    for placement in COLD_PLACEMENTS {
        let (_db, cold) = filled(placement).await;
        // Flushes are commits too: numbers differ, but not the order of commits, nor which rows share one.
        let sql = "SELECT id, dense_rank() OVER (ORDER BY _seq), _updated FROM t ORDER BY id";
        assert_eq!(cold.rows(sql).await, hot.rows(sql).await, "{placement:?}");
        let by_key = "SELECT _updated, _deleted, id FROM t WHERE id IN (3, 40, 1002)";
        assert_eq!(cold.rows(by_key).await, hot.rows(by_key).await, "{placement:?}");
        let seq = cold.value("SELECT _seq FROM t WHERE id = 40").await;
        assert_eq!(cold.value(format!("SELECT id FROM t WHERE _seq = {seq} AND id < 42 AND id > 38")).await, "40");
    }
}

#[tokio::test]
async fn errors_are_the_same_wherever_the_rows_are() {
    let mut said = Vec::new();
    for placement in [Placement::Hot, Placement::Cold, Placement::Mixed] {
        let (_db, ana) = filled(placement).await;
        let mut errors = Vec::new();
        for sql in [
            "SELECT id FROM t WHERE 10 / (n - n) > 1",
            "SELECT id FROM t WHERE CAST('x' || (n - n) AS INT) > 1",
            "SELECT id FROM t WHERE n * 9223372036854775807 > 5",
            "SELECT 10 / (n - n) FROM t",
        ] {
            errors.push(ana.fails(Reason::InvalidValue, sql).await.message().to_owned());
        }
        said.push(errors);
    }
    assert_eq!(said[1], said[0]);
    assert_eq!(said[2], said[0]);
}

#[tokio::test]
async fn parameters_reach_segments() {
    let (_hot_db, hot) = filled(Placement::Hot).await;
    for placement in COLD_PLACEMENTS {
        let (_db, cold) = filled(placement).await;
        for (sql, parameters) in [
            ("SELECT id, who FROM t WHERE id = $1", vec![int(1_001)]),
            ("SELECT id FROM t WHERE id < $1 ORDER BY id DESC LIMIT 20", vec![int(1_050)]),
            ("SELECT id FROM t WHERE who = $1 AND n > $2 ORDER BY id", vec![text("user 3"), int(5)]),
            ("SELECT count(*) FROM t WHERE id BETWEEN $1 AND $2", vec![int(17), int(250)]),
        ] {
            let expected = hot.run_with(sql, &parameters).await.rows;
            assert!(!expected.is_empty(), "{sql}");
            assert_eq!(cold.run_with(sql, &parameters).await.rows, expected, "{placement:?}: {sql}");
        }
    }
}

#[tokio::test]
async fn a_table_that_was_flushed_whole_is_counted_without_being_read() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, n INT)").await;
    let admin = db.admin();
    admin.run("INSERT INTO s SELECT value, value % 10 FROM generate_series(1, 500)").await;
    flush(&db, "s").await;
    for sql in ["SELECT count(*) FROM s", "SELECT min(id), max(id), count(id) FROM s"] {
        let plan = plan(&admin, sql).await;
        assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec"), "{sql}\n{plan}");
    }
    assert_eq!(admin.rows("SELECT min(id), max(id), count(*) FROM s").await, table(&[["1", "500", "500"]]));
    // A mark: the count stays exact, the bounds do not.
    admin.run("DELETE FROM s WHERE id = 500").await;
    let counted = plan(&admin, "SELECT count(*) FROM s").await;
    assert!(counted.contains("PlaceholderRowExec"), "{counted}");
    let bounds = plan(&admin, "SELECT max(id) FROM s").await;
    assert!(bounds.contains("DataSourceExec"), "{bounds}");
    assert_eq!(admin.rows("SELECT max(id), count(*) FROM s").await, table(&[["499", "499"]]));
    // A hot row: both tiers are read.
    admin.run("INSERT INTO s VALUES (1000, 1)").await;
    let both = plan(&admin, "SELECT count(*) FROM s").await;
    assert!(both.contains("RowsScan") && both.contains("DataSourceExec"), "{both}");
    assert_eq!(admin.value("SELECT count(*) FROM s").await, "500");
}

#[tokio::test]
async fn conditions_and_limits_reach_the_files() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, n INT, body TEXT)").await;
    let admin = db.admin();
    for first in [1, 1_001, 2_001] {
        let last = first + 999;
        admin
            .run(format!(
                "INSERT INTO s SELECT value, value % 10, 'row ' || value FROM generate_series({first}, {last})"
            ))
            .await;
        flush(&db, "s").await;
    }
    // Segments outside the range of keys are not even in the plan.
    let one = plan(&admin, "SELECT body FROM s WHERE id BETWEEN 1500 AND 1600 AND n = 3").await;
    assert_eq!(one.matches(".parquet").count(), 1, "{one}");
    assert!(one.contains("predicate=") && !one.contains("FilterExec"), "{one}");
    let none = plan(&admin, "SELECT body FROM s WHERE id > 100000").await;
    assert!(!none.contains(".parquet"), "{none}");
    // In key order nothing is sorted, and the last rows of one file are found without those of the others.
    admin.run("INSERT INTO s VALUES (5000, 1, 'hot')").await;
    let ascending = plan(&admin, "SELECT id FROM s ORDER BY id").await;
    assert!(!ascending.contains("SortExec"), "{ascending}");
    let last = plan(&admin, "SELECT id FROM s ORDER BY id DESC LIMIT 3").await;
    assert!(last.contains("reverse=true, fetch=3"), "{last}");
    assert_eq!(admin.rows("SELECT id FROM s ORDER BY id DESC LIMIT 3").await, table(&[["5000"], ["3000"], ["2999"]]));
    let limited = plan(&admin, "SELECT id FROM s LIMIT 3").await;
    assert!(limited.contains("limit=3"), "{limited}");
}

#[tokio::test]
async fn the_last_rows_are_found_in_large_segments() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, c INT, body TEXT)").await;
    let admin = db.admin();
    // Two segments, the second of two row groups.
    for (first, last) in [(1, 20_000), (20_001, 100_000), (100_001, 160_000)] {
        let rows = format!("SELECT value, value % 97, 'row ' || value FROM generate_series({first}, {last})");
        admin.run(format!("INSERT INTO s {rows}")).await;
        if first != 20_001 {
            flush(&db, "s").await;
        }
    }
    let expected = |rows: Vec<i64>| rows.into_iter().map(|id| vec![id.to_string()]).collect::<Vec<_>>();
    let last_of =
        |c: i64, below: i64, count: usize| expected((1..below).rev().filter(|id| id % 97 == c).take(count).collect());
    let piecewise = plan(&admin, "SELECT id FROM s ORDER BY id DESC LIMIT 5").await;
    assert!(piecewise.matches(".parquet").count() > 2, "{piecewise}");
    for round in 0..3 {
        let top = if round == 0 { 160_001 } else { 159_001 };
        for (count, below) in [(1, top), (50, top), (3_000, top), (50, 140_000), (700, 30_000), (20, 1_500)] {
            let all = expected((1..below).rev().take(count).collect());
            let sql = format!("SELECT id FROM s WHERE id < {below} ORDER BY id DESC LIMIT {count}");
            assert_eq!(admin.rows(sql).await, all, "{count} below {below}");
            let sql = format!("SELECT id FROM s WHERE id < {below} AND c = 13 ORDER BY id DESC LIMIT {count}");
            assert_eq!(admin.rows(sql).await, last_of(13, below, count), "{count} of 13 below {below}");
        }
        let rare = admin.rows("SELECT id FROM s WHERE body = 'row 17' ORDER BY id DESC LIMIT 2").await;
        assert_eq!(rare, table(&[["17"]]));
        match round {
            // Marks at the end, a whole first piece and more; then hot rows in place of cold ones.
            0 => admin.run("DELETE FROM s WHERE id > 159000").await,
            _ => admin.run("UPDATE s SET body = 'changed' WHERE id > 155000 AND id % 3 = 0").await,
        };
    }
}

#[tokio::test]
async fn a_query_keeps_its_rows_while_they_are_marked() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, n BIGINT)").await;
    let admin = db.admin();
    admin.run("INSERT INTO s SELECT value, 0 FROM generate_series(0, 99999)").await;
    flush(&db, "s").await;
    for round in 0..4_usize {
        let mut execution = admin.session.execute(admin.request("SELECT id, n FROM s", &[]));
        let Body::Rows(mut running) = execution.next().await.unwrap().unwrap().body else { panic!("no rows") };
        let mut seen = texts(&running.next().await.unwrap().unwrap());
        admin.run(format!("DELETE FROM s WHERE id % 1000 = {round}")).await;
        admin.run(format!("UPDATE s SET n = n + 1 WHERE id % 500 = {}", 100 + round)).await;
        // Another query reads the new marks before the first one goes on.
        let (rows, changed) = (100_000 - 100 * round, 200 * round);
        let after = table(&[[&(rows - 100).to_string(), &(changed + 200).to_string()]]);
        assert_eq!(admin.rows("SELECT count(*), sum(n) FROM s").await, after);
        while let Some(batch) = running.next().await {
            seen.extend(texts(&batch.unwrap()));
        }
        assert_eq!((seen.len(), seen.iter().filter(|row| row[1] == "1").count()), (rows, changed), "round {round}");
        if round == 2 {
            admin.run("COMPACT TABLE s").await;
            assert_eq!(admin.rows("SELECT count(*), sum(n) FROM s").await, after);
        }
    }
    let stats = admin.rows("SHOW TABLE STATS s").await;
    assert_eq!((stats[0][1].as_str(), stats[0][3].as_str()), ("800", "98800"));
}

#[tokio::test]
async fn columns_of_other_schema_versions_are_found_by_id() {
    let mut answers = Vec::new();
    for flushes in [false, true] {
        let db = Db::memory().await;
        db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT, b INT, c BYTES)").await;
        let ana = db.user("ana");
        let flush_maybe = async || {
            if flushes {
                flush(&db, "t").await;
            }
        };
        ana.run("INSERT INTO t VALUES (1, 'one', 1, X'01'), (2, NULL, 2, NULL), (3, 'three', NULL, X'03')").await;
        flush_maybe().await;
        // A new column takes the name of a dropped one and another type; another is renamed to it and back.
        db.admin().run("ALTER TABLE t ADD COLUMN added TEXT DEFAULT 'filled'").await;
        db.admin().run("ALTER TABLE t DROP COLUMN b").await;
        db.admin().run("ALTER TABLE t RENAME COLUMN a TO b").await;
        db.admin().run("ALTER TABLE t DROP COLUMN c").await;
        db.admin().run("ALTER TABLE t ADD COLUMN c TEXT").await;
        db.admin().run("ALTER TABLE t ADD COLUMN a DOUBLE NOT NULL DEFAULT 2.5").await;
        ana.run("INSERT INTO t (id, b, c, a) VALUES (11, 'eleven', 'x', 1), (12, 'twelve', NULL, 3)").await;
        flush_maybe().await;
        db.admin().run("ALTER TABLE t RENAME COLUMN id TO key").await;
        db.admin().run("ALTER TABLE t ADD COLUMN span INTERVAL DEFAULT INTERVAL '3 days'").await;
        ana.run("INSERT INTO t (key, b) VALUES (21, 'hot')").await;
        let mut answered = Vec::new();
        for sql in [
            "SELECT * FROM t ORDER BY key",
            "SELECT key FROM t WHERE b = 'one'",
            "SELECT key FROM t WHERE added = 'filled' AND a > 2 ORDER BY key",
            "SELECT key FROM t WHERE added <> 'filled'",
            "SELECT key FROM t WHERE c IS NULL ORDER BY key",
            "SELECT key FROM t WHERE c = 'x' OR length(added) > 7",
            "SELECT key, c FROM t WHERE length(added) = 6 AND span = INTERVAL '3 days' ORDER BY key",
            "SELECT sum(a), max(c), min(b), count(span) FROM t",
            "SELECT key FROM t WHERE key > 2 ORDER BY key DESC LIMIT 3",
            "SELECT * FROM t WHERE key = 1",
            "SELECT a, c, added, key, b FROM t WHERE key IN (2, 12, 21, 22)",
        ] {
            answered.push((sql, ana.rows(sql).await));
        }
        ana.run("UPDATE t SET c = b || added WHERE key < 12").await;
        ana.run("DELETE FROM t WHERE key = 2").await;
        answered.push(("changed", ana.rows("SELECT * FROM t ORDER BY key").await));
        answers.push(answered);
    }
    for (hot, cold) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(cold, hot);
    }
    assert_eq!(answers[0][1].1, table(&[["1"]]));
}

#[tokio::test]
async fn text_keys_are_found() {
    let mut answers = Vec::new();
    for flushes in [false, true] {
        let db = Db::memory().await;
        db.admin().run("CREATE USER TABLE t (k TEXT PRIMARY KEY, n INT)").await;
        let ana = db.user("ana");
        for part in 0..4 {
            let rows: Vec<String> =
                (0..60).map(|i| format!("('key {}', {i})", (i * 4 + part) * 7_919 % 1_000)).collect();
            ana.run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
            if flushes && part < 3 {
                flush(&db, "t").await;
            }
        }
        ana.run("INSERT INTO t VALUES ('', 1), ('é', 2), ('zz', 3)").await;
        if flushes {
            flush(&db, "t").await;
        }
        let mut answered = Vec::new();
        for sql in [
            "SELECT k FROM t ORDER BY k",
            "SELECT k FROM t ORDER BY k DESC LIMIT 12",
            "SELECT * FROM t WHERE k = 'key 365'",
            "SELECT * FROM t WHERE k IN ('', 'é', 'key 7', 'key 93', 'nothing')",
            "SELECT count(*), min(k), max(k) FROM t",
            "SELECT k FROM t WHERE k >= 'key 5' AND k < 'key 6' ORDER BY k",
            "SELECT k FROM t WHERE k LIKE 'key 9%' ORDER BY k",
        ] {
            answered.push((sql, ana.rows(sql).await));
        }
        answers.push(answered);
    }
    for (hot, cold) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(cold, hot);
    }
}

#[tokio::test]
async fn segments_are_of_one_user_alone() {
    let mut answers = Vec::new();
    for flushes in [false, true] {
        let db = Db::memory().await;
        db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n INT)").await;
        for (at, user) in ["ana", "bo", "../cy", "dä\0"].into_iter().enumerate() {
            let rows: Vec<String> = (0..20).map(|i| format!("({i}, {})", i * 10 + at)).collect();
            db.user(user).run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        }
        if flushes {
            flush(&db, "t").await;
        }
        db.user("bo").run("UPDATE t SET n = -1 WHERE id < 3").await;
        db.user("ana").run("DELETE FROM t WHERE id = 19").await;
        db.user("new").run("INSERT INTO t VALUES (1, 77)").await;
        let admin = db.role(Role::Service);
        let mut answered = Vec::new();
        for user in ["ana", "bo", "../cy", "dä\0", "new", "nobody"] {
            answered.push(db.user(user).rows("SELECT id, n FROM t ORDER BY id").await);
            answered.push(db.user(user).rows("SELECT n FROM t WHERE id = 1").await);
        }
        for sql in [
            "SELECT _user_id, count(*), sum(n) FROM all_users.t GROUP BY _user_id ORDER BY 1",
            "SELECT _user_id, id, n FROM all_users.t ORDER BY _user_id, id",
            "SELECT id, n FROM all_users.t WHERE _user_id = 'bo' ORDER BY id",
            "SELECT _user_id FROM all_users.t WHERE _user_id > 'b' AND n > 150 ORDER BY _user_id, id",
            "SELECT _user_id, n FROM all_users.t WHERE id = 1 ORDER BY n",
            "SELECT id, _user_id FROM all_users.t WHERE id > 17 ORDER BY id DESC, _user_id LIMIT 5",
            "SELECT count(*), count(_user_id), min(_user_id) FROM all_users.t",
            "SELECT count(*) FROM all_users.t WHERE length(_user_id) = 2 AND NOT _deleted",
        ] {
            answered.push(admin.rows(sql.replace("all_users.t", "app.all_users.t")).await);
        }
        answers.push(answered);
    }
    for (hot, cold) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(cold, hot);
    }
}

#[tokio::test]
async fn segments_of_users_that_are_not_asked_for_are_not_in_the_plan() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n INT)").await;
    for user in ["ana", "bo", "cy"] {
        db.user(user).run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    }
    flush(&db, "t").await;
    let admin = db.admin();
    let all = plan(&admin, "SELECT * FROM app.all_users.t").await;
    assert_eq!(all.matches(".parquet").count(), 3, "{all}");
    let one = plan(&admin, "SELECT * FROM app.all_users.t WHERE _user_id = 'bo'").await;
    assert_eq!(one.matches(".parquet").count(), 1, "{one}");
    let own = plan(&db.user("ana"), "SELECT * FROM t WHERE n > 0").await;
    assert_eq!(own.matches(".parquet").count(), 1, "{own}");
}

#[tokio::test]
async fn nan_is_never_pruned() {
    // Statistics of Parquet leave NaN out, which is greater than every other number.
    let mut answers = Vec::new();
    for flushes in [false, true] {
        let db = Db::memory().await;
        db.admin().run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, d DOUBLE, r REAL)").await;
        let admin = db.admin();
        for rows in ["(1, 1, 1), (2, 'NaN', 'NaN')", "(3, 50, 50), (4, 60, 60)", "(5, 2, 2), (6, 3, 3)"] {
            admin.run(format!("INSERT INTO s VALUES {rows}")).await;
            if flushes {
                flush(&db, "s").await;
            }
        }
        let mut answered = Vec::new();
        for sql in [
            "SELECT id FROM s WHERE d > 5 ORDER BY id",
            "SELECT id FROM s WHERE r > 5 ORDER BY id",
            "SELECT id FROM s WHERE d < 40 ORDER BY id",
            "SELECT id FROM s WHERE d = 'NaN'",
            "SELECT id FROM s ORDER BY d DESC LIMIT 1",
            "SELECT id FROM s ORDER BY r DESC, id LIMIT 2",
            "SELECT max(d), max(r) FROM s",
        ] {
            answered.push((sql, admin.rows(sql).await));
        }
        answers.push(answered);
    }
    for (hot, cold) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(cold, hot);
    }
}
