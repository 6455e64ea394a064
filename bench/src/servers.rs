//! The server under test: one that was given, or child processes of this one on temporary folders.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use kalam_link::{Client, process::ServerProcess};
use tempfile::TempDir;

use crate::{
    data,
    error::{BenchError, Result},
};

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After it is on disk.
    Sync,
    /// After the operating system has it.
    Async,
}

impl Durability {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// The servers of a run, each started when it is first needed.
pub(crate) struct Servers {
    given: Option<String>,
    namespace: String,
    folder: PathBuf,
    running: Vec<Server>,
}

impl Servers {
    pub(crate) fn new(given: Option<String>, namespace: String, folder: Option<PathBuf>) -> Self {
        let given = given.map(|url| if url.contains("://") { url } else { format!("http://{url}") });
        Self { given, namespace, folder: folder.unwrap_or_else(std::env::temp_dir), running: Vec::new() }
    }

    /// The folder for temporary data.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// A server of any durability, with the benchmark's tables.
    pub(crate) async fn any(&mut self) -> Result<&mut Server> {
        if self.running.is_empty() {
            self.start(Durability::Sync).await?;
        }
        Ok(self.running.first_mut().expect("one was started"))
    }

    /// A server of this durability, with the benchmark's tables.
    pub(crate) async fn with_durability(&mut self, durability: Durability) -> Result<&mut Server> {
        let known = |servers: &[Server]| servers.iter().position(|server| server.durability == durability.as_str());
        if known(&self.running).is_none() && (self.given.is_none() || self.running.is_empty()) {
            self.start(durability).await?;
        }
        match known(&self.running).and_then(|index| self.running.get_mut(index)) {
            Some(server) => Ok(server),
            None => Err(BenchError::Usage(format!(
                "this workload needs a server with durability '{}'; start one so, or leave out --server",
                durability.as_str()
            ))),
        }
    }

    async fn start(&mut self, durability: Durability) -> Result<()> {
        let server = match &self.given {
            Some(url) => Server::connect(url.clone(), self.namespace.clone()).await?,
            None => {
                let server = Server::start(durability, &self.folder).await?;
                Server { namespace: self.namespace.clone(), ..server }
            }
        };
        let tables = server.client.execute_batch(data::create_messages(&self.namespace), ());
        tables.await.map_err(BenchError::client("making the tables"))?;
        self.running.push(server);
        Ok(())
    }

    /// Drops the tables on a server that was given; ends those that were started.
    pub(crate) async fn clean_up(&mut self) -> Result<()> {
        for server in self.running.drain(..).filter(|server| server.process.is_none()) {
            let namespace = &server.namespace;
            let drop = format!("DROP TABLE IF EXISTS {namespace}.messages; DROP TABLE IF EXISTS {namespace}.import");
            server.client.execute_batch(drop, ()).await.map_err(BenchError::client("dropping the tables"))?;
            // Tables of somebody else in the namespace keep it, rightly.
            let _ = server.client.admin().drop_namespace(namespace, true).await;
        }
        Ok(())
    }
}

/// A server that answers.
pub(crate) struct Server {
    url: String,
    client: Client,
    durability: String,
    namespace: String,
    filled: HashSet<(String, u64)>,
    // The process before its folder: it must be gone when the folder is removed.
    process: Option<ServerProcess>,
    _data: Option<TempDir>,
}

impl Server {
    /// Starts a server on an empty folder inside `parent`, and waits until it answers.
    pub(crate) async fn start(durability: Durability, parent: &Path) -> Result<Self> {
        Self::start_with(durability, parent, &[]).await
    }

    /// The same with settings, such as `("log.level", "debug")`.
    pub(crate) async fn start_with(durability: Durability, parent: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let data = tempfile::Builder::new()
            .prefix("kalam-bench-server-")
            .tempdir_in(parent)
            .map_err(BenchError::io(format!("cannot make a folder in {}", parent.display())))?;
        let builder = ServerProcess::builder().data_dir(data.path()).arg("--durability").arg(durability.as_str());
        let builder =
            settings.iter().fold(builder, |builder, (key, value)| builder.arg("--set").arg(format!("{key}={value}")));
        let process = builder.start().await?;
        let server = Self::connect(process.endpoint(), String::new()).await?;
        Ok(Self { process: Some(process), _data: Some(data), ..server })
    }

    async fn connect(url: String, namespace: String) -> Result<Self> {
        let failed = || BenchError::client("asking the server about itself");
        let client = Client::connect(url.clone()).await.map_err(failed())?;
        let durability = client.admin().server_info().await.map_err(failed())?.durability;
        Ok(Self { url, client, durability, namespace, filled: HashSet::new(), process: None, _data: None })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Process id, of a server that was started here.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::pid)
    }

    /// The process, of a server that was started here.
    pub(crate) fn process(&mut self) -> Result<&mut ServerProcess> {
        let given = || BenchError::Usage("this workload starts and stops a server of its own".to_owned());
        self.process.as_mut().ok_or_else(given)
    }

    /// Ends a server that was started here, and starts it again on its data; it has another address then.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let process = self.process()?;
        process.restart().await?;
        let url = process.endpoint();
        let Self { url, client, .. } = Self::connect(url, String::new()).await?;
        (self.url, self.client) = (url, client);
        Ok(())
    }

    /// Where a server that was started here keeps its data.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        self.process.as_ref().map(ServerProcess::data_dir)
    }

    /// Gives a user's partition `rows` generated messages, once.
    pub(crate) async fn fill(&mut self, user: &str, rows: u64) -> Result<()> {
        if !self.filled.contains(&(user.to_owned(), rows)) {
            data::fill(&self.client, &self.namespace, user, rows).await?;
            self.filled.insert((user.to_owned(), rows));
        }
        Ok(())
    }
}
