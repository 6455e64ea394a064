//! The chat messages that the workloads write and read: the same on every run.

use std::{ops::Range, sync::LazyLock};

use futures::{StreamExt, TryStreamExt, stream};
use kalam_link::{Client, Value, params};

use crate::{
    error::{BenchError, Result},
    progress::Progress,
};

/// Rows of one conversation in a filled partition, where there are so many.
pub(crate) const CONVERSATION_ROWS: u64 = 100;
/// Bytes of a message's text.
const CONTENT_BYTES: usize = 200;
const INDEX_DIGITS: usize = 20;
/// Digits of a conversation's number, enough for any number of rows that can be asked for.
const CONVERSATION_DIGITS: usize = 6;
/// Rows of a statement that fills a table: few enough that several at a time keep all of the server's threads busy.
const FILL_ROWS: u64 = 20_000;
/// Statements that fill a table at the same time.
const FILL_CONCURRENCY: usize = 4;
const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];
/// How many roles a filled partition has.
pub(crate) const ROLE_COUNT: u64 = ROLES.len() as u64;
/// What follows the index in every message.
static FILLER: LazyLock<String> =
    LazyLock::new(|| SENTENCE.chars().cycle().take(CONTENT_BYTES - INDEX_DIGITS).collect());
const SENTENCE: &str = " the quick brown fox jumps over the lazy dog while a tired agent writes one more answer to a question \
that nobody asked, counts its tokens twice, and waits for the next message of a user who has gone to bed";

/// When the first message was written, and how long after it the next one was, in microseconds.
const FIRST_CREATED_AT_US: i64 = 1_735_689_600_000_000;
const INTERVAL_US: i64 = 1_000_000;

/// One generated message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) conversation_id: String,
    pub(crate) role: &'static str,
    pub(crate) content: String,
    pub(crate) created_at_us: i64,
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
            created_at_us: (index as i64).saturating_mul(INTERVAL_US).saturating_add(FIRST_CREATED_AT_US),
            files_changed: files_changed(index),
        }
    }

    /// The values of [`FILL_COLUMNS`], as parameters and as they are read.
    pub(crate) fn values(self) -> Vec<Value> {
        let mut values = params![self.id, self.conversation_id, self.role, self.content];
        values.extend([Value::Timestamp(self.created_at_us), Value::Int(self.files_changed.into())]);
        values
    }
}

/// All columns of a table of messages.
pub(crate) const FILL_COLUMNS: &str = "id, conversation_id, role, content, created_at, files_changed";
/// How many they are.
pub(crate) const FILL_COLUMN_COUNT: usize = 6;

/// Which messages to write: every so many of a range.
#[derive(Debug, Clone)]
pub(crate) struct Indexes {
    range: Range<u64>,
    step: u64,
}

impl From<Range<u64>> for Indexes {
    fn from(range: Range<u64>) -> Self {
        Self { range, step: 1 }
    }
}

impl Indexes {
    /// From `first`, each `step` after the one before, below `end`.
    pub(crate) fn stepping(first: u64, end: u64, step: u64) -> Self {
        Self { range: first..end, step: step.max(1) }
    }

    fn count(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start).div_ceil(self.step)
    }

    fn first_and_last(&self) -> Option<[u64; 2]> {
        let before_last = self.count().checked_sub(1)?;
        Some([self.range.start, self.range.start + before_last * self.step])
    }

    /// The same in parts of so many indexes at most.
    fn parts(&self, most: u64) -> impl Iterator<Item = Self> + use<> {
        let (end, step, length) = (self.range.end, self.step, most * self.step);
        self.range.clone().step_by(length as usize).map(move |from| Self { range: from..end.min(from + length), step })
    }
}

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
    format!("conversation-{number:0CONVERSATION_DIGITS$}")
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
    insert(&client.for_user(user), &format!("{namespace}.messages"), rows, 0..rows).await
}

/// Writes generated messages into a table, of a set of `rows`: those with these indexes.
///
/// The server generates them, which is many times faster than sending them: at the end the first and the last one are
/// read back and compared with what [`Message::new`] makes here.
pub(crate) async fn insert(client: &Client, table: &str, rows: u64, indexes: impl Into<Indexes>) -> Result<()> {
    let indexes = indexes.into();
    let failed = || BenchError::client(format!("filling {table}"));
    let mut progress = Progress::new(format!("filling {table}"), "rows", indexes.count());
    let mut inserts = stream::iter(indexes.parts(FILL_ROWS))
        .map(|part| client.execute(insert_statement(table, rows, &part), ()))
        .buffer_unordered(FILL_CONCURRENCY);
    let mut inserted = 0;
    while let Some(result) = inserts.try_next().await.map_err(failed())? {
        inserted += result.row_count();
        progress.add(result.row_count());
    }
    if inserted != indexes.count() {
        return Err(BenchError::WrongAnswer(format!("{inserted} rows were inserted of {}", indexes.count())));
    }
    for index in indexes.first_and_last().into_iter().flatten() {
        let sql = format!("SELECT {FILL_COLUMNS} FROM {table} WHERE id = $1");
        let result = client.execute(sql, params![id(index)]).await.map_err(failed())?;
        let expected = Message::new(index, rows).values();
        if result.rows().first().map(kalam_link::Row::values) != Some(&expected) {
            let found = result.rows().first();
            return Err(BenchError::WrongAnswer(format!(
                "row {index} of {table} is {found:?} where {expected:?} was written"
            )));
        }
    }
    Ok(())
}

fn insert_statement(table: &str, rows: u64, indexes: &Indexes) -> String {
    format!("INSERT INTO {table} ({FILL_COLUMNS}) {}", select_messages(rows, indexes))
}

/// A query of the values of [`FILL_COLUMNS`] that [`Message::new`] makes.
fn select_messages(rows: u64, Indexes { range, step }: &Indexes) -> String {
    let roles: String =
        ROLES.iter().enumerate().map(|(number, role)| format!(" WHEN {number} THEN '{role}'")).collect();
    format!(
        "SELECT i + 1, \
         'conversation-' || lpad(CAST(i % {} AS TEXT), {CONVERSATION_DIGITS}, '0'), \
         CASE i % {ROLE_COUNT}{roles} END, \
         lpad(CAST(i AS TEXT), {INDEX_DIGITS}, '0') || '{}', \
         to_timestamp_micros({FIRST_CREATED_AT_US} + i * {INTERVAL_US}), \
         CAST(i * 37 % 1000 AS INT) \
         FROM generate_series({}, {}, {step}) AS indexes(i)",
        conversations(rows),
        *FILLER,
        range.start,
        range.end.saturating_sub(1),
    )
}

#[cfg(test)]
mod tests {
    use arrow::compute::{cast, concat_batches};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::limits::datafusion::batch_of;

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
    fn indexes_are_divided_into_parts() {
        let parts = |indexes: &Indexes, most| {
            let part = |part: Indexes| (part.range.start, part.range.end, part.count());
            indexes.parts(most).map(part).collect::<Vec<_>>()
        };
        assert_eq!(parts(&Indexes::from(10..35), 10), [(10, 20, 10), (20, 30, 10), (30, 35, 5)]);
        let stepping = Indexes::stepping(3, 100, 20);
        assert_eq!((stepping.count(), stepping.first_and_last()), (5, Some([3, 83])));
        assert_eq!(parts(&stepping, 2), [(3, 43, 2), (43, 83, 2), (83, 100, 1)]);
        assert_eq!(Indexes::from(5..5).first_and_last(), None);
    }

    #[tokio::test]
    async fn the_statement_makes_the_same_messages() {
        let rows = 100_000;
        for indexes in [Indexes::from(0..300), Indexes::stepping(7, rows, 4_999), Indexes::from(rows - 3..rows)] {
            let context = SessionContext::new();
            let found = context.sql(&select_messages(rows, &indexes)).await.unwrap().collect().await.unwrap();
            let found = concat_batches(&found[0].schema(), &found).unwrap();
            let mut numbers: Vec<u64> = indexes.range.clone().step_by(indexes.step as usize).collect();
            assert_eq!(numbers.len() as u64, indexes.count());
            let messages = numbers.drain(..).map(|index| Message::new(index, rows)).collect::<Vec<_>>();
            let expected = batch_of(&messages).unwrap();
            assert_eq!(found.num_columns(), FILL_COLUMN_COUNT);
            for (found, expected) in found.columns().iter().zip(expected.columns()) {
                assert_eq!(&cast(found, expected.data_type()).unwrap(), expected);
            }
        }
    }
}
