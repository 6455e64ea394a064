//! EXPORT as a statement, as a call with progress, and `\export` of `kalam-cli`.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use futures::StreamExt;
use kalam_link::{ExportEvent, ExportFormat, process::ServerProcess};
use kalamdb_proto::v1::{self, ExportRequest, export_response::Event};
use kalamdb_tests::{
    client::Client,
    server::{binary, server_with},
};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{client_of, eventually, files_below};

/// More rows than are exported while a client looks away.
const MANY: &str = "(SELECT a.value AS a, b.value AS b, repeat('x', 100) AS x FROM generate_series(1, 20000) AS a \
                    CROSS JOIN generate_series(1, 20000) AS b)";

struct Place {
    server: ServerProcess,
    client: Client,
    out: TempDir,
}

impl Place {
    async fn new() -> Self {
        let out = tempfile::tempdir().unwrap();
        let server = server_with(&[("paths.export_roots", out.path().to_str().unwrap())]).await;
        let client = client_of(&server.endpoint()).await;
        client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, name TEXT, n INT)").await;
        client.run("INSERT INTO t VALUES (1, 'one', 10), (2, NULL, 20), (3, 'three', 30)").await;
        Self { server, client, out }
    }

    /// Acting for a user that has a folder of its own.
    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.out.path().join("users/alice").join(file)).unwrap()
    }

    fn link(&self) -> kalam_link::ClientBuilder {
        kalam_link::Client::builder(self.server.endpoint()).user("alice").namespace(self.client.namespace_name())
    }

    fn cli(&self, arguments: &[&str], home: &TempDir) -> Command {
        let mut command = Command::new(binary("kalam-cli"));
        command.env("HOME", home.path()).env_remove("KALAM_TOKEN").env("NO_COLOR", "1").stdin(Stdio::null());
        command.current_dir(home.path());
        command.args(["-h", &self.server.endpoint(), "-u", "alice", "-n", self.client.namespace_name()]);
        command.args(arguments);
        command
    }
}

#[tokio::test]
async fn a_statement_exports() {
    let place = Place::new().await;
    let affected = place.client.run("EXPORT FROM t TO 't.csv'").await;
    assert_eq!(affected.affected().row_count, 3);
    assert!(affected.affected().message.starts_with("EXPORT 3 rows, "), "{affected:?}");
    let mut lines: Vec<String> = place.text("t.csv").lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(lines, ["id,name,n", "1,one,10", "2,,20", "3,three,30"]);
    place.client.fails("EXPORT FROM t TO 't.csv'", "FILE_EXISTS", Code::AlreadyExists).await;
    let failure = place.client.fails("EXPORT FROM t TO '../x.csv'", "PATH_NOT_ALLOWED", Code::FailedPrecondition).await;
    assert_eq!(failure.meta("setting"), "paths.export_roots");
    assert!(!failure.message.contains(place.out.path().to_str().unwrap()), "{failure:?}");
}

#[tokio::test]
async fn a_call_tells_its_progress() {
    let place = Place::new().await;
    let request = ExportRequest {
        from: "(SELECT value, repeat('x', 50) AS x FROM generate_series(1, 1000000) WHERE value > $1)".to_owned(),
        uri: "many.parquet".to_owned(),
        parameters: vec![kalamdb_tests::values::int(0)],
        ..Default::default()
    };
    let mut events = place.client.admin().export(place.client.request(request)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        seen.push(event.event.expect("an event"));
    }
    assert!(matches!(seen.first(), Some(Event::Started(started)) if !started.job_id.is_empty()), "{seen:?}");
    let Some(Event::Finished(finished)) = seen.last() else { panic!("no end: {seen:?}") };
    assert_eq!(
        (finished.rows, finished.uri.as_str(), finished.format()),
        (1_000_000, "many.parquet", v1::ExportFormat::Parquet)
    );
    let written = fs::metadata(place.out.path().join("users/alice/many.parquet")).unwrap().len();
    assert_eq!(finished.bytes, written);
    let rows: Vec<u64> =
        seen.iter().filter_map(|event| if let Event::Progress(at) = event { Some(at.rows) } else { None }).collect();
    assert!(rows.is_sorted() && rows.iter().all(|rows| *rows <= 1_000_000), "{rows:?}");

    for (from, uri, reason) in [
        ("t TO 'other.csv' --", "x.csv", "SYNTAX_ERROR"),
        ("t TO 'other.csv'; SELECT 1 -- ", "x.csv", "SYNTAX_ERROR"),
        ("t; DROP TABLE t; SELECT 1", "x.csv", "SYNTAX_ERROR"),
        ("nothing", "x.csv", "TABLE_NOT_FOUND"),
        ("t", "/etc/x.csv", "PATH_NOT_ALLOWED"),
        ("", "", "SYNTAX_ERROR"),
    ] {
        let namespace = place.client.namespace_name().to_owned();
        let request = ExportRequest { from: from.to_owned(), uri: uri.to_owned(), namespace, ..Default::default() };
        let refused = match place.client.admin().export(place.client.request(request)).await {
            Ok(mut events) => loop {
                match events.get_mut().message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{from} was exported"),
                    Err(status) => break status,
                }
            },
            Err(status) => status,
        };
        assert_eq!(kalamdb_tests::client::Failure::from(refused).reason, reason, "{from}");
    }
    assert_eq!(files_below(place.out.path()), ["users/alice/many.parquet"]);
}

#[tokio::test]
async fn a_cancelled_call_leaves_nothing() {
    let place = Place::new().await;
    let request = ExportRequest { from: MANY.to_owned(), uri: "many.csv".to_owned(), ..Default::default() };
    let mut events = place.client.admin().export(place.client.request(request)).await.unwrap().into_inner();
    loop {
        match events.message().await.unwrap().and_then(|event| event.event) {
            Some(Event::Progress(at)) if at.bytes > 0 => break,
            Some(Event::Started(_) | Event::Progress(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(files_below(place.out.path()).len(), 1);
    drop(events);
    eventually("nothing is left of it", Duration::from_secs(30), async || files_below(place.out.path()).is_empty())
        .await;
    let status = "SELECT status FROM system.jobs WHERE type = 'export'";
    let root = place.client.clone();
    eventually("the job has ended", Duration::from_secs(30), async || root.rows(status).await == ["cancelled"]).await;
}

#[tokio::test]
async fn kalam_link_exports() {
    let place = Place::new().await;
    let client = place.link().connect().await.unwrap();
    let done = client.admin().export("t", "t.json").wait().await.unwrap();
    assert_eq!((done.rows, done.format), (3, Some(ExportFormat::Json)));
    assert_eq!(place.text("t.json").lines().count(), 3);
    let query = "(SELECT id FROM t WHERE id > $1 ORDER BY id)";
    let export = client.admin().export(query, "some").format(ExportFormat::Csv).params((1,));
    let mut events = export.timeout(Duration::from_secs(60)).stream().await.unwrap();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.unwrap());
    }
    assert!(matches!(last, Some(ExportEvent::Finished(done)) if done.rows == 2 && done.uri == "some"));
    assert_eq!(place.text("some"), "id\n2\n3\n");
    let error = client.admin().export("t", "some").wait().await.unwrap_err();
    assert_eq!(error.reason(), Some("INVALID_STATEMENT"), "no format is named, and none is told by the name");
    let error = client.admin().export("t", "t.json").wait().await.unwrap_err();
    assert_eq!(error.reason(), Some("FILE_EXISTS"));
}

#[tokio::test]
async fn kalam_cli_exports_to_its_own_machine() {
    let place = Place::new().await;
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = place.cli(arguments, &home).output().expect("run kalam-cli");
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, out, err) = run(&["-c", "\\export (SELECT id, name FROM t ORDER BY id) t.csv"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("3 rows"), "{out}");
    assert_eq!(fs::read_to_string(home.path().join("t.csv")).unwrap(), "id,name\n1,one\n2,\n3,three\n");
    let (status, ..) = run(&["-c", "\\export (SELECT id, name FROM t ORDER BY id) lines json"]);
    assert_eq!(status, Some(0));
    let lines = fs::read_to_string(home.path().join("lines")).unwrap();
    assert_eq!(lines.lines().next(), Some("{\"id\":\"1\",\"name\":\"one\"}"));
    let (status, _, err) = run(&["-c", "\\export t t.parquet"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let bytes = fs::read(home.path().join("t.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));

    for (command, says) in [
        ("\\export t t.csv", "exists already"),
        ("\\export t x.txt", "does not end in"),
        ("\\export nothing x.csv", "nothing"),
        ("\\export t nowhere/x.csv", "cannot write"),
        ("\\export", "takes a table or a query"),
    ] {
        let (status, _, err) = run(&["-c", command]);
        assert_eq!(status, Some(1), "{command}: {err}");
        assert!(err.contains(says), "{command}: {err}");
    }
    let mut left: Vec<String> =
        files_below(home.path()).into_iter().filter(|file| !file.starts_with(".kalam/")).collect();
    left.sort();
    assert_eq!(left, ["lines", "t.csv", "t.parquet"]);
}

/// Ctrl+C ends an export, and nothing is left of it.
#[tokio::test]
async fn kalam_cli_gives_an_export_up() {
    let place = Place::new().await;
    let home = tempfile::tempdir().unwrap();
    let command = format!("\\export {MANY} many.csv");
    let mut child = place.cli(&["-c", &command], &home).stderr(Stdio::piped()).spawn().expect("run kalam-cli");
    let files = || {
        let files = files_below(home.path()).into_iter().filter(|file| !file.starts_with(".kalam/"));
        files.collect::<Vec<_>>()
    };
    eventually("a file is begun", Duration::from_secs(60), async || files().iter().any(|file| file.ends_with(".part")))
        .await;
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(files(), Vec::<String>::new());
}
