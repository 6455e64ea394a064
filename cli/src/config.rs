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
const INITIAL: &str = r#"# Defaults of kalam-cli. Flags and KALAM_TOKEN take precedence.

[connection]
# host = "http://127.0.0.1:2900"
# user = "alice"
# token = "…"

[output]
# format = "table"    # or "json", "csv"
# color = "auto"      # or "always", "never"
"#;

/// The file's contents.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) connection: Connection,
    pub(crate) output: Output,
}

/// `[connection]`
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Connection {
    pub(crate) host: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) token: Option<String>,
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
            if config.connection.token.is_some() && is_readable_by_others(&path) {
                eprintln!("warning: others can read the token in {0}; run: chmod 600 {0}", path.display());
            }
            Ok(config)
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
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
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
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Connection").field("host", &self.host).field("user", &self.user).field("token", &token).finish()
    }
}

#[cfg(test)]
mod tests;
