//! The adversary: with a key of her own, mallory sends every statement and every call there is to get at what is
//! alice's, in every protocol. Alice has marked all of hers, and nothing that mallory receives may have a mark.
//!
//! What is tried comes from the API's own description and from the documented lists of statements and system tables: one
//! that is new and not tried fails here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kalamdb_proto::v1::{LiveQuery, SubscribeRequest, statement_result};
use kalamdb_tests::{
    access::{api_methods, call, connect_json, documented, grpc_web},
    values::{int, text},
};
use prost::Message;
use tonic::Code;

use super::{
    calls, flight,
    stage::{ALICE, EXECUTE, LIVE, SUBSCRIBE, Stage, execute},
    statements,
};

#[tokio::test]
async fn no_statement_reaches_anything_of_alices() {
    let mut stage = Stage::new().await;
    for line in documented("statements") {
        let attempts = statements::of_kind(&line[0], &stage);
        assert!(!attempts.is_empty(), "{} is not tried", line[0]);
        for sql in attempts {
            stage.attempt(&sql).await;
        }
    }
    stage.unchanged().await;
}

#[tokio::test]
async fn nothing_of_alices_comes_by_flight() {
    let mut stage = Stage::new().await;
    for line in documented("statements") {
        for sql in statements::of_kind(&line[0], &stage) {
            flight::attempt(&stage, &sql).await;
        }
    }
    for sql in statements::of_rules() {
        flight::attempt(&stage, &sql).await;
    }
    flight::listings(&stage).await;
    stage.unchanged().await;
}

#[tokio::test]
async fn no_system_table_function_or_file_tells_of_alice() {
    let mut stage = Stage::new().await;
    for line in documented("system tables").iter().filter(|line| !line[0].is_empty()) {
        for sql in statements::of_system_table(&line[0]) {
            stage.attempt(&sql).await;
        }
    }
    for sql in statements::of_functions(&stage) {
        stage.attempt(&sql).await;
    }
    stage.unchanged().await;
}

#[tokio::test]
async fn no_rule_is_got_around() {
    let mut stage = Stage::new().await;
    for sql in statements::of_rules() {
        stage.attempt(&sql).await;
    }
    // Errors of rows that a rule hides would tell of them: what is asked of alice's value and of one that nobody has
    // must be answered alike.
    for (of_alices, of_nobodys) in [
        (
            "SELECT id FROM board WHERE 1 / (n - 42) > 0 AND owner <> 'mallory'",
            "SELECT id FROM board WHERE 1 / (n - 43) > 0 AND owner <> 'mallory'",
        ),
        ("SELECT count(*) FROM notes WHERE id = 'zqkey93-5'", "SELECT count(*) FROM notes WHERE id = 'zqkex93-5'"),
        ("UPDATE board SET n = 1 WHERE id = 'zqalice7f3a-1'", "UPDATE board SET n = 1 WHERE id = 'zqalice7f3b-1'"),
        ("DELETE FROM board WHERE id = 'zqalice7f3a-1'", "DELETE FROM board WHERE id = 'zqalice7f3b-1'"),
    ] {
        let outcome = async |sql: &str| match stage.mallory.try_run(sql).await {
            Ok(answer) => match &answer.0.result {
                Some(statement_result::Result::Affected(affected)) => {
                    format!("{} {}", affected.row_count, affected.message)
                }
                _ => format!("{:?}", answer.shown()),
            },
            Err(failure) => format!("{:?} {} {}", failure.code, failure.reason, failure.message),
        };
        let (alices, nobodys) = (outcome(of_alices).await, outcome(of_nobodys).await);
        let alike = |text: &str| text.replace("zqalice7f3b", ALICE).replace("zqkex", "zqkey");
        assert_eq!(alike(&alices), alike(&nobodys), "{of_alices} and {of_nobodys} are answered differently");
    }
    stage.unchanged().await;
}

#[tokio::test]
async fn no_call_reaches_anything_of_alices() {
    let mut stage = Stage::new().await;
    let address = stage.secured.address();
    let key = stage.secured.key("mallory").to_owned();
    for method in api_methods() {
        // An adversary does not log itself out.
        if method.path.ends_with("/Logout") {
            continue;
        }
        for (message, json) in calls::requests(&method, &stage) {
            let sent = format!("{} {json}", method.path);
            let received = call(&stage.mallory, &method.path, message.clone(), &[]).await;
            stage.inspect(&sent, &received);
            let received = connect_json(&address, &method.path, &[("x-api-key", &key)], &json).await;
            stage.inspect(&sent, &received);
            if !method.streams {
                let received = grpc_web(&address, &method.path, &[("x-api-key", &key)], &message).await;
                stage.inspect(&sent, &received);
            }
        }
    }
    stage.unchanged().await;
}

#[tokio::test]
async fn no_live_query_or_token_shows_alices_changes() {
    let mut stage = Stage::new().await;
    let token = stage.resume_token.clone();
    for (sql, resume_token) in [
        (LIVE, token.clone()),
        (LIVE, String::new()),
        ("SUBSCRIBE TO notes", token),
        ("SUBSCRIBE TO notes", String::new()),
        ("SUBSCRIBE TO n.all_users.notes", String::new()),
        ("SUBSCRIBE TO n.user.notes", String::new()),
        ("SUBSCRIBE TO typing", String::new()),
        ("SUBSCRIBE TO board", String::new()),
        ("SUBSCRIBE TO zqclosed97", String::new()),
        ("SUBSCRIBE SELECT * FROM notes WHERE 1 / (n - 5) > 0", String::new()),
    ] {
        let query = LiveQuery { sql: sql.to_owned(), resume_token, ..Default::default() };
        stage.attempt_live(query.clone(), &[]).await;
        for header in [("x-user-id", ALICE), ("x-user-id", "root")] {
            stage.attempt_live(query.clone(), &[header]).await;
        }
    }
    stage.unchanged().await;
}

#[tokio::test]
async fn no_header_makes_mallory_somebody_else() {
    let mut stage = Stage::new().await;
    let bin = BASE64_STANDARD.encode(ALICE);
    let key = stage.secured.key("mallory").to_owned();
    let (list, upper) = (format!("mallory, {ALICE}"), ALICE.to_uppercase());
    let bearer = format!("Bearer {key}");
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{ALICE}:")));
    let variants: Vec<Vec<(&str, &str)>> = vec![
        vec![("x-user-id", ALICE)],
        vec![("x-user-id", "mallory"), ("x-user-id", ALICE)],
        vec![("x-user-id", &list)],
        vec![("x-user-id", &upper)],
        vec![("x-user-id-bin", &bin)],
        vec![("x-user-id", "mallory"), ("x-user-id-bin", &bin)],
        vec![("user-id", ALICE)],
        vec![("x-forwarded-user", ALICE), ("x-remote-user", ALICE)],
        vec![("x-forwarded-for", "127.0.0.1"), ("x-user-id", ALICE)],
        vec![("forwarded", "for=127.0.0.1")],
        vec![("x-role", "system"), ("x-kalamdb-role", "system")],
        vec![("authorization", &bearer), ("x-user-id", ALICE)],
        vec![("authorization", "Bearer "), ("x-user-id", ALICE)],
        vec![("authorization", &basic)],
        vec![("x-api-key", "kdb_root_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
        vec![("x-api-key", "")],
    ];
    let address = stage.secured.address();
    for headers in &variants {
        for sql in ["SELECT * FROM notes", "SELECT CURRENT_USER()", "SELECT * FROM n.all_users.notes"] {
            stage.attempt_with(sql, headers).await;
            // Without her own key beside them they open nothing.
            let alone: Vec<(&str, &str)> = headers
                .iter()
                .filter(|(name, value)| *name != "authorization" || !value.contains(&key))
                .copied()
                .collect();
            let sent = format!("{sql} {alone:?}");
            let stranger = stage.secured.stranger().await;
            let received = call(&stranger, EXECUTE, execute(sql), &alone).await;
            assert_ne!(received.code, Code::Ok, "{sent}: {}", received.text());
            stage.inspect(&sent, &received);
            let received = grpc_web(&address, EXECUTE, &alone, &execute(sql)).await;
            assert!(received.messages.iter().all(|message| !message.starts_with(&[0])), "{sent}: {}", received.text());
            stage.inspect(&sent, &received);
        }
    }
    stage.unchanged().await;
}

#[tokio::test]
async fn no_cached_plan_or_batch_mixes_users() {
    let mut stage = Stage::new().await;
    // The same text, one after the other and at the same time.
    let sql = "SELECT id, body, n FROM notes WHERE n < 11 ORDER BY n, id";
    for _ in 0..5 {
        assert_eq!(stage.alice.rows(sql).await.len(), 13);
        stage.attempt(sql).await;
        let (alices, ()) = tokio::join!(stage.alice.rows(sql), stage.attempt(sql));
        assert_eq!(alices.len(), 13);
    }
    let by_key = "SELECT body FROM notes WHERE id = $1 AND n > $2";
    for _ in 0..5 {
        let parameters = || vec![text("zqkey93-5"), int(0)];
        assert_eq!(stage.alice.run_with(by_key, parameters()).await.shown(), ["zqhotbody92"]);
        assert_eq!(stage.mallory.run_with(by_key, parameters()).await.shown(), Vec::<String>::new());
    }
    // A batch stops at what is refused, and what came before and after has nothing of hers either.
    for sql in [
        "SELECT 1; SELECT * FROM n.all_users.notes; SELECT * FROM notes",
        "SELECT * FROM notes; SELECT count(*) FROM notes; SELECT * FROM system.live_queries",
        "INSERT INTO notes VALUES ('b1', 'x', 1); SELECT * FROM notes; DELETE FROM notes WHERE id = 'b1'",
        "SELECT 1; KILL LIVE QUERY 1; SELECT * FROM notes",
    ] {
        stage.attempt(sql).await;
    }
    // Many at once in one call of Subscribe.
    let query = |sql: &str| LiveQuery { sql: sql.to_owned(), ..Default::default() };
    let request = SubscribeRequest {
        queries: vec![query("SUBSCRIBE TO notes"), query(LIVE), query("SUBSCRIBE TO typing")],
        namespace: "n".to_owned(),
    };
    let received = call(&stage.mallory, SUBSCRIBE, request.encode_to_vec(), &[]).await;
    stage.inspect(LIVE, &received);
    stage.unchanged().await;
}
