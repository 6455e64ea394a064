//! The free-space guard: it refuses writes while the disk still has room for what must be written anyway, such as
//! compactions and the log of the database.

use std::time::{Duration, Instant};

use super::FreeSpace;

/// How old a measurement may be.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Everything.
    Ample,
    /// Only what makes room: deleting rows and dropping tables.
    Scarce,
    /// Nothing.
    None,
}

pub(super) struct DiskGuard {
    check: Option<(FreeSpace, u64)>,
    last: Option<(Instant, Room)>,
    /// Bytes that may be written before the next measurement, however soon that is.
    until_check_bytes: u64,
}

impl DiskGuard {
    pub(super) fn new(free_space: Option<FreeSpace>, min_free_bytes: Option<u64>) -> Self {
        Self { check: free_space.zip(min_free_bytes), last: None, until_check_bytes: 0 }
    }

    /// What there is room for now, or was at most [`CHECK_INTERVAL`] and a small part of the free space ago, when
    /// `bytes` are to be written.
    pub(super) fn room(&mut self, bytes: u64) -> Room {
        let Some((free_space, min_free_bytes)) = &self.check else { return Room::Ample };
        if let Some((at, room)) = self.last
            && at.elapsed() < CHECK_INTERVAL
            && bytes <= self.until_check_bytes
        {
            self.until_check_bytes -= bytes;
            return room;
        }
        let free = free_space();
        // A write takes its bytes several times over: in the write-ahead log, and in table files as they are made.
        self.until_check_bytes =
            free.as_ref().map_or(0, |free| free.saturating_sub(*min_free_bytes) / 8).saturating_sub(bytes);
        let room = match free {
            Ok(free) if free < min_free_bytes / 2 => Room::None,
            Ok(free) if free < *min_free_bytes => Room::Scarce,
            Ok(_) => Room::Ample,
            // A write will tell, if the disk is really failing.
            Err(error) => {
                tracing::warn!(%error, "the free disk space cannot be measured");
                Room::Ample
            }
        };
        if self.last.is_none_or(|(_, before)| before != room) && room != Room::Ample {
            tracing::warn!(min_free_bytes, ?room, "little free disk space is left: writes are refused");
        }
        self.last = Some((Instant::now(), room));
        room
    }
}
