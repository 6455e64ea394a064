//! The prompt's loop.

use std::{
    io::{Write, stdout},
    path::Path,
};

use reedline::{DefaultHinter, FileBackedHistory, Reedline, Signal};
use tokio::runtime::Runtime;

use crate::{
    escape,
    exit::{Failure, Status},
    highlight::SqlHighlighter,
    history::DiscreetHistory,
    prompt::{KalamPrompt, StatementValidator, is_farewell},
    report,
    script::units,
    session::{Flow, Session},
};

/// Entries kept in the history.
const HISTORY_ENTRIES: usize = 10_000;

/// Reads and runs statements until the user leaves. Failures are shown, they end nothing.
pub(crate) fn run(runtime: &Runtime, session: &mut Session, history: Option<&Path>) -> Result<Status, Failure> {
    welcome(runtime, session)?;
    let mut editor = editor(session, history);
    loop {
        let prompt = KalamPrompt::new(session.client.namespace());
        match editor.read_line(&prompt) {
            Ok(Signal::Success(text)) => {
                if is_farewell(&text) || submit(runtime, session, &text)? == Flow::Quit {
                    return Ok(Status::Success);
                }
            }
            // Ctrl+C clears what is typed.
            Ok(Signal::CtrlC) => {}
            Ok(Signal::CtrlD) => return Ok(Status::Success),
            Ok(_) => {}
            Err(error) => return Err(Failure::Usage(format!("cannot read from the terminal: {error}"))),
        }
    }
}

/// Runs everything in a text up to the first failure.
fn submit(runtime: &Runtime, session: &mut Session, text: &str) -> Result<Flow, Failure> {
    for unit in units(text) {
        match runtime.block_on(session.submit(&unit, None))? {
            Flow::Continue => {}
            other => return Ok(other),
        }
    }
    Ok(Flow::Continue)
}

/// One line about the server and the user, and whatever is wrong with the connection.
fn welcome(runtime: &Runtime, session: &Session) -> Result<(), Failure> {
    let info = runtime.block_on(session.client.admin().server_info());
    let (server, user) = match &info {
        Ok(info) => (format!("KalamDB {}", info.version), Some(info.user_id.as_str())),
        Err(_) => ("KalamDB".to_owned(), session.client.user()),
    };
    let user = user.map(|user| format!(" as {user}")).unwrap_or_default();
    let line = format!("{server} at {}{user}. \\help lists the commands, \\q ends.", session.client.endpoint());
    writeln!(stdout(), "{}", session.style.strong(&escape::visible(&line)))?;
    if let Err(error) = info {
        eprintln!("{}", report::describe(&error, "", None, session.style_of_errors()));
    }
    Ok(())
}

fn editor(session: &Session, history: Option<&Path>) -> Reedline {
    let mut editor =
        Reedline::create().with_validator(Box::new(StatementValidator)).with_ansi_colors(session.style.is_colored());
    if session.style.is_colored() {
        let faint = nu_ansi_term::Style::new().dimmed();
        editor = editor
            .with_highlighter(Box::new(SqlHighlighter))
            .with_hinter(Box::new(DefaultHinter::default().with_style(faint)));
    }
    // A history that cannot be read is done without.
    let path = history.map(Path::to_path_buf);
    match path.and_then(|path| FileBackedHistory::with_file(HISTORY_ENTRIES, path).ok()) {
        Some(history) => editor.with_history(Box::new(DiscreetHistory::new(history))),
        None => editor,
    }
}
