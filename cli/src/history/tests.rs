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
        ("UPDATE system.users SET \"password\" = 'p'", "UPDATE system.users SET \"password\" '…' '…'"),
        ("alter user u rename to v; ALTER USER v password 'p'", "alter user u rename to v; ALTER USER v password '…'"),
        ("REVOKE API KEY 'k1'", "REVOKE API KEY 'k1'"),
        ("\\connect - bob --apikey", "\\connect - bob --apikey"),
        ("\\connect h --token  s3cret", "\\connect h --token  '…'"),
        ("\\connect h --apikey=s3cret x", "\\connect h --apikey'…' x"),
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

#[test]
fn keys_and_tokens_are_hidden_wherever_they_stand() {
    let key = format!("kdb_k1_{}", "A".repeat(43));
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
    for secret in [key.as_str(), token] {
        for text in
            [format!("REVOKE API KEY '{secret}'"), format!("SELECT '{secret}'"), format!("\\connect - - {secret}")]
        {
            let shown = without_secrets(&text);
            assert!(!shown.contains(secret) && shown.contains("'…'"), "{shown}");
        }
    }
    assert!(!without_secrets(&key).contains(&key));
}

#[test]
fn the_passwords_of_rows_of_users_are_hidden() {
    let text = "INSERT INTO system.users (user_id, username, password) VALUES ('u', 'alice', 's3cret')";
    assert!(!without_secrets(text).contains("s3cret"));
}
