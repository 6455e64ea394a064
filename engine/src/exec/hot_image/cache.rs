//! The images of an engine.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kalamdb_store::ids::Partition;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use moka::{
    ops::compute::{CompResult, Op},
    policy::EvictionPolicy,
    sync::Cache,
};
use parking_lot::Mutex;

use crate::{exec::hot_image::image::HotImage, settings::HotImageSettings};

/// Partitions that something is remembered of, beside those with images.
const MAX_REMEMBERED: u64 = 10_000;

/// How long a partition that was too large is left alone.
const TOO_LARGE_FOR: Duration = Duration::from_secs(60);

/// An image that nobody asks for goes after this time: its table may have been dropped.
const IDLE_FOR: Duration = Duration::from_secs(600);

/// The images of an engine, and what is needed to make good ones.
#[derive(Debug)]
pub(crate) struct HotImages {
    settings: HotImageSettings,
    images: Cache<Partition, Arc<HotImage>>,
    /// Partitions with enough rows that were scanned: another scan of one makes an image of it.
    scanned: Cache<Partition, ()>,
    too_large: Cache<Partition, ()>,
    under_way: Mutex<HashSet<Partition>>,
    /// Bytes of what is being made and is not an image yet.
    unfinished_bytes: AtomicU64,
    hits: Counter,
    misses: Counter,
    bytes: Gauge,
}

impl HotImages {
    /// No images yet. Registers metrics, so a recorder must be installed before.
    pub(crate) fn new(settings: &HotImageSettings) -> Arc<Self> {
        describe_counter!("kalamdb_hot_image_hits_total", "Scans of a partition's hot rows that an image answered.");
        describe_counter!("kalamdb_hot_image_misses_total", "Scans of a partition's hot rows that read all of them.");
        describe_gauge!("kalamdb_hot_image_bytes", "Memory of the images of hot rows.");
        let weigh = |_: &Partition, image: &Arc<HotImage>| u32::try_from(image.bytes()).unwrap_or(u32::MAX);
        Arc::new(Self {
            settings: settings.clone(),
            images: Cache::builder()
                .max_capacity(settings.bytes)
                .weigher(weigh)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(IDLE_FOR)
                .build(),
            scanned: Cache::builder().max_capacity(MAX_REMEMBERED).eviction_policy(EvictionPolicy::lru()).build(),
            too_large: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(TOO_LARGE_FOR).build(),
            under_way: Mutex::new(HashSet::new()),
            unfinished_bytes: AtomicU64::new(0),
            hits: counter!("kalamdb_hot_image_hits_total"),
            misses: counter!("kalamdb_hot_image_misses_total"),
            bytes: gauge!("kalamdb_hot_image_bytes"),
        })
    }

    pub(super) fn settings(&self) -> &HotImageSettings {
        &self.settings
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.settings.bytes > 0
    }

    /// The most bytes of one image, and of all that is being made.
    fn max_image_bytes(&self) -> u64 {
        self.settings.bytes / 2
    }

    pub(super) fn get(&self, partition: &Partition) -> Option<Arc<HotImage>> {
        if self.is_enabled() { self.images.get(partition) } else { None }
    }

    /// Counts a scan that could have used an image.
    pub(super) fn count(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.increment(1);
    }

    /// Notes that a partition with enough hot rows was read from its first row to its last.
    pub(super) fn was_scanned(&self, partition: Partition) {
        self.scanned.insert(partition, ());
    }

    /// The right to make the image of a partition; `None` while another scan does, and if it would not be of use.
    pub(super) fn begin(self: &Arc<Self>, partition: &Partition) -> Option<Making> {
        let wanted = self.is_enabled()
            && self.scanned.contains_key(partition)
            && !self.too_large.contains_key(partition)
            && self.under_way.lock().insert(partition.clone());
        wanted.then(|| Making { images: Arc::clone(self), partition: partition.clone() })
    }

    /// Room for what is being made.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        Room { images: Arc::clone(self), bytes: 0 }
    }

    /// Keeps an image that was made from the store.
    fn insert(&self, partition: &Partition, image: HotImage) {
        self.images.entry_by_ref(partition).and_compute_with(|current| {
            let newer = current.is_none_or(|current| {
                let current = current.into_value();
                (image.schema_version(), image.as_of()) > (current.schema_version(), current.as_of())
                    || !current.has(image.columns())
            });
            if newer { Op::Put(Arc::new(image)) } else { Op::Nop }
        });
        self.settle();
    }

    /// Keeps an image in place of an older one that it was made from, if that is still there. False if it is not kept.
    pub(super) fn replace(&self, partition: &Partition, old: &HotImage, new: Arc<HotImage>) -> bool {
        let fits = (new.bytes() as u64) <= self.max_image_bytes();
        if !fits {
            self.too_large.insert(partition.clone(), ());
        }
        let done = self.images.entry_by_ref(partition).and_compute_with(|current| match current {
            Some(current) => {
                let current = current.into_value();
                let succeeds = current.as_of() < new.as_of() && current.is_alike(old);
                match (succeeds, fits) {
                    (true, true) => Op::Put(new),
                    (true, false) => Op::Remove,
                    (false, _) => Op::Nop,
                }
            }
            None => Op::Nop,
        });
        self.settle();
        matches!(done, CompResult::ReplacedWith(_))
    }

    /// Throws an image away that no later snapshot can use.
    pub(super) fn remove(&self, partition: &Partition, old: &Arc<HotImage>) {
        self.images.entry_by_ref(partition).and_compute_with(|current| match current {
            Some(current) if Arc::ptr_eq(current.value(), old) => Op::Remove,
            _ => Op::Nop,
        });
        self.settle();
    }

    /// Keeps to the bound.
    fn settle(&self) {
        self.images.run_pending_tasks();
        self.bytes.set(self.images.weighted_size() as f64);
    }
}

/// The right to make an image of a partition, until it is dropped.
#[derive(Debug)]
pub(super) struct Making {
    images: Arc<HotImages>,
    partition: Partition,
}

impl Making {
    pub(super) fn finish(self, image: HotImage) {
        self.images.insert(&self.partition, image);
    }

    pub(super) fn note_too_large(self) {
        self.images.too_large.insert(self.partition.clone(), ());
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.images.under_way.lock().remove(&self.partition);
    }
}

/// Memory of something that is being made, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    images: Arc<HotImages>,
    bytes: u64,
}

impl Room {
    /// Takes more; false if there is none.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let before = self.images.unfinished_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.images.max_image_bytes() {
            self.images.unfinished_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Whether what was taken and `bytes` more would be too large for an image even if nothing else were being made.
    pub(super) fn is_too_small_for(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes as u64) > self.images.max_image_bytes()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.images.unfinished_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
