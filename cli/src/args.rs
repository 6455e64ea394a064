//! Flags.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, ValueEnum, value_parser};
use serde::Deserialize;

/// SQL at the terminal and in scripts.
///
/// Without --command and --file, statements are read from standard input; at a terminal that is a prompt. Defaults
/// are in ~/.kalam/config.toml. Exit status: 0, 1 (a statement failed), 2 (usage), 3 (no connection, or no valid
/// credential).
#[derive(Debug, Parser)]
#[command(name = "kalam-cli", version, disable_help_flag = true)]
pub(crate) struct Args {
    /// The user to act for
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// The server, such as https://db.example:2900 or http://127.0.0.1:2900
    #[arg(short, long)]
    pub(crate) host: Option<String>,

    /// Bearer token (JWT); better given as KALAM_TOKEN, since others can read command lines
    #[arg(long, value_name = "JWT", conflicts_with_all = ["apikey", "password", "login"])]
    pub(crate) token: Option<String>,

    /// API key; better given as KALAM_APIKEY
    #[arg(long, value_name = "KEY", conflicts_with_all = ["password", "login"])]
    pub(crate) apikey: Option<String>,

    /// Log in as --user; the password is asked for, or read from KALAM_PASSWORD
    #[arg(long)]
    pub(crate) password: bool,

    /// Log in with this name, and act for --user if that is given; the password as with --password
    #[arg(long, value_name = "NAME")]
    pub(crate) login: Option<String>,

    /// Encrypt the connection, and trust the certificates of this PEM file in place of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Show the server this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The name that the server's certificate must be for, if it is not the host's
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,

    /// Send credentials to another machine without encryption, where others may read them
    #[arg(long)]
    pub(crate) allow_plaintext: bool,

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
            vec!["--token", "t", "--apikey", "k"],
            vec!["--token", "t", "--password"],
            vec!["--apikey", "k", "--login", "n"],
            vec!["--tls-cert", "c.pem"],
            vec!["--tls-key", "k.pem"],
            vec!["x"],
        ] {
            let error = Args::try_parse_from(["kalam-cli"].into_iter().chain(wrong.clone())).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
