//! What the adversary plays on: alice, who has marked everything of hers, and mallory, who receives.

use std::collections::BTreeSet;

use bytes::Bytes;
use kalamdb_proto::v1::{
    ExecuteRequest, LiveQuery, SubscribeRequest, SubscribeResponse, subscribe_response::Event,
    subscribe_service_client::SubscribeServiceClient,
};
use kalamdb_tests::{
    access::{Received, Secured, call, connect_json, grpc_web},
    client::Client,
};
use prost::Message;
use serde_json::json;
use tempfile::TempDir;
use tonic::Streaming;

use crate::support::files_below;

/// Alice's user id. Everything of hers has a text of its own, so that what leaks tells from where.
pub const ALICE: &str = "zqalice7f3a";
/// Texts of alice's that nobody else may receive.
const MARKERS: [&str; 10] = [
    ALICE,
    "zqbody91",
    "zqhotbody92",
    "zqkey93",
    "zqboard94",
    "zqmeta95",
    "zqfilter96",
    "zqclosed97",
    "zqnote98",
    "zqstream99",
];
/// How many rows alice has in `notes`: a number that is in no answer by chance.
const ROWS: u64 = 7_351;

pub const EXECUTE: &str = "/kalamdb.v1.QueryService/Execute";
pub const EXECUTE_STREAM: &str = "/kalamdb.v1.QueryService/ExecuteStream";
pub const SUBSCRIBE: &str = "/kalamdb.v1.SubscribeService/Subscribe";

/// The server, and what mallory has found out about alice, to try it.
pub struct Stage {
    pub secured: Secured,
    pub mallory: Client,
    pub alice: Client,
    root: Client,
    /// Alice's live query, open for the whole time.
    live: Streaming<SubscribeResponse>,
    pub live_id: String,
    pub resume_token: String,
    pub job_id: String,
    /// Files with alice's rows, relative to the storage's root and absolute.
    pub files: Vec<String>,
    before: Vec<String>,
    /// Where the server may export to.
    exports: TempDir,
}

impl Stage {
    pub async fn new() -> Self {
        let rules = "ROLE user PERMISSIONS ('n.board.owner = CURRENT_USER()')";
        let of_alice = format!("{rules} METADATA '{{\"nick\": \"zqmeta95\"}}'");
        // What is tried fails, again and again.
        let exports = tempfile::tempdir().expect("make a temporary folder");
        let roots = exports.path().display().to_string();
        let settings = [
            ("auth.max_failures_per_address", "0"),
            ("auth.max_failures_per_account", "0"),
            ("paths.export_roots", roots.as_str()),
        ];
        let secured = Secured::start(&settings, &[(ALICE, &of_alice), ("mallory", rules)], async |root| {
            let root = root.namespace("n");
            for sql in [
                "CREATE NAMESPACE n",
                "CREATE USER TABLE notes (id TEXT PRIMARY KEY, body TEXT, n INT)",
                "CREATE STREAM TABLE typing (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), who TEXT) TTL '1 day'",
                "CREATE SHARED TABLE board (id TEXT PRIMARY KEY, owner TEXT, body TEXT, n INT) ACCESS restricted",
                "CREATE SHARED TABLE zqclosed97 (id BIGINT PRIMARY KEY, body TEXT) ACCESS private",
            ] {
                root.run(sql).await;
            }
            let series = ROWS - 3;
            let cold = format!(
                "INSERT INTO notes SELECT concat('zqkey93-', value), concat('zqbody91 ', value), value FROM \
                     generate_series(1, {series})"
            );
            root.user(ALICE).run(&cold).await;
            // Keys that mallory may give rows of her own.
            let common =
                "INSERT INTO notes SELECT concat('common-', value), 'zqbody91', value FROM generate_series(5, 7)";
            root.user(ALICE).run(common).await;
            root.user("mallory").run("INSERT INTO notes VALUES ('mine', 'of mallory', 1)").await;
            root.run("INSERT INTO zqclosed97 VALUES (1, 'zqclosed97')").await;
            for owner in [ALICE, "mallory"] {
                let (marker, n) = if owner == ALICE { ("zqboard94", 42) } else { ("of mallory", 7) };
                let rows = format!("INSERT INTO board VALUES ('{owner}-1', '{owner}', '{marker}', {n})");
                root.run(&rows).await;
            }
            root.run("FLUSH ALL TABLES FORCE").await;
        })
        .await;
        let alice = secured.client(ALICE).await.namespace("n");
        let root = secured.client("root").await.namespace("n");
        let mallory = secured.client("mallory").await.namespace("n");
        // Some in the other tier.
        alice.run("UPDATE notes SET body = 'zqhotbody92' WHERE n < 11").await;
        alice.run("INSERT INTO typing (who) VALUES ('zqstream99')").await;
        let (live, live_id, resume_token) = open_live(&alice).await;
        let job_id = root.rows("SELECT job_id FROM system.jobs WHERE lower(type) LIKE '%flush%' LIMIT 1").await;
        let storage = secured.data_dir().join("storage");
        let mut files = files_below(&storage);
        files.extend(files.clone().iter().map(|file| storage.join(file).display().to_string()));
        assert!(files.iter().any(|file| file.ends_with(".parquet")), "{files:?}");
        let job_id = job_id.first().cloned().unwrap_or_default();
        let before = Vec::new();
        let mut stage =
            Self { secured, mallory, alice, root, live, live_id, resume_token, job_id, files, before, exports };
        stage.before = stage.state().await;
        stage
    }

    /// What alice has, and who there is: attempts must not have changed it.
    async fn state(&self) -> Vec<String> {
        let mut state =
            self.alice.rows("SELECT count(*), sum(n), min(body), max(body), min(id), max(id) FROM notes").await;
        state.extend(self.alice.rows("SELECT * FROM board").await);
        state.extend(self.alice.rows("SELECT who FROM typing").await);
        let root = &self.root;
        state.extend(root.rows("SELECT * FROM zqclosed97").await);
        state.extend(root.rows("SELECT username, role FROM system.users ORDER BY 1").await);
        state.extend(root.rows("SELECT key_id FROM system.api_keys ORDER BY 1").await);
        state.extend(
            root.rows("SELECT namespace, table_name, current_schema_version FROM system.tables ORDER BY 1, 2").await,
        );
        let live = format!("SELECT live_id FROM system.live_queries WHERE user_id = '{ALICE}'");
        state.extend(root.rows(&live).await);
        state
    }

    /// Checks that alice has what she had, and that her live query goes on.
    pub async fn unchanged(&mut self) {
        self.exports_are_mallorys();
        assert_eq!(self.state().await, self.before, "the adversary has changed something");
        self.alice.run("UPDATE notes SET n = n WHERE id = 'zqkey93-1'").await;
        loop {
            let event = self.live.message().await.expect("alice's live query goes on").expect("an event").event;
            if matches!(event, Some(Event::Changes(_))) {
                break;
            }
        }
    }

    /// Checks that what was exported is where mallory may write, and has nothing of alice's.
    fn exports_are_mallorys(&self) {
        for file in files_below(self.exports.path()) {
            assert!(file.starts_with("users/mallory/"), "{file} is where mallory may not write");
            let content = std::fs::read(self.exports.path().join(&file)).expect("an exported file");
            let content = String::from_utf8_lossy(&content);
            for marker in MARKERS {
                assert!(!content.contains(marker), "{marker} leaks into {file}: {content:.500}");
            }
        }
    }

    /// Checks that an answer to what mallory `sent` has nothing of alice's but what mallory wrote.
    pub fn inspect(&self, sent: &str, received: &Received) {
        for marker in MARKERS.iter().filter(|marker| !sent.contains(*marker)) {
            assert!(!received.contains(marker), "{marker} leaks.\nsent: {sent}\nreceived: {}", received.text());
        }
        let key = self.secured.key(ALICE);
        assert!(!received.contains(key), "alice's key leaks.\nsent: {sent}");
        let text = received.text();
        for file in self.files.iter().filter(|file| file.contains("zqalice") && !sent.contains(file.as_str())) {
            assert!(!text.contains(file.as_str()), "the path {file} leaks.\nsent: {sent}");
        }
        if !sent.contains(&ROWS.to_string()) {
            assert!(
                !numbers(&text).contains(&ROWS.to_string()),
                "the number of rows leaks.\nsent: {sent}\nreceived: {text}"
            );
        }
    }

    /// Sends a batch in every way there is, and inspects all that comes.
    pub async fn attempt(&self, sql: &str) {
        self.attempt_with(sql, &[]).await;
    }

    /// The same with more headers.
    pub async fn attempt_with(&self, sql: &str, headers: &[(&str, &str)]) {
        let message = self.mallory.execute_request(sql, Default::default());
        let sent = format!("{sql} {headers:?}");
        for path in [EXECUTE, EXECUTE_STREAM] {
            let mut received = call(&self.mallory, path, message.encode_to_vec(), headers).await;
            // Numbers are no texts on the wire.
            let shown: Vec<String> = received.messages.iter().map(shown_message).collect();
            received.bytes.extend(shown.concat().into_bytes());
            self.inspect(&sent, &received);
        }
        let key = self.secured.key("mallory");
        let mut all = vec![("x-api-key", key)];
        all.extend_from_slice(headers);
        let body = json!({ "sql": sql, "namespace": "n" });
        let received = connect_json(&self.secured.address(), EXECUTE, &all, &body).await;
        self.inspect(&sent, &received);
        let received = grpc_web(&self.secured.address(), EXECUTE, &all, &message.encode_to_vec()).await;
        self.inspect(&sent, &received);
    }

    /// Subscribes to something, and inspects all that comes while alice writes.
    pub async fn attempt_live(&self, query: LiveQuery, headers: &[(&str, &str)]) {
        let sent = format!("{query:?} {headers:?}");
        let request = SubscribeRequest { queries: vec![query], namespace: "n".to_owned() };
        let listening = call(&self.mallory, SUBSCRIBE, request.encode_to_vec(), headers);
        let writing = async {
            self.alice.run("UPDATE notes SET body = 'zqnote98' WHERE n < 11").await;
            self.alice.run("UPDATE notes SET body = 'zqhotbody92' WHERE n < 11").await;
        };
        let (mut received, ()) = tokio::join!(listening, writing);
        let shown: Vec<String> = received
            .messages
            .iter()
            .map(|message| format!("{:?}", SubscribeResponse::decode(message.clone())))
            .collect();
        received.bytes.extend(shown.concat().into_bytes());
        self.inspect(&sent, &received);
    }
}

/// A live query of alice's with a marker in its condition: its id, and the token with which it could be resumed.
async fn open_live(alice: &Client) -> (Streaming<SubscribeResponse>, String, String) {
    let request = SubscribeRequest {
        queries: vec![LiveQuery { sql: LIVE.to_owned(), ..Default::default() }],
        namespace: "n".to_owned(),
    };
    let mut client = SubscribeServiceClient::new(alice.channel());
    let mut live = client.subscribe(alice.request(request)).await.expect("alice subscribes").into_inner();
    let mut id = String::new();
    loop {
        match live.message().await.expect("an answer").expect("an event").event {
            Some(Event::Started(started)) => id = started.live_id,
            Some(Event::Ready(ready)) => return (live, id, ready.resume_token),
            _ => {}
        }
    }
}

/// Alice's live query.
pub const LIVE: &str = "SUBSCRIBE TO notes WHERE n < 20 AND body <> 'zqfilter96'";

fn shown_message(message: &Bytes) -> String {
    use kalamdb_proto::v1::{ExecuteResponse, ExecuteStreamResponse};
    let unary = ExecuteResponse::decode(message.clone()).map(|answer| format!("{answer:?}"));
    let streamed = ExecuteStreamResponse::decode(message.clone()).map(|answer| format!("{answer:?}"));
    format!("{} {}", unary.unwrap_or_default(), streamed.unwrap_or_default())
}

/// The numbers in a text, each as a whole: `0.7351` is another one than `7351`.
fn numbers(text: &str) -> BTreeSet<String> {
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    numbers.map(|number| number.trim_matches('.').to_owned()).collect()
}

/// The message of `Execute` for a batch.
pub fn execute(sql: &str) -> Vec<u8> {
    ExecuteRequest { sql: sql.to_owned(), namespace: "n".to_owned(), ..Default::default() }.encode_to_vec()
}
