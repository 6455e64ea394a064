//! Row rules: which rows of restricted SHARED tables a plain user sees, and which it may write.
//!
//! A user's `permissions` are texts, each a rule. Rules for one table combine by OR:
//!
//! ```text
//! *                                          every table
//! shop.*          shop.*.*                   every table of a namespace
//! shop.orders     shop.orders.*              all rows of a table
//! shop.orders.owner = CURRENT_USER()         the rows of a table for which the condition holds
//! shop.orders.region IN ('eu', 'us')         <> < <= > >= [NOT] IN, IS [NOT] NULL; constants or CURRENT_USER()
//! ```
//!
//! | step | when | where |
//! | --- | --- | --- |
//! | parse | once for each record of a user | [`parse`] |
//! | check against the catalog | when permissions are written | [`check`] |
//! | compile to a condition over rows | once for each schema version of a table and text of its rules | [`compile`] |
//! | resolve for a caller and a table | for each statement that names a restricted table | [`viewer`] |
//!
//! A rule names tables and columns, it does not hold on to them: after one was dropped or renamed, or took another
//! type, a rule that named it matches nothing.

mod check;
mod compile;
mod parse;
mod viewer;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use compile::{RowRule, RowRules};
pub(crate) use viewer::{RuleSource, Viewer, Visible};

use crate::{
    catalog::CatalogState,
    error::{Error, Reason, Result},
};
use parse::{Condition, Rule, Target};

/// The most rules that a user can have.
const MAX_RULES: usize = 1_000;

/// The rules of a user, read from its permissions.
///
/// ```
/// use kalamdb_engine::RuleSet;
///
/// let rules = RuleSet::parse(&["shop.orders.owner = CURRENT_USER()".to_owned()]).unwrap();
/// assert!(!rules.is_empty());
/// let error = RuleSet::parse(&["shop.orders.owner = = 1".to_owned()]).unwrap_err();
/// assert!(error.message().contains("column 21"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    everything: bool,
    namespaces: BTreeMap<String, NamespaceRules>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct NamespaceRules {
    everything: bool,
    tables: BTreeMap<String, TableRules>,
}

/// The rules for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TableRules {
    everything: bool,
    conditions: Vec<Condition>,
    /// The conditions as one text, the same for the same conditions in any order: what tells rules of users apart.
    text: Arc<str>,
}

/// What a set of rules says of a table.
#[derive(Debug)]
enum Said<'r> {
    Nothing,
    Everything,
    Conditions(&'r TableRules),
}

impl RuleSet {
    /// Reads permissions. Whether what they name exists is not looked at.
    ///
    /// # Errors
    /// SYNTAX_ERROR and NOT_SUPPORTED with the rule's number and the position in it; INVALID_REQUEST beyond the most rules.
    pub fn parse(permissions: &[String]) -> Result<Self> {
        check_count(permissions)?;
        let mut set = Self::default();
        for (index, text) in permissions.iter().enumerate() {
            set.add(parse::rule(text).map_err(|wrong| wrong.of_rule(index, text))?);
        }
        Ok(set.finished())
    }

    /// Reads permissions that are about to be stored: all that they name must exist, and constants must be of their
    /// columns' types.
    ///
    /// # Errors
    /// As [`RuleSet::parse`]; NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND and COLUMN_NOT_FOUND with the nearest name,
    /// INVALID_VALUE for a constant, INVALID_REQUEST for a table that takes no rules. All with the rule's number and the
    /// position in it.
    pub(crate) fn checked(permissions: &[String], catalog: &CatalogState) -> Result<Self> {
        check_count(permissions)?;
        let mut set = Self::default();
        for (index, text) in permissions.iter().enumerate() {
            let rule = parse::rule(text).and_then(|rule| check::rule(&rule, catalog).map(|()| rule));
            set.add(rule.map_err(|wrong| wrong.of_rule(index, text))?);
        }
        Ok(set.finished())
    }

    /// Reads stored permissions. One that cannot be read, because another version of KalamDB wrote it, matches nothing.
    pub(crate) fn stored(permissions: &[String]) -> Self {
        let mut set = Self::default();
        for (index, text) in permissions.iter().enumerate() {
            match parse::rule(text) {
                Ok(rule) => set.add(rule),
                Err(wrong) => {
                    let error = wrong.of_rule(index, text);
                    tracing::warn!(%error, "a stored rule cannot be read, and matches nothing");
                }
            }
        }
        set.finished()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.namespaces.is_empty()
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn byte_size(&self) -> usize {
        let tables = |namespace: &NamespaceRules| {
            let of_table = |(name, rules): (&String, &TableRules)| {
                size_of::<TableRules>()
                    + name.len()
                    + rules.text.len() * 4
                    + rules.conditions.len() * size_of::<Condition>()
            };
            namespace.tables.iter().map(of_table).sum::<usize>()
        };
        self.namespaces.iter().map(|(name, rules)| size_of::<NamespaceRules>() + name.len() + tables(rules)).sum()
    }

    fn add(&mut self, rule: Rule) {
        match rule.target {
            Target::Everything => self.everything = true,
            Target::Namespace(namespace) => self.namespaces.entry(namespace.text).or_default().everything = true,
            Target::Table { namespace, table } => self.table(namespace.text, table.text).everything = true,
            Target::Rows { namespace, table, condition } => {
                let rules = self.table(namespace.text, table.text);
                rules.conditions.push(condition);
            }
        }
    }

    fn table(&mut self, namespace: String, table: String) -> &mut TableRules {
        self.namespaces.entry(namespace).or_default().tables.entry(table).or_default()
    }

    fn finished(mut self) -> Self {
        for rules in self.namespaces.values_mut().flat_map(|namespace| namespace.tables.values_mut()) {
            let mut texts: Vec<String> = rules.conditions.iter().map(ToString::to_string).collect();
            texts.sort_unstable();
            texts.dedup();
            rules.text = texts.join(" OR ").into();
        }
        self
    }

    fn says_of(&self, namespace: &str, table: &str) -> Said<'_> {
        if self.everything {
            return Said::Everything;
        }
        let Some(rules) = self.namespaces.get(namespace) else { return Said::Nothing };
        if rules.everything {
            return Said::Everything;
        }
        match rules.tables.get(table) {
            None => Said::Nothing,
            Some(rules) if rules.everything => Said::Everything,
            Some(rules) => Said::Conditions(rules),
        }
    }
}

fn check_count(permissions: &[String]) -> Result<()> {
    if permissions.len() <= MAX_RULES {
        return Ok(());
    }
    let message = format!(
        "{} permissions were given; a user can have {MAX_RULES} at most. Grant by patterns, or by a column that says who \
         may see a row.",
        permissions.len()
    );
    Err(Error::new(Reason::InvalidRequest, message))
}
