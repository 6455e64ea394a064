//! A server that takes no call without a credential, its users, and everything that a caller receives of it.

mod api;
mod received;

use std::{collections::HashMap, fs, path::PathBuf};

use kalam_link::process::ServerProcess;
use tempfile::TempDir;

pub use self::{
    api::{ApiField, ApiMethod, FieldKind, api_methods},
    received::{Received, call, connect_json, grpc_web},
};
use crate::{
    client::Client,
    server::{binary, configured, start},
};

/// The roles, from least to most.
pub const ROLES: [&str; 4] = ["user", "service", "dba", "system"];

/// A server without `--dev`, with a user of each name that was asked for.
#[derive(Debug)]
pub struct Secured {
    // Before the folder: the process must be gone when that is removed.
    /// The server.
    pub server: ServerProcess,
    keys: HashMap<String, String>,
    folder: TempDir,
}

/// A user to be, and what follows its name in `CREATE USER`.
pub type NewUser<'a> = (&'a str, &'a str);

impl Secured {
    /// Starts a server with these settings and users. What `prepare` does with a client that may do everything is done
    /// before the server asks for credentials, `root` being a user with role system.
    ///
    /// # Panics
    /// When something of it fails.
    pub async fn start(settings: &[(&str, &str)], users: &[NewUser<'_>], prepare: impl AsyncFnOnce(Client)) -> Self {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let data = folder.path().join("data");
        let log = folder.path().join("server.log");
        let mut keys = HashMap::new();
        {
            let mut server = start(logged(&folder, &log).data_dir(&data).args(arguments(settings))).await;
            let root = Client::connect(&server.endpoint()).await;
            prepare(root.clone()).await;
            for (name, properties) in [("root", "ROLE system")].iter().chain(users) {
                root.run(&format!("CREATE USER \"{name}\" {properties}")).await;
                let answer = root.run(&format!("CREATE API KEY FOR USER \"{name}\"")).await;
                let key = find_key(&format!("{answer:?}")).unwrap_or_else(|| panic!("no key in {answer:?}"));
                keys.insert((*name).to_owned(), key);
            }
            server.terminate().await.expect("the server ends");
        }
        let server = start(logged(&folder, &log).data_dir(&data).dev(false).args(arguments(settings))).await;
        Self { server, keys, folder }
    }

    /// The API key of a user.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn key(&self, user: &str) -> &str {
        self.keys.get(user).unwrap_or_else(|| panic!("no key of {user}"))
    }

    /// A new connection as a user.
    pub async fn client(&self, user: &str) -> Client {
        Client::connect(&self.server.endpoint()).await.api_key(self.key(user))
    }

    /// A new connection without a credential.
    pub async fn stranger(&self) -> Client {
        Client::connect(&self.server.endpoint()).await
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Where the data is.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything that the server has written to its standard error since it was first started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

fn arguments(settings: &[(&str, &str)]) -> Vec<String> {
    settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect()
}

/// The builder of a server whose standard error goes to a file, so that all of it can be read.
fn logged(folder: &TempDir, log: &std::path::Path) -> kalam_link::process::ServerProcessBuilder {
    let script = folder.path().join("server.sh");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\" 2>>'{}'\n", binary("kalamdb-server").display(), log.display());
    fs::write(&script, text).expect("write a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("make a script executable");
    configured(&[]).binary(script)
}

/// The first API key in a text.
pub fn find_key(text: &str) -> Option<String> {
    let start = text.find("kdb_")?;
    let is_of_key = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == '-';
    Some(text[start..].chars().take_while(is_of_key).collect())
}

/// The lines of a table of `docs/architecture/access.md`, which a test compares with the server's own: `calls`,
/// `statements` or `system tables`. Back-quotes are removed.
///
/// # Panics
/// When there is no such table.
pub fn documented(table: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/architecture/access.md");
    let text = fs::read_to_string(path).expect("read access.md");
    let (_, rest) = text.split_once(&format!("<!-- {table} -->\n")).expect("the table's beginning");
    let (lines, _) = rest.split_once("<!-- end -->").expect("the table's end");
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    lines.lines().skip(2).map(cells).collect()
}
