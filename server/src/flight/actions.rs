//! `DoAction`: prepared statements, cancellation, and the options of sessions.

use std::collections::HashMap;

use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    RenewFlightEndpointRequest,
    sql::{ActionCancelQueryResult, Command, ProstMessageExt as _},
};
use bytes::Bytes;
use kalamdb_engine::{Error, Reason};
use prost::Message;

use super::{
    Call, FlightApi,
    command::{Asked, invalid, not_supported, packed, substrait, transactions, unreadable},
    listing,
    seal::Purpose,
    sessions::{self, Fault, SCHEMA_OPTION},
    statement::{endpoint, timestamp},
};

/// What actions are called, and what for.
const ACTIONS: &[(&str, &str)] = &[
    ("CreatePreparedStatement", "Prepares a statement: ActionCreatePreparedStatementRequest to …Result"),
    ("ClosePreparedStatement", "Closes a prepared statement: ActionClosePreparedStatementRequest"),
    ("CancelQuery", "Cancels the statement of a FlightInfo: ActionCancelQueryRequest to …Result"),
    ("CancelFlightInfo", "Cancels the statement of a FlightInfo: CancelFlightInfoRequest to …Result"),
    ("RenewFlightEndpoint", "Makes a ticket last longer: RenewFlightEndpointRequest to FlightEndpoint"),
    ("SetSessionOptions", "Sets options of the session: SetSessionOptionsRequest to …Result"),
    ("GetSessionOptions", "Tells the options of the session: GetSessionOptionsRequest to …Result"),
    ("CloseSession", "Ends the session: CloseSessionRequest to …Result"),
];

/// What an action answers.
#[derive(Default)]
pub(super) struct Answer {
    /// At most one message.
    pub(super) body: Option<Bytes>,
    /// The header `set-cookie`.
    pub(super) cookie: Option<String>,
}

impl Answer {
    fn of(message: &impl Message) -> Self {
        Self { body: Some(message.encode_to_vec().into()), cookie: None }
    }
}

/// The actions that there are.
pub(super) fn types() -> impl Iterator<Item = ActionType> {
    ACTIONS
        .iter()
        .map(|(name, description)| ActionType { r#type: (*name).to_owned(), description: (*description).to_owned() })
}

impl FlightApi {
    /// Does what a client asks for.
    ///
    /// # Errors
    /// Those of the engine, and NOT_SUPPORTED.
    pub(super) async fn act(&self, call: &Call, action: Action) -> Result<Answer, Error> {
        let Action { r#type: name, body } = action;
        match name.as_str() {
            "CreatePreparedStatement" => match packed(&body)? {
                Command::ActionCreatePreparedStatementRequest(request) => {
                    let prepared = self.prepare(call, request).await?;
                    Ok(Answer::of(&prepared.as_any()))
                }
                other => Err(unfit(&name, &other)),
            },
            "ClosePreparedStatement" => match packed(&body)? {
                // There is nothing to close. One that has expired is closed, and one of somebody else's is none.
                Command::ActionClosePreparedStatementRequest(request) => {
                    match self.sealer.open_handle(&request.prepared_statement_handle, &call.context.caller) {
                        Err(error) if error.reason() != Reason::TicketExpired => Err(error),
                        _ => Ok(Answer::default()),
                    }
                }
                other => Err(unfit(&name, &other)),
            },
            "CancelQuery" => match packed(&body)? {
                Command::ActionCancelQueryRequest(request) => {
                    let info = FlightInfo::decode(request.info).map_err(|error| unreadable(&error))?;
                    // Both enumerations have the same numbers.
                    let result = ActionCancelQueryResult { result: self.cancel(call, &info)? as i32 };
                    Ok(Answer::of(&result.as_any()))
                }
                other => Err(unfit(&name, &other)),
            },
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(body).map_err(|error| unreadable(&error))?;
                let info = request.info.ok_or_else(|| invalid("CancelFlightInfo needs the FlightInfo."))?;
                Ok(Answer::of(&CancelFlightInfoResult::new(self.cancel(call, &info)?)))
            }
            "RenewFlightEndpoint" => self.renew(call, body),
            "SetSessionOptions" => self.set_options(call, body),
            "GetSessionOptions" => {
                let values = self.sessions.get(call).into_iter();
                let session_options = values.map(|(name, value)| (name, OptionValue::text(value))).collect();
                Ok(Answer::of(&GetSessionOptionsResult { session_options }))
            }
            "CloseSession" => {
                if let Some(session) = self.sessions.close(call) {
                    self.identity.logout(session).await?;
                }
                Ok(Answer::of(&CloseSessionResult { status: CloseSessionResult::CLOSED }))
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => Err(transactions()),
            "CreatePreparedSubstraitPlan" => Err(substrait()),
            other => {
                let known: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
                Err(not_supported(format!(
                    "There is no action '{}'. The actions are {}.",
                    other.escape_debug(),
                    known.join(", ")
                )))
            }
        }
    }

    /// Cancels what a flight's ticket began, or would begin.
    fn cancel(&self, call: &Call, info: &FlightInfo) -> Result<CancelStatus, Error> {
        let [endpoint] = info.endpoint.as_slice() else {
            return Err(invalid("The FlightInfo is none of this server's: it does not have one endpoint."));
        };
        let ticket = endpoint.ticket.as_ref().ok_or_else(|| invalid("The endpoint has no ticket."))?;
        match Asked::of_bytes(&ticket.ticket)? {
            Asked::Sql(command) => match *command {
                Command::TicketStatementQuery(ticket) => {
                    // What is read of a ticket goes on when it expires.
                    let opened = self.sealer.open_old_ticket(&ticket.statement_handle, &call.context.caller)?;
                    Ok(self.tickets.cancel(&opened))
                }
                // What there is, is told at once.
                _ => Ok(CancelStatus::NotCancellable),
            },
            Asked::Query(_) => Ok(CancelStatus::NotCancellable),
        }
    }

    /// A ticket for the same rows that lasts longer.
    fn renew(&self, call: &Call, body: Bytes) -> Result<Answer, Error> {
        let request = RenewFlightEndpointRequest::decode(body).map_err(|error| unreadable(&error))?;
        let given = request.endpoint.ok_or_else(|| invalid("RenewFlightEndpoint needs the endpoint."))?;
        let ticket = given.ticket.as_ref().ok_or_else(|| invalid("The endpoint has no ticket."))?;
        let Asked::Sql(command) = Asked::of_bytes(&ticket.ticket)? else { return Ok(Answer::of(&given)) };
        let Command::TicketStatementQuery(ticket) = *command else { return Ok(Answer::of(&given)) };
        let caller = &call.context.caller;
        let opened = self.sealer.open_ticket(&ticket.statement_handle, caller)?;
        self.tickets.check(&opened)?;
        if opened.purpose == Purpose::Write {
            return Err(not_supported(
                "A ticket that is good for one use cannot be renewed. Execute the statement again.",
            ));
        }
        let fresh = self.sealer.renew(opened, caller)?;
        let renewed = endpoint(listing::ticket(fresh.bytes)).with_expiration_time(timestamp(fresh.expires_at_us));
        Ok(Answer::of(&renewed))
    }

    /// Sets the options that can be set, and tells of each other what is wrong with it.
    fn set_options(&self, call: &Call, body: Bytes) -> Result<Answer, Error> {
        let request = SetSessionOptionsRequest::decode(body).map_err(|error| unreadable(&error))?;
        let mut changes = Vec::new();
        let mut errors = HashMap::new();
        for (name, value) in request.session_options {
            let outcome = match value.into_text() {
                Ok(value) => sessions::check(&name, value.as_deref()).map(|()| value),
                Err(()) => Err(Fault::Value),
            };
            // That a namespace is there is looked at now: a driver then says what is wrong when it connects.
            let outcome = outcome.and_then(|value| match &value {
                Some(namespace) if name == SCHEMA_OPTION && !self.has_namespace(call, namespace) => Err(Fault::Value),
                _ => Ok(value),
            });
            match outcome {
                Ok(value) => changes.push((name, value)),
                Err(fault) => {
                    errors.insert(name, OptionError::of(fault));
                }
            }
        }
        let cookie = if changes.is_empty() { None } else { self.sessions.set(call, changes) };
        let answer = Answer::of(&SetSessionOptionsResult { errors });
        Ok(Answer { cookie: cookie.map(|cookie| sessions::set_cookie(&cookie)), ..answer })
    }

    fn has_namespace(&self, call: &Call, namespace: &str) -> bool {
        let session = self.session(call);
        session.system_tables().iter().any(|table| table.namespace == namespace)
            || session.namespaces().is_ok_and(|known| known.iter().any(|known| known.name == namespace))
    }
}

fn unfit(action: &str, command: &Command) -> Error {
    let given = command.type_url().rsplit('.').next().unwrap_or_default().escape_debug().to_string();
    invalid(format!("The action {action} does not take {given}."))
}

// The messages of sessions, which arrow-flight does not have. Those of Flight.proto.

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl CloseSessionResult {
    const CLOSED: i32 = 1;
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

impl OptionError {
    fn of(fault: Fault) -> Self {
        let value = match fault {
            Fault::Name => 1,
            Fault::Value => 2,
        };
        Self { value }
    }
}

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "AnyValue", tags = "1, 2, 3, 4, 5")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AnyValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

impl OptionValue {
    fn text(value: String) -> Self {
        Self { value: Some(AnyValue::Text(value)) }
    }

    /// The value as text; none unsets the option, and so does an empty text.
    fn into_text(self) -> Result<Option<String>, ()> {
        match self.value {
            None => Ok(None),
            Some(AnyValue::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(AnyValue::Bool(value)) => Ok(Some(value.to_string())),
            Some(AnyValue::Int(value)) => Ok(Some(value.to_string())),
            Some(AnyValue::Double(_) | AnyValue::Texts(_)) => Err(()),
        }
    }
}
