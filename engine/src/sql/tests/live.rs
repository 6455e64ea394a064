//! SUBSCRIBE and KILL LIVE QUERY.

use super::*;
use crate::live::LiveQueryId;

fn subscribed(sql: &str) -> String {
    match one(sql) {
        Statement::Subscribe(subscribe) => subscribe.query.to_string(),
        other => panic!("{sql}: {other:?}"),
    }
}

fn killed(sql: &str) -> LiveQueryId {
    match one(sql) {
        Statement::KillLiveQuery(kill) => kill.id,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn subscriptions_are_queries() {
    for (sql, query) in [
        ("SUBSCRIBE TO t", "SELECT * FROM t"),
        ("subscribe to ns.user.t;", "SELECT * FROM ns.user.t"),
        ("SUBSCRIBE TO \"T\" AS x WHERE x.a = $1 AND b > 2", "SELECT * FROM \"T\" AS x WHERE x.a = $1 AND b > 2"),
        ("SUBSCRIBE SELECT a, b + 1 AS c FROM t WHERE a IN (1, 2)", "SELECT a, b + 1 AS c FROM t WHERE a IN (1, 2)"),
    ] {
        assert_eq!(subscribed(sql), query);
    }
    let [parsed] = <[_; 1]>::try_from(batch("SUBSCRIBE TO t WHERE a = $2")).unwrap();
    assert_eq!(parsed.parameter_count, 2);
    assert_eq!(parsed.normalized, "subscribe to t where a = $2");
}

#[test]
fn what_cannot_be_followed_is_parsed_and_refused_later_by_name() {
    for sql in [
        "SUBSCRIBE SELECT a FROM t ORDER BY a",
        "SUBSCRIBE SELECT a FROM t LIMIT 5",
        "SUBSCRIBE SELECT count(*) FROM t GROUP BY a",
        "SUBSCRIBE SELECT t.a FROM t JOIN u ON t.a = u.a",
        "SUBSCRIBE SELECT a FROM t UNION SELECT a FROM u",
        "SUBSCRIBE SELECT DISTINCT a FROM t",
    ] {
        subscribed(sql);
    }
    refused("SUBSCRIBE TO t FOR UPDATE", Reason::SyntaxError, "");
    refused("SUBSCRIBE SELECT * FROM t FOR UPDATE", Reason::NotSupported, "one snapshot");
    refused("SUBSCRIBE TO t TABLESAMPLE (10)", Reason::NotSupported, "TABLESAMPLE");
    refused("SUBSCRIBE INSERT INTO t VALUES (1)", Reason::SyntaxError, "TO table or SELECT");
    refused("SUSCRIBE TO t", Reason::SyntaxError, "Did you mean SUBSCRIBE?");
    refused("SUBSCRIBE TO 5", Reason::SyntaxError, "");
    refused("SUBSCRIBE TO t WHERE a = 1; SUBSCRIBE t", Reason::SyntaxError, "TO table or SELECT");
}

#[test]
fn live_queries_are_killed_by_their_number() {
    assert_eq!(killed("KILL LIVE QUERY 123"), LiveQueryId(123));
    assert_eq!(killed("kill live query '18446744073709551615'"), LiveQueryId(u64::MAX));
    for sql in ["KILL", "KILL QUERY 5", "KILL 5"] {
        refused(sql, Reason::NotSupported, "KILL LIVE QUERY id");
    }
    for sql in ["KILL LIVE QUERY", "KILL LIVE QUERY $1", "KILL LIVE QUERY 1.5", "KILL LIVE QUERY 18446744073709551616"]
    {
        refused(sql, Reason::InvalidStatement, "is a number");
    }
    refused("KILL LIVE QUERY 5 6", Reason::SyntaxError, "the end of the statement");
    refused("KILL LIVE QUERRY 5", Reason::SyntaxError, "Did you mean QUERY?");
    let error = fails("\n KILL LIVE QUERY x");
    assert_eq!(error.position(), place(2, 18));
}
