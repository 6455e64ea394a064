//! Small steps over the token stream. Words are compared as text, since `sqlparser` does not know all of ours.

use datafusion::sql::sqlparser::{
    parser::Parser,
    tokenizer::{Token, TokenWithSpan},
};

use super::errors::Parsed;

/// Whether a token is this word, unquoted, in any case.
pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// The upper-case text of an unquoted word.
pub(super) fn word_text(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    }
}

/// Whether these words come next.
pub(super) fn comes(parser: &Parser<'_>, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(n, word)| is_word(&parser.peek_nth_token_ref(n).token, word))
}

/// Takes these words if all of them come next.
pub(super) fn accept(parser: &mut Parser<'_>, words: &[&str]) -> bool {
    let found = comes(parser, words);
    if found {
        words.iter().for_each(|_| parser.advance_token());
    }
    found
}

/// Takes these words or fails.
pub(super) fn expect(parser: &mut Parser<'_>, words: &[&str]) -> Parsed<()> {
    for word in words {
        if !accept(parser, &[word]) {
            return expected(parser, word);
        }
    }
    Ok(())
}

/// Fails unless the statement ends here.
pub(super) fn expect_end(parser: &Parser<'_>) -> Parsed<()> {
    if parser.peek_token_ref().token == Token::EOF { Ok(()) } else { expected(parser, "the end of the statement") }
}

/// The syntax error of finding the next token instead of `what`.
pub(super) fn expected<T>(parser: &Parser<'_>, what: &str) -> Parsed<T> {
    Ok(parser.expected_ref(what, parser.peek_token_ref())?)
}
