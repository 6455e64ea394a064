//! What cannot be subscribed to, and what is said about it.

use kalamdb_engine::{ErrorKind, LiveQueryRequest, Reason, Role};

use super::{Live, db, request};
use crate::harness::{Client, Db, int, text};

#[track_caller]
fn refused(client: &Client, request: LiveQueryRequest) -> kalamdb_engine::Error {
    let sql = request.sql.clone();
    match Live::try_open(client, request) {
        Ok(_) => panic!("accepted: {sql}"),
        Err(error) => error,
    }
}

async fn tables() -> Db {
    let db = db().await;
    db.admin().run("CREATE USER TABLE other (id BIGINT PRIMARY KEY, n BIGINT)").await;
    db.admin().run("CREATE SHARED TABLE everybody (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC").await;
    db
}

#[tokio::test]
async fn queries_that_are_more_than_rows_of_a_table() {
    let db = tables().await;
    let ana = db.user("ana");
    // The query, and what the message must name.
    let cases = [
        ("SUBSCRIBE SELECT a.id FROM t a JOIN t b ON a.id = b.id", "JOIN"),
        ("SUBSCRIBE SELECT a.id FROM t a LEFT JOIN other b ON a.id = b.id", "JOIN"),
        ("SUBSCRIBE SELECT t.id FROM t, other", "JOIN"),
        ("SUBSCRIBE SELECT count(*) FROM t", "Aggregate"),
        ("SUBSCRIBE SELECT max(n) FROM t WHERE id > 1", "Aggregate"),
        ("SUBSCRIBE SELECT sum(n) + 1 FROM t", "Aggregate"),
        ("SUBSCRIBE SELECT name FROM t GROUP BY name", "GROUP BY"),
        ("SUBSCRIBE SELECT name, count(*) FROM t GROUP BY name", "GROUP BY"),
        ("SUBSCRIBE SELECT name FROM t GROUP BY ALL", "GROUP BY"),
        ("SUBSCRIBE SELECT count(*) FROM t HAVING count(*) > 1", "HAVING"),
        ("SUBSCRIBE SELECT DISTINCT name FROM t", "DISTINCT"),
        ("SUBSCRIBE SELECT id FROM t ORDER BY id", "ORDER BY"),
        ("SUBSCRIBE SELECT id FROM t LIMIT 5", "LIMIT"),
        ("SUBSCRIBE SELECT id FROM t OFFSET 5", "OFFSET"),
        ("SUBSCRIBE SELECT id FROM t UNION SELECT id FROM t", "UNION"),
        ("SUBSCRIBE SELECT id FROM t UNION ALL SELECT id FROM other", "UNION"),
        ("SUBSCRIBE SELECT id FROM t EXCEPT SELECT id FROM other", "EXCEPT"),
        ("SUBSCRIBE SELECT id FROM (SELECT * FROM t) x", "ubquer"),
        ("SUBSCRIBE SELECT id FROM t WHERE id IN (SELECT id FROM t)", "ubquer"),
        ("SUBSCRIBE SELECT id FROM t WHERE id IN (SELECT id FROM other)", "ubquer"),
        ("SUBSCRIBE SELECT id FROM t WHERE EXISTS (SELECT 1 FROM other)", "ubquer"),
        ("SUBSCRIBE SELECT id FROM t WHERE n = (SELECT max(n) FROM other)", "ubquer"),
        ("SUBSCRIBE SELECT id, (SELECT 1) FROM t", "ubquer"),
        ("SUBSCRIBE SELECT id, row_number() OVER (ORDER BY id) FROM t", "indow"),
        ("SUBSCRIBE SELECT id, sum(n) OVER () FROM t", "indow"),
        ("SUBSCRIBE TO t WHERE name = CAST(now() AS TEXT)", "NOW()"),
        ("SUBSCRIBE SELECT id, now() FROM t", "NOW()"),
        ("SUBSCRIBE SELECT id, current_date FROM t", "NOW()"),
        ("SUBSCRIBE TO t WHERE _updated > CURRENT_TIMESTAMP()", "NOW()"),
        ("SUBSCRIBE TO t WHERE random() < 0.5", "RANDOM()"),
        ("SUBSCRIBE SELECT id, uuid_v7() FROM t", "UUID_V7()"),
        ("SUBSCRIBE SELECT id, ulid() FROM t", "ULID()"),
        ("SUBSCRIBE SELECT id, snowflake_id() FROM t", "SNOWFLAKE_ID()"),
        ("SUBSCRIBE SELECT 1", "table"),
    ];
    let mut wrong = Vec::new();
    for (sql, named) in cases {
        match Live::try_open(&ana, request(sql)) {
            Ok(_) => wrong.push(format!("accepted: {sql}")),
            Err(error) if error.reason() != Reason::NotSupported || !error.message().contains(named) => {
                wrong.push(format!("{sql}\n    must be refused with NOT_SUPPORTED, naming {named}: {error}"));
            }
            Err(_) => {}
        }
    }
    // All of them at once, as each is a matter of its own.
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(db.engine().live_counters().active, 0, "what is refused leaves nothing behind");
}

#[tokio::test]
async fn tables_that_are_not_of_users() {
    let db = tables().await;
    for client in [db.user("ana"), db.admin(), db.acting(Role::Service, "ana")] {
        for sql in [
            "SUBSCRIBE TO everybody",
            "SUBSCRIBE TO app.everybody WHERE id = 1",
            "SUBSCRIBE SELECT id FROM everybody x WHERE x.n > 1",
        ] {
            let error = refused(&client, request(sql));
            assert_eq!(error.reason(), Reason::NotSupported);
            assert_eq!(error.message(), "Live query subscriptions not supported on shared tables", "{sql}");
        }
    }
    for sql in
        ["SUBSCRIBE TO system.tables", "SUBSCRIBE SELECT * FROM system.jobs", "SUBSCRIBE TO information_schema.tables"]
    {
        let error = refused(&db.admin(), request(sql));
        assert_eq!(error.reason(), Reason::NotSupported, "{sql}: {error}");
        assert!(error.message().contains("system"), "{sql}: {error}");
    }
    let all = "SUBSCRIBE TO app.all_users.t";
    let error = refused(&db.role(Role::Service), request(all));
    assert_eq!(error.reason(), Reason::NotSupported, "{error}");
    assert!(error.message().contains("all_users"), "{error}");
    // Who may not read it at all hears no more.
    let error = refused(&db.user("ana"), request(all));
    assert!([Reason::PermissionDenied, Reason::NotSupported].contains(&error.reason()), "{error}");
    refused(&db.role(Role::Service), request("SUBSCRIBE TO app.user.t"));
}

#[tokio::test]
async fn names_that_nothing_has() {
    let db = tables().await;
    let ana = db.user("ana");
    let cases = [
        ("SUBSCRIBE TO missing", Reason::TableNotFound),
        ("SUBSCRIBE TO app.missing WHERE id = 1", Reason::TableNotFound),
        ("SUBSCRIBE TO nowhere.t", Reason::NamespaceNotFound),
        ("SUBSCRIBE SELECT nme FROM t", Reason::ColumnNotFound),
        ("SUBSCRIBE TO t WHERE nme = 'a'", Reason::ColumnNotFound),
        ("SUBSCRIBE SELECT x.id FROM t WHERE t.id = 1", Reason::ColumnNotFound),
        ("SUBSCRIBE SELECT nothing(id) FROM t", Reason::FunctionNotFound),
    ];
    for (sql, reason) in cases {
        let error = refused(&ana, request(sql));
        let found = error.reason();
        // A query of SELECT says the same.
        let select = sql.replace("SUBSCRIBE TO", "SELECT * FROM").replace("SUBSCRIBE SELECT", "SELECT");
        let of_select = ana.fails(found, select).await;
        assert_eq!(of_select.message(), error.message(), "{sql}");
        assert!(found == reason || found.kind() == reason.kind(), "{sql}: {error}");
    }
    let nearest = refused(&ana, request("SUBSCRIBE SELECT nme FROM t"));
    assert!(nearest.message().contains("name"), "{nearest}");
    let without = LiveQueryRequest { namespace: None, ..request("SUBSCRIBE TO t") };
    assert_eq!(refused(&ana, without).reason(), Reason::NamespaceRequired);
}

#[tokio::test]
async fn texts_that_are_no_subscription() {
    let db = tables().await;
    let ana = db.user("ana");
    for sql in [
        "SELECT * FROM t",
        "INSERT INTO t VALUES (1, 1, 'a')",
        "SUBSCRIBE TO t; SUBSCRIBE TO t",
        "SUBSCRIBE TO t; SELECT 1",
        "DROP TABLE t",
        "KILL LIVE QUERY 1",
        "",
        ";",
        "-- nothing",
    ] {
        let error = refused(&ana, request(sql));
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{sql:?}: {error}");
    }
    let select = refused(&ana, request("SELECT * FROM t"));
    assert!(select.message().contains("SUBSCRIBE TO"), "{select}");
    for sql in [
        "SUBSCRIBE WITH x AS (SELECT * FROM t) SELECT id FROM x",
        "SUBSCRIBE",
        "SUBSCRIBE TO",
        "SUBSCRIBE t",
        "SUBSCRIBE FROM t",
        "SUBSCRIBE TO t WHERE",
        "SUBSCRIBE TO t, other",
        "SUBSCRIBE TO t id = 1",
        "SUBSCRIBE TO (SELECT 1)",
        "SUBSCRIBE SELECT",
        "SUBSCRIBE TO t WHERE id = 1 ORDER BY id",
        "SUBSCRIBE TO t WHERE id = 1 LIMIT 1",
        "SUBSCRIBE TO t WHERE (id = 1",
        "SUBSCRIBE INSERT INTO t VALUES (1, 1, 'a')",
        "SUBSCRIBE TO t WHERE name",
        "SUBSCRIBE TO t WHERE 'a'",
    ] {
        let error = refused(&ana, request(sql));
        assert!([ErrorKind::InvalidRequest, ErrorKind::NotSupported].contains(&error.kind()), "{sql:?}: {error}");
        assert!(!error.message().is_empty());
    }
    assert_eq!(ana.value("SELECT count(*) FROM t").await, "0", "nothing was done");
}

#[tokio::test]
async fn parameters_that_do_not_fit() {
    let db = tables().await;
    let ana = db.user("ana");
    let with = |sql: &str, parameters: Vec<_>| LiveQueryRequest { parameters, ..request(sql) };
    for (sql, parameters) in [
        ("SUBSCRIBE TO t WHERE id = $1", vec![]),
        ("SUBSCRIBE TO t WHERE id = $1", vec![int(1), int(2)]),
        ("SUBSCRIBE TO t WHERE id = $2", vec![int(1)]),
        ("SUBSCRIBE TO t", vec![int(1)]),
    ] {
        assert_eq!(refused(&ana, with(sql, parameters)).reason(), Reason::ParameterCountMismatch, "{sql}");
    }
    let error = refused(&ana, with("SUBSCRIBE TO t WHERE id = $1", vec![text("not a number")]));
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
}

#[tokio::test]
async fn execute_points_to_subscribe() {
    let db = tables().await;
    let ana = db.user("ana");
    for sql in ["SUBSCRIBE TO t", "SUBSCRIBE SELECT id FROM t WHERE id > 1", "subscribe to t where id = 1; SELECT 1"] {
        let error = ana.try_run(sql).await.expect_err(sql);
        assert!([Reason::NotSupported, Reason::InvalidStatement].contains(&error.reason()), "{sql}: {error}");
        assert!(error.message().contains("Subscribe"), "{sql}: {error}");
    }
    for sql in ["EXPLAIN SUBSCRIBE TO t", "INSERT INTO t SUBSCRIBE TO t", "SELECT * FROM (SUBSCRIBE TO t)"] {
        ana.try_run(sql).await.expect_err(sql);
    }
}
