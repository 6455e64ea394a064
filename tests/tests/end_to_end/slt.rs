//! The sqllogictest files of this crate, and that the runner finds what is wrong.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kalamdb_tests::{
    server::{binary, shared_url},
    slt::{Report, Tier, files, run_file, run_files},
};

async fn every_file_passes(tier: Tier) -> Vec<Report> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let files = files(&folder).unwrap();
    assert!(files.len() >= 8, "the files are found: {files:?}");
    println!("rows are {tier}");
    let reports = run_files(shared_url(), files, tier, 2, |report| println!("{report}")).await;
    let failures: Vec<String> = reports.iter().flat_map(|report| report.failures.clone()).collect();
    assert!(failures.is_empty(), "rows are {tier}\n{}", failures.join("\n"));
    assert!(reports.iter().map(|report| report.passed).sum::<usize>() > 200, "records really ran");
    reports
}

fn moves(reports: &[Report]) -> usize {
    reports.iter().map(|report| report.moves).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_passes_with_hot_rows() {
    assert_eq!(moves(&every_file_passes(Tier::Hot).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_passes_with_cold_rows() {
    assert!(moves(&every_file_passes(Tier::Cold).await) >= 10, "rows really were flushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_passes_with_rows_in_both_tiers() {
    let moves = moves(&every_file_passes(Tier::Mixed { seed: rand::random() }).await);
    assert!(moves > 0, "rows really were flushed");
}

#[tokio::test]
async fn a_single_file_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("named.txt");
    std::fs::write(&named, "query I\nSELECT 1\n----\n1\n").unwrap();
    for (path, status) in [(&named, 0), (&folder.path().join("missing.slt"), 2), (&folder.path().to_owned(), 2)] {
        let run = tokio::process::Command::new(binary("slt"))
            .arg(path)
            .env("KALAMDB_TEST_SERVER", shared_url())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), run).await.expect("slt ends").unwrap();
        assert_eq!(output.status.code(), Some(status), "{}: {output:?}", path.display());
    }
}

/// Runs this text as a file; the number of records that passed and failed.
async fn outcome(text: &str) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("planted.slt");
    std::fs::write(&path, text).unwrap();
    let report = run_file(shared_url(), path, Tier::Hot).await;
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
