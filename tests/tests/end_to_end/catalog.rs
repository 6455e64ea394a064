//! Namespaces and tables: CREATE, ALTER, DROP, SHOW, DESCRIBE, and the same through the admin service.

use kalamdb_proto::v1::{
    CreateNamespaceRequest, DropNamespaceRequest, DropTableRequest, GetServerInfoRequest, GetTableRequest,
    ListNamespacesRequest, ListSchemaVersionsRequest, ListTablesRequest, TableType,
};
use kalamdb_tests::client::{Failure, unique_name};
use tonic::Code;

use crate::support::{client, client_with_rows};

#[tokio::test]
async fn namespaces_are_made_shown_altered_and_dropped() {
    let client = client().await;
    let name = unique_name("ns");
    client.run(&format!("CREATE NAMESPACE {name} WITH OPTIONS (retention = '30d', tier = 'gold')")).await;
    client.fails(&format!("CREATE NAMESPACE {name}"), "NAMESPACE_EXISTS", Code::AlreadyExists).await;
    client.run(&format!("CREATE NAMESPACE IF NOT EXISTS {name}")).await;
    client.run(&format!("ALTER NAMESPACE {name} SET OPTIONS (tier = 'silver')")).await;

    let shown = client.rows("SHOW NAMESPACES").await;
    let line = shown.iter().find(|line| line.starts_with(&format!("{name} | "))).expect("the namespace is shown");
    assert!(line.contains("30d") && line.contains("silver") && !line.contains("gold"), "{line}");

    client.run(&format!("DROP NAMESPACE {name}")).await;
    client.fails(&format!("DROP NAMESPACE {name}"), "NAMESPACE_NOT_FOUND", Code::NotFound).await;
    client.run(&format!("DROP NAMESPACE IF EXISTS {name}")).await;
}

#[tokio::test]
async fn a_namespace_with_tables_is_not_dropped_and_the_error_lists_them() {
    let client = client_with_rows().await;
    client.run("CREATE SHARED TABLE other (id BIGINT PRIMARY KEY)").await;
    let namespace = client.namespace_name().to_owned();
    let drop = format!("DROP NAMESPACE {namespace}");
    let failure = client.fails(&drop, "NAMESPACE_NOT_EMPTY", Code::FailedPrecondition).await;
    assert!(failure.message.contains("t") && failure.message.contains("other"), "{}", failure.message);
    assert_eq!(failure.meta("namespace"), namespace);
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5", "nothing is half done");

    client.run("DROP TABLE t").await;
    client.run("DROP TABLE other").await;
    client.run(&drop).await;
}

#[tokio::test]
async fn a_table_needs_its_namespace() {
    let client = client().await;
    let create = "CREATE USER TABLE nowhere_at_all.t (id BIGINT PRIMARY KEY)";
    let failure = client.fails(create, "NAMESPACE_NOT_FOUND", Code::NotFound).await;
    let exact = "Namespace 'nowhere_at_all' does not exist. Create it first with CREATE NAMESPACE.";
    assert_eq!(failure.message, exact);

    let unnamed = client.namespace("");
    unnamed.fails("SELECT * FROM t", "NAMESPACE_REQUIRED", Code::InvalidArgument).await;
}

#[tokio::test]
async fn tables_are_shown_and_described() {
    let client = client_with_rows().await;
    let namespace = client.namespace_name();
    client
        .run("CREATE SHARED TABLE board (id TEXT PRIMARY KEY, pinned BOOLEAN NOT NULL DEFAULT false) ACCESS public")
        .await;
    client
        .run("CREATE STREAM TABLE typing (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), who TEXT) TTL '10 seconds'")
        .await;

    let shown = client.run(&format!("SHOW TABLES IN {namespace}")).await;
    let text = shown.shown().join("\n");
    for (table, kind) in [("board", "SHARED"), ("t", "USER"), ("typing", "STREAM")] {
        assert!(text.lines().any(|line| line.contains(&format!("{table} | {kind}"))), "{table} in\n{text}");
    }
    assert_eq!(client.rows("SHOW TABLES").await, shown.shown(), "the default namespace is meant");

    let described = client.rows("DESCRIBE TABLE board").await;
    assert_eq!(described[0], "id | column | TEXT | NO |  | PRIMARY KEY");
    assert!(described[1].starts_with("pinned | column | BOOLEAN | NO | false"), "{}", described[1]);
    for property in
        ["table_type | property | SHARED", "access | property | public", "current_schema_version | property | 1"]
    {
        assert!(described.iter().any(|line| line.starts_with(property)), "{property} in {described:#?}");
    }
    assert!(described.iter().any(|line| line.contains("system.table_schemas")), "{described:#?}");
    let stream = client.rows("DESCRIBE typing").await;
    assert!(stream.iter().any(|line| line.starts_with("ttl | property | 10 seconds")), "{stream:#?}");
}

#[tokio::test]
async fn columns_are_added_renamed_and_dropped_without_touching_rows() {
    let client = client_with_rows().await;
    client.run("ALTER TABLE t ADD COLUMN note TEXT DEFAULT 'none'").await;
    client.run("ALTER TABLE t ADD COLUMN score DOUBLE").await;
    assert_eq!(client.rows("SELECT id, note, score FROM t WHERE id = 1").await, ["1 | none | NULL"]);
    client.run("INSERT INTO t (id, name, note, score) VALUES (6, 'six', 'new', 1.5)").await;
    client.run("ALTER TABLE t RENAME COLUMN name TO title").await;
    client.run("ALTER TABLE t DROP COLUMN n").await;

    let answer = client.run("SELECT * FROM t WHERE id IN (2, 6) ORDER BY id").await;
    assert_eq!(answer.names(), ["id", "title", "note", "score"]);
    assert_eq!(answer.shown(), ["2 | two | none | NULL", "6 | six | new | 1.5"]);
    client.fails("SELECT name FROM t", "COLUMN_NOT_FOUND", Code::InvalidArgument).await;
    client.fails("SELECT n FROM t", "COLUMN_NOT_FOUND", Code::InvalidArgument).await;

    // A column of the same name is another column: the old values do not come back.
    client.run("ALTER TABLE t ADD COLUMN n INT").await;
    assert_eq!(client.rows("SELECT n FROM t WHERE id = 1").await, ["NULL"]);

    let versions =
        "SELECT schema_version FROM system.table_schemas WHERE namespace = $1 AND table_name = 't' ORDER BY 1";
    let namespace = vec![kalamdb_tests::values::text(client.namespace_name())];
    assert_eq!(client.run_with(versions, namespace).await.shown(), ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn alter_table_refuses_what_cannot_be() {
    let client = client_with_rows().await;
    for (sql, reason, code) in [
        ("ALTER TABLE t DROP COLUMN id", "INVALID_TABLE_DEFINITION", Code::InvalidArgument),
        ("ALTER TABLE t DROP COLUMN nothing", "COLUMN_NOT_FOUND", Code::InvalidArgument),
        ("ALTER TABLE t ADD COLUMN name TEXT", "COLUMN_EXISTS", Code::AlreadyExists),
        ("ALTER TABLE t RENAME COLUMN n TO name", "COLUMN_EXISTS", Code::AlreadyExists),
        ("ALTER TABLE t ADD COLUMN must INT NOT NULL", "INVALID_TABLE_DEFINITION", Code::InvalidArgument),
        ("ALTER TABLE missing ADD COLUMN x INT", "TABLE_NOT_FOUND", Code::NotFound),
    ] {
        client.fails(sql, reason, code).await;
    }
    assert_eq!(client.run("SELECT * FROM t").await.names(), ["id", "name", "n"]);
}

#[tokio::test]
async fn a_dropped_table_is_gone_and_a_new_one_of_its_name_is_empty() {
    let client = client_with_rows().await;
    client.run("DROP TABLE t").await;
    client.fails("SELECT * FROM t", "TABLE_NOT_FOUND", Code::NotFound).await;
    client.fails("DROP TABLE t", "TABLE_NOT_FOUND", Code::NotFound).await;
    client.run("DROP TABLE IF EXISTS t").await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    client.run("CREATE USER TABLE IF NOT EXISTS t (other TEXT PRIMARY KEY)").await;
    client.fails("CREATE USER TABLE t (id BIGINT PRIMARY KEY)", "TABLE_EXISTS", Code::AlreadyExists).await;
    assert_eq!(client.rows("SELECT * FROM t").await, Vec::<String>::new());
}

#[tokio::test]
async fn clauses_that_do_not_fit_the_table_type_are_refused() {
    let client = client().await;
    for sql in [
        "CREATE USER TABLE x (id BIGINT PRIMARY KEY) TTL '1 hour'",
        "CREATE USER TABLE x (id BIGINT PRIMARY KEY) ACCESS public",
        "CREATE STREAM TABLE x (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID())",
        "CREATE STREAM TABLE x (id BIGINT PRIMARY KEY) TTL '1 hour'",
        "CREATE USER TABLE x (a INT, b INT)",
        "CREATE USER TABLE x (a BIGINT, b BIGINT, PRIMARY KEY (a, b))",
        "CREATE USER TABLE x (a DOUBLE PRIMARY KEY)",
        "CREATE USER TABLE x (id BIGINT PRIMARY KEY, a INT, a TEXT)",
        "CREATE USER TABLE x (id BIGINT PRIMARY KEY, n INT DEFAULT 'seven')",
        "CREATE USER TABLE x (id BIGINT PRIMARY KEY, n INT DEFAULT UUID_V7())",
    ] {
        let failure = client.try_run(sql).await.expect_err(sql);
        let accepted = ["INVALID_TABLE_DEFINITION", "COLUMN_EXISTS", "INVALID_VALUE"];
        assert!(accepted.contains(&failure.reason.as_str()), "{sql}\n{failure:#?}");
    }
    let failure = client.try_run("CREATE USER TABLE x (a INT, b INT)").await.unwrap_err();
    assert!(failure.message.contains("PRIMARY KEY"), "the line to add is shown: {}", failure.message);
    let none = format!("SHOW TABLES IN {}", client.namespace_name());
    assert_eq!(client.rows(&none).await, Vec::<String>::new(), "nothing was created");
}

#[tokio::test]
async fn the_admin_service_says_and_does_the_same() {
    let client = client_with_rows().await;
    let namespace = client.namespace_name().to_owned();
    let mut admin = client.admin();

    let mut page_token = String::new();
    let mut names = Vec::new();
    loop {
        let request = ListNamespacesRequest { page_size: 2, page_token };
        let page = admin.list_namespaces(client.request(request)).await.unwrap().into_inner();
        assert!(page.namespaces.len() <= 2);
        names.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(names.contains(&namespace));
    assert!(names.is_sorted(), "{names:?}");

    let request = GetTableRequest { namespace: namespace.clone(), name: "t".to_owned() };
    let table = admin.get_table(client.request(request)).await.unwrap().into_inner().table.unwrap();
    assert_eq!((table.r#type(), table.schema_version), (TableType::User, 1));
    let columns: Vec<_> =
        table.columns.iter().map(|c| (c.column.as_ref().unwrap().name.as_str(), c.primary_key)).collect();
    assert_eq!(columns, [("id", true), ("name", false), ("n", false)]);

    client.run("ALTER TABLE t ADD COLUMN extra TEXT").await;
    let request =
        ListSchemaVersionsRequest { namespace: namespace.clone(), name: "t".to_owned(), ..Default::default() };
    let versions = admin.list_schema_versions(client.request(request)).await.unwrap().into_inner().versions;
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [1, 2]);
    assert!(versions[1].change.contains("extra"), "{}", versions[1].change);

    let request = CreateNamespaceRequest { name: namespace.clone(), ..Default::default() };
    let failure = Failure::from(admin.create_namespace(client.request(request)).await.unwrap_err());
    assert_eq!(failure.reason, "NAMESPACE_EXISTS");

    let request = DropTableRequest { namespace: namespace.clone(), name: "t".to_owned(), if_exists: false };
    assert!(admin.drop_table(client.request(request)).await.unwrap().into_inner().dropped);
    let request = ListTablesRequest { namespace: namespace.clone(), ..Default::default() };
    assert!(admin.list_tables(client.request(request)).await.unwrap().into_inner().tables.is_empty());
    let request = DropNamespaceRequest { name: namespace.clone(), if_exists: false };
    assert!(admin.drop_namespace(client.request(request)).await.unwrap().into_inner().dropped);
    let request = DropNamespaceRequest { name: namespace, if_exists: true };
    assert!(!admin.drop_namespace(client.request(request)).await.unwrap().into_inner().dropped);
}

#[tokio::test]
async fn server_information_names_the_caller() {
    let client = client().await;
    let info = client.admin().get_server_info(client.request(GetServerInfoRequest {})).await.unwrap().into_inner();
    assert_eq!((info.user_id.as_str(), info.role.as_str()), ("alice", "system"));
    assert!(!info.version.is_empty() && !info.git_commit.is_empty() && info.started_at.is_some());
    assert!(["sync", "async"].contains(&info.durability.as_str()));
    assert!(info.commit_seq > 0, "the namespace of this test was committed");
}
