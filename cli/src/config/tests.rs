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
    let uncommented: String =
        INITIAL.lines().skip(1).map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let config = parse(&uncommented).unwrap();
    assert_eq!(config.connection.host.as_deref(), Some("http://127.0.0.1:2900"));
    assert_eq!(config.connection.user.as_deref(), Some("alice"));
    assert!(config.connection.token.is_some());
    assert_eq!((config.output.format, config.output.color), (Some(Format::Table), Some(Color::Auto)));
}

#[test]
fn mistakes_are_named() {
    for (text, named) in [("[connection]\nhosst = 'x'", "hosst"), ("[output]\nformat = 'xml'", "xml"), ("[", "")] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_token_is_not_printed() {
    let config = parse("[connection]\ntoken = 's3cret'").unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
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
