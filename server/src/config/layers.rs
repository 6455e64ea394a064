//! Where values come from: each layer is a tree of values and, for each key in it, its source.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::{Config, ConfigError, ConfigErrors, Source, keys};

const ENVIRONMENT_PREFIX: &str = "KALAMDB__";

/// A setting given by a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    flag: String,
    key: String,
    value: String,
}

impl Flag {
    /// The flag `flag` gives `key` the value that `value` spells.
    pub fn new(flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { flag: flag.into(), key: key.into(), value: value.into() }
    }
}

/// Some settings from one place, by dotted key.
pub(super) struct Layer(BTreeMap<String, (Value, Source)>);

/// The settings of a TOML file.
pub(super) fn file_layer(path: &Path) -> Result<Layer, ConfigErrors> {
    let source = Source::File(path.display().to_string());
    let failed = |reason: String| ConfigError { key: String::new(), source: source.clone(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let dict: Dict =
        Toml::from_str(&text).map_err(|error| failed(format!("is not TOML: {}", error.to_string().trim())))?;
    let mut values = BTreeMap::new();
    flatten("", Value::from(dict), &mut values);
    Ok(Layer(values.into_iter().map(|(key, value)| (key, (value, source.clone()))).collect()))
}

/// The settings of environment variables.
pub(super) fn environment_layer(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Layer, ConfigErrors> {
    let defaults = flatten_config(&Config::default());
    let mut layer = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, value) in environment {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(ENVIRONMENT_PREFIX)) else { continue };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let source = Source::Environment(name.to_string_lossy().into_owned());
        match value.into_string() {
            Ok(text) => {
                layer.insert(key.clone(), (parse_text(&text, defaults.get(&key)), source));
            }
            Err(_) => errors.push(ConfigError { key, source, reason: "is not valid UTF-8".to_owned() }),
        }
    }
    if errors.is_empty() { Ok(Layer(layer)) } else { Err(ConfigErrors(errors)) }
}

/// The settings of flags; the last one of a key wins.
pub(super) fn flags_layer(flags: &[Flag]) -> Layer {
    let defaults = flatten_config(&Config::default());
    let settings = flags.iter().map(|flag| {
        let value = parse_text(&flag.value, defaults.get(&flag.key));
        (flag.key.clone(), (value, Source::Flag(flag.flag.clone())))
    });
    Layer(settings.collect())
}

/// Merges layers, the later winning, over the defaults.
pub(super) fn merge(layers: Vec<Layer>) -> Result<(Config, BTreeMap<String, Source>), ConfigErrors> {
    let mut settings: BTreeMap<String, (Value, Source)> = BTreeMap::new();
    for layer in layers {
        settings.extend(layer.0);
    }

    let defaults = || Figment::from(Serialized::defaults(Config::default()));
    let mut figment = defaults();
    let mut sources = BTreeMap::new();
    let mut errors = Vec::new();
    for (key, (value, source)) in settings {
        let failed = |reason| ConfigError { key: key.clone(), source: source.clone(), reason };
        if keys::find(&key).is_none() {
            errors.push(failed(unknown_key(&key)));
            continue;
        }
        let one = One { key: key.clone(), value };
        // Each value is tried alone, so that all the bad ones are reported and not only the first.
        if let Err(error) = defaults().merge(&one).extract::<Config>() {
            errors.extend(error.into_iter().map(|error| failed(bad_value(&error.kind))));
            continue;
        }
        figment = figment.merge(one);
        sources.insert(key, source);
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let config = figment.extract().map_err(|error| ConfigError {
        key: error.path.join("."),
        source: Source::Default,
        reason: bad_value(&error.kind),
    })?;
    Ok((config, sources))
}

/// One setting, as figment takes it.
struct One {
    key: String,
    value: Value,
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named("setting")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = figment::util::nest(&self.key, self.value.clone()).into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

fn unknown_key(key: &str) -> String {
    if keys::KEYS.iter().any(|known| known.name.split('.').next() == Some(key)) {
        return format!("is a section; write its keys below [{key}]");
    }
    match keys::nearest(key) {
        Some(nearest) => format!("unknown key; did you mean {nearest}?"),
        None => "unknown key; `kalamdb-server config print` shows all of them".to_owned(),
    }
}

fn bad_value(kind: &Kind) -> String {
    match kind {
        Kind::UnknownVariant(given, valid) => {
            let nearest = valid
                .iter()
                .map(|name| (strsim::normalized_damerau_levenshtein(given, name), name))
                .filter(|(likeness, _)| *likeness >= 0.5)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = nearest.map(|(_, name)| format!("; did you mean \"{name}\"?")).unwrap_or_default();
            format!("\"{given}\" is not one of {}{hint}", valid.join(", "))
        }
        Kind::InvalidType(found, expected) => format!("expected {}, found {found}", plain_type(expected)),
        Kind::InvalidValue(found, expected) => format!("{found} does not fit; expected {}", plain_type(expected)),
        other => other.to_string(),
    }
}

/// Rust's names of types in plain words.
fn plain_type(expected: &str) -> &str {
    match expected {
        "u16" | "u32" | "u64" | "usize" => "a whole number",
        "i16" | "i32" | "i64" | "isize" => "a number",
        "a boolean" | "bool" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list such as [\"a\", \"b\"]",
        other => other,
    }
}

/// The value that a text of an environment variable or a flag means, for a key whose default is `like`.
fn parse_text(text: &str, like: Option<&Value>) -> Value {
    match like {
        Some(Value::Num(..)) => match (text.parse::<u64>(), text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _, _) => Value::from(number),
            (_, Ok(number), _) => Value::from(number),
            (_, _, Ok(number)) => Value::from(number),
            _ => Value::from(text),
        },
        Some(Value::Bool(..)) => match text {
            "true" | "1" => Value::from(true),
            "false" | "0" => Value::from(false),
            _ => Value::from(text),
        },
        Some(Value::Array(..)) => {
            Value::from(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>())
        }
        _ => Value::from(text),
    }
}

/// The values of a configuration by dotted key.
pub(super) fn flatten_config(config: &Config) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    if let Ok(value) = Value::serialize(config) {
        flatten("", value, &mut values);
    }
    values
}

fn flatten(prefix: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Dict(_, dict) if prefix.is_empty() || !dict.is_empty() => {
            for (name, value) in dict {
                let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(&key, value, into);
            }
        }
        // An empty `[section]` gives nothing, and is fine when the section exists.
        Value::Dict(..) if keys::KEYS.iter().any(|key| key.name.split('.').next() == Some(prefix)) => {}
        value => {
            into.insert(prefix.to_owned(), value);
        }
    }
}

/// A value as `system.settings` shows it.
pub(super) fn display_value(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Array(_, values) => values.iter().map(display_value).collect::<Vec<_>>().join(", "),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}
