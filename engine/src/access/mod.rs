//! Who calls, and what the caller may do.

mod acting;
mod caller;
mod matrix;
mod policy;
mod rules;

pub use acting::{ActsFor, may_act_for};
pub use caller::{Caller, Role, UnknownRole};
pub use matrix::{Grant, Rights, SYSTEM_TABLES, StatementKind, SystemTableRights};
pub(crate) use matrix::{may_read_system_table, may_run, may_write_system_table, sees_all_of};
pub(crate) use policy::{counts_hidden_rows, may_see_table, may_use_table};
pub use rules::RuleSet;
pub(crate) use rules::{RowRule, RowRules, RuleSource, Viewer, Visible};
