//! The session: what the user has set, and running what they write.

use std::{
    io::{self, IsTerminal, Write, stdout},
    time::Instant,
};

use futures::StreamExt;
use kalam_link::{
    Client, Error, ErrorKind, StreamEvent,
    sql::{TokenKind, tokens},
};

use crate::{
    args::Format,
    credential,
    exit::{Failure, Status},
    live, meta,
    render::{Csv, Json, LiveCsv, LiveJson, LiveRender, LiveTable, Render, Table, TableOptions},
    report::{self, Place},
    script::Unit,
    settings::Settings,
    style::Style,
};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Quit,
    /// A statement failed, or was cancelled; the user has been told.
    Failed(Status),
}

pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) style: Style,
    pub(crate) expanded: bool,
    pub(crate) timing: bool,
    pub(crate) interactive: bool,
    pub(crate) live: live::Bounds,
    /// What the program was started with, and what `\connect` made of it.
    pub(crate) settings: Settings,
    format: Format,
}

impl Session {
    pub(crate) fn new(client: Client, settings: Settings, interactive: bool) -> Self {
        let Settings { style, format, live, .. } = settings;
        Session { client, style, expanded: false, timing: true, interactive, live, settings, format }
    }

    /// Runs a statement or a command. Ctrl+C cancels it, here and on the server.
    ///
    /// # Errors
    /// Only what must end the program; failures of statements are told to the user.
    pub(crate) async fn submit(&mut self, unit: &Unit, place: Option<&Place>) -> Result<Flow, Failure> {
        // Ctrl+C is how a subscription ends, not how it is cancelled.
        if live::is_subscription(&unit.text) {
            return live::run(self, &unit.text, place).await;
        }
        let cancelled = tokio::select! {
            outcome = self.run(unit, place) => return outcome,
            _ = tokio::signal::ctrl_c() => Flow::Failed(Status::StatementFailed),
        };
        // The call was dropped with its future, which cancels it on the server.
        eprintln!("{}", self.style_of_errors().error("Cancelled."));
        Ok(cancelled)
    }

    async fn run(&mut self, unit: &Unit, place: Option<&Place>) -> Result<Flow, Failure> {
        if unit.is_command() {
            return meta::run(self, &unit.text).await;
        }
        match namespace_of_use(&unit.text) {
            Some(namespace) => meta::use_namespace(self, &namespace).await,
            None => self.execute(&unit.text, place).await,
        }
    }

    /// Runs SQL and writes its results as they arrive.
    pub(crate) async fn execute(&mut self, sql: &str, place: Option<&Place>) -> Result<Flow, Failure> {
        let mut out = io::BufWriter::new(stdout());
        let mut renderer = self.renderer();
        let started = Instant::now();
        let outcome = self.stream(sql, renderer.as_mut(), &mut out).await?;
        if let Err(error) = outcome {
            renderer.abandon(&mut out)?;
            out.flush()?;
            return Ok(self.fail(&error, sql, place));
        }
        out.flush()?;
        if self.interactive && self.timing && self.format != Format::Table {
            eprintln!("{}", self.style_of_errors().faint(&format!("{} ms", started.elapsed().as_millis())));
        }
        Ok(Flow::Continue)
    }

    async fn stream(
        &self,
        sql: &str,
        renderer: &mut dyn Render,
        out: &mut (dyn Write + Send),
    ) -> Result<Result<(), Error>, Failure> {
        let mut stream = match self.client.execute_stream(sql, ()).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(event) = stream.next().await {
            match event {
                Ok(StreamEvent::Started { columns, .. }) => renderer.begin(&columns, out)?,
                Ok(StreamEvent::Rows(rows)) => renderer.rows(&rows, out)?,
                Ok(StreamEvent::Finished(end)) => {
                    renderer.end(&end, out)?;
                    if let (Some(message), true) = (&end.message, self.format != Format::Table && self.interactive) {
                        eprintln!("{}", crate::escape::visible(message));
                    }
                }
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Tells the user what went wrong with a call.
    pub(crate) fn fail(&self, error: &Error, sql: &str, place: Option<&Place>) -> Flow {
        eprintln!("{}", report::describe(error, sql, place, self.style_of_errors()));
        if let Some(advice) = credential::advice(error) {
            eprintln!("{advice}");
        }
        // Without a valid credential there is no connection worth the name, for a script as for a person.
        if error.kind() == ErrorKind::Unauthenticated {
            return Flow::Failed(Status::Connection);
        }
        if !matches!(error, Error::Connection { .. } | Error::ConnectionLost { .. }) {
            return Flow::Failed(Status::StatementFailed);
        }
        if self.interactive {
            eprintln!("The next statement tries to connect again.");
        }
        Flow::Failed(Status::Connection)
    }

    /// Colours of standard error, which may be a terminal when standard output is none, and the other way round.
    pub(crate) fn style_of_errors(&self) -> Style {
        if io::stderr().is_terminal() == stdout().is_terminal() { self.style } else { Style::for_stderr() }
    }

    pub(crate) fn renderer(&self) -> Box<dyn Render> {
        match self.format {
            Format::Json => Box::new(Json::default()),
            Format::Csv => Box::new(Csv::new(stdout().is_terminal())),
            Format::Table => Box::new(Table::new(self.table_options())),
        }
    }

    pub(crate) fn live_renderer(&self) -> Box<dyn LiveRender> {
        match self.format {
            Format::Json => Box::new(LiveJson::default()),
            Format::Csv => Box::new(LiveCsv::new(stdout().is_terminal())),
            Format::Table => Box::new(LiveTable::new(self.table_options())),
        }
    }

    fn table_options(&self) -> TableOptions {
        TableOptions {
            // None when standard output is no terminal.
            width: comfy_table::Table::new().width(),
            expanded: self.expanded,
            style: self.style,
            timing: self.timing,
        }
    }
}

/// The name in `USE name`, which is the client's business: the server has no sessions.
fn namespace_of_use(sql: &str) -> Option<String> {
    let mut words = tokens(sql).filter(|token| !matches!(token.kind, TokenKind::Space | TokenKind::Comment));
    let (verb, name, rest) = (words.next()?, words.next()?, words.next());
    if rest.is_some() || !verb.text.eq_ignore_ascii_case("use") {
        return None;
    }
    match name.kind {
        TokenKind::Word => Some(name.text.to_lowercase()),
        TokenKind::QuotedName => Some(name.text.trim_matches('"').to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::namespace_of_use;

    #[test]
    fn use_names_a_namespace() {
        assert_eq!(namespace_of_use("USE Chat"), Some("chat".into()));
        assert_eq!(namespace_of_use("use /* the */ \"Chat\" -- one"), Some("Chat".into()));
        for other in ["USE", "USE a b", "SELECT use", "USE 'a'", "used a"] {
            assert_eq!(namespace_of_use(other), None, "{other}");
        }
    }
}
