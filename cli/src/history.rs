//! The history of the prompt, without secrets.

use kalam_link::sql::{TokenKind, tokens};
use reedline::{FileBackedHistory, History, HistoryItem, HistoryItemId, HistorySessionId, Result, SearchQuery};

/// Words that a secret follows.
const SECRET: [&str; 2] = ["CREDENTIALS", "PASSWORD"];

/// What stands in the history for a secret.
const HIDDEN: &str = "'…'";

/// How the keys of KalamDB begin, and the shortest text that can have the secret of one.
const KEY: &str = "kdb_";
const KEY_SECRET_CHARACTERS: usize = 43;

/// A history in a file, into which strings behind CREDENTIALS and PASSWORD, API keys and tokens do not come.
pub(crate) struct DiscreetHistory(FileBackedHistory);

impl DiscreetHistory {
    pub(crate) fn new(history: FileBackedHistory) -> Self {
        Self(history)
    }
}

impl History for DiscreetHistory {
    fn save(&mut self, mut item: HistoryItem) -> Result<HistoryItem> {
        item.command_line = without_secrets(&item.command_line);
        self.0.save(item)
    }

    fn load(&self, id: HistoryItemId) -> Result<HistoryItem> {
        self.0.load(id)
    }

    fn count(&self, query: SearchQuery) -> Result<i64> {
        self.0.count(query)
    }

    fn search(&self, query: SearchQuery) -> Result<Vec<HistoryItem>> {
        self.0.search(query)
    }

    fn update(&mut self, id: HistoryItemId, updater: &dyn Fn(HistoryItem) -> HistoryItem) -> Result<()> {
        self.0.update(id, updater)
    }

    fn clear(&mut self) -> Result<()> {
        self.0.clear()
    }

    fn delete(&mut self, id: HistoryItemId) -> Result<()> {
        self.0.delete(id)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }

    fn session(&self) -> Option<HistorySessionId> {
        self.0.session()
    }
}

/// The text without what stands behind one of the words: the value, every string up to the end of the statement, and what
/// touches a string, since a slip of the quotes can have put parts of a secret there.
fn without_secrets(text: &str) -> String {
    if text.trim_start().starts_with("\\connect") {
        return connect_without_secrets(text);
    }
    let mut shown = String::with_capacity(text.len());
    let (mut behind_word, mut value_follows) = (false, false);
    for token in tokens(text) {
        let hidden = match token.kind {
            TokenKind::Semicolon => {
                (behind_word, value_follows) = (false, false);
                false
            }
            TokenKind::Space | TokenKind::Comment => false,
            TokenKind::Text | TokenKind::QuotedName if behind_word => true,
            _ if is_secret(token.text) => true,
            TokenKind::Text => false,
            _ => behind_word && (value_follows || (shown.ends_with(HIDDEN) && token.text != ",")),
        };
        if hidden {
            value_follows = false;
            if !shown.ends_with(HIDDEN) {
                shown.push_str(HIDDEN);
            }
            continue;
        }
        let word = token.text.trim_matches('"');
        if matches!(token.kind, TokenKind::Word | TokenKind::QuotedName)
            && SECRET.iter().any(|secret| word.eq_ignore_ascii_case(secret))
        {
            (behind_word, value_follows) = (true, true);
        }
        shown.push_str(token.text);
    }
    shown
}

/// Secrets are asked for; whoever writes one all the same, behind an option or with `=`, does not find it here.
fn connect_without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut value_follows = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let option = bare.split('=').next().unwrap_or_default();
        let names_secret = ["--token", "--apikey", "--password"].contains(&option);
        if (names_secret && bare != option) || (value_follows && !bare.is_empty()) || is_secret(bare) {
            shown.push_str(if names_secret { option } else { "" });
            shown.push_str(HIDDEN);
            shown.push_str(word.get(bare.len()..).unwrap_or_default());
        } else {
            shown.push_str(word);
        }
        value_follows = (names_secret && bare == option) || (value_follows && bare.is_empty());
    }
    shown
}

/// Whether a text looks like an API key with its secret, or a JWT.
fn is_secret(text: &str) -> bool {
    let key = text.find(KEY).is_some_and(|at| text.len() - at > KEY.len() + KEY_SECRET_CHARACTERS);
    key || (text.contains("eyJ") && text.matches('.').count() >= 2)
}

#[cfg(test)]
mod tests;
