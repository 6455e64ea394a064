//! The credentials of a storage: a JSON object whose keys are fixed for each kind of storage.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{ObjectError, StoreKind};

/// The longest text of credentials, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// What a storage is opened with beside its uri. Values are secrets: they are nowhere shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct StoreOptions {
    values: BTreeMap<&'static str, String>,
}

/// A key of the credentials.
struct Key {
    name: &'static str,
    takes: Takes,
    /// Whether it says where the storage is, rather than who asks.
    is_place: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    Flag,
    /// A JSON object, or its text.
    Object,
}

const fn who(name: &'static str, takes: Takes) -> Key {
    Key { name, takes, is_place: false }
}

const fn place(name: &'static str, takes: Takes) -> Key {
    Key { name, takes, is_place: true }
}

const S3: &[Key] = &[
    who("access_key_id", Takes::Text),
    who("secret_access_key", Takes::Text),
    who("session_token", Takes::Text),
    who("anonymous", Takes::Flag),
    place("region", Takes::Text),
    place("endpoint", Takes::Text),
    who("allow_http", Takes::Flag),
    place("path_style", Takes::Flag),
];
const GCS: &[Key] = &[
    who("service_account", Takes::Object),
    who("anonymous", Takes::Flag),
    place("endpoint", Takes::Text),
    who("allow_http", Takes::Flag),
];
const AZURE: &[Key] = &[
    place("account_name", Takes::Text),
    who("account_key", Takes::Text),
    who("sas_token", Takes::Text),
    who("tenant_id", Takes::Text),
    who("client_id", Takes::Text),
    who("client_secret", Takes::Text),
    who("anonymous", Takes::Flag),
    place("endpoint", Takes::Text),
    who("allow_http", Takes::Flag),
];

impl StoreOptions {
    /// Reads the text of credentials; an empty one is none.
    pub(super) fn parse(kind: StoreKind, text: &str) -> Result<Self, ObjectError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MAX_BYTES {
            return Err(invalid(format!("Credentials have at most {MAX_BYTES} bytes.")));
        }
        // The parser's own message could repeat a part of the text.
        let Ok(Value::Object(given)) = serde_json::from_str(text) else {
            return Err(invalid(format!("Credentials are a JSON object such as {}.", example(kind))));
        };
        let keys = keys_of(kind);
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                return Err(unknown_key(kind, keys, &name));
            };
            values.insert(key.name, text_of(key, value)?);
        }
        let options = Self { values };
        options.check(kind)?;
        Ok(options)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Whether a flag is set.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    /// Whether both say the same of where the storage is.
    pub(super) fn same_place(&self, other: &Self, kind: StoreKind) -> bool {
        keys_of(kind).iter().filter(|key| key.is_place).all(|key| self.get(key.name) == other.get(key.name))
    }

    fn check(&self, kind: StoreKind) -> Result<(), ObjectError> {
        let has = |key: &str| self.get(key).is_some();
        let needs = |key: &str, other: &str| {
            if has(key) && !has(other) {
                Err(invalid(format!("Credentials with {key} need {other} too.")))
            } else {
                Ok(())
            }
        };
        match kind {
            StoreKind::FileSystem | StoreKind::Gcs => {}
            StoreKind::S3 => {
                needs("access_key_id", "secret_access_key")?;
                needs("secret_access_key", "access_key_id")?;
                needs("session_token", "access_key_id")?;
            }
            StoreKind::Azure => {
                needs("client_secret", "client_id")?;
                needs("client_secret", "tenant_id")?;
            }
        }
        let Some(endpoint) = self.get("endpoint") else { return Ok(()) };
        let host = match endpoint.split_once("://") {
            Some(("https", host)) => host,
            Some(("http", host)) if self.is_set("allow_http") => host,
            Some(("http", _)) => {
                return Err(invalid(
                    "The endpoint is http, so that keys and data would travel unprotected. Use https, or add \
                     \"allow_http\": true to the credentials."
                        .to_owned(),
                ));
            }
            _ => return Err(invalid("The endpoint is a URL such as https://host:9000.".to_owned())),
        };
        let authority = host.split('/').next().unwrap_or_default();
        if authority.is_empty() || host.contains(['?', '#', ' ']) || authority.contains('@') {
            return Err(invalid("The endpoint is a URL such as https://host:9000, without user or query.".to_owned()));
        }
        Ok(())
    }
}

fn keys_of(kind: StoreKind) -> &'static [Key] {
    match kind {
        StoreKind::FileSystem => &[],
        StoreKind::S3 => S3,
        StoreKind::Gcs => GCS,
        StoreKind::Azure => AZURE,
    }
}

fn text_of(key: &Key, value: Value) -> Result<String, ObjectError> {
    let name = key.name;
    match (key.takes, value) {
        (Takes::Text, Value::String(text)) if !text.is_empty() => Ok(text),
        (Takes::Text, _) => Err(invalid(format!("{name} of the credentials is a text that is not empty."))),
        (Takes::Flag, Value::Bool(flag)) => Ok(flag.to_string()),
        (Takes::Flag, Value::String(text)) if text == "true" || text == "false" => Ok(text),
        (Takes::Flag, _) => Err(invalid(format!("{name} of the credentials is true or false."))),
        (Takes::Object, Value::Object(object)) => Ok(Value::Object(object).to_string()),
        (Takes::Object, Value::String(text)) if matches!(serde_json::from_str(&text), Ok(Value::Object(_))) => Ok(text),
        (Takes::Object, _) => {
            Err(invalid(format!("{name} of the credentials is a JSON object: the content of the key file.")))
        }
    }
}

fn unknown_key(kind: StoreKind, keys: &[Key], name: &str) -> ObjectError {
    if keys.is_empty() {
        return invalid(format!("A {kind} storage takes no credentials."));
    }
    let nearest = keys
        .iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(name, key.name), key.name))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map(|(_, near)| format!(" Did you mean '{near}'?")).unwrap_or_default();
    let known: Vec<_> = keys.iter().map(|key| key.name).collect();
    // A key that is none at all can be a misplaced secret.
    let shown =
        if nearest.is_some() { format!(" '{}'", name.chars().take(50).collect::<String>()) } else { String::new() };
    invalid(format!(
        "The credentials of a {kind} storage have an unknown key{shown}.{hint} Keys are {}.",
        known.join(", ")
    ))
}

fn example(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::FileSystem => "{}",
        StoreKind::S3 => r#"{"access_key_id": "…", "secret_access_key": "…", "region": "eu-central-1"}"#,
        StoreKind::Gcs => r#"{"service_account": {…}}"#,
        StoreKind::Azure => r#"{"account_name": "…", "account_key": "…"}"#,
    }
}

fn invalid(message: String) -> ObjectError {
    ObjectError::Invalid(message)
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}
