//! What a storage is: its kind, where it is, and what it is opened with.

use std::fmt;
use std::path::{Component, Path as FilePath, PathBuf};

use object_store::path::{Path, PathPart};

use super::ObjectError;
use super::options::StoreOptions;

/// What a storage is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreKind {
    /// A folder that the server can write to.
    FileSystem,
    /// A bucket of S3, or of anything that speaks its protocol.
    S3,
    /// A bucket of Google Cloud Storage.
    Gcs,
    /// A container of Azure Blob Storage.
    Azure,
}

/// A checked definition of a storage. Nothing is known yet of whether it can be reached.
///
/// ```
/// use kalamdb_store::object::{StoreDefinition, StoreKind};
///
/// let definition = StoreDefinition::parse(StoreKind::S3, "s3://bucket/cold/", None)?;
/// assert_eq!(definition.uri(), "s3://bucket/cold");
/// # Ok::<(), kalamdb_store::object::ObjectError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDefinition {
    pub(super) kind: StoreKind,
    pub(super) place: Place,
    pub(super) options: StoreOptions,
}

/// Where a storage is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// An absolute path without `.` and `..`.
    Folder(PathBuf),
    Bucket {
        name: String,
        /// The account, if an Azure uri names it.
        account: Option<String>,
        prefix: Path,
    },
}

/// The most bytes of a path in a uri, so that what a template adds stays within an object store's 1,024.
const MAX_PREFIX_BYTES: usize = 256;
const MAX_URI_BYTES: usize = 4_096;

impl StoreDefinition {
    /// Checks a definition. `credentials` are the text of a JSON object; empty is none.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`].
    pub fn parse(kind: StoreKind, uri: &str, credentials: Option<&str>) -> Result<Self, ObjectError> {
        let place = Place::parse(kind, uri)?;
        let options = StoreOptions::parse(kind, credentials.unwrap_or_default())?;
        if let Place::Bucket { account, .. } = &place
            && kind == StoreKind::Azure
            && account.is_none()
            && options.get("account_name").is_none()
        {
            return Err(invalid(
                "An AZURE storage needs its account: write abfss://container@account.dfs.core.windows.net/prefix, or add \
                 \"account_name\" to the credentials.",
            ));
        }
        Ok(Self { kind, place, options })
    }

    /// What it is made of.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Where it is, always written in the same way: without a slash at its end.
    pub fn uri(&self) -> String {
        self.place.uri(self.kind)
    }

    /// Whether it has any credentials.
    pub fn has_credentials(&self) -> bool {
        !self.options.is_empty()
    }

    /// Whether objects written to one are found in the other, whoever asks.
    pub fn same_place(&self, other: &Self) -> bool {
        self.kind == other.kind && self.place == other.place && self.options.same_place(&other.options, self.kind)
    }
}

/// The beginning of a location as [`StoreDefinition::uri`] writes it, for finding the storage that it is in; an
/// absolute path is of the file system.
///
/// # Errors
/// [`ObjectError::Invalid`].
pub fn canonical_uri(uri: &str) -> Result<String, ObjectError> {
    let kind = match uri.split_once("://").map(|(scheme, _)| scheme) {
        None | Some("file") => StoreKind::FileSystem,
        Some("s3" | "s3a") => StoreKind::S3,
        Some("gs" | "gcs") => StoreKind::Gcs,
        Some("az" | "azure" | "abfs" | "abfss") => StoreKind::Azure,
        Some(_) => {
            return Err(invalid(
                "A location begins with file://, s3://, gs://, az:// or abfss://, or is an absolute path.",
            ));
        }
    };
    Place::parse(kind, uri).map(|place| place.uri(kind))
}

impl Place {
    fn parse(kind: StoreKind, uri: &str) -> Result<Self, ObjectError> {
        if uri.len() > MAX_URI_BYTES {
            return Err(invalid(&format!("A uri has at most {MAX_URI_BYTES} bytes.")));
        }
        if uri.chars().any(char::is_control) {
            return Err(invalid("The uri has a control character."));
        }
        if kind == StoreKind::FileSystem {
            return folder(uri).map(Place::Folder);
        }
        let (schemes, form): (&[&str], _) = match kind {
            StoreKind::S3 => (&["s3", "s3a"], "s3://bucket/prefix"),
            StoreKind::Gcs => (&["gs", "gcs"], "gs://bucket/prefix"),
            _ => (
                &["az", "azure", "abfs", "abfss"],
                "az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix",
            ),
        };
        let rest = uri.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
        let rest = rest.ok_or_else(|| invalid(&format!("The uri of a {kind} storage is {form}.")))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, account) = match authority.split_once('@') {
            Some((name, host)) if kind == StoreKind::Azure => {
                let account = host.split('.').next().unwrap_or_default();
                check_name(account, "account")?;
                (name, Some(account.to_owned()))
            }
            Some(_) => {
                return Err(invalid(&format!(
                    "The uri of a {kind} storage is {form}, without user or key: those belong in CREDENTIALS."
                )));
            }
            None => (authority, None),
        };
        check_name(name, if kind == StoreKind::Azure { "container" } else { "bucket" })?;
        Ok(Place::Bucket { name: name.to_owned(), account, prefix: prefix(path)? })
    }

    fn uri(&self, kind: StoreKind) -> String {
        match self {
            Place::Folder(path) => format!("file://{}", path.display()),
            Place::Bucket { name, account, prefix } => {
                let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
                match (kind, account) {
                    (StoreKind::Gcs, _) => format!("gs://{name}{slash}{prefix}"),
                    (StoreKind::Azure, Some(account)) => {
                        format!("abfss://{name}@{account}.dfs.core.windows.net{slash}{prefix}")
                    }
                    (StoreKind::Azure, None) => format!("az://{name}{slash}{prefix}"),
                    _ => format!("s3://{name}{slash}{prefix}"),
                }
            }
        }
    }
}

/// The path of a FILESYSTEM uri, by its text alone.
fn folder(uri: &str) -> Result<PathBuf, ObjectError> {
    const FORM: &str = "The uri of a FILESYSTEM storage is an absolute path, or file:// with one: file:///srv/cold.";
    let path = match uri.split_once("://") {
        Some(("file", path)) if path.contains('%') => {
            return Err(invalid("Write the path of a file:// uri plainly, without %-escapes."));
        }
        Some(("file", path)) => path,
        Some(_) => return Err(invalid(FORM)),
        None => uri,
    };
    let path = FilePath::new(path);
    if !path.is_absolute() {
        return Err(invalid(FORM));
    }
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => plain.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid("The path of a FILESYSTEM storage cannot have '..' in it."));
            }
        }
    }
    Ok(plain)
}

fn check_name(name: &str, what: &str) -> Result<(), ObjectError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fine = (1..=255).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains("..");
    if fine { Ok(()) } else { Err(invalid(&format!("The uri has no valid {what} name."))) }
}

fn prefix(path: &str) -> Result<Path, ObjectError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.len() > MAX_PREFIX_BYTES {
        return Err(invalid(&format!("The path of a uri has at most {MAX_PREFIX_BYTES} bytes.")));
    }
    let plain =
        |segment: &str| !segment.is_empty() && PathPart::from(segment).as_ref() == segment && !segment.contains(':');
    if path.is_empty() || path.split('/').all(plain) {
        return Path::parse(path).map_err(|_| invalid("The path of the uri is not valid."));
    }
    Err(invalid(
        "The path of the uri has an empty part, '.', '..', or a character that object stores advise against. Use letters, \
         digits, '-', '_' and '.' between slashes.",
    ))
}

fn invalid(message: &str) -> ObjectError {
    ObjectError::Invalid(message.to_owned())
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreKind::FileSystem => "FILESYSTEM",
            StoreKind::S3 => "S3",
            StoreKind::Gcs => "GCS",
            StoreKind::Azure => "AZURE",
        })
    }
}

#[cfg(test)]
mod tests;
