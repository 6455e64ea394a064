//! Backups as statements, as calls with progress, through kalam-link, and as DuckDB reads them.

use std::fs;

use futures::StreamExt;
use kalam_link::{BackupEvent, BackupMode, BackupStatus, Restore, process::ServerProcess};
use kalamdb_proto::v1::{
    self, BackupDatabaseRequest, DescribeBackupRequest, RestoreDatabaseRequest,
    backup_database_response::Event as BackedUp, restore_database_response::Event as Restored,
};
use kalamdb_tests::{
    client::{Client, Failure},
    python::run_script,
    server::server_with,
};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{client_of, files_below};

struct Place {
    server: ServerProcess,
    client: Client,
    backups: TempDir,
}

impl Place {
    async fn new() -> Self {
        let backups = tempfile::tempdir().unwrap();
        let server = server_with(&[("paths.backup_roots", backups.path().to_str().unwrap())]).await;
        let client = client_of(&server.endpoint()).await;
        client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, name TEXT)").await;
        client.run("INSERT INTO t VALUES (1, 'one'), (2, NULL), (3, 'three')").await;
        client.run("FLUSH TABLE t FORCE").await;
        client.run("DELETE FROM t WHERE id = 1").await;
        client.run("INSERT INTO t VALUES (4, 'hot')").await;
        Self { server, client, backups }
    }

    fn namespace(&self) -> &str {
        self.client.namespace_name()
    }

    async fn rows(&self, namespace: &str) -> Vec<String> {
        self.client.rows(&format!("SELECT id, name FROM {namespace}.t ORDER BY id")).await
    }
}

#[tokio::test]
async fn statements_back_up_and_restore() {
    let place = Place::new().await;
    let (client, namespace) = (&place.client, place.namespace());
    let made = client.run(&format!("BACKUP DATABASE {namespace} TO 'b'")).await;
    assert!(made.affected().message.starts_with("Backup "), "{made:?}");
    let shown = client.rows("SHOW BACKUP 'b'").await;
    assert_eq!(shown.len(), 1, "{shown:?}");
    client.run(&format!("RESTORE DATABASE {namespace} FROM 'b' AS restored")).await;
    assert_eq!(place.rows("restored").await, place.rows(namespace).await);
    let restore = format!("RESTORE DATABASE {namespace} FROM 'b'");
    client.fails(&restore, "NAMESPACE_EXISTS", Code::AlreadyExists).await;
    let outside = format!("BACKUP DATABASE {namespace} TO '/etc/b'");
    let failure = client.fails(&outside, "PATH_NOT_ALLOWED", Code::FailedPrecondition).await;
    assert!(!failure.message.contains(place.backups.path().to_str().unwrap()), "{failure:?}");
    let jobs = "SELECT type, status FROM system.jobs WHERE type IN ('backup', 'restore') AND status = 'completed' ORDER BY type";
    assert_eq!(client.rows(jobs).await, ["backup | completed", "restore | completed"]);
    // A file of it is altered.
    let files = files_below(place.backups.path());
    let segment =
        files.iter().find(|file| file.ends_with(".parquet") && file.contains("/data/")).expect("a file with rows");
    let path = place.backups.path().join(segment);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let again = format!("RESTORE DATABASE {namespace} FROM 'b' AS again");
    let failure = client.fails(&again, "BACKUP_DAMAGED", Code::DataLoss).await;
    assert!(failure.message.contains("SHA-256"), "{failure:?}");
    assert_eq!(client.rows("SELECT name FROM system.namespaces WHERE name = 'again'").await, Vec::<String>::new());
}

#[tokio::test]
async fn calls_tell_what_happens() {
    let place = Place::new().await;
    let (client, namespace) = (&place.client, place.namespace().to_owned());
    let request = BackupDatabaseRequest { namespace: namespace.clone(), uri: "b".to_owned(), ..Default::default() };
    let mut events = client.admin().backup_database(client.request(request.clone())).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        seen.push(event.event.expect("an event"));
    }
    let Some(BackedUp::Started(started)) = seen.first() else { panic!("no beginning: {seen:?}") };
    let Some(BackedUp::Finished(finished)) = seen.last() else { panic!("no end: {seen:?}") };
    assert_eq!(started.job_id, finished.job_id);
    let progress = finished.progress.expect("what was done");
    assert_eq!((progress.files, progress.rows), (2, 4));
    let id = finished.backup_id.clone();

    // Without waiting, the stream ends when the job exists.
    let soon = BackupDatabaseRequest { mode: v1::BackupMode::Incremental.into(), wait: Some(false), ..request };
    let mut events = client.admin().backup_database(client.request(soon)).await.unwrap().into_inner();
    let first = events.message().await.unwrap().and_then(|event| event.event);
    assert!(matches!(first, Some(BackedUp::Started(_))), "{first:?}");
    assert!(events.message().await.unwrap().is_none());
    // Restores wait for backups.
    let request = RestoreDatabaseRequest {
        namespace: namespace.clone(),
        uri: "b".to_owned(),
        backup_id: id.clone(),
        into: "restored".to_owned(),
        ..Default::default()
    };
    let mut events = client.admin().restore_database(client.request(request.clone())).await.unwrap().into_inner();
    let mut last = None;
    while let Some(event) = events.message().await.unwrap() {
        last = event.event;
    }
    let Some(Restored::Finished(finished)) = last else { panic!("no end: {last:?}") };
    assert_eq!(finished.backup_id, id);
    assert_eq!(place.rows("restored").await, place.rows(&namespace).await);

    let describe = DescribeBackupRequest { uri: "b".to_owned() };
    let backups = client.admin().describe_backup(client.request(describe)).await.unwrap().into_inner().backups;
    assert_eq!(backups.len(), 2);
    assert_eq!((backups[0].backup_id.as_str(), backups[0].mode()), (id.as_str(), v1::BackupMode::Full));
    assert_eq!((backups[1].based_on.as_str(), backups[1].mode()), (id.as_str(), v1::BackupMode::Incremental));
    assert_eq!((backups[0].rows, backups[0].files, backups[0].new_files), (3, 2, 2));
    assert_eq!((backups[1].rows, backups[1].files, backups[1].new_files), (3, 2, 1));
    assert_eq!(backups[0].status(), v1::BackupStatus::Complete);
    assert_eq!(backups[0].tables, ["t"]);

    let refused = client.admin().restore_database(client.request(request.clone())).await.unwrap_err();
    assert_eq!(Failure::from(refused).reason, "NAMESPACE_EXISTS");
    // What fails later ends the stream.
    let missing = RestoreDatabaseRequest { uri: "nothing/here".to_owned(), into: "more".to_owned(), ..request };
    let mut events = client.admin().restore_database(client.request(missing)).await.unwrap().into_inner();
    let failure = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a restore of nothing was made"),
            Err(status) => break Failure::from(status),
        }
    };
    assert!(!failure.meta("job_id").is_empty(), "{failure:?}");
    let wrong = BackupDatabaseRequest { namespace, uri: "b".to_owned(), mode: 77, ..Default::default() };
    let refused = client.admin().backup_database(client.request(wrong)).await.unwrap_err();
    assert_eq!(Failure::from(refused).reason, "INVALID_REQUEST");
}

#[tokio::test]
async fn kalam_link_backs_up_and_restores() {
    let place = Place::new().await;
    let namespace = place.namespace();
    let client = kalam_link::Client::builder(place.server.endpoint()).user("alice").connect().await.unwrap();
    let admin = client.admin();
    let made = admin.backup_database(namespace, "link", BackupMode::Full).await.unwrap();
    assert_eq!((made.progress.files, made.progress.rows), (2, 4));
    let mut events = admin.backup_database_stream(namespace, "link", BackupMode::Incremental).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(event.unwrap());
    }
    assert!(matches!(seen.first(), Some(BackupEvent::Started(_))), "{seen:?}");
    assert!(matches!(seen.last(), Some(BackupEvent::Finished(_))), "{seen:?}");
    let backups = admin.describe_backup("link").await.unwrap();
    assert_eq!(backups.len(), 2);
    assert_eq!(backups[0].backup_id, made.backup_id);
    assert_eq!(backups[1].status, BackupStatus::Complete);
    assert_eq!(
        (backups[1].mode, backups[1].based_on.as_deref()),
        (BackupMode::Incremental, Some(made.backup_id.as_str()))
    );
    let restore = Restore { namespace: namespace.to_owned(), uri: "link".to_owned(), ..Restore::default() };
    let error = admin.restore_database(restore.clone()).await.unwrap_err();
    assert_eq!(error.reason(), Some("NAMESPACE_EXISTS"));
    let done = admin.restore_database(Restore { into: Some("linked".to_owned()), ..restore }).await.unwrap();
    assert_eq!(done.backup_id, backups[1].backup_id, "the newest");
    assert_eq!(place.rows("linked").await, place.rows(namespace).await);
    let error = admin.describe_backup("../link").await.unwrap_err();
    assert_eq!(error.reason(), Some("PATH_NOT_ALLOWED"));
}

/// The directory needs no KalamDB to be read.
#[tokio::test]
async fn duckdb_reads_a_backup() {
    let backups = tempfile::tempdir().unwrap();
    let folder = backups.path().to_str().unwrap();
    let server = server_with(&[("paths.backup_roots", folder)]).await;
    run_script("backup.py", &server.endpoint(), &[folder], &[]).await;
}
