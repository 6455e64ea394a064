//! TAB at the prompt: the next word of a statement or command.

use kalam_link::sql::{TokenKind, tokens};
use reedline::{Completer, CompletionResult, Span, Suggestion};

/// Statements, as far as their words are always the same. `…` is a name or a value.
#[rustfmt::skip]
const STATEMENTS: &[&str] = &[
    "ALTER NAMESPACE … SET OPTIONS (",
    "ALTER STORAGE … SET",
    "ALTER TABLE … ADD COLUMN", "ALTER TABLE … DROP COLUMN", "ALTER TABLE … RENAME COLUMN",
    "ALTER TABLE … SET ACCESS", "ALTER TABLE … SET TTL",
    "ALTER USER … DISABLE", "ALTER USER … ENABLE", "ALTER USER … METADATA", "ALTER USER … PASSWORD",
    "ALTER USER … PERMISSIONS (", "ALTER USER … RENAME TO", "ALTER USER … ROLE DBA", "ALTER USER … ROLE SERVICE",
    "ALTER USER … ROLE SYSTEM", "ALTER USER … ROLE USER",
    "BACKUP DATABASE … TO … MODE INCREMENTAL",
    "COMPACT TABLE",
    "CREATE API KEY FOR USER … EXPIRES IN", "CREATE API KEY FOR USER … NAME",
    "CREATE NAMESPACE IF NOT EXISTS", "CREATE SHARED TABLE", "CREATE STORAGE … TYPE", "CREATE STREAM TABLE",
    "CREATE USER TABLE", "CREATE USER IF NOT EXISTS",
    "CREATE USER … ID", "CREATE USER … METADATA", "CREATE USER … PASSWORD", "CREATE USER … PERMISSIONS (",
    "CREATE USER … ROLE DBA", "CREATE USER … ROLE SERVICE", "CREATE USER … ROLE SYSTEM", "CREATE USER … ROLE USER",
    "DELETE FROM … WHERE",
    "DESCRIBE TABLE",
    "DROP NAMESPACE IF EXISTS", "DROP STORAGE IF EXISTS", "DROP TABLE IF EXISTS", "DROP USER IF EXISTS",
    "DROP USER … CASCADE",
    "EXPLAIN SELECT",
    "FLUSH ALL TABLES", "FLUSH TABLE",
    "INSERT INTO … VALUES (",
    "KILL LIVE QUERY",
    "RESTORE DATABASE … FROM … AS",
    "REVOKE API KEY",
    "SELECT * FROM … WHERE",
    "SHOW API KEYS FOR USER", "SHOW BACKUP", "SHOW NAMESPACES", "SHOW STORAGES", "SHOW TABLE STATS", "SHOW TABLES IN", "SHOW USERS",
    "SUBSCRIBE SELECT", "SUBSCRIBE TO … WHERE",
    "UPDATE … SET",
    "USE",
];

/// What a statement reads from, where no other word is known.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "information_schema.columns", "information_schema.schemata", "information_schema.tables", "system.api_keys",
    "system.audit",
    "system.columns", "system.jobs", "system.live_queries", "system.namespaces", "system.segments", "system.settings",
    "system.storages", "system.table_schemas", "system.tables", "system.users",
];

/// Words that a name of a table follows.
const BEFORE_NAMES: [&str; 4] = ["FROM", "INTO", "JOIN", "UPDATE"];

/// Backslash commands.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[&str] = &[
    "\\connect", "\\continue", "\\d", "\\export", "\\flush", "\\health", "\\help", "\\pause", "\\quit", "\\timing", "\\use", "\\x",
];

/// A word, of which any stands for a name.
const ANY: &str = "…";

/// But for these, which begin another statement.
const NO_NAMES: [&str; 2] = ["IF", "TABLE"];

/// Offers the words that can come next.
pub(crate) struct WordCompleter;

impl Completer for WordCompleter {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let before = line.get(..position).unwrap_or(line);
        let (start, words) = next_words(before);
        let suggestions: Vec<Suggestion> = words
            .into_iter()
            .map(|value| Suggestion {
                value,
                span: Span::new(start, position.max(start)),
                append_whitespace: true,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

/// Where the word at the end of the text begins, and what it can become.
fn next_words(before: &str) -> (usize, Vec<String>) {
    if before.trim_start().starts_with('\\') {
        let start = before.len() - before.trim_start().len();
        let typed = before.trim_start();
        return (
            start,
            COMMANDS.iter().filter(|command| starts_with(command, typed)).map(ToString::to_string).collect(),
        );
    }
    // The statement at the end, in words; a name with dots is one.
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut spaced = true;
    for token in tokens(before) {
        match token.kind {
            TokenKind::Semicolon => words.clear(),
            TokenKind::Space | TokenKind::Comment => {}
            // Within a string nothing is known.
            TokenKind::Text if token.end() == before.len() && !token.text.ends_with('\'') => {
                return (before.len(), Vec::new());
            }
            _ => match words.last_mut() {
                Some((_, word)) if !spaced => word.push_str(token.text),
                _ => words.push((token.start, token.text.to_owned())),
            },
        }
        spaced = matches!(token.kind, TokenKind::Space | TokenKind::Comment | TokenKind::Semicolon);
    }
    let (start, typed) = if spaced { None } else { words.pop() }.unwrap_or((before.len(), String::new()));
    let said: Vec<&str> = words.iter().map(|(_, word)| word.as_str()).collect();
    let mut found: Vec<String> = STATEMENTS.iter().filter_map(|statement| follows(statement, &said, &typed)).collect();
    let names_a_table = said.last().is_some_and(|last| BEFORE_NAMES.iter().any(|word| word.eq_ignore_ascii_case(last)));
    if names_a_table {
        found.extend(NAMES.iter().filter(|name| starts_with(name, &typed)).map(ToString::to_string));
    }
    // Words that are typed in full already are no news.
    found.retain(|word| !word.eq_ignore_ascii_case(&typed));
    found.sort_unstable();
    found.dedup();
    (start, found)
}

/// The word of a statement behind those said, if it begins as typed.
fn follows(statement: &str, said: &[&str], typed: &str) -> Option<String> {
    let mut pattern = statement.split(' ');
    for word in said {
        let expected = pattern.next()?;
        let fits = match expected {
            ANY => !NO_NAMES.iter().any(|other| other.eq_ignore_ascii_case(word)),
            _ => expected.eq_ignore_ascii_case(word),
        };
        if !fits {
            return None;
        }
    }
    let next = pattern.next()?;
    // Nobody typed it: it is the user's own.
    (next != ANY && starts_with(next, typed)).then(|| next.to_owned())
}

fn starts_with(word: &str, typed: &str) -> bool {
    word.get(..typed.len()).is_some_and(|start| start.eq_ignore_ascii_case(typed))
}

#[cfg(test)]
mod tests {
    use reedline::Completer;

    use super::{WordCompleter, next_words};

    fn words(before: &str) -> Vec<String> {
        next_words(before).1
    }

    #[test]
    fn statements_of_users_and_keys_are_known() {
        assert_eq!(words("cre"), ["CREATE"]);
        assert_eq!(words("CREATE A"), ["API"]);
        assert_eq!(words("create api key "), ["FOR"]);
        assert_eq!(words("CREATE API KEY FOR USER alice "), ["EXPIRES", "NAME"]);
        assert_eq!(
            words("ALTER USER alice "),
            ["DISABLE", "ENABLE", "METADATA", "PASSWORD", "PERMISSIONS", "RENAME", "ROLE"]
        );
        assert_eq!(words("ALTER USER 'a b' ROLE "), ["DBA", "SERVICE", "SYSTEM", "USER"]);
        assert_eq!(words("REVOKE "), ["API"]);
        assert_eq!(words("SELECT 1; DROP u"), ["USER"]);
    }

    #[test]
    fn tables_of_the_system_are_known_and_the_users_own_words_are_not() {
        assert_eq!(words("SELECT a FROM system.u"), ["system.users"]);
        assert!(words("SELECT * FROM ").contains(&"system.audit".to_owned()));
        assert!(words("CREATE USER TABLE ").is_empty());
        assert!(words("ALTER USER alice PASSWORD 's3").is_empty());
        assert_eq!(words("\\conn"), ["\\connect"]);
        assert!(words("nonsense ").is_empty());
    }

    #[test]
    fn only_the_word_at_the_cursor_is_replaced() {
        let mut completer = WordCompleter;
        let result = completer.complete("DROP U;", 6);
        let [suggestion] = result.suggestions() else { panic!("{result:?}") };
        assert_eq!((suggestion.value.as_str(), suggestion.span.start, suggestion.span.end), ("USER", 5, 6));
        // A position within a character is none that reedline gives, and does no harm.
        assert!(completer.complete("é", 1).suggestions().is_empty());
    }
}
