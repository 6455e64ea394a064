//! The prompt, and when what was typed is complete.

use std::borrow::Cow;

use kalam_link::sql::{Lexer, TokenKind};
use reedline::{Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, ValidationResult, Validator};

/// `kalam>`, with the namespace, when there is one, at the right.
pub(crate) struct KalamPrompt {
    namespace: String,
}

impl KalamPrompt {
    pub(crate) fn new(namespace: &str) -> Self {
        KalamPrompt { namespace: namespace.to_owned() }
    }
}

impl Prompt for KalamPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "kalam".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        self.namespace.as_str().into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "    -> ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = if matches!(search.status, PromptHistorySearchStatus::Failing) { "not found: " } else { "" };
        format!("({failing}search: {}) ", search.term).into()
    }
}

/// Enter runs what is complete and adds a line to what is not.
pub(crate) struct StatementValidator;

impl Validator for StatementValidator {
    fn validate(&self, text: &str) -> ValidationResult {
        if is_complete(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

/// Whether the text is empty, a command, or ends with the semicolon of its last statement.
pub(crate) fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') || is_farewell(trimmed) {
        return true;
    }
    let mut lexer = Lexer::new();
    let (mut position, mut ended) = (0, false);
    while let Some(token) = lexer.next(text, position) {
        position = token.end();
        match token.kind {
            TokenKind::Semicolon => ended = true,
            TokenKind::Space | TokenKind::Comment => {}
            _ => ended = false,
        }
    }
    ended && !lexer.is_within_token()
}

/// Words that people try when they want to leave.
pub(crate) fn is_farewell(text: &str) -> bool {
    matches!(text.trim().trim_end_matches(';').trim_end().to_ascii_lowercase().as_str(), "exit" | "quit")
}

#[cfg(test)]
mod tests {
    use reedline::Prompt;

    use super::{KalamPrompt, is_complete, is_farewell};

    #[test]
    fn the_semicolon_completes() {
        for complete in
            ["", "  ", "\\d", "SELECT 1;", "SELECT 1; -- done", "SELECT 1;\n", "exit", "SELECT 1; SELECT 2;"]
        {
            assert!(is_complete(complete), "{complete:?}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1 -- ;", "SELECT 1; SELECT 2", "/* ;", "SELECT 1; /* open", "$$;"]
        {
            assert!(!is_complete(open), "{open:?}");
        }
    }

    #[test]
    fn people_leave_in_several_ways() {
        assert!(is_farewell("exit") && is_farewell("QUIT;") && !is_farewell("exit now"));
    }

    #[test]
    fn the_namespace_is_at_the_right() {
        let prompt = KalamPrompt::new("chat");
        assert_eq!((prompt.render_prompt_left().as_ref(), prompt.render_prompt_right().as_ref()), ("kalam", "chat"));
    }
}
