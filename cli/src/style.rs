//! Colours.

use std::io::{IsTerminal, stderr};

use nu_ansi_term::{Color, Style as Ansi};

/// Whether and how text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    color: bool,
}

impl Style {
    pub(crate) fn new(color: bool) -> Self {
        Style { color }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Style = Style { color: false };

    /// For messages before the settings are known.
    pub(crate) fn for_stderr() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style::new(stderr().is_terminal() && !no_color)
    }

    pub(crate) fn is_colored(self) -> bool {
        self.color
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.paint(Color::Red.bold(), text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// What has come.
    pub(crate) fn added(self, text: &str) -> String {
        self.paint(Color::Green.bold(), text)
    }

    /// What has changed.
    pub(crate) fn changed(self, text: &str) -> String {
        self.paint(Color::Yellow.bold(), text)
    }

    /// What has gone.
    pub(crate) fn removed(self, text: &str) -> String {
        self.paint(Color::Red.bold(), text)
    }

    fn paint(self, ansi: Ansi, text: &str) -> String {
        if self.color { ansi.paint(text).to_string() } else { text.to_owned() }
    }
}
