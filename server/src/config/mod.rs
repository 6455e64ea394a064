//! Configuration: typed sections, layered from defaults, file, environment and flags.
//!
//! ```text
//! defaults  <  config.toml  <  KALAMDB__SECTION__KEY  <  flags
//! ```
//!
//! Every problem stops the start with the key, where it came from, the reason and the nearest valid name.

mod keys;
mod layers;
mod print;
mod sections;
mod validate;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, path::Path};

use kalamdb_engine::SettingInfo;

pub use layers::Flag;
pub use sections::{
    AuditSection, AuthSection, BackendName, ClientAuth, ClientIdentity, CompactionSection, Config, CorsSection,
    DurabilityName, FlightSection, FlushSection, IngestSection, JwtAlgorithm, LimitsSection, LiveSection, LogFormat,
    LogSection, MetricsAccess, PathsSection, QuerySection, RoleName, SecretText, ServerSection, ShutdownSection,
    StorageSection, TlsSection, UnknownUsers,
};
pub(crate) use validate::{is_local_url, parse_level};

/// What stands for a secret that is set.
const REDACTED: &str = "redacted";

/// A valid configuration, with where each value comes from.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The values.
    pub config: Config,
    sources: BTreeMap<String, Source>,
}

impl LoadedConfig {
    /// Layers and checks a configuration.
    ///
    /// `file` must exist when given. `environment` are the variables to look at, usually `std::env::vars_os()`;
    /// those that do not begin with `KALAMDB__` are ignored.
    ///
    /// # Errors
    /// Every problem found, each with its key.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        flags: &[Flag],
    ) -> Result<Self, ConfigErrors> {
        let mut layers = Vec::new();
        if let Some(path) = file {
            layers.push(layers::file_layer(path)?);
        }
        layers.push(layers::environment_layer(environment)?);
        layers.push(layers::flags_layer(flags));

        let (config, sources) = layers::merge(layers)?;
        let errors = validate::validate(&config, &sources);
        if errors.is_empty() { Ok(Self { config, sources }) } else { Err(ConfigErrors(errors)) }
    }

    /// Where the value of `key` comes from.
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// Every setting in effect, sorted by name, as `system.settings` shows it.
    pub fn settings(&self) -> Vec<SettingInfo> {
        let values = layers::flatten_config(&self.config);
        let mut settings: Vec<SettingInfo> = keys::KEYS
            .iter()
            .map(|key| SettingInfo {
                name: key.name.to_owned(),
                value: match values.get(key.name).map(layers::display_value).unwrap_or_default() {
                    value if key.secret && !value.is_empty() => REDACTED.to_owned(),
                    value => value,
                },
                source: self.source(key.name).kind().to_owned(),
                description: key.description.to_owned(),
            })
            .collect();
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        settings
    }

    /// Every setting as a commented configuration file that gives this configuration again, but for secrets.
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file with this path.
    File(String),
    /// The environment variable with this name.
    Environment(String),
    /// The flag with this name.
    Flag(String),
}

impl Source {
    /// `default`, `file`, `environment` or `flag`.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::File(_) => "file",
            Source::Environment(_) => "environment",
            Source::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {path}"),
            Source::Environment(name) => write!(f, "environment variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted key; empty when the problem concerns no single key.
    pub key: String,
    /// Where the value came from.
    pub source: Source,
    /// What is wrong, and what to write.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.source, self.reason)
        } else {
            write!(f, "{} ({}): {}", self.key, self.source, self.reason)
        }
    }
}

/// Everything wrong with a configuration; at least one problem. Shown one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "configuration: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
