//! The adversary by Flight: every statement in every way that Flight SQL has, and what is there to be listed.

use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, Ticket,
    sql::{
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandGetDbSchemas,
        CommandGetPrimaryKeys, CommandGetTables, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
        CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate, ProstMessageExt,
    },
};
use kalamdb_tests::access::{Received, call};
use prost::Message;

use super::stage::Stage;

const SERVICE: &str = "/arrow.flight.protocol.FlightService";

fn command(command: &impl ProstMessageExt) -> Vec<u8> {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec()).encode_to_vec()
}

/// Makes a call, and inspects all that comes of it.
async fn send(stage: &Stage, sent: &str, method: &str, message: Vec<u8>) -> Received {
    let headers = [("x-kalamdb-namespace", "n")];
    let received = call(&stage.mallory, &format!("{SERVICE}/{method}"), message, &headers).await;
    stage.inspect(&format!("{method} {sent}"), &received);
    received
}

/// Reads what a flight's ticket gives.
async fn read(stage: &Stage, sent: &str, received: &Received) {
    let Some(info) = received.messages.first().and_then(|message| FlightInfo::decode(message.clone()).ok()) else {
        return;
    };
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.unwrap_or_default();
        send(stage, sent, "DoGet", ticket.encode_to_vec()).await;
    }
}

/// Sends a statement in every way there is.
pub async fn attempt(stage: &Stage, sql: &str) {
    let query = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    for method in ["GetSchema", "PollFlightInfo", "GetFlightInfo"] {
        let received = send(stage, sql, method, command(&query)).await;
        if method == "GetFlightInfo" {
            read(stage, sql, &received).await;
        }
    }
    send(stage, sql, "DoGet", Ticket::new(sql.to_owned()).encode_to_vec()).await;
    let update = CommandStatementUpdate { query: sql.to_owned(), transaction_id: None };
    put(stage, sql, &update).await;
    let prepare = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
    let action = Action::new("CreatePreparedStatement", prepare.as_any().encode_to_vec());
    let received = send(stage, sql, "DoAction", action.encode_to_vec()).await;
    let handle = received.messages.first().and_then(|message| {
        let result = arrow_flight::Result::decode(message.clone()).ok()?;
        Any::decode(result.body).ok()?.unpack::<ActionCreatePreparedStatementResult>().ok()?
    });
    if let Some(prepared) = handle {
        let handle = prepared.prepared_statement_handle;
        let query = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let received = send(stage, sql, "GetFlightInfo", command(&query)).await;
        read(stage, sql, &received).await;
        put(stage, sql, &CommandPreparedStatementUpdate { prepared_statement_handle: handle }).await;
    }
}

async fn put(stage: &Stage, sent: &str, message: &impl ProstMessageExt) {
    let descriptor = FlightDescriptor::new_cmd(message.as_any().encode_to_vec());
    let data = FlightData::new().with_descriptor(descriptor);
    send(stage, sent, "DoPut", data.encode_to_vec()).await;
}

/// Asks for all that can be listed, in general and by name.
pub async fn listings(stage: &Stage) {
    for pattern in [None, Some("%"), Some("n"), Some("system"), Some("_")] {
        let pattern = pattern.map(str::to_owned);
        let schemas = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: pattern.clone() };
        let received = send(stage, &format!("{schemas:?}"), "GetFlightInfo", command(&schemas)).await;
        read(stage, &format!("{schemas:?}"), &received).await;
        for include_schema in [false, true] {
            let tables = CommandGetTables {
                db_schema_filter_pattern: pattern.clone(),
                table_name_filter_pattern: pattern.clone(),
                include_schema,
                ..CommandGetTables::default()
            };
            let received = send(stage, &format!("{tables:?}"), "GetFlightInfo", command(&tables)).await;
            read(stage, &format!("{tables:?}"), &received).await;
        }
    }
    for table in ["notes", "board", "zqclosed97", "users"] {
        let keys = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.to_owned() };
        let received = send(stage, &format!("{keys:?}"), "GetFlightInfo", command(&keys)).await;
        read(stage, &format!("{keys:?}"), &received).await;
        for path in [vec!["n", table], vec!["n", "all_users", table], vec!["system", table]] {
            let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
            let descriptor = FlightDescriptor::new_path(path.clone());
            let received = send(stage, &path.join("."), "GetFlightInfo", descriptor.encode_to_vec()).await;
            read(stage, &path.join("."), &received).await;
        }
        let ingest = CommandStatementIngest { table: table.to_owned(), ..CommandStatementIngest::default() };
        put(stage, table, &ingest).await;
    }
    for expression in ["", "n", "system"] {
        let criteria = arrow_flight::Criteria { expression: expression.to_owned().into() };
        let received = send(stage, expression, "ListFlights", criteria.encode_to_vec()).await;
        for message in &received.messages {
            let one = Received { messages: vec![message.clone()], ..received.clone() };
            read(stage, expression, &one).await;
        }
    }
    for action in ["GetSessionOptions", "CloseSession", "SetSessionOptions"] {
        send(stage, action, "DoAction", Action::new(action, "").encode_to_vec()).await;
    }
}
