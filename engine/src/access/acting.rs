//! Acting for another user: who may be acted for, in the name of a call as in the rows of an ingest.

use std::sync::Arc;

use kalamdb_store::ids::UserId;

use super::Caller;
use crate::{
    error::{Error, Reason, Result},
    users::{User, Users},
};

/// Whom a caller may act for, if its role lets it act for others at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActsFor {
    /// Whoever it names: so it is for those that are no users themselves.
    #[default]
    Anyone,
    /// Users whose role is not above its own and that are not disabled.
    Users {
        /// Whether also ids that are no user's.
        or_unknown: bool,
    },
}

/// Checks that a caller may act for somebody else; answers the user if it is known here.
///
/// # Errors
/// PERMISSION_DENIED, USER_NOT_FOUND; those of the store.
pub fn may_act_for(users: &Users, caller: &Caller, user: &UserId) -> Result<Option<Arc<User>>> {
    let denied = |message: String| Err(Error::new(Reason::PermissionDenied, message).with("user_id", user.as_str()));
    if !caller.role.crosses_users() {
        return denied("Only roles service, dba and system may act for another user.".to_owned());
    }
    let ActsFor::Users { or_unknown } = caller.acts_for else { return Ok(None) };
    match users.find(user)? {
        Some(target) if target.disabled => {
            denied(format!("User '{user}' is disabled; nobody can act for it.", user = user.as_str()))
        }
        Some(target) if target.role > caller.role => denied(format!(
            "User '{}' has role {}, which is above the caller's role, {}: the caller cannot act for it.",
            user.as_str(),
            target.role,
            caller.role
        )),
        Some(target) => Ok(Some(target)),
        None if or_unknown => Ok(None),
        None => {
            let message = format!(
                "User with user_id '{}' not found. Only users of this server can be acted for, unless auth.unknown_users \
                 is accept.",
                user.as_str()
            );
            Err(Error::new(Reason::UserNotFound, message).with("user_id", user.as_str()))
        }
    }
}
