//! Starting, stopping and restarting the server: exit statuses, messages to the operator, and that rows stay.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use kalam_link::process::{ProcessError, ServerProcess, ServerProcessBuilder};
use kalamdb_tests::{
    client::Client,
    http::request,
    server::{binary, server_with, signal, start},
};
use tempfile::tempdir;
use tokio::net::TcpStream;

use crate::{
    streaming::ENDLESS,
    support::{client_of, eventually},
};

/// Longer than the server's own bound on a shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Runs `kalamdb-server` to its end.
fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(binary("kalamdb-server"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KALAMDB__")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().expect("run kalamdb-server")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The exit status and last lines of a server that must not start.
async fn refused(builder: ServerProcessBuilder) -> (Option<i32>, String) {
    match builder.start().await {
        Err(ProcessError::EndedEarly { status, stderr }) => (status.code(), stderr),
        other => panic!("the server must refuse to start: {other:?}"),
    }
}

#[tokio::test]
async fn sigterm_ends_it_in_bounded_time_whatever_clients_do() {
    for name in ["TERM", "INT"] {
        let mut server = server_with(&[("server.shutdown_grace_ms", "500")]).await;
        let client = client_of(&server.endpoint()).await;
        client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
        let address = server.address().to_string();
        // Idle connections of each kind, one that has sent half a request, and a call that never ends.
        let idle_grpc = Client::connect(&server.endpoint()).await;
        idle_grpc.run("SELECT 1").await;
        let idle_tcp = TcpStream::connect(&address).await.unwrap();
        let mut half = TcpStream::connect(&address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(
            &mut half,
            b"POST /kalamdb.v1.QueryService/Execute HTTP/1.1\r\nhost: x\r\n",
        )
        .await
        .unwrap();
        let endless = {
            let client = client.clone();
            tokio::spawn(async move { client.try_run(ENDLESS).await })
        };
        let metric = || async { request(&address, "GET", "/metrics", &[], b"").await.unwrap().text() };
        eventually("the calls are under way", STOP_LIMIT, || async {
            metric().await.contains("Execute") && !endless.is_finished()
        })
        .await;
        client.run("INSERT INTO t VALUES (1)").await;

        let started = Instant::now();
        signal(server.pid(), name);
        let status = server.wait(STOP_LIMIT).await.unwrap().expect("the server ends");
        assert_eq!(status.code(), Some(0), "SIG{name}:\n{}", server.stderr_tail());
        assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
        let ended = endless.await.unwrap().expect_err("the call was ended");
        assert!([tonic::Code::Unavailable, tonic::Code::Cancelled].contains(&ended.code), "{ended:#?}");
        drop((idle_grpc, idle_tcp, half));

        server.restart().await.unwrap();
        let again = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
        assert_eq!(again.scalar("SELECT count(*) FROM t").await, "1");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let mut server = server_with(&[("server.shutdown_grace_ms", "3600000")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    client.run("INSERT INTO t VALUES (1), (2)").await;
    let endless = {
        let client = client.clone();
        tokio::spawn(async move { client.try_run(ENDLESS).await })
    };
    let address = server.address().to_string();
    signal(server.pid(), "TERM");
    eventually("it has begun to stop", STOP_LIMIT, || async {
        match request(&address, "GET", "/readyz", &[], b"").await {
            Ok(response) => response.status != 200,
            Err(_) => true,
        }
    })
    .await;
    signal(server.pid(), "TERM");
    assert!(server.wait(Duration::from_secs(10)).await.unwrap().is_some(), "it ends at the second signal");
    endless.await.unwrap().expect_err("the call was ended");
    server.restart().await.unwrap();
    let again = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
    assert_eq!(again.scalar("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_restart_keeps_every_row_of_every_kind_of_table() {
    let mut server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    let namespace = client.namespace_name().to_owned();
    client.run("CREATE USER TABLE u (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), body TEXT)").await;
    client.run("CREATE SHARED TABLE s (id TEXT PRIMARY KEY, n INT) ACCESS public").await;
    client.run("CREATE STREAM TABLE e (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n INT) TTL '1 hour'").await;
    for user in 0..20 {
        let client = client.user(format!("user {user}"));
        client
            .run(&format!("INSERT INTO u (body) SELECT concat('body ', x, {user}) FROM (VALUES (1), (2), (3)) AS v(x)"))
            .await;
        client.run(&format!("INSERT INTO s VALUES ('key {user}', {user})")).await;
        client.run("INSERT INTO e (n) VALUES (1)").await;
    }
    client.run("ALTER TABLE u ADD COLUMN added INT DEFAULT 5").await;
    client.run("UPDATE s SET n = n * 2 WHERE n >= 10").await;
    client.run("DELETE FROM s WHERE n = 3").await;
    let queries = [
        format!("SELECT _user_id, id, body, added, _seq FROM {namespace}.all_users.u ORDER BY 1, 2"),
        "SELECT * FROM s ORDER BY id".to_owned(),
        format!("SELECT _user_id, id FROM {namespace}.all_users.e ORDER BY 1, 2"),
        format!(
            "SELECT table_name, schema_version, created_at, change FROM system.table_schemas WHERE namespace = '{namespace}' ORDER BY 1, 2"
        ),
    ];
    let mut before = Vec::new();
    for sql in &queries {
        before.push(client.rows(sql).await);
    }
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [60, 19, 20, 4]);
    let info = client.admin().get_server_info(client.request(Default::default())).await.unwrap().into_inner();

    for _ in 0..2 {
        let exit = server.terminate().await.unwrap();
        assert_eq!(exit.status.code(), Some(0));
        server.restart().await.unwrap();
        let client = Client::connect(&server.endpoint()).await.user("alice").namespace(&namespace);
        for (sql, before) in queries.iter().zip(&before) {
            assert_eq!(&client.rows(sql).await, before, "{sql}");
        }
        let again = client.admin().get_server_info(client.request(Default::default())).await.unwrap().into_inner();
        assert!(again.commit_seq >= info.commit_seq, "commit sequences go on");
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let server = server_with(&[]).await;
    let (status, stderr) = refused(ServerProcess::builder().data_dir(server.data_dir())).await;
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("in use by another process"), "{stderr}");
    assert!(stderr.contains(&server.data_dir().display().to_string()), "names the folder: {stderr}");
    assert_eq!(
        Client::connect(&server.endpoint()).await.scalar("SELECT 1").await,
        "1",
        "the first one is not disturbed"
    );
}

#[tokio::test]
async fn a_newer_format_and_a_foreign_folder_are_refused_untouched() {
    let folder = tempdir().unwrap();
    let format = folder.path().join("FORMAT");
    std::fs::write(&format, "kalamdb data format 2\n").unwrap();
    let (status, stderr) = refused(ServerProcess::builder().data_dir(folder.path())).await;
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("format 2") && stderr.contains("up to 1"), "names both versions: {stderr}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "kalamdb data format 2\n");

    let foreign = tempdir().unwrap();
    std::fs::write(foreign.path().join("thesis.txt"), "all my work").unwrap();
    let (status, stderr) = refused(ServerProcess::builder().data_dir(foreign.path())).await;
    assert_eq!(status, Some(1), "{stderr}");
    let names: Vec<_> = std::fs::read_dir(foreign.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[tokio::test]
async fn an_unwritable_data_folder_is_a_clear_refusal() {
    // Below a regular file nobody can make a folder, root included.
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (status, stderr) = refused(ServerProcess::builder().data_dir(file.join("data"))).await;
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains(&file.display().to_string()), "names the folder: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_refusal() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, stderr) = refused(ServerProcess::builder().listen(&address)).await;
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains(&address) && stderr.to_lowercase().contains("in use"), "{stderr}");
}

#[tokio::test]
async fn an_address_for_everybody_is_refused_where_calls_need_no_credential() {
    let (status, stderr) = refused(ServerProcess::builder().listen("0.0.0.0:0")).await;
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("0.0.0.0") && stderr.contains("--dev"), "{stderr}");
    let encrypted = ServerProcess::builder().dev(false).listen("0.0.0.0:0").args(["--set", "tls.required=true"]);
    let (status, stderr) = refused(encrypted).await;
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("tls.cert_file"), "{stderr}");
}

#[test]
fn a_configuration_typo_stops_the_start_and_names_the_nearest_key() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    // (file, flags, environment variable, what must be named)
    type Case = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>, &'static str);
    let cases: [Case; 5] = [
        ("[limits]\nmax_result_row = 5\n", &[], None, "limits.max_result_rows"),
        ("[server]\nlisten = 5\n", &[], None, "server.listen"),
        ("[storage]\ndurability = \"snyc\"\n", &[], None, "sync"),
        ("", &["--set", "limits.statement_timout_ms=5"], None, "limits.statement_timeout_ms"),
        ("", &[], Some(("KALAMDB__LIMITS__MAX_RESULT_ROW", "5")), "limits.max_result_rows"),
    ];
    for (file, flags, variable, nearest) in cases {
        std::fs::write(folder.path().join("config.toml"), file).unwrap();
        for command in [vec![], vec!["config", "check"]] {
            let mut process = Command::new(binary("kalamdb-server"));
            process.args(flags).args(["--data-dir", data.to_str().unwrap()]).args(&command);
            let output = process.envs(variable).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
            let text = text(&output);
            assert_eq!(output.status.code(), Some(2), "{file}{flags:?}{variable:?} {command:?}\n{text}");
            assert!(text.contains(nearest), "{nearest} is named:\n{text}");
            assert!(!data.exists(), "nothing was made");
        }
    }
}

#[test]
fn config_check_and_print() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("my.toml");
    std::fs::write(&file, "[limits]\nmax_result_rows = 123\n").unwrap();
    let file = file.to_str().unwrap();
    let check = run(&["--config", file, "config", "check"], folder.path());
    assert_eq!(check.status.code(), Some(0), "{}", text(&check));

    let print = run(&["--config", file, "--set", "log.level=debug", "config", "print"], folder.path());
    assert_eq!(print.status.code(), Some(0), "{}", text(&print));
    let printed = String::from_utf8(print.stdout).unwrap();
    assert!(printed.contains("max_result_rows = 123") && printed.contains("level = \"debug\""), "{printed}");

    // What is printed is a configuration file that means the same.
    let copy = folder.path().join("copy.toml");
    std::fs::write(&copy, &printed).unwrap();
    let again = run(&["--config", copy.to_str().unwrap(), "config", "print"], folder.path());
    let values = |text: &str| {
        text.lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .map(|line| line.split('#').next().unwrap().trim().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&String::from_utf8(again.stdout).unwrap()), values(&printed));

    let missing = run(&["--config", "/no/such/file.toml", "config", "check"], folder.path());
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing));
    let usage = run(&["--no-such-flag"], folder.path());
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
}

#[tokio::test]
async fn flags_win_over_environment_over_file() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[limits]\nmax_result_rows = 1\nmax_parameters = 1\nmax_statements_per_batch = 11\n")
        .unwrap();
    let server = start(
        ServerProcess::builder()
            .arg("--config")
            .arg(&file)
            .env("KALAMDB__LIMITS__MAX_RESULT_ROWS", "2000")
            .env("KALAMDB__LIMITS__MAX_PARAMETERS", "22")
            .args(["--set", "limits.max_result_rows=3000"]),
    )
    .await;
    let client = Client::connect(&server.endpoint()).await;
    let rows = client
        .rows("SELECT name, value, source FROM system.settings WHERE name LIKE 'limits.max_%' AND source <> 'default' ORDER BY name")
        .await;
    let short: Vec<String> = rows.iter().map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join("=")).collect();
    assert_eq!(
        short,
        ["limits.max_parameters=22", "limits.max_result_rows=3000", "limits.max_statements_per_batch=11"]
    );
}

#[tokio::test]
async fn the_start_says_what_is_running() {
    let server = server_with(&[("log.format", "json")]).await;
    let log = server.stderr_tail();
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!lines.is_empty(), "JSON lines on standard error:\n{log}");
    for expected in
        ["version", "commit", "branch", &server.address().port().to_string(), &server.data_dir().display().to_string()]
    {
        assert!(log.contains(expected), "{expected} in\n{log}");
    }
}

#[tokio::test]
async fn a_memory_server_serves_without_a_data_folder() {
    let mut server = server_with(&[("storage.backend", "memory")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    client.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "1");
    server.restart().await.unwrap();
    let client = Client::connect(&server.endpoint()).await;
    assert_eq!(client.rows("SELECT name FROM system.namespaces").await, Vec::<String>::new());
}
