//! Where the rows are while a file runs: in the hot tier, in the cold one, or in either.

use std::{fmt, path::Path};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Where the rows are that a file's queries read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Where they were written, unless the server's policies move them.
    Hot,
    /// In Parquet files: after each statement that writes, the tables written are flushed.
    Cold,
    /// After each statement that writes, the tables written are flushed, or compacted, or left alone.
    Mixed {
        /// Makes the same choices again.
        seed: u64,
    },
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hot => f.write_str("hot"),
            Self::Cold => f.write_str("cold"),
            Self::Mixed { seed } => write!(f, "mixed (--seed {seed})"),
        }
    }
}

/// Decides what to flush and compact while one file runs.
#[derive(Debug)]
pub(super) struct Mover {
    tier: Tier,
    rng: StdRng,
}

impl Mover {
    /// Files run at the same time in any order, so each has choices of its own.
    pub(super) fn new(tier: Tier, file: &Path) -> Self {
        let seed = if let Tier::Mixed { seed } = tier { seed } else { 0 };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let own = name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        Self { tier, rng: StdRng::seed_from_u64(own) }
    }

    /// The statements to run after one that wrote to these tables.
    pub(super) fn after(&mut self, written: &[String]) -> Vec<String> {
        match self.tier {
            Tier::Hot => Vec::new(),
            Tier::Cold => written.iter().map(|table| flush(table)).collect(),
            Tier::Mixed { .. } => written.iter().filter_map(|table| self.at_random(table)).collect(),
        }
    }

    fn at_random(&mut self, table: &str) -> Option<String> {
        match self.rng.random_range(0..8) {
            0..3 => Some(flush(table)),
            3 => Some(format!("COMPACT TABLE {table}")),
            _ => None,
        }
    }
}

fn flush(table: &str) -> String {
    format!("FLUSH TABLE {table} FORCE")
}
