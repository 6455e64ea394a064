//! Users and API keys as protobuf.

use kalamdb_engine::{ApiKeyInfo, Error, Password, Reason, Role, User, UserPatch};
use kalamdb_proto::v1;

use super::{jobs::unknown, to_timestamp};

/// A user.
pub(crate) fn to_user(user: &User) -> v1::User {
    v1::User {
        user_id: user.user_id.as_str().to_owned(),
        username: user.username.clone(),
        role: to_role(user.role).into(),
        permissions: user.permissions.clone(),
        metadata: user.metadata.clone(),
        disabled: user.disabled,
        has_password: user.has_password,
        created_at: Some(to_timestamp(user.created_at_us)),
        updated_at: Some(to_timestamp(user.updated_at_us)),
        last_login_at: user.last_login_us.map(to_timestamp),
    }
}

/// An API key, without its secret.
pub(crate) fn to_api_key(key: ApiKeyInfo) -> v1::ApiKey {
    v1::ApiKey {
        key_id: key.key_id,
        user_id: key.user_id.as_str().to_owned(),
        name: key.name.unwrap_or_default(),
        created_at: Some(to_timestamp(key.created_at_us)),
        expires_at: key.expires_at_us.map(to_timestamp),
        last_used_at: key.last_used_us.map(to_timestamp),
    }
}

/// A role; `None` when it is not said.
///
/// # Errors
/// INVALID_REQUEST for a number that is no role.
pub(crate) fn from_role(number: i32) -> Result<Option<Role>, Error> {
    Ok(match v1::UserRole::try_from(number).map_err(|_| unknown("role", "UserRole", number))? {
        v1::UserRole::Unspecified => None,
        v1::UserRole::User => Some(Role::User),
        v1::UserRole::Service => Some(Role::Service),
        v1::UserRole::Dba => Some(Role::Dba),
        v1::UserRole::System => Some(Role::System),
    })
}

/// What is to change of a user; an empty password, and empty metadata, are none.
///
/// # Errors
/// INVALID_REQUEST when nothing is.
pub(crate) fn to_user_patch(request: v1::AlterUserRequest) -> Result<UserPatch, Error> {
    let v1::AlterUserRequest { user: _, username, role, password, permissions, metadata, disabled } = request;
    let patch = UserPatch {
        username,
        role: from_role(role)?,
        password: password.map(|password| (!password.is_empty()).then(|| Password::new(password))),
        permissions: permissions.map(|permissions| permissions.rules),
        metadata: metadata.map(|metadata| (!metadata.is_empty()).then_some(metadata)),
        disabled,
    };
    if patch.is_empty() {
        return Err(Error::new(Reason::InvalidRequest, "The request says nothing that is to change of the user."));
    }
    Ok(patch)
}

fn to_role(role: Role) -> v1::UserRole {
    match role {
        Role::User => v1::UserRole::User,
        Role::Service => v1::UserRole::Service,
        Role::Dba => v1::UserRole::Dba,
        Role::System => v1::UserRole::System,
    }
}
