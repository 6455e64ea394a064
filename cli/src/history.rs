//! The history of the prompt, without secrets.

use kalam_link::sql::{TokenKind, tokens};
use reedline::{FileBackedHistory, History, HistoryItem, HistoryItemId, HistorySessionId, Result, SearchQuery};

/// Words that a secret follows.
const SECRET: [&str; 2] = ["CREDENTIALS", "PASSWORD"];

/// What stands in the history for a secret.
const HIDDEN: &str = "'…'";

/// A history in a file, into which strings behind CREDENTIALS and PASSWORD do not come.
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
    let mut shown = String::with_capacity(text.len());
    let (mut behind_word, mut value_follows) = (false, false);
    for token in tokens(text) {
        let hidden = match token.kind {
            TokenKind::Semicolon => {
                (behind_word, value_follows) = (false, false);
                false
            }
            TokenKind::Space | TokenKind::Comment => false,
            TokenKind::Text | TokenKind::QuotedName => behind_word,
            _ => behind_word && (value_follows || (shown.ends_with(HIDDEN) && token.text != ",")),
        };
        if hidden {
            value_follows = false;
            if !shown.ends_with(HIDDEN) {
                shown.push_str(HIDDEN);
            }
            continue;
        }
        if token.kind == TokenKind::Word && SECRET.iter().any(|word| token.text.eq_ignore_ascii_case(word)) {
            (behind_word, value_follows) = (true, true);
        }
        shown.push_str(token.text);
    }
    shown
}

#[cfg(test)]
mod tests;
