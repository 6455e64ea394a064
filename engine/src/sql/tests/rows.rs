//! INSERT, UPDATE and DELETE.

use super::*;

#[test]
fn insert_forms() {
    let insert = |sql: &str| match one(sql) {
        Statement::Insert(insert) => *insert,
        other => panic!("{sql}: {other:?}"),
    };
    let values = insert("INSERT INTO ns.t (Id, \"B\") VALUES (1, DEFAULT), (DEFAULT, 'x') RETURNING id, b AS c, *");
    assert_eq!(values.columns.iter().map(text).collect::<Vec<_>>(), ["id", "B"]);
    assert_eq!(values.columns[0].position, place(1, 19));
    assert_eq!(values.returning.as_ref().map(Vec::len), Some(3));
    let InsertSource::Values(rows) = values.source else { panic!() };
    let defaults: Vec<Vec<bool>> = rows.iter().map(|row| row.iter().map(Option::is_none).collect()).collect();
    assert_eq!(defaults, [[false, true], [true, false]]);
    assert!(matches!(insert("INSERT INTO t DEFAULT VALUES").source, InsertSource::DefaultValues));
    for sql in [
        "INSERT INTO t SELECT * FROM u",
        "INSERT INTO t (a) SELECT a FROM u",
        "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
        "INSERT INTO t (a) VALUES (1), (2) ORDER BY 1",
        "INSERT INTO t (SELECT 1)",
    ] {
        assert!(matches!(insert(sql).source, InsertSource::Query(_)), "{sql}");
    }
    assert!(matches!(
        insert("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING").on_conflict,
        Some(OnConflict { action: ConflictAction::DoNothing, .. })
    ));
    let conflict = insert(
        "INSERT INTO t SELECT * FROM u ON CONFLICT (Id) DO UPDATE SET a = excluded.a, b = DEFAULT WHERE t.a < 5",
    );
    let Some(OnConflict { target, action: ConflictAction::DoUpdate { assignments, filter } }) = conflict.on_conflict
    else {
        panic!()
    };
    assert_eq!(target.iter().map(text).collect::<Vec<_>>(), ["id"]);
    assert_eq!(assignments.iter().map(|assignment| assignment.value.is_some()).collect::<Vec<_>>(), [true, false]);
    assert!(filter.is_some());
}

#[test]
fn update_and_delete_forms() {
    let Statement::Update(update) = one("UPDATE ns.t AS X SET a = a + 1, B = default WHERE id = $1 RETURNING *") else {
        panic!()
    };
    assert_eq!(update.alias.as_ref().map(text), Some("x"));
    assert_eq!(update.assignments.iter().map(|set| text(&set.column)).collect::<Vec<_>>(), ["a", "b"]);
    assert!(update.assignments[1].value.is_none());
    assert!(update.filter.is_some() && update.returning.is_some());
    let Statement::Delete(delete) = one("DELETE FROM ns.user.t x WHERE a IN (SELECT b FROM u) RETURNING a") else {
        panic!()
    };
    assert_eq!((delete.table.scope, delete.alias.as_ref().map(text)), (TableScope::ActingUser, Some("x")));
    assert!(delete.filter.is_some() && delete.returning.is_some());
}

#[test]
fn forms_of_rows_that_are_refused() {
    for (sql, message) in [
        ("INSERT OVERWRITE t VALUES (1)", "INSERT INTO"),
        ("INSERT OR REPLACE INTO t VALUES (1)", "ON CONFLICT"),
        ("INSERT IGNORE INTO t VALUES (1)", "ON CONFLICT"),
        ("REPLACE INTO t VALUES (1)", "ON CONFLICT"),
        ("INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT c DO NOTHING", "ON CONFLICT (key)"),
        ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", "ON CONFLICT (key)"),
        ("INSERT INTO TABLE t VALUES (1)", "without TABLE"),
        ("INSERT INTO t PARTITION (a = 1) VALUES (1)", "PARTITION"),
        ("INSERT INTO DIRECTORY 'x' SELECT 1", "directory"),
        ("UPDATE t SET a = 1 FROM u", "UPDATE … FROM"),
        ("UPDATE t SET a = 1 ORDER BY a", "ORDER BY and LIMIT"),
        ("UPDATE t SET a = 1 LIMIT 1", "ORDER BY and LIMIT"),
        ("UPDATE t JOIN u ON t.a = u.a SET a = 1", "one table"),
        ("UPDATE t SET (a, b) = (1, 2)", "SET a = "),
        ("UPDATE OR IGNORE t SET a = 1", "UPDATE OR"),
        ("DELETE FROM t USING u", "USING"),
        ("DELETE FROM t ORDER BY a", "ORDER BY and LIMIT"),
        ("DELETE FROM t LIMIT 1", "ORDER BY and LIMIT"),
        ("DELETE FROM a, b", "one table"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "INSERT INTO t WITH"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "subquery"),
        ("WITH x AS (SELECT 1) UPDATE t SET a = 1", "subquery"),
        ("SELECT * FROM (DELETE FROM t RETURNING *) x", "subquery"),
    ] {
        refused(sql, Reason::NotSupported, message);
    }
    refused("INSERT INTO t (a, A) VALUES (1, 2)", Reason::InvalidStatement, "given twice");
    refused("UPDATE t SET a = 1, a = 2", Reason::InvalidStatement, "given twice");
    refused("UPDATE t SET t.a = 1", Reason::InvalidStatement, "the column alone");
    refused("INSERT t VALUES (1)", Reason::SyntaxError, "INTO");
    refused("DELETE FORM t", Reason::SyntaxError, "Did you mean FROM?");
    refused("INSERT INTO t VALUES (1", Reason::SyntaxError, "the end of the statement");
}
