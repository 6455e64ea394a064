//! Ending a live query from outside.

use std::sync::Arc;

use super::{hub::LiveHub, info::LiveQueryId, subscriber::Subscriber};
use crate::error::Error;

/// Ends a live query for whoever let it begin, such as when its caller may not see the rows any more. Holding one keeps
/// nothing going.
#[derive(Debug, Clone)]
pub struct LiveQueryHandle {
    hub: Arc<LiveHub>,
    subscriber: Arc<Subscriber>,
}

impl LiveQueryHandle {
    pub(super) fn new(hub: Arc<LiveHub>, subscriber: Arc<Subscriber>) -> Self {
        Self { hub, subscriber }
    }

    /// The live query's id.
    pub fn id(&self) -> LiveQueryId {
        self.subscriber.id
    }

    /// Ends it: what it has not been given yet it will not be given, its next event is the end with this reason and, where
    /// that is possible, a token, and it counts no longer. The first reason stands.
    pub fn end(&self, why: Error) {
        self.hub.end(&self.subscriber, why);
    }
}
