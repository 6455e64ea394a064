use clap::Parser;

use super::{Credential, Environment};
use crate::{args::Args, config::Connection};

fn choose(flags: &[&str], environment: Environment, file: &Connection, same_host: bool) -> Result<Credential, String> {
    let args = Args::try_parse_from(["kalam-cli"].iter().chain(flags)).unwrap();
    Credential::choose(&args, environment, file, same_host)
}

fn environment(token: &str, apikey: &str, password: &str) -> Environment {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Environment { token: given(token), apikey: given(apikey), password: given(password) }
}

fn file() -> Connection {
    Connection { token: Some("file".into()), user: Some("carol".into()), ..Connection::default() }
}

fn token(text: &str) -> Credential {
    Credential::Token(text.to_owned())
}

fn login(username: &str, password: Option<&str>) -> Credential {
    Credential::Login { username: username.to_owned(), password: password.map(str::to_owned) }
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let all = || environment("env", "", "");
    assert_eq!(choose(&["--token", "flag"], all(), &file(), true).unwrap(), token("flag"));
    assert_eq!(choose(&["--apikey", "k"], all(), &file(), true).unwrap(), Credential::ApiKey("k".into()));
    assert_eq!(choose(&[], all(), &file(), true).unwrap(), token("env"));
    assert_eq!(choose(&[], environment("", "k", ""), &file(), true).unwrap(), Credential::ApiKey("k".into()));
    assert_eq!(choose(&[], Environment::default(), &file(), true).unwrap(), token("file"));
    assert!(choose(&[], environment("t", "k", ""), &file(), true).unwrap_err().contains("keep one"));
    // A flag says which of two variables is not meant.
    assert_eq!(choose(&["--token", "flag"], environment("t", "k", ""), &file(), true).unwrap(), token("flag"));
}

#[test]
fn the_credential_of_the_file_is_for_its_host() {
    assert_eq!(choose(&[], Environment::default(), &file(), false).unwrap(), Credential::None);
    assert_eq!(choose(&[], environment("env", "", ""), &file(), false).unwrap(), token("env"));
}

#[test]
fn a_login_has_a_name_and_perhaps_a_password() {
    let nothing = Connection::default();
    let with =
        |flags: &[&str], password: &str, file: &Connection| choose(flags, environment("env", "", password), file, true);
    assert_eq!(with(&["-u", "alice", "--password"], "", &nothing).unwrap(), login("alice", None));
    assert_eq!(with(&["-u", "alice", "--password"], "p", &nothing).unwrap(), login("alice", Some("p")));
    assert_eq!(with(&["-u", "alice", "--login", "svc"], "p", &nothing).unwrap(), login("svc", Some("p")));
    assert_eq!(with(&["--password"], "", &file()).unwrap(), login("carol", None));
    assert!(with(&["--password"], "", &nothing).unwrap_err().contains("--login"));
    let of_file = Connection { login: Some("dave".into()), ..Connection::default() };
    assert_eq!(choose(&[], environment("", "", "p"), &of_file, true).unwrap(), login("dave", Some("p")));
}

#[test]
fn secrets_are_not_printed() {
    let all = [token("s3cret"), Credential::ApiKey("s3cret".into()), login("alice", Some("s3cret"))];
    let printed = format!("{all:?}");
    assert!(printed.contains("alice") && !printed.contains("s3cret"), "{printed}");
}
