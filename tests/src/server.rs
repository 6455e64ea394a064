//! The servers that tests run against: one that all tests of a process share, and processes of their own for tests
//! that stop, kill or configure theirs (see [`ServerProcess`](kalam_link::process::ServerProcess)).

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    sync::OnceLock,
};

use kalam_link::process::{ServerProcess, ServerProcessBuilder, find_binary};
use tempfile::TempDir;

/// The line by which the server says where it listens.
const LISTENING: &str = "kalamdb-server listening on ";

/// The path of a binary of this workspace.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    find_binary(name).unwrap_or_else(|| panic!("{name} is not built; run `cargo build --workspace --bins` first"))
}

/// Starts a `--dev` server with these settings, such as `("limits.max_result_rows", "10")`, on an empty folder that
/// goes away with it.
///
/// # Panics
/// When it does not start.
pub async fn server_with(settings: &[(&str, &str)]) -> ServerProcess {
    start(configured(settings)).await
}

/// The builder of [`server_with`].
pub fn configured(settings: &[(&str, &str)]) -> ServerProcessBuilder {
    settings.iter().fold(ServerProcess::builder(), |builder, (key, value)| {
        builder.args(["--set".to_owned(), format!("{key}={value}")])
    })
}

/// Starts a server.
///
/// # Panics
/// When it does not start.
pub async fn start(builder: ServerProcessBuilder) -> ServerProcess {
    builder.start().await.unwrap_or_else(|error| panic!("{error}"))
}

/// Sends a signal, such as `TERM`, to a process.
///
/// # Panics
/// When it cannot be delivered.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("run sh");
    assert!(status.success(), "SIG{name} was not delivered to {pid}");
}

/// The URL of a `--dev` server that all tests of this process share: the one of `KALAMDB_TEST_SERVER`, or one that is
/// started at the first call.
///
/// Tests keep out of each other's way by using namespaces of their own.
///
/// # Panics
/// When the server does not start.
pub fn shared_url() -> &'static str {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    &SHARED.get_or_init(Shared::start).url
}

/// True when the shared server is somebody else's, so that nothing about its settings may be assumed.
pub fn shared_is_foreign() -> bool {
    std::env::var_os("KALAMDB_TEST_SERVER").is_some()
}

/// A process in a static is never dropped, so a watchdog looks after it.
#[derive(Debug)]
struct Shared {
    url: String,
    /// The watchdog ends the server and removes its folder when this pipe closes, which happens however this process
    /// ends.
    _alive: Option<ChildStdin>,
}

/// Runs `"$@"`, and kills it once stdin closes. `$0` is the folder to remove then, whatever signals the terminal or a
/// time-out sends to all processes of the test run meanwhile. The stdout that it was given is the server's alone, so
/// that it ends when a server cannot start.
const WATCHDOG: &str = r#""$@" 2>"$0/server.log" &
server=$!
exec >/dev/null
trap '' HUP INT TERM
read -r _
exec 2>/dev/null
kill -KILL "$server"
wait "$server"
rm -rf "$0"
"#;

impl Shared {
    fn start() -> Self {
        if let Ok(url) = std::env::var("KALAMDB_TEST_SERVER") {
            return Self { url, _alive: None };
        }
        let folder: PathBuf = TempDir::with_prefix("kalamdb-tests-").expect("make a temporary folder").keep();
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            // Settings of the developer's own server.
            if name.to_string_lossy().starts_with("KALAMDB__") {
                command.env_remove(name);
            }
        }
        command.arg("-c").arg(WATCHDOG).arg(&folder).arg(binary("kalamdb-server"));
        command.args(["--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
        #[allow(clippy::zombie_processes, reason = "the watchdog outlives this process")]
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start sh");
        let alive = child.stdin.take();

        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(LISTENING).map(|address| address.trim().to_owned()))
            .unwrap_or_else(|| {
                let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
                panic!("the shared server did not start:\n{log}")
            });
        // Kept read, so that the server never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { url: format!("http://{address}"), _alive: alive }
    }
}
