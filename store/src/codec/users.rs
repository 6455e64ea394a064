//! Keys of users, API keys and sessions, in [`Keyspace::System`](crate::kv::Keyspace::System).
//!
//! ```text
//! user           "users/id/" | user id                                             -> record, JSON
//! name           "users/name/" | username                                          -> user id
//! administrator  "users/administrator/" | user id                                  -> nothing
//! leaving        "users/leaving/" | user id                                        -> nothing
//! last login     "users/login/" | user id                                          -> microseconds i64 LE
//! API key        "users/key/" | key id                                             -> record, JSON
//! of a user      "users/key_of/" | user id, escaped and terminated | key id        -> nothing
//! last use       "users/key_used/" | key id                                        -> microseconds i64 LE
//! session        "users/session/" | session id                                     -> record, JSON
//! of a user      "users/session_of/" | user id, escaped and terminated | session   -> nothing
//! ```
//!
//! What ends a key is written as it is; a user id before something else is escaped as in the key of a row.

use std::ops::Bound;

use super::CodecError;
use super::keys::write_escaped;
use crate::ids::UserId;
use crate::kv::KeyRange;

const USERS: &[u8] = b"users/id/";
const NAMES: &[u8] = b"users/name/";
const ADMINISTRATORS: &[u8] = b"users/administrator/";
const LEAVING: &[u8] = b"users/leaving/";
const LOGINS: &[u8] = b"users/login/";
const API_KEYS: &[u8] = b"users/key/";
const API_KEYS_OF: &[u8] = b"users/key_of/";
const API_KEYS_USED: &[u8] = b"users/key_used/";
const SESSIONS: &[u8] = b"users/session/";
const SESSIONS_OF: &[u8] = b"users/session_of/";

/// The key of a user's record.
pub fn user_key(user: &UserId) -> Vec<u8> {
    [USERS, user.as_str().as_bytes()].concat()
}

/// The records of all users whose ids come after `after`, by id.
pub fn user_range(after: Option<&UserId>) -> KeyRange {
    after_in(USERS, after.map(|user| user.as_str().as_bytes()))
}

/// The user of a [`user_key`].
pub fn split_user_key(key: &[u8]) -> Result<UserId, CodecError> {
    user_of(key, USERS)
}

/// The key that says whose a username is.
pub fn user_name_key(username: &str) -> Vec<u8> {
    [NAMES, username.as_bytes()].concat()
}

/// The username of a [`user_name_key`].
///
/// # Errors
/// [`CodecError`] for a key of another kind.
pub fn split_user_name_key(key: &[u8]) -> Result<&str, CodecError> {
    text_of(key.strip_prefix(NAMES))
}

/// The usernames that begin with `prefix` and come after `after`, in their order.
pub fn user_name_range(prefix: &str, after: Option<&str>) -> KeyRange {
    let range = KeyRange::prefix(&user_name_key(prefix));
    match after {
        Some(after) if after >= prefix => KeyRange::new(Bound::Excluded(user_name_key(after)), range.end),
        _ => range,
    }
}

/// The key that says that a user is an administrator who is not disabled.
pub fn administrator_key(user: &UserId) -> Vec<u8> {
    [ADMINISTRATORS, user.as_str().as_bytes()].concat()
}

/// All administrators, by user id.
pub fn administrator_range() -> KeyRange {
    KeyRange::prefix(ADMINISTRATORS)
}

/// The user of an [`administrator_key`].
pub fn split_administrator_key(key: &[u8]) -> Result<UserId, CodecError> {
    user_of(key, ADMINISTRATORS)
}

/// The key that says that a user is being deleted along with its rows.
pub fn user_leaving_key(user: &UserId) -> Vec<u8> {
    [LEAVING, user.as_str().as_bytes()].concat()
}

/// All users that are being deleted, by id.
pub fn user_leaving_range() -> KeyRange {
    KeyRange::prefix(LEAVING)
}

/// The user of a [`user_leaving_key`].
pub fn split_user_leaving_key(key: &[u8]) -> Result<UserId, CodecError> {
    user_of(key, LEAVING)
}

/// The key of when a user last logged in.
pub fn user_last_login_key(user: &UserId) -> Vec<u8> {
    [LOGINS, user.as_str().as_bytes()].concat()
}

/// When all users last logged in, by id.
pub fn user_last_login_range() -> KeyRange {
    KeyRange::prefix(LOGINS)
}

/// The key of an API key's record.
pub fn api_key_key(key_id: &str) -> Vec<u8> {
    [API_KEYS, key_id.as_bytes()].concat()
}

/// The records of all API keys whose ids come after `after`, by id.
pub fn api_key_range(after: Option<&str>) -> KeyRange {
    after_in(API_KEYS, after.map(str::as_bytes))
}

/// The id of the API key of an [`api_key_key`].
pub fn split_api_key_key(key: &[u8]) -> Result<&str, CodecError> {
    text_of(key.strip_prefix(API_KEYS))
}

/// The key that says that an API key is a user's.
pub fn api_key_of_user_key(user: &UserId, key_id: &str) -> Vec<u8> {
    of_user(API_KEYS_OF, user, key_id)
}

/// All API keys of a user, by id.
pub fn api_key_of_range(user: &UserId) -> KeyRange {
    KeyRange::prefix(&of_user(API_KEYS_OF, user, ""))
}

/// The id of the API key of an [`api_key_of_user_key`] of this user.
pub fn split_api_key_of_user_key<'a>(user: &UserId, key: &'a [u8]) -> Result<&'a str, CodecError> {
    text_of(key.strip_prefix(of_user(API_KEYS_OF, user, "").as_slice()))
}

/// The key of when an API key was last used.
pub fn api_key_used_key(key_id: &str) -> Vec<u8> {
    [API_KEYS_USED, key_id.as_bytes()].concat()
}

/// The key of a session's record.
pub fn session_key(session_id: &str) -> Vec<u8> {
    [SESSIONS, session_id.as_bytes()].concat()
}

/// The records of all sessions, by id.
pub fn session_range() -> KeyRange {
    KeyRange::prefix(SESSIONS)
}

/// The id of the session of a [`session_key`].
pub fn split_session_key(key: &[u8]) -> Result<&str, CodecError> {
    text_of(key.strip_prefix(SESSIONS))
}

/// The key that says that a session is a user's.
pub fn session_of_user_key(user: &UserId, session_id: &str) -> Vec<u8> {
    of_user(SESSIONS_OF, user, session_id)
}

/// All sessions of a user, by id.
pub fn session_of_range(user: &UserId) -> KeyRange {
    KeyRange::prefix(&of_user(SESSIONS_OF, user, ""))
}

/// The id of the session of a [`session_of_user_key`] of this user.
pub fn split_session_of_user_key<'a>(user: &UserId, key: &'a [u8]) -> Result<&'a str, CodecError> {
    text_of(key.strip_prefix(of_user(SESSIONS_OF, user, "").as_slice()))
}

fn of_user(prefix: &[u8], user: &UserId, what: &str) -> Vec<u8> {
    let mut key = prefix.to_vec();
    write_escaped(&mut key, user.as_str().as_bytes());
    key.extend_from_slice(what.as_bytes());
    key
}

fn after_in(prefix: &[u8], after: Option<&[u8]>) -> KeyRange {
    let range = KeyRange::prefix(prefix);
    match after {
        Some(after) => KeyRange::new(Bound::Excluded([prefix, after].concat()), range.end),
        None => range,
    }
}

fn user_of(key: &[u8], prefix: &[u8]) -> Result<UserId, CodecError> {
    UserId::new(text_of(key.strip_prefix(prefix))?).map_err(|_| CodecError::Corrupt("a key has no user id"))
}

fn text_of(rest: Option<&[u8]>) -> Result<&str, CodecError> {
    rest.and_then(|text| std::str::from_utf8(text).ok()).ok_or(CodecError::Corrupt("a key is not that of a user"))
}
