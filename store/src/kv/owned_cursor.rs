//! A cursor that owns its snapshot.

use std::sync::Arc;

use self_cell::self_cell;

use super::{Cursor, Direction, KeyRange, Keyspace, KvError, Snapshot};

type Borrowed<'a> = Box<dyn Cursor + 'a>;

self_cell!(
    struct Cell {
        owner: Arc<dyn Snapshot>,

        #[not_covariant]
        dependent: Borrowed,
    }
);

/// A [`Cursor`] together with the snapshot it reads, so that it can be kept in a stream.
pub struct OwnedCursor(Cell);

impl OwnedCursor {
    /// The same as [`Snapshot::cursor`], without the borrow.
    pub fn open(
        snapshot: Arc<dyn Snapshot>,
        keyspace: Keyspace,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Self, KvError> {
        Cell::try_new(snapshot, |snapshot| snapshot.cursor(keyspace, range, direction)).map(Self)
    }

    /// Runs `read` with the cursor. Reading many entries in one call spares the indirection of each.
    pub fn with<R>(&mut self, read: impl FnOnce(&mut (dyn Cursor + '_)) -> R) -> R {
        self.0.with_dependent_mut(|_, cursor| read(cursor.as_mut()))
    }
}

impl std::fmt::Debug for OwnedCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedCursor").finish_non_exhaustive()
    }
}
