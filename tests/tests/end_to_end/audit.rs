//! `system.audit` of a running server: what is in it, from whom, and that it stays.

use std::time::Duration;

use kalamdb_proto::v1::{CreateNamespaceRequest, DropTableRequest};
use kalamdb_tests::{
    access::{Secured, call},
    client::Client,
};
use tonic::Code;

use crate::support::eventually;

const USERS: [(&str, &str); 4] =
    [("olga", "ROLE dba"), ("helper", "ROLE service"), ("ana", "ROLE user"), ("mallory", "ROLE user")];

async fn secured() -> Secured {
    Secured::start(&[], &USERS, async |root| {
        root.run("CREATE NAMESPACE n").await;
        root.run("CREATE USER TABLE n.t (id BIGINT PRIMARY KEY)").await;
    })
    .await
}

/// Waits until a query of the audit answers this.
async fn recorded(client: &Client, sql: &str, expected: &[&str]) {
    eventually(&format!("{sql} answers {expected:?}"), Duration::from_secs(10), || async {
        client.rows(sql).await == expected
    })
    .await;
}

#[tokio::test]
async fn statements_and_calls_are_recorded_with_who_and_from_where() {
    let secured = secured().await;
    let olga = secured.client("olga").await;
    olga.run("CREATE NAMESPACE made").await;
    let request = CreateNamespaceRequest { name: "called".to_owned(), ..Default::default() };
    olga.admin().create_namespace(olga.request(request)).await.unwrap();
    let request = DropTableRequest { namespace: "n".to_owned(), name: "nothing".to_owned(), if_exists: false };
    olga.admin().drop_table(olga.request(request)).await.unwrap_err();
    let key = olga.run("CREATE API KEY FOR USER ana").await;
    assert!(format!("{key:?}").contains("kdb_"));
    let acts = "SELECT user_id, role, acting_as, address, action, object, outcome, reason FROM system.audit \
                WHERE user_id = 'olga' ORDER BY audit_id";
    let expected = [
        "olga | dba | NULL | 127.0.0.1 | CREATE NAMESPACE | made | done | NULL",
        "olga | dba | NULL | 127.0.0.1 | CREATE NAMESPACE | called | done | NULL",
        "olga | dba | NULL | 127.0.0.1 | DROP TABLE | n.nothing | failed | TABLE_NOT_FOUND",
        "olga | dba | NULL | 127.0.0.1 | CREATE API KEY | ana | done | NULL",
    ];
    // Without waiting: a record is there before the answer.
    assert_eq!(olga.rows(acts).await, expected);
    // What was done before there were credentials is there as well.
    let users = "SELECT object FROM system.audit WHERE action = 'CREATE USER' ORDER BY audit_id";
    assert_eq!(olga.rows(users).await, ["root", "olga", "helper", "ana", "mallory"]);
}

#[tokio::test]
async fn refused_calls_and_acting_for_others_are_noted() {
    let secured = secured().await;
    let olga = secured.client("olga").await;
    let mallory = secured.client("mallory").await;
    let answer = call(&mallory, "/kalamdb.v1.AdminService/ListJobs", Vec::new(), &[]).await;
    assert_eq!(answer.code, Code::PermissionDenied);
    let refusals = "SELECT user_id, action, object, outcome FROM system.audit WHERE outcome = 'refused'";
    recorded(&olga, refusals, &["mallory | CALL | kalamdb.v1.AdminService/ListJobs | refused"]).await;

    let helper = secured.client("helper").await.user("ana");
    for _ in 0..10 {
        helper.run("SELECT * FROM n.t").await;
    }
    let acting = "SELECT user_id, role, acting_as, address FROM system.audit WHERE action = 'ACT AS'";
    recorded(&olga, acting, &["helper | service | ana | 127.0.0.1"]).await;
    // What is done for another names both.
    let chief = secured.client("root").await.user("ana");
    chief.run("CREATE NAMESPACE for_ana").await;
    let both = "SELECT user_id, acting_as FROM system.audit WHERE object = 'for_ana'";
    assert_eq!(olga.rows(both).await, ["root | ana"]);
}

#[tokio::test]
async fn the_audit_survives_a_kill() {
    let mut secured = secured().await;
    let olga = secured.client("olga").await;
    olga.run("CREATE NAMESPACE made").await;
    // What was answered is recorded, whatever happens next.
    secured.server.kill().unwrap();
    secured.server.restart().await.unwrap();
    let olga = secured.client("olga").await;
    let acts = "SELECT action, object, outcome FROM system.audit WHERE user_id = 'olga'";
    assert_eq!(olga.rows(acts).await, ["CREATE NAMESPACE | made | done"]);
}
