use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::{Config, INITIAL, history, load, parse};
use crate::args::{Color, Format};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_first_run_makes_private_files_and_a_second_reads_them() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join(".kalam");
    assert_eq!(load(&folder).unwrap(), Config::default());
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("config.toml")), 0o600);
    assert_eq!(load(&folder).unwrap(), Config::default());

    let history = history(&folder).unwrap();
    assert_eq!(mode(&history), 0o600);
    fs::write(&history, "SELECT 1").unwrap();
    super::history(&folder).unwrap();
    assert_eq!(fs::read_to_string(&history).unwrap(), "SELECT 1");
}

#[test]
fn the_initial_file_shows_every_key() {
    // Of the credentials only one may be there.
    for credential in ["token", "apikey", "login"] {
        let others: Vec<_> = ["token", "apikey", "login"].into_iter().filter(|other| *other != credential).collect();
        let uncommented: String = INITIAL
            .lines()
            .skip(2)
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .filter(|line| !others.iter().any(|other| line.starts_with(other)))
            .collect();
        let config = parse(&uncommented).unwrap();
        let connection = &config.connection;
        assert_eq!(connection.host.as_deref(), Some("http://127.0.0.1:2900"));
        assert_eq!(connection.user.as_deref(), Some("alice"));
        let given = [&connection.token, &connection.apikey, &connection.login];
        assert_eq!(given.into_iter().flatten().count(), 1, "{credential}");
        assert!(config.tls.ca.is_some() && config.tls.cert.is_some() && config.tls.key.is_some());
        assert_eq!(config.tls.server_name.as_deref(), Some("db.example"));
        assert_eq!((config.output.format, config.output.color), (Some(Format::Table), Some(Color::Auto)));
    }
}

#[test]
fn mistakes_are_named() {
    for (text, named) in [("[connection]\nhosst = 'x'", "hosst"), ("[output]\nformat = 'xml'", "xml"), ("[", "")] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
    for (text, named) in
        [("[connection]\ntoken = 'a'\napikey = 'b'", "keep one"), ("[tls]\ncert = 'c.pem'", "cert and key")]
    {
        assert!(parse(text).unwrap_err().contains(named));
    }
}

#[test]
fn a_mistake_does_not_show_a_secret() {
    for text in ["[connection]\ntoken = 's3cret", "[connection]\napikey = s3cret", "[connection]\ntokn = 's3cret'"] {
        let error = parse(text).unwrap_err();
        assert!(!error.contains("s3cret") && error.contains("line 2"), "{error}");
    }
}

#[test]
fn files_are_beside_the_configuration() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("config.toml"), "[tls]\nca = 'ca.pem'\ncert = '/etc/c.pem'\nkey = '/etc/k.pem'")
        .unwrap();
    let tls = load(home.path()).unwrap().tls;
    assert_eq!(tls.ca.unwrap(), home.path().join("ca.pem"));
    assert_eq!(tls.cert.unwrap(), std::path::Path::new("/etc/c.pem"));
}

#[test]
fn credentials_are_not_printed() {
    for key in ["token", "apikey"] {
        let config = parse(&format!("[connection]\n{key} = 's3cret'")).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_no_error() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    // Reading below a file fails in a way of its own; making a folder there fails, too.
    assert!(load(&file.join(".kalam")).is_err());
    assert_eq!(history(&home.path().join("nowhere")), None);
}
