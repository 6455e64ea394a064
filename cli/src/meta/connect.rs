//! `\connect`: another server, another user, another credential.

use kalam_link::{Client, ErrorKind};

use super::{say, wrong};
use crate::{
    credential::{self, Credential},
    escape,
    exit::Failure,
    password,
    session::{Flow, Session},
};

const USAGE: &str = "\\connect [HOST] [USER] [--login NAME | --apikey | --token | --same]; what is secret is asked for";

/// Where and as whom.
#[derive(Debug, PartialEq, Eq)]
struct Order<'a> {
    /// None: as it is.
    host: Option<&'a str>,
    /// None: as it is.
    user: Option<&'a str>,
    proof: Proof<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof<'a> {
    /// As it is, for the same host; none for another.
    Kept,
    /// As it is, for another host, too.
    Same,
    Login(&'a str),
    ApiKey,
    Token,
}

impl<'a> Order<'a> {
    fn parse(arguments: &[&'a str]) -> Option<Order<'a>> {
        let options = arguments.iter().position(|word| word.starts_with("--")).unwrap_or(arguments.len());
        let (names, options) = arguments.split_at(options);
        let given = |name: &'a str| (name != "-").then_some(name);
        let (host, user) = match names {
            [] => (None, None),
            [host] => (given(host), None),
            [host, user] => (given(host), given(user)),
            _ => return None,
        };
        let proof = match options {
            [] => Proof::Kept,
            ["--same"] => Proof::Same,
            ["--login", name] => Proof::Login(name),
            ["--apikey"] => Proof::ApiKey,
            ["--token"] => Proof::Token,
            _ => return None,
        };
        Some(Order { host, user, proof })
    }
}

/// Without arguments, tells what the connection is.
pub(super) async fn run(session: &mut Session, arguments: &[&str]) -> Result<Flow, Failure> {
    let Some(order) = Order::parse(arguments) else { return wrong(USAGE) };
    if !arguments.is_empty() {
        let credential = match credential_of(session, &order) {
            Ok(credential) => credential,
            Err(message) => return wrong(&message),
        };
        match connected(session, &order, &credential).await {
            Ok(client) => {
                if let Some(host) = order.host {
                    host.clone_into(&mut session.settings.host);
                }
                session.settings.user = client.user().map(str::to_owned);
                session.settings.credential = credential;
                session.client = client;
            }
            Err(error) if error.kind() == ErrorKind::Configuration => {
                let advice = credential::advice(&error).map(|advice| format!(". {advice}")).unwrap_or_default();
                return wrong(&format!("{error}{advice}"));
            }
            Err(error) => return Ok(session.fail(&error, "", None)),
        }
    }
    let identity = match credential::identity(&session.client).await {
        Ok(identity) => format!(" {identity}"),
        Err(error) => return Ok(session.fail(&error, "", None)),
    };
    say(&escape::visible(&format!("Connected to {}{identity}.", session.client.endpoint())))
}

fn credential_of(session: &Session, order: &Order<'_>) -> Result<Credential, String> {
    let kept = &session.settings.credential;
    let same_host = order.host.is_none_or(|host| host == session.settings.host);
    match order.proof {
        Proof::Same => Ok(kept.clone()),
        Proof::Kept if same_host => Ok(kept.clone()),
        Proof::Kept => Ok(Credential::None),
        Proof::Login(name) => {
            let password = password::ask(&format!("Password of {name}: "))?;
            Ok(Credential::Login { username: name.to_owned(), password: Some(password) })
        }
        Proof::ApiKey => password::ask("API key: ").map(Credential::ApiKey),
        Proof::Token => password::ask("Token: ").map(Credential::Token),
    }
}

async fn connected(session: &Session, order: &Order<'_>, credential: &Credential) -> Result<Client, kalam_link::Error> {
    let host = order.host.unwrap_or(&session.settings.host);
    // Whoever comes with another credential comes as themselves, unless they say otherwise.
    let kept = matches!(order.proof, Proof::Kept | Proof::Same).then(|| session.client.user()).flatten();
    let user = order.user.or(kept);
    let client = session.settings.client_of(host, user, credential).connect().await?;
    Ok(client.in_namespace(session.client.namespace()))
}

#[cfg(test)]
mod tests {
    use super::{Order, Proof};

    #[test]
    fn what_is_not_said_stays() {
        let order = |host, user, proof| Some(Order { host, user, proof });
        assert_eq!(Order::parse(&[]), order(None, None, Proof::Kept));
        assert_eq!(Order::parse(&["db:1"]), order(Some("db:1"), None, Proof::Kept));
        assert_eq!(Order::parse(&["-", "alice"]), order(None, Some("alice"), Proof::Kept));
        assert_eq!(Order::parse(&["db:1", "-", "--same"]), order(Some("db:1"), None, Proof::Same));
        assert_eq!(Order::parse(&["--login", "svc"]), order(None, None, Proof::Login("svc")));
        assert_eq!(Order::parse(&["-", "bob", "--apikey"]), order(None, Some("bob"), Proof::ApiKey));
        for wrong in [&["a", "b", "c"][..], &["--login"], &["--apikey", "kdb_1_s3cret"], &["--token", "x"], &["--what"]]
        {
            assert_eq!(Order::parse(wrong), None, "{wrong:?}");
        }
    }
}
