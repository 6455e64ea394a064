//! Data must not drive the terminal: control characters are shown, not sent.

use std::{borrow::Cow, fmt::Write};

/// The text with every control and direction character written out: `\n`, `\t`, `\x1b`, `\u{202e}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            hidden if is_hidden(hidden) => {
                let code = u32::from(hidden);
                // Writing to a String cannot fail.
                let _ = if code < 0x100 { write!(shown, "\\x{code:02x}") } else { write!(shown, "\\u{{{code:x}}}") };
            }
            plain => shown.push(plain),
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1), and those that reorder or break the text around them.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::visible;

    #[test]
    fn what_drives_a_terminal_is_written_out() {
        assert_eq!(visible("a\nb\t\r"), "a\\nb\\t\\r");
        assert_eq!(visible("\x1b[2J\u{9b}31m\x07\0\x7f"), "\\x1b[2J\\x9b31m\\x07\\x00\\x7f");
        assert_eq!(visible("\u{202e}cod.exe"), "\\u{202e}cod.exe");
    }

    #[test]
    fn other_text_is_left_alone() {
        assert!(matches!(visible("é 日本 \u{1f600} \\n"), Cow::Borrowed(_)));
    }
}
