//! Random statements, with random restarts, against a model.

mod expr;
mod random;
mod run;
mod table;

use std::time::{Duration, Instant};

use crate::harness::Db;

/// Another start for the seeds, to search beyond those of every run: `KALAMDB_MODEL_SEED=1000`.
fn first_seed() -> u64 {
    std::env::var("KALAMDB_MODEL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// How often the usual number of statements is run: `KALAMDB_MODEL_FACTOR=50`.
fn factor() -> u64 {
    std::env::var("KALAMDB_MODEL_FACTOR").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

#[tokio::test]
async fn random_statements_in_memory_match_the_model() {
    for seed in first_seed()..first_seed() + 16 * factor() {
        run::Run::new(seed, Db::memory().await, false).statements(500).await;
    }
}

#[tokio::test]
async fn random_statements_with_restarts_match_the_model() {
    let began = Instant::now();
    for seed in first_seed()..first_seed() + 8 * factor() {
        let dir = tempfile::tempdir().unwrap();
        run::Run::new(seed ^ 0xD15C, Db::on_disk(dir.path()).await, true).statements(500).await;
    }
    assert!(began.elapsed() < Duration::from_secs(600), "the model test hangs");
}
