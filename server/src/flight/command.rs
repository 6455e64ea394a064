//! What the bytes of a descriptor or a ticket ask for.

use arrow_flight::{
    FlightDescriptor,
    flight_descriptor::DescriptorType,
    sql::{Any, Command},
};
use bytes::Bytes;
use kalamdb_engine::{Error, Reason};
use prost::Message;

use super::schema::CATALOG;

/// What the type URLs of Flight SQL's messages begin with.
const TYPE_URLS: &str = "type.googleapis.com/";

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    /// A command or a ticket of Flight SQL.
    Sql(Box<Command>),
    /// A query, as its plain text.
    Query(String),
}

impl Asked {
    /// What a descriptor asks for. A path names a table, all rows of which are meant.
    ///
    /// # Errors
    /// INVALID_REQUEST, NOT_SUPPORTED.
    pub(super) fn of_descriptor(descriptor: &FlightDescriptor) -> Result<Self, Error> {
        match descriptor.r#type() {
            DescriptorType::Cmd => Self::of_bytes(&descriptor.cmd),
            DescriptorType::Path => rows_of(&descriptor.path).map(Self::Query),
            // As some clients leave it.
            DescriptorType::Unknown if !descriptor.cmd.is_empty() => Self::of_bytes(&descriptor.cmd),
            DescriptorType::Unknown => Err(invalid("The flight_descriptor has neither a command nor a path.")),
        }
    }

    /// What a command or a ticket asks for: a message of Flight SQL, or the text of a query.
    ///
    /// # Errors
    /// INVALID_REQUEST, NOT_SUPPORTED.
    pub(super) fn of_bytes(bytes: &Bytes) -> Result<Self, Error> {
        if let Ok(any) = Any::decode(bytes.clone())
            && any.type_url.starts_with(TYPE_URLS)
        {
            return command(any).map(|command| Self::Sql(Box::new(command)));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.trim().is_empty() => Ok(Self::Query(text.to_owned())),
            _ => Err(invalid("The command or ticket is neither a message of Flight SQL nor the text of a query.")),
        }
    }
}

/// The message that is packed.
///
/// # Errors
/// INVALID_REQUEST, NOT_SUPPORTED.
pub(super) fn command(any: Any) -> Result<Command, Error> {
    match Command::try_from(any) {
        Ok(Command::Unknown(any)) => {
            let name = any.type_url.rsplit(['/', '.']).next().unwrap_or_default();
            Err(not_supported(format!("Messages of type {} are not supported.", name.escape_debug())))
        }
        Ok(command) => Ok(command),
        Err(error) => Err(invalid(format!("The message of Flight SQL cannot be read: {error}."))),
    }
}

/// The message of an action's body.
///
/// # Errors
/// INVALID_REQUEST, NOT_SUPPORTED.
pub(super) fn packed(body: &Bytes) -> Result<Command, Error> {
    command(Any::decode(body.clone()).map_err(|error| unreadable(&error))?)
}

/// The error for bytes that are no message.
pub(super) fn unreadable(error: &prost::DecodeError) -> Error {
    invalid(format!("The message cannot be read: {error}."))
}

/// Refuses what says that it is part of a transaction.
///
/// # Errors
/// NOT_SUPPORTED.
pub(super) fn no_transaction(id: Option<&Bytes>) -> Result<(), Error> {
    if id.is_some_and(|id| !id.is_empty()) {
        return Err(transactions());
    }
    Ok(())
}

/// The error for everything about transactions.
pub(super) fn transactions() -> Error {
    not_supported(
        "Transactions and savepoints are not supported: each statement is atomic, and durable when it is answered. Turn \
         autocommit on.",
    )
}

/// The error for everything about Substrait.
pub(super) fn substrait() -> Error {
    not_supported("Substrait plans are not supported. Send SQL.")
}

/// The query for all rows of the table that a path names.
fn rows_of(path: &[String]) -> Result<String, Error> {
    let names = match path {
        [catalog, rest @ ..] if rest.len() == 2 && catalog == CATALOG => rest,
        names => names,
    };
    if !(1..=2).contains(&names.len()) {
        return Err(invalid(
            "The path of a flight_descriptor is a namespace and a table, such as [\"chat\", \"messages\"].",
        ));
    }
    let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    Ok(format!("SELECT * FROM {}", quoted.join(".")))
}

/// A name as SQL takes it, as it is.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Reason::InvalidRequest, message)
}

pub(super) fn not_supported(message: impl Into<String>) -> Error {
    Error::new(Reason::NotSupported, message)
}

#[cfg(test)]
mod tests;
