use std::fs;

use super::*;

#[test]
fn makes_and_reopens_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    let dir = DataDir::open(&path).unwrap();
    assert_eq!(fs::read_to_string(path.join("FORMAT")).unwrap(), "kalamdb data format 1\n");
    fs::create_dir(dir.rocks_path()).unwrap();
    fs::write(dir.rocks_path().join("x"), [0; 1000]).unwrap();
    assert_eq!(dir.size_bytes().unwrap(), 1000 + "kalamdb data format 1\n".len() as u64);
    drop(dir);
    assert_eq!(DataDir::open(&path).unwrap().path(), path);
}

#[test]
fn refuses_a_second_opening_until_the_first_ends() {
    let temp = tempfile::tempdir().unwrap();
    let first = DataDir::open(temp.path()).unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::Locked { .. })));
    drop(first);
    assert!(DataDir::open(temp.path()).is_ok());
}

#[test]
fn refuses_newer_and_damaged_formats() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("FORMAT"), "kalamdb data format 2\n").unwrap();
    let error = DataDir::open(temp.path()).unwrap_err();
    assert!(matches!(error, DataDirError::NewerFormat { found: 2, supported: 1, .. }));
    assert!(error.to_string().contains("has format 2, but this version reads formats up to 1"), "{error}");
    for damaged in [&b""[..], b"kalamdb data format x\n", b"kalamdb data format 0", b"\xff\xfe"] {
        fs::write(temp.path().join("FORMAT"), damaged).unwrap();
        assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::BadFormatFile { .. })));
    }
}

#[test]
fn refuses_a_foreign_directory_and_leaves_it_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("letter.txt"), "dear ...").unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(DataDirError::NotADataDir { .. })));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn takes_up_an_interrupted_first_start() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("LOCK"), "").unwrap();
    fs::write(temp.path().join("FORMAT.new"), "kalam").unwrap();
    assert!(DataDir::open(temp.path()).is_ok());
}

#[test]
fn names_the_path_that_cannot_be_used() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DataDir::open(file.join("data")).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
