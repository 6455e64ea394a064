//! The chat messages that the workloads write and read: the same on every run.

use std::sync::LazyLock;

use futures::{StreamExt, TryStreamExt, stream};
use kalam_link::{Client, Value, params};

use crate::{
    error::{BenchError, Result},
    wire,
};

/// Rows of one conversation in a filled partition, where there are so many.
pub(crate) const CONVERSATION_ROWS: u64 = 100;
/// Bytes of a message's text.
const CONTENT_BYTES: usize = 200;
const INDEX_DIGITS: usize = 20;
/// Rows of a statement that fills a table.
const FILL_ROWS: u64 = 100;
/// Statements that fill a table at the same time.
const FILL_CONCURRENCY: usize = 8;
const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];
/// How many roles a filled partition has.
pub(crate) const ROLE_COUNT: u64 = ROLES.len() as u64;
/// What follows the index in every message.
static FILLER: LazyLock<String> =
    LazyLock::new(|| SENTENCE.chars().cycle().take(CONTENT_BYTES - INDEX_DIGITS).collect());
const SENTENCE: &str = " the quick brown fox jumps over the lazy dog while a tired agent writes one more answer to a question \
that nobody asked, counts its tokens twice, and waits for the next message of a user who has gone to bed";

/// One generated message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) conversation_id: String,
    pub(crate) role: &'static str,
    pub(crate) content: String,
    pub(crate) files_changed: i32,
}

impl Message {
    /// Message `index` (from 0) of a partition of `rows` messages; its id is `index + 1`.
    pub(crate) fn new(index: u64, rows: u64) -> Self {
        Self {
            id: id(index),
            conversation_id: conversation(index % conversations(rows)),
            role: role(index),
            content: content(index),
            files_changed: files_changed(index),
        }
    }

    /// The parameters of an INSERT that gives every column of [`FILL_COLUMNS`].
    fn parameters(self) -> Vec<Value> {
        params![self.id, self.conversation_id, self.role, self.content, self.files_changed]
    }
}

const FILL_COLUMNS: &str = "id, conversation_id, role, content, files_changed";

/// Id of message `index`.
pub(crate) fn id(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1)
}

/// Role of message `index`.
pub(crate) fn role(index: u64) -> &'static str {
    ROLES[(index % ROLE_COUNT) as usize]
}

/// Number of files changed of message `index`, less than 1,000.
pub(crate) fn files_changed(index: u64) -> i32 {
    (index * 37 % 1_000) as i32
}

/// Number of conversations among `rows` messages.
pub(crate) fn conversations(rows: u64) -> u64 {
    (rows / CONVERSATION_ROWS).max(1)
}

pub(crate) fn conversation(number: u64) -> String {
    format!("conversation-{number:06}")
}

/// A text of [`CONTENT_BYTES`] bytes that no other index has.
pub(crate) fn content(index: u64) -> String {
    format!("{index:020}{}", *FILLER)
}

/// The table of all workloads with generated rows, as a batch that makes it anew.
pub(crate) fn create_messages(namespace: &str) -> String {
    format!(
        "CREATE NAMESPACE IF NOT EXISTS {namespace}; \
         DROP TABLE IF EXISTS {namespace}.messages; \
         CREATE USER TABLE {namespace}.messages ({COLUMNS})"
    )
}

/// A SHARED table of the same columns, which nothing flushes by itself, as a batch that makes it anew.
pub(crate) fn create_shared(namespace: &str, table: &str) -> String {
    format!(
        "CREATE NAMESPACE IF NOT EXISTS {namespace}; \
         DROP TABLE IF EXISTS {namespace}.{table}; \
         CREATE SHARED TABLE {namespace}.{table} ({COLUMNS}) ACCESS public"
    )
}

const COLUMNS: &str = "id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), \
     conversation_id TEXT NOT NULL, \
     role TEXT NOT NULL, \
     content TEXT NOT NULL, \
     created_at TIMESTAMP NOT NULL DEFAULT NOW(), \
     files_changed INT NOT NULL DEFAULT 0";

/// Bytes that the server stores as the value of one row of the table with these texts: a header, the null bitmap, the
/// fixed-width columns, an end offset for each text, the texts.
pub(crate) fn stored_row_bytes(texts: &[&str]) -> usize {
    const HEADER: usize = 21;
    const NULL_BITMAP: usize = 1;
    const CREATED_AT: usize = 8;
    const FILES_CHANGED: usize = 4;
    const OFFSET: usize = 4;
    let texts_bytes: usize = texts.iter().map(|text| OFFSET + text.len()).sum();
    HEADER + NULL_BITMAP + CREATED_AT + FILES_CHANGED + texts_bytes
}

/// Writes `rows` generated messages into a user's partition.
pub(crate) async fn fill(client: &Client, namespace: &str, user: &str, rows: u64) -> Result<()> {
    let indexes = (0..rows).step_by(FILL_ROWS as usize).map(|from| (from..rows.min(from + FILL_ROWS)).collect());
    insert(&client.for_user(user), &format!("{namespace}.messages"), rows, indexes).await
}

/// Writes generated messages into a table, of a set of `rows`: those with these indexes, a statement for each list.
pub(crate) async fn insert(
    client: &Client,
    table: &str,
    rows: u64,
    indexes: impl Iterator<Item = Vec<u64>>,
) -> Result<()> {
    stream::iter(indexes)
        .map(|indexes| async move {
            let groups = wire::values_clause(indexes.len(), 5);
            let parameters: Vec<Value> =
                indexes.into_iter().flat_map(|index| Message::new(index, rows).parameters()).collect();
            client.execute(format!("INSERT INTO {table} ({FILL_COLUMNS}) VALUES {groups}"), parameters).await
        })
        .buffer_unordered(FILL_CONCURRENCY)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .map_err(BenchError::client(format!("filling {table}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_one_size_and_spread_over_conversations() {
        let rows = 1_000;
        let messages: Vec<Message> = (0..rows).map(|index| Message::new(index, rows)).collect();
        assert!(messages.iter().all(|message| message.content.len() == CONTENT_BYTES));
        let in_first = messages.iter().filter(|message| message.conversation_id == conversation(0)).count();
        assert_eq!(in_first as u64, CONVERSATION_ROWS);
        assert_eq!(messages[0].id, 1);
        assert_ne!(messages[0].content, messages[1].content);
    }

    #[test]
    fn parameters_are_numbered_row_by_row() {
        assert_eq!(wire::values_clause(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
