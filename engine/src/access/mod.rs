//! Who calls, and what the caller may do.

mod caller;
mod policy;

pub use caller::{Caller, Role, UnknownRole};
pub(crate) use policy::{may_see_table, may_use_table, require_definer, require_operator};
