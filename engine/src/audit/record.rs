//! What a record of the audit says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    access::{Caller, StatementKind},
    error::Error,
};

/// The most bytes of a statement's text that are kept.
const MAX_STATEMENT_BYTES: usize = 1_000;
/// The most bytes of a name: a caller can ask for things with names of any length.
const MAX_OBJECT_BYTES: usize = 400;

/// Where a record is kept. Each shelf is bounded by itself: what anybody can cause must not displace what operators did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shelf {
    /// What those did who may, and tried in vain.
    Administration,
    /// Refusals, and who acted for whom.
    Notices,
}

impl Shelf {
    pub(super) const ALL: [Shelf; 2] = [Shelf::Administration, Shelf::Notices];

    /// Its byte in keys.
    pub(super) fn byte(self) -> u8 {
        match self {
            Shelf::Administration => 1,
            Shelf::Notices => 2,
        }
    }
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was done, and is durable.
    Done,
    /// It was not done, for the reason of the record.
    Failed,
    /// The caller may not do it.
    Refused,
    /// Nobody waited for its end: it can have been done or not.
    Abandoned,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Abandoned => "abandoned",
        }
    }
}

/// What somebody does: of a record all but the outcome. It has no secret: no value of a parameter, and no text of a
/// statement that has one.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    action: String,
    object: Option<String>,
    statement: Option<String>,
}

impl Act {
    /// The thing that a kind of statement does, done to `object` by a call of the API.
    pub(crate) fn new(kind: StatementKind, object: impl Into<String>) -> Self {
        Self::named(kind.as_sql(), Some(object.into()))
    }

    pub(super) fn named(action: &str, object: Option<String>) -> Self {
        let object = object.map(|object| shortened(&object, MAX_OBJECT_BYTES));
        Self { action: action.to_owned(), object, statement: None }
    }

    /// The same, as this text said it. The text must have no secrets.
    pub(super) fn said(mut self, statement: &Arc<str>) -> Self {
        self.statement = Some(shortened(statement, MAX_STATEMENT_BYTES));
        self
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditRecord {
    pub(crate) at_us: i64,
    pub(crate) user_id: String,
    pub(crate) role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) acting_as: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    pub(crate) action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) statement: Option<String>,
    pub(crate) outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl AuditRecord {
    pub(super) fn new(at_us: i64, caller: &Caller, act: Act, outcome: Outcome, error: Option<&Error>) -> Self {
        let Act { action, object, statement } = act;
        Self {
            at_us,
            user_id: caller.user_id.to_string(),
            role: caller.role.to_string(),
            acting_as: caller.acting_as.as_ref().map(ToString::to_string),
            address: caller.address.map(|address| address.to_string()),
            action,
            object,
            statement,
            outcome,
            // Not the message, which may quote what the caller wrote.
            reason: error.map(|error| error.reason().as_str().to_owned()),
        }
    }
}

fn shortened(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most_bytes)])
}
