//! Path templates: in which folder of a storage the segments of a partition are.
//!
//! ```text
//! {storageLocation}            the storage's root; at the beginning only, and the same without it
//! {namespace} {tableName}      names of the table
//! {userId}                     the owner; ${user_id} is the same. USER tables must have it, SHARED tables cannot
//! {shard}                      a to z, or "other": the first letter of the user id (of SHARED tables: of their name)
//! {shard:hash(n)}              0 to n - 1: the first 8 bytes of the SHA-256 of that text, big endian, modulo n
//! ```
//!
//! Values stand in their [`encode`]d form, so that none leaves its folder. `{userId}` and `{shard}` are each alone with
//! fixed text between two slashes, so that two users of a table never share a folder.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::encoding::{MAX_ENCODED_BYTES, encode, stable_hash};

/// The default of USER tables.
pub const USER_TEMPLATE: &str = "{namespace}/users/{userId}/{tableName}";
/// The default of SHARED tables.
pub const SHARED_TEMPLATE: &str = "{namespace}/{tableName}";

/// The most bytes of a folder's name, in file systems.
const MAX_FOLDER_BYTES: usize = 255;
/// The most bytes of a path below the storage's root. Object stores allow 1,024 with that and the file's name.
const MAX_PATH_BYTES: usize = 700;
/// The longest name of a namespace or table, with its first character escaped.
const MAX_NAME_BYTES: usize = 65;
const MAX_SHARDS: u32 = 100_000;

/// A checked template, relative to the root of a storage. It displays as its text.
///
/// ```
/// use kalamdb_store::object::{PathNames, PathTemplate};
///
/// let template = PathTemplate::parse("{storageLocation}/{shard}/{userId}/{tableName}/", true)?;
/// let names = PathNames { namespace: "chat", table: "messages", user: Some("ana@example.com") };
/// assert_eq!(template.expand(&names), "a/ana!40example.com/messages");
/// # Ok::<(), kalamdb_store::object::TemplateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    folders: Vec<Vec<Piece>>,
}

/// What the variables of a template stand for.
#[derive(Debug, Clone, Copy)]
pub struct PathNames<'a> {
    /// The table's namespace.
    pub namespace: &'a str,
    /// The table's name, without its namespace.
    pub table: &'a str,
    /// The owner of the rows; `None` for SHARED tables.
    pub user: Option<&'a str>,
}

/// Why a text is no template. Whole sentences, for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A variable that does not exist.
    #[error(
        "The path template has the variable {{{name}}}, which does not exist.{hint} Variables are {variables}.",
        hint = did_you_mean(*nearest),
        variables = VARIABLES
    )]
    UnknownVariable {
        /// What is between the braces.
        name: String,
        /// The variable it is probably a slip of.
        nearest: Option<&'static str>,
    },
    /// Anything else.
    #[error("{0}")]
    Invalid(String),
}

/// How the partitions of a table are spread over folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shards {
    /// By the first letter: `a` to `z`, and `other`.
    Alphabetic,
    /// Over this many, by a stable hash.
    Hash(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Namespace,
    Table,
    User,
    Shard(Shards),
}

const VARIABLES: &str = "{storageLocation}, {namespace}, {tableName}, {userId}, {shard} and {shard:hash(n)}";
const VARIABLE_NAMES: [&str; 6] = ["storageLocation", "namespace", "tableName", "userId", "user_id", "shard"];
const STORAGE_LOCATION: &str = "{storageLocation}";

impl PathTemplate {
    /// Checks a template of a table with (`per_user`) or without partitions of users. One slash at its end changes
    /// nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, per_user: bool) -> Result<Self, TemplateError> {
        let relative = match text.strip_prefix('$').unwrap_or(text).strip_prefix(STORAGE_LOCATION) {
            Some(rest) if rest.is_empty() => rest,
            Some(rest) => rest.strip_prefix('/').ok_or_else(|| {
                invalid("A slash must follow {storageLocation}, as in {storageLocation}/{namespace}/{tableName}.")
            })?,
            None => text,
        };
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        if relative.is_empty() {
            return Err(invalid("The path template names no folder. Write for example {namespace}/{tableName}."));
        }
        if relative.starts_with('/') {
            return Err(invalid(
                "The path template begins with a slash or has two in a row. It is relative to the storage's root: begin \
                 with a folder's name or with {storageLocation}/.",
            ));
        }
        let folders = relative.split('/').map(folder).collect::<Result<Vec<_>, _>>()?;
        let template = Self { folders };
        let has_user = template.pieces().any(|piece| *piece == Piece::User);
        if per_user && !has_user {
            return Err(invalid(
                "The path template of a USER table needs {userId}: each user's rows have a folder of their own. Write for \
                 example {namespace}/users/{userId}/{tableName}.",
            ));
        }
        if !per_user && has_user {
            return Err(invalid("A SHARED table has no users: leave {userId} out of its path template."));
        }
        let longest: usize = template.folders.iter().map(|pieces| longest_name(pieces) + 1).sum();
        if longest > MAX_PATH_BYTES {
            return Err(invalid(&format!(
                "Paths of this template can have {longest} bytes; the most is {MAX_PATH_BYTES}. Shorten it."
            )));
        }
        Ok(template)
    }

    /// The default of tables with (`per_user`) or without partitions of users.
    pub fn default_of(per_user: bool) -> Self {
        let text = |text: &str| Piece::Text(text.to_owned());
        let folders = if per_user {
            vec![vec![Piece::Namespace], vec![text("users")], vec![Piece::User], vec![Piece::Table]]
        } else {
            vec![vec![Piece::Namespace], vec![Piece::Table]]
        };
        Self { folders }
    }

    /// The folder of a partition, relative to the storage's root, without a slash at either end.
    pub fn expand(&self, names: &PathNames<'_>) -> String {
        let mut path = String::new();
        for (i, pieces) in self.folders.iter().enumerate() {
            if i > 0 {
                path.push('/');
            }
            for piece in pieces {
                match piece {
                    Piece::Text(text) => path.push_str(text),
                    Piece::Namespace => path.push_str(&encode(names.namespace)),
                    Piece::Table => path.push_str(&encode(names.table)),
                    Piece::User => path.push_str(&encode(names.user.unwrap_or_default())),
                    Piece::Shard(shards) => path.push_str(&shards.of(names.user.unwrap_or(names.table))),
                }
            }
        }
        path
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.folders.iter().flatten()
    }
}

impl Shards {
    /// The shard of a text.
    fn of(self, text: &str) -> String {
        match self {
            Shards::Alphabetic => match text.bytes().next().map(|first| first.to_ascii_lowercase()) {
                Some(letter @ b'a'..=b'z') => char::from(letter).to_string(),
                _ => "other".to_owned(),
            },
            Shards::Hash(n) => (stable_hash(text) % u64::from(n.max(1))).to_string(),
        }
    }

    fn max_bytes(self) -> usize {
        match self {
            Shards::Alphabetic => "other".len(),
            Shards::Hash(n) => n.to_string().len(),
        }
    }
}

impl FromStr for Shards {
    type Err = TemplateError;

    /// `alphabetic`, or `hash(n)`.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text == "alphabetic" {
            return Ok(Shards::Alphabetic);
        }
        text.strip_prefix("hash(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|n| n.parse().ok())
            .filter(|n| (1..=MAX_SHARDS).contains(n))
            .map(Shards::Hash)
            .ok_or_else(|| {
                invalid(&format!(
                    "Shards are alphabetic or hash(n) with n from 1 to {MAX_SHARDS}, as in {{shard:hash(64)}}; not '{}'.",
                    shown(text)
                ))
            })
    }
}

/// Reads what stands between two slashes.
fn folder(text: &str) -> Result<Vec<Piece>, TemplateError> {
    if text.is_empty() {
        return Err(invalid("The path template has two slashes in a row."));
    }
    if text.starts_with('.') || text.ends_with('.') {
        return Err(invalid(&format!(
            "The folder '{}' of the path template begins or ends with a dot, which is not allowed.",
            shown(text)
        )));
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| invalid("A { of the path template is not closed."))?;
        push_text(&mut pieces, before.strip_suffix('$').unwrap_or(before))?;
        pieces.push(variable(name)?);
        rest = after;
    }
    push_text(&mut pieces, rest)?;
    let variables = || pieces.iter().filter(|piece| !matches!(piece, Piece::Text(_)));
    if variables().count() > 1 && variables().any(|piece| matches!(piece, Piece::User | Piece::Shard(_))) {
        return Err(invalid(
            "{userId} and {shard} each need a folder of their own in the path template: put a slash between them and other \
             variables.",
        ));
    }
    let longest = longest_name(&pieces);
    if longest > MAX_FOLDER_BYTES {
        return Err(invalid(&format!(
            "The folder '{}' of the path template can have a name of {longest} bytes; the most is {MAX_FOLDER_BYTES}.",
            shown(text)
        )));
    }
    Ok(pieces)
}

fn variable(name: &str) -> Result<Piece, TemplateError> {
    match name {
        "namespace" => Ok(Piece::Namespace),
        "tableName" => Ok(Piece::Table),
        "userId" | "user_id" => Ok(Piece::User),
        "shard" => Ok(Piece::Shard(Shards::Alphabetic)),
        "storageLocation" => Err(invalid("{storageLocation} can stand only at the beginning of a path template.")),
        _ => match name.strip_prefix("shard:") {
            Some(shards) => shards.parse().map(Piece::Shard),
            None => Err(TemplateError::UnknownVariable { name: shown(name), nearest: nearest(name) }),
        },
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) -> Result<(), TemplateError> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.=".contains(*c);
    if let Some(bad) = text.chars().find(|c| !allowed(c)) {
        return Err(invalid(&format!(
            "The path template has the character {bad:?}. Beside variables it can have letters, digits and - _ . = between \
             slashes."
        )));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(())
}

fn longest_name(pieces: &[Piece]) -> usize {
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.len(),
        Piece::Namespace | Piece::Table => MAX_NAME_BYTES,
        Piece::User => MAX_ENCODED_BYTES,
        Piece::Shard(shards) => shards.max_bytes(),
    });
    bytes.sum()
}

fn nearest(name: &str) -> Option<&'static str> {
    VARIABLE_NAMES
        .into_iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" Did you mean {{{name}}}?")).unwrap_or_default()
}

/// A part of what was written, short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn invalid(message: &str) -> TemplateError {
    TemplateError::Invalid(message.to_owned())
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pieces) in self.folders.iter().enumerate() {
            if i > 0 {
                f.write_char('/')?;
            }
            for piece in pieces {
                match piece {
                    Piece::Text(text) => f.write_str(text)?,
                    Piece::Namespace => f.write_str("{namespace}")?,
                    Piece::Table => f.write_str("{tableName}")?,
                    Piece::User => f.write_str("{userId}")?,
                    Piece::Shard(Shards::Alphabetic) => f.write_str("{shard}")?,
                    Piece::Shard(Shards::Hash(n)) => write!(f, "{{shard:hash({n})}}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
