//! What the user types while a subscription runs.

use std::{
    fs::File,
    io::{self, Read},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often it is looked whether a line was typed.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The longest line that a terminal gives.
const LINE_BYTES: usize = 4096;

/// A line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Pause,
    Continue,
    /// The program is to end.
    Quit,
    /// The subscription is to end: Ctrl+D.
    End,
    /// Nothing that is known.
    Other,
}

/// Lines of the terminal. They are read without waiting: a thread that waits would take the first line of the prompt
/// that follows.
pub(super) struct Keys<R = File> {
    terminal: Option<R>,
    look: Interval,
}

impl Keys {
    /// Without a terminal, nothing is ever typed.
    pub(super) fn new(interactive: bool) -> Self {
        Keys::of(if interactive { terminal() } else { None })
    }
}

impl<R: Read> Keys<R> {
    fn of(terminal: Option<R>) -> Self {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Keys { terminal, look }
    }

    /// The next line that says something. Cancel-safe.
    pub(super) async fn next(&mut self) -> Typed {
        loop {
            let Some(terminal) = &mut self.terminal else { return std::future::pending().await };
            self.look.tick().await;
            let mut line = [0; LINE_BYTES];
            match terminal.read(&mut line) {
                Ok(0) => {
                    self.terminal = None;
                    return Typed::End;
                }
                Ok(length) => {
                    let line = line.get(..length).unwrap_or_default();
                    if let Some(typed) = understand(&String::from_utf8_lossy(line)) {
                        return typed;
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => self.terminal = None,
            }
        }
    }
}

/// The terminal, opened anew: what is set here must not be set for standard output, which can be the same file.
#[cfg(unix)]
fn terminal() -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};

    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open("/dev/tty", flags, Mode::empty()).ok().map(File::from)
}

#[cfg(not(unix))]
fn terminal() -> Option<File> {
    None
}

fn understand(line: &str) -> Option<Typed> {
    match line.trim().trim_end_matches(';') {
        "" => None,
        "\\pause" => Some(Typed::Pause),
        "\\continue" => Some(Typed::Continue),
        "\\q" | "\\quit" => Some(Typed::Quit),
        _ => Some(Typed::Other),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io::{self, ErrorKind, Read},
    };

    use super::{Keys, Typed, understand};

    /// Gives a line for each read, as a terminal does.
    struct Lines(VecDeque<io::Result<&'static str>>);

    impl Read for Lines {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let line = self.0.pop_front().unwrap_or(Ok(""))?;
            buffer[..line.len()].copy_from_slice(line.as_bytes());
            Ok(line.len())
        }
    }

    #[test]
    fn lines_are_commands() {
        assert_eq!(understand("\\pause\n"), Some(Typed::Pause));
        assert_eq!(understand("  \\continue;\r\n"), Some(Typed::Continue));
        assert_eq!((understand("\\q"), understand("\\quit\n")), (Some(Typed::Quit), Some(Typed::Quit)));
        assert_eq!((understand("\n"), understand("SELECT 1;")), (None, Some(Typed::Other)));
    }

    #[tokio::test]
    async fn lines_come_one_by_one_until_the_end() {
        let nothing_yet = || Err(ErrorKind::WouldBlock.into());
        let lines = Lines([nothing_yet(), Ok("\\pause\n"), Ok("\n"), Ok("\\continue\n"), nothing_yet(), Ok("")].into());
        let mut keys = Keys::of(Some(lines));
        for expected in [Typed::Pause, Typed::Continue, Typed::End] {
            assert_eq!(keys.next().await, expected);
        }
        assert!(futures::FutureExt::now_or_never(keys.next()).is_none());
    }
}
