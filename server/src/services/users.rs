//! The calls of `AdminService` about users and API keys.

use kalamdb_engine::{ApiKeyInfo, Error, NewUser, Password, Reason, Session, UserId};
use kalamdb_proto::v1::{
    AlterUserRequest, AlterUserResponse, CreateApiKeyRequest, CreateApiKeyResponse, CreateUserRequest,
    CreateUserResponse, DropUserRequest, DropUserResponse, GetUserRequest, GetUserResponse, ListApiKeysRequest,
    ListApiKeysResponse, ListUsersRequest, ListUsersResponse, RevokeApiKeyRequest, RevokeApiKeyResponse,
};

use super::page::{page, page_of};
use crate::convert::{from_role, from_timestamp, to_api_key, to_user, to_user_patch};

pub(super) async fn list_users(session: Session, request: ListUsersRequest) -> Result<ListUsersResponse, Error> {
    let ListUsersRequest { username_prefix, page_size, page_token } = request;
    let after = (!page_token.is_empty()).then_some(page_token.as_str());
    let found = session.users(&username_prefix, after, page_of(page_size)?)?;
    Ok(ListUsersResponse {
        users: found.users.iter().map(|user| to_user(user)).collect(),
        next_page_token: found.next_after.unwrap_or_default(),
    })
}

pub(super) async fn get_user(session: Session, request: GetUserRequest) -> Result<GetUserResponse, Error> {
    Ok(GetUserResponse { user: Some(to_user(session.user(&request.user)?.as_ref())) })
}

pub(super) async fn create_user(session: Session, request: CreateUserRequest) -> Result<CreateUserResponse, Error> {
    let CreateUserRequest { username, user_id, role, password, permissions, metadata, disabled, if_not_exists } =
        request;
    let plain = NewUser::named(username.as_str());
    let given_id = match user_id.as_str() {
        "" => None,
        id => Some(UserId::new(id).map_err(|e| {
            Error::new(Reason::InvalidUser, format!("user_id cannot be used: {e}.")).with("column", "user_id")
        })?),
    };
    let new = NewUser {
        user_id: given_id,
        role: from_role(role)?.unwrap_or(plain.role),
        password: (!password.is_empty()).then(|| Password::new(password)),
        permissions,
        metadata,
        disabled,
        ..plain
    };
    let created = session.create_user(new, if_not_exists).await?;
    // One that existed can have the id, and another name.
    let user = session.user(&username).or_else(|error| match user_id.as_str() {
        "" => Err(error),
        id => session.user(id),
    })?;
    Ok(CreateUserResponse { user: Some(to_user(&user)), created })
}

pub(super) async fn alter_user(session: Session, request: AlterUserRequest) -> Result<AlterUserResponse, Error> {
    // Its name may be among what changes; its id is not.
    let user_id = session.user(&request.user)?.user_id.clone();
    let name = request.user.clone();
    session.alter_user(&name, to_user_patch(request)?).await?;
    Ok(AlterUserResponse { user: Some(to_user(session.user_by_id(&user_id)?.as_ref())) })
}

pub(super) async fn drop_user(session: Session, request: DropUserRequest) -> Result<DropUserResponse, Error> {
    let DropUserRequest { user, if_exists, cascade } = request;
    Ok(DropUserResponse { dropped: session.drop_user(&user, if_exists, cascade).await? })
}

pub(super) async fn create_api_key(
    session: Session,
    request: CreateApiKeyRequest,
) -> Result<CreateApiKeyResponse, Error> {
    let CreateApiKeyRequest { user, name, expires_at } = request;
    let expires_at_us = match expires_at {
        Some(at) => Some(from_timestamp(&at).ok_or_else(|| {
            Error::new(Reason::InvalidRequest, "expires_at is not a time that there is.").with("field", "expires_at")
        })?),
        None => None,
    };
    let new = session.create_api_key(&user, (!name.is_empty()).then_some(name), expires_at_us).await?;
    Ok(CreateApiKeyResponse { api_key: Some(to_api_key(new.info)), key: new.key })
}

pub(super) async fn list_api_keys(session: Session, request: ListApiKeysRequest) -> Result<ListApiKeysResponse, Error> {
    let ListApiKeysRequest { user, page_size, page_token } = request;
    let keys = session.api_keys((!user.is_empty()).then_some(user.as_str()))?;
    let id = |key: &ApiKeyInfo| key.key_id.clone();
    let (page, next_page_token) = page(keys, id, page_size, &page_token)?;
    Ok(ListApiKeysResponse { api_keys: page.into_iter().map(to_api_key).collect(), next_page_token })
}

pub(super) async fn revoke_api_key(
    session: Session,
    request: RevokeApiKeyRequest,
) -> Result<RevokeApiKeyResponse, Error> {
    session.revoke_api_key(&request.key_id).await?;
    Ok(RevokeApiKeyResponse {})
}
