//! Definitions of tables.

use super::*;

#[test]
fn create_table_takes_everything() {
    let create = create_table(
        "CREATE SHARED TABLE IF NOT EXISTS ns.t (
           id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(),
           body TEXT NOT NULL,
           n INT DEFAULT 0 NOT NULL,
           at TIMESTAMP DEFAULT NOW() NULL,
           tags TEXT[],
           key TEXT, check INT, unique BOOLEAN
         ) ACCESS Public",
    );
    assert_eq!((create.kind, create.if_not_exists), (TableKind::Shared, true));
    assert_eq!(create.primary_key.iter().map(text).collect::<Vec<_>>(), ["id"]);
    assert_eq!(create.access, Some(Access::Public));
    assert_eq!(create.ttl_us, None);
    assert_eq!(create.columns.len(), 8);
    let default = |n: usize| create.columns[n].default.as_ref().map(ToString::to_string);
    assert_eq!(default(0).as_deref(), Some("SNOWFLAKE_ID()"));
    assert_eq!((default(2).as_deref(), create.columns[2].not_null), (Some("0"), true));
    assert_eq!((default(3).as_deref(), create.columns[3].not_null), (Some("NOW()"), false));
    assert_eq!(create.columns[4].sql_type, SqlType::List(Box::new(SqlType::Text)));

    let create = create_table("create stream table t (a TEXT auto_increment, b INT, primary key (A)) TTL '30 seconds'");
    assert_eq!((create.kind, create.ttl_us), (TableKind::Stream, Some(30_000_000)));
    assert!(create.columns[0].auto_increment);
    assert_eq!(create.primary_key.iter().map(text).collect::<Vec<_>>(), ["a"]);
    assert!(create_table("CREATE USER TABLE t (id BIGINT AUTOINCREMENT PRIMARY KEY)").columns[0].auto_increment);
    assert_eq!(create_table("CREATE USER TABLE t (a INT, b INT, PRIMARY KEY (a, b))").primary_key.len(), 2);
    assert_eq!(create_table("CREATE SHARED TABLE t (a INT) ACCESS 'private'").access, Some(Access::Private));
    assert_eq!(create_table("CREATE SHARED TABLE t (a INT) ACCESS restricted").access, Some(Access::Restricted));
}

#[test]
fn a_clause_fits_the_table_type() {
    let invalid = Reason::InvalidTableDefinition;
    refused("CREATE USER TABLE t (a INT) ACCESS public", invalid, "ACCESS is for SHARED tables");
    refused("CREATE STREAM TABLE t (a INT) TTL 5 ACCESS public", invalid, "ACCESS is for SHARED tables");
    refused("CREATE USER TABLE t (a INT) TTL '5s'", invalid, "TTL is for STREAM tables");
    refused("CREATE SHARED TABLE t (a INT) TTL '5s'", invalid, "TTL is for STREAM tables");
    refused("CREATE STREAM TABLE t (a INT)", invalid, "TTL '30 seconds'");
    refused("CREATE STREAM TABLE t (a INT) TTL 1 TTL 2", invalid, "given twice");
    refused("CREATE SHARED TABLE t (a INT) ACCESS public ACCESS private", invalid, "given twice");
    refused("CREATE SHARED TABLE t (a INT) ACCESS publc", Reason::SyntaxError, "Did you mean PUBLIC?");
    assert_eq!(fails("CREATE USER TABLE t (a INT)\nACCESS public").position(), place(2, 1));
}

#[test]
fn contradictions_in_a_definition_are_errors() {
    let invalid = Reason::InvalidTableDefinition;
    refused("CREATE USER TABLE t ()", invalid, "at least one column");
    refused("CREATE USER TABLE t (PRIMARY KEY (a))", invalid, "at least one column");
    refused("CREATE USER TABLE t (a INT, A TEXT)", invalid, "defined twice");
    refused("CREATE USER TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)", invalid, "two PRIMARY KEYs");
    refused("CREATE USER TABLE t (a INT PRIMARY KEY, PRIMARY KEY (a))", invalid, "two PRIMARY KEYs");
    refused("CREATE USER TABLE t (a INT NULL NOT NULL)", invalid, "both NULL and NOT NULL");
    refused("CREATE USER TABLE t (a INT PRIMARY KEY NULL)", invalid, "cannot be NULL");
    refused("CREATE USER TABLE t (a INT AUTO_INCREMENT DEFAULT 1)", invalid, "cannot have both");
    refused("CREATE USER TABLE t (a INT DEFAULT 1 DEFAULT 2)", invalid, "two DEFAULTs");
    refused("CREATE USER TABLE t (a)", Reason::SyntaxError, "the type of the column");
    refused("CREATE USER TABLE t (a INT,)", Reason::SyntaxError, "the name of a column");
    refused("CREATE USER TABLE t (a INT", Reason::SyntaxError, "the end of the statement");
    refused("CREATE USER TABLE t", Reason::SyntaxError, "( and the columns");
    refused("CREATE USER TABLE t (a INT NUL)", Reason::SyntaxError, "Did you mean NULL?");
    refused("CREATE USER TABLE t (a INT) TLT 5", Reason::SyntaxError, "Did you mean TTL?");
}

#[test]
fn clauses_and_constraints_of_others_are_refused() {
    for (sql, message) in [
        ("(a INT) REPLICAS 3", "REPLICAS"),
        ("(a INT) REPLICA TAGS ['a']", "REPLICAS"),
        ("(a INT) WITH (x = 1)", "ACCESS (SHARED tables)"),
        ("(a INT) PARTITION BY a", "Partitions"),
        ("(a INT) AS SELECT 1", "INSERT INTO t SELECT"),
        ("AS SELECT 1", "INSERT INTO t SELECT"),
        ("(LIKE other)", "INSERT INTO t SELECT"),
        ("LIKE other", "INSERT INTO t SELECT"),
        ("(a INT UNIQUE)", "UNIQUE"),
        ("(a INT, UNIQUE (a))", "UNIQUE"),
        ("(a INT CHECK (a > 0))", "CHECK"),
        ("(a INT, CHECK (a > 0))", "CHECK"),
        ("(a INT REFERENCES b (c))", "Foreign keys"),
        ("(a INT, FOREIGN KEY (a) REFERENCES b (c))", "Foreign keys"),
        ("(a INT, CONSTRAINT k PRIMARY KEY (a))", "Constraints have no names"),
        ("(a INT CONSTRAINT k NOT NULL)", "Constraints have no names"),
        ("(a INT GENERATED ALWAYS AS IDENTITY)", "Generated columns"),
        ("(a INT AS (b + 1))", "Generated columns"),
        ("(a TEXT COLLATE \"C\")", "Collations"),
        ("(a TEXT DEFAULT 'x' COLLATE \"C\")", "Collations"),
        ("(a TEXT COMMENT 'x')", "Comments"),
    ] {
        refused(&format!("CREATE USER TABLE t {sql}"), Reason::NotSupported, message);
    }
}

#[test]
fn alter_table_actions() {
    let AlterTableAction::AddColumn { column, if_not_exists } = alter_action("ADD COLUMN C TEXT DEFAULT 'x' NOT NULL")
    else {
        panic!()
    };
    assert_eq!((text(&column.name), column.not_null, if_not_exists), ("c", true, false));
    assert!(matches!(alter_action("ADD c INT"), AlterTableAction::AddColumn { .. }));
    assert!(matches!(
        alter_action("ADD COLUMN IF NOT EXISTS c INT"),
        AlterTableAction::AddColumn { if_not_exists: true, .. }
    ));
    assert!(matches!(alter_action("DROP COLUMN IF EXISTS c"), AlterTableAction::DropColumn { if_exists: true, .. }));
    assert!(matches!(alter_action("DROP c"), AlterTableAction::DropColumn { if_exists: false, .. }));
    let AlterTableAction::RenameColumn { from, to } = alter_action("RENAME a TO \"B\"") else { panic!() };
    assert_eq!((text(&from), text(&to)), ("a", "B"));
    assert!(matches!(alter_action("RENAME COLUMN a TO b"), AlterTableAction::RenameColumn { .. }));
    assert!(matches!(alter_action("SET ACCESS PRIVATE"), AlterTableAction::SetAccess(Access::Private)));
    assert!(matches!(alter_action("SET TTL '1 hour'"), AlterTableAction::SetTtl(3_600_000_000)));
    let Statement::AlterTable(alter) = one("ALTER TABLE IF EXISTS t DROP COLUMN a") else { panic!() };
    assert!(alter.if_exists);

    for (action, message) in [
        ("ALTER COLUMN a TYPE TEXT", "cannot be changed"),
        ("ADD CONSTRAINT k UNIQUE (a)", "Constraints"),
        ("ADD UNIQUE (a)", "Constraints"),
        ("ADD PRIMARY KEY (a)", "fixed when it is created"),
        ("DROP CONSTRAINT k", "Constraints"),
        ("DROP COLUMN a CASCADE", "CASCADE"),
        ("RENAME TO u", "cannot be renamed"),
        ("ADD COLUMN a INT, ADD COLUMN b INT", "one change"),
        ("ADD COLUMN a INT AFTER b", "AFTER"),
        ("OWNER TO x", "owners"),
    ] {
        refused(&format!("ALTER TABLE t {action}"), Reason::NotSupported, message);
    }
    refused("ALTER TABLE t ADD a INT PRIMARY KEY", Reason::InvalidTableDefinition, "cannot be the PRIMARY KEY");
    refused("ALTER TABLE t DRP COLUMN a", Reason::SyntaxError, "Did you mean DROP?");
    refused("ALTER TABLE t SET x", Reason::SyntaxError, "ACCESS, FLUSH POLICY or TTL");
}

#[test]
fn drop_show_and_describe() {
    let Statement::DropTable(drop) = one("DROP TABLE IF EXISTS ns.t") else { panic!() };
    assert_eq!((drop.if_exists, text(&drop.table.table)), (true, "t"));
    refused("DROP TABLE a, b", Reason::NotSupported, "one table");
    refused("DROP TABLE a CASCADE", Reason::NotSupported, "CASCADE");
    refused("DROP USER TABLE a", Reason::NotSupported, "Write DROP TABLE");
    assert!(matches!(one("SHOW TABLES"), Statement::ShowTables { namespace: None }));
    for sql in ["SHOW TABLES IN Ns", "SHOW TABLES FROM ns"] {
        let Statement::ShowTables { namespace: Some(namespace) } = one(sql) else { panic!() };
        assert_eq!(text(&namespace), "ns");
    }
    refused("SHOW TABLES LIKE 'x'", Reason::NotSupported, "system.tables");
    for sql in ["DESCRIBE ns.t", "DESC t", "DESCRIBE TABLE t", "desc table system.tables"] {
        assert!(matches!(one(sql), Statement::DescribeTable { .. }), "{sql}");
    }
    refused("DESCRIBE SELECT 1", Reason::NotSupported, "EXPLAIN");
    refused("SHOW DATABASES", Reason::NotSupported, "SHOW NAMESPACES");
    refused("SHOW COLUMNS FROM t", Reason::NotSupported, "DESCRIBE");
    refused("SHOW ALL", Reason::NotSupported, "system.settings");
    refused("SHOW NAMESPACE", Reason::SyntaxError, "Did you mean NAMESPACES?");
}

#[test]
fn lifetimes() {
    let ttl = |text: &str| match alter_action(&format!("SET TTL {text}")) {
        AlterTableAction::SetTtl(us) => us,
        other => panic!("{other:?}"),
    };
    for (text, us) in [
        ("'30 seconds'", 30_000_000),
        ("'5 minutes'", 300_000_000),
        ("'1 hour'", 3_600_000_000),
        ("'7 days'", 7 * 86_400_000_000),
        ("'500 milliseconds'", 500_000),
        ("'10s'", 10_000_000),
        ("' 5M '", 300_000_000),
        ("'90'", 90_000_000),
        ("90", 90_000_000),
        ("'1ms'", 1_000),
        ("'3650 days'", 315_360_000_000_000),
    ] {
        assert_eq!(ttl(text), us, "{text}");
    }
    for (text, message) in [
        ("'0 s'", "more than 0"),
        ("0", "more than 0"),
        ("'3651 days'", "10 years"),
        ("'99999999999999999999 days'", "10 years"),
        ("'9223372036854775807 weeks'", "10 years"),
        ("'-5 s'", "not a time"),
        ("'five'", "not a time"),
        ("''", "not a time"),
        ("'1.5 h'", "not a time"),
        ("'5 parsecs'", "not a time"),
        ("'1 hour 5 minutes'", "not a time"),
        ("'5 \u{661}'", "not a time"),
    ] {
        refused(&format!("ALTER TABLE t SET TTL {text}"), Reason::InvalidTableDefinition, message);
    }
    refused("ALTER TABLE t SET TTL forever", Reason::SyntaxError, "a time such as");
}
