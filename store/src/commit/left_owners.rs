//! Users that left, as long as statements of before can be under way.

use std::collections::{HashMap, VecDeque};

use super::{CommitError, PreparedCommit, RowOp};
use crate::ids::{CommitSeq, Owner, UserId};

/// How many are remembered: as many users would have to leave during one statement for it to write after all.
const MAX_REMEMBERED: usize = 65_536;

/// The users that left since the committer was started, and with which commit. Statements of before the start are gone.
#[derive(Debug, Default)]
pub(super) struct LeftOwners {
    left_at: HashMap<UserId, CommitSeq>,
    order: VecDeque<(UserId, CommitSeq)>,
}

impl LeftOwners {
    /// Refuses a commit that adds to the rows of a user that left since its statement began.
    pub(super) fn check(&self, commit: &PreparedCommit) -> Result<(), CommitError> {
        let Some(began_at) = commit.began_at.filter(|_| !self.left_at.is_empty()) else { return Ok(()) };
        let has_left = |owner: &Owner| match owner {
            Owner::User(user) => self.left_at.get(user).is_some_and(|left_at| *left_at > began_at),
            Owner::Shared => false,
        };
        for (index, change) in commit.changes.iter().enumerate() {
            if !matches!(change.op, RowOp::Delete { .. }) && has_left(&change.partition.owner) {
                return Err(CommitError::OwnerLeft { change: index });
            }
        }
        if let Some(bulk) = &commit.bulk
            && let Some(change) = bulk.lock().iter().position(|insert| has_left(&insert.partition().owner))
        {
            return Err(CommitError::OwnerLeft { change });
        }
        Ok(())
    }

    /// Remembers that users leave with a commit.
    pub(super) fn leave(&mut self, users: Vec<UserId>, seq: CommitSeq) {
        for user in users {
            self.left_at.insert(user.clone(), seq);
            self.order.push_back((user, seq));
        }
        while self.order.len() > MAX_REMEMBERED
            && let Some((user, seq)) = self.order.pop_front()
        {
            // It can have left again since.
            if self.left_at.get(&user) == Some(&seq) {
                self.left_at.remove(&user);
            }
        }
    }
}
