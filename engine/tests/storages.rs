//! Storages: created, altered and dropped by statements and by rows, checked first, and their credentials kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use datafusion::common::ScalarValue;
use kalamdb_engine::{EngineSettings, Parameter, Reason, Role, SecretKey, SqlType, StorageSettings};
use tempfile::TempDir;

use crate::{
    fake_s3::FakeS3,
    harness::{Db, small, table},
};

/// A data directory, and a folder beside it that storages may be in.
struct Place {
    temp: TempDir,
    settings: EngineSettings,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("roots");
        fs::create_dir(&root).unwrap();
        let settings = EngineSettings {
            storage: StorageSettings::Directory(temp.path().join("data")),
            storage_roots: vec![root],
            storage_request_timeout_s: 5,
            storage_max_retries: 0,
            ..small()
        };
        Self { temp, settings }
    }

    fn with_key(mut self, seed: u8) -> Self {
        self.settings.storage_secret_key = Some(key(seed));
        self
    }

    async fn open(&self) -> Db {
        Db::with(self.settings.clone()).await
    }

    /// A folder that a storage may be in.
    fn folder(&self, name: &str) -> PathBuf {
        self.temp.path().canonicalize().unwrap().join("roots").join(name)
    }

    fn uri(&self, name: &str) -> String {
        self.folder(name).display().to_string()
    }
}

/// 32 bytes that differ with the seed.
fn key(seed: u8) -> SecretKey {
    let texts = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "HwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4="];
    SecretKey::from_base64(texts[usize::from(seed)]).unwrap()
}

/// The folders and files below a folder, relative to it.
fn all(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![folder.to_owned()];
    while let Some(next) = rest.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rest.push(path.clone());
            }
            found.push(path.strip_prefix(folder).unwrap().display().to_string());
        }
    }
    found.sort();
    found
}

/// The folders that hold Parquet files.
fn segment_folders(folder: &Path) -> Vec<String> {
    let files = all(folder).into_iter().filter(|path| path.ends_with(".parquet"));
    let mut folders: Vec<_> = files.map(|path| path.rsplit_once('/').unwrap_or_default().0.to_owned()).collect();
    folders.dedup();
    folders
}

fn text(value: &str) -> Parameter {
    Parameter { value: ScalarValue::Utf8View(Some(value.to_owned())), sql_type: SqlType::Text }
}

const SHOWN: &str = "SELECT name, type, uri, credentials, usage_count, tables FROM system.storages ORDER BY name";

#[tokio::test]
async fn a_storage_is_created_used_and_dropped() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    let local = format!("file://{}", place.temp.path().canonicalize().unwrap().join("data/storage").display());
    let local = ["local", "FILESYSTEM", local.as_str(), "NULL", "0", "[]"];
    assert_eq!(admin.rows(SHOWN).await, table(&[local]));

    let create = format!("CREATE STORAGE cold TYPE FILESYSTEM URI 'file://{}/'", place.uri("cold"));
    admin.run(&create).await;
    let uri = format!("file://{}", place.uri("cold"));
    assert_eq!(admin.rows(SHOWN).await, table(&[["cold", "FILESYSTEM", &uri, "NULL", "0", "[]"], local]));
    assert!(all(&place.folder("cold")).is_empty(), "the folder is made, and nothing of the check stays");
    let error = admin.fails(Reason::StorageExists, &create).await;
    assert_eq!(error.metadata()["storage"], "cold");
    admin.run(create.replace("STORAGE", "STORAGE IF NOT EXISTS")).await;

    admin.run("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT) STORAGE cold").await;
    admin.run("CREATE SHARED TABLE facts (id BIGINT PRIMARY KEY) LOCATION REFERENCE 'cold'").await;
    let used = [["cold", "FILESYSTEM", &uri, "NULL", "2", r#"["app.facts","app.notes"]"#], local];
    assert_eq!(admin.rows(SHOWN).await, table(&used));
    let error = admin.fails(Reason::StorageInUse, "DROP STORAGE cold").await;
    assert!(error.message().contains("2 table(s): app.facts, app.notes"), "{error}");
    admin.run("DROP TABLE notes; DROP TABLE facts; DROP STORAGE cold").await;
    assert_eq!(admin.rows(SHOWN).await, table(&[local]));
    admin.run("DROP STORAGE IF EXISTS cold").await;
    admin.fails(Reason::StorageNotFound, "DROP STORAGE cold").await;

    admin.run(&create).await;
    let error =
        admin.fails(Reason::StorageNotFound, "CREATE SHARED TABLE t (id BIGINT PRIMARY KEY) STORAGE clod").await;
    assert_eq!(error.metadata()["nearest"], "cold");
    assert!(error.position().is_some());
}

#[tokio::test]
async fn what_cannot_be_a_storage_is_refused() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    std::os::unix::fs::symlink("/tmp", place.folder("out")).unwrap();
    let data = place.temp.path().join("data").display().to_string();
    let (rocksdb, beside) = (format!("{data}/rocksdb"), format!("{data}x"));
    let (up, out) = (format!("{}/../x", place.uri("a")), place.uri("out"));
    for (kind, uri, said) in [
        ("FILESYSTEM", "/nowhere/at/all", "storage.roots"),
        ("FILESYSTEM", "relative", "absolute path"),
        ("FILESYSTEM", up.as_str(), "'..'"),
        ("FILESYSTEM", out.as_str(), "storage.roots"),
        ("FILESYSTEM", rocksdb.as_str(), "data directory"),
        ("FILESYSTEM", beside.as_str(), "storage.roots"),
        ("S3", "gs://bucket", "s3://bucket/prefix"),
        ("AZURE", "az://container", "account"),
    ] {
        let create = format!("CREATE STORAGE bad TYPE {kind} URI '{uri}'");
        let error = admin.fails(Reason::InvalidStorage, create).await;
        assert!(error.message().contains(said), "{uri}: {error}");
    }
    assert!(!Path::new(&beside).exists() && !Path::new("/nowhere").exists());
    let error = admin
        .fails(
            Reason::InvalidStorage,
            format!("CREATE STORAGE s TYPE FILESYSTEM URI '{}' CREDENTIALS '{{\"a\": 1}}'", out),
        )
        .await;
    assert!(error.message().contains("takes no credentials"), "{error}");
    admin.fails(Reason::InvalidName, format!("CREATE STORAGE \"a b\" TYPE FILESYSTEM URI '{}'", place.uri("a"))).await;
    admin.fails(Reason::StorageExists, format!("CREATE STORAGE local TYPE FILESYSTEM URI '{}'", place.uri("a"))).await;
    admin.fails(Reason::InvalidStorage, format!("ALTER STORAGE local SET URI '{}'", place.uri("a"))).await;
    admin.fails(Reason::InvalidStorage, "DROP STORAGE local").await;
    admin.fails(Reason::StorageNotFound, format!("ALTER STORAGE lokal SET URI '{}'", place.uri("a"))).await;
    for role in [Role::User, Role::Service] {
        let create = format!("CREATE STORAGE s TYPE FILESYSTEM URI '{}'", place.uri("a"));
        db.role(role).fails(Reason::PermissionDenied, create).await;
    }

    let memory = Db::memory().await;
    let create = format!("CREATE STORAGE s TYPE FILESYSTEM URI '{}'", place.uri("a"));
    memory.admin().fails(Reason::InvalidStorage, create).await;
    assert_eq!(memory.admin().value("SELECT uri FROM system.storages").await, "memory:");
}

#[tokio::test]
async fn locations_are_checked_and_found_in_storages() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run(format!("CREATE STORAGE outer TYPE FILESYSTEM URI '{}'", place.uri("outer"))).await;
    admin.run(format!("CREATE STORAGE inner TYPE FILESYSTEM URI '{}'", place.uri("outer/in"))).await;
    let outer = place.uri("outer");
    let define = |kind: &str, location: &str| {
        format!("CREATE {kind} TABLE t (id BIGINT PRIMARY KEY, body TEXT) LOCATION '{location}'")
    };
    for (location, storage, kept) in [
        ("{storageLocation}/{namespace}/{userId}/", "local", "{namespace}/{userId}"),
        ("a/${user_id}", "local", "a/{userId}"),
        (&format!("{outer}/x-{{namespace}}/{{userId}}"), "outer", "x-{namespace}/{userId}"),
        (&format!("file://{outer}/in/{{shard:hash(8)}}/{{userId}}"), "inner", "{shard:hash(8)}/{userId}"),
        (&format!("{outer}/inside/{{userId}}"), "outer", "inside/{userId}"),
    ] {
        admin.run(define("USER", location)).await;
        let found = admin.rows("SELECT storage, location FROM system.tables WHERE table_name = 't'").await;
        assert_eq!(found, table(&[[storage, kept]]), "{location}");
        admin.run("DROP TABLE t").await;
    }
    for (kind, location, said) in [
        ("USER", "{namespace}/{tableName}", "needs {userId}"),
        ("USER", "{userid}", "Did you mean {userId}?"),
        ("USER", "../{userId}", "dot"),
        ("USER", &format!("{outer}/../{{userId}}"), "'..'"),
        ("USER", "ftp://x/{userId}", "begins with file://"),
        ("SHARED", "{userId}", "leave {userId} out"),
        ("SHARED", outer.as_str(), "names no folder"),
    ] {
        let error = admin.fails(Reason::InvalidTableDefinition, define(kind, location)).await;
        assert!(error.message().contains(said) && error.position().is_some(), "{location}: {error}");
    }
    let error = admin.fails(Reason::StorageNotFound, define("USER", "/elsewhere/{userId}")).await;
    assert!(error.message().contains("CREATE STORAGE … URI 'file:///elsewhere'"), "{error}");
}

#[tokio::test]
async fn altering_the_place_is_for_tables_to_come() {
    let place = Place::new();
    let mut db = place.open().await;
    let admin = db.admin();
    admin.run(format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", place.uri("one"))).await;
    admin.run("CREATE SHARED TABLE older (id BIGINT PRIMARY KEY) STORAGE cold; INSERT INTO older VALUES (1)").await;
    admin.run("FLUSH TABLE older FORCE").await;
    admin.run(format!("ALTER STORAGE cold SET URI '{}'", place.uri("two"))).await;
    admin.run("CREATE SHARED TABLE newer (id BIGINT PRIMARY KEY) STORAGE cold; INSERT INTO newer VALUES (3)").await;
    admin.run("INSERT INTO older VALUES (2); FLUSH ALL TABLES FORCE").await;
    let shown = admin.rows("SELECT uri, usage_count FROM system.storages WHERE name = 'cold'").await;
    assert_eq!(shown, table(&[[format!("file://{}", place.uri("two")).as_str(), "2"]]));
    let folders = || (segment_folders(&place.folder("one")), segment_folders(&place.folder("two")));
    assert_eq!(folders(), (vec!["app/older".to_owned()], vec!["app/newer".to_owned()]));

    drop(admin);
    db.reopen();
    let admin = db.admin();
    assert_eq!(admin.rows("SELECT id FROM older ORDER BY id").await, table(&[["1"], ["2"]]));
    assert_eq!(admin.rows("SELECT id FROM newer").await, table(&[["3"]]));
    admin.run("INSERT INTO older VALUES (4); FLUSH TABLE older FORCE").await;
    assert_eq!(folders().1, ["app/newer"]);
    admin.run("DROP TABLE newer").await;
    let error = admin.fails(Reason::StorageInUse, "DROP STORAGE cold").await;
    assert!(error.message().contains("1 table(s): app.older"), "{error}");
    admin.run("DROP TABLE older; DROP STORAGE cold").await;
    assert_eq!(admin.value("SELECT COUNT(*) FROM system.storages").await, "1");
    drop(admin);
    db.reopen();
    assert_eq!(db.admin().value("SELECT COUNT(*) FROM system.storages").await, "1");
    // A name can come again; nothing of what it was before comes with it.
    db.admin().run(format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", place.uri("three"))).await;
    assert_eq!(db.admin().value("SELECT usage_count FROM system.storages WHERE name = 'cold'").await, "0");
}

#[tokio::test]
async fn segments_are_in_the_folders_of_the_template() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run(format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", place.uri("cold"))).await;
    let location = format!("{}/{{shard}}/{{userId}}/{{tableName}}", place.uri("cold"));
    let define = format!("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT) LOCATION '{location}'");
    admin.run(define).await;
    let long = "é".repeat(256);
    for user in ["ana", "../../etc", "..", "a/b", "\0", "Zoë", &long] {
        db.user(user).run("INSERT INTO notes VALUES (1, CURRENT_USER())").await;
    }
    admin.run("FLUSH TABLE notes FORCE").await;
    let folders = segment_folders(&place.folder("cold"));
    for folder in [
        "a/a!2fb/notes",
        "a/ana/notes",
        "other/!00/notes",
        "other/!2e!2e/notes",
        "other/!2e.!2f..!2fetc/notes",
        "z/Zo!c3!ab/notes",
    ] {
        assert!(folders.contains(&folder.to_owned()), "{folder} is not in {folders:?}");
    }
    assert_eq!(folders.len(), 7, "{folders:?}");
    assert!(folders.iter().any(|folder| folder.starts_with("other/!c3!a9") && folder.contains("!!")));
    for user in ["ana", "../../etc", "..", "a/b", "\0", "Zoë", &long] {
        assert_eq!(db.user(user).value("SELECT body FROM notes").await, user);
    }
}

#[tokio::test]
async fn rows_of_system_storages_are_storages() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    let (one, two, three) = (place.uri("one"), place.uri("two"), place.uri("three"));
    let insert = format!(
        "INSERT INTO system.storages (name, type, uri) VALUES ('one', 'filesystem', '{one}'), ('two', UPPER('filesystem'), $1)"
    );
    let answer = admin.run_with(insert, &[text(&two)]).await;
    assert_eq!((answer.row_count, answer.message.as_str()), (2, "INSERT 0 2"));
    let names = "SELECT name FROM system.storages ORDER BY name";
    assert_eq!(admin.rows(names).await, table(&[["local"], ["one"], ["two"]]));

    // All rows or none: the second is outside the roots.
    let both = format!(
        "INSERT INTO system.storages (name, type, uri) VALUES ('three', 'FILESYSTEM', '{three}'), ('four', 'FILESYSTEM', '/x')"
    );
    admin.fails(Reason::InvalidStorage, both).await;
    assert_eq!(admin.rows(names).await.len(), 3);
    admin
        .fails(Reason::StorageExists, "INSERT INTO system.storages (name, type, uri) VALUES ('one', 'S3', 's3://b')")
        .await;

    let answer = admin
        .run_with("UPDATE system.storages SET uri = $1 WHERE name = 'on' || 'e' AND usage_count = 0", &[text(&three)])
        .await;
    assert_eq!((answer.row_count, answer.message.as_str()), (1, "UPDATE 1"));
    let uri = "SELECT uri FROM system.storages WHERE name = 'one'";
    assert_eq!(admin.value(uri).await, format!("file://{three}"));
    assert_eq!(admin.run("UPDATE system.storages SET uri = uri || '/x' WHERE name = 'none'").await.row_count, 0);
    let system = admin.in_namespace(Some("system"));
    system.run("UPDATE storages SET uri = uri || '/deeper' WHERE storages.name = 'one'").await;
    assert_eq!(admin.value(uri).await, format!("file://{three}/deeper"));

    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY) STORAGE two").await;
    admin.fails(Reason::StorageInUse, "DELETE FROM system.storages WHERE name IN ('one', 'two')").await;
    assert_eq!(admin.rows(names).await.len(), 3);
    admin.run("DROP TABLE t").await;
    let answer = admin.run("DELETE FROM system.storages s WHERE s.name <> 'local'").await;
    assert_eq!((answer.row_count, answer.message.as_str()), (2, "DELETE 2"));
    assert_eq!(admin.run("DELETE FROM system.storages WHERE name = 'one'").await.row_count, 0);
    admin.fails(Reason::InvalidStorage, "DELETE FROM system.storages").await;
    admin.fails(Reason::InvalidStorage, "UPDATE system.storages SET uri = '/x'").await;
}

#[tokio::test]
async fn what_rows_of_system_storages_cannot_do_is_said() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    let insert = |columns: &str, values: &str| format!("INSERT INTO system.storages {columns} {values}");
    let all = "(name, type, uri)";
    for (reason, sql, said) in [
        (Reason::NotSupported, insert("", "VALUES ('a', 'S3', 's3://b', NULL)"), "column names"),
        (Reason::NotSupported, insert(all, "SELECT 'a', 'S3', 's3://b'"), "INSERT without VALUES"),
        (Reason::NotSupported, insert(all, "VALUES ('a', 'S3', 's3://b') ON CONFLICT DO NOTHING"), "ON CONFLICT"),
        (Reason::NotSupported, insert(all, "VALUES ('a', 'S3', 's3://b') RETURNING name"), "RETURNING"),
        (Reason::NotNullViolation, insert("(name, type)", "VALUES ('a', 'S3')"), "\"uri\""),
        (Reason::NotNullViolation, insert(all, "VALUES (NULL, 'S3', 's3://b')"), "\"name\""),
        (Reason::NotNullViolation, insert(all, "VALUES (DEFAULT, 'S3', 's3://b')"), "\"name\""),
        (Reason::InvalidValue, insert(all, "VALUES ('a', 'AZUR', 's3://b')"), "Did you mean 'AZURE'?"),
        (Reason::InvalidValue, insert(all, "VALUES (7, 'S3', 's3://b')"), "is TEXT"),
        (Reason::InvalidStatement, insert(all, "VALUES ('a', 'S3')"), "3 column(s), but a row has 2"),
        (Reason::InvalidStatement, insert("(name, typ)", "VALUES ('a', 'S3')"), "Did you mean 'type'?"),
        (Reason::InvalidStatement, insert("(name, tables)", "VALUES ('a', 'S3')"), "cannot be set"),
        (
            Reason::InvalidStatement,
            "UPDATE system.storages SET name = 'x' WHERE name = 'local'".to_owned(),
            "cannot be set",
        ),
        (Reason::ColumnNotFound, "DELETE FROM system.storages WHERE nme = 'x'".to_owned(), "nme"),
        (Reason::InvalidStatement, "DELETE FROM system.settings".to_owned(), "read only"),
    ] {
        let error = admin.fails(reason, sql.as_str()).await;
        assert!(error.message().contains(said), "{sql}: {error}");
    }
    let error = admin.try_run("DELETE FROM system.storages WHERE name IN (SELECT 'x')").await.unwrap_err();
    assert!(matches!(error.reason(), Reason::NotSupported | Reason::InvalidStatement), "{error}");
    for role in [Role::User, Role::Service] {
        db.role(role).fails(Reason::PermissionDenied, "DELETE FROM system.storages WHERE name = 'x'").await;
    }
}

#[tokio::test]
async fn each_role_sees_of_storages_what_concerns_it() {
    let place = Place::new();
    let db = place.open().await;
    db.admin().run(format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", place.uri("cold"))).await;
    db.admin().run("CREATE SHARED TABLE secret (id BIGINT PRIMARY KEY) STORAGE cold ACCESS private").await;
    let shown = "SELECT name, uri IS NULL, tables FROM system.storages ORDER BY name";
    assert!(db.user("ana").rows(shown).await.is_empty());
    let service = [["cold", "true", r#"["app.secret"]"#], ["local", "true", "[]"]];
    assert_eq!(db.role(Role::Service).rows(shown).await, table(&service));
    let dba = [["cold", "false", r#"["app.secret"]"#], ["local", "false", "[]"]];
    assert_eq!(db.role(Role::Dba).rows(shown).await, table(&dba));
}

#[tokio::test]
async fn credentials_need_a_key_and_are_checked_at_the_storage() {
    let s3 = FakeS3::start("me");
    let place = Place::new();
    let db = place.open().await;
    let create = |uri: &str, key_id: &str| {
        format!("CREATE STORAGE s TYPE S3 URI '{uri}' CREDENTIALS '{}'", s3.credentials(key_id, "hush-hush"))
    };
    let error = db.admin().fails(Reason::StorageKeyMissing, create("s3://bucket", "me")).await;
    assert!(error.message().contains("head -c 32 /dev/urandom | base64"), "{error}");
    drop(db);

    let place = place.with_key(0);
    let db = place.open().await;
    let admin = db.admin();
    for (reason, uri, key_id, said) in [
        (Reason::StorageDenied, "s3://bucket/a", "you", "it answered 403 InvalidAccessKeyId"),
        (Reason::InvalidStorage, "s3://other", "me", "bucket does not exist"),
    ] {
        let error = admin.fails(reason, create(uri, key_id)).await;
        assert!(error.message().contains(said), "{error}");
        assert!(!format!("{error:?}").contains("hush-hush"), "{error:?}");
    }
    let typo = create("s3://bucket", "me").replace("secret_access_key", "secret_acess_key");
    let error = admin.fails(Reason::InvalidStorage, typo).await;
    assert!(error.message().contains("Did you mean 'secret_access_key'?"), "{error}");
    let nobody = r#"CREATE STORAGE s TYPE S3 URI 's3://b'
        CREDENTIALS '{"endpoint": "http://127.0.0.1:1", "allow_http": true, "access_key_id": "a", "secret_access_key": "b"}'"#;
    let error = admin.fails(Reason::StorageUnreachable, nobody).await;
    assert!(error.message().contains("refused"), "{error}");
    assert_eq!(admin.value("SELECT COUNT(*) FROM system.storages").await, "1");

    admin.run(create("s3://bucket/cold/", "me")).await;
    assert!(s3.objects().is_empty(), "nothing of the check stays: {:?}", s3.objects());
    let shown = "SELECT type, uri, credentials FROM system.storages WHERE name = 's'";
    assert_eq!(admin.rows(shown).await, table(&[["S3", "s3://bucket/cold", "redacted"]]));
}

#[tokio::test]
async fn credentials_are_sealed_survive_a_restart_and_can_be_replaced() {
    let s3 = FakeS3::start("first");
    let place = Place::new().with_key(0);
    let db = place.open().await;
    let admin = db.admin();
    let credentials = s3.credentials("first", "hush-hush");
    admin.run(format!("CREATE STORAGE s TYPE S3 URI 's3://bucket/cold' CREDENTIALS '{credentials}'")).await;
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY) STORAGE s; INSERT INTO t VALUES (1)").await;
    admin.run("FLUSH TABLE t FORCE").await;
    assert!(s3.objects().len() == 1 && s3.objects()[0].starts_with("cold/app/t/"), "{:?}", s3.objects());
    drop((admin, db));
    let data = place.temp.path().join("data");
    for file in all(&data).iter().map(|file| data.join(file)).filter(|file| file.is_file()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"hush-hush"), "the secret is in {}", file.display());
    }

    let db = place.open().await;
    assert_eq!(db.admin().rows("SELECT id FROM t").await, table(&[["1"]]));
    // The key is replaced by its owner: the storage no longer answers, and with new ones it does, for the table that is
    // there already.
    s3.allow("second");
    db.admin().run("INSERT INTO t VALUES (2)").await;
    assert!(db.admin().try_run("FLUSH TABLE t FORCE").await.is_err());
    let second = s3.credentials("second", "hush-hush");
    db.admin().run(format!("ALTER STORAGE s SET CREDENTIALS '{second}'")).await;
    db.admin().run("FLUSH TABLE t FORCE").await;
    assert_eq!(db.admin().rows("SELECT id FROM t ORDER BY id").await, table(&[["1"], ["2"]]));
    let definitions = db.admin().rows("SELECT name, usage_count FROM system.storages ORDER BY name").await;
    assert_eq!(definitions, table(&[["local", "0"], ["s", "1"]]));
    drop(db);

    // With another key the server runs; only this storage cannot be used, until it is given its credentials again.
    let place = place.with_key(1);
    let db = place.open().await;
    db.admin().run("INSERT INTO t VALUES (3)").await;
    let error = db.admin().try_run("FLUSH TABLE t FORCE").await.unwrap_err();
    assert!(!format!("{error:?}").contains("hush-hush"), "{error:?}");
    db.admin().run(format!("UPDATE system.storages SET credentials = '{second}' WHERE name = 's'")).await;
    db.admin().run("FLUSH TABLE t FORCE").await;
    assert_eq!(db.admin().value("SELECT COUNT(*) FROM t").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_statements_at_once_one_wins() {
    let place = Place::new();
    let db = place.open().await;
    let create = format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", place.uri("cold"));
    let (one, two) = (db.admin(), db.admin());
    let (first, second) = tokio::join!(one.try_run(&create), two.try_run(&create));
    let reasons: Vec<_> = [first, second].into_iter().filter_map(|r| r.err()).map(|e| e.reason()).collect();
    assert_eq!(reasons, [Reason::StorageExists]);
    // Neither a table in a storage that is gone, nor a storage gone that a table has.
    for round in 0..20 {
        let define = format!("CREATE SHARED TABLE t{round} (id BIGINT PRIMARY KEY) STORAGE cold");
        let (defined, dropped) = tokio::join!(one.try_run(define), two.try_run("DROP STORAGE cold"));
        match (defined, dropped) {
            (Ok(_), Err(error)) => assert_eq!(error.reason(), Reason::StorageInUse),
            (Err(error), Ok(_)) => assert_eq!(error.reason(), Reason::StorageNotFound),
            both => panic!("{both:?}"),
        }
        one.run(format!("DROP TABLE IF EXISTS t{round}")).await;
        one.run(create.replace("STORAGE cold", "STORAGE IF NOT EXISTS cold")).await;
    }
}
