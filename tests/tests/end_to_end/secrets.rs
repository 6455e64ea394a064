//! Secrets appear nowhere: every kind is planted, used rightly and wrongly, and then looked for in all that the server
//! writes, answers and stores.

use std::{fs, process::Command};

use kalamdb_tests::{
    access::{Secured, connect_json, documented},
    client::{Client, Failure},
    http,
    server::binary,
    values::text,
};
use serde_json::json;

use crate::support::files_below;

/// What must be nowhere. 32 bytes and more where a key is asked for.
const JWT_SECRET: &str = "zqjwtsecret-0123456789abcdef0123456789";
/// `zqstoragekey…` in base64.
const STORAGE_KEY: &str = "enFzdG9yYWdla2V5LTAxMjM0NTY3ODlhYmNkZWZnaGk=";
const PASSWORD: &str = "zqpassword correct horse 1";
const NEW_PASSWORD: &str = "zqpassword battery staple 2";
const WRONG_PASSWORD: &str = "zqwrongpassword 3";
const CREDENTIALS: &str = "{\"access_key_id\": \"ZQACCESSKEY\", \"secret_access_key\": \"zqcredentials-secret\", \
                           \"endpoint\": \"http://127.0.0.1:9\", \"allow_http\": \"true\"}";

/// The secrets, each with what it is.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn new() -> Self {
        let known = [
            ("the key that tokens are signed with", JWT_SECRET),
            ("the key of storages' credentials", STORAGE_KEY),
            ("a password", PASSWORD),
            ("a changed password", NEW_PASSWORD),
            ("a wrong password", WRONG_PASSWORD),
            ("credentials of a storage", "zqcredentials-secret"),
        ];
        Self(known.into_iter().map(|(what, text)| (what, text.to_owned())).collect())
    }

    fn add(&mut self, what: &'static str, text: &str) {
        assert!(text.len() >= 16, "{what} is no secret: {text:?}");
        self.0.push((what, text.to_owned()));
    }

    /// Checks that none of them is in some bytes.
    fn absent(&self, place: &str, bytes: &[u8]) {
        for (what, secret) in &self.0 {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..(at + secret.len() + 50).min(bytes.len())];
                panic!("{what} is in {place}: …{}…", String::from_utf8_lossy(around));
            }
        }
    }

    fn absent_in_failure(&self, place: &str, failure: &Failure) {
        self.absent(place, format!("{failure:?}").as_bytes());
    }
}

#[tokio::test]
async fn secrets_are_in_no_log_answer_metric_or_file() {
    let settings = [
        ("log.level", "trace"),
        ("auth.jwt_secret", JWT_SECRET),
        ("storage.secret_key", STORAGE_KEY),
        ("storage.request_timeout_s", "1"),
        ("storage.max_retries", "0"),
    ];
    let secured = Secured::start(&settings, &[("mallory", "ROLE user"), ("boss", "ROLE dba")], async |root| {
        root.run("CREATE NAMESPACE n").await;
        root.run("CREATE USER TABLE n.t (id BIGINT PRIMARY KEY, body TEXT)").await;
        root.run(&format!("CREATE USER ana ROLE user PASSWORD '{PASSWORD}'")).await;
    })
    .await;
    let mut secrets = Secrets::new();
    for user in ["root", "boss", "mallory"] {
        // All of a key is secret but its id.
        let key = secured.key(user);
        secrets.add("an API key", key);
        secrets.add("the secret of an API key", key.splitn(3, '_').nth(2).unwrap_or_default());
    }
    let root = secured.client("root").await;
    let boss = secured.client("boss").await;
    let mallory = secured.client("mallory").await;
    use_credentials(&secured, &root, &mut secrets).await;
    for client in [&root, &boss, &mallory] {
        write_wrongly(client, &secrets).await;
    }

    // What administrators can read.
    for line in documented("system tables").iter().filter(|line| !line[0].is_empty()) {
        for client in [&root, &boss] {
            for sql in
                [format!("SELECT * FROM {}", line[0]), format!("EXPLAIN ANALYZE VERBOSE SELECT * FROM {}", line[0])]
            {
                let answer = client.run(&sql).await;
                secrets.absent(&sql, format!("{answer:?}").as_bytes());
            }
        }
    }
    for sql in ["SHOW USERS", "SHOW API KEYS", "SHOW STORAGES", "DESCRIBE system.users"] {
        secrets.absent(sql, format!("{:?}", root.run(sql).await).as_bytes());
    }
    let key = secured.key("root").to_owned();
    for method in ["ListSettings", "ListStorages", "GetServerInfo", "ListLiveQueries", "ListJobs"] {
        let path = format!("/kalamdb.v1.AdminService/{method}");
        let answer = connect_json(&secured.address(), &path, &[("x-api-key", &key)], &json!({})).await;
        secrets.absent(&path, &answer.bytes);
    }
    let metrics = http::request(&secured.address(), "GET", "/metrics", &[("x-api-key", &key)], b"").await.unwrap();
    assert!(metrics.text().contains("kalamdb_"), "{}", metrics.text());
    secrets.absent("/metrics", &metrics.body);

    // What is on disk, and in the log.
    let data = secured.data_dir();
    let files = files_below(&data);
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        if let Ok(bytes) = fs::read(data.join(&file)) {
            secrets.absent(&file, &bytes);
        }
    }
    let log = secured.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log tells all it can:\n{log}");
    assert!(log.contains("audit"), "the log has the audit:\n{log}");
    secrets.absent("the log", log.as_bytes());
}

/// Exchanges passwords and tokens, rightly and wrongly, and changes them.
async fn use_credentials(secured: &Secured, root: &Client, secrets: &mut Secrets) {
    let address = secured.address();
    let auth = async |method: &str, headers: &[(&str, &str)], body: serde_json::Value| {
        connect_json(&address, &format!("/kalamdb.v1.AuthService/{method}"), headers, &body).await
    };
    let tokens = |answer: &kalamdb_tests::access::Received| -> (String, String) {
        let json: serde_json::Value = serde_json::from_slice(&answer.messages[0]).unwrap();
        let token = |name: &str| json["tokens"][name].as_str().unwrap_or_else(|| panic!("{json}")).to_owned();
        (token("accessToken"), token("refreshToken"))
    };
    let failed = auth("Login", &[], json!({ "username": "ana", "password": WRONG_PASSWORD })).await;
    secrets.absent("a failed log-in", &failed.bytes);
    let failed = auth("Login", &[], json!({ "username": "nobody", "password": PASSWORD })).await;
    secrets.absent("a log-in of nobody", &failed.bytes);

    let (access, refresh) = tokens(&auth("Login", &[], json!({ "username": "ana", "password": PASSWORD })).await);
    secrets.add("an access token", &access);
    secrets.add("the signature of an access token", access.rsplit('.').next().unwrap_or_default());
    secrets.add("a refresh token", &refresh);
    let (access, renewed) = tokens(&auth("Refresh", &[], json!({ "refreshToken": refresh })).await);
    secrets.add("a renewed access token", &access);
    secrets.add("a renewed refresh token", &renewed);
    let bearer = format!("Bearer {access}");
    let who = auth("WhoAmI", &[("authorization", &bearer)], json!({})).await;
    assert!(who.contains("ana"), "{}", who.text());
    secrets.absent("WhoAmI", &who.bytes);
    // One that was used already ends them all.
    let reused = auth("Refresh", &[], json!({ "refreshToken": refresh })).await;
    secrets.absent("the answer to a token that was used before", &reused.bytes);
    let damaged = format!("Bearer {}", &access[..access.len() - 4]);
    let refused = auth("WhoAmI", &[("authorization", &damaged)], json!({})).await;
    secrets.absent("the answer to a damaged token", &refused.bytes);
    let damaged = &secured.key("root")[..secured.key("root").len() - 2];
    let refused = auth("WhoAmI", &[("x-api-key", damaged)], json!({})).await;
    secrets.absent("the answer to a damaged key", &refused.bytes);

    for sql in [
        format!("ALTER USER ana SET PASSWORD '{NEW_PASSWORD}'"),
        format!("UPDATE system.users SET password = '{PASSWORD}' WHERE username = 'ana'"),
        format!(
            "INSERT INTO system.users (user_id, username, role, password) VALUES ('bea', 'bea', 'user', '{PASSWORD}')"
        ),
    ] {
        match root.try_run(&sql).await {
            Ok(answer) => secrets.absent("the answer to a change of a password", format!("{answer:?}").as_bytes()),
            Err(failure) => panic!("a change of a password failed: {failure:#?}"),
        }
    }
    let update = "UPDATE system.users SET password = $1 WHERE username = 'ana'";
    let answer = root.run_with(update, vec![text(NEW_PASSWORD)]).await;
    secrets.absent("the answer to a password as a parameter", format!("{answer:?}").as_bytes());
}

/// Statements with secrets that fail, at every place that they can.
async fn write_wrongly(client: &Client, secrets: &Secrets) {
    let key = secrets.0.iter().find(|(what, _)| *what == "an API key").map(|(_, key)| key.clone()).unwrap();
    for sql in [
        format!("CREATE USER ana PASSWORD '{PASSWORD}'"),
        format!("CREATE USER bob PASSWORD '{PASSWORD}' BOGUS"),
        format!("CREATE USER bob PASSWORD {{{PASSWORD}}}"),
        format!("CREATE USER bob PASSWORD '{PASSWORD}' METADATA 'not json'"),
        format!("CREATE USER bob ROLE emperor PASSWORD '{PASSWORD}'"),
        format!("ALTER USER nobody SET PASSWORD '{NEW_PASSWORD}'"),
        format!("ALTER USER nobody PASSWORD '{NEW_PASSWORD}' PASSWORD '{PASSWORD}'"),
        format!("UPDATE system.users SET password = '{NEW_PASSWORD}' WHERE 1 / 0 = 1"),
        format!("UPDATE system.users SET password = CAST('{NEW_PASSWORD}' AS INT) WHERE username = 'ana'"),
        format!("UPDATE system.users SET password_hash = '{NEW_PASSWORD}'"),
        format!("INSERT INTO system.users (username, password) VALUES ('ana', '{PASSWORD}')"),
        format!("INSERT INTO system.users (username, password) SELECT 'x', '{PASSWORD}'"),
        format!("REVOKE API KEY '{}'", key.replacen("kdb_", "kdb_0", 1)),
        format!("CREATE STORAGE s TYPE S3 URI 's3://b/x' CREDENTIALS '{CREDENTIALS}'"),
        format!("CREATE STORAGE s TYPE S3 URI 's3://b/x' CREDENTIALS '{CREDENTIALS},'"),
        format!("ALTER STORAGE nothing SET CREDENTIALS '{CREDENTIALS}'"),
        format!(
            "INSERT INTO system.storages (name, type, uri, credentials) VALUES ('s', 'S3', 's3://b/x', '{CREDENTIALS}')"
        ),
        format!("SELECT 1; CREATE USER ana PASSWORD '{PASSWORD}'; SELECT 2"),
    ] {
        match client.execute(&sql, Default::default()).await {
            Ok(answers) => secrets.absent("the answer to a statement", format!("{answers:?}").as_bytes()),
            Err(failure) => secrets.absent_in_failure("the failure of a statement", &failure),
        }
        let (events, failure) = client.stream(&sql, Default::default()).await;
        secrets.absent("the stream of a statement", format!("{events:?} {failure:?}").as_bytes());
    }
}

#[test]
fn the_printed_configuration_has_no_secret() {
    let secrets = Secrets::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, format!("[auth]\njwt_secret = \"{JWT_SECRET}\"\n[storage]\nsecret_key = \"{STORAGE_KEY}\"\n"))
        .unwrap();
    for arguments in [vec!["config", "print"], vec!["config", "check"]] {
        let output =
            Command::new(binary("kalamdb-server")).arg("--config").arg(&file).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        secrets.absent("what config prints", &output.stdout);
        secrets.absent("what config says", &output.stderr);
    }
    // Nor when it is wrong.
    fs::write(&file, format!("[auth]\njwt_secret = [\"{JWT_SECRET}\"]\n[storage]\nsecret_key = \"{STORAGE_KEY}zq\"\n"))
        .unwrap();
    let output =
        Command::new(binary("kalamdb-server")).arg("--config").arg(&file).args(["config", "check"]).output().unwrap();
    assert!(!output.status.success());
    secrets.absent("what config says of wrong secrets", &[output.stdout, output.stderr].concat());
}
