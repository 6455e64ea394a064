//! The sqllogictest files of this crate, and that the runner finds what is wrong.

use std::path::{Path, PathBuf};

use kalamdb_tests::{
    server::shared_url,
    slt::{files, run_file, run_files},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_file_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let files = files(&folder).unwrap();
    assert!(files.len() >= 8, "the files are found: {files:?}");
    let reports = run_files(shared_url(), files, 2, |report| println!("{report}")).await;
    let failures: Vec<String> = reports.iter().flat_map(|report| report.failures.clone()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(reports.iter().map(|report| report.passed).sum::<usize>() > 200, "records really ran");
}

/// Runs this text as a file; the number of records that passed and failed.
async fn outcome(text: &str) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("planted.slt");
    std::fs::write(&path, text).unwrap();
    let report = run_file(shared_url(), path).await;
    (report.passed, report.failed)
}

#[tokio::test]
async fn wrong_expectations_are_found() {
    let setup =
        "statement ok\nCREATE TABLE t(a INTEGER, b TEXT)\n\nstatement ok\nINSERT INTO t VALUES (1, 'x'), (2, NULL)\n\n";
    for (record, right) in [
        ("query IT nosort\nSELECT * FROM t ORDER BY a\n----\n1 x\n2 NULL\n", true),
        ("query IT nosort\nSELECT * FROM t ORDER BY a\n----\n1\nx\n2\nNULL\n", true),
        ("query IT rowsort\nSELECT * FROM t\n----\n2\nNULL\n1\nx\n", false),
        ("query IT nosort\nSELECT * FROM t ORDER BY a\n----\n1 x\n", false),
        ("query I\nSELECT a FROM t ORDER BY a\n----\n1\n3\n", false),
        ("statement ok\nSELECT nothing FROM t\n", false),
        ("statement error\nSELECT a FROM t\n", false),
        ("statement error COLUMN_NOT_FOUND\nSELECT nothing FROM t\n", true),
        ("statement error TABLE_NOT_FOUND\nSELECT nothing FROM t\n", false),
        ("statement count 1\nDELETE FROM t\n", false),
    ] {
        let expected = if right { (3, 0) } else { (2, 1) };
        assert_eq!(outcome(&format!("{setup}{record}")).await, expected, "{record}");
    }
    assert_eq!(outcome("system ok\ntouch /tmp/should-not-exist\n\nquery I\nSELECT 1\n----\n1\n").await, (1, 0));
    assert_eq!(outcome("onlyif sqlite\nquery I\nSELECT nonsense\n----\n1\n").await, (0, 0));
}
