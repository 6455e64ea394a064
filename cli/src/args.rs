//! Flags.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, ValueEnum, value_parser};
use serde::Deserialize;

/// SQL at the terminal and in scripts.
///
/// Without --command and --file, statements are read from standard input; at a terminal that is a prompt. Defaults
/// are in ~/.kalam/config.toml. Exit status: 0, 1 (a statement failed), 2 (usage), 3 (no connection).
#[derive(Debug, Parser)]
#[command(name = "kalam-cli", version, disable_help_flag = true)]
pub(crate) struct Args {
    /// The user to act for
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// The server, such as http://127.0.0.1:2900
    #[arg(short, long)]
    pub(crate) host: Option<String>,

    /// Bearer token (JWT)
    #[arg(long, env = "KALAM_TOKEN", hide_env_values = true, conflicts_with = "apikey")]
    pub(crate) token: Option<String>,

    /// API key
    #[arg(long, value_name = "KEY")]
    pub(crate) apikey: Option<String>,

    /// Namespace of unqualified table names
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,

    /// Run these statements and end; can be given several times
    #[arg(short, long, value_name = "SQL", conflicts_with = "file")]
    pub(crate) command: Vec<String>,

    /// Run the statements of a file and end; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Rows as JSON, one object a line; 64-bit integers and decimals are strings
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,

    /// Rows as CSV with a header
    #[arg(long)]
    pub(crate) csv: bool,

    /// Whether to use colours
    #[arg(long, value_name = "WHEN")]
    pub(crate) color: Option<Color>,

    /// End a SUBSCRIBE after this many changes
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) live_changes: Option<u64>,

    /// End a SUBSCRIBE after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) live_timeout: Option<Duration>,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// A number of seconds, perhaps with a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "not a number of seconds".to_owned())
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Color {
    /// At a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Csv,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{CommandFactory, Parser};

    use super::{Args, Color};

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn h_is_the_host_and_help_is_long() {
        let args = Args::try_parse_from(["kalam-cli", "-h", "db:1", "-u", "alice", "-n", "chat", "--color", "never"]);
        let args = args.unwrap();
        assert_eq!((args.host.as_deref(), args.user.as_deref()), (Some("db:1"), Some("alice")));
        assert_eq!(args.color, Some(Color::Never));
        let help = Args::try_parse_from(["kalam-cli", "--help"]).unwrap_err();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    }

    #[test]
    fn a_subscription_can_be_bounded() {
        let args = Args::try_parse_from(["kalam-cli", "--live-changes", "3", "--live-timeout", "0.5"]).unwrap();
        assert_eq!((args.live_changes, args.live_timeout), (Some(3), Some(Duration::from_millis(500))));
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for wrong in [
            vec!["--json", "--csv"],
            vec!["-c", "SELECT 1", "--file", "x"],
            vec!["--color", "blue"],
            vec!["--live-changes", "0"],
            vec!["--live-timeout", "-1"],
            vec!["x"],
        ] {
            let error = Args::try_parse_from(["kalam-cli"].into_iter().chain(wrong.clone())).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
