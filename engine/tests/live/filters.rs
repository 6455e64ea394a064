//! Every condition means the same in a live query as in a SELECT: what arrives comes to what SELECT answers.

use std::collections::BTreeMap;

use kalamdb_engine::{LiveEvent, LiveQuery, LiveQueryRequest};

use super::{Change, LIMIT, Row, change, request};
use crate::harness::{Db, int, texts};

const COLUMNS: &str = "id BIGINT PRIMARY KEY, n INT, big BIGINT, u BIGINT UNSIGNED, d DOUBLE, r REAL, dec DECIMAL(10, 2), \
                       name TEXT, flag BOOLEAN, day DATE, at TIMESTAMP, uu UUID, j JSON, raw BYTES, tags TEXT[]";

/// Rows that differ in what conditions are about.
const ROWS: [&str; 12] = [
    "(1, 1, 9007199254740993, 18446744073709551615, 0.0, 0.5, 1.50, 'a', true, '2026-01-02', '2026-01-02T03:04:05', '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '{\"a\": 1}', '\\x00ff', ['x', 'y'])",
    "(2, 5, 9007199254740992, 18446744073709551614, -0.0, 1.5, -1.50, 'b', false, '2026-01-01', '2025-01-02T03:04:05', NULL, NULL, NULL, NULL)",
    "(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(4, -5, -9007199254740993, 0, 'NaN', 'NaN', 0.00, 'A', NULL, '1969-12-31', '1969-12-31T23:59:59.999999', NULL, '5', '', [])",
    "(5, 2147483647, 9223372036854775807, 1, 'inf', 0.1, 99999999.99, '5', true, '9999-12-31', '2026-01-02T03:04:05.000001', NULL, NULL, NULL, ['x', NULL])",
    "(6, -2147483648, -9223372036854775808, 2, 9007199254740993, 3.0, 5.00, '05', false, NULL, NULL, NULL, NULL, NULL, ['z'])",
    "(7, 7, 7, 7, 7, 7, 7, '7', true, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(8, 10, 10, 10, 0.1, 0.1, 0.10, 'ab%c', true, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(9, 0, 0, 0, 1e308, 1e30, 0.01, '', false, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(10, 3, 3, 3, 3, 3, 3, 'émile🙂', true, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(11, 5, 5, 5, 5, 5, 5, ' 5', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(12, 12, 12, 12, 12, 12, 12, 'a_c', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
];

/// What is written while the queries are there: after it, every row has come, and most have changed or gone.
fn writes() -> Vec<String> {
    let mut writes: Vec<String> = ROWS.iter().map(|row| format!("INSERT INTO f VALUES {row}")).collect();
    writes.extend(
        [
            "UPDATE f SET n = n + 1 WHERE n < 2147483647",
            "UPDATE f SET name = upper(name), flag = NOT flag WHERE id % 2 = 0",
            "UPDATE f SET name = 'a' WHERE name IS NULL",
            "UPDATE f SET big = 9007199254740993, d = 9007199254740993 WHERE id = 2",
            "UPDATE f SET d = -0.0 WHERE id IN (7, 11)",
            "UPDATE f SET name = '5', u = 18446744073709551615 WHERE id = 12",
            "UPDATE f SET uu = '6BA7B810-9DAD-11D1-80B4-00C04FD430C8', tags = ['x'] WHERE id = 10",
            "DELETE FROM f WHERE id IN (1, 9)",
            "INSERT INTO f (id, n, name, flag) VALUES (1, 1, 'a', true), (20, NULL, 'b', NULL)",
            "UPDATE f SET n = NULL, name = NULL, flag = NULL WHERE id IN (7, 8)",
            "DELETE FROM f WHERE name = 'b'",
        ]
        .map(str::to_owned),
    );
    writes
}

const FILTERS: &[&str] = &[
    "true",
    "false",
    "NULL",
    "1 = 1",
    "id = 3",
    "3 = id",
    "id = 3 AND n IS NULL",
    "id = 3 OR n = 5",
    "id <> 3",
    "id = 3 AND id = 4",
    "id IN (1, 2, 20)",
    "id = 1 AND name = 'a'",
    "name = 'a' AND id = 1",
    "name = 'a' AND name = 'b'",
    "id = 1 OR id = 2",
    "id = 5 - 2",
    "id = -3",
    "- id = -3",
    "id = 3.0",
    "id = 3.5",
    "id = 3e0",
    "id = '3'",
    "id = '03'",
    "id = ' 3'",
    "n = 5",
    "n = '5'",
    "n = '05'",
    "n = 5.0",
    "n = 5.5",
    "n = 3000000000",
    "n < 3000000000",
    "n = NULL",
    "NULL = n",
    "n IS NULL",
    "n IS NOT NULL",
    "NOT (n > 5)",
    "n > 5 OR n <= 5",
    "n NOT IN (5, NULL)",
    "n IN (5, NULL)",
    "n IN (6, 2.0, '8')",
    "n BETWEEN 1 AND 6",
    "n NOT BETWEEN 1 AND 6",
    "n BETWEEN 6 AND 1",
    "n BETWEEN NULL AND 6",
    "n IS DISTINCT FROM 6",
    "n IS NOT DISTINCT FROM NULL",
    "n + 1 = 7",
    "n % 2 = 0",
    "abs(CAST(n AS BIGINT)) > 4",
    "n = id",
    "n = id + 1",
    "big = 9007199254740993",
    "big = 9007199254740992",
    "big <> 9007199254740993",
    "big = 9007199254740993.0",
    "big = 9007199254740993e0",
    "big = '9007199254740993'",
    "big > 9007199254740992",
    "big = 9223372036854775807",
    "big = 9223372036854775808",
    "big < 9223372036854775808",
    "big = -9223372036854775808",
    "u = 18446744073709551615",
    "u > 9223372036854775807",
    "u = -1",
    "u > -1",
    "u = 1.0",
    "u = big",
    "d = 0",
    "d = -0.0",
    "d = 0.0",
    "d <> 0",
    "d = 'NaN'",
    "d = d",
    "d <> d",
    "d = 0.1",
    "d = 9007199254740993",
    "d = 9007199254740992",
    "d > 1e300",
    "d = 'Infinity'",
    "d < 0.1",
    "d = dec",
    "d IN (0, 7)",
    "d IS NOT NULL AND d > 3",
    "r = 0.1",
    "r = 0.5",
    "r = d",
    "r > 0.1",
    "dec = 1.5",
    "dec = '1.50'",
    "dec = 1.505",
    "dec > 1",
    "dec = 5",
    "dec = 5e0",
    "dec * 2 = 3",
    "name = 'a'",
    "name = 'A'",
    "name <> 'a'",
    "name = 5",
    "name = '5'",
    "name = 5.0",
    "5 = name",
    "name = ''",
    "name LIKE 'a%'",
    "name LIKE 'a_c'",
    "name LIKE 'ab\\%c'",
    "name NOT LIKE 'a%'",
    "name ILIKE 'A%'",
    "name LIKE '%🙂'",
    "name IN ('a', NULL)",
    "name NOT IN ('a', 'b')",
    "name NOT IN ('a', NULL)",
    "name IN ('5', 'a')",
    "name > 'a'",
    "upper(name) = 'A'",
    "length(name) > 3",
    "name || 'x' = 'ax'",
    "name = 'a' OR name IS NULL",
    "coalesce(name, 'none') = 'none'",
    "nullif(name, 'a') IS NULL",
    "substr(name, 1, 1) = 'a'",
    "trim(name) = '5'",
    "name SIMILAR TO 'a%'",
    "name ~ '^a'",
    "flag",
    "NOT flag",
    "flag = true",
    "flag = false",
    "true = flag",
    "flag IS TRUE",
    "flag IS NOT TRUE",
    "flag IS UNKNOWN",
    "flag AND n > 1",
    "flag OR n IS NULL",
    "flag IS NOT FALSE",
    "flag <> (n > 3)",
    "CASE WHEN name = 'a' THEN n > 1 ELSE n <= 1 END",
    "CASE id WHEN 1 THEN true WHEN 2 THEN NULL ELSE false END",
    "CASE WHEN flag THEN 'yes' ELSE 'no' END = 'yes'",
    "CAST(n AS TEXT) LIKE '1%'",
    "CAST(n AS DOUBLE) > 4.5",
    "CAST(flag AS TEXT) = 'true'",
    "TRY_CAST(name AS INT) = 5",
    "n::TEXT = '6'",
    "CAST(name AS TEXT) = 'a'",
    "CAST(id AS INT) = 3",
    "CAST(d AS BIGINT) = 7",
    "day = '2026-01-02'",
    "day > DATE '2026-01-01'",
    "day < '1970-01-01'",
    "day IS NULL",
    "day = at",
    "at >= '2026-01-02T03:04:05'",
    "at = TIMESTAMP '2026-01-02 03:04:05'",
    "at < '1970-01-01'",
    "CAST(at AS DATE) = '2026-01-02'",
    "extract(year FROM at) = 2026",
    "date_trunc('day', at) = '2026-01-02'",
    "uu = '6BA7B810-9DAD-11D1-80B4-00C04FD430C8'",
    "uu = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
    "uu IS NOT NULL",
    "uu IN ('6BA7B810-9DAD-11D1-80B4-00C04FD430C8')",
    "uu <> '6ba7b810-9dad-11d1-80b4-00c04fd430c9'",
    "raw = '\\x00ff'",
    "raw = ''",
    "raw IS NOT NULL",
    "j = '5'",
    "j IS NULL",
    "tags = ['x']",
    "tags[1] = 'x'",
    "array_length(tags) = 2",
    "array_has(tags, 'x')",
    "cardinality(tags) = 0",
    "current_user() = 'ana'",
    "current_user() = name",
    "_seq > 0",
    "_deleted",
    "NOT _deleted",
    "_updated IS NOT NULL",
    "f.id = 3",
    "app.f.id = 3",
    "(id, n) = (3, NULL)",
    "(id = 3) = true",
    "(n > 3) = flag",
    "(n > 3) IS NULL",
    "id = 3 AND true",
    "id = 3 AND NOT false",
    "NOT NOT (id = 3)",
    "id = 3 AND n = n",
    "id > 2 AND id < 5 AND name <> 'x'",
];

#[tokio::test]
async fn what_arrives_comes_to_what_a_select_answers() {
    let db = Db::memory().await;
    db.admin().run(format!("CREATE USER TABLE f ({COLUMNS})")).await;
    let ana = db.user("ana");
    ana.run(format!("INSERT INTO f VALUES {}", ROWS[2])).await;
    ana.run("UPDATE f SET flag = true").await;
    let columns = "id, n, big, u, d, r, dec, name, flag, day, at, uu, j, raw, tags, n + 1, upper(name), d = 0";
    let mut wrong = Vec::new();
    let mut queries = Vec::new();
    for filter in FILTERS {
        let sql = format!("SUBSCRIBE SELECT {columns} FROM f WHERE {filter}");
        queries.push((*filter, ana.session.subscribe(request(&sql)), Fold::default()));
    }
    // Half of the rows come with the beginning.
    ana.run("DELETE FROM f").await;
    let writes = writes();
    for write in &writes[..6] {
        ana.run(write.as_str()).await;
    }
    follow_all(&mut queries, 0).await;
    for write in &writes[6..] {
        ana.run(write.as_str()).await;
    }
    follow_all(&mut queries, db.engine().last_commit_seq().get()).await;
    for (filter, query, fold) in queries {
        let answered = ana.try_run(format!("SELECT {columns} FROM f WHERE {filter} ORDER BY id")).await;
        match answered {
            Ok(answer) if query.is_ok() && fold.problems.is_empty() => {
                let rows: Vec<Row> = fold.rows.into_values().collect();
                if rows != answer.rows {
                    wrong.push(format!("{filter}\n    arrived {rows:?}\n    SELECT  {:?}", answer.rows));
                }
            }
            Ok(_) => {
                let refused = query.err().map(|error| error.to_string());
                wrong.push(format!("{filter}: SELECT answers, but the live query: {refused:?} {:?}", fold.problems));
            }
            // What fails for the rows as they are now may not have failed for those of before.
            Err(error) => println!("{filter}: SELECT fails: {error}"),
        }
    }
    assert!(wrong.is_empty(), "{} conditions:\n{}", wrong.len(), wrong.join("\n"));
}

/// Lets all queries come to a commit, at the same time.
async fn follow_all<E>(queries: &mut [(&str, Result<LiveQuery, E>, Fold)], upto: u64) {
    let following = queries.iter_mut().filter_map(|(_, query, fold)| {
        let query = query.as_mut().ok().filter(|_| fold.problems.is_empty())?;
        Some(fold.follow(query, upto))
    });
    futures::future::join_all(following).await;
}

/// Rows, and the changes done to them.
#[derive(Debug, Default)]
struct Fold {
    rows: BTreeMap<i64, Row>,
    at: u64,
    problems: Vec<String>,
}

impl Fold {
    /// Takes events up to a commit, at least to `Ready`; false if it ended.
    async fn follow(&mut self, query: &mut LiveQuery, upto: u64) -> bool {
        loop {
            let event = tokio::time::timeout(LIMIT, query.next()).await.expect("an event in time").unwrap();
            match event {
                LiveEvent::Rows(batch) => {
                    for row in texts(&batch) {
                        self.rows.insert(key(&row), row);
                    }
                }
                LiveEvent::Ready { commit_seq, .. } | LiveEvent::Progress { commit_seq, .. } => {
                    self.at = commit_seq.get()
                }
                LiveEvent::Changes(commits) => {
                    for commit in commits {
                        commit.changes.iter().for_each(|c| self.apply(&change(c)));
                        self.at = commit.commit_seq.get();
                    }
                }
                LiveEvent::Ended(end) => {
                    self.problems.push(format!("ended: {}", end.why));
                    return false;
                }
                LiveEvent::Reset { why } => self.problems.push(format!("reset: {why}")),
            }
            if self.at >= upto.max(1) {
                return true;
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        if let Some(old) = &change.old {
            let held = self.rows.remove(&key(old));
            if held.as_ref() != Some(old) {
                self.problems.push(format!("{change:?} of {held:?}"));
            }
        }
        if let Some(new) = &change.new
            && let Some(held) = self.rows.insert(key(new), new.clone())
        {
            self.problems.push(format!("{change:?} over {held:?}"));
        }
    }
}

fn key(row: &Row) -> i64 {
    row[0].parse().unwrap()
}

/// A parameter is what the same value is in the text.
#[tokio::test]
async fn parameters_mean_what_literals_mean() {
    let db = Db::memory().await;
    db.admin().run(format!("CREATE USER TABLE f ({COLUMNS})")).await;
    let ana = db.user("ana");
    for (filter, value) in [
        ("big = $1", 9_007_199_254_740_993),
        ("big > $1", 9_007_199_254_740_992),
        ("n = $1", 6),
        ("d = $1", 0),
        ("id = $1", 3),
    ] {
        ana.run("DELETE FROM f").await;
        let asked = LiveQueryRequest {
            parameters: vec![int(value)],
            ..request(&format!("SUBSCRIBE SELECT id FROM f WHERE {filter}"))
        };
        let mut query = ana.session.subscribe(asked).unwrap();
        let mut fold = Fold::default();
        assert!(fold.follow(&mut query, 0).await);
        for write in writes() {
            ana.run(write).await;
        }
        assert!(fold.follow(&mut query, db.engine().last_commit_seq().get()).await);
        let rows: Vec<Row> = fold.rows.into_values().collect();
        let select = format!("SELECT id FROM f WHERE {filter} ORDER BY id");
        assert_eq!(rows, ana.run_with(select, &[int(value)]).await.rows, "{filter}");
        assert!(fold.problems.is_empty(), "{filter}: {:?}", fold.problems);
    }
}
