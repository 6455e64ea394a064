//! INSERT, UPDATE and DELETE: what they change, what they answer, and that they change all or nothing.

use kalamdb_engine::Reason;

use crate::harness::{Client, Db, table};

async fn stock() -> (Db, Client) {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE stock (id BIGINT PRIMARY KEY, n INT NOT NULL DEFAULT 1, name TEXT)").await;
    let ana = db.user("ana");
    ana.run("INSERT INTO stock VALUES (1, 10, 'nut'), (2, 20, 'bolt'), (3, 30, NULL)").await;
    (db, ana)
}

const BEFORE: [[&str; 3]; 3] = [["1", "10", "nut"], ["2", "20", "bolt"], ["3", "30", "NULL"]];

async fn all(client: &Client) -> Vec<Vec<String>> {
    client.rows("SELECT * FROM stock ORDER BY id").await
}

#[tokio::test]
async fn a_failing_statement_changes_nothing() {
    let (_db, ana) = stock().await;
    for (reason, sql) in [
        (Reason::PrimaryKeyViolation, "INSERT INTO stock VALUES (8, 1, ''), (9, 1, ''), (2, 1, '')"),
        (Reason::PrimaryKeyViolation, "INSERT INTO stock VALUES (8, 1, ''), (8, 1, '')"),
        (Reason::PrimaryKeyViolation, "INSERT INTO stock SELECT id + 1, n, name FROM stock"),
        (Reason::NotNullViolation, "INSERT INTO stock VALUES (8, 1, ''), (9, NULL, '')"),
        (Reason::NotNullViolation, "INSERT INTO stock VALUES (NULL, 1, '')"),
        (Reason::NotNullViolation, "INSERT INTO stock (n) VALUES (1)"),
        (Reason::NotNullViolation, "UPDATE stock SET n = CASE WHEN id < 3 THEN 1 END"),
        (Reason::InvalidValue, "INSERT INTO stock VALUES (8, 1, ''), (9, 3000000000, '')"),
        (Reason::InvalidValue, "UPDATE stock SET n = n * 100000000"),
        (Reason::InvalidValue, "UPDATE stock SET n = 100 / (id - 3)"),
        (Reason::InvalidValue, "INSERT INTO stock (id, n) SELECT id + 10, 1 / (id - 3) FROM stock"),
        (Reason::InvalidValue, "INSERT INTO stock (id, n) VALUES (9223372036854775808, 1)"),
        (Reason::InvalidStatement, "UPDATE stock SET id = id + 1"),
        (Reason::InvalidStatement, "UPDATE stock SET n = 1, n = 2"),
        (Reason::InvalidStatement, "INSERT INTO stock (id, n, n) VALUES (8, 1, 2)"),
        (Reason::InvalidStatement, "INSERT INTO stock VALUES (8, 1, '', 4)"),
        (Reason::InvalidStatement, "INSERT INTO stock VALUES (8, 1)"),
        (Reason::InvalidStatement, "INSERT INTO stock SELECT 8, 1"),
        (Reason::ColumnNotFound, "UPDATE stock SET m = 1"),
        (Reason::ColumnNotFound, "INSERT INTO stock (id, m) VALUES (8, 1)"),
        (Reason::ColumnNotFound, "DELETE FROM stock WHERE m = 1"),
        (Reason::InvalidStatement, "INSERT INTO stock VALUES (1, 1, '') ON CONFLICT (name) DO NOTHING"),
    ] {
        ana.fails(reason, sql).await;
        assert_eq!(all(&ana).await, table(&BEFORE), "{sql}");
    }
}

#[tokio::test]
async fn statements_of_a_batch_before_a_failing_one_stay_done() {
    let (_db, ana) = stock().await;
    let sql = "DELETE FROM stock WHERE id = 1; UPDATE stock SET n = 0 WHERE id = 2; INSERT INTO stock (id) VALUES (3); DELETE FROM stock";
    let error = ana.fails(Reason::PrimaryKeyViolation, sql).await;
    assert_eq!(error.statement_index(), Some(2));
    assert_eq!(all(&ana).await, table(&[["2", "0", "bolt"], ["3", "30", "NULL"]]));
    // A syntax error anywhere lets nothing of the batch run.
    ana.fails(Reason::SyntaxError, "DELETE FROM stock; SELEC 1").await;
    assert_eq!(ana.value("SELECT count(*) FROM stock").await, "2");
}

#[tokio::test]
async fn writes_answer_counts_and_commit_sequences() {
    let (db, ana) = stock().await;
    let before = db.engine().last_commit_seq();
    let answer = ana.run("INSERT INTO stock VALUES (4, 1, 'a'), (5, 2, 'b')").await;
    assert_eq!((answer.row_count, answer.commit_seq), (2, Some(db.engine().last_commit_seq())));
    assert!(answer.commit_seq > Some(before));
    assert_eq!(ana.run("UPDATE stock SET n = 3 WHERE id > 3").await.row_count, 2);
    assert_eq!(ana.run("DELETE FROM stock WHERE id = 4 OR name = 'b'").await.row_count, 2);
    for nothing in [
        "UPDATE stock SET n = 0 WHERE id = 77",
        "DELETE FROM stock WHERE false",
        "INSERT INTO stock SELECT * FROM stock WHERE false",
    ] {
        let answer = ana.run(nothing).await;
        assert_eq!((answer.row_count, answer.commit_seq), (0, None), "{nothing}");
    }
}

#[tokio::test]
async fn returning_answers_the_rows_as_written() {
    let (_db, ana) = stock().await;
    let rows = ana.rows("INSERT INTO stock (id, name) VALUES (4, 'pin') RETURNING *").await;
    assert_eq!(rows, table(&[["4", "1", "pin"]]));
    let answer = ana.run("UPDATE stock SET n = n + 1, name = upper(name) WHERE id IN (1, 3) RETURNING id, n AS now, name || '?' AS q").await;
    assert_eq!(answer.rows, table(&[["1", "11", "NUT?"], ["3", "31", "NULL"]]));
    assert_eq!(answer.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["id", "now", "q"]);
    assert_eq!(ana.rows("DELETE FROM stock WHERE id = 2 RETURNING name, id").await, table(&[["bolt", "2"]]));
    assert_eq!(ana.rows("DELETE FROM stock WHERE id = 2 RETURNING name").await, Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn on_conflict() {
    let (_db, ana) = stock().await;
    let nothing =
        ana.run("INSERT INTO stock VALUES (1, 0, 'x'), (4, 40, 'new'), (4, 41, 'again') ON CONFLICT DO NOTHING").await;
    assert_eq!(nothing.row_count, 1);
    let rows = ana
        .rows(
            "INSERT INTO stock VALUES (1, 5, 'more'), (9, 9, 'new') ON CONFLICT (id) \
             DO UPDATE SET n = stock.n + excluded.n, name = excluded.name || '/' || name RETURNING id, n, name",
        )
        .await;
    let mut sorted = rows;
    sorted.sort();
    assert_eq!(sorted, table(&[["1", "15", "more/nut"], ["9", "9", "new"]]));
    let only_where = "INSERT INTO stock VALUES (1, 100, ''), (2, 200, '') ON CONFLICT (id) DO UPDATE SET n = excluded.n WHERE app.stock.n < 20";
    assert_eq!(ana.run(only_where).await.row_count, 1);
    assert_eq!(ana.rows("SELECT id, n FROM stock WHERE id < 3 ORDER BY id").await, table(&[["1", "100"], ["2", "20"]]));
    let default = "INSERT INTO stock VALUES (1, 100, '') ON CONFLICT (id) DO UPDATE SET n = DEFAULT, name = DEFAULT";
    ana.run(default).await;
    assert_eq!(ana.rows("SELECT n, name FROM stock WHERE id = 1").await, table(&[["1", "NULL"]]));
    let twice = "INSERT INTO stock VALUES (1, 1, ''), (1, 2, '') ON CONFLICT (id) DO UPDATE SET n = excluded.n";
    ana.fails(Reason::PrimaryKeyViolation, twice).await;
    let key = "INSERT INTO stock VALUES (1, 1, '') ON CONFLICT (id) DO UPDATE SET id = 5";
    ana.fails(Reason::InvalidStatement, key).await;
    let null = "INSERT INTO stock VALUES (1, 1, '') ON CONFLICT (id) DO UPDATE SET n = NULL";
    ana.fails(Reason::NotNullViolation, null).await;
    let unknown = "INSERT INTO stock VALUES (1, 1, '') ON CONFLICT (id) DO UPDATE SET n = excluded.m";
    ana.fails(Reason::ColumnNotFound, unknown).await;
    let out_of_range = "INSERT INTO stock VALUES (1, 1, '') ON CONFLICT (id) DO UPDATE SET n = excluded.n + 2147483647";
    ana.fails(Reason::InvalidValue, out_of_range).await;
}

#[tokio::test]
async fn insert_select_reads_the_state_before_it() {
    let (_db, ana) = stock().await;
    assert_eq!(ana.run("INSERT INTO stock SELECT id + 100, n, name FROM stock").await.row_count, 3);
    assert_eq!(
        ana.run("INSERT INTO stock (id, n) WITH c AS (SELECT max(id) m FROM stock) SELECT m + 1, m FROM c")
            .await
            .row_count,
        1
    );
    assert_eq!(ana.rows("SELECT id, n FROM stock WHERE id > 103").await, table(&[["104", "103"]]));
    ana.run("INSERT INTO stock (id, n) SELECT value, value AS n FROM generate_series(1000, 2999) ORDER BY value").await;
    assert_eq!(ana.value("SELECT count(*) FROM stock WHERE id >= 1000 AND n = id").await, "2000");
}

#[tokio::test]
async fn conditions_with_queries() {
    let (_db, ana) = stock().await;
    assert_eq!(ana.run("UPDATE stock SET n = 0 WHERE n = (SELECT max(n) FROM stock)").await.row_count, 1);
    assert_eq!(ana.run("DELETE FROM stock WHERE id IN (SELECT id FROM stock WHERE n > 15)").await.row_count, 1);
    assert_eq!(
        ana.run("DELETE FROM stock AS s WHERE EXISTS (SELECT 1 FROM stock o WHERE o.id > s.id)").await.row_count,
        1
    );
    assert_eq!(all(&ana).await, table(&[["3", "0", "NULL"]]));
}

#[tokio::test]
async fn conditions_may_name_hidden_columns() {
    let (_db, ana) = stock().await;
    let seq = ana.value("SELECT _seq FROM stock WHERE id = 1").await;
    ana.run("UPDATE stock SET n = 11 WHERE id = 1").await;
    assert_eq!(ana.run(format!("DELETE FROM stock WHERE _seq = {seq}")).await.row_count, 2);
    assert_eq!(ana.run(format!("UPDATE stock SET n = 12 WHERE id = 1 AND _seq > {seq}")).await.row_count, 1);
    assert_eq!(all(&ana).await, table(&[["1", "12", "nut"]]));
}

#[tokio::test]
async fn an_update_sees_old_values_on_every_right_side() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE p (id BIGINT PRIMARY KEY, a BIGINT, b BIGINT)").await;
    let ana = db.user("ana");
    ana.run("INSERT INTO p VALUES (1, 1, 2)").await;
    ana.run("UPDATE p SET a = b, b = a WHERE id = 1").await;
    assert_eq!(ana.rows("SELECT a, b FROM p").await, table(&[["2", "1"]]));
    ana.run("UPDATE p SET a = COALESCE(NULL, b, 5), b = NULLIF(b, 1)").await;
    assert_eq!(ana.rows("SELECT a, b FROM p").await, table(&[["1", "NULL"]]));
}

#[tokio::test]
async fn generated_keys_are_unique_and_ordered() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE g (id BIGINT PRIMARY KEY AUTO_INCREMENT, n BIGINT)").await;
    db.admin().run("CREATE USER TABLE s (id TEXT PRIMARY KEY DEFAULT ULID(), n BIGINT)").await;
    let ana = db.user("ana");
    for name in ["g", "s"] {
        ana.run(format!("INSERT INTO {name} (n) SELECT value FROM generate_series(1, 500)")).await;
        for i in 501..=520 {
            ana.run(format!("INSERT INTO {name} (n) VALUES ({i})")).await;
        }
        assert_eq!(ana.value(format!("SELECT count(DISTINCT id) FROM {name}")).await, "520");
        let late = ana.rows(format!("SELECT n FROM {name} WHERE n > 500 ORDER BY id")).await;
        assert_eq!(late, (501..=520).map(|i| vec![i.to_string()]).collect::<Vec<_>>());
    }
    let key = ana.value("INSERT INTO g (n) VALUES (1) RETURNING id").await;
    ana.fails(Reason::PrimaryKeyViolation, format!("INSERT INTO g VALUES ({key}, 1)")).await;
}

#[tokio::test]
async fn text_keys_keep_their_order_and_identity() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE k (id TEXT PRIMARY KEY)").await;
    let ana = db.user("ana");
    let keys = ["", " ", "A", "a", "a\0", "a\0\0b", "aa", "b", "z", "ä", "\u{ffff}", "🙂"];
    for key in keys.iter().rev() {
        ana.run_with("INSERT INTO k VALUES ($1)", &[crate::harness::text(key)]).await;
    }
    let expected: Vec<Vec<String>> = keys.iter().map(|k| vec![(*k).to_owned()]).collect();
    assert_eq!(ana.rows("SELECT id FROM k ORDER BY id").await, expected);
    let reversed: Vec<Vec<String>> = expected.iter().rev().cloned().collect();
    assert_eq!(ana.rows("SELECT id FROM k ORDER BY id DESC").await, reversed);
    for key in keys {
        let found = ana.run_with("SELECT id FROM k WHERE id = $1", &[crate::harness::text(key)]).await;
        assert_eq!(found.rows, table(&[[key]]), "{key:?}");
        let above = ana.run_with("SELECT count(*) FROM k WHERE id > $1", &[crate::harness::text(key)]).await;
        let at = keys.iter().position(|k| *k == key).unwrap();
        assert_eq!(above.rows[0][0], (keys.len() - 1 - at).to_string(), "{key:?}");
    }
}

#[tokio::test]
async fn integer_keys_reach_both_ends() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE k (id BIGINT PRIMARY KEY)").await;
    let ana = db.user("ana");
    let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
    ana.run(format!("INSERT INTO k VALUES ({most}), (0), (-1), (1), ({least})")).await;
    let rows = ana.rows("SELECT id FROM k ORDER BY id").await;
    assert_eq!(rows, table(&[[least.as_str()], ["-1"], ["0"], ["1"], [most.as_str()]]));
    assert_eq!(ana.rows(format!("SELECT id FROM k WHERE id = {most}")).await, table(&[[most.as_str()]]));
    assert_eq!(ana.value(format!("SELECT count(*) FROM k WHERE id > {least} AND id < {most}")).await, "3");
    assert_eq!(ana.value("SELECT count(*) FROM k WHERE id BETWEEN 1 AND -1").await, "0");
}
