//! How the user proves who they are.

use std::{env, fmt};

use kalam_link::{Client, ClientBuilder, Error, ErrorKind};

use crate::{
    args::Args,
    config::Connection,
    exit::Failure,
    password::{self, VARIABLE},
};

/// The variables that take precedence over the configuration file.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) token: Option<String>,
    pub(crate) apikey: Option<String>,
    pub(crate) password: Option<String>,
}

impl Environment {
    /// Those of the process. An empty one is none.
    pub(crate) fn of_process() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Environment { token: variable("KALAM_TOKEN"), apikey: variable("KALAM_APIKEY"), password: variable(VARIABLE) }
    }
}

/// What is sent with each call. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    None,
    Token(String),
    ApiKey(String),
    Login {
        username: String,
        /// None: it must be asked for.
        password: Option<String>,
    },
}

impl Credential {
    /// Flags come before the environment, and that before the configuration file, whose credential is for the file's own
    /// host: `is_host_of_file`.
    ///
    /// # Errors
    /// A text for the user, where it is not clear which one is meant.
    pub(crate) fn choose(
        args: &Args,
        environment: Environment,
        file: &Connection,
        is_host_of_file: bool,
    ) -> Result<Credential, String> {
        if let Some(token) = &args.token {
            return Ok(Credential::Token(token.clone()));
        }
        if let Some(key) = &args.apikey {
            return Ok(Credential::ApiKey(key.clone()));
        }
        let Environment { token, apikey, password } = environment;
        if args.password || args.login.is_some() {
            let username = args.login.as_ref().or(args.user.as_ref()).or(file.login.as_ref()).or(file.user.as_ref());
            let username = username.ok_or("--password needs --user or --login, to know whose it is")?.clone();
            return Ok(Credential::Login { username, password });
        }
        match (token, apikey) {
            (Some(_), Some(_)) => return Err("KALAM_TOKEN and KALAM_APIKEY are both set; keep one".to_owned()),
            (Some(token), None) => return Ok(Credential::Token(token)),
            (None, Some(key)) => return Ok(Credential::ApiKey(key)),
            (None, None) => {}
        }
        let of_file = match file {
            Connection { token: Some(token), .. } => Credential::Token(token.clone()),
            Connection { apikey: Some(key), .. } => Credential::ApiKey(key.clone()),
            Connection { login: Some(username), .. } => Credential::Login { username: username.clone(), password },
            _ => Credential::None,
        };
        if of_file != Credential::None && !is_host_of_file {
            eprintln!(
                "note: the credential of the configuration file is for another host and is not sent to this one; name one \
                 with --token, --apikey or --password"
            );
            return Ok(Credential::None);
        }
        Ok(of_file)
    }

    /// Asks for what is missing.
    ///
    /// # Errors
    /// [`Failure::Usage`] when nobody can be asked.
    pub(crate) fn complete(&mut self) -> Result<(), Failure> {
        if let Credential::Login { username, password: password @ None } = self {
            *password = Some(password::ask(&format!("Password of {username}: ")).map_err(Failure::Usage)?);
        }
        Ok(())
    }

    /// Whether the user that logs in is the one that --user names, so that the calls act for nobody else.
    pub(crate) fn is_login_of(&self, user: &str) -> bool {
        matches!(self, Credential::Login { username, .. } if username == user)
    }

    /// A client with this credential.
    pub(crate) fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        match self {
            Credential::None => builder,
            Credential::Token(token) => builder.token(token),
            Credential::ApiKey(key) => builder.api_key(key),
            Credential::Login { username, password } => {
                builder.login(username, password.as_deref().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::None => f.write_str("None"),
            Credential::Token(_) => f.write_str("Token(…)"),
            Credential::ApiKey(_) => f.write_str("ApiKey(…)"),
            Credential::Login { username, .. } => write!(f, "Login({username:?}, …)"),
        }
    }
}

/// What to do about an error that a credential is the reason of.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    match (error.kind(), error.reason()) {
        (ErrorKind::Unauthenticated, Some("CREDENTIAL_EXPIRED")) => {
            Some("Get another token, or log in with --user NAME --password.")
        }
        (ErrorKind::Unauthenticated, Some("CREDENTIAL_REVOKED")) => Some(
            "It was taken back, or the session has ended. An administrator makes another: CREATE API KEY FOR USER …",
        ),
        (ErrorKind::Unauthenticated, Some("USER_DISABLED")) => Some("An administrator can say: ALTER USER … ENABLE"),
        (ErrorKind::Unauthenticated, _) => Some(
            "Name a credential: --apikey KEY (or KALAM_APIKEY), --token JWT (or KALAM_TOKEN), or --user NAME --password; \
             at the prompt: \\connect - - --apikey",
        ),
        (ErrorKind::Configuration, _) if error.to_string().contains("allow_plaintext_secrets") => {
            Some("Write --host https://…, or --allow-plaintext.")
        }
        _ => None,
    }
}

/// Who the client is to the server, for a person; none if the server does not say.
pub(crate) async fn identity(client: &Client) -> Result<String, Error> {
    let who = client.auth().who_am_i().await?;
    let caller = &who.caller;
    let name = if caller.username.is_empty() { &caller.user_id } else { &caller.username };
    let acting = if who.effective_user_id == caller.user_id {
        String::new()
    } else {
        format!(", for {}", who.effective_user_id)
    };
    Ok(format!("as {name} (role {}){acting}", caller.role))
}

#[cfg(test)]
mod tests;
