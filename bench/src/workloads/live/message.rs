//! The rows that are written, and what is read from a change: who wrote it, which of the writer's rows of this kind it
//! is, and when.

use std::{sync::LazyLock, time::Instant};

use kalamdb_proto::v1::{ChangeType, LiveChange, Row, Value, value::Kind};

use crate::{
    data,
    limits::broadcast::PLACES,
    wire::{int, text},
};

const ROLE: &str = "user";
/// Ids of one writer.
const ID_STRIDE: i64 = 1 << 32;
/// How many digits a text of [`data::content`] begins with.
const DIGITS: usize = 20;
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since this was first asked for.
pub(super) fn now_ns() -> u64 {
    u64::try_from(BEGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// An INSERT of so many messages.
pub(super) fn insert_sql(namespace: &str, rows: usize) -> String {
    let values = crate::wire::values_clause(rows, PLACES.len());
    format!("INSERT INTO {namespace}.messages (id, conversation_id, role, content, files_changed) VALUES {values}")
}

/// A message that says where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) writer: usize,
    /// How many messages the writer has sent to the same subscribers before.
    pub(super) sequence: u32,
    /// When it was sent.
    pub(super) at_ns: u64,
}

impl Sent {
    /// The parameters of an INSERT; `number` is how many messages the writer has sent before, whomever to.
    pub(super) fn parameters(&self, number: u32, conversation: String) -> Vec<Value> {
        let id = self.writer as i64 * ID_STRIDE + i64::from(number);
        let sequence = int(i64::from(self.sequence));
        vec![int(id), text(conversation), text(ROLE), text(data::content(self.at_ns)), sequence]
    }

    /// Reads a change, which must be an INSERT.
    pub(super) fn read(change: &LiveChange) -> Result<Self, String> {
        let row = inserted(change)?;
        let (writer, sequence) = (id(row)? / ID_STRIDE, integer(row, PLACES[4])?);
        let digits = content(row)?.get(..DIGITS).ok_or("a change with a text that was never written")?;
        let at_ns = digits.parse().map_err(|_| "a change with a text that was never written".to_owned())?;
        let writer = usize::try_from(writer).map_err(|_| format!("a change by no writer: {writer}"))?;
        let sequence = u32::try_from(sequence).map_err(|_| format!("a change with the number {sequence}"))?;
        Ok(Self { writer, sequence, at_ns })
    }
}

/// The parameters of an INSERT of message `id`, as [`check`] expects it.
pub(super) fn parameters(id: i64) -> [Value; 5] {
    let conversation = data::conversation(id.unsigned_abs() % data::CONVERSATION_ROWS);
    [int(id), text(conversation), text(ROLE), text(data::content(id.unsigned_abs())), int(0)]
}

/// Fails unless a change is the INSERT of message `id`.
pub(super) fn check(change: &LiveChange, expected: i64) -> Result<(), String> {
    let row = inserted(change)?;
    let found = id(row)?;
    if found != expected {
        return Err(format!("a change of row {found} where that of row {expected} is the next"));
    }
    if content(row)? != data::content(expected.unsigned_abs()) {
        return Err(format!("a change of row {found} with another text"));
    }
    Ok(())
}

fn inserted(change: &LiveChange) -> Result<&Row, String> {
    if change.r#type() != ChangeType::Insert {
        return Err(format!("a change of the type {:?} where there were only INSERTs", change.r#type()));
    }
    change.new_row.as_ref().ok_or_else(|| "an INSERT without its row".to_owned())
}

fn id(row: &Row) -> Result<i64, String> {
    integer(row, PLACES[0])
}

fn integer(row: &Row, place: usize) -> Result<i64, String> {
    match row.values.get(place).and_then(|value| value.kind.as_ref()) {
        Some(Kind::IntValue(value)) => Ok(*value),
        other => Err(format!("column {place} of a change is {other:?}, not an integer")),
    }
}

fn content(row: &Row) -> Result<&str, String> {
    match row.values.get(PLACES[3]).and_then(|value| value.kind.as_ref()) {
        Some(Kind::TextValue(text)) => Ok(text),
        other => Err(format!("column {} of a change is {other:?}, not a text", PLACES[3])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(parameters: Vec<Value>) -> LiveChange {
        let mut values = vec![Value::default(); 6];
        for (place, value) in PLACES.into_iter().zip(parameters) {
            values[place] = value;
        }
        let mut change = LiveChange { new_row: Some(Row { values }), ..LiveChange::default() };
        change.set_type(ChangeType::Insert);
        change
    }

    #[test]
    fn what_was_sent_is_read_from_the_change() {
        let sent = Sent { writer: 15, sequence: 3, at_ns: now_ns() + 1 };
        assert_eq!(Sent::read(&change(sent.parameters(9, "trip".to_owned()))), Ok(sent));
        let mut deleted = change(sent.parameters(9, "trip".to_owned()));
        deleted.set_type(ChangeType::Delete);
        assert!(Sent::read(&deleted).is_err());
    }

    #[test]
    fn another_row_or_text_is_noticed() {
        assert_eq!(check(&change(parameters(4).to_vec()), 4), Ok(()));
        assert!(check(&change(parameters(4).to_vec()), 5).is_err());
        let mut other = parameters(4).to_vec();
        other[3] = text("");
        assert!(check(&change(other), 4).is_err());
    }
}
