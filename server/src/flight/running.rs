//! What becomes of tickets: which are being read, which were cancelled, which were used.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use arrow_flight::CancelStatus;
use kalamdb_engine::{Error, Reason};
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::seal::{Opened, Purpose};

/// Tickets that are remembered, of each kind.
const MAX_REMEMBERED: usize = 100_000;

/// The tickets of a server, by origin: those that renew one another are one.
pub(super) struct Tickets {
    reading: Mutex<HashMap<u64, Reading>>,
    /// Those cancelled last.
    cancelled: Cache<u64, ()>,
    used: Mutex<Used>,
}

/// The tickets that were used, of those that are good for once. What runs once must not run again because nobody
/// remembers: when there are too many, all before the oldest that is remembered count as used.
#[derive(Debug, Default)]
struct Used {
    numbers: BTreeSet<u64>,
    /// Numbers below it count as used. Later tickets have greater ones.
    floor: u64,
}

/// A ticket whose rows are being read, by one call or more.
struct Reading {
    calls: usize,
    cancelled: CancellationToken,
}

/// One call that reads the rows of a ticket; ends when dropped.
pub(super) struct Turn {
    tickets: Arc<Tickets>,
    origin: u64,
    cancelled: CancellationToken,
}

impl Used {
    /// Uses a ticket; answers whether it was not used before. At most `most` are remembered.
    fn take(&mut self, number: u64, most: usize) -> bool {
        if number < self.floor || !self.numbers.insert(number) {
            return false;
        }
        if self.numbers.len() > most
            && let Some(oldest) = self.numbers.pop_first()
        {
            self.floor = oldest.saturating_add(1);
        }
        true
    }
}

impl Tickets {
    /// Remembers what was cancelled for as long as tickets can be used.
    pub(super) fn new(lifetime: Duration) -> Arc<Self> {
        Arc::new(Self {
            reading: Mutex::default(),
            cancelled: Cache::builder()
                .max_capacity(MAX_REMEMBERED as u64)
                .time_to_live(lifetime)
                // By moka's own choice a new entry would have to be asked for more often than an old one to get in.
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            used: Mutex::default(),
        })
    }

    /// Begins to read the rows of a ticket.
    ///
    /// # Errors
    /// STATEMENT_CANCELLED when it was cancelled; TICKET_INVALID when it is good for once, and was used.
    pub(super) fn begin(self: &Arc<Self>, ticket: &Opened) -> Result<Turn, Error> {
        let origin = ticket.origin;
        let turn = {
            let mut reading = self.reading.lock();
            self.check(ticket)?;
            let entry =
                reading.entry(origin).or_insert_with(|| Reading { calls: 0, cancelled: CancellationToken::new() });
            entry.calls += 1;
            Turn { tickets: Arc::clone(self), origin, cancelled: entry.cancelled.clone() }
        };
        if ticket.purpose == Purpose::Write && !self.used.lock().take(origin, MAX_REMEMBERED) {
            let text = "The ticket was used, or too many others were since it was made: its statement changes rows, and \
                        runs once. Execute the statement again.";
            return Err(Error::new(Reason::TicketInvalid, text));
        }
        Ok(turn)
    }

    /// Refuses a ticket that was cancelled.
    ///
    /// # Errors
    /// STATEMENT_CANCELLED.
    pub(super) fn check(&self, ticket: &Opened) -> Result<(), Error> {
        if self.cancelled.contains_key(&ticket.origin) {
            return Err(cancelled());
        }
        Ok(())
    }

    /// Cancels a ticket, and those that renew it: what is read of them ends, and nothing is read of them any more.
    pub(super) fn cancel(&self, ticket: &Opened) -> CancelStatus {
        if ticket.purpose == Purpose::Done {
            return CancelStatus::NotCancellable;
        }
        let reading = self.reading.lock();
        self.cancelled.insert(ticket.origin, ());
        if let Some(reading) = reading.get(&ticket.origin) {
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
        if let Some(entry) = reading.get_mut(&self.origin) {
            entry.calls -= 1;
            if entry.calls == 0 {
                reading.remove(&self.origin);
            }
        }
    }
}

/// The error of a statement that was cancelled.
pub(super) fn cancelled() -> Error {
    Error::new(Reason::StatementCancelled, "The statement was cancelled.")
}

#[cfg(test)]
mod tests;
