//! Cutting text into statements and backslash commands, line by line.

use kalam_link::sql::{Lexer, TokenKind};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// A statement without its semicolon, or a command with its backslash.
    pub(crate) text: String,
    /// The line it begins on, from 1.
    pub(crate) line: usize,
}

impl Unit {
    /// Whether it is a backslash command.
    pub(crate) fn is_command(&self) -> bool {
        self.text.starts_with('\\')
    }
}

/// Collects lines until they make statements.
#[derive(Default)]
pub(crate) struct Splitter {
    lexer: Lexer,
    /// The statement so far, without space before it.
    pending: String,
    pending_line: usize,
    /// Whether the statement so far is more than comments.
    meaningful: bool,
    lines: usize,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Splitter::default()
    }

    /// Number, from 1, of the line that is pushed next.
    pub(crate) fn next_line(&self) -> usize {
        self.lines + 1
    }

    /// Bytes of the statement that is not complete yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Takes one line, with its line break if it has one, and gives what it completes.
    pub(crate) fn push_line(&mut self, line: &str) -> Vec<Unit> {
        self.lines += 1;
        // Between statements a line that begins with a backslash is a command; comments before it are dropped.
        if !self.meaningful && !self.lexer.is_within_token() && line.trim_start().starts_with('\\') {
            self.pending.clear();
            return vec![Unit { text: line.trim().to_owned(), line: self.lines }];
        }
        let mut complete = Vec::new();
        let mut position = 0;
        while let Some(token) = self.lexer.next(line, position) {
            position = token.end();
            match token.kind {
                TokenKind::Semicolon => complete.extend(self.take()),
                TokenKind::Space if self.pending.is_empty() => {}
                kind => {
                    if self.pending.is_empty() {
                        self.pending_line = self.lines;
                    }
                    self.meaningful |= !matches!(kind, TokenKind::Space | TokenKind::Comment);
                    self.pending.push_str(token.text);
                }
            }
        }
        complete
    }

    /// What is left at the end of the text: a statement needs no semicolon there.
    pub(crate) fn finish(mut self) -> Option<Unit> {
        self.take()
    }

    fn take(&mut self) -> Option<Unit> {
        let text = std::mem::take(&mut self.pending);
        let meaningful = std::mem::take(&mut self.meaningful);
        meaningful.then(|| Unit { text: text.trim_end().to_owned(), line: self.pending_line })
    }
}

/// Everything in a text.
pub(crate) fn units(text: &str) -> Vec<Unit> {
    let mut splitter = Splitter::new();
    let mut units: Vec<Unit> = text.split_inclusive('\n').flat_map(|line| splitter.push_line(line)).collect();
    units.extend(splitter.finish());
    units
}

#[cfg(test)]
mod tests {
    use super::units;

    fn split(text: &str) -> Vec<(String, usize)> {
        units(text).into_iter().map(|unit| (unit.text, unit.line)).collect()
    }

    fn expected(units: &[(&str, usize)]) -> Vec<(String, usize)> {
        units.iter().map(|(text, line)| (text.to_string(), *line)).collect()
    }

    #[test]
    fn statements_keep_their_lines() {
        let text = "\n\nSELECT 1;\n  SELECT\n  ';'\n; SELECT 3; SELECT 4";
        assert_eq!(split(text), expected(&[("SELECT 1", 3), ("SELECT\n  ';'", 4), ("SELECT 3", 6), ("SELECT 4", 6)]));
    }

    #[test]
    fn commands_stand_between_statements() {
        let text = "\\timing off\n-- note\n  \\d chat.t \nSELECT 'a\n\\q';\n\\q";
        assert_eq!(
            split(text),
            expected(&[("\\timing off", 1), ("\\d chat.t", 3), ("SELECT 'a\n\\q'", 4), ("\\q", 6)])
        );
        assert!(units("\\x")[0].is_command());
    }

    #[test]
    fn nothing_is_no_statement() {
        assert_eq!(split(""), []);
        assert_eq!(split(";;\n -- only a comment\n/* and ; this */ ;"), []);
        assert_eq!(split("SELECT 'open"), expected(&[("SELECT 'open", 1)]));
    }
}
