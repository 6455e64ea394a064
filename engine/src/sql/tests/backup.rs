//! BACKUP DATABASE, RESTORE DATABASE and SHOW BACKUP.

use super::*;

#[test]
fn backups_and_restores_are_parsed() {
    let backup = |sql: &str| match one(sql) {
        Statement::BackupDatabase(backup) => (backup.namespace.text, backup.uri.text, backup.incremental),
        other => panic!("{sql}: {other:?}"),
    };
    let made = |namespace: &str, uri: &str, incremental| (namespace.to_owned(), uri.to_owned(), incremental);
    assert_eq!(backup("BACKUP DATABASE Chat TO '/b/it''s'"), made("chat", "/b/it's", false));
    assert_eq!(backup("backup database \"Chat\" to 's3://b/c' mode incremental;"), made("Chat", "s3://b/c", true));
    assert_eq!(backup("BACKUP DATABASE chat TO 'b' MODE FULL"), made("chat", "b", false));

    let restore = |sql: &str| match one(sql) {
        Statement::RestoreDatabase(restore) => {
            (restore.namespace.text, restore.uri.text, restore.backup, restore.into.map(|name| name.text))
        }
        other => panic!("{sql}: {other:?}"),
    };
    let of = |text: &str| Some(text.to_owned());
    assert_eq!(restore("RESTORE DATABASE chat FROM 'b'"), ("chat".to_owned(), "b".to_owned(), None, None));
    assert_eq!(
        restore("RESTORE DATABASE chat FROM 'b' BACKUP '00ff' AS \"Other\""),
        ("chat".to_owned(), "b".to_owned(), of("00ff"), of("Other"))
    );
    match one("SHOW BACKUP 'b'") {
        Statement::ShowBackup(show) => assert_eq!(show.uri.text, "b"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_backup_is_refused() {
    refused("BACKUP TABLE t TO 'x'", Reason::NotSupported, "BACKUP DATABASE");
    for sql in [
        "BACKUP DATABASE n",
        "BACKUP DATABASE n TO x",
        "BACKUP DATABASE n TO 'x' MODE",
        "BACKUP DATABASE n TO 'x' MODE SOME",
        "BACKUP DATABASE n TO $1",
        "RESTORE DATABASE n TO 'x'",
        "RESTORE DATABASE n FROM 'x' BACKUP 5",
        "RESTORE DATABASE n FROM 'x' AS",
        "SHOW BACKUP",
    ] {
        refused(sql, Reason::SyntaxError, "");
    }
}
