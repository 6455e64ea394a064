//! What the suites share.

use std::{future::Future, path::Path, time::Duration};

use kalamdb_tests::{
    client::{Client, unique_name},
    server::shared_url,
};

/// A client of the shared server as user `alice`, in a new namespace.
pub async fn client() -> Client {
    client_of(shared_url()).await
}

/// A client as user `alice`, in a new namespace of this server.
pub async fn client_of(url: &str) -> Client {
    let namespace = unique_name("e2e");
    let client = Client::connect(url).await.user("alice").namespace(&namespace);
    client.run(&format!("CREATE NAMESPACE {namespace}")).await;
    client
}

/// [`client`] with a USER table `t (id BIGINT PRIMARY KEY, name TEXT, n INT)` that holds rows 1 to 5, `n` being ten
/// times the id and row 4's name NULL.
pub async fn client_with_rows() -> Client {
    let client = client().await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, name TEXT, n INT)").await;
    client
        .run("INSERT INTO t VALUES (1, 'one', 10), (2, 'two', 20), (3, 'three', 30), (4, NULL, 40), (5, 'five', 50)")
        .await;
    client
}

/// Waits until `ready` says so, asking again every few milliseconds, for conditions that nothing announces.
///
/// # Panics
/// When it is not so within `limit`.
pub async fn eventually<F: Future<Output = bool>>(what: &str, limit: Duration, mut ready: impl FnMut() -> F) {
    let waiting = async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(limit, waiting).await.is_ok(), "{what}: not within {limit:?}");
}

/// The paths of all files below a folder, relative to it; none when there is no such folder.
pub fn files_below(folder: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = open.pop() {
        // What goes away meanwhile is not there.
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found
}
