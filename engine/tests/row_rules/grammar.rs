//! Rules as they are written.

use kalamdb_engine::Reason;

use super::{db, notes, quoted, user};

#[tokio::test]
async fn wrong_rules_are_refused_with_their_place() {
    let db = db().await;
    let admin = db.admin();
    notes(&db).await;
    admin
        .run(
            "CREATE USER TABLE own (id BIGINT PRIMARY KEY);
             CREATE SHARED TABLE kinds (id BIGINT PRIMARY KEY, ok BOOLEAN, price DECIMAL(8, 2), ratio DOUBLE, day DATE,
               at TIMESTAMP, u UUID, raw BYTES, doc JSON, tags TEXT[], small SMALLINT) ACCESS restricted",
        )
        .await;
    for (rule, reason, column, told) in [
        ("", Reason::SyntaxError, 1, "a name or *"),
        ("app", Reason::SyntaxError, 1, "app.*"),
        ("app.notes.owner", Reason::SyntaxError, 11, "condition"),
        ("app.notes.owner =", Reason::SyntaxError, 18, "a constant"),
        ("app.notes.owner == 'x'", Reason::SyntaxError, 17, "IS [NOT] NULL"),
        ("app.notes.owner LIKE 'x%'", Reason::SyntaxError, 17, "IS [NOT] NULL"),
        ("app.notes.owner = NULL", Reason::SyntaxError, 19, "IS NULL"),
        ("app.notes.owner IN ()", Reason::SyntaxError, 21, "a constant"),
        ("app.notes.owner IN ('a' 'b')", Reason::SyntaxError, 25, "a comma or )"),
        ("app.notes.owner = owner", Reason::SyntaxError, 19, "a constant"),
        ("app.notes.owner = lower('X')", Reason::SyntaxError, 19, "a constant"),
        ("app.notes.owner = 'unended", Reason::SyntaxError, 19, "nterminated"),
        ("app.notes.owner = 'a' AND level = 1", Reason::NotSupported, 23, "AND"),
        ("app.notes.owner = 'a' OR level = 1", Reason::NotSupported, 23, "OR"),
        ("app.notes.owner = 'a' b", Reason::SyntaxError, 23, "the end"),
        ("app.*.owner = 'a'", Reason::SyntaxError, 5, "one table"),
        ("*.notes", Reason::SyntaxError, 3, "after *"),
        ("app.no*", Reason::SyntaxError, 7, "end of the rule"),
        ("app.notes.owner.more = 1", Reason::SyntaxError, 17, "at most"),
        ("ap.notes", Reason::NamespaceNotFound, 1, "'app'"),
        ("ap.*", Reason::NamespaceNotFound, 1, "'app'"),
        ("app.note.*", Reason::TableNotFound, 5, "'notes'"),
        ("app.notes.ownr = 'a'", Reason::ColumnNotFound, 11, "'owner'"),
        ("app.notes._seq > 1", Reason::ColumnNotFound, 11, "_seq"),
        ("app.own.id = 1", Reason::InvalidRequest, 5, "USER"),
        ("system.users.*", Reason::InvalidRequest, 1, "of the system"),
        ("app.notes.level = 'x'", Reason::InvalidValue, 19, "INT"),
        ("app.notes.level = 1.5", Reason::InvalidValue, 19, "exactly"),
        ("app.notes.level = 3000000000", Reason::InvalidValue, 19, "range"),
        ("app.notes.level = TRUE", Reason::InvalidValue, 19, "INT"),
        ("app.notes.level = CURRENT_USER()", Reason::InvalidValue, 19, "TEXT"),
        ("app.notes.owner = 5", Reason::InvalidValue, 19, "TEXT"),
        ("app.kinds.price > 1.999", Reason::InvalidValue, 19, "exactly"),
        ("app.kinds.day = 'yesterday'", Reason::InvalidValue, 17, "DATE"),
        ("app.kinds.u = 'no uuid'", Reason::InvalidValue, 15, "UUID"),
        ("app.kinds.ok = 1", Reason::InvalidValue, 16, "BOOLEAN"),
        ("app.kinds.doc = '{}'", Reason::InvalidRequest, 11, "JSON"),
        ("app.kinds.tags = 'a'", Reason::InvalidRequest, 11, "TEXT[]"),
    ] {
        let sql = format!("CREATE USER x PERMISSIONS ('app.notes.*', {})", quoted(&[rule]));
        let error = admin.fails(reason, sql).await;
        let place = error.metadata().get("permission_column").map(String::as_str);
        assert_eq!(place, Some(column.to_string().as_str()), "{rule}: {error}");
        assert_eq!(error.metadata().get("permission").map(String::as_str), Some("2"), "{rule}: {error}");
        assert!(error.message().contains(told), "{rule}: {error}");
    }
    assert!(admin.rows("SELECT * FROM system.users WHERE username = 'x'").await.is_empty());
}

#[tokio::test]
async fn constants_are_of_their_columns_types() {
    let db = db().await;
    let admin = db.admin();
    admin
        .run(
            "CREATE SHARED TABLE kinds (id BIGINT PRIMARY KEY, ok BOOLEAN, price DECIMAL(8, 2), ratio DOUBLE, day DATE,
               at TIMESTAMP, u UUID, raw BYTES, doc JSON, tags TEXT[], small SMALLINT) ACCESS restricted;
             INSERT INTO kinds VALUES (1, true, 1.50, 0.5, '2026-01-02', '2026-01-02 10:00:00',
               '6ba7b810-9dad-11d1-80b4-00c04fd43000', X'01', '{}', ['a'], 7),
               (2, false, 2.50, 2.5, '2026-02-02', '2026-02-02 10:00:00',
               '6ba7b810-9dad-11d1-80b4-00c04fd43001', X'02', NULL, NULL, -7)",
        )
        .await;
    let ana = user(&db, "ana", &[]).await;
    for rule in [
        "ok = TRUE",
        "ok <> false",
        "price = 1.5",
        "price < 2",
        "price IN (1.50, 9.99)",
        "ratio = 0.5",
        "ratio < 1",
        "ratio < 1e0",
        "day = '2026-01-02'",
        "day < '2026-01-15'",
        "at < '2026-01-15 00:00:00'",
        "u = '6BA7B810-9DAD-11D1-80B4-00C04FD43000'",
        "raw = '\\x01'",
        "doc IS NOT NULL",
        "tags IS NOT NULL",
        "small > 0",
        "small NOT IN (-7, 8)",
        "id < 2",
    ] {
        let rule = format!("app.kinds.{rule}");
        super::set_rules(&db, "ana", &[&rule]).await;
        for flushed in [false, true] {
            if flushed {
                admin.run("FLUSH TABLE kinds FORCE").await;
            }
            assert_eq!(ana.rows("SELECT id FROM kinds").await, [["1"]], "{rule}");
            assert_eq!(ana.rows("SELECT id FROM kinds WHERE id IN (1, 2)").await, [["1"]], "{rule}");
        }
    }
}

#[tokio::test]
async fn there_is_an_end_of_rules() {
    let db = db().await;
    notes(&db).await;
    let many: Vec<String> = (0..1_000).map(|i| format!("app.notes.level = {i}")).collect();
    let rules: Vec<&str> = many.iter().map(String::as_str).collect();
    let ana = user(&db, "ana", &rules).await;
    assert_eq!(ana.value("SELECT count(*) FROM notes").await, "5");
    let mixed: Vec<String> = (0..1_000).map(|i| format!("app.notes.level < -{}", i + 10)).collect();
    let rules: Vec<&str> = mixed.iter().map(String::as_str).collect();
    super::set_rules(&db, "ana", &rules).await;
    assert_eq!(ana.value("SELECT count(*) FROM notes").await, "0");
    assert!(ana.rows("SELECT * FROM notes WHERE id = 1").await.is_empty());
    let too_many: Vec<&str> = std::iter::repeat_n("app.notes", 1_001).collect();
    let sql = format!("ALTER USER ana SET PERMISSIONS ({})", quoted(&too_many));
    assert!(db.admin().try_run(sql).await.is_err());
}
