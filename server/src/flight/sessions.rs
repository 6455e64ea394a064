//! Options of sessions: the namespace of unqualified names, and how rows are ingested.
//!
//! A session is known by the credential if that is of one (the handshake and AuthService.Login give such), or else by the
//! cookie that SetSessionOptions answers. A cookie is no credential: it finds options only for the user who set them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kalamdb_engine::{Caller, Env, Error, IngestOptions, Reason, UserId};
use moka::{policy::EvictionPolicy, sync::Cache};
use tonic::metadata::MetadataMap;

use super::{Call, schema::CATALOG};
use crate::{call::CallContext, identity::Credential};

/// The cookie's name, as Flight has it.
const COOKIE: &str = "arrow_flight_session_id";

/// The headers that name the namespace of unqualified names for one call, before what the session says. The driver for
/// JDBC sends the second for `schema` in its URL, as all properties that it does not know.
const NAMESPACE_HEADERS: [&str; 2] = ["x-kalamdb-namespace", "schema"];

/// The options' names.
pub(super) const CATALOG_OPTION: &str = "catalog";
pub(super) const SCHEMA_OPTION: &str = "schema";

/// What finds a session's options.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Credential(String),
    Cookie(String),
}

/// The options of a session, and whose they are.
#[derive(Debug, Clone)]
struct Options {
    user: UserId,
    values: BTreeMap<String, String>,
}

/// The options of sessions; those not used for longest go first when there are too many.
pub(super) struct Sessions {
    options: Cache<Key, Arc<Options>>,
    env: Arc<dyn Env>,
}

/// Why an option was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Name,
    Value,
}

impl Sessions {
    pub(super) fn new(most: u64, lifetime: Duration, env: Arc<dyn Env>) -> Self {
        let options = Cache::builder()
            .max_capacity(most)
            .time_to_idle(lifetime)
            // By moka's own choice new sessions would have to be asked for more often than old ones to get in.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { options, env }
    }

    /// A call with these headers.
    ///
    /// # Errors
    /// INVALID_REQUEST when a header with a namespace is no text.
    pub(super) fn call(&self, context: CallContext, headers: &MetadataMap) -> Result<Call, Error> {
        let values = self.of(&context, headers).map(|options| options.values.clone()).unwrap_or_default();
        let named = NAMESPACE_HEADERS.into_iter().find_map(|name| Some((name, headers.get(name)?)));
        let namespace = match named {
            Some((name, value)) => {
                let wrong = |_| Error::new(Reason::InvalidRequest, format!("The header {name} is no text."));
                Some(value.to_str().map_err(wrong)?.to_owned())
            }
            None => values.get(SCHEMA_OPTION).cloned(),
        };
        let is_of_ingest = |(name, _): &(String, String)| IngestOptions::NAMES.contains(&name.as_str());
        let ingest_options = values.into_iter().filter(is_of_ingest).collect();
        let cookie = cookie_of(headers);
        Ok(Call { context, namespace: namespace.filter(|name| !name.is_empty()), ingest_options, cookie })
    }

    /// The options of the call's session, by name.
    pub(super) fn get(&self, call: &Call) -> BTreeMap<String, String> {
        let found = self.find(&call.context, call.cookie.as_deref());
        let mut values = found.map(|options| options.values.clone()).unwrap_or_default();
        values.insert(CATALOG_OPTION.to_owned(), CATALOG.to_owned());
        values
    }

    /// Keeps options; answers the cookie that finds them, if it takes one that the client does not have yet.
    pub(super) fn set(&self, call: &Call, changes: Vec<(String, Option<String>)>) -> Option<String> {
        let (key, new_cookie) = match self.key_of(&call.context, call.cookie.as_deref()) {
            Some(key) => (key, None),
            None => {
                let cookie = format!("{:016x}{:016x}", self.env.random_u64(), self.env.random_u64());
                (Key::Cookie(cookie.clone()), Some(cookie))
            }
        };
        let user = call.context.caller.user_id.clone();
        let known = self.options.get(&key).filter(|options| options.user == user);
        let mut values = known.map(|options| options.values.clone()).unwrap_or_default();
        for (name, value) in changes {
            match value {
                Some(value) => values.insert(name, value),
                None => values.remove(&name),
            };
        }
        self.options.insert(key, Arc::new(Options { user, values }));
        new_cookie
    }

    /// Forgets the options of the call's session; answers its id, if the call's credential is of one.
    pub(super) fn close<'a>(&self, call: &'a Call) -> Option<&'a str> {
        if let Some(key) = self.key_of(&call.context, call.cookie.as_deref()) {
            self.options.invalidate(&key);
        }
        match &call.context.grant.basis.credential {
            Credential::Session(id) => Some(id),
            _ => None,
        }
    }

    fn of(&self, context: &CallContext, headers: &MetadataMap) -> Option<Arc<Options>> {
        self.find(context, cookie_of(headers).as_deref())
    }

    fn find(&self, context: &CallContext, cookie: Option<&str>) -> Option<Arc<Options>> {
        let key = self.key_of(context, cookie)?;
        self.options.get(&key).filter(|options| is_of(options, &context.caller))
    }

    /// Where the options of a call's session are: with a cookie that is known for the caller, or else with the session of
    /// its credential.
    fn key_of(&self, context: &CallContext, cookie: Option<&str>) -> Option<Key> {
        if let Some(cookie) = cookie {
            let key = Key::Cookie(cookie.to_owned());
            if self.options.get(&key).is_some_and(|options| is_of(&options, &context.caller)) {
                return Some(key);
            }
        }
        match &context.grant.basis.credential {
            Credential::Session(id) => Some(Key::Credential(id.clone())),
            _ => None,
        }
    }
}

/// Checks an option that a client sets, but for whether there is such a namespace.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(name: &str, value: Option<&str>) -> Result<(), Fault> {
    match (name, value) {
        (CATALOG_OPTION, Some(value)) if value != CATALOG => Err(Fault::Value),
        (CATALOG_OPTION | SCHEMA_OPTION, _) => Ok(()),
        (name, value) if IngestOptions::NAMES.contains(&name) => match value {
            Some(value) => IngestOptions::default().set(name, value).map_err(|_| Fault::Value),
            None => Ok(()),
        },
        _ => Err(Fault::Name),
    }
}

/// What a client has to send back, as the value of `set-cookie`.
pub(super) fn set_cookie(cookie: &str) -> String {
    format!("{COOKIE}={cookie}")
}

fn is_of(options: &Options, caller: &Caller) -> bool {
    options.user == caller.user_id
}

fn cookie_of(headers: &MetadataMap) -> Option<String> {
    let values = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests;
