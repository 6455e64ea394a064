//! Colours of SQL at the prompt.

use kalam_link::sql::{TokenKind, tokens};
use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

/// Words shown as keywords.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "ACCESS", "ADD", "ALL", "ALTER", "AND", "ANY", "API", "AS", "ASC", "AUTO_INCREMENT", "BETWEEN", "BIGINT", "BOOLEAN",
    "BY", "BYTES", "CASCADE", "CASE", "CAST", "COLUMN", "CONFLICT", "COUNT", "CREATE", "CROSS", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "DATE", "DECIMAL", "DEFAULT", "DELETE", "DESC", "DESCRIBE", "DISABLE", "DISTINCT", "DO", "DOUBLE", "DROP",
    "ELSE", "ENABLE", "END", "EXCEPT", "EXISTS", "EXPIRES", "EXPLAIN", "FALSE", "FLUSH", "FROM", "FULL", "GROUP", "HAVING", "IF", "IN",
    "INNER", "INSERT", "INT", "INTERSECT", "INTERVAL", "INTO", "IS", "JOIN", "JSON", "KEY", "KEYS", "KILL", "LEFT", "LIKE",
    "LIMIT", "LIVE", "METADATA", "NAMESPACE", "NAMESPACES", "NOT", "NOTHING", "NOW", "NULL", "OFFSET", "ON", "OPTIONS", "OR",
    "ORDER", "OUTER", "OVER", "PARTITION", "PASSWORD", "PERMISSIONS", "POLICY", "PRIMARY", "QUERY", "REAL", "RENAME", "RETURNING", "REVOKE", "RIGHT", "ROLE",
    "ROW", "ROWS", "SELECT", "SET", "SHARED", "SHOW", "SMALLINT", "SNOWFLAKE_ID", "STORAGE", "STREAM", "SUBSCRIBE",
    "TABLE", "TABLES", "TEXT", "THEN", "TIME", "TIMESTAMP", "TO", "TRUE", "TTL", "ULID", "UNION", "UNSIGNED",
    "UPDATE", "USE", "USER", "USING", "UUID", "UUID_V7", "VALUES", "WHEN", "WHERE", "WINDOW", "WITH", "ZONE",
];

/// Colours keywords, strings, numbers, parameters and comments.
pub(crate) struct SqlHighlighter;

impl Highlighter for SqlHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        if line.trim_start().starts_with('\\') {
            text.push((Color::Purple.normal(), line.to_owned()));
            return text;
        }
        for token in tokens(line) {
            text.push((style(token.kind, token.text), token.text.to_owned()));
        }
        text
    }
}

fn style(kind: TokenKind, text: &str) -> Style {
    match kind {
        TokenKind::Word if is_keyword(text) => Color::Blue.bold(),
        TokenKind::Text => Color::Green.normal(),
        TokenKind::Number | TokenKind::Parameter => Color::Cyan.normal(),
        TokenKind::Comment => Style::new().dimmed(),
        _ => Style::new(),
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use reedline::Highlighter;

    use super::{KEYWORDS, SqlHighlighter, is_keyword};

    #[test]
    fn the_list_is_sorted_and_found_in_any_case() {
        assert!(KEYWORDS.is_sorted());
        assert!(is_keyword("subscribe") && is_keyword("kill") && is_keyword("live") && is_keyword("query"));
        assert!(is_keyword("select") && is_keyword("Where") && !is_keyword("messages"));
    }

    #[test]
    fn no_character_is_lost() {
        for line in ["SELECT 'é' FROM t WHERE id = $1 -- x", "\\d t", "SELECT 'open\nstring", ""] {
            let text = SqlHighlighter.highlight(line, 0);
            assert_eq!(text.raw_string(), line);
        }
    }
}
