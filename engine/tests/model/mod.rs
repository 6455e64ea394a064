//! Random statements, with random restarts, flushes and compactions, against a model.

mod expr;
mod random;
mod run;
mod table;

use std::time::{Duration, Instant};

use kalamdb_engine::{EngineSettings, StorageSettings};

use self::run::{Disturbances, Run};
use crate::harness::{Db, small};

/// Another start for the seeds, to search beyond those of every run: `KALAMDB_MODEL_SEED=1000`.
fn first_seed() -> u64 {
    std::env::var("KALAMDB_MODEL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// How often the usual number of statements is run: `KALAMDB_MODEL_FACTOR=50`.
fn factor() -> u64 {
    std::env::var("KALAMDB_MODEL_FACTOR").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// Segments of few rows, of which few are worth merging, so that a small table has several and compactions have work; and
/// images of tables that have any hot rows, in chunks that most changes divide or join.
fn tiny_segments(settings: EngineSettings) -> EngineSettings {
    let mut settings = settings;
    settings.flush.min_partition_rows = 4;
    settings.flush.segment_rows = 9;
    settings.compaction.min_segments = 3;
    settings.hot_image.min_rows = 1;
    settings.hot_image.chunk_rows = 3;
    settings
}

async fn in_memory(seeds: u64, disturbances: Disturbances) {
    let mut over_images = 0;
    for seed in first_seed()..first_seed() + seeds * factor() {
        let db = Db::with(tiny_segments(EngineSettings::default())).await;
        over_images += Run::new(seed, db, disturbances).statements(500).await;
    }
    println!("{over_images} read(s) were over images");
    assert!(over_images > 0, "no read was over an image");
}

async fn on_disk(seeds: u64, disturbances: Disturbances) {
    let began = Instant::now();
    let mut over_images = 0;
    for seed in first_seed()..first_seed() + seeds * factor() {
        let dir = tempfile::tempdir().unwrap();
        let storage = StorageSettings::Directory(dir.path().to_path_buf());
        let db = Db::with(tiny_segments(EngineSettings { storage, ..small() })).await;
        over_images += Run::new(seed ^ 0xD15C, db, disturbances).statements(500).await;
    }
    println!("{over_images} read(s) were over images");
    assert!(over_images > 0, "no read was over an image");
    let limit = Duration::from_secs(600) * u32::try_from(factor()).unwrap_or(u32::MAX);
    assert!(began.elapsed() < limit, "the model test hangs");
}

#[tokio::test]
async fn random_statements_in_memory_match_the_model() {
    in_memory(16, Disturbances::default()).await;
}

#[tokio::test]
async fn random_statements_with_restarts_match_the_model() {
    on_disk(8, Disturbances { restarts: true, ..Disturbances::default() }).await;
}

#[tokio::test]
async fn random_statements_with_flushes_in_memory_match_the_model() {
    in_memory(16, Disturbances { flushes: true, ..Disturbances::default() }).await;
}

#[tokio::test]
async fn random_statements_with_flushes_and_restarts_match_the_model() {
    on_disk(8, Disturbances { restarts: true, flushes: true, ..Disturbances::default() }).await;
}

/// Here a seed does not repeat a run: what meets what is left to chance.
#[tokio::test(flavor = "multi_thread")]
async fn random_statements_beside_flushes_match_the_model() {
    on_disk(8, Disturbances { restarts: true, flushes: true, flushes_beside: true }).await;
}
