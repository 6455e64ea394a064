//! The prompt's loop.

use std::{
    io::{Write, stdout},
    path::Path,
};

use reedline::{
    ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Reedline, ReedlineEvent,
    ReedlineMenu, Signal, default_emacs_keybindings,
};
use tokio::runtime::Runtime;

use crate::{
    completion::WordCompleter,
    credential, escape,
    exit::{Failure, Status},
    highlight::SqlHighlighter,
    history::DiscreetHistory,
    prompt::{KalamPrompt, StatementValidator, is_farewell},
    script::units,
    session::{Flow, Session},
};

/// Entries kept in the history.
const HISTORY_ENTRIES: usize = 10_000;
/// Name of the menu that Tab opens.
const MENU: &str = "completion";

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
    let (identity, info) = runtime.block_on(async {
        let admin = session.client.admin();
        tokio::join!(credential::identity(&session.client), admin.server_info())
    });
    let server = info.as_ref().map_or_else(|_| "KalamDB".to_owned(), |info| format!("KalamDB {}", info.version));
    let user = match &identity {
        Ok(identity) => format!(" {identity}"),
        Err(_) => session.client.user().map(|user| format!(" as {user}")).unwrap_or_default(),
    };
    let line = format!("{server} at {}{user}. \\help lists the commands, \\q ends.", session.client.endpoint());
    writeln!(stdout(), "{}", session.style.strong(&escape::visible(&line)))?;
    if let Err(error) = identity {
        session.fail(&error, "", None);
    }
    Ok(())
}

fn editor(session: &Session, history: Option<&Path>) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let mut editor = Reedline::create()
        .with_validator(Box::new(StatementValidator))
        .with_completer(Box::new(WordCompleter))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name(MENU))))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_ansi_colors(session.style.is_colored());
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
