//! The events of one live query, from the messages of its call.

use std::sync::Arc;

use kalamdb_proto::v1::{self, subscribe_response::Event};

use super::event::{Change, CommitChanges, SubscriptionEvent};
use crate::{
    column::Columns,
    convert,
    error::{Error, Result},
    row::Row,
};

/// Reads the events of one query, whose rows have the columns it began with.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    columns: Arc<Columns>,
}

impl Decoder {
    /// Hands the events of a message to `push`: one for each commit, one of any other kind, none of a kind that this
    /// client does not know.
    pub(super) fn read(&mut self, event: Option<Event>, mut push: impl FnMut(SubscriptionEvent)) -> Result<()> {
        let Some(event) = event else { return Ok(()) };
        push(match event {
            Event::Started(v1::LiveStarted { live_id, columns, node_id }) => {
                self.columns = convert::columns(columns);
                SubscriptionEvent::Started { live_id, columns: Arc::clone(&self.columns), node_id }
            }
            Event::Rows(batch) => SubscriptionEvent::Rows(convert::rows(Arc::clone(&self.columns), batch.rows)?),
            Event::Ready(v1::LiveReady { commit_seq, resume_token, row_count }) => {
                SubscriptionEvent::Ready { commit_seq, token: present(resume_token)?, row_count }
            }
            Event::Changes(changes) => {
                for commit in changes.commits {
                    push(SubscriptionEvent::Changes(self.commit(commit)?));
                }
                return Ok(());
            }
            Event::Progress(v1::LiveProgress { commit_seq, resume_token }) => {
                SubscriptionEvent::Progress { commit_seq, token: present(resume_token)? }
            }
            Event::Reset(v1::LiveReset { reason, message }) => SubscriptionEvent::Reset { reason, message },
            Event::Ended(v1::LiveEnded { reason, message, resume_token }) => {
                let token = (!resume_token.is_empty()).then_some(resume_token.as_str());
                SubscriptionEvent::Ended { error: Error::ended(reason, message, token) }
            }
        });
        Ok(())
    }

    fn commit(&self, commit: v1::LiveCommit) -> Result<CommitChanges> {
        Ok(CommitChanges {
            commit_seq: commit.commit_seq,
            commit_time_us: commit.commit_time_us,
            changes: commit.changes.into_iter().map(|change| self.change(change)).collect::<Result<_>>()?,
            token: present(commit.resume_token)?,
            merged: commit.merged,
        })
    }

    fn change(&self, change: v1::LiveChange) -> Result<Change> {
        match (change.r#type(), change.old_row, change.new_row) {
            (v1::ChangeType::Insert, _, Some(row)) => Ok(Change::Insert { row: self.row(row)? }),
            (v1::ChangeType::Update, old, Some(row)) => {
                Ok(Change::Update { old: old.map(|old| self.row(old)).transpose()?, row: self.row(row)? })
            }
            (v1::ChangeType::Delete, Some(row), _) => Ok(Change::Delete { row: self.row(row)? }),
            // To leave it out would be a gap.
            _ => Err(Error::protocol("a change without its row, or of a kind that this client does not know")),
        }
    }

    fn row(&self, row: v1::Row) -> Result<Row> {
        convert::row(Arc::clone(&self.columns), row)
    }
}

/// Without its token an event could come twice.
fn present(token: String) -> Result<String> {
    if token.is_empty() { Err(Error::protocol("an event has no resume token")) } else { Ok(token) }
}
