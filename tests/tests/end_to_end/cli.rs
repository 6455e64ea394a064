//! `kalam-cli` in scripts: what it prints, and its exit status.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use kalamdb_tests::server::{binary, shared_url};
use tempfile::TempDir;

use crate::support::client_with_rows;

/// `kalam-cli` with a home folder of its own.
struct Cli {
    home: TempDir,
    namespace: String,
}

impl Cli {
    async fn new() -> Self {
        let namespace = client_with_rows().await.namespace_name().to_owned();
        Self { home: tempfile::tempdir().unwrap(), namespace }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary("kalam-cli"));
        command.env("HOME", self.home.path()).env_remove("KALAM_TOKEN").env("NO_COLOR", "1").stdin(Stdio::null());
        command.args(["-h", shared_url(), "-u", "alice", "-n", &self.namespace]);
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        parts(self.command().args(arguments).output().expect("run kalam-cli"))
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run kalam-cli");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        parts(child.wait_with_output().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn parts(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8 output");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn csv_and_json_are_exact() {
    let cli = Cli::new().await;
    let sql = "SELECT id, name, n FROM t WHERE id IN (1, 4) ORDER BY id";
    let (status, csv, _) = cli.run(&["--csv", "-c", sql]);
    assert_eq!((status, csv.as_str()), (Some(0), "id,name,n\n1,one,10\n4,,40\n"));
    let (status, json, _) = cli.run(&["--json", "-c", sql]);
    let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(status, Some(0));
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0]["name"].as_str(), rows[1]["name"].is_null()), (Some("one"), true), "{json}");
    let (_, big, _) = cli.run(&["--json", "-c", "SELECT 9223372036854775807 AS big"]);
    assert!(big.contains("\"9223372036854775807\""), "64-bit integers are strings: {big}");
    let (_, quoted, _) = cli.run(&["--csv", "-c", "SELECT 'a,b' AS x, 'say \"hi\"' AS y"]);
    assert_eq!(quoted, "x,y\n\"a,b\",\"say \"\"hi\"\"\"\n");
}

#[tokio::test]
async fn tables_are_aligned() {
    let cli = Cli::new().await;
    let (status, table, _) = cli.run(&["-c", "SELECT id, name FROM t ORDER BY id"]);
    assert_eq!(status, Some(0), "{table}");
    for expected in ["id", "name", "three", "NULL"] {
        assert!(table.contains(expected), "{expected} in\n{table}");
    }
    let lengths: std::collections::BTreeSet<usize> = table
        .lines()
        .filter(|line| line.contains("one") || line.contains("three"))
        .map(|line| line.chars().count())
        .collect();
    assert_eq!(lengths.len(), 1, "rows are of one width:\n{table}");
}

#[tokio::test]
async fn statements_from_commands_files_and_standard_input() {
    let cli = Cli::new().await;
    let (status, out, err) =
        cli.run(&["--csv", "-c", "INSERT INTO t VALUES (6, 'six', 60)", "-c", "SELECT name FROM t WHERE id = 6"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.ends_with("name\nsix\n"), "{out}");

    let script = "-- a script\nUPDATE t SET n = 61\n  WHERE id = 6;\n\nSELECT n FROM t WHERE id = 6;\nSELECT 'semi;colon' AS s;\n";
    let file = cli.file("script.sql", script);
    let (status, out, err) = cli.run(&["--csv", "--file", &file]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("n\n61\n") && out.contains("s\nsemi;colon\n"), "{out}");

    let (status, out, err) = cli.run_with_input(&["--csv"], "SELECT count(*) AS c FROM t;\nSELECT 2 AS last");
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("c\n6\n") && out.ends_with("last\n2\n"), "{out}");
}

#[tokio::test]
async fn a_failing_statement_is_status_1_and_shows_the_place() {
    let cli = Cli::new().await;
    let (status, _, err) = cli.run(&["-c", "SELECT id\nFROM t\nWHRE id = 1"]);
    assert_eq!(status, Some(1), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    let shown = lines
        .iter()
        .position(|line| line.contains("WHRE id = 1"))
        .unwrap_or_else(|| panic!("the line is shown:\n{err}"));
    let caret = lines[shown + 1].find('^').expect("a mark below");
    assert_eq!(lines[shown].get(caret..=caret), Some("i"), "the mark is below the place:\n{err}");
    assert!(err.contains("SYNTAX_ERROR"), "{err}");

    let script = cli.file("broken.sql", "INSERT INTO t VALUES (6, 'six', 60);\n\nSELECT nme FROM t;\nDELETE FROM t;\n");
    let (status, _, err) = cli.run(&["--file", &script]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("broken.sql:3") && err.contains("COLUMN_NOT_FOUND"), "{err}");
    let (_, out, _) = cli.run(&["--csv", "-c", "SELECT count(*) AS c FROM t"]);
    assert_eq!(out, "c\n6\n", "the script stopped at its failure");
}

#[tokio::test]
async fn wrong_usage_is_status_2_and_no_connection_status_3() {
    let cli = Cli::new().await;
    for arguments in [&["--no-such-flag"][..], &["--json", "--csv"], &["--file", "/no/such/file.sql"]] {
        let (status, _, err) = cli.run(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {err}");
        assert!(!err.is_empty());
    }
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = Command::new(binary("kalam-cli"))
        .env("HOME", cli.home.path())
        .args(["-h", &free, "-c", "SELECT 1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (status, _, err) = parts(output);
    assert_eq!(status, Some(3), "{err}");
    assert!(err.contains(&free), "names the server: {err}");
}

#[tokio::test]
async fn the_configuration_file_is_made_private() {
    let cli = Cli::new().await;
    cli.run(&["-c", "SELECT 1"]);
    let file = cli.home.path().join(".kalam/config.toml");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
}

#[tokio::test]
async fn hostile_values_cannot_drive_the_terminal() {
    let cli = Cli::new().await;
    let (status, out, _) = cli.run(&["-c", "SELECT chr(27) || '[2J' || chr(7) AS x"]);
    assert_eq!(status, Some(0), "{out}");
    assert!(!out.contains('\u{1b}') && !out.contains('\u{7}'), "escapes are made visible: {out:?}");
}

#[tokio::test]
async fn tables_are_flushed_by_a_command() {
    let cli = Cli::new().await;
    let (status, out, err) = cli.run(&["--json", "-c", "\\flush t force"]);
    assert_eq!(status, Some(0), "{err}");
    let row: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(row["table"], format!("{}.t", cli.namespace));
    assert_eq!(
        (row["rows"].as_str(), row["segments"].as_str(), row["failed"].as_str()),
        (Some("5"), Some("1"), Some("0"))
    );

    let (status, out, err) = cli.run(&["-c", "\\flush"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains(&format!("{}.t", cli.namespace)), "{out}");
    assert!(!err.contains('\u{1b}'), "no progress where there is no terminal: {err:?}");

    let (status, _, err) = cli.run(&["-c", "\\flush nothing"]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("TABLE_NOT_FOUND"), "{err}");
    let (_, described, _) = cli.run(&["-c", "\\d t"]);
    for property in ["storage", "flush_policy"] {
        assert!(described.contains(property), "{property} in\n{described}");
    }
}
