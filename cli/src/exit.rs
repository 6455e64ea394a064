//! How the program ends.

use std::{io, process::ExitCode};

use kalam_link::{Error, ErrorKind};

use crate::{credential, escape, style::Style};

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Success = 0,
    StatementFailed = 1,
    Usage = 2,
    Connection = 3,
}

/// What ends the program at once.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Flags, configuration or a file are not as they must be.
    Usage(String),
    /// The server cannot be reached, or does not let the user in.
    Connection(Error),
    /// Results cannot be written.
    Output(io::Error),
}

impl Failure {
    /// Tells the user, and answers the status to end with.
    pub(crate) fn report(&self) -> Status {
        let style = Style::for_stderr();
        let (message, status) = match self {
            // The reader of a pipe, such as `head`, has seen enough.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Status::Success,
            Failure::Output(error) => (format!("cannot write the results: {error}"), Status::StatementFailed),
            Failure::Usage(message) => (message.clone(), Status::Usage),
            Failure::Connection(error) if error.kind() == ErrorKind::Configuration => {
                (error.to_string(), Status::Usage)
            }
            Failure::Connection(error) => (error.to_string(), Status::Connection),
        };
        eprintln!("{} {}", style.error("error:"), escape::visible(&message));
        if let Failure::Connection(error) = self
            && let Some(advice) = credential::advice(error)
        {
            eprintln!("{advice}");
        }
        status
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}
