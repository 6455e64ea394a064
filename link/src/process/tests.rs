//! With shell scripts in the server's place: what matters here is the process, not what it serves.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::{ProcessError, ServerProcess};

struct Script {
    folder: TempDir,
}

impl Script {
    fn new(body: &str) -> Script {
        let folder = TempDir::new().unwrap();
        let script = Script { folder };
        fs::write(script.path(), format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(script.path(), fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("server")
    }
}

const READY: &str = "echo 'kalamdb-server listening on 127.0.0.1:4321'";

#[tokio::test]
async fn a_server_that_becomes_ready_can_be_ended_and_started_again() {
    let script = Script::new(&format!(
        "echo \"$@\" > \"$(dirname \"$0\")/args\"; trap 'exit 7' TERM; {READY}; while :; do sleep 0.01; done"
    ));

    let mut server = ServerProcess::builder().binary(script.path()).arg("--more").start().await.unwrap();
    assert_eq!(server.endpoint(), "http://127.0.0.1:4321");
    let (pid, data_dir) = (server.pid(), server.data_dir().to_owned());
    assert!(data_dir.is_dir() && server.is_running());
    let args = fs::read_to_string(script.folder.path().join("args")).unwrap();
    assert_eq!(args.trim(), format!("--dev --listen 127.0.0.1:0 --data-dir {} --more", data_dir.display()));

    let exit = server.terminate().await.unwrap();
    assert_eq!(exit.status.code(), Some(7));
    assert!(!server.is_running());

    server.restart().await.unwrap();
    assert_ne!(server.pid(), pid);
    assert_eq!(server.data_dir(), data_dir);
    assert!(!server.kill().unwrap().success());
    drop(server);
    assert!(!data_dir.exists());
}

#[tokio::test]
async fn a_server_that_ends_early_says_why() {
    let script = Script::new("echo 'port in use' >&2; exit 3");
    match ServerProcess::builder().binary(script.path()).start().await.unwrap_err() {
        ProcessError::EndedEarly { status, stderr } => {
            assert_eq!(status.code(), Some(3));
            assert_eq!(stderr, "port in use");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_that_is_never_ready_is_killed() {
    let script = Script::new("echo waiting >&2; exec sleep 60");
    let timeout = Duration::from_millis(300);
    let error = ServerProcess::builder().binary(script.path()).start_timeout(timeout).start().await.unwrap_err();
    assert!(matches!(error, ProcessError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("waiting"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_end_is_killed() {
    let script = Script::new(&format!("trap '' TERM; {READY}; while :; do sleep 0.01; done"));
    let timeout = Duration::from_millis(200);
    let mut server = ServerProcess::builder().binary(script.path()).stop_timeout(timeout).start().await.unwrap();
    assert!(matches!(server.terminate().await, Err(ProcessError::NotEnding { .. })));
    assert!(!server.is_running());
}

#[tokio::test]
async fn a_missing_binary_says_where_it_was_looked_for() {
    let error = ServerProcess::builder().binary("/nowhere/kalamdb-server").start().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/kalamdb-server"), "{error}");
}
