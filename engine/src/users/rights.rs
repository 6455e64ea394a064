//! Who may administer whom: system everyone, dba the users of roles below its own.

use kalamdb_store::ids::UserId;

use super::User;
use crate::{
    access::{Caller, Role},
    error::{Error, Reason, Result},
};

/// The user that something is done to, and the highest role that it has before or after.
pub(super) struct Administered<'a> {
    user: &'a UserId,
    role: Role,
    /// The role that it is to have.
    wanted: Option<Role>,
}

impl<'a> Administered<'a> {
    /// A user whose role stays.
    pub(super) fn existing(user: &'a UserId, role: Role) -> Self {
        Self { user, role, wanted: None }
    }

    /// A user that is given a role.
    pub(super) fn given(user: &'a UserId, role: Role, wanted: Role) -> Self {
        Self { user, role, wanted: Some(wanted) }
    }
}

/// Checks that a caller may do something to a user.
///
/// # Errors
/// PERMISSION_DENIED.
pub(super) fn may_administer(caller: &Caller, target: &Administered<'_>, what: &str) -> Result<()> {
    let denied =
        |message: String| Err(Error::new(Reason::PermissionDenied, message).with("user_id", target.user.as_str()));
    match caller.role {
        Role::System => Ok(()),
        Role::Dba if target.role >= Role::Dba => denied(format!(
            "{what} of a user with role {} needs role system: role dba administers users with roles user and service.",
            target.role
        )),
        Role::Dba => match target.wanted {
            Some(wanted) if wanted >= Role::Dba => {
                denied(format!("Giving role {wanted} needs role system: role dba gives roles user and service."))
            }
            _ => Ok(()),
        },
        Role::User | Role::Service => {
            denied(format!("{what} needs role dba or system; the caller's role is {}.", caller.role))
        }
    }
}

/// Whether a caller may know of a user: of itself, and of those that it may administer or act for.
pub(super) fn may_see(caller: &Caller, user: &UserId, role: Role) -> bool {
    match caller.role {
        Role::System | Role::Dba => true,
        Role::Service => caller.user_id == *user || role <= Role::Service,
        Role::User => caller.user_id == *user,
    }
}

/// The exact words are part of the interface.
pub(super) fn no_such_user(user: &str) -> Error {
    let shown: String = user.chars().take(UserId::MAX_CHARS).collect();
    Error::new(Reason::UserNotFound, format!("User with user_id '{shown}' not found")).with("user_id", shown)
}

/// The exact words are part of the interface.
pub(super) fn user_exists(user: &UserId) -> Error {
    Error::new(Reason::UserExists, format!("User with user_id '{user}' already exists")).with("user_id", user.as_str())
}

pub(super) fn disabled(user: &User) -> Error {
    Error::new(Reason::UserDisabled, "The user is disabled. An administrator can enable it.")
        .with("user_id", user.user_id.as_str())
}
