//! One text for all ways to write a statement, and one way to write a type.

use datafusion::sql::sqlparser::{
    keywords::Keyword,
    tokenizer::{Location, Span, Token, TokenWithSpan, Word},
};

/// Makes two `>` of each `>>` that closes two types: given `STRUCT<a ARRAY<INT>>[]`, `sqlparser` reads `[]` as part of
/// the inner type.
pub(super) fn split_type_brackets(tokens: &mut Vec<TokenWithSpan>) {
    if !tokens.iter().any(|token| token.token == Token::ShiftRight) {
        return;
    }
    let mut open = 0_usize;
    let mut split = Vec::with_capacity(tokens.len() + 8);
    for token in tokens.drain(..) {
        match &token.token {
            Token::Lt if split.last().is_some_and(|last: &TokenWithSpan| opens_type(&last.token)) => open += 1,
            Token::Gt => open = open.saturating_sub(1),
            Token::ShiftRight if open >= 2 => {
                open -= 2;
                let middle = Location { column: token.span.start.column.saturating_add(1), ..token.span.start };
                split.push(TokenWithSpan { token: Token::Gt, span: Span::new(token.span.start, middle) });
                split.push(TokenWithSpan { token: Token::Gt, span: Span::new(middle, token.span.end) });
                continue;
            }
            Token::Word(_)
            | Token::Number(..)
            | Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::LBracket
            | Token::RBracket => {}
            // Nothing else stands in a type: what looked like one was a comparison.
            _ => open = 0,
        }
        split.push(token);
    }
    *tokens = split;
}

/// Whether a `<` after this token begins the parameters of a type.
pub(super) fn opens_type(token: &Token) -> bool {
    matches!(token, Token::Word(Word { keyword: Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP, .. }))
}

/// The tokens in one form: unquoted words in lower case, one space between tokens save around punctuation.
///
/// Tokens are kept apart exactly, rather than rendering the parsed statement, so that two statements with equal texts
/// cannot differ in meaning.
pub(super) fn normalize(tokens: &[TokenWithSpan]) -> String {
    let mut text = String::with_capacity(tokens.len().saturating_mul(6));
    let mut previous: Option<&Token> = None;
    for token in tokens {
        if previous.is_some_and(|previous| separated(previous, &token.token)) {
            text.push(' ');
        }
        push(&mut text, &token.token);
        previous = Some(&token.token);
    }
    text
}

fn separated(left: &Token, right: &Token) -> bool {
    let open = matches!(left, Token::LParen | Token::LBracket | Token::Period | Token::DoubleColon);
    let close = matches!(right, Token::RParen | Token::RBracket | Token::Comma | Token::Period | Token::DoubleColon);
    !open && !close
}

fn push(text: &mut String, token: &Token) {
    match token {
        Token::Word(word) if word.quote_style.is_none() => {
            text.extend(word.value.chars().map(|character| character.to_ascii_lowercase()));
        }
        Token::Word(word) => push_quoted(text, "", '"', &word.value),
        // The tokenizer took the escapes away: without them two tokens could read as one.
        Token::SingleQuotedString(value) => push_quoted(text, "", '\'', value),
        Token::EscapedStringLiteral(value) => push_quoted(text, "e", '\'', &value.replace('\\', "\\\\")),
        Token::UnicodeStringLiteral(value) => push_quoted(text, "u&", '\'', &value.replace('\\', "\\\\")),
        Token::NationalStringLiteral(value) => push_quoted(text, "n", '\'', value),
        Token::HexStringLiteral(value) => push_quoted(text, "x", '\'', value),
        Token::SingleQuotedByteStringLiteral(value) => push_quoted(text, "b", '\'', value),
        Token::DoubleQuotedByteStringLiteral(value) => push_quoted(text, "b", '"', value),
        Token::SingleQuotedRawStringLiteral(value) => push_quoted(text, "r", '\'', value),
        Token::DoubleQuotedRawStringLiteral(value) => push_quoted(text, "r", '"', value),
        Token::DollarQuotedString(value) => push_quoted(text, "$", '\'', &value.value),
        other => text.push_str(&other.to_string()),
    }
}

fn push_quoted(text: &mut String, prefix: &str, quote: char, value: &str) {
    text.push_str(prefix);
    text.push(quote);
    for character in value.chars() {
        if character == quote {
            text.push(quote);
        }
        text.push(character);
    }
    text.push(quote);
}
