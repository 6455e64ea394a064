//! Checks beyond types: ranges, and what fits together.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Component, Path},
};

use figment::value::Value;
use http::Uri;
use kalamdb_engine::SecretKey;
use tracing_subscriber::EnvFilter;

use super::{Config, ConfigError, Source, keys, layers};

mod auth;
mod tls;

pub(crate) use auth::is_local_url;

/// Everything wrong with a configuration whose types are right.
pub(super) fn validate(config: &Config, sources: &BTreeMap<String, Source>) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut failed = |key: &str, reason: String| {
        let source = sources.get(key).cloned().unwrap_or(Source::Default);
        errors.push(ConfigError { key: key.to_owned(), source, reason });
    };

    for (name, value) in layers::flatten_config(config) {
        let Some((min, max)) = keys::find(&name).and_then(|key| key.range) else { continue };
        let Value::Num(_, number) = value else { continue };
        match number.to_u128() {
            Some(number) if (u128::from(min)..=u128::from(max)).contains(&number) => {}
            Some(number) => failed(&name, format!("{number} is out of range; it may be {min} to {max}")),
            None => failed(&name, format!("must be a whole number from {min} to {max}")),
        }
    }

    match config.server.listen_address() {
        Ok(address) if address.ip().is_loopback() => {}
        Ok(address) if config.server.dev => failed(
            "server.listen",
            format!(
                "{address} can be reached from other machines, and with server.dev calls need no credential; use a \
                 loopback address such as 127.0.0.1:{}, or leave --dev out",
                address.port()
            ),
        ),
        Ok(address) if config.tls.required && !config.tls.is_on() => failed(
            "tls.required",
            format!("{address} can be reached from other machines; set tls.cert_file and tls.key_file"),
        ),
        Ok(_) => {}
        Err(reason) => failed("server.listen", reason),
    }
    if let Err(error) = kalamdb_engine::UserId::new(&config.server.dev_user) {
        failed("server.dev_user", error.to_string());
    }
    if config.storage.data_dir.is_empty() {
        failed("storage.data_dir", "must not be empty".to_owned());
    }
    for root in &config.storage.roots {
        if !Path::new(root).is_absolute() {
            failed("storage.roots", format!("\"{root}\" is not an absolute path, such as /srv/kalamdb"));
        }
    }
    for (key, roots) in
        [("paths.export_roots", &config.paths.export_roots), ("paths.backup_roots", &config.paths.backup_roots)]
    {
        for root in roots {
            if !is_plain_folder(Path::new(root)) {
                failed(key, format!("\"{root}\" is not an absolute path without '..', such as /srv/kalamdb"));
            }
        }
    }
    let secret_key = config.storage.secret_key.expose();
    if !secret_key.is_empty()
        && let Err(reason) = SecretKey::from_base64(secret_key)
    {
        failed("storage.secret_key", reason.to_string());
    }
    auth::validate(&config.auth, &mut failed);
    tls::validate(&config.tls, &mut failed);
    if config.query.memory_mb > config.query.total_memory_mb {
        failed(
            "query.memory_mb",
            format!(
                "{} is more than query.total_memory_mb, which is {}",
                config.query.memory_mb, config.query.total_memory_mb
            ),
        );
    }
    if let Err(reason) = parse_level(&config.log.level) {
        failed("log.level", reason);
    }
    for origin in &config.cors.allowed_origins {
        if origin != "*" && !is_origin(origin) {
            failed(
                "cors.allowed_origins",
                format!("\"{origin}\" is not an origin; write scheme and host, such as https://app.example.com"),
            );
        }
    }
    errors
}

fn is_plain_folder(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// The filter that `log.level` describes. A level alone is KalamDB's own; libraries then log only what is wrong.
pub(crate) fn parse_level(text: &str) -> Result<EnvFilter, String> {
    const QUIET: [&str; 3] = ["off", "error", "warn"];
    const TALKATIVE: [&str; 3] = ["info", "debug", "trace"];
    let level = text.to_ascii_lowercase();
    let filter = if QUIET.contains(&level.as_str()) {
        level
    } else if TALKATIVE.contains(&level.as_str()) {
        format!("warn,kalamdb_server={level},kalamdb_engine={level},kalamdb_store={level}")
    } else if text.chars().all(|c| c.is_ascii_alphanumeric()) {
        // A lone word would otherwise be taken for the name of a crate, and hide every line.
        let levels = [QUIET, TALKATIVE].concat().join(", ");
        return Err(format!("\"{text}\" is not a level; levels are {levels}"));
    } else {
        text.to_owned()
    };
    EnvFilter::builder().parse(filter).map_err(|error| format!("\"{text}\" is not a log filter: {error}"))
}

fn is_origin(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some()
            && !text.ends_with('/')
            && uri.path() == "/"
            && uri.query().is_none()
    })
}

impl super::ServerSection {
    /// The address to listen on.
    ///
    /// # Errors
    /// A text for the operator when `listen` is not an address with a port.
    pub fn listen_address(&self) -> Result<SocketAddr, String> {
        let numeric = match self.listen.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => self.listen.clone(),
        };
        numeric
            .parse()
            .map_err(|_| format!("\"{}\" is not an address with a port, such as 127.0.0.1:2900", self.listen))
    }
}
