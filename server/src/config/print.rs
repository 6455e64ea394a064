//! The configuration as a commented file.

use figment::value::Value;

use super::{LoadedConfig, REDACTED, Source, keys, layers};

pub(super) fn to_toml(loaded: &LoadedConfig) -> String {
    let values = layers::flatten_config(&loaded.config);
    let mut text = String::new();
    let mut section = "";
    for key in keys::KEYS {
        let (key_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if key_section != section {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("[{key_section}]\n"));
            section = key_section;
        }
        let source = loaded.source(key.name);
        let from = if source == Source::Default { String::new() } else { format!(" ({source})") };
        let value = values.get(key.name);
        // A secret that is set stands behind a comment, so that what is printed can be passed on.
        let hidden = key.secret && value.is_some_and(|value| !layers::display_value(value).is_empty());
        let value = value.filter(|_| !hidden).map_or_else(|| format!("\"{REDACTED}\""), literal);
        let comment = if hidden { "# " } else { "" };
        text.push_str(&format!("# {}{from}\n{comment}{name} = {value}\n", key.description));
    }
    text
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(_, text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(_, values) => format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        other => layers::display_value(other),
    }
}
