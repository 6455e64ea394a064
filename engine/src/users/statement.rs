//! The statements about users and API keys.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use kalamdb_store::ids::UserId;

use super::{NewApiKey, NewUser, UserPatch, valid};
use crate::{
    access::Caller,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{Body, RowStream, result_columns},
    sql::{AlterUser, CreateApiKey, CreateUser, DropUser, Expiry, Name, Statement},
    system,
};

/// Whether a statement is one of these.
pub(crate) fn is_about_users(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateUser(_)
            | Statement::AlterUser(_)
            | Statement::DropUser(_)
            | Statement::ShowUsers
            | Statement::CreateApiKey(_)
            | Statement::RevokeApiKey(_)
            | Statement::ShowApiKeys { .. }
    )
}

/// Runs a statement that [`is_about_users`].
pub(crate) async fn run(shared: &Arc<Shared>, caller: &Caller, statement: &Statement) -> Result<Body> {
    match statement {
        Statement::CreateUser(create) => create_user(shared, caller, create).await.map(affected),
        Statement::AlterUser(alter) => alter_user(shared, caller, alter).await.map(affected),
        Statement::DropUser(drop) => drop_user(shared, caller, drop).await.map(affected),
        Statement::CreateApiKey(create) => {
            let new = create_api_key(shared, caller, create).await?;
            rows(system::users::new_key_row(&new)?)
        }
        Statement::RevokeApiKey(revoke) => {
            shared.users.revoke_key(caller, &revoke.key_id).await?;
            Ok(affected(format!("API key {} revoked", revoke.key_id)))
        }
        Statement::ShowUsers => {
            let context = shared.context(caller.clone());
            rows(system::users::users(&context)?)
        }
        Statement::ShowApiKeys { user } => {
            let user = match user {
                Some(name) => Some(shared.users.named(caller, &name.text).map_err(|e| at(e, name))?.user_id.clone()),
                None => None,
            };
            rows(system::users::key_rows(&shared.users.keys_seen_by(caller, user.as_ref())?)?)
        }
        other => Err(Error::internal(format!("not about users: {other:?}"))),
    }
}

async fn create_user(shared: &Arc<Shared>, caller: &Caller, create: &CreateUser) -> Result<String> {
    let CreateUser { name, user_id, properties, if_not_exists } = create;
    let user_id = match user_id {
        Some(id) => {
            Some(UserId::new(id).map_err(|e| valid::invalid("user_id", format!("The id cannot be used: {e}.")))?)
        }
        None => None,
    };
    let properties = properties.clone();
    let plain = NewUser::named(name.text.as_str());
    let new = NewUser {
        user_id,
        role: properties.role.unwrap_or(plain.role),
        password: properties.password.flatten(),
        permissions: properties.permissions.unwrap_or_default(),
        metadata: properties.metadata.flatten(),
        disabled: properties.disabled.unwrap_or(false),
        ..plain
    };
    let created = shared.users.create_all(caller, vec![(new, *if_not_exists)]).await.map_err(|e| at(e, name))?;
    let name = &name.text;
    Ok(if created > 0 { format!("User {name} created") } else { format!("User {name} exists already") })
}

async fn alter_user(shared: &Arc<Shared>, caller: &Caller, alter: &AlterUser) -> Result<String> {
    let AlterUser { name, rename_to, properties } = alter;
    let user = shared.users.named(caller, &name.text).map_err(|e| at(e, name))?;
    let properties = properties.clone();
    let patch = UserPatch {
        username: rename_to.as_ref().map(|name| name.text.clone()),
        role: properties.role,
        password: properties.password,
        permissions: properties.permissions,
        metadata: properties.metadata,
        disabled: properties.disabled,
    };
    let altering = shared.users.alter_all(caller, vec![(user.user_id.clone(), patch)]);
    altering.await.map_err(|e| at(e, rename_to.as_ref().unwrap_or(name)))?;
    Ok(format!("User {} altered", user.username))
}

async fn drop_user(shared: &Arc<Shared>, caller: &Caller, drop: &DropUser) -> Result<String> {
    let DropUser { name, if_exists, cascade } = drop;
    let user = match shared.users.named(caller, &name.text) {
        Ok(user) => user,
        Err(e) if *if_exists && e.reason() == Reason::UserNotFound => {
            return Ok(format!("User {} does not exist", name.text));
        }
        Err(e) => return Err(at(e, name)),
    };
    let dropped = super::removal::drop_all(shared, caller, vec![user.user_id.clone()], *cascade, *if_exists).await;
    let dropped = dropped.map_err(|e| at(e, name))?;
    let name = &user.username;
    Ok(if dropped > 0 { format!("User {name} dropped") } else { format!("User {name} does not exist") })
}

async fn create_api_key(shared: &Arc<Shared>, caller: &Caller, create: &CreateApiKey) -> Result<NewApiKey> {
    let CreateApiKey { user, name, expires } = create;
    let owner = shared.users.named(caller, &user.text).map_err(|e| at(e, user))?;
    let expires_at_us = expires.as_ref().map(|expires| match expires {
        Expiry::At(at_us) => *at_us,
        Expiry::In(us) => shared.env.now_us().saturating_add(*us),
    });
    shared.users.create_key(caller, &owner.user_id, name.clone(), expires_at_us).await.map_err(|e| at(e, user))
}

fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}

fn affected(message: String) -> Body {
    Body::Affected { row_count: 0, message }
}

fn rows(batch: RecordBatch) -> Result<Body> {
    Ok(Body::Rows(RowStream::ready(result_columns(&batch.schema()), batch)))
}
