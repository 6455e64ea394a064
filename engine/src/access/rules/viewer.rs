//! A caller, and the tables and rows that it may see.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kalamdb_store::ids::UserId;

use super::{RowRule, RowRules, RuleSet, Said};
use crate::{
    access::{Caller, Role},
    catalog::Table,
    error::Result,
    sql::Access,
    users::Users,
};

/// Where the rules of users come from.
pub(crate) trait RuleSource: Send + Sync {
    /// The rules of a user as they are now; `None`: there is no such user.
    fn rules_of(&self, user: &UserId) -> Result<Option<Arc<RuleSet>>>;
}

impl RuleSource for Users {
    fn rules_of(&self, user: &UserId) -> Result<Option<Arc<RuleSet>>> {
        Ok(self.find(user)?.map(|user| Arc::clone(&user.rules)))
    }
}

/// What there is to see of a SHARED table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visible {
    /// Not even that it exists.
    Nothing,
    /// All of it.
    Everything,
    /// The rows that fulfil a condition.
    Rows(Arc<RowRule>),
}

/// A caller with its rules, which are read when a restricted table is met for the first time and stay the same from then
/// on: a statement is under one state of its caller's rules.
#[derive(Clone)]
pub(crate) struct Viewer {
    caller: Caller,
    source: Arc<dyn RuleSource>,
    compiled: Arc<RowRules>,
    own: OnceLock<Arc<RuleSet>>,
}

impl Viewer {
    pub(crate) fn new(caller: Caller, source: Arc<dyn RuleSource>, compiled: Arc<RowRules>) -> Self {
        Self { caller, source, compiled, own: OnceLock::new() }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it sees of a SHARED table.
    ///
    /// # Errors
    /// Those of reading its rules.
    pub(crate) fn sees(&self, table: &Table) -> Result<Visible> {
        match table.access() {
            Access::Public => Ok(Visible::Everything),
            _ if self.caller.role > Role::User => Ok(Visible::Everything),
            Access::Private => Ok(Visible::Nothing),
            Access::Restricted => match self.own_rules()?.says_of(table.namespace().as_str(), table.name().as_str()) {
                Said::Nothing => Ok(Visible::Nothing),
                Said::Everything => Ok(Visible::Everything),
                Said::Conditions(rules) => {
                    Ok(self.compiled.compiled(rules, table)?.map_or(Visible::Nothing, Visible::Rows))
                }
            },
        }
    }

    fn own_rules(&self) -> Result<&Arc<RuleSet>> {
        if let Some(known) = self.own.get() {
            return Ok(known);
        }
        // Those of who calls: a user can act for nobody else.
        let rules = self.source.rules_of(&self.caller.user_id)?.unwrap_or_default();
        Ok(self.own.get_or_init(|| rules))
    }
}

impl Visible {
    /// The condition on rows, if there is one.
    pub(crate) fn rule(&self) -> Option<&Arc<RowRule>> {
        match self {
            Visible::Rows(rule) => Some(rule),
            Visible::Nothing | Visible::Everything => None,
        }
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").field("caller", &self.caller).finish_non_exhaustive()
    }
}
