//! Nothing that a user writes is evaluated on rows that it does not see, and no plan tells of them.

use std::fmt::Write;

use kalamdb_engine::Role;

use super::{SECRET, TIERS, bring, db, notes, user};
use crate::harness::{Client, Db};

const OWN: &str = "app.notes.owner = CURRENT_USER()";

/// Queries that fail if they meet row 2, with its level of 5 and its text that is no number.
const TRAPS: &[&str] = &[
    "SELECT id FROM notes WHERE 1 / (level - 5) < 100",
    "SELECT id FROM notes WHERE level > 0 AND 10 / (level - 5) < 100 ORDER BY id",
    "SELECT id FROM notes WHERE owner = 'bo' AND 10 / (level - 5) < 100",
    "SELECT id FROM notes WHERE CAST(body AS BIGINT) > 0",
    "SELECT id FROM notes WHERE CAST(body AS BIGINT) > 0 LIMIT 100",
    "SELECT id FROM notes WHERE CASE WHEN level = 5 THEN 1 / (level - 5) ELSE 1 END = 1",
    "SELECT id FROM notes ORDER BY 1 / (level - 5) LIMIT 1",
    "SELECT id FROM notes ORDER BY CAST(body AS BIGINT) DESC",
    "SELECT CAST(body AS BIGINT) FROM notes",
    "SELECT 1 / (level - 5) FROM notes ORDER BY id DESC LIMIT 4",
    "SELECT sum(1 / (level - 5)) FROM notes",
    "SELECT max(CAST(body AS BIGINT)) FROM notes",
    "SELECT count(*) FILTER (WHERE 1 / (level - 5) > 0) FROM notes",
    "SELECT CAST(body AS BIGINT), count(*) FROM notes GROUP BY 1",
    "SELECT owner FROM notes GROUP BY owner HAVING sum(1 / (level - 5)) < 100",
    "SELECT DISTINCT CAST(body AS BIGINT) FROM notes",
    "SELECT row_number() OVER (ORDER BY CAST(body AS BIGINT)) FROM notes",
    "SELECT n.id FROM notes n JOIN (VALUES ('1'), ('30')) v(b) ON CAST(n.body AS BIGINT) = CAST(v.b AS BIGINT)",
    "SELECT a.id FROM notes a JOIN notes b ON a.id = b.id WHERE 1 / (a.level - 5) < 100",
    "SELECT a.id FROM notes a LEFT JOIN notes b ON a.id = b.id AND 1 / (b.level - 5) < 100",
    "SELECT v FROM (VALUES (10), (20)) t(v) WHERE v IN (SELECT CAST(body AS BIGINT) FROM notes)",
    "SELECT v FROM (VALUES (10), (20)) t(v) WHERE v NOT IN (SELECT CAST(body AS BIGINT) FROM notes)",
    "SELECT (SELECT max(CAST(m.body AS BIGINT)) FROM notes m WHERE m.level = n.level) FROM notes n",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM notes WHERE CAST(body AS BIGINT) = 50)",
    "WITH n AS (SELECT id, CAST(body AS BIGINT) AS b FROM notes) SELECT id FROM n WHERE b > 0",
    "SELECT id FROM (SELECT id, 1 / (level - 5) AS x FROM notes) WHERE x < 100",
    "SELECT id FROM notes WHERE 1 / (level - 5) < 100 UNION ALL SELECT id FROM notes WHERE CAST(body AS BIGINT) > 0",
    "SELECT CAST(body AS BIGINT) FROM notes INTERSECT SELECT CAST(body AS BIGINT) FROM notes",
    "SELECT id FROM notes WHERE id = 2 AND 1 / (level - 5) < 100",
    "SELECT id FROM notes WHERE id IN (1, 2, 3) AND CAST(body AS BIGINT) > 0",
    "SELECT CAST(body AS BIGINT) FROM notes WHERE id = 2",
    "SELECT 1 / (level - 5) FROM notes WHERE id IN (1, 2)",
    "UPDATE notes SET level = level WHERE CAST(body AS BIGINT) > 0",
    "UPDATE notes SET level = 10 / (level - 5)",
    "UPDATE notes SET level = 10 / (level - 5) WHERE id IN (1, 2, 3)",
    "UPDATE notes SET level = 1 WHERE id = 2 AND CAST(body AS BIGINT) > 0",
    "UPDATE notes SET level = (SELECT sum(1 / (level - 5)) FROM notes) WHERE id = 1",
    "DELETE FROM notes WHERE 1 / (level - 5) > 1000",
    "DELETE FROM notes WHERE id IN (2, 3) AND CAST(body AS BIGINT) > 1000",
    "INSERT INTO notes SELECT id, owner, 1 / (level - 5), body FROM notes ON CONFLICT (id) DO UPDATE SET level = excluded.level",
    "INSERT INTO notes SELECT id, owner, level, CAST(CAST(body AS BIGINT) AS TEXT) FROM notes ON CONFLICT DO NOTHING",
];

#[tokio::test]
async fn conditions_of_users_meet_only_rows_that_they_see() {
    for tier in TIERS {
        for rule in [OWN, "app.notes.id IN (1, 3, 5)", "app.notes.level NOT IN (4, 5)", "app.notes.body < '9'"] {
            let db = db().await;
            notes(&db).await;
            let ana = user(&db, "ana", &[rule]).await;
            db.admin().run("UPDATE notes SET body = 'fourty' WHERE id = 4").await;
            bring(&db, tier).await;
            for trap in TRAPS {
                // Planned anew, and from the cache.
                for _ in 0..2 {
                    if let Err(error) = ana.try_run(*trap).await {
                        panic!("{tier:?}, {rule}: {trap}: {error}");
                    }
                }
                let plan = explained(&ana, trap).await;
                assert!(plan.is_none_or(|plan| plan.contains("GuardedScan")), "{trap}");
            }
        }
    }
}

/// The statements above are traps indeed: whoever sees row 2 falls into them.
#[tokio::test]
async fn those_who_see_the_row_fail_on_it() {
    for tier in TIERS {
        let db = db().await;
        notes(&db).await;
        bring(&db, tier).await;
        let (service, all) = (db.role(Role::Service), user(&db, "all", &["app.notes"]).await);
        let guarded = user(&db, "guarded", &["app.notes.id IS NOT NULL"]).await;
        for trap in TRAPS {
            for client in [&service, &all, &guarded] {
                assert!(client.try_run(*trap).await.is_err(), "{tier:?}: {trap}");
            }
        }
    }
}

async fn explained(client: &Client, sql: &str) -> Option<String> {
    if !sql.starts_with("SELECT") && !sql.starts_with("WITH") {
        return None;
    }
    Some(lines(client, &format!("EXPLAIN {sql}")).await)
}

async fn lines(client: &Client, sql: &str) -> String {
    let mut lines = String::new();
    for row in client.rows(sql.to_owned()).await {
        writeln!(lines, "{}", row.join(" | ")).unwrap();
    }
    lines
}

/// A plan with what it measured, without times.
fn without_times(plan: &str) -> String {
    let is_time = |metric: &str| {
        let value = metric.rsplit('=').next().unwrap_or_default().trim_end_matches([',', ']', ' ', '|', '\n']);
        ["ns", "µs", "ms", "s"].iter().any(|unit| {
            value.strip_suffix(unit).is_some_and(|number| number.chars().all(|c| c.is_ascii_digit() || c == '.'))
        })
    };
    plan.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
}

const EXPLAINED: &[&str] = &[
    "SELECT id, body FROM notes",
    "SELECT id, body FROM notes WHERE length(body) > 0",
    "SELECT id FROM notes WHERE level > 2",
    "SELECT id FROM notes ORDER BY id DESC LIMIT 2",
    "SELECT count(*) FROM notes",
    "SELECT min(id), max(id) FROM notes",
    "SELECT a.id FROM notes a JOIN notes b ON a.level = b.level",
];

/// However many rows there are that somebody does not see, and wherever they are, the plans are the same.
#[tokio::test]
async fn plans_do_not_tell_of_hidden_rows() {
    let mut seen: Vec<Option<(String, String, String)>> = vec![None; EXPLAINED.len()];
    for (hidden, flushed) in [(0, false), (5_000, false), (5_000, true), (20_000, true)] {
        let db = db().await;
        notes(&db).await;
        let ana = user(&db, "ana", &[OWN]).await;
        more_of_bo(&db, hidden).await;
        if flushed {
            db.admin().run("FLUSH TABLE notes FORCE").await;
        }
        for (sql, seen) in EXPLAINED.iter().zip(&mut seen) {
            let plain = lines(&ana, &format!("EXPLAIN {sql}")).await;
            let verbose = lines(&ana, &format!("EXPLAIN VERBOSE {sql}")).await;
            let measured = without_times(&lines(&ana, &format!("EXPLAIN ANALYZE {sql}")).await);
            for shown in [&plain, &verbose, &measured] {
                for inside in ["RowsScan", "HotImageScan", "DataSourceExec", "parquet", "secret", "segments://"] {
                    assert!(!shown.contains(inside), "{sql}: {shown}");
                }
            }
            match seen {
                None => *seen = Some((plain, verbose, measured)),
                Some((first, first_verbose, first_measured)) => {
                    assert_eq!(&plain, first, "{hidden} {flushed}: {sql}");
                    assert_eq!(&verbose, first_verbose, "{hidden} {flushed}: {sql}");
                    assert_eq!(&measured, first_measured, "{hidden} {flushed}: {sql}");
                }
            }
        }
    }
}

/// Gives bo so many more rows, before and after those of ana.
async fn more_of_bo(db: &Db, count: i64) {
    for first in (0..count).step_by(1_000) {
        let values: Vec<String> = (first..(first + 1_000).min(count))
            .map(|i| {
                let id = if i % 2 == 0 { -10 - i } else { 10 + i };
                format!("({id}, 'bo', {}, '{SECRET} {i}')", i % 7)
            })
            .collect();
        db.admin().run(format!("INSERT INTO notes VALUES {}", values.join(", "))).await;
    }
}

/// Batches of an answer hold rows that are seen and nothing else, not even in parts of buffers that no row refers to.
#[tokio::test]
async fn answers_hold_no_bytes_of_hidden_rows() {
    use futures::StreamExt;
    use kalamdb_engine::Body;
    for tier in TIERS {
        let db = db().await;
        notes(&db).await;
        let ana = user(&db, "ana", &[OWN]).await;
        let long = "a text of ana that is too long to lie beside its length";
        db.admin().run(format!("UPDATE notes SET body = '{long}' WHERE owner = 'ana'")).await;
        bring(&db, tier).await;
        for sql in [
            "SELECT * FROM notes",
            "SELECT body FROM notes WHERE id IN (1, 2, 3)",
            "SELECT body FROM notes ORDER BY id DESC LIMIT 2",
            "UPDATE notes SET level = level RETURNING *",
            "UPDATE notes SET level = level WHERE id IN (1, 2, 3, 4) RETURNING body",
            "DELETE FROM notes WHERE id IN (1, 2) RETURNING body",
        ] {
            let mut execution = ana.session.execute(ana.request(sql, &[]));
            let Body::Rows(mut rows) = execution.next().await.unwrap().unwrap().body else { panic!("{sql}: no rows") };
            let mut found = false;
            while let Some(batch) = rows.next().await {
                for column in batch.unwrap().columns() {
                    let data = column.to_data();
                    let holds = |text: &str| {
                        data.buffers().iter().any(|b| b.as_slice().windows(text.len()).any(|w| w == text.as_bytes()))
                    };
                    assert!(!holds(SECRET), "{tier:?}: {sql}");
                    found |= holds(long);
                }
            }
            assert!(found, "{tier:?}: {sql}");
        }
    }
}
