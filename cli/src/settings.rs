//! What flags, environment and configuration file come to together.

use std::{
    env,
    io::{IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
};

use kalam_link::{Client, ClientBuilder};

use crate::{
    args::{Args, Color, Format},
    config::{self, Config},
    exit::Failure,
    live,
    style::Style,
};

const DEFAULT_HOST: &str = "http://127.0.0.1:2900";

/// Everything there is to know before connecting.
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) user: Option<String>,
    pub(crate) namespace: String,
    pub(crate) format: Format,
    pub(crate) style: Style,
    pub(crate) input: Input,
    /// When a subscription ends by itself.
    pub(crate) live: live::Bounds,
    /// The file of the history, when there can be one.
    pub(crate) history: Option<PathBuf>,
    credential: Credential,
}

/// Where statements come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Terminal,
    Commands(Vec<String>),
    File(PathBuf),
    Stdin,
}

enum Credential {
    None,
    Token(String),
    ApiKey(String),
}

impl Settings {
    /// Flags come before `KALAM_TOKEN`, and that before the configuration file.
    pub(crate) fn new(args: Args) -> Result<Settings, Failure> {
        let folder = config::folder();
        let config = folder.as_deref().map_or_else(|| Ok(Config::default()), config::load).map_err(Failure::Usage)?;
        let history = folder.as_deref().and_then(config::history);
        Ok(Settings { history, ..Settings::merge(args, config, stdin().is_terminal()) })
    }

    fn merge(args: Args, config: Config, stdin_is_terminal: bool) -> Settings {
        let input = match (args.command, args.file) {
            (commands, _) if !commands.is_empty() => Input::Commands(commands),
            (_, Some(path)) if path != Path::new("-") => Input::File(path),
            (_, None) if stdin_is_terminal => Input::Terminal,
            _ => Input::Stdin,
        };
        let format = match (args.json, args.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => config.output.format.unwrap_or_default(),
        };
        let color = args.color.or(config.output.color).unwrap_or_default();
        let credential = match (args.apikey, args.token.filter(|token| !token.is_empty()), config.connection.token) {
            (Some(key), _, _) => Credential::ApiKey(key),
            (None, Some(token), _) | (None, None, Some(token)) => Credential::Token(token),
            (None, None, None) => Credential::None,
        };
        Settings {
            host: args.host.or(config.connection.host).unwrap_or_else(|| DEFAULT_HOST.to_owned()),
            user: args.user.or(config.connection.user),
            namespace: args.namespace.unwrap_or_default(),
            format,
            style: Style::new(uses_color(
                color,
                stdout().is_terminal(),
                env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()),
            )),
            input,
            live: live::Bounds { changes: args.live_changes, time: args.live_timeout },
            history: None,
            credential,
        }
    }

    /// A client to be, for these settings.
    pub(crate) fn client(&self) -> ClientBuilder {
        self.client_of(&self.host, self.user.as_deref())
    }

    fn client_of(&self, host: &str, user: Option<&str>) -> ClientBuilder {
        let mut builder = Client::builder(host).namespace(&self.namespace);
        builder = match &self.credential {
            Credential::None => builder,
            Credential::Token(token) => builder.token(token),
            Credential::ApiKey(key) => builder.api_key(key),
        };
        match user {
            Some(user) => builder.user(user),
            None => builder,
        }
    }
}

fn uses_color(color: Color, is_terminal: bool, no_color: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_terminal && !no_color,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Credential, Input, Settings, uses_color};
    use crate::{
        args::{Args, Color, Format},
        config::{Config, Connection, Output},
    };

    fn config() -> Config {
        Config {
            connection: Connection {
                host: Some("conf:1".into()),
                user: Some("conf".into()),
                token: Some("conf".into()),
            },
            output: Output { format: Some(Format::Csv), color: None },
        }
    }

    fn merged(flags: &[&str], config: Config, terminal: bool) -> Settings {
        let args = Args::try_parse_from(["kalam-cli"].iter().chain(flags)).unwrap();
        Settings::merge(args, config, terminal)
    }

    #[test]
    fn flags_come_before_the_file_and_that_before_defaults() {
        let settings = merged(&["-u", "flag", "--json", "--token", "flag"], config(), true);
        assert_eq!((settings.user.as_deref(), settings.host.as_str()), (Some("flag"), "conf:1"));
        assert_eq!(settings.format, Format::Json);
        assert!(matches!(&settings.credential, Credential::Token(token) if token == "flag"));
        assert!(matches!(merged(&["--apikey", "k"], config(), true).credential, Credential::ApiKey(_)));
        assert_eq!(merged(&[], config(), true).format, Format::Csv);
        assert_eq!(merged(&[], Config::default(), true).host, "http://127.0.0.1:2900");
    }

    #[test]
    fn statements_come_from_where_they_are_given() {
        let input = |flags: &[&str], terminal| merged(flags, Config::default(), terminal).input;
        assert_eq!(input(&[], true), Input::Terminal);
        assert_eq!(input(&[], false), Input::Stdin);
        assert_eq!(input(&["--file", "-"], true), Input::Stdin);
        assert_eq!(input(&["--file", "a.sql"], true), Input::File("a.sql".into()));
        assert_eq!(input(&["-c", "a", "-c", "b"], true), Input::Commands(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(uses_color(Color::Auto, true, false));
        assert!(!uses_color(Color::Auto, true, true));
        assert!(!uses_color(Color::Auto, false, false));
        assert!(uses_color(Color::Always, false, true));
        assert!(!uses_color(Color::Never, true, false));
    }
}
