//! `~/.kalam/config.toml`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::args::{Color, Format};

const FOLDER: &str = ".kalam";
const FILE: &str = "config.toml";
const HISTORY: &str = "history";

/// What a first run writes.
const INITIAL: &str = r#"# Defaults of kalam-cli. Flags, KALAM_TOKEN, KALAM_APIKEY and KALAM_PASSWORD take precedence.
# The credential (one of token, apikey, login) is for this host, and sent to no other.

[connection]
# host = "http://127.0.0.1:2900"
# user = "alice"
# token = "…"
# apikey = "kdb_…"
# login = "alice"    # the password is asked for
# allow_plaintext = false

[tls]
# ca = "ca.pem"
# cert = "client.pem"
# key = "client-key.pem"
# server_name = "db.example"

[output]
# format = "table"    # or "json", "csv"
# color = "auto"      # or "always", "never"
"#;

/// The file's contents.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) connection: Connection,
    pub(crate) tls: Tls,
    pub(crate) output: Output,
}

/// `[connection]`
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Connection {
    pub(crate) host: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) apikey: Option<String>,
    pub(crate) login: Option<String>,
    pub(crate) allow_plaintext: bool,
}

/// `[tls]`. Files are relative to the folder of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
}

/// `[output]`
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Output {
    pub(crate) format: Option<Format>,
    pub(crate) color: Option<Color>,
}

/// The user's own folder of this program, `~/.kalam`; none without a home.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(FOLDER))
}

/// Reads the configuration of a folder; on a first run makes both, readable by their owner only.
///
/// # Errors
/// A text for the user when the file cannot be read or has a mistake. A folder that cannot be made, as on a read-only
/// system, is no error: nothing is lost.
pub(crate) fn load(folder: &Path) -> Result<Config, String> {
    let path = folder.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let config = parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            let Connection { token, apikey, .. } = &config.connection;
            if (token.is_some() || apikey.is_some()) && is_readable_by_others(&path) {
                eprintln!("warning: others can read the credential in {0}; run: chmod 600 {0}", path.display());
            }
            Ok(Config { tls: config.tls.below(folder), ..config })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let _ = create(folder, &path);
            Ok(Config::default())
        }
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// The history's file, made so that only its owner can read it; none when that is not possible.
pub(crate) fn history(folder: &Path) -> Option<PathBuf> {
    let path = folder.join(HISTORY);
    match private_file(&path) {
        Ok(_) => Some(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(path),
        Err(_) => None,
    }
}

fn parse(text: &str) -> Result<Config, String> {
    // The whole error shows the line it is about, which may be one with a secret.
    let config: Config = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        }
        None => error.message().to_owned(),
    })?;
    let Connection { token, apikey, login, .. } = &config.connection;
    if [token, apikey, login].into_iter().flatten().count() > 1 {
        return Err("[connection] has several of token, apikey and login; keep one".to_owned());
    }
    if config.tls.cert.is_some() != config.tls.key.is_some() {
        return Err("[tls] needs cert and key together".to_owned());
    }
    Ok(config)
}

impl Tls {
    fn below(self, folder: &Path) -> Tls {
        let below = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Tls { ca: below(self.ca), cert: below(self.cert), key: below(self.key), server_name: self.server_name }
    }
}

fn create(folder: &Path, path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    private_file(path)?.write_all(INITIAL.as_bytes())
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn is_readable_by_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "…");
        f.debug_struct("Connection")
            .field("host", &self.host)
            .field("user", &self.user)
            .field("token", &hidden(&self.token))
            .field("apikey", &hidden(&self.apikey))
            .field("login", &self.login)
            .field("allow_plaintext", &self.allow_plaintext)
            .finish()
    }
}

#[cfg(test)]
mod tests;
