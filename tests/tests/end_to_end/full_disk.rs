//! A disk that fills up: writes are refused with DISK_FULL, reads go on, and so do writes once there is room again.

use std::{path::Path, process::Command};

use kalam_link::process::ServerProcess;
use kalamdb_tests::{
    client::{Client, Options},
    server::start,
    values::{int, text},
};
use tempfile::TempDir;
use tonic::Code;

/// A file system of its own, small; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where mounting is not allowed, which needs root.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a server that is being killed may still hold files.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Fills the disk to the last byte of its guard and beyond, and empties it again.
async fn fill_and_free(guard: bool) {
    let Some(disk) = SmallDisk::mount("96m") else {
        eprintln!("!!! NOT TESTED: a full disk. Mounting a small tmpfs is not allowed here; run the tests as root.");
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let min_free = format!("storage.min_free_disk_mb={}", if guard { 16 } else { 0 });
    let builder = ServerProcess::builder().data_dir(disk.path().join("data")).args([
        "--set",
        &min_free,
        "--set",
        "storage.write_buffer_mb=4",
    ]);
    let mut server = start(builder).await;
    let client = Client::connect(&server.endpoint()).await.user("alice").namespace("n");
    client.run("CREATE NAMESPACE n").await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;

    // Not compressible, so that what is written is what is stored.
    let body = |id: i64| -> String {
        let mut state = (id as u64).wrapping_add(1);
        (0..64 << 10)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'0' + (state >> 58) as u8)
            })
            .collect()
    };
    let insert = |client: Client, id: i64| async move {
        client.try_run_with("INSERT INTO t VALUES ($1, $2)", vec![int(id), text(body(id))]).await
    };
    let mut acknowledged = 0;
    let failure = loop {
        match insert(client.clone(), acknowledged).await {
            Ok(_) => acknowledged += 1,
            Err(failure) => break failure,
        }
        assert!(acknowledged < 10_000, "the disk must become full");
    };
    assert!(acknowledged > 10, "{acknowledged} rows fitted");
    // The guard knows that nothing was written. When the write itself fails, nobody knows what is on disk: the store
    // refuses further writes until it has been opened again, and the statement may turn out to be there.
    let (reason, code) = match guard {
        true => ("DISK_FULL", Code::ResourceExhausted),
        false => ("STORE_POISONED", Code::Unavailable),
    };
    assert_eq!((failure.reason.as_str(), failure.code), (reason, code), "{failure:#?}");
    assert!(!failure.message.contains(&disk.path().display().to_string()), "no path: {}", failure.message);

    // Reads go on, and hold exactly the acknowledged rows.
    let check = |client: Client| async move {
        let (events, failure) = client.stream("SELECT id, body FROM t ORDER BY id", Options::default()).await;
        assert!(failure.is_none(), "{failure:#?}");
        let mut next = 0;
        for event in events {
            if let Some(kalamdb_proto::v1::execute_stream_response::Event::Rows(batch)) = event.event {
                for row in batch.rows {
                    assert_eq!(row.values, [int(next), text(body(next))]);
                    next += 1;
                }
            }
        }
        let unknown = i64::from(!guard);
        assert!((acknowledged..=acknowledged + unknown).contains(&next), "{next} rows, {acknowledged} acknowledged");
    };
    check(client.clone()).await;

    // With room again, writes go on: at once after a refusal, else after a restart.
    std::fs::remove_file(&ballast).unwrap();
    if !guard {
        let failure = insert(client.clone(), -1).await.unwrap_err();
        assert_eq!(failure.reason, "STORE_POISONED", "{failure:#?}");
        check(client.clone()).await;
        server.restart().await.unwrap();
    }
    let client = Client::connect(&server.endpoint()).await.user("alice").namespace("n");
    insert(client.clone(), -2).await.expect("writes go on");
    client.run("DELETE FROM t WHERE id < 0").await;
    check(client.clone()).await;

    server.kill().unwrap();
    server.restart().await.unwrap();
    check(Client::connect(&server.endpoint()).await.user("alice").namespace("n")).await;
}

/// The guard refuses writes while there is still room for the store's own work.
#[tokio::test]
async fn the_guard_refuses_in_time() {
    fill_and_free(true).await;
}

/// Without a guard, the write itself fails.
#[tokio::test]
async fn the_last_byte_is_written() {
    fill_and_free(false).await;
}
