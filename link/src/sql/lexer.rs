//! The lexer. It works by pieces: text that ends within a string or comment is continued by the next piece.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A keyword or an unquoted name.
    Word,
    /// A number.
    Number,
    /// A string, or the part of it in this piece.
    Text,
    /// A quoted name, or the part of it in this piece.
    QuotedName,
    /// A comment, or the part of it in this piece.
    Comment,
    /// `$1`.
    Parameter,
    /// White space.
    Space,
    /// `;`, which ends a statement.
    Semicolon,
    /// Any other character.
    Symbol,
}

/// A piece of text with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Byte position in the text.
    pub start: usize,
    /// The text itself, never empty.
    pub text: &'a str,
}

impl Token<'_> {
    /// Byte position after it.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Cuts text into tokens. A text may be given in pieces, each a number of whole lines.
#[derive(Clone, Debug, Default)]
pub struct Lexer {
    within: Within,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    Text {
        backslashes: bool,
    },
    QuotedName,
    BlockComment {
        depth: usize,
    },
    /// `$tag$`; holds the whole delimiter.
    DollarText {
        delimiter: String,
    },
}

impl Lexer {
    /// A lexer at the beginning of a text.
    pub fn new() -> Self {
        Lexer::default()
    }

    /// Whether the text so far ends within a string, a quoted name or a block comment.
    pub fn is_within_token(&self) -> bool {
        self.within != Within::Nothing
    }

    /// The token of `piece` at byte `position`, which is 0 or the end of the token before. None at the end.
    pub fn next<'a>(&mut self, piece: &'a str, position: usize) -> Option<Token<'a>> {
        let rest = piece.get(position..).filter(|rest| !rest.is_empty())?;
        let (kind, length) = match std::mem::take(&mut self.within) {
            Within::Nothing => self.begin(rest)?,
            Within::Text { backslashes } => (TokenKind::Text, self.text(rest, 0, backslashes)),
            Within::QuotedName => (TokenKind::QuotedName, self.quoted_name(rest, 0)),
            Within::BlockComment { depth } => (TokenKind::Comment, self.block_comment(rest, 0, depth)),
            Within::DollarText { delimiter } => (TokenKind::Text, self.dollar_text(rest, 0, delimiter)),
        };
        rest.get(..length).map(|text| Token { kind, start: position, text })
    }

    /// Kind and length of the token that begins `rest`.
    fn begin(&mut self, rest: &str) -> Option<(TokenKind, usize)> {
        let first = rest.chars().next()?;
        let second = rest[first.len_utf8()..].chars().next();
        Some(match (first, second) {
            (';', _) => (TokenKind::Semicolon, 1),
            ('\'', _) => (TokenKind::Text, self.text(rest, 1, false)),
            ('e' | 'E', Some('\'')) => (TokenKind::Text, self.text(rest, 2, true)),
            ('"', _) => (TokenKind::QuotedName, self.quoted_name(rest, 1)),
            ('-', Some('-')) => (TokenKind::Comment, rest.find('\n').unwrap_or(rest.len())),
            ('/', Some('*')) => (TokenKind::Comment, self.block_comment(rest, 2, 1)),
            ('$', Some('0'..='9')) => (TokenKind::Parameter, 1 + run(&rest[1..], |c| c.is_ascii_digit())),
            ('$', _) => match dollar_delimiter(rest) {
                Some(delimiter) => (TokenKind::Text, self.dollar_text(rest, delimiter.len(), delimiter.to_owned())),
                None => (TokenKind::Symbol, 1),
            },
            ('0'..='9', _) => (TokenKind::Number, number(rest)),
            (c, _) if c.is_whitespace() => (TokenKind::Space, run(rest, char::is_whitespace)),
            (c, _) if c.is_alphabetic() || c == '_' => {
                (TokenKind::Word, run(rest, |c| c.is_alphanumeric() || c == '_' || c == '$'))
            }
            (c, _) => (TokenKind::Symbol, c.len_utf8()),
        })
    }

    fn text(&mut self, rest: &str, from: usize, backslashes: bool) -> usize {
        let bytes = rest.as_bytes();
        let mut at = from;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\\' if backslashes => at += 2,
                b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
                b'\'' => return at + 1,
                _ => at += 1,
            }
        }
        self.within = Within::Text { backslashes };
        rest.len()
    }

    fn quoted_name(&mut self, rest: &str, from: usize) -> usize {
        match rest.get(from..).and_then(|tail| tail.find('"')) {
            // A doubled quote reads as the end of one name and the beginning of the next, which comes to the same.
            Some(length) => from + length + 1,
            None => {
                self.within = Within::QuotedName;
                rest.len()
            }
        }
    }

    fn block_comment(&mut self, rest: &str, from: usize, mut depth: usize) -> usize {
        let bytes = rest.as_bytes();
        let mut at = from;
        while let Some(byte) = bytes.get(at) {
            match (byte, bytes.get(at + 1)) {
                (b'*', Some(b'/')) if depth <= 1 => return at + 2,
                (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
                (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
                _ => at += 1,
            }
        }
        self.within = Within::BlockComment { depth };
        rest.len()
    }

    fn dollar_text(&mut self, rest: &str, from: usize, delimiter: String) -> usize {
        match rest.get(from..).and_then(|tail| tail.find(&delimiter)) {
            Some(length) => from + length + delimiter.len(),
            None => {
                self.within = Within::DollarText { delimiter };
                rest.len()
            }
        }
    }
}

/// The `$tag$` that `rest` begins with, if it does.
fn dollar_delimiter(rest: &str) -> Option<&str> {
    let tag = run(rest.get(1..)?, |c| c.is_alphanumeric() || c == '_');
    let end = 1 + tag;
    (rest.as_bytes().get(end) == Some(&b'$')).then(|| rest.get(..=end)).flatten()
}

fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut length = run(rest, |c| c.is_ascii_alphanumeric() || c == '.');
    // The sign of an exponent belongs to the number: 1e-5.
    let has_exponent = matches!(bytes.get(length.wrapping_sub(1)), Some(b'e' | b'E'));
    if has_exponent && matches!(bytes.get(length), Some(b'+' | b'-')) {
        length += 1 + run(rest.get(length + 1..).unwrap_or_default(), |c| c.is_ascii_digit());
    }
    length
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}
