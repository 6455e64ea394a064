use reedline::{FileBackedHistory, History, HistoryItem};

use super::{DiscreetHistory, without_secrets};

#[test]
fn secrets_are_hidden_and_nothing_else() {
    for (text, shown) in [
        ("SELECT 'a', \"b\"", "SELECT 'a', \"b\""),
        (
            "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS '{\"k\": \"v\"}'",
            "CREATE STORAGE s TYPE S3 URI 'x' CREDENTIALS '…'",
        ),
        ("alter storage s set credentials 'it''s'; SELECT 'a'", "alter storage s set credentials '…'; SELECT 'a'"),
        ("CREDENTIALS\n'{\"k\": 'v'}', \"w\"", "CREDENTIALS\n'…', '…'"),
        ("CREDENTIALS 'unterminated", "CREDENTIALS '…'"),
        ("CREDENTIALS $$a$$ E'b' 'c'", "CREDENTIALS '…' '…' '…'"),
        ("CREATE USER u PASSWORD 'p' ROLE dba", "CREATE USER u PASSWORD '…' ROLE dba"),
        ("CREDENTIALS abc; SELECT abc", "CREDENTIALS '…'; SELECT abc"),
        ("CREDENTIALS = 'a'", "CREDENTIALS '…' '…'"),
        ("", ""),
    ] {
        assert_eq!(without_secrets(text), shown, "{text}");
    }
}

#[test]
fn what_is_kept_has_no_secrets() {
    let mut history = DiscreetHistory::new(FileBackedHistory::new(10).unwrap());
    let kept = history.save(HistoryItem::from_command_line("ALTER STORAGE s SET CREDENTIALS 'abc'")).unwrap();
    assert_eq!(kept.command_line, "ALTER STORAGE s SET CREDENTIALS '…'");
    assert_eq!(history.load(kept.id.unwrap()).unwrap().command_line, kept.command_line);
}
