use std::{fs, os::unix::fs::symlink};

use kalamdb_store::ids::UserId;
use object_store::PutPayload;

use super::*;
use crate::{Engine, EngineSettings, Request, StorageSettings, SystemEnv};

struct Place {
    engine: Arc<Engine>,
    base: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        for name in ["out", "more", "backups", "cold"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        let settings = EngineSettings {
            storage: StorageSettings::Directory(base.join("data")),
            export_roots: vec![base.join("out"), base.join("more"), base.join("missing"), base.join("data/export")],
            backup_roots: vec![base.join("backups")],
            storage_roots: vec![base.join("cold")],
            ..EngineSettings::default()
        };
        let engine = Engine::open(settings, Vec::new(), Arc::new(SystemEnv)).unwrap();
        fs::create_dir_all(base.join("data/export")).unwrap();
        Self { engine, base, _folder: folder }
    }

    fn find(&self, caller: &Caller, used_for: TargetUse, uri: &str) -> Result<TargetPlace> {
        self.engine.shared().storages.target(caller, used_for, &uri.replace("{base}", self.base.to_str().unwrap()))
    }

    /// Where a file of this name is put, below the test's folder.
    async fn put(&self, caller: &Caller, uri: &str) -> Result<String> {
        let target = self.find(caller, TargetUse::Export, uri)?.open_file().await?;
        assert!(!target.exists(&target.path).await?);
        let mark = self.engine.shared().env.random_u64().to_string();
        target.store.put(&target.path, PutPayload::from(mark.clone().into_bytes())).await.unwrap();
        assert!(target.exists(&target.path).await?);
        Ok(find_file(&self.base, &mark).unwrap().strip_prefix(&self.base).unwrap().display().to_string())
    }
}

/// The file with this content, through no link.
fn find_file(folder: &FilePath, content: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        let found = if kind.is_dir() {
            find_file(&entry.path(), content)
        } else {
            let is_it = kind.is_file() && fs::read(entry.path()).is_ok_and(|bytes| bytes == content.as_bytes());
            is_it.then(|| entry.path())
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn caller(role: Role) -> Caller {
    Caller::new(UserId::new("ann").unwrap(), role)
}

fn reason<T>(result: Result<T>) -> Reason {
    result.err().expect("an error").reason()
}

#[tokio::test]
async fn a_place_is_below_the_roots() {
    let place = Place::new();
    let service = caller(Role::Service);
    assert_eq!(place.put(&service, "a.csv").await.unwrap(), "out/a.csv");
    assert_eq!(place.put(&service, "deep/er/a.csv").await.unwrap(), "out/deep/er/a.csv");
    assert_eq!(place.put(&service, "{base}/more/a.csv").await.unwrap(), "more/a.csv");
    assert_eq!(place.put(&service, "file://{base}/more//x/./b.csv").await.unwrap(), "more/x/b.csv");
    for uri in [
        "../a.csv",
        "x/../../a.csv",
        "x//a.csv",
        "./a.csv",
        ".hidden",
        "x/",
        "",
        "a\0b",
        "a\nb",
        "a?b",
        "{base}/a.csv",
        "{base}/outer/a.csv",
        "{base}/out",
        "{base}/out/../a.csv",
        "{base}/out/x/",
        "file://{base}/out/%2e%2e/a.csv",
        "file://relative/a.csv",
        "/",
        "http://host/a.csv",
        "s3://bucket/a.csv",
        "{base}/data/export/a.csv",
        "{base}/data/storage/a.csv",
    ] {
        let refused = place.put(&service, uri).await;
        assert_eq!(reason(refused), Reason::PathNotAllowed, "{uri}");
    }
    assert_eq!(reason(place.put(&service, &"a/".repeat(600)).await), Reason::PathNotAllowed);
    assert_eq!(reason(place.put(&service, "{base}/missing/a.csv").await), Reason::StorageUnreachable);
    assert!(!place.base.join("missing").exists(), "a root that is missing is not made");
    assert!(!place.base.join("a.csv").exists() && !place.base.join("outer").exists());
}

#[tokio::test]
async fn links_lead_nowhere_else() {
    let place = Place::new();
    let service = caller(Role::Service);
    fs::create_dir(place.base.join("secret")).unwrap();
    symlink(place.base.join("secret"), place.base.join("out/link")).unwrap();
    symlink(place.base.join("secret/new.csv"), place.base.join("out/new.csv")).unwrap();
    symlink(place.base.join("more"), place.base.join("out/fine")).unwrap();
    assert_eq!(reason(place.put(&service, "link/a.csv").await), Reason::PathNotAllowed);
    assert_eq!(reason(place.put(&service, "link/x/a.csv").await), Reason::PathNotAllowed);
    assert_eq!(place.put(&service, "fine/a.csv").await.unwrap(), "more/a.csv");
    assert_eq!(fs::read_dir(place.base.join("secret")).unwrap().count(), 0);

    // The folder of a user is no way to that of another.
    let user = caller(Role::User);
    fs::create_dir_all(place.base.join("out/users/ann")).unwrap();
    fs::create_dir_all(place.base.join("out/users/bob")).unwrap();
    symlink(place.base.join("out/users/bob"), place.base.join("out/users/ann/bob")).unwrap();
    assert_eq!(reason(place.put(&user, "bob/a.csv").await), Reason::PathNotAllowed);
}

#[tokio::test]
async fn a_user_has_a_folder_of_its_own() {
    let place = Place::new();
    let user = caller(Role::User);
    assert_eq!(place.put(&user, "a.csv").await.unwrap(), "out/users/ann/a.csv");
    assert_eq!(place.put(&user, "{base}/more/users/ann/x/a.csv").await.unwrap(), "more/users/ann/x/a.csv");
    for uri in ["{base}/out/a.csv", "{base}/out/users/bob/a.csv", "{base}/out/users/anna/a.csv", "s3://bucket/a.csv"] {
        assert_eq!(reason(place.put(&user, uri).await), Reason::PathNotAllowed, "{uri}");
    }
    let odd = Caller::new(UserId::new("../../etc").unwrap(), Role::User);
    let put = place.put(&odd, "a.csv").await.unwrap();
    assert!(put.starts_with("out/users/!2e") && put.ends_with("/a.csv"), "{put}");
    for role in [Role::Service, Role::Dba, Role::System] {
        let acting = caller(role).acting_as(UserId::new("bob").unwrap());
        let name = format!("{role}.csv");
        assert_eq!(place.put(&acting, &name).await.unwrap(), format!("out/users/bob/{name}"));
        assert_eq!(reason(place.put(&acting, "{base}/out/a.csv").await), Reason::PathNotAllowed);
        assert_eq!(reason(place.put(&acting, "{base}/cold/a.csv").await), Reason::PathNotAllowed);
    }
    // A backup is of a namespace, whoever is acted for.
    let acting = caller(Role::Dba).acting_as(UserId::new("bob").unwrap());
    let folder = place.find(&acting, TargetUse::Backup, "nightly/").unwrap().open_folder(true).await.unwrap();
    assert_eq!((folder.path.as_ref(), place.base.join("backups/nightly").is_dir()), ("", true));
}

#[tokio::test]
async fn storages_are_for_operators() {
    let place = Place::new();
    let dba = caller(Role::Dba);
    let sql = format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", place.base.join("cold").display());
    place.engine.session(dba.clone()).execute(Request::new(sql)).next().await.unwrap().unwrap();
    assert_eq!(place.put(&dba, "{base}/cold/x/a.csv").await.unwrap(), "cold/x/a.csv");
    assert_eq!(reason(place.put(&caller(Role::Service), "{base}/cold/b.csv").await), Reason::PathNotAllowed);
    symlink(place.base.join("more"), place.base.join("cold/link")).unwrap();
    assert_eq!(reason(place.put(&dba, "{base}/cold/link/a.csv").await), Reason::PathNotAllowed);
    assert_eq!(reason(place.put(&dba, "{base}/data/storage/a.csv").await), Reason::PathNotAllowed);
    assert_eq!(reason(place.put(&dba, "s3://bucket/a.csv").await), Reason::StorageNotFound);
    let backup = place.find(&dba, TargetUse::Backup, "{base}/cold/nightly").unwrap();
    assert_eq!(reason(backup.open_folder(false).await), Reason::StorageUnreachable);
    assert!(!place.base.join("cold/nightly").exists());
}

#[tokio::test]
async fn a_disk_that_is_not_there_is_not_made_anew() {
    let place = Place::new();
    let dba = caller(Role::Dba);
    let (cold, elsewhere) = (place.base.join("cold"), place.base.join("elsewhere"));
    let sql = format!("CREATE STORAGE cold TYPE FILESYSTEM URI '{}'", cold.display());
    place.engine.session(dba.clone()).execute(Request::new(sql)).next().await.unwrap().unwrap();
    fs::rename(&cold, &elsewhere).unwrap();
    for uri in ["{base}/cold/a.csv", "{base}/cold/x/a.csv"] {
        assert_eq!(reason(place.put(&dba, uri).await), Reason::StorageUnreachable, "{uri}");
    }
    for uri in ["{base}/cold", "{base}/cold/nightly"] {
        let backup = place.find(&dba, TargetUse::Backup, uri).unwrap();
        assert_eq!(reason(backup.open_folder(true).await), Reason::StorageUnreachable, "{uri}");
    }
    assert!(!cold.exists());
    fs::rename(&elsewhere, &cold).unwrap();
    assert_eq!(place.put(&dba, "{base}/cold/a.csv").await.unwrap(), "cold/a.csv");

    // A root is the same by another path.
    symlink(&place.base, place.base.join("alias")).unwrap();
    assert_eq!(reason(place.put(&dba, "{base}/alias/missing/a.csv").await), Reason::StorageUnreachable);
    assert!(!place.base.join("missing").exists());
    assert_eq!(place.put(&dba, "{base}/alias/more/a.csv").await.unwrap(), "more/a.csv");
}

#[tokio::test]
async fn a_folder_is_found_again_or_known_to_be_gone() {
    let place = Place::new();
    let nightly = place.base.join("backups/nightly");
    let target = place.find(&caller(Role::Dba), TargetUse::Backup, "nightly").unwrap().open_folder(true).await.unwrap();
    // As it comes out of the store.
    let opened = serde_json::to_vec(&target.opened().unwrap()).unwrap();
    let opened: OpenedFolder = serde_json::from_slice(&opened).unwrap();
    let storages = Arc::clone(&place.engine.shared().storages);
    let reopen = || storages.reopen("nightly", &opened);
    let again = reopen().await.unwrap().expect("it is there");
    assert_eq!((again.uri(), again.folder.as_ref()), ("nightly", Some(&nightly)));
    fs::remove_dir(&nightly).unwrap();
    assert!(reopen().await.unwrap().is_none());
    assert!(!nightly.exists());
    symlink(place.base.join("more"), &nightly).unwrap();
    assert_eq!(reason(reopen().await), Reason::StorageUnreachable);
    fs::remove_file(&nightly).unwrap();
    fs::remove_dir(place.base.join("backups")).unwrap();
    assert_eq!(reason(reopen().await), Reason::StorageUnreachable);
}

#[tokio::test]
async fn without_roots_nothing_is_written() {
    let engine = Engine::open(EngineSettings::default(), Vec::new(), Arc::new(SystemEnv)).unwrap();
    let storages = &engine.shared().storages;
    for (used_for, key) in [(TargetUse::Export, "paths.export_roots"), (TargetUse::Backup, "paths.backup_roots")] {
        for uri in ["a.csv", "/tmp/a.csv"] {
            let error = storages.target(&caller(Role::System), used_for, uri).unwrap_err();
            assert_eq!(error.reason(), Reason::PathNotAllowed);
            assert!(error.message().contains(key), "{error}");
        }
    }
}
