//! What the subscribers of one query of one owner share.

use std::sync::Arc;

use datafusion::logical_expr::Expr;

use super::{decoded::DecodedChanges, event::CommitChanges, feed::commit_changes, matcher::Matcher, token::TokenScope};
use crate::{catalog::Table, error::Result};

/// A compiled query of one owner, as its subscribers want it. Those with the same key are served once for all.
#[derive(Debug)]
pub(super) struct QueryClass {
    pub(super) key: ClassKey,
    pub(super) table: Arc<Table>,
    pub(super) matcher: Arc<Matcher>,
}

/// What makes two subscribers' changes the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClassKey {
    pub(super) outputs: Arc<[Expr]>,
    pub(super) filter: Option<Arc<Expr>>,
    pub(super) before_images: bool,
    /// Tokens are among the bytes.
    pub(super) tokens: TokenScope,
}

impl QueryClass {
    /// What some commits did to the query's result. `among`: the changes that can concern it; `None`: all.
    pub(super) fn changes(&self, decoded: &DecodedChanges, among: Option<&[usize]>) -> Result<Vec<Arc<CommitChanges>>> {
        let matched = self.matcher.matches(decoded, among, self.key.before_images)?;
        Ok(commit_changes(matched, decoded, |seq| self.key.tokens.token(seq)))
    }
}
