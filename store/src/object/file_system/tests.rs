use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::*;

fn store() -> (tempfile::TempDir, DurableFileSystem) {
    let temp = tempfile::tempdir().unwrap();
    let store = DurableFileSystem::new(temp.path()).unwrap();
    (temp, store)
}

async fn create(store: &DurableFileSystem, path: &str, bytes: &'static [u8]) -> Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&Path::from(path), Bytes::from_static(bytes).into(), options).await.map(|_| ())
}

/// Every file and folder below a folder, relative to it.
fn all(folder: &FilePath) -> Vec<String> {
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

#[tokio::test]
async fn objects_are_written_read_listed_and_deleted() {
    let (temp, store) = store();
    create(&store, "a/b/one", b"first").await.unwrap();
    create(&store, "a/b/two", b"second").await.unwrap();
    assert!(matches!(create(&store, "a/b/one", b"x").await, Err(Error::AlreadyExists { .. })));
    store.put(&Path::from("a/three"), Bytes::from_static(b"third").into()).await.unwrap();
    store.put(&Path::from("a/three"), Bytes::from_static(b"fourth").into()).await.unwrap();
    assert_eq!(store.get(&Path::from("a/b/one")).await.unwrap().bytes().await.unwrap(), "first");
    assert_eq!(store.get_range(&Path::from("a/three"), 1..3).await.unwrap(), "ou");
    let listed: Vec<_> =
        store.list(Some(&Path::from("a"))).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(all(temp.path()), ["a", "a/b", "a/b/one", "a/b/two", "a/three"]);

    store.delete(&Path::from("a/b/one")).await.unwrap();
    assert!(matches!(store.delete(&Path::from("a/b/one")).await, Err(Error::NotFound { .. })));
    store.delete(&Path::from("a/b/two")).await.unwrap();
    assert_eq!(all(temp.path()), ["a", "a/three"]);
    store.rename(&Path::from("a/three"), &Path::from("c/three")).await.unwrap();
    assert_eq!(all(temp.path()), ["c", "c/three"]);
    store.delete(&Path::from("c/three")).await.unwrap();
    assert!(all(temp.path()).is_empty() && temp.path().exists());
}

#[tokio::test]
async fn an_upload_in_parts_is_there_when_completed() {
    let (temp, store) = store();
    let mut upload = store.put_multipart(&Path::from("x/parts")).await.unwrap();
    upload.put_part(Bytes::from_static(b"one ").into()).await.unwrap();
    upload.put_part(Bytes::from_static(b"two").into()).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(store.get(&Path::from("x/parts")).await.unwrap().bytes().await.unwrap(), "one two");
    assert_eq!(all(temp.path()), ["x", "x/parts"]);
}

#[tokio::test]
async fn a_root_that_went_away_is_not_made_anew() {
    let (temp, store) = store();
    let root = temp.path().join("root");
    fs::create_dir(&root).unwrap();
    let inside = DurableFileSystem::new(&root).unwrap();
    fs::remove_dir(&root).unwrap();
    assert!(matches!(create(&inside, "a/b", b"x").await, Err(Error::NotFound { .. })));
    assert!(!root.exists());
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_emptying_deletes_do_not_disturb_each_other() {
    let (temp, store) = store();
    let workers = (0..8).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..40 {
                let path = format!("shared/folder/{worker}-{round}");
                create(&store, &path, b"content").await.unwrap();
                assert_eq!(store.head(&Path::from(path.as_str())).await.unwrap().size, 7);
                store.delete(&Path::from(path.as_str())).await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert!(all(temp.path()).is_empty());
    assert!(store.folders.durable.lock().folders.is_empty());
}

#[tokio::test]
async fn folders_are_remembered_until_a_file_in_them_goes() {
    let (temp, store) = store();
    let root = temp.path().canonicalize().unwrap();
    create(&store, "a/b/one", b"").await.unwrap();
    create(&store, "a/b/two", b"").await.unwrap();
    let remembered = || {
        let mut folders: Vec<_> = store.folders.durable.lock().folders.iter().cloned().collect();
        folders.sort();
        folders
    };
    assert_eq!(remembered(), [root.join("a"), root.join("a/b")]);
    store.delete(&Path::from("a/b/one")).await.unwrap();
    assert!(remembered().is_empty());
    create(&store, "a/b/three", b"").await.unwrap();
    assert_eq!(remembered(), [root.join("a"), root.join("a/b")]);
}
