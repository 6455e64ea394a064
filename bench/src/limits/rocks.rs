//! Bare RocksDB with group commit: clients hand their rows to one writer thread, which puts all that wait into one
//! batch, writes it with one sync and tells them. No SQL, no codec, no network, no log of changes.

use std::{mem, path::Path, thread};

use futures::future::BoxFuture;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::{
    driver::{Client, Contestant, Measurement, Pool, Reply, Window},
    error::{BenchError, Result},
};

/// The most operations that share a sync; more than there are clients in any sensible run.
const MAX_GROUP: usize = 1_024;

/// What one operation writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writes {
    pub(crate) rows: u64,
    pub(crate) value_bytes: usize,
    /// Whether an operation is answered only when it is on disk.
    pub(crate) sync: bool,
}

/// The limit with its database, which is deleted when this is dropped.
pub(crate) struct RocksLimit {
    pool: Pool<RocksClient>,
    writer: Option<thread::JoinHandle<()>>,
}

impl RocksLimit {
    /// Opens an empty database in a new folder inside `parent`, which should be on the server's file system.
    pub(crate) fn start(parent: &Path, clients: usize, writes: Writes) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kalam-bench-rocksdb-")
            .tempdir_in(parent)
            .map_err(BenchError::io(format!("cannot make a folder in {}", parent.display())))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        let db = DB::open(&options, folder.path().join("db"))?;
        let (queue, puts) = mpsc::channel(MAX_GROUP);
        let writer = thread::Builder::new()
            .name("rocksdb-writer".to_owned())
            .spawn(move || write_groups(&db, puts, writes, folder))
            .map_err(BenchError::io("cannot start the RocksDB writer"))?;
        let client = |number: usize| RocksClient { queue: queue.clone(), number: number as u64, sent: 0 };
        let pool = Pool::new((0..clients).map(client).collect());
        Ok(Self { pool, writer: Some(writer) })
    }
}

impl Contestant for RocksLimit {
    fn slice(&mut self, window: Window) -> BoxFuture<'_, Measurement> {
        self.pool.slice(window)
    }
}

impl Drop for RocksLimit {
    fn drop(&mut self) {
        // The writer ends when the last client, and with it the queue, is gone.
        drop(mem::replace(&mut self.pool, Pool::new(Vec::new())));
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct RocksClient {
    queue: mpsc::Sender<Put>,
    number: u64,
    sent: u64,
}

/// One operation that waits to be written.
struct Put {
    client: u64,
    sequence: u64,
    done: oneshot::Sender<Result<(), String>>,
}

impl Client for RocksClient {
    async fn call(&mut self) -> Result<Reply, String> {
        let (done, written) = oneshot::channel();
        self.sent += 1;
        let put = Put { client: self.number, sequence: self.sent, done };
        let gone = || "the RocksDB writer ended".to_owned();
        self.queue.send(put).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())??;
        Ok(Reply::default())
    }
}

fn write_groups(db: &DB, mut puts: mpsc::Receiver<Put>, writes: Writes, _folder: TempDir) {
    let value = vec![0xA5; writes.value_bytes];
    let mut options = WriteOptions::default();
    options.set_sync(writes.sync);
    let mut group = Vec::with_capacity(MAX_GROUP);
    while puts.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        let mut batch = WriteBatch::default();
        for put in &group {
            for row in 0..writes.rows {
                batch.put(key(put, row), &value);
            }
        }
        let outcome = db.write_opt(batch, &options).map_err(|error| error.to_string());
        for put in group.drain(..) {
            // A client that was cancelled does not wait any more.
            let _ = put.done.send(outcome.clone());
        }
    }
}

/// A key as long as the server's for such a row: a table, an owner, an ordered 64-bit key.
fn key(put: &Put, row: u64) -> [u8; 28] {
    let mut key = [0; 28];
    key[..4].copy_from_slice(&7_u32.to_be_bytes());
    key[4..12].copy_from_slice(&put.client.to_be_bytes());
    key[12..20].copy_from_slice(&put.sequence.to_be_bytes());
    key[20..].copy_from_slice(&row.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn every_client_is_told_when_its_group_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let writes = Writes { rows: 3, value_bytes: 100, sync: false };
        let mut limit = RocksLimit::start(parent.path(), 4, writes).unwrap();
        let window = Window { warmup: Duration::from_millis(10), measure: Duration::from_millis(100) };
        let measured = limit.slice(window).await;
        assert_eq!(measured.first_error(), None);
        assert!(measured.operations() > 0);
        drop(limit);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "the database is deleted");
    }
}
