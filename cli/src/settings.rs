//! What flags, environment and configuration file come to together.

use std::{
    env,
    io::{IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
};

use kalam_link::{Client, ClientBuilder, Tls};

use crate::{
    args::{Args, Color, Format},
    config::{self, Config},
    credential::{Credential, Environment},
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
    pub(crate) credential: Credential,
    /// How connections are encrypted, for addresses that do not say `http://`.
    tls: Option<Tls>,
    allow_plaintext: bool,
}

/// Where statements come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Terminal,
    Commands(Vec<String>),
    File(PathBuf),
    Stdin,
}

impl Settings {
    /// Flags come before the environment, and that before the configuration file.
    pub(crate) fn new(args: Args) -> Result<Settings, Failure> {
        let folder = config::folder();
        let config = folder.as_deref().map_or_else(|| Ok(Config::default()), config::load).map_err(Failure::Usage)?;
        let history = folder.as_deref().and_then(config::history);
        let settings = Settings::merge(args, Environment::of_process(), config, stdin().is_terminal());
        Ok(Settings { history, ..settings.map_err(Failure::Usage)? })
    }

    fn merge(
        args: Args,
        environment: Environment,
        config: Config,
        stdin_is_terminal: bool,
    ) -> Result<Settings, String> {
        let host_of_file = config.connection.host.as_deref().unwrap_or(DEFAULT_HOST);
        let is_host_of_file = args.host.as_deref().is_none_or(|host| host == host_of_file);
        let credential = Credential::choose(&args, environment, &config.connection, is_host_of_file)?;
        let tls = tls(&args, if is_host_of_file { config.tls } else { config::Tls::default() });
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
        let allow_plaintext = args.allow_plaintext || (is_host_of_file && config.connection.allow_plaintext);
        Ok(Settings {
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
            tls,
            allow_plaintext,
        })
    }

    /// A client to be, for these settings. What is missing of the credential must have been asked for.
    pub(crate) fn client(&self) -> ClientBuilder {
        // Whoever logs in acts for themselves: their name need not be their id.
        let user = self.user.as_deref().filter(|user| !self.credential.is_login_of(user));
        self.client_of(&self.host, user, &self.credential)
    }

    /// The same for another server, user or credential.
    pub(crate) fn client_of(&self, host: &str, user: Option<&str>, credential: &Credential) -> ClientBuilder {
        let mut builder = credential.apply(Client::builder(host).namespace(&self.namespace));
        builder = builder.allow_plaintext_secrets(self.allow_plaintext);
        // Whoever writes http:// means it; what becomes of a credential then is decided elsewhere.
        if let Some(tls) = self.tls.clone().filter(|_| !is_plaintext(host)) {
            builder = builder.tls(tls);
        }
        match user {
            Some(user) => builder.user(user),
            None => builder,
        }
    }
}

fn is_plaintext(host: &str) -> bool {
    host.trim_start().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// The flags, and the file for what they do not say. None when neither says anything.
fn tls(args: &Args, file: config::Tls) -> Option<Tls> {
    let ca = args.tls_ca.clone().or(file.ca);
    let identity = args.tls_cert.clone().zip(args.tls_key.clone()).or(file.cert.zip(file.key));
    let server_name = args.tls_server_name.clone().or(file.server_name);
    if ca.is_none() && identity.is_none() && server_name.is_none() {
        return None;
    }
    let mut tls = Tls::new();
    if let Some(ca) = ca {
        tls = tls.ca_file(ca);
    }
    if let Some((certificate, key)) = identity {
        tls = tls.identity_files(certificate, key);
    }
    if let Some(name) = server_name {
        tls = tls.server_name(name);
    }
    Some(tls)
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

    use super::{Credential, Environment, Input, Settings, uses_color};
    use crate::{
        args::{Args, Color, Format},
        config::{Config, Connection, Output, Tls},
    };

    fn config() -> Config {
        Config {
            connection: Connection {
                host: Some("conf:1".into()),
                user: Some("conf".into()),
                token: Some("conf".into()),
                ..Connection::default()
            },
            tls: Tls { server_name: Some("conf".into()), ..Tls::default() },
            output: Output { format: Some(Format::Csv), color: None },
        }
    }

    fn merged(flags: &[&str], config: Config, terminal: bool) -> Settings {
        let args = Args::try_parse_from(["kalam-cli"].iter().chain(flags)).unwrap();
        Settings::merge(args, Environment::default(), config, terminal).unwrap()
    }

    #[test]
    fn flags_come_before_the_file_and_that_before_defaults() {
        let settings = merged(&["-u", "flag", "--json", "--token", "flag"], config(), true);
        assert_eq!((settings.user.as_deref(), settings.host.as_str()), (Some("flag"), "conf:1"));
        assert_eq!(settings.format, Format::Json);
        assert_eq!(settings.credential, Credential::Token("flag".into()));
        assert_eq!(merged(&[], config(), true).format, Format::Csv);
        assert_eq!(merged(&[], Config::default(), true).host, "http://127.0.0.1:2900");
    }

    #[test]
    fn what_the_file_says_of_its_host_is_not_for_another() {
        assert!(merged(&[], config(), true).tls.is_some());
        let other = merged(&["-h", "other:1"], config(), true);
        assert!(other.tls.is_none());
        assert_eq!(other.credential, Credential::None);
        let same = merged(&["-h", "conf:1"], config(), true);
        assert_eq!(same.credential, Credential::Token("conf".into()));
        assert!(format!("{:?}", merged(&["--tls-ca", "x.pem"], Config::default(), true).tls).contains("x.pem"));
    }

    #[tokio::test]
    async fn whoever_logs_in_acts_for_themselves() {
        let mut settings = merged(&["-u", "alice", "--password"], Config::default(), true);
        settings.credential = Credential::Login { username: "alice".into(), password: Some("p".into()) };
        assert_eq!(settings.client().connect_lazy().unwrap().user(), None);
        settings.credential = Credential::Login { username: "svc".into(), password: Some("p".into()) };
        assert_eq!(settings.client().connect_lazy().unwrap().user(), Some("alice"));
        // TLS is for whoever does not say http://.
        let settings = merged(&["--tls-server-name", "db"], Config::default(), true);
        settings.client_of("http://127.0.0.1:1", None, &Credential::None).connect_lazy().unwrap();
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
