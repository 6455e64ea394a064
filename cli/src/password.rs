//! Secrets that the user types: they are not shown.

use std::io::{self, Read, Write};

/// The variable that a password is taken from where nobody can be asked.
pub(crate) const VARIABLE: &str = "KALAM_PASSWORD";

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// Longer than any token.
const MAX_BYTES: usize = 64 << 10;

/// Asks at the terminal, even when standard input is none.
///
/// # Errors
/// A text for the user when there is no terminal, or they have had enough.
pub(crate) fn ask(prompt: &str) -> Result<String, String> {
    match terminal::ask(prompt) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err("no password was given".to_owned()),
        Err(error) => Err(format!("cannot ask for a password ({error}); without a terminal, set {VARIABLE}")),
    }
}

/// Reads up to the end of the line. None when the user ends it with Ctrl+C, or gives nothing.
fn read_secret(input: &mut impl Read) -> io::Result<Option<String>> {
    let mut typed: Vec<u8> = Vec::new();
    let mut byte = [0];
    loop {
        if input.read(&mut byte)? == 0 {
            break;
        }
        match byte[0] {
            b'\n' | b'\r' => break,
            CTRL_C => return Ok(None),
            CTRL_D if typed.is_empty() => return Ok(None),
            CTRL_U => typed.clear(),
            BACKSPACE | DELETE => {
                // A character may be several bytes.
                while typed.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            _ if typed.len() >= MAX_BYTES => return Err(io::Error::other("it is too long")),
            byte => typed.push(byte),
        }
    }
    match String::from_utf8(typed) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(io::Error::other("it is not UTF-8")),
    }
}

#[cfg(unix)]
mod terminal {
    use std::{
        fs::{File, OpenOptions},
        io::{self, Write},
    };

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    use super::{read_secret, show};

    /// Sets the terminal back, however this ends.
    struct Silent<'a> {
        terminal: &'a File,
        before: Termios,
    }

    impl<'a> Silent<'a> {
        fn new(terminal: &'a File) -> io::Result<Self> {
            let before = tcgetattr(terminal)?;
            let mut silent = before.clone();
            // Ctrl+C as a character: as a signal it would end the program and leave the terminal silent.
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            tcsetattr(terminal, OptionalActions::Flush, &silent)?;
            Ok(Silent { terminal, before })
        }
    }

    impl Drop for Silent<'_> {
        fn drop(&mut self) {
            let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
        }
    }

    pub(super) fn ask(prompt: &str) -> io::Result<Option<String>> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let mut other = terminal.try_clone()?;
        show(&mut other, prompt)?;
        let outcome = {
            let _silent = Silent::new(&terminal)?;
            read_secret(&mut &terminal)
        };
        other.write_all(b"\n")?;
        outcome
    }
}

#[cfg(not(unix))]
mod terminal {
    use std::io;

    pub(super) fn ask(_: &str) -> io::Result<Option<String>> {
        Err(io::Error::other("not on this system"))
    }
}

#[cfg_attr(not(unix), allow(dead_code, reason = "nobody is asked"))]
fn show(output: &mut impl Write, prompt: &str) -> io::Result<()> {
    output.write_all(crate::escape::visible(prompt).as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::read_secret;

    fn read(typed: &[u8]) -> Option<String> {
        read_secret(&mut Cursor::new(typed)).unwrap()
    }

    #[test]
    fn what_is_typed_can_be_corrected() {
        assert_eq!(read(b"secret\nmore"), Some("secret".to_owned()));
        assert_eq!(read(b"secreX\x7ft\r"), Some("secret".to_owned()));
        assert_eq!(read("a\u{e9}\u{8}b\n".as_bytes()), Some("ab".to_owned()));
        assert_eq!(read("\u{1f600}\x7f\x7f\x7fx\n".as_bytes()), Some("x".to_owned()));
        assert_eq!(read(b"wrong\x15right\n"), Some("right".to_owned()));
        assert_eq!(read(b"no end"), Some("no end".to_owned()));
    }

    #[test]
    fn nothing_and_enough_are_none() {
        for typed in [&b"\n"[..], b"", b"abc\x03", b"\x04"] {
            assert_eq!(read(typed), None);
        }
        assert!(read_secret(&mut Cursor::new(b"\xff\n")).is_err());
        assert!(read_secret(&mut Cursor::new(vec![b'a'; 1 << 20])).is_err());
    }
}
