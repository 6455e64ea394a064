//! Room on disks: one that is filled up would take the database down, if it is the same.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kalamdb_store::data_dir::free_bytes;

use crate::error::{Error, Reason};

/// Bytes that are on their way to a disk, whose free space does not show them yet.
#[derive(Debug, Default)]
pub(super) struct Claims(AtomicU64);

/// Some of them, until they are written.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    bytes: u64,
}

impl Claims {
    /// Claims bytes if they, with all that are claimed already, `fit`.
    pub(super) fn claim(self: &Arc<Self>, bytes: u64, fit: impl FnOnce(u64) -> bool) -> Option<Claim> {
        let claimed = self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        // It gives them back where they do not.
        let claim = Claim { claims: Arc::clone(self), bytes };
        fit(claimed).then_some(claim)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How many bytes can be written to the disk of a folder so that `min_free` stay free; `None`: it does not say. Then
/// writing will tell.
pub(super) fn room(folder: &Path, min_free: u64) -> Option<u64> {
    free_bytes(folder).ok().map(|free| free.saturating_sub(min_free))
}

/// Whether so many bytes can be written to the disk of a folder so that `min_free` stay free, as far as it says.
pub(super) fn has_room(folder: &Path, min_free: u64, bytes: u64) -> bool {
    match free_bytes(folder) {
        Ok(free) => free >= min_free.saturating_add(bytes),
        Err(_) => true,
    }
}

/// The error of a disk that has no room: `what` is not written to it.
pub(super) fn full(what: &str) -> Error {
    let message = format!(
        "The disk is nearly full, and {what}. Free some room and try again; storage.min_free_disk_mb says how much is \
         kept free."
    );
    Error::new(Reason::DiskFull, message).with("limit", "storage.min_free_disk_mb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_counts_until_it_is_there() {
        let claims = Arc::new(Claims::default());
        let claim = |bytes| claims.claim(bytes, |claimed| claimed <= 100);
        let first = claim(60).expect("there is room");
        assert!(claim(41).is_none(), "beside the first there is not so much");
        let second = claim(40).expect("what was refused is not counted");
        assert!(claim(1).is_none());
        drop(first);
        assert!(claim(61).is_none());
        let third = claim(60).expect("the first is written");
        drop((second, third));
        assert!(claim(100).is_some());
    }

    #[test]
    fn what_is_kept_free_is_no_room() {
        let folder = std::env::temp_dir();
        assert!(has_room(&folder, 0, 0));
        assert!(!has_room(&folder, u64::MAX, 0) && !has_room(&folder, 0, u64::MAX) && !has_room(&folder, 1, u64::MAX));
        assert_eq!(room(&folder, u64::MAX), Some(0));
        assert_eq!(room(Path::new("/nowhere/at/all"), 0), None);
        assert!(has_room(Path::new("/nowhere/at/all"), 0, u64::MAX));
    }
}
