//! What a user may be made of.

use kalamdb_store::ids::UserId;
use serde::de::IgnoredAny;

use super::Users;
use crate::{
    access::RuleSet,
    error::{Error, Reason, Result},
};

const MAX_METADATA_BYTES: usize = 64 * 1024;
const MAX_PERMISSION_BYTES: usize = 4 * 1024;

/// Checks a username: 1 to 256 characters, none a control character.
///
/// # Errors
/// INVALID_USER.
pub(super) fn username(username: &str) -> Result<()> {
    let problem = if username.is_empty() {
        "is empty"
    } else if username.chars().nth(UserId::MAX_CHARS).is_some() {
        "has more than 256 characters"
    } else if username.chars().any(char::is_control) {
        "has a control character in it"
    } else if username.trim() != username {
        "begins or ends with a space"
    } else {
        return Ok(());
    };
    Err(invalid("username", format!("The username {problem}.")))
}

/// Checks that metadata are JSON.
///
/// # Errors
/// INVALID_USER, with the place where they are not.
pub(super) fn metadata(metadata: Option<&str>) -> Result<()> {
    let Some(text) = metadata else { return Ok(()) };
    if text.len() > MAX_METADATA_BYTES {
        return Err(invalid("metadata", format!("The metadata have more than {MAX_METADATA_BYTES} bytes.")));
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(e) => {
            let (line, column) = (e.line(), e.column());
            let text = e.to_string();
            let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
            let message = format!("The metadata are not JSON: {what}, at line {line}, column {column} of the value.");
            Err(invalid("metadata", message)
                .with("json_line", line.to_string())
                .with("json_column", column.to_string()))
        }
    }
}

impl Users {
    /// Checks that permissions are rules on tables and columns that exist.
    ///
    /// # Errors
    /// INVALID_USER for one that is too long, and what the parser of rules says.
    pub(super) fn check_permissions(&self, permissions: &[String]) -> Result<()> {
        if permissions.iter().any(|rule| rule.len() > MAX_PERMISSION_BYTES) {
            let message = format!("A permission has more than {MAX_PERMISSION_BYTES} bytes.");
            return Err(invalid("permissions", message));
        }
        RuleSet::checked(permissions, &self.catalog.state()).map(drop)
    }
}

pub(super) fn invalid(column: &str, message: impl Into<String>) -> Error {
    Error::new(Reason::InvalidUser, message).with("column", column)
}
