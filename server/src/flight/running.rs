//! What becomes of tickets: which are being read, which were cancelled, which were used.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow_flight::CancelStatus;
use kalamdb_engine::{Error, Reason};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::seal::{Opened, Purpose};

/// Tickets that are remembered, of each kind. Beyond them the oldest are forgotten before they expire.
const MAX_REMEMBERED: u64 = 100_000;

/// The tickets of a server, by number.
pub(super) struct Tickets {
    reading: Mutex<HashMap<u64, Reading>>,
    cancelled: Cache<u64, ()>,
    used: Cache<u64, ()>,
}

/// A ticket whose rows are being read, by one call or more.
struct Reading {
    calls: usize,
    cancelled: CancellationToken,
}

/// One call that reads the rows of a ticket; ends when dropped.
pub(super) struct Turn {
    tickets: Arc<Tickets>,
    number: u64,
    cancelled: CancellationToken,
}

impl Tickets {
    /// Remembers tickets for as long as they can be used.
    pub(super) fn new(lifetime: Duration) -> Arc<Self> {
        let remembered = || Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(lifetime).build();
        Arc::new(Self { reading: Mutex::default(), cancelled: remembered(), used: remembered() })
    }

    /// Begins to read the rows of a ticket.
    ///
    /// # Errors
    /// STATEMENT_CANCELLED when it was cancelled; TICKET_INVALID when it is good for once, and was used.
    pub(super) fn begin(self: &Arc<Self>, ticket: &Opened) -> Result<Turn, Error> {
        let number = ticket.number;
        let turn = {
            let mut reading = self.reading.lock();
            if self.cancelled.contains_key(&number) {
                return Err(cancelled());
            }
            let entry =
                reading.entry(number).or_insert_with(|| Reading { calls: 0, cancelled: CancellationToken::new() });
            entry.calls += 1;
            Turn { tickets: Arc::clone(self), number, cancelled: entry.cancelled.clone() }
        };
        if ticket.purpose == Purpose::Write && !self.used.entry(number).or_insert(()).is_fresh() {
            let text = "The ticket was used: its statement changes rows, and runs once. Execute the statement again.";
            return Err(Error::new(Reason::TicketInvalid, text));
        }
        Ok(turn)
    }

    /// Cancels a ticket: what is read of it ends, and nothing is read of it any more.
    pub(super) fn cancel(&self, ticket: &Opened) -> CancelStatus {
        if ticket.purpose == Purpose::Done {
            return CancelStatus::NotCancellable;
        }
        let reading = self.reading.lock();
        self.cancelled.insert(ticket.number, ());
        if let Some(reading) = reading.get(&ticket.number) {
            reading.cancelled.cancel();
        }
        CancelStatus::Cancelled
    }
}

impl Turn {
    /// Waits until the ticket is cancelled.
    pub(super) fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut reading = self.tickets.reading.lock();
        if let Some(entry) = reading.get_mut(&self.number) {
            entry.calls -= 1;
            if entry.calls == 0 {
                reading.remove(&self.number);
            }
        }
    }
}

/// The error of a statement that was cancelled.
pub(super) fn cancelled() -> Error {
    Error::new(Reason::StatementCancelled, "The statement was cancelled.")
}
