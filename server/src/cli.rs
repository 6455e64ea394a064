//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    config::{DurabilityName, Flag, LogFormat},
    telemetry::build,
};

/// The KalamDB server.
///
/// Settings are taken from the defaults, then the configuration file, then environment variables such as
/// KALAMDB__SERVER__LISTEN, then the flags; the later wins. `kalamdb-server config print` shows all of them.
#[derive(Debug, Parser)]
#[command(name = "kalamdb-server", version = build::VERSION, long_version = build::LONG_VERSION)]
pub(crate) struct Cli {
    /// Configuration file; without it, `config.toml` of the current folder if there is one
    #[arg(long, value_name = "FILE", env = "KALAMDB_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// Accept calls from this machine without a credential, as user `system`: for development
    #[arg(long, global = true)]
    dev: bool,

    /// Folder of the data [storage.data_dir]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,

    /// Address and port to listen on; port 0 takes a free one [server.listen]
    #[arg(long, value_name = "ADDRESS", global = true)]
    listen: Option<String>,

    /// When a write is acknowledged [storage.durability]
    #[arg(long, value_enum, global = true)]
    durability: Option<DurabilityArg>,

    /// What is logged: error, warn, info, debug, trace, or filters such as `info,kalamdb_engine=debug` [log.level]
    #[arg(long, value_name = "LEVEL", global = true)]
    log_level: Option<String>,

    /// How it is logged [log.format]
    #[arg(long, value_enum, global = true)]
    log_format: Option<LogFormatArg>,

    /// Any other setting, such as `--set limits.max_result_rows=1000`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,

    #[command(subcommand)]
    pub(crate) command: Option<CliCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Look at the configuration without starting the server
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration is valid, and what is wrong if not
    Check,
    /// Print every setting in effect, its meaning and where it comes from, as a configuration file
    Print,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityArg {
    Sync,
    Async,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormatArg {
    Pretty,
    Json,
}

impl Cli {
    /// The settings that flags give.
    ///
    /// # Errors
    /// A text for the user when a `--set` has no `=`.
    pub(crate) fn flags(&self) -> Result<Vec<Flag>, String> {
        let mut flags = Vec::new();
        let mut add = |flag: &str, key: &str, value: &str| flags.push(Flag::new(flag, key, value));
        if self.dev {
            add("--dev", "server.dev", "true");
        }
        for (flag, key, value) in [
            ("--data-dir", "storage.data_dir", &self.data_dir),
            ("--listen", "server.listen", &self.listen),
            ("--log-level", "log.level", &self.log_level),
        ] {
            if let Some(value) = value {
                add(flag, key, value);
            }
        }
        if let Some(durability) = self.durability {
            let name = match durability {
                DurabilityArg::Sync => DurabilityName::Sync,
                DurabilityArg::Async => DurabilityName::Async,
            };
            add("--durability", "storage.durability", name.as_str());
        }
        if let Some(format) = self.log_format {
            let name = match format {
                LogFormatArg::Pretty => LogFormat::Pretty,
                LogFormatArg::Json => LogFormat::Json,
            };
            add("--log-format", "log.format", name.as_str());
        }
        for assignment in &self.set {
            let Some((key, value)) = assignment.split_once('=') else {
                return Err(format!("--set {assignment}: write it as --set KEY=VALUE"));
            };
            add("--set", key.trim(), value.trim());
        }
        Ok(flags)
    }
}
