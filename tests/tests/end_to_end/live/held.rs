//! The rows of a subscription of the client library, as they change, and whether they can be right.

use std::collections::BTreeMap;

use futures::StreamExt;
use kalam_link::{Change, Subscription, SubscriptionEvent};

use super::LIMIT;

/// The rows of a subscription of the client library, as they change.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By the first column, which is the key.
    pub(super) rows: BTreeMap<i64, Vec<kalam_link::Value>>,
    /// The last commit that is accounted for.
    pub(super) at: u64,
    pub(super) ready: bool,
    pub(super) commits: u64,
    pub(super) resets: u64,
    pub(super) reconnects: u64,
}

impl Held {
    /// Takes an event. What cannot be is an error: a row that comes twice, a change of a row that is not there, a commit
    /// out of its order.
    fn take(&mut self, event: SubscriptionEvent) -> Result<(), String> {
        match event {
            SubscriptionEvent::Reset { reason, .. } => {
                if reason != "INTERRUPTED" {
                    return Err(format!("reset: {reason}"));
                }
                self.resets += 1;
                self.rows.clear();
                self.ready = false;
            }
            SubscriptionEvent::Rows(rows) => {
                for row in rows {
                    self.come(&row)?;
                }
            }
            SubscriptionEvent::Ready { commit_seq, row_count, .. } => {
                if self.ready && (commit_seq != self.at || row_count != 0) {
                    return Err(format!("resumed at {commit_seq} with {row_count} rows, but it was at {}", self.at));
                }
                self.ready = true;
                self.moved_to(commit_seq, false)?;
            }
            SubscriptionEvent::Changes(commit) => {
                self.moved_to(commit.commit_seq, true)?;
                self.commits += 1;
                for change in &commit.changes {
                    match change {
                        Change::Insert { row } => self.come(row)?,
                        Change::Update { old, row } => {
                            self.go(old.as_ref().ok_or("an UPDATE without its old row")?)?;
                            self.come(row)?;
                        }
                        Change::Delete { row } => self.go(row)?,
                    }
                }
            }
            SubscriptionEvent::Progress { commit_seq, .. } => self.moved_to(commit_seq, false)?,
            SubscriptionEvent::Reconnected => self.reconnects += 1,
            _ => {}
        }
        Ok(())
    }

    fn moved_to(&mut self, seq: u64, further: bool) -> Result<(), String> {
        if seq < self.at || (further && seq == self.at) {
            return Err(format!("{seq} came at {}", self.at));
        }
        self.at = seq;
        Ok(())
    }

    fn come(&mut self, row: &kalam_link::Row) -> Result<(), String> {
        let key = row.get::<i64>(0).map_err(|error| error.to_string())?;
        match self.rows.insert(key, row.values().to_vec()) {
            None => Ok(()),
            Some(before) => Err(format!("row {row:?} came, but was there as {before:?}")),
        }
    }

    fn go(&mut self, row: &kalam_link::Row) -> Result<(), String> {
        let key = row.get::<i64>(0).map_err(|error| error.to_string())?;
        let held = self.rows.remove(&key);
        if held.as_deref() == Some(row.values()) { Ok(()) } else { Err(format!("row {row:?} went, but was {held:?}")) }
    }

    /// Reads until everything up to a commit is there.
    pub(super) async fn follow(
        &mut self,
        events: &mut Subscription,
        until: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        while !until(self) {
            let event = tokio::time::timeout(LIMIT * 2, events.next()).await.map_err(|_| "nothing comes".to_owned())?;
            let event = event.ok_or("it has ended")?.map_err(|error| format!("it has ended: {error}"))?;
            self.take(event)?;
        }
        Ok(())
    }

    /// Compares with what a SELECT answers.
    pub(super) async fn check(&self, client: &kalam_link::Client, select: &str) -> Result<(), String> {
        let answer = client.execute(select, ()).await.map_err(|error| format!("{select}: {error}"))?;
        let rows: Vec<Vec<kalam_link::Value>> = answer.rows().iter().map(|row| row.values().to_vec()).collect();
        let held: Vec<Vec<kalam_link::Value>> = self.rows.values().cloned().collect();
        if held == rows { Ok(()) } else { Err(format!("{select} answers {rows:?}\n  held are {held:?}")) }
    }
}
