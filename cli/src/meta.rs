//! Backslash commands.

mod connect;

use std::io::{Write, stdout};

use crate::{
    escape,
    exit::{Failure, Status},
    export, flush,
    session::{Flow, Session},
};

const HELP: &str = "\
Statements end with a semicolon and may span lines.

  \\d [TABLE]              list the tables, or describe one
  \\use NAMESPACE, USE n   namespace of unqualified table names
  \\x [on|off]             one line for each value instead of tables
  \\timing [on|off]        whether times are shown
  \\flush [TABLE|all] [force]
                         move rows to Parquet files: of a table, of every one, or of those of the namespace;
                         Ctrl+C ends the waiting, not the flush
  \\export TABLE FILE [FORMAT], \\export (QUERY) FILE [FORMAT]
                         write the rows to a file of this machine: parquet, csv or json
  \\health                 whether the server answers calls
  \\connect [HOST] [USER] [--login NAME | --apikey | --token | --same]
                         connect to another server or as another user; - keeps the host or the user. What is
                         secret is asked for. Another host gets the credential of this one only with --same
  SUBSCRIBE TO TABLE [WHERE ...], SUBSCRIBE SELECT ...
                         show the rows, and then every change of them, until Ctrl+C
  \\pause, \\continue      while subscribed: stop reading, and go on where that was
  \\help, \\?               this text; \\help users: users, API keys and rules
  \\quit, \\q               end; Ctrl+D does, too

Tab completes words. Ctrl+C cancels the running statement, and ends a subscription. Ctrl+R searches the history.
Alt+Enter adds a line. Passwords, credentials and keys in statements do not come into the history.
";

const HELP_USERS: &str = "\
Users, for roles dba and system. Roles are user, service, dba and system.

  CREATE USER [IF NOT EXISTS] name [ID 'id'] [ROLE role] [PASSWORD '...'] [PERMISSIONS ('rule', ...)]
    [METADATA '{json}'] [DISABLE]
  ALTER USER name {ROLE role | PASSWORD '...' | PERMISSIONS (...) | METADATA '...' | ENABLE | DISABLE}
  ALTER USER name RENAME TO name
  DROP USER [IF EXISTS] name [CASCADE]          CASCADE: with the rows that are the user's
  CREATE API KEY FOR USER name [NAME '...'] [EXPIRES IN '30 days' | EXPIRES '2030-01-01T00:00:00Z']
                                                the key is shown once
  SHOW USERS                                    SHOW API KEYS [FOR USER name]
  REVOKE API KEY 'id'                           calls under way with it end at once
  SELECT * FROM system.users                    INSERT, UPDATE and DELETE, too

Rules let role user into SHARED tables with ACCESS restricted:

  'ns.table'  'ns.messages.*'  'ns.*'           every row
  'ns.table.owner = CURRENT_USER()'             the rows that fit: = <> < <= > >= IN (...) IS [NOT] NULL

  SELECT * FROM system.audit ORDER BY 1 DESC    who did what
";

/// Commands that are known by name but not offered yet.
const LATER: [&str; 2] = ["\\config", "\\watch"];

/// Namespaces that are always there.
const BUILT_IN: [&str; 2] = ["system", "information_schema"];

/// Runs one command, such as `\d chat.messages`.
pub(crate) async fn run(session: &mut Session, text: &str) -> Result<Flow, Failure> {
    let mut words = text.trim_end_matches(';').split_whitespace();
    let name = words.next().unwrap_or_default();
    let arguments: Vec<&str> = words.collect();
    match (name, arguments.as_slice()) {
        ("\\q" | "\\quit", []) => Ok(Flow::Quit),
        ("\\help" | "\\?" | "\\h", ["users" | "user"]) => say(HELP_USERS.trim_end()),
        ("\\help" | "\\?" | "\\h", _) => say(HELP.trim_end()),
        ("\\health", []) => health(session).await,
        ("\\flush", arguments) => match flush::Order::parse(arguments, session.client.namespace()) {
            Some(order) => flush::run(session, order).await,
            None => wrong(flush::USAGE),
        },
        ("\\export", _) => export::run(session, text.trim_start().strip_prefix("\\export").unwrap_or_default()).await,
        ("\\timing", argument @ ([] | [_])) => match switch(session.timing, argument) {
            Some(timing) => {
                session.timing = timing;
                say(if timing { "Times are shown." } else { "Times are not shown." })
            }
            None => wrong("\\timing takes on or off"),
        },
        ("\\x", argument @ ([] | [_])) => match switch(session.expanded, argument) {
            Some(expanded) => {
                session.expanded = expanded;
                say(if expanded { "Expanded display is on." } else { "Expanded display is for wide rows only." })
            }
            None => wrong("\\x takes on or off"),
        },
        ("\\d", []) => {
            let namespace = session.client.namespace();
            let sql =
                if namespace.is_empty() { "SHOW TABLES".to_owned() } else { format!("SHOW TABLES IN {namespace}") };
            session.execute(&sql, None).await
        }
        ("\\d", [table]) => session.execute(&format!("DESCRIBE {table}"), None).await,
        ("\\use", [namespace]) => use_namespace(session, namespace).await,
        ("\\connect", arguments) => connect::run(session, arguments).await,
        ("\\pause" | "\\continue", []) => wrong(&format!("{name} is for while a SUBSCRIBE runs")),
        (name, _) if LATER.contains(&name) => wrong(&format!("{name} is not supported by this version")),
        (name, _) => wrong(&format!("{name} is no command, or its arguments are wrong; \\help lists the commands")),
    }
}

/// Sets the namespace of unqualified names, if there is one of that name.
pub(crate) async fn use_namespace(session: &mut Session, namespace: &str) -> Result<Flow, Failure> {
    if !BUILT_IN.contains(&namespace) {
        match session.client.admin().list_namespaces().await {
            Err(error) => return Ok(session.fail(&error, "", None)),
            Ok(known) if !known.iter().any(|known| known.name == namespace) => {
                let names: Vec<_> = known.iter().map(|namespace| namespace.name.as_str()).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return wrong(&format!("namespace {namespace} does not exist; there are: {names}"));
            }
            Ok(_) => {}
        }
    }
    session.client = session.client.in_namespace(namespace);
    say_if_interactive(session, &format!("Namespace {namespace}."))
}

async fn health(session: &Session) -> Result<Flow, Failure> {
    match session.client.health().await {
        Ok(status) if status.is_serving() => say(&format!("{} is serving.", session.client.endpoint())),
        Ok(status) => wrong(&format!("{} is not serving ({status:?})", session.client.endpoint())),
        Err(error) => Ok(session.fail(&error, "", None)),
    }
}

/// The new value of a switch: turned when no argument is given, none when the argument is wrong.
fn switch(now: bool, argument: &[&str]) -> Option<bool> {
    match argument {
        [] => Some(!now),
        ["on"] => Some(true),
        ["off"] => Some(false),
        _ => None,
    }
}

fn say(text: &str) -> Result<Flow, Failure> {
    writeln!(stdout(), "{text}")?;
    Ok(Flow::Continue)
}

fn say_if_interactive(session: &Session, text: &str) -> Result<Flow, Failure> {
    if session.interactive { say(&escape::visible(text)) } else { Ok(Flow::Continue) }
}

fn wrong(text: &str) -> Result<Flow, Failure> {
    let style = crate::style::Style::for_stderr();
    eprintln!("{} {}", style.error("error:"), escape::visible(text));
    Ok(Flow::Failed(Status::StatementFailed))
}

#[cfg(test)]
mod tests {
    use super::switch;

    #[test]
    fn a_switch_turns_or_is_set() {
        assert_eq!(switch(true, &[]), Some(false));
        assert_eq!(switch(true, &["on"]), Some(true));
        assert_eq!(switch(false, &["off"]), Some(false));
        assert_eq!(switch(false, &["perhaps"]), None);
    }
}
