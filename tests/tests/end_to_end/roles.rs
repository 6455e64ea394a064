//! The role matrix, cell by cell: every call, every statement and every system table, as every role and as nobody.
//!
//! What must be allowed is read from `docs/architecture/access.md`, which a test of the server compares with the code. A
//! statement that is not tried here fails the test, and so does a call that the document does not have.

use std::collections::{BTreeSet, HashMap};

use kalamdb_tests::{
    access::{ROLES, Received, Secured, api_methods, call, documented},
    client::{Client, Failure},
};
use tonic::Code;

/// The users of the tests: for each role one that is called as it.
const USERS: [(&str, &str); 5] = [
    ("plain", "ROLE user"),
    ("helper", "ROLE service"),
    ("operator", "ROLE dba"),
    ("chief", "ROLE system"),
    ("somebody", "ROLE user PERMISSIONS ('n.board.id = 1')"),
];

fn user_of(role: &str) -> &'static str {
    let place = ROLES.iter().position(|known| *known == role).expect("a role");
    USERS[place].0
}

async fn secured() -> Secured {
    Secured::start(&[], &USERS, async |root| {
        let root = root.namespace("n");
        for sql in [
            "CREATE NAMESPACE n",
            "CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)",
            "CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, body TEXT) ACCESS restricted",
            "CREATE SHARED TABLE open (id BIGINT PRIMARY KEY, body TEXT) ACCESS public",
            "CREATE SHARED TABLE closed (id BIGINT PRIMARY KEY, body TEXT) ACCESS private",
        ] {
            root.run(sql).await;
        }
    })
    .await
}

#[tokio::test]
async fn every_call_as_every_role() {
    let secured = secured().await;
    let documented: HashMap<String, Vec<String>> =
        documented("calls").into_iter().map(|mut line| (line.remove(0), line)).collect();
    let methods = api_methods();
    let known: BTreeSet<&str> = methods.iter().map(|method| method.path.trim_start_matches('/')).collect();
    let listed: BTreeSet<&str> =
        documented.keys().map(String::as_str).filter(|name| name.starts_with("kalamdb.")).collect();
    assert_eq!(known, listed, "access.md has the calls that the API has");

    let stranger = secured.stranger().await;
    for method in &methods {
        let line = &documented[method.path.trim_start_matches('/')];
        // The line of the matrix is asked before the message is read: an empty one is enough.
        let answer = call(&stranger, &method.path, Vec::new(), &[]).await;
        if line[0] == "without a credential" {
            assert_ne!(answer.code, Code::Ok, "{}: an empty credential opens nothing", method.path);
            continue;
        }
        assert_eq!(
            (answer.code, answer.reason.as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{}",
            method.path
        );
        for (role, grant) in ROLES.iter().zip(line) {
            let client = secured.client(user_of(role)).await;
            let answer = call(&client, &method.path, Vec::new(), &[]).await;
            assert_cell(&format!("{} as {role}", method.path), grant, &answer);
        }
    }
}

/// Checks an answer against a cell of the matrix.
fn assert_cell(what: &str, grant: &str, answer: &Received) {
    let shown = answer.text();
    assert_ne!(answer.code, Code::Unauthenticated, "{what}: {shown}");
    match grant {
        "no" => assert_eq!(
            (answer.code, answer.reason.as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED"),
            "{what} must be refused: {shown}"
        ),
        "own" | "all" => assert_ne!(answer.code, Code::PermissionDenied, "{what} must be allowed: {shown}"),
        other => panic!("{what}: the matrix says {other:?}"),
    }
}

/// The same for a statement.
fn assert_statement(what: &str, grant: &str, outcome: &Result<(), Failure>) {
    match (grant, outcome) {
        ("no", Err(failure)) => {
            assert_eq!(failure.reason, "PERMISSION_DENIED", "{what}: {failure:#?}");
            assert_eq!(failure.code, Code::PermissionDenied, "{what}: {failure:#?}");
        }
        ("no", Ok(())) => panic!("{what} must be refused"),
        ("own" | "all", Err(failure)) => {
            assert_ne!(failure.code, Code::PermissionDenied, "{what} must be allowed: {failure:#?}");
            assert_ne!(failure.code, Code::Unauthenticated, "{what}: {failure:#?}");
        }
        ("own" | "all", Ok(())) => {}
        (other, _) => panic!("{what}: the matrix says {other:?}"),
    }
}

/// What is tried of each kind of statement, by a caller to whom it is open at least for what is its own. `{me}` is
/// the caller, `{n}` a number that each try has to itself.
fn statement(kind: &str) -> &'static str {
    match kind {
        "SELECT" => "SELECT * FROM n.t",
        "EXPLAIN" => "EXPLAIN SELECT * FROM n.t",
        "INSERT" => "INSERT INTO n.t VALUES ({n}, 'x')",
        "UPDATE" => "UPDATE n.t SET body = 'y'",
        "DELETE" => "DELETE FROM n.t",
        "CREATE NAMESPACE" => "CREATE NAMESPACE made_{n}",
        "ALTER NAMESPACE" => "ALTER NAMESPACE n SET OPTIONS (a = '{n}')",
        "DROP NAMESPACE" => "DROP NAMESPACE nothing_{n}",
        "SHOW NAMESPACES" => "SHOW NAMESPACES",
        "CREATE TABLE" => "CREATE USER TABLE n.made_{n} (id BIGINT PRIMARY KEY)",
        "ALTER TABLE" => "ALTER TABLE n.t ADD COLUMN c_{n} INT",
        "DROP TABLE" => "DROP TABLE n.nothing_{n}",
        "SHOW TABLES" => "SHOW TABLES IN n",
        "DESCRIBE TABLE" => "DESCRIBE n.t",
        "SHOW TABLE STATS" => "SHOW TABLE STATS n.t",
        "CREATE STORAGE" => "CREATE STORAGE s_{n} TYPE FILESYSTEM URI '/nowhere/at/all'",
        "ALTER STORAGE" => "ALTER STORAGE nothing_{n} SET URI '/nowhere/at/all'",
        "DROP STORAGE" => "DROP STORAGE nothing_{n}",
        "SHOW STORAGES" => "SHOW STORAGES",
        "FLUSH TABLE" => "FLUSH TABLE n.t",
        "FLUSH ALL TABLES" => "FLUSH ALL TABLES IN n",
        "COMPACT TABLE" => "COMPACT TABLE n.t",
        "EXPORT" => "EXPORT FROM n.t TO 'file_{n}.csv'",
        "BACKUP DATABASE" => "BACKUP DATABASE n TO 'b_{n}'",
        "RESTORE DATABASE" => "RESTORE DATABASE n FROM 'b_{n}' AS made_{n}",
        "SHOW BACKUP" => "SHOW BACKUP 'b_{n}'",
        "SUBSCRIBE" => "SUBSCRIBE TO n.t",
        "KILL LIVE QUERY" => "KILL LIVE QUERY 12345",
        "CREATE USER" => "CREATE USER made_{n} ROLE user",
        "ALTER USER" => "ALTER USER {me} SET PASSWORD 'a long and secret pass phrase {n}'",
        "DROP USER" => "DROP USER nobody_{n}",
        "SHOW USERS" => "SHOW USERS",
        "CREATE API KEY" => "CREATE API KEY FOR USER somebody",
        "REVOKE API KEY" => "REVOKE API KEY 'nothing_{n}'",
        "SHOW API KEYS" => "SHOW API KEYS",
        other => panic!("{other} is a statement that no role has tried: add it here"),
    }
}

#[tokio::test]
async fn every_statement_as_every_role() {
    let secured = secured().await;
    let mut number = 0;
    for line in documented("statements") {
        for (role, grant) in ROLES.iter().zip(&line[1..5]) {
            number += 1;
            let me = user_of(role);
            let client = secured.client(me).await;
            let sql = statement(&line[0]).replace("{me}", me).replace("{n}", &number.to_string());
            let unary = client.try_run(&sql).await.map(drop);
            assert_statement(&format!("{sql} as {role}"), grant, &unary);
            // The other way in has no other rules, and a batch neither.
            let (_, failure) = client.stream(&sql, Default::default()).await;
            assert_statement(&format!("{sql} streamed as {role}"), grant, &failure.map_or(Ok(()), Err));
            let (events, failure) = client.stream(&format!("SELECT 1; {sql}"), Default::default()).await;
            assert!(!events.is_empty(), "{sql} as {role}: what comes before it is answered");
            assert_statement(&format!("{sql} in a batch as {role}"), grant, &failure.map_or(Ok(()), Err));
        }
    }
}

#[tokio::test]
async fn every_system_table_as_every_role() {
    let secured = secured().await;
    let lines = documented("system tables");
    let root = secured.client("root").await;
    let there = root
        .rows(
            "SELECT concat(table_schema, '.', table_name) FROM information_schema.tables WHERE table_type = 'SYSTEM' \
             ORDER BY 1",
        )
        .await;
    let mut listed: Vec<String> = lines.iter().map(|line| line[0].clone()).filter(|name| !name.is_empty()).collect();
    listed.sort();
    assert_eq!(there, listed, "access.md has the system tables that there are");

    let mut table = String::new();
    for line in &lines {
        if !line[0].is_empty() {
            table.clone_from(&line[0]);
        }
        for (role, grant) in ROLES.iter().zip(&line[2..6]) {
            let client = secured.client(user_of(role)).await;
            let reads =
                [format!("SELECT * FROM {table}"), format!("WITH s AS (SELECT * FROM {table}) SELECT count(*) FROM s")];
            let writes = [format!("DELETE FROM {table} WHERE 1 = 2")];
            let statements = if line[1] == "read" { reads.to_vec() } else { writes.to_vec() };
            for sql in statements {
                let outcome = client.try_run(&sql).await.map(drop);
                let what = format!("{sql} as {role}");
                match (line[1].as_str(), grant.as_str(), &outcome) {
                    // Most can be written by nobody, whatever the role: that they are read only is a reason as good.
                    ("write", "no", outcome) => assert!(outcome.is_err(), "{what} must fail"),
                    _ => assert_statement(&what, grant, &outcome),
                }
            }
        }
    }
}

#[tokio::test]
async fn access_to_tables_as_every_role() {
    let secured = secured().await;
    for (table, refused) in [("n.open", &[][..]), ("n.board", &["plain"]), ("n.closed", &["plain", "somebody"])] {
        for (user, _) in USERS {
            let client = secured.client(user).await;
            let grant = if refused.contains(&user) { "no" } else { "all" };
            for sql in [
                format!("SELECT * FROM {table}"),
                format!("SELECT count(*) FROM {table}"),
                format!("EXPLAIN SELECT * FROM {table}"),
                format!("DESCRIBE {table}"),
                format!("SHOW TABLE STATS {table}"),
                format!("INSERT INTO {table} VALUES (1, 'x') ON CONFLICT DO NOTHING"),
                format!("UPDATE {table} SET body = 'y' WHERE id = 1"),
                format!("DELETE FROM {table} WHERE id = 1"),
            ] {
                let outcome = client.try_run(&sql).await.map(drop);
                // Statistics are of all rows, of which it may see some.
                if user == "somebody" && table == "n.board" && sql.contains("STATS") {
                    continue;
                }
                match (grant, &outcome) {
                    // A table that does not concern the caller may as well not be there.
                    ("no", Err(failure)) if failure.reason == "TABLE_NOT_FOUND" => {}
                    _ => assert_statement(&format!("{sql} as {user}"), grant, &outcome),
                }
            }
            let listed = format!(
                "SELECT count(*) FROM information_schema.tables WHERE concat(table_schema, '.', table_name) = '{table}'"
            );
            assert_eq!(client.scalar(&listed).await, if grant == "no" { "0" } else { "1" }, "{table} for {user}");
        }
    }
}

#[tokio::test]
async fn who_may_act_for_whom() {
    let secured = secured().await;
    // Caller, user acted for, whether it may.
    let cells = [
        ("plain", "plain", true),
        ("plain", "somebody", false),
        ("plain", "chief", false),
        ("helper", "plain", true),
        ("helper", "somebody", true),
        ("helper", "helper", true),
        ("helper", "operator", false),
        ("helper", "chief", false),
        ("operator", "plain", true),
        ("operator", "helper", true),
        ("operator", "chief", false),
        ("chief", "plain", true),
        ("chief", "operator", true),
    ];
    for (caller, user, may) in cells {
        let client = secured.client(caller).await.user(user);
        let outcome = client.try_run("SELECT CURRENT_USER()").await;
        match outcome {
            Ok(answer) => {
                assert!(may, "{caller} must not act for {user}");
                assert_eq!(answer.scalar(), user, "{caller} for {user}");
            }
            Err(failure) => {
                assert!(!may, "{caller} may act for {user}: {failure:#?}");
                assert_eq!(failure.code, Code::PermissionDenied, "{caller} for {user}: {failure:#?}");
            }
        }
    }
    // Nobody acts for somebody unknown.
    for caller in ["helper", "operator", "chief"] {
        let client: Client = secured.client(caller).await.user("nobody-has-this-id");
        assert!(client.try_run("SELECT 1").await.is_err(), "{caller} for an unknown user");
    }
    // Acting lends no rights: the role is the caller's.
    let service = secured.client("helper").await.user("plain");
    service.fails("CREATE NAMESPACE more", "PERMISSION_DENIED", Code::PermissionDenied).await;
    service.run("SELECT count(*) FROM n.closed").await;
}
