//! A real server as a child process: for your own integration tests, and for demonstrations.
//!
//! [`ServerProcess`] starts the `kalamdb-server` binary on a free port of the loopback address, with a data folder of
//! its own that goes away with it, and ends it when dropped.
//!
//! ```no_run
//! use kalam_link::process::ServerProcess;
//!
//! #[tokio::test]
//! async fn messages_survive_a_restart() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut server = ServerProcess::start().await?;
//!     server.client().await?.execute("CREATE NAMESPACE chat", ()).await?;
//!
//!     server.restart().await?;
//!     let namespaces = server.client().await?.admin().list_namespaces().await?;
//!     assert_eq!(namespaces[0].name, "chat");
//!     Ok(())
//! }
//! ```
//!
//! # Which binary
//!
//! The path given to [`ServerProcessBuilder::binary`]; else the environment variable `KALAMDB_SERVER_BIN`; else
//! `kalamdb-server` in the folder of the running program or the one above it (Cargo puts tests and examples one
//! folder below the binaries).

mod binary;
mod output;
mod signal;

use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub use self::binary::find_binary;
use self::output::{ReadyLine, Tail};
use crate::{client::Client, error::Error};

/// The variables of the server's own configuration, which a test must not inherit.
const CONFIGURATION_PREFIX: &str = "KALAMDB__";
const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long what the server has written may take to be read.
const FIRST_KEY_WAIT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Name of the server's binary.
const SERVER: &str = "kalamdb-server";

/// A running (or ended) server with its data folder. Dropping it kills the server and removes a folder of its own.
#[derive(Debug)]
pub struct ServerProcess {
    // Before `data`: the process must be gone when its folder is removed.
    running: Running,
    settings: ServerProcessBuilder,
    data: DataDir,
}

/// Settings of a [`ServerProcess`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before `start`"]
pub struct ServerProcessBuilder {
    binary: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    without_dev: bool,
    own_group: bool,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    start_timeout: Option<Duration>,
    stop_timeout: Option<Duration>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its status.
    pub status: ExitStatus,
    /// From the signal to the end of the process.
    pub took: Duration,
}

/// A server that cannot be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no server binary.
    #[error("no {SERVER} found; build it, or set KALAMDB_SERVER_BIN. Looked at: {}", paths(.tried))]
    NoBinary {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server ended before it was ready.
    #[error("the server ended before it was ready ({status}); its last lines:\n{stderr}")]
    EndedEarly {
        /// Its status.
        status: ExitStatus,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The server was not ready in time, and was killed.
    #[error("the server was not ready within {} ms; its last lines:\n{stderr}", .after.as_millis())]
    NotReady {
        /// How long it was waited for.
        after: Duration,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The server did not end in time, and was killed.
    #[error("the server did not end within {} ms and was killed; its last lines:\n{stderr}", .after.as_millis())]
    NotEnding {
        /// How long it was waited for.
        after: Duration,
        /// The last lines of its standard error.
        stderr: String,
    },
}

#[derive(Debug)]
struct Running {
    child: Child,
    stderr: Arc<Tail>,
    address: SocketAddr,
    ready_after: Duration,
}

#[derive(Debug)]
enum DataDir {
    Own(TempDir),
    Given(PathBuf),
}

impl ServerProcess {
    /// Starts a server on an empty temporary folder and waits until it serves.
    ///
    /// # Errors
    /// As [`ServerProcessBuilder::start`].
    pub async fn start() -> Result<ServerProcess, ProcessError> {
        ServerProcess::builder().start().await
    }

    /// Settings of a server to be.
    pub fn builder() -> ServerProcessBuilder {
        ServerProcessBuilder::default()
    }

    /// The server's URL, `http://127.0.0.1:port`. It changes with each start.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`](crate::ClientBuilder::connect).
    pub async fn client(&self) -> Result<Client, Error> {
        Client::connect(self.endpoint()).await
    }

    /// The API key of the administrator that the first start on a data folder makes, without `--dev`. None when this was
    /// no first start.
    pub async fn first_api_key(&self) -> Option<String> {
        // It was written before the line that says that the server listens, but to another pipe.
        let started = Instant::now();
        loop {
            let key = self.running.stderr.first_key();
            if key.is_some() || started.elapsed() >= FIRST_KEY_WAIT {
                return key.map(str::to_owned);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Id of the process.
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// From the start of the process until it said that it listens.
    pub fn ready_after(&self) -> Duration {
        self.running.ready_after
    }

    /// The last lines it wrote to standard error.
    pub fn stderr_tail(&self) -> String {
        self.running.stderr.text()
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.running.child.try_wait(), Ok(None))
    }

    /// Asks the server to end (SIGTERM) and waits for it. Of one that has ended, gives the status.
    ///
    /// # Errors
    /// [`ProcessError::NotEnding`] after the time-out of [`ServerProcessBuilder::stop_timeout`].
    pub async fn terminate(&mut self) -> Result<Exit, ProcessError> {
        let started = Instant::now();
        if self.is_running() {
            signal::terminate(self.pid()).map_err(|source| io_error("cannot signal the server", source))?;
        }
        let timeout = self.settings.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT);
        match self.wait(timeout).await? {
            Some(status) => Ok(Exit { status, took: started.elapsed() }),
            None => {
                self.kill()?;
                Err(ProcessError::NotEnding { after: timeout, stderr: self.stderr_tail() })
            }
        }
    }

    /// Ends the server at once (SIGKILL), as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        let child = &mut self.running.child;
        child.kill().and_then(|()| child.wait()).map_err(|source| io_error("cannot kill the server", source))
    }

    /// Waits until the server has ended; none when it has not within `timeout`.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, ProcessError> {
        let started = Instant::now();
        loop {
            match self.running.child.try_wait() {
                Ok(Some(status)) => return Ok(Some(status)),
                Ok(None) if started.elapsed() >= timeout => return Ok(None),
                Ok(None) => tokio::time::sleep(POLL_INTERVAL).await,
                Err(source) => return Err(io_error("cannot wait for the server", source)),
            }
        }
    }

    /// Starts the server again on the same data folder, after ending it with [`ServerProcess::terminate`] when it
    /// still runs. It listens on another port unless one was given.
    ///
    /// # Errors
    /// As [`ServerProcess::terminate`] and [`ServerProcessBuilder::start`].
    pub async fn restart(&mut self) -> Result<(), ProcessError> {
        self.terminate().await?;
        self.running = self.settings.spawn(self.data.path()).await?;
        Ok(())
    }
}

impl ServerProcessBuilder {
    /// The server's binary.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// A data folder that stays when the server goes. Default: a temporary one that goes, too.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// The address to listen on. Default: `127.0.0.1:0`, a free port.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Whether the server is started with `--dev`, which accepts calls of this machine without a credential.
    /// Default: true.
    pub fn dev(mut self, dev: bool) -> Self {
        self.without_dev = !dev;
        self
    }

    /// Whether the server gets a process group of its own, so that Ctrl+C at the terminal does not reach it. It must
    /// then be ended by dropping the [`ServerProcess`] or otherwise. Default: false.
    pub fn own_process_group(mut self, own: bool) -> Self {
        self.own_group = own;
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// An environment variable. The caller's own `KALAMDB__…` variables are not inherited.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The longest time from the start until the server listens. Default: 30 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// The longest time from SIGTERM until the server has ended. Default: 60 s.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = Some(timeout);
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Errors
    /// When there is no binary, it cannot be run, ends early or is not ready in time; with its status and its last
    /// lines.
    pub async fn start(self) -> Result<ServerProcess, ProcessError> {
        let data = match &self.data_dir {
            Some(path) => DataDir::Given(path.clone()),
            None => {
                let folder = tempfile::Builder::new().prefix("kalamdb-").tempdir();
                DataDir::Own(folder.map_err(|source| io_error("cannot make a temporary folder", source))?)
            }
        };
        let running = self.spawn(data.path()).await?;
        Ok(ServerProcess { running, settings: self, data })
    }

    async fn spawn(&self, data_dir: &Path) -> Result<Running, ProcessError> {
        let binary = binary::resolve(self.binary.as_deref())?;
        let mut command = Command::new(&binary);
        if !self.without_dev {
            command.arg("--dev");
        }
        command.arg("--listen").arg(self.listen.as_deref().unwrap_or("127.0.0.1:0"));
        command.arg("--data-dir").arg(data_dir).args(&self.args);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(CONFIGURATION_PREFIX) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        #[cfg(unix)]
        if self.own_group {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());

        let started = Instant::now();
        let mut child =
            command.spawn().map_err(|source| io_error(&format!("cannot run {}", binary.display()), source))?;
        let stderr = Tail::of(child.stderr.take());
        let ready = ReadyLine::of(child.stdout.take());
        let mut guard = KillOnDrop(Some(child));

        let timeout = self.start_timeout.unwrap_or(DEFAULT_START_TIMEOUT);
        match tokio::time::timeout(timeout, ready.wait()).await {
            Ok(Some(address)) => match guard.0.take() {
                Some(child) => Ok(Running { child, stderr, address, ready_after: started.elapsed() }),
                None => Err(io_error("the server's process is gone", io::Error::other("lost"))),
            },
            Ok(None) => {
                // Standard output ended without the line: the process is ending, or has closed it.
                let status = guard.end().await.map_err(|source| io_error("cannot wait for the server", source))?;
                Err(ProcessError::EndedEarly { status, stderr: stderr.text_after_end().await })
            }
            Err(_) => {
                drop(guard);
                Err(ProcessError::NotReady { after: timeout, stderr: stderr.text_after_end().await })
            }
        }
    }
}

impl DataDir {
    fn path(&self) -> &Path {
        match self {
            DataDir::Own(folder) => folder.path(),
            DataDir::Given(path) => path,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a child that nobody has taken over yet, for example when the future that starts it is dropped.
struct KillOnDrop(Option<Child>);

impl KillOnDrop {
    /// How long a process that has closed its output may take to end by itself.
    const GRACE: Duration = Duration::from_secs(5);

    async fn end(&mut self) -> io::Result<ExitStatus> {
        let Some(child) = &mut self.0 else { return Err(io::Error::other("the process was taken over")) };
        let started = Instant::now();
        while started.elapsed() < Self::GRACE {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        child.kill()?;
        child.wait()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn io_error(what: &str, source: io::Error) -> ProcessError {
    ProcessError::Io { what: what.to_owned(), source }
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
