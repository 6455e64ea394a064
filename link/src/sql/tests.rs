use super::{Lexer, TokenKind, is_read_only, split, tokens};

/// What ends a token at a character that is not ASCII, or at the end, must not go wrong.
const ODD: [&str; 16] =
    ["", ";", "'", "E'\\", "E'\\é'", "\"", "/*", "/*/**/", "$", "$$", "$é$x$é$", "$1$", "é", "1e", "1e-", "--"];

#[test]
fn tokens_together_are_the_text() {
    for text in ODD.into_iter().chain(["SELECT 'é', \"ü\" -- x\n/* /* y */ */ $tag$ a $b$ $tag$;1.5e-3+$12"]) {
        let joined: String = tokens(text).map(|token| token.text).collect();
        assert_eq!(joined, text);
        let mut end = 0;
        for token in tokens(text) {
            assert_eq!(token.start, end);
            assert!(!token.text.is_empty());
            end = token.end();
        }
    }
}

#[test]
fn statements_are_split_only_where_a_semicolon_is_one() {
    assert_eq!(split("a; b ;; c"), ["a", "b", "c"]);
    assert_eq!(split(" ; /* ; */ ; -- ;"), Vec::<&str>::new());
    for whole in [
        "SELECT ';'",
        "SELECT 'it''s;'",
        "SELECT E'it\\';'",
        "SELECT \";\"",
        "SELECT 1 -- ; \n + 1",
        "SELECT /* ; /* ; */ ; */ 1",
        "SELECT $$ ; $$, $a$ ; $$ ; $a$",
        "SELECT 'open ; string",
    ] {
        assert_eq!(split(whole), [whole]);
        assert_eq!(split(&format!("{whole}\n;")).len(), 1);
    }
    // A backslash is an ordinary character of an ordinary string.
    assert_eq!(split("SELECT '\\'; SELECT 2"), ["SELECT '\\'", "SELECT 2"]);
}

#[test]
fn a_piece_continues_where_the_last_one_ended() {
    let whole = "SELECT 'a\n;b', /* c\n;d */ $x$ e\n;f $x$;\nSELECT \"g\nh\"";
    let mut lexer = Lexer::new();
    let mut semicolons = 0;
    for line in whole.split_inclusive('\n') {
        let mut position = 0;
        while let Some(token) = lexer.next(line, position) {
            position = token.end();
            semicolons += usize::from(token.kind == TokenKind::Semicolon);
        }
        assert_eq!(position, line.len());
    }
    assert_eq!(semicolons, 1);
    assert!(!lexer.is_within_token());
    assert!(lexer.next("'", 0).is_some());
    assert!(lexer.is_within_token());
}

#[test]
fn only_what_certainly_reads_is_called_read_only() {
    for reads in [
        "select 1",
        "SELECT * FROM t WHERE c = 'DELETE' -- update\n; show tables",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "DESCRIBE chat.messages",
        "SELECT \"update\" FROM t",
        "",
    ] {
        assert!(is_read_only(reads), "{reads}");
    }
    for may_write in [
        "INSERT INTO t VALUES (1)",
        "SELECT 1; DELETE FROM t",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT 1 INTO t",
        "(SELECT 1)",
        "FLUSH ALL TABLES",
    ] {
        assert!(!is_read_only(may_write), "{may_write}");
    }
}
