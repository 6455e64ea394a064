//! Reading what a server writes, so that its pipes never fill up.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::credential::Secret;

/// Lines kept of standard error.
const TAIL_LINES: usize = 50;
/// Bytes kept of one line.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// What the server says on standard output when it serves, before the address.
const READY_PREFIX: &str = "kalamdb-server listening on ";
/// How long the last lines may take to arrive after the end of the process. Another process may hold the pipe open.
const END_WAIT: Duration = Duration::from_millis(500);

/// What the server writes before the key that its first start makes.
const KEY_PREFIX: &str = "kalamdb-server: kdb_";

/// The last lines of an output. The key of a first start is kept apart, so that it does not come into messages.
#[derive(Debug)]
pub(super) struct Tail {
    lines: Mutex<VecDeque<String>>,
    first_key: OnceLock<Secret>,
    ended: tokio::sync::Semaphore,
}

impl Tail {
    /// Reads in a thread of its own until the output ends.
    pub(super) fn of(output: Option<impl Read + Send + 'static>) -> Arc<Tail> {
        let ended = tokio::sync::Semaphore::new(0);
        let tail = Arc::new(Tail { lines: Mutex::default(), first_key: OnceLock::new(), ended });
        let writer = Arc::clone(&tail);
        thread::spawn(move || {
            for_each_line(output, |line| {
                let line = writer.without_key(line);
                let mut lines = writer.lock();
                if lines.len() == TAIL_LINES {
                    lines.pop_front();
                }
                lines.push_back(line.to_owned());
            });
            writer.ended.close();
        });
        tail
    }

    /// The key that a first start has made, once it was read.
    pub(super) fn first_key(&self) -> Option<&str> {
        self.first_key.get().map(Secret::expose)
    }

    /// Keeps a key, and gives the line that stands for it.
    fn without_key<'l>(&self, line: &'l str) -> &'l str {
        let Some(rest) = line.strip_prefix(KEY_PREFIX) else { return line };
        let (begin, end) = (line.len() - rest.len() - "kdb_".len(), line.trim_end().len());
        // Only the first start has one.
        let _ = self.first_key.set(Secret::from(line.get(begin..end).unwrap_or_default()));
        "kalamdb-server: kdb_…"
    }

    pub(super) fn text(&self) -> String {
        self.lock().iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The text when the output has ended, or shortly after it should have.
    pub(super) async fn text_after_end(&self) -> String {
        // The semaphore never has a permit: acquiring ends when it is closed.
        let _ = tokio::time::timeout(END_WAIT, self.ended.acquire()).await;
        self.text()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address in the line that says that the server serves.
pub(super) struct ReadyLine(oneshot::Receiver<SocketAddr>);

impl ReadyLine {
    /// Reads in a thread of its own until the output ends.
    pub(super) fn of(output: Option<impl Read + Send + 'static>) -> ReadyLine {
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            let mut sender = Some(sender);
            for_each_line(output, |line| {
                if let Some(address) = ready_address(line)
                    && let Some(sender) = sender.take()
                {
                    // Nobody may wait any more.
                    let _ = sender.send(address);
                }
            });
        });
        ReadyLine(receiver)
    }

    /// The address, or none when the output ended without it.
    pub(super) async fn wait(self) -> Option<SocketAddr> {
        self.0.await.ok()
    }
}

fn ready_address(line: &str) -> Option<SocketAddr> {
    line.trim_end().strip_prefix(READY_PREFIX)?.parse().ok()
}

fn for_each_line(output: Option<impl Read>, mut each: impl FnMut(&str)) {
    let Some(output) = output else { return };
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{ReadyLine, TAIL_LINES, Tail, ready_address};

    #[test]
    fn only_the_exact_line_is_ready() {
        assert_eq!(ready_address("kalamdb-server listening on 127.0.0.1:29\n").unwrap().port(), 29);
        assert_eq!(ready_address("kalamdb-server listening on somewhere"), None);
        assert_eq!(ready_address("INFO kalamdb-server listening on 127.0.0.1:29"), None);
    }

    #[tokio::test]
    async fn the_tail_is_bounded_and_keeps_the_end() {
        let text: String = (0..3 * TAIL_LINES).map(|line| format!("line {line}\n")).collect();
        let tail = Tail::of(Some(Cursor::new(text)));
        let kept = tail.text_after_end().await;
        assert_eq!(kept.lines().count(), TAIL_LINES);
        assert!(kept.ends_with(&format!("line {}", 3 * TAIL_LINES - 1)));
    }

    #[tokio::test]
    async fn the_key_of_a_first_start_is_kept_apart() {
        let tail = Tail::of(Some(Cursor::new("x\nkalamdb-server: kdb_1_s3cret\ny\n")));
        let kept = tail.text_after_end().await;
        assert_eq!(kept, "x\nkalamdb-server: kdb_…\ny");
        assert_eq!(tail.first_key(), Some("kdb_1_s3cret"));
        assert!(!format!("{tail:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn an_output_without_the_line_ends_the_wait() {
        assert_eq!(ReadyLine::of(Some(Cursor::new("starting\n"))).wait().await, None);
        let ready = ReadyLine::of(Some(Cursor::new("x\nkalamdb-server listening on 127.0.0.1:7\n")));
        assert_eq!(ready.wait().await.unwrap().port(), 7);
    }
}
