//! EXPORT: what is in the file, for whom, where it may be, and that there is never a part of one.

mod target;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use kalamdb_engine::{
    EngineSettings, ExportFormat, ExportRequest, JobHooks, JobStatus, JobStep, JobType, NoHooks, Reason, Role,
    StorageSettings,
};
use kalamdb_store::{data_dir::free_bytes, segment::restore_column};
use tempfile::TempDir;

use self::target::{Fault, Faults, Hooks, Step};
use crate::{
    fake_s3::FakeS3,
    harness::{Client, Db, int, small, table, texts},
    types::TYPES,
};

/// How long what is swept may stay.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);

/// A database that may export to a folder.
struct Place {
    db: Db,
    out: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self::with_hooks(Arc::new(NoHooks)).await
    }

    async fn with_hooks(hooks: Arc<dyn JobHooks>) -> Self {
        let out = tempfile::tempdir().unwrap();
        let settings = EngineSettings { export_roots: vec![out.path().to_path_buf()], ..small() };
        Self { db: Db::with_hooks(settings, hooks).await, out }
    }

    async fn faulty() -> (Self, Arc<Faults>) {
        let faults = Faults::new();
        (Self::with_hooks(Arc::new(Hooks(Arc::clone(&faults)))).await, faults)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.out.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    /// Every file, also those that begin with a dot.
    fn files(&self) -> Vec<String> {
        files(self.out.path())
    }

    /// Waits until there are these files only.
    async fn until_files(&self, expected: &[&str]) {
        let until = Instant::now() + SWEEP_LIMIT;
        while self.files() != expected {
            assert!(Instant::now() < until, "{:?}", self.files());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no export is under way, and answers how the last ended.
    async fn last_job(&self) -> (JobStatus, u64) {
        let until = Instant::now() + SWEEP_LIMIT;
        loop {
            let jobs = self.db.admin().session.jobs().unwrap();
            let exports = jobs.into_iter().filter(|job| job.job_type == JobType::Export).collect::<Vec<_>>();
            if exports.iter().all(|job| job.status.is_final()) {
                let last = exports.first().expect("an export");
                return (last.status, last.progress.rows);
            }
            assert!(Instant::now() < until, "{exports:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![folder.to_owned()];
    while let Some(next) = rest.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rest.push(path)
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string())
            }
        }
    }
    found.sort();
    found
}

/// The rows of a Parquet file, and how many groups they are in.
fn parquet(path: &Path) -> (Vec<RecordBatch>, usize) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let groups = reader.metadata().num_row_groups();
    (reader.build().unwrap().map(Result::unwrap).collect(), groups)
}

async fn notes(client: &Client) {
    client.run("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT, n INT)").await;
}

#[tokio::test]
async fn a_table_and_a_query_become_files() {
    let place = Place::new().await;
    let (admin, ana) = (place.db.admin(), place.db.user("ana"));
    notes(&admin).await;
    ana.run("INSERT INTO notes VALUES (1, 'one, \"1\"', 10), (2, NULL, 20), (3, '', NULL)").await;
    admin.run("FLUSH TABLE notes FORCE").await;
    ana.run("UPDATE notes SET n = 21 WHERE id = 2").await;

    let done = ana.run("EXPORT FROM notes TO 'notes.csv'").await;
    assert_eq!(done.row_count, 3);
    let csv = place.text("users/ana/notes.csv");
    assert_eq!(done.message, format!("EXPORT 3 rows, {} bytes", csv.len()));
    let mut lines: Vec<&str> = csv.lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(lines, ["id,body,n", "1,\"one, \"\"1\"\"\",10", "2,,21", "3,\"\","]);

    let sorted = "EXPORT FROM (SELECT n, id AS key FROM notes WHERE id > $1 ORDER BY id) TO 'deep/er/n.x' FORMAT json";
    assert_eq!(ana.run_with(sorted, &[int(1)]).await.row_count, 2);
    assert_eq!(place.text("users/ana/deep/er/n.x"), "{\"n\":21,\"key\":\"2\"}\n{\"n\":null,\"key\":\"3\"}\n");

    ana.run("EXPORT FROM (SELECT * FROM notes ORDER BY id) TO 'n.parquet'").await;
    let (batches, _) = parquet(&place.path("users/ana/n.parquet"));
    let rows: Vec<_> = batches.iter().flat_map(texts).collect();
    assert_eq!(rows, table(&[["1", "one, \"1\"", "10"], ["2", "NULL", "21"], ["3", "", "NULL"]]));

    // A file of no rows is a file.
    assert_eq!(ana.run("EXPORT FROM (SELECT * FROM notes WHERE id > 9) TO 'none.csv'").await.row_count, 0);
    assert_eq!(place.text("users/ana/none.csv"), "id,body,n\n");
    assert_eq!(ana.run("EXPORT FROM (SELECT * FROM notes WHERE id > 9) TO 'none.parquet'").await.row_count, 0);
    assert_eq!(parquet(&place.path("users/ana/none.parquet")).0.len(), 0);
    // By key, and two columns of one name.
    ana.run("EXPORT FROM (SELECT id, id FROM notes WHERE id = 2) TO 'key.csv'").await;
    assert_eq!(place.text("users/ana/key.csv"), "id,id_2\n2,2\n");

    let shown = "SELECT status, namespace, \"table\", rows, parameters FROM system.jobs WHERE type = 'export' ORDER BY job_id LIMIT 1";
    let job = admin.rows(shown).await;
    assert_eq!(job[0][..4], ["completed", "app", "notes", "3"]);
    assert!(job[0][4].contains("uri=notes.csv") && job[0][4].contains("user_id=ana"), "{job:?}");
}

#[tokio::test]
async fn every_type_comes_back_from_parquet_as_it_was() {
    let place = Place::new().await;
    let admin = place.db.admin();
    for (i, (sql_type, values)) in TYPES.iter().enumerate() {
        admin.run(format!("CREATE SHARED TABLE t{i} (id BIGINT PRIMARY KEY, v {sql_type}) ACCESS private")).await;
        let rows: Vec<String> = values.iter().enumerate().map(|(id, (value, _))| format!("({id}, {value})")).collect();
        admin.run(format!("INSERT INTO t{i} VALUES {}, ({}, NULL)", rows.join(", "), values.len())).await;
        let query = format!("SELECT * FROM t{i} ORDER BY id");
        for format in ["parquet", "csv", "json"] {
            let done = admin.run(format!("EXPORT FROM ({query}) TO 't{i}.{format}'")).await;
            assert_eq!(done.row_count as usize, values.len() + 1, "{sql_type} as {format}");
        }
        let columns = admin.run(&query).await.columns;
        let (batches, _) = parquet(&place.path(&format!("t{i}.parquet")));
        let mut read = Vec::new();
        for batch in &batches {
            let column = restore_column(batch.column(1), &columns[1].sql_type.to_arrow()).unwrap();
            let field = columns[1].sql_type.to_field("v", true);
            let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
            read.extend(texts(&RecordBatch::try_new(schema, vec![column]).unwrap()).concat());
        }
        let expected: Vec<String> =
            values.iter().map(|(_, answer)| (*answer).to_owned()).chain(["NULL".to_owned()]).collect();
        assert_eq!(read, expected, "{sql_type}");
        for line in place.text(&format!("t{i}.json")).lines() {
            assert!(line.starts_with("{\"id\":\"") && line.ends_with('}'), "{sql_type}: {line}");
        }
        assert_eq!(place.text(&format!("t{i}.csv")).lines().next(), Some("id,v"));
    }
}

#[tokio::test]
async fn many_rows_are_in_order_and_in_several_groups() {
    let place = Place::new().await;
    let admin = place.db.admin();
    let query = "(SELECT value AS id, concat('text ', value) AS t FROM generate_series(1, 300000) ORDER BY 1)";
    let mut export = admin
        .session
        .export(ExportRequest { from: query.to_owned(), uri: "many.parquet".to_owned(), ..ExportRequest::default() })
        .await
        .unwrap();
    let done = export.outcome().await.unwrap();
    assert_eq!((done.rows, done.format, done.uri.as_str()), (300_000, ExportFormat::Parquet, "many.parquet"));
    assert_eq!(done.bytes, fs::metadata(place.path("many.parquet")).unwrap().len());
    assert_eq!((export.progress().rows, export.progress().bytes), (done.rows, done.bytes));
    let (batches, groups) = parquet(&place.path("many.parquet"));
    assert!(groups > 1, "{groups} groups");
    let ids: Vec<String> = batches.iter().flat_map(texts).map(|row| row[0].clone()).collect();
    assert!(ids.iter().enumerate().all(|(at, id)| *id == (at + 1).to_string()), "in order, and all");
    admin.run(format!("EXPORT FROM {query} TO 'many.csv'")).await;
    let csv = place.text("many.csv");
    assert_eq!((csv.lines().count(), csv.lines().last()), (300_001, Some("300000,text 300000")));
    assert_eq!(place.files(), ["many.csv", "many.parquet"]);
}

#[tokio::test]
async fn what_a_caller_may_not_read_is_not_exported() {
    let place = Place::new().await;
    let (admin, ana, bob) = (place.db.admin(), place.db.user("ana"), place.db.user("bob"));
    notes(&admin).await;
    ana.run("INSERT INTO notes VALUES (1, 'of ana', 1)").await;
    bob.run("INSERT INTO notes VALUES (1, 'of bob', 1), (2, 'of bob', 2)").await;
    admin
        .run("CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, owner TEXT) ACCESS restricted; INSERT INTO board VALUES (1, 'ana'), (2, 'bob'); CREATE SHARED TABLE closed (id BIGINT PRIMARY KEY) ACCESS private; CREATE USER ana PERMISSIONS ('app.board.owner = CURRENT_USER()')")
        .await;
    ana.run("EXPORT FROM notes TO 'notes.csv'").await;
    assert_eq!(place.text("users/ana/notes.csv"), "id,body,n\n1,of ana,1\n");
    ana.run("EXPORT FROM board TO 'board.csv'").await;
    assert_eq!(place.text("users/ana/board.csv"), "id,owner\n1,ana\n");
    for from in ["app.all_users.notes", "closed", "(SELECT * FROM closed)"] {
        ana.fails(Reason::PermissionDenied, format!("EXPORT FROM {from} TO 'x.csv'")).await;
    }
    ana.fails(Reason::TableNotFound, "EXPORT FROM nothing TO 'x.csv'").await;
    assert_eq!(place.files(), ["users/ana/board.csv", "users/ana/notes.csv"]);

    let service = place.db.role(Role::Service);
    service.run("EXPORT FROM (SELECT count(*) AS c FROM app.all_users.notes) TO 'all.csv'").await;
    assert_eq!(place.text("all.csv"), "c\n3\n");
    // Who acts for a user reads as the user, and writes where the user may.
    let acting = place.db.acting(Role::Service, "bob");
    acting.run("EXPORT FROM notes TO 'notes.csv'").await;
    assert_eq!(place.text("users/bob/notes.csv").lines().count(), 3);
    acting.fails(Reason::PathNotAllowed, format!("EXPORT FROM notes TO '{}'", place.path("x.csv").display())).await;
}

#[tokio::test]
async fn files_are_made_where_it_is_allowed_and_never_over_others() {
    let place = Place::new().await;
    let admin = place.db.admin();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), place.path("link")).unwrap();
    symlink(elsewhere.path().join("new.csv"), place.path("dangling.csv")).unwrap();
    for uri in ["../x.csv", "link/x.csv", "/etc/x.csv", "a/../../x.csv", "", "x/", "s\u{0}.csv"] {
        let error = admin.fails(Reason::PathNotAllowed, format!("EXPORT FROM (SELECT 1) TO '{uri}' FORMAT csv")).await;
        // What is wrong with the text alone is shown in the statement.
        assert!(error.position().is_some() || ["link/x.csv", "/etc/x.csv"].contains(&uri), "{uri}: {error}");
    }
    admin.fails(Reason::StorageNotFound, "EXPORT FROM (SELECT 1) TO 's3://bucket/x.csv'").await;
    admin.fails(Reason::FileExists, "EXPORT FROM (SELECT 1) TO 'dangling.csv'").await;
    admin.fails(Reason::InvalidStatement, "EXPORT FROM (SELECT 1) TO 'x.txt'").await;
    assert_eq!(files(elsewhere.path()), Vec::<String>::new());

    admin.run("EXPORT FROM (SELECT 1 AS one) TO 'x.csv'").await;
    let error = admin.fails(Reason::FileExists, "EXPORT FROM (SELECT 2 AS two) TO 'x.csv'").await;
    assert_eq!(error.metadata()["uri"], "x.csv");
    assert_eq!(place.text("x.csv"), "one\n1\n");
    // Of two at once one is first, and the other has nothing.
    let both = tokio::join!(
        admin.try_run("EXPORT FROM (SELECT 'a' AS x) TO 'race.csv'"),
        admin.try_run("EXPORT FROM (SELECT 'b' AS x) TO 'race.csv'")
    );
    let lost = both.0.as_ref().err().or(both.1.as_ref().err()).expect("one of them fails");
    assert_eq!(lost.reason(), Reason::FileExists);
    assert_eq!(usize::from(both.0.is_ok()) + usize::from(both.1.is_ok()), 1);
    assert_eq!(place.text("race.csv"), if both.0.is_ok() { "x\na\n" } else { "x\nb\n" });
    place.until_files(&["dangling.csv", "race.csv", "x.csv"]).await;

    let without = Db::memory().await;
    let error = without.admin().fails(Reason::PathNotAllowed, "EXPORT FROM (SELECT 1) TO 'x.csv'").await;
    assert!(error.message().contains("paths.export_roots"), "{error}");
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let (place, faults) = Place::faulty().await;
    let admin = place.db.admin();
    // More than a part.
    let large = "(SELECT value, repeat('x', 40) AS x FROM generate_series(1, 200000))";
    for (step, fault, reason) in [
        (Step::Look, Fault::Denied, Reason::StorageDenied),
        (Step::Begin, Fault::Full, Reason::DiskFull),
        (Step::Part, Fault::Full, Reason::DiskFull),
        (Step::Part, Fault::Denied, Reason::StorageDenied),
        (Step::Complete, Fault::Full, Reason::DiskFull),
        (Step::Rename, Fault::Denied, Reason::StorageDenied),
    ] {
        for from in ["(SELECT 1)", large] {
            faults.set(step, fault);
            admin.fails(reason, format!("EXPORT FROM {from} TO 'x.csv'")).await;
            faults.none();
            place.until_files(&[]).await;
            assert_eq!(place.last_job().await.0, JobStatus::Failed, "{step:?}, {fault:?}");
        }
    }
    let late = "(SELECT 1 / (value - 290000) AS x, repeat('x', 40) AS y FROM generate_series(1, 300000))";
    for format in ["csv", "json", "parquet"] {
        assert!(admin.try_run(format!("EXPORT FROM {late} TO 'x.{format}'")).await.is_err());
        place.until_files(&[]).await;
    }
    faults.at_step(|step| if step == JobStep::BeforeCommit { Err("no".to_owned()) } else { Ok(()) });
    admin.fails(Reason::StorageUnreachable, format!("EXPORT FROM {large} TO 'x.csv'")).await;
    faults.at_step(|_| Ok(()));
    place.until_files(&[]).await;
    // And then it works.
    admin.run(format!("EXPORT FROM {large} TO 'x.csv'")).await;
    assert_eq!(place.files(), ["x.csv"]);
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_left_alone() {
    let out = tempfile::tempdir().unwrap();
    let export_roots = vec![out.path().to_path_buf()];
    let db =
        Db::with(EngineSettings { export_roots, min_free_disk_bytes: u64::MAX, ..EngineSettings::default() }).await;
    let error = db.admin().fails(Reason::DiskFull, "EXPORT FROM (SELECT 1) TO 'x.csv'").await;
    assert!(error.message().contains("storage.min_free_disk_mb"), "{error}");
    assert_eq!(files(out.path()), Vec::<String>::new());

    // With just what must be free, the next write of anybody would be refused.
    let free = free_bytes(out.path()).unwrap();
    let export_roots = vec![out.path().to_path_buf()];
    let settings = EngineSettings { export_roots, min_free_disk_bytes: free / 3 * 2, ..EngineSettings::default() };
    let db = Db::with(settings.clone()).await;
    db.admin().fails(Reason::DiskFull, "EXPORT FROM (SELECT 1) TO 'x.csv'").await;
    let db = Db::with(EngineSettings { min_free_disk_bytes: free / 4, ..settings }).await;
    db.admin().run("EXPORT FROM (SELECT 1) TO 'x.csv'").await;
}

#[tokio::test]
async fn an_export_ends_when_nobody_waits_for_it() {
    let (place, faults) = Place::faulty().await;
    let admin = place.db.admin();
    let large = "EXPORT FROM (SELECT value, repeat('x', 40) AS x FROM generate_series(1, 1000000)) TO 'x.csv'";
    faults.set(Step::Part, Fault::Hold);
    let gone = tokio::spawn({
        let admin = admin.clone();
        async move { admin.try_run(large).await }
    });
    faults.until_held(1).await;
    assert_eq!(place.files().len(), 1, "{:?}", place.files());
    gone.abort();
    assert!(gone.await.is_err());
    faults.none();
    assert_eq!(place.last_job().await.0, JobStatus::Cancelled);
    place.until_files(&[]).await;

    // Its time is over.
    let (place, faults) = Place::faulty().await;
    let admin = place.db.admin();
    faults.set(Step::Part, Fault::Hold);
    let mut request = admin.request(large, &[]);
    request.timeout = Some(Duration::from_millis(300));
    let error = admin.try_request(request).await.unwrap_err();
    assert_eq!(error.reason(), Reason::StatementTimeout);
    faults.none();
    place.until_files(&[]).await;
    assert_eq!(place.last_job().await.0, JobStatus::Failed);
}

#[tokio::test]
async fn an_engine_that_closes_ends_its_exports() {
    let (mut place, faults) = Place::faulty().await;
    let admin = place.db.admin();
    faults.set(Step::Part, Fault::Hold);
    let large = "EXPORT FROM (SELECT value, repeat('x', 40) AS x FROM generate_series(1, 1000000)) TO 'x.csv'";
    let exporting = tokio::spawn(async move { admin.try_run(large).await.unwrap_err().reason() });
    faults.until_held(1).await;
    let engine = Arc::clone(place.db.engine());
    tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    assert_eq!(exporting.await.unwrap(), Reason::ShuttingDown);
    faults.none();
    place.until_files(&[]).await;
    place.db.close();
}

#[tokio::test]
async fn a_user_has_few_exports_at_a_time() {
    let (place, faults) = Place::faulty().await;
    notes(&place.db.admin()).await;
    let ana = place.db.user("ana");
    faults.set(Step::Part, Fault::Hold);
    let held: Vec<_> = (0..2)
        .map(|i| {
            let ana = ana.clone();
            tokio::spawn(async move { ana.try_run(format!("EXPORT FROM notes TO '{i}.csv'")).await })
        })
        .collect();
    faults.until_held(2).await;
    let error = ana.fails(Reason::TooManyRequests, "EXPORT FROM notes TO 'x.csv'").await;
    assert!(error.metadata().contains_key("limit"), "{error}");
    faults.none();
    for export in held {
        export.await.unwrap().unwrap();
    }
    ana.run("EXPORT FROM notes TO 'x.csv'").await;
}

/// What a SIGKILL leaves behind while a file is written, and shortly before it has its name.
#[tokio::test]
async fn what_a_crash_leaves_behind_is_deleted() {
    for step in [JobStep::BeforeUpload, JobStep::BeforeCommit] {
        let faults = Faults::new();
        let (data, copy, out) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = |folder: &Path| EngineSettings {
            storage: StorageSettings::Directory(folder.to_path_buf()),
            export_roots: vec![out.path().to_path_buf()],
            ..small()
        };
        let mut db = Db::with_hooks(settings(data.path()), Arc::new(Hooks(Arc::clone(&faults)))).await;
        let (from, to, root) = (data.path().to_owned(), copy.path().to_owned(), out.path().to_owned());
        let left = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen = Arc::clone(&left);
        faults.at_step(move |reached| {
            if reached == step {
                copy_folder(&from, &to);
                *seen.lock() = files(&root);
            }
            Ok(())
        });
        let large = "EXPORT FROM (SELECT value, repeat('x', 40) AS x FROM generate_series(1, 200000)) TO 'x.csv'";
        db.admin().run(large).await;
        db.close();
        assert_eq!(files(out.path()), ["x.csv"]);
        let left = left.lock().clone();
        assert_eq!(left.len(), usize::from(step == JobStep::BeforeCommit), "{left:?}");
        for name in &left {
            assert!(name.starts_with(".x.csv."), "{name}");
            fs::write(out.path().join(name), "a part").unwrap();
        }

        let db = Db::with(settings(copy.path())).await;
        let until = Instant::now() + SWEEP_LIMIT;
        while files(out.path()) != ["x.csv"] {
            assert!(Instant::now() < until, "{:?}", files(out.path()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = "SELECT status FROM system.jobs WHERE type = 'export'";
        while db.admin().rows(status).await != table(&[["interrupted"]]) {
            assert!(Instant::now() < until, "{:?}", db.admin().rows(status).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            // What is there at this moment, as after a crash.
            let _ = fs::copy(&path, target);
        }
    }
}

/// Settings of a database in `folder` that may have storages with credentials.
fn with_storages(folder: &Path) -> EngineSettings {
    let key = kalamdb_engine::SecretKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    EngineSettings {
        storage: StorageSettings::Directory(folder.to_path_buf()),
        storage_request_timeout_s: 20,
        storage_max_retries: 0,
        storage_secret_key: Some(key),
        ..small()
    }
}

/// An upload in parts that is completed takes the place of whatever is there: there is never a second one.
#[tokio::test]
async fn an_object_is_written_by_one_export_at_a_time() {
    let s3 = FakeS3::start("one");
    let (data, faults) = (tempfile::tempdir().unwrap(), Faults::new());
    let db = Db::with_hooks(with_storages(data.path()), Arc::new(Hooks(Arc::clone(&faults)))).await;
    let admin = db.admin();
    let credentials = s3.credentials("one", "secret");
    admin.run(format!("CREATE STORAGE cold TYPE S3 URI 's3://bucket/base' CREDENTIALS '{credentials}'")).await;
    let large = |x: &str| format!("(SELECT value, repeat('{x}', 100) AS x FROM generate_series(1, 200000))");
    faults.set(Step::Part, Fault::Hold);
    let first = tokio::spawn({
        let (admin, from) = (admin.clone(), large("a"));
        async move { admin.try_run(format!("EXPORT FROM {from} TO 's3://bucket/base/out.csv'")).await }
    });
    faults.until_held(1).await;
    for from in [large("b"), "(SELECT 1)".to_owned()] {
        let sql = format!("EXPORT FROM {from} TO 's3a://bucket/base/out.csv'");
        let error = admin.fails(Reason::FileExists, sql).await;
        assert!(error.message().contains("Another export"), "{error}");
    }
    faults.none();
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.row_count, 200_000);
    let object = s3.object("base/out.csv").unwrap();
    assert!(!object.contains(&b'b'), "of the first alone");
    assert_eq!(s3.uploads(), (1, 0));
    // Others are free, and so is this one again, but for the file that is there.
    let error = admin.fails(Reason::FileExists, "EXPORT FROM (SELECT 1) TO 's3://bucket/base/out.csv'").await;
    assert!(error.message().contains("already"), "{error}");
    admin.run("EXPORT FROM (SELECT 1) TO 's3://bucket/base/other.csv'").await;
}

#[tokio::test]
async fn an_object_store_has_the_object_when_it_is_whole() {
    let s3 = FakeS3::start("one");
    let data = tempfile::tempdir().unwrap();
    let db = Db::with(with_storages(data.path())).await;
    let admin = db.admin();
    let credentials = s3.credentials("one", "secret");
    admin.run(format!("CREATE STORAGE cold TYPE S3 URI 's3://bucket/base' CREDENTIALS '{credentials}'")).await;
    admin.run("EXPORT FROM (SELECT 1 AS one) TO 's3://bucket/base/out/small.csv'").await;
    assert_eq!(s3.object("base/out/small.csv").unwrap(), b"one\n1\n");
    assert_eq!(s3.uploads(), (0, 0), "what fits in one part is put as a whole");
    admin.fails(Reason::FileExists, "EXPORT FROM (SELECT 2 AS two) TO 's3://bucket/base/out/small.csv'").await;

    let large = "SELECT value, repeat('x', 100) AS x FROM generate_series(1, 200000) ORDER BY value";
    let done = admin.run(format!("EXPORT FROM ({large}) TO 's3://bucket/base/large.csv'")).await;
    let object = s3.object("base/large.csv").unwrap();
    assert!(object.len() > 20_000_000 && done.message.contains(&object.len().to_string()), "{}", done.message);
    assert_eq!(object.split(|byte| *byte == b'\n').count(), 200_002);
    assert_eq!(s3.uploads(), (1, 0));
    admin.fails(Reason::FileExists, format!("EXPORT FROM ({large}) TO 's3://bucket/base/large.csv'")).await;

    // One that fails is aborted.
    let late = "SELECT 1 / (value - 199999) AS y, repeat('x', 100) AS x FROM generate_series(1, 200000) ORDER BY value";
    assert!(admin.try_run(format!("EXPORT FROM ({late}) TO 's3://bucket/base/late.csv'")).await.is_err());
    assert_eq!((s3.uploads().1, s3.object("base/late.csv")), (0, None));

    for client in [db.role(Role::Service), db.acting(Role::Dba, "ana"), db.user("ana")] {
        client.fails(Reason::PathNotAllowed, "EXPORT FROM (SELECT 1) TO 's3://bucket/base/x.csv'").await;
    }
    admin.fails(Reason::StorageNotFound, "EXPORT FROM (SELECT 1) TO 's3://other/x.csv'").await;
    s3.allow("another");
    admin.fails(Reason::StorageDenied, "EXPORT FROM (SELECT 1) TO 's3://bucket/base/x.csv'").await;
}
