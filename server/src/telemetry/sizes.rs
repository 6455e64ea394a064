//! Sizes of the data as metrics, and now and then in the log.

use std::{sync::Arc, time::Duration};

use kalamdb_engine::{Engine, KeyspaceSize, StorageSize};
use metrics::{describe_gauge, gauge};
use tokio::time::Instant;

/// Finding the size of the data folder means looking at every file, which is not worth doing every second.
const FOLDER_INTERVAL: Duration = Duration::from_secs(15);
/// Finding the sizes of storages means reading the whole manifest.
const STORAGES_INTERVAL: Duration = Duration::from_secs(60);

/// Measures now and then.
pub(crate) struct Sizes {
    engine: Arc<Engine>,
    /// How often sizes are logged; zero: never.
    log_interval: Duration,
    folder_due: Instant,
    storages_due: Instant,
    log_due: Instant,
}

/// What one look found.
struct Found {
    folder_bytes: u64,
    keyspaces: Vec<KeyspaceSize>,
    /// `None`: not looked at.
    storages: Option<Vec<StorageSize>>,
}

impl Sizes {
    /// The first measurement is due at once, the first line of the log after an interval.
    pub(crate) fn new(engine: Arc<Engine>, log_interval: Duration) -> Self {
        describe_gauge!("kalamdb_data_size_bytes", "Size of the data folder");
        describe_gauge!("kalamdb_keyspace_disk_bytes", "Size of a RocksDB keyspace's files");
        describe_gauge!("kalamdb_keyspace_memory_bytes", "Bytes of a RocksDB keyspace that are in memory only");
        describe_gauge!("kalamdb_keyspace_entries", "Entries of a RocksDB keyspace, estimated");
        describe_gauge!("kalamdb_storage_bytes", "Size of the segments in a storage");
        describe_gauge!("kalamdb_storage_segments", "Number of segments in a storage");
        describe_gauge!("kalamdb_storage_rows", "Rows in the segments of a storage, deleted ones among them");
        let now = Instant::now();
        Self { engine, log_interval, folder_due: now, storages_due: now, log_due: now + log_interval }
    }

    /// Measures what is due.
    pub(crate) async fn look(&mut self) {
        let now = Instant::now();
        let log = !self.log_interval.is_zero() && now >= self.log_due;
        if now < self.folder_due && !log {
            return;
        }
        self.folder_due = now + FOLDER_INTERVAL;
        let storages = now >= self.storages_due || log;
        if storages {
            self.storages_due = now + STORAGES_INTERVAL;
        }
        let engine = Arc::clone(&self.engine);
        let measured = tokio::task::spawn_blocking(move || measure(&engine, storages)).await;
        let found = match measured {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return tracing::warn!(%error, "the sizes of the data cannot be found"),
            // The runtime ends.
            Err(_) => return,
        };
        found.publish();
        if log {
            self.log_due = now + self.log_interval;
            found.log();
        }
    }
}

fn measure(engine: &Engine, storages: bool) -> kalamdb_engine::Result<Found> {
    Ok(Found {
        folder_bytes: engine.data_size_bytes(),
        keyspaces: engine.keyspace_sizes()?,
        storages: storages.then(|| engine.storage_sizes()).transpose()?,
    })
}

impl Found {
    fn publish(&self) {
        gauge!("kalamdb_data_size_bytes").set(self.folder_bytes as f64);
        for size in &self.keyspaces {
            gauge!("kalamdb_keyspace_disk_bytes", "keyspace" => size.name).set(size.disk_bytes as f64);
            gauge!("kalamdb_keyspace_memory_bytes", "keyspace" => size.name).set(size.memory_bytes as f64);
            gauge!("kalamdb_keyspace_entries", "keyspace" => size.name).set(size.entries as f64);
        }
        for size in self.storages.iter().flatten() {
            gauge!("kalamdb_storage_bytes", "storage" => size.name.clone()).set(size.bytes as f64);
            gauge!("kalamdb_storage_segments", "storage" => size.name.clone()).set(size.segments as f64);
            gauge!("kalamdb_storage_rows", "storage" => size.name.clone()).set(size.rows as f64);
        }
    }

    fn log(&self) {
        let keyspace = |name: &str| {
            let found = self.keyspaces.iter().find(|size| size.name == name);
            found.map_or(0, |size| size.disk_bytes + size.memory_bytes)
        };
        let storages = self.storages.iter().flatten();
        let (segments, segment_bytes) = storages.fold((0, 0), |sum, size| (sum.0 + size.segments, sum.1 + size.bytes));
        tracing::info!(
            data_size_bytes = self.folder_bytes,
            hot_rows_bytes = keyspace("rows"),
            change_log_bytes = keyspace("log"),
            manifest_bytes = keyspace("segments"),
            segments,
            segment_bytes,
            "size of the data"
        );
    }
}
