//! Passwords of users, and the first administrator.

use std::sync::Arc;

use kalamdb_store::ids::UserId;

use super::{
    Change, User, Users,
    change::{Draft, NewUser},
    rights,
};
use crate::{
    access::Role,
    error::{Error, Reason, Result},
    sql::Password,
};

/// The name of the administrator that a new database gets.
const FIRST_ADMINISTRATOR: &str = "admin";

impl Users {
    /// The user with this name and password. Takes as long when there is no such user.
    ///
    /// # Errors
    /// UNAUTHENTICATED, the same for a wrong name and a wrong password; USER_DISABLED if both are right;
    /// TOO_MANY_REQUESTS when too many passwords are being checked.
    pub async fn authenticate_password(&self, username: &str, password: &str) -> Result<Arc<User>> {
        let refused = || Error::new(Reason::Unauthenticated, "The username or the password is wrong.");
        let user = self.find_by_name(username)?;
        let hash = user.as_ref().and_then(|user| user.password.as_ref());
        if !self.passwords.verify(&Password::new(password), hash).await? {
            return Err(refused());
        }
        let user = user.ok_or_else(refused)?;
        // It can have been changed while the password was checked.
        let now = self.find(&user.user_id)?.filter(|now| now.password == user.password).ok_or_else(refused)?;
        if now.disabled { Err(rights::disabled(&now)) } else { Ok(now) }
    }

    /// Creates the administrator `admin` of a database without users, and an API key for it; durable when it returns.
    /// The key is answered this once.
    ///
    /// # Errors
    /// USER_EXISTS if there are users; those of the store.
    pub async fn create_first_administrator(self: &Arc<Self>) -> Result<(Arc<User>, String)> {
        let id = UserId::new(FIRST_ADMINISTRATOR).map_err(Error::internal)?;
        let turn = self.turn().await;
        if !self.is_empty()? {
            return Err(Error::new(Reason::UserExists, "There are users already: one of them is the first."));
        }
        let mut draft = Draft::new(self);
        let new = NewUser { role: Role::System, ..NewUser::named(FIRST_ADMINISTRATOR) };
        draft.create(id.clone(), new, None)?;
        let mut change: Change = draft.finish()?;
        let key = self.draft_key(&mut change, &id, Some("first start".to_owned()), None)?;
        self.commit(turn, change).await?;
        let user = self.find(&id)?.ok_or_else(|| Error::internal("a user that was just created is gone"))?;
        Ok((user, key.key))
    }
}
