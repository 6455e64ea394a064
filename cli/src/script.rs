//! Running statements that do not come from the prompt.

mod splitter;

use std::{
    io::{BufRead, BufReader, Cursor, Read},
    thread,
};

use tokio::sync::mpsc;

pub(crate) use self::splitter::{Splitter, Unit, units};
use crate::{
    exit::{Failure, Status},
    report::Place,
    session::{Flow, Session},
};

/// The longest statement that is read: more than a server accepts.
const MAX_STATEMENT_BYTES: usize = 64 << 20;
/// Statements read ahead of the one that runs.
const READ_AHEAD: usize = 16;

/// A text to run.
pub(crate) struct Source {
    reader: Box<dyn Read + Send>,
    /// For messages: the file's name.
    name: Option<String>,
}

impl Source {
    pub(crate) fn text(text: &str) -> Source {
        Source { reader: Box::new(Cursor::new(text.to_owned())), name: None }
    }

    pub(crate) fn read(reader: impl Read + Send + 'static, name: Option<String>) -> Source {
        Source { reader: Box::new(reader), name }
    }
}

/// Runs a text statement by statement while it is read, until its end, the first failure, `\q` or Ctrl+C.
pub(crate) async fn run(session: &mut Session, source: Source) -> Result<Status, Failure> {
    let (sender, mut units) = mpsc::channel(READ_AHEAD);
    let name = source.name;
    // A thread of its own, since reading blocks; it ends with its input or the program.
    thread::spawn(move || read(source.reader, &sender));
    loop {
        let unit = tokio::select! {
            unit = units.recv() => unit,
            _ = tokio::signal::ctrl_c() => return Ok(Status::StatementFailed),
        };
        let unit = match unit {
            None => return Ok(Status::Success),
            Some(Err(message)) => {
                let place = name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                return Err(Failure::Usage(format!("{place}{message}")));
            }
            Some(Ok(unit)) => unit,
        };
        let place = Place { file: name.clone(), first_line: unit.line };
        match session.submit(&unit, Some(&place)).await? {
            Flow::Continue => {}
            Flow::Quit => return Ok(Status::Success),
            Flow::Failed(status) => return Ok(status),
        }
    }
}

/// Sends the statements of a text, or a message why it cannot be read.
fn read(reader: impl Read, units: &mpsc::Sender<Result<Unit, String>>) {
    let mut reader = BufReader::new(reader);
    let mut splitter = Splitter::new();
    let mut line = Vec::new();
    let outcome = loop {
        line.clear();
        // One byte more than allowed tells a line that is too long from one that just fits.
        match reader.by_ref().take(MAX_STATEMENT_BYTES as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(format!("cannot read: {error}")),
        }
        let number = splitter.next_line();
        let Ok(text) = std::str::from_utf8(&line) else { break Err(format!("line {number} is not UTF-8")) };
        for unit in splitter.push_line(text) {
            if units.blocking_send(Ok(unit)).is_err() {
                return;
            }
        }
        if line.len() > MAX_STATEMENT_BYTES || splitter.pending_bytes() > MAX_STATEMENT_BYTES {
            break Err(format!("line {number}: the statement is longer than {} MiB", MAX_STATEMENT_BYTES >> 20));
        }
    };
    let last = match outcome {
        Ok(()) => splitter.finish().map(Ok),
        Err(message) => Some(Err(message)),
    };
    if let Some(last) = last {
        let _ = units.blocking_send(last);
    }
}
