//! The identity a statement runs with.

use std::{fmt, net::IpAddr, str::FromStr};

use kalamdb_store::ids::UserId;

use super::ActsFor;

/// What a caller may do, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Its own partitions, and SHARED tables as their access allows.
    User,
    /// Acts for users and reads across users.
    Service,
    /// All DDL, storages, users below it, jobs.
    Dba,
    /// Everything.
    System,
}

/// A text that names no [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role; roles are user, service, dba and system")]
pub struct UnknownRole(String);

impl Role {
    /// Every role, from least to most.
    pub const ALL: [Role; 4] = [Role::User, Role::Service, Role::Dba, Role::System];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Dba => "dba",
            Role::System => "system",
        }
    }

    /// Whether it may act for users and read across users.
    pub fn crosses_users(self) -> bool {
        self >= Role::Service
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// An authenticated caller, and the user it acts for.
///
/// ```
/// use kalamdb_engine::{Caller, Role, UserId};
///
/// let service = Caller::new(UserId::new("bot").unwrap(), Role::Service).acting_as(UserId::new("alice").unwrap());
/// assert_eq!(service.effective_user().as_str(), "alice");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who authenticated.
    pub user_id: UserId,
    /// Its role.
    pub role: Role,
    /// The user it acts for. Whoever makes a `Caller` has checked that it may.
    pub acting_as: Option<UserId>,
    /// Whose rows it may write in one call beside its own, if its role lets it.
    pub acts_for: ActsFor,
    /// The address it calls from, for `system.audit`; `None`: from within the process.
    pub address: Option<IpAddr>,
}

impl Caller {
    /// A caller that acts for itself.
    pub fn new(user_id: UserId, role: Role) -> Self {
        Self { user_id, role, acting_as: None, acts_for: ActsFor::Anyone, address: None }
    }

    /// The same caller acting for `user`.
    #[must_use]
    pub fn acting_as(mut self, user: UserId) -> Self {
        self.acting_as = Some(user);
        self
    }

    /// The same caller, that may act for these only.
    #[must_use]
    pub fn acting_only_for(mut self, users: ActsFor) -> Self {
        self.acts_for = users;
        self
    }

    /// The same caller, known to call from `address`.
    #[must_use]
    pub fn calling_from(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical());
        self
    }

    /// The user whose partitions the caller's statements mean, and CURRENT_USER().
    pub fn effective_user(&self) -> &UserId {
        self.acting_as.as_ref().unwrap_or(&self.user_id)
    }
}
