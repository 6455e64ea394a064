//! Storages, flush policies, and statements about the cold tier.

use super::*;

fn create_storage(sql: &str) -> CreateStorage {
    match one(sql) {
        Statement::CreateStorage(create) => create,
        other => panic!("{sql}: {other:?}"),
    }
}

fn alter_storage(sql: &str) -> AlterStorage {
    match one(sql) {
        Statement::AlterStorage(alter) => alter,
        other => panic!("{sql}: {other:?}"),
    }
}

fn policy(sql: &str) -> FlushPolicy {
    create_table(&format!("CREATE USER TABLE t (a INT) FLUSH POLICY {sql}")).flush_policy.expect("a policy")
}

const fn both(rows: u64, interval_s: u64) -> FlushPolicy {
    FlushPolicy { rows: Some(rows), interval_s: Some(interval_s) }
}

#[test]
fn storages_are_created_altered_and_dropped() {
    let create =
        create_storage("CREATE STORAGE S1 TYPE s3 URI 's3://Bucket/Folder' CREDENTIALS '{\"key\": \"it''s\"}'");
    assert_eq!((text(&create.name), create.kind, create.if_not_exists), ("s1", StorageKind::S3, false));
    assert_eq!(create.uri, "s3://Bucket/Folder");
    assert_eq!(create.credentials.as_deref(), Some("{\"key\": \"it's\"}"));
    for (sql, kind) in [
        ("TYPE FILESYSTEM URI 'file:///x'", StorageKind::Filesystem),
        ("URI 'gs://b' TYPE 'gcs'", StorageKind::Gcs),
        ("CREDENTIALS '{}' URI 'az://c' TYPE Azure", StorageKind::Azure),
    ] {
        let create = create_storage(&format!("CREATE STORAGE IF NOT EXISTS \"S\" {sql}"));
        assert_eq!((text(&create.name), create.kind, create.if_not_exists), ("S", kind, true), "{sql}");
    }

    let alter = alter_storage("ALTER STORAGE s SET URI 's3://b/c'");
    assert_eq!((text(&alter.name), alter.uri.as_deref(), alter.credentials), ("s", Some("s3://b/c"), None));
    let alter = alter_storage("ALTER STORAGE s SET CREDENTIALS ''");
    assert_eq!((alter.uri, alter.credentials.as_deref()), (None, Some("")));
    for sql in ["URI 'x' CREDENTIALS '{}'", "CREDENTIALS '{}', URI 'x'"] {
        let alter = alter_storage(&format!("ALTER STORAGE s SET {sql}"));
        assert_eq!((alter.uri.as_deref(), alter.credentials.as_deref()), (Some("x"), Some("{}")));
    }

    let Statement::DropStorage(drop) = one("DROP STORAGE IF EXISTS s") else { panic!() };
    assert_eq!((text(&drop.name), drop.if_exists), ("s", true));
    assert!(matches!(one("SHOW STORAGES"), Statement::ShowStorages));
}

#[test]
fn what_a_storage_cannot_be() {
    let (invalid, syntax) = (Reason::InvalidStatement, Reason::SyntaxError);
    refused("CREATE STORAGE s TYPE S3", invalid, "a TYPE and a URI");
    refused("CREATE STORAGE s URI 'x'", invalid, "a TYPE and a URI");
    refused("CREATE STORAGE s", invalid, "a TYPE and a URI");
    refused("CREATE STORAGE s TYPE S3 URI 'x' URI 'y'", invalid, "URI is given twice");
    refused("CREATE STORAGE s TYPE S3 TYPE GCS URI 'x'", invalid, "TYPE is given twice");
    refused("CREATE STORAGE s TYPE S4 URI 'x'", syntax, "FILESYSTEM, S3, GCS or AZURE");
    refused("CREATE STORAGE s TYPE FILESYSTM URI 'x'", syntax, "Did you mean FILESYSTEM?");
    refused("CREATE STORAGE s TYPE S3 URL 'x'", syntax, "Did you mean URI?");
    refused("CREATE STORAGE s TYPE S3 URI x", syntax, "a URI in '…'");
    refused("CREATE STORAGE s TYPE S3 URI 'x' CREDENTIAL '{}'", syntax, "Did you mean CREDENTIALS?");
    refused("CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS {}", syntax, "a JSON object in '…'");
    refused("CREATE STORAGE 's' TYPE S3 URI 'x'", syntax, "the name of a storage");
    refused("CREATE STORAGE a.b TYPE S3 URI 'x'", syntax, "TYPE, URI, CREDENTIALS");
    refused("CREATE STORAG s TYPE S3 URI 'x'", syntax, "Did you mean STORAGE?");
    refused("CREATE STORAGE s TYPE S3 URI $1", syntax, "a URI in '…'");
    refused("ALTER STORAGE s", syntax, "SET");
    refused("ALTER STORAGE s SET", syntax, "URI or CREDENTIALS");
    refused("ALTER STORAGE s SET URI 'x' URI 'y'", invalid, "twice");
    refused("ALTER STORAGE s SET URI 'x',", syntax, "URI or CREDENTIALS");
    refused("ALTER STORAGE s SET URI 'x' NOW", syntax, "the end of the statement");
    refused("ALTER STORAGE s SET TYPE GCS", Reason::NotSupported, "cannot be changed");
    refused("ALTER STORAGE s RENAME TO r", Reason::NotSupported, "renamed");
    refused("DROP STORAGE s CASCADE", Reason::NotSupported, "CASCADE");
    refused("SHOW STORAGES LIKE 'x'", Reason::NotSupported, "system.storages");
    refused("SHOW STORAGE", syntax, "Did you mean STORAGES?");
}

#[test]
fn credentials_are_shown_and_kept_nowhere() {
    const SECRET: &str = "s3cr3t";
    for sql in [
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS '{\"key\": \"s3cr3t\"}'",
        "ALTER STORAGE s SET CREDENTIALS 's3cr3t'",
        "CREATE STORAGE s CREDENTIALS 's3cr3t' TYPE S3 URI 'x'",
    ] {
        let parsed = batch(sql).remove(0);
        assert!(parsed.statement.has_secrets(), "{sql}");
        assert!(!format!("{parsed:?}").contains(SECRET), "{parsed:?}");
        assert!(parsed.normalized.ends_with("credentials"), "{}", parsed.normalized);
    }
    for sql in [
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS s3cr3t",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS \"s3cr3t\"",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS '{}' 's3cr3t'",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS '{\"key\": 's3cr3t'}'",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS '{}' s3cr3t",
        "CREATE STORAGE s TYPE S3 URI 'x' 's3cr3t'",
        "CREATE STORAGE s TYPE 's3cr3t' URI 'x'",
        "ALTER STORAGE s SET 's3cr3t'",
        "ALTER STORAGE s SET CREDENTIALS = 's3cr3t'",
        "ALTER STORAGE s SET CREDENTIALS 'a', 's3cr3t'",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS 's3cr3t' CREDENTIALS 's3cr3t'",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS 's3cr3t",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS E's3cr3t'",
        "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS $$s3cr3t$$",
        "CREATE STORAGE s TYPE S3 CREDENTIALS 's3cr3t' URI",
    ] {
        let error = fails(sql);
        assert!(!format!("{error:?}").contains(SECRET), "{sql}: {error:?}");
    }
    assert!(!one("CREATE STORAGE s TYPE S3 URI 'x'").has_secrets());
    assert_eq!(batch("CREATE STORAGE S TYPE S3 URI 'X'")[0].normalized, "create storage s type s3 uri 'X'");
}

#[test]
fn tables_say_where_and_when_they_are_flushed() {
    let create = create_table(
        "CREATE SHARED TABLE t (a INT) FLUSH POLICY ROWS 1000 INTERVAL '5 minutes' ACCESS public STORAGE Cold",
    );
    assert_eq!(create.flush_policy, Some(both(1_000, 300)));
    assert_eq!(create.access, Some(Access::Public));
    let Some(Place::Storage(name)) = create.place else { panic!("{:?}", create.place) };
    assert_eq!((text(&name), name.position), ("cold", place(1, 97)));

    let create = create_table("CREATE USER TABLE t (a INT) LOCATION REFERENCE 'Cold'");
    assert!(matches!(create.place, Some(Place::Storage(name)) if name.text == "Cold"));
    let create = create_table("CREATE USER TABLE t (a INT)\nLOCATION '{storageLocation}/x/{userId}'");
    let location = Place::Location { template: "{storageLocation}/x/{userId}".to_owned(), position: place(2, 10) };
    assert_eq!((create.place, create.flush_policy), (Some(location), None));

    assert_eq!(policy("INTERVAL '30 seconds' ROWS 1"), both(1, 30));
    assert_eq!(policy("ROWS 1000000000"), FlushPolicy { rows: Some(1_000_000_000), interval_s: None });
    assert_eq!(policy("INTERVAL '1s'"), FlushPolicy { rows: None, interval_s: Some(1) });
    assert_eq!(policy("INTERVAL '7 days'").interval_s, Some(604_800));
    assert_eq!(both(5, 60).to_string(), "ROWS 5 INTERVAL '60 seconds'");
    for written in ["ROWS 10", "INTERVAL '90 seconds'", "ROWS 10 INTERVAL '90 seconds'"] {
        assert_eq!(policy(written).to_string(), written);
    }
    assert_eq!(
        create_table("CREATE USER TABLE t (storage INT, location INT, flush INT)").columns.len(),
        3,
        "the words are names too"
    );

    let set = |sql: &str| match alter_action(&format!("SET FLUSH POLICY {sql}")) {
        AlterTableAction::SetFlushPolicy(policy) => policy,
        other => panic!("{other:?}"),
    };
    assert_eq!(set("ROWS 5 INTERVAL '1 minute'"), Some(both(5, 60)));
    assert_eq!(set("NONE"), None);
}

#[test]
fn clauses_that_contradict_or_do_not_fit() {
    let (invalid, syntax) = (Reason::InvalidTableDefinition, Reason::SyntaxError);
    for clause in ["STORAGE s", "LOCATION '/x/{userId}'", "LOCATION REFERENCE 's'", "FLUSH POLICY ROWS 5"] {
        let word = if clause.starts_with("FLUSH") { "FLUSH POLICY" } else { clause.split(' ').next().expect("a word") };
        let message = format!("{word} is for USER and SHARED tables");
        refused(&format!("CREATE STREAM TABLE t (a INT) TTL 5 {clause}"), invalid, &message);
        refused(&format!("CREATE STREAM TABLE t (a INT) {clause} TTL 5"), invalid, &message);
        refused(&format!("CREATE USER TABLE t (a INT) {clause} {clause}"), invalid, "");
    }
    let table = |clauses: &str| format!("CREATE USER TABLE t (a INT) {clauses}");
    refused(&table("STORAGE s LOCATION 'x'"), invalid, "one STORAGE or LOCATION");
    refused(&table("LOCATION 'x' LOCATION REFERENCE 's'"), invalid, "one STORAGE or LOCATION");
    refused(&table("FLUSH POLICY ROWS 1 ROWS 2"), invalid, "ROWS once");
    refused(&table("FLUSH POLICY ROWS 0"), invalid, "from 1 to 1000000000");
    refused(&table("FLUSH POLICY ROWS 1000000001"), invalid, "from 1 to 1000000000");
    refused(&table("FLUSH POLICY ROWS 99999999999999999999999"), invalid, "from 1 to 1000000000");
    refused(&table("FLUSH POLICY ROWS 1.5"), invalid, "a whole number");
    refused(&table("FLUSH POLICY ROWS -1"), syntax, "a number of rows");
    refused(&table("FLUSH POLICY ROWS '5'"), syntax, "a number of rows");
    refused(&table("FLUSH POLICY INTERVAL '500 ms'"), invalid, "at least '1 second'");
    refused(&table("FLUSH POLICY INTERVAL '1500 ms'"), invalid, "whole seconds");
    refused(&table("FLUSH POLICY INTERVAL '0 s'"), invalid, "more than 0");
    refused(&table("FLUSH POLICY INTERVAL '5 parsecs'"), invalid, "INTERVAL '5 parsecs' is not a time");
    refused(&table("FLUSH POLICY INTERVAL '11 years'"), invalid, "not a time");
    refused(&table("FLUSH POLICY INTERVAL '9999 days'"), invalid, "10 years");
    refused(&table("FLUSH POLICY"), syntax, "ROWS or INTERVAL");
    refused(&table("FLUSH POLICY ROW 5"), syntax, "Did you mean ROWS?");
    refused(&table("FLUSH ROWS 5"), syntax, "FLUSH POLICY");
    refused(&table("FLUSH POLICY NONE"), syntax, "ROWS or INTERVAL");
    refused(&table("STORAGE"), syntax, "the name of a storage");
    refused(&table("LOCATION x"), syntax, "REFERENCE or a template");
    refused(&table("LOCATION REFERENCE"), syntax, "the name of a storage");
    assert_eq!(fails(&table("\nFLUSH POLICY ROWS 0")).position(), place(2, 19));
    refused("ALTER TABLE t SET FLUSH ROWS 5", syntax, "FLUSH POLICY");
    refused("ALTER TABLE t SET STORAGE s", Reason::NotSupported, "fixed when it is created");
    refused("ALTER TABLE t SET LOCATION 'x'", Reason::NotSupported, "fixed when it is created");
    refused("ALTER TABLE t SET REPLICAS 3", Reason::NotSupported, "REPLICAS");
}

#[test]
fn flush_compact_and_statistics() {
    let Statement::FlushTable(flush) = one("FLUSH TABLE Ns.T") else { panic!() };
    assert_eq!((flush.table.namespace.as_ref().map(text), text(&flush.table.table)), (Some("ns"), "t"));
    assert!(!flush.force);
    assert!(matches!(one("flush table t force"), Statement::FlushTable(FlushTable { force: true, .. })));
    let all = |sql: &str| match one(sql) {
        Statement::FlushAll(all) => (all.namespace.map(|name| name.text), all.force),
        other => panic!("{other:?}"),
    };
    assert_eq!(all("FLUSH ALL TABLES"), (None, false));
    assert_eq!(all("FLUSH ALL TABLES FORCE"), (None, true));
    assert_eq!(all("FLUSH ALL TABLES IN ns"), (Some("ns".to_owned()), false));
    assert_eq!(all("FLUSH ALL TABLES IN ns FORCE;"), (Some("ns".to_owned()), true));
    let Statement::CompactTable(compact) = one("COMPACT TABLE ns.t") else { panic!() };
    assert_eq!(text(&compact.table.table), "t");
    let Statement::ShowTableStats(stats) = one("SHOW TABLE STATS ns.t") else { panic!() };
    assert_eq!(text(&stats.table.table), "t");

    let syntax = Reason::SyntaxError;
    refused("FLUSH", syntax, "TABLE or ALL TABLES");
    refused("FLUSH t", syntax, "TABLE or ALL TABLES");
    refused("FLUSH ALL", syntax, "TABLES");
    refused("FLUSH TABLES", syntax, "Did you mean TABLE?");
    refused("FLUSH TABLE", syntax, "the name of a table");
    refused("FLUSH TABLE t, u", syntax, "the end of the statement");
    refused("FLUSH TABLE t FORC", syntax, "Did you mean FORCE?");
    refused("FLUSH TABLE ns.all_users.t", Reason::InvalidName, "namespace.table");
    refused("FLUSH TABLE $1", syntax, "the name of a table");
    refused("FLUSH ALL TABLES IN", syntax, "the name of a namespace");
    refused("COMPACT t", syntax, "TABLE");
    refused("COMPACT ALL TABLES", syntax, "TABLE");
    refused("SHOW TABLE STAT t", syntax, "Did you mean STATS?");
    refused("SHOW TABLE t", syntax, "STATS");
    refused("SHOW TABLE STATS", syntax, "the name of a table");
    refused("VACUUM t", Reason::NotSupported, "COMPACT TABLE");
    refused("SUBSCRIBE", syntax, "TO table or SELECT");
    refused("SUBSCRIBE TO", syntax, "");
    refused("SUBSCRIBE TO t WHERE", syntax, "");
    refused("SUBSCRIBE TO t LIMIT 5", syntax, "the end of the statement");
    refused("KILL LIVE 5", syntax, "QUERY");
    refused("KILL LIVE QUERY", Reason::InvalidStatement, "a number");
    refused("KILL LIVE QUERY abc", Reason::InvalidStatement, "a number");
    refused("KILL LIVE QUERY -1", Reason::InvalidStatement, "a number");
}
