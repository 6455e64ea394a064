//! Writing rows by Arrow Flight SQL: into one SHARED table, and into the partitions of many users.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    error::ArrowError,
};
use tokio::time::Instant;

use super::{BARE, flight::FlightClient};
use crate::{
    data::{self, Message},
    driver::{Contest, Measurement},
    error::{BenchError, Result},
    limits::flight::FlightServer,
    report::{LoadRecord, Record},
    workloads::{
        Context,
        cold::{ColdServer, flush::note},
    },
};

/// Few enough for one atomic ingest with the default settings.
const DEFAULT_ROWS: u64 = 500_000;
const USERS: u64 = 1_000;
const ROUNDS: usize = 4;
/// As pyarrow and Polars slice what they send, roughly.
const BATCH_ROWS: u64 = 16_384;
const SHARED_TABLE: &str = "ingested";
const USER_TABLE: &str = "messages";
const WRITER: &str = "system";

pub(super) async fn flight_ingest(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let cold = ColdServer::start(context, &[]).await?;
    for target in [Target::Shared, Target::Users] {
        let batches = batches(rows, target).map_err(|error| BenchError::Process(format!("making rows: {error}")))?;
        measure(context, &cold, target, rows, &batches).await?;
    }
    Ok(())
}

/// Where the rows go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Shared,
    /// To each user the row after the one of the user before.
    Users,
}

impl Target {
    fn workload(self) -> String {
        match self {
            Target::Shared => "flight-ingest, SHARED".to_owned(),
            Target::Users => format!("flight-ingest, {USERS} users"),
        }
    }

    fn table(self) -> &'static str {
        match self {
            Target::Shared => SHARED_TABLE,
            Target::Users => USER_TABLE,
        }
    }
}

/// Ingests into tables made anew, and has a bare server take the same; what comes first is not counted.
async fn measure(
    context: &mut Context,
    cold: &ColdServer,
    target: Target,
    rows: u64,
    batches: &[RecordBatch],
) -> Result<()> {
    let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| BenchError::Usage("no rows".to_owned()))?;
    let (workload, namespace) = (target.workload(), context.args.namespace.clone());
    let bare = FlightServer::start(&schema, &[], 0).await?;
    let mut clients =
        [FlightClient::connect(&cold.url(), WRITER).await?, FlightClient::connect(bare.url(), WRITER).await?];
    let mut found = Contest { subject: Measurement::new(), limits: vec![(BARE, Measurement::new())] };
    for round in 0..ROUNDS {
        match target {
            Target::Shared => cold.create(SHARED_TABLE).await?,
            Target::Users => cold.create_user_table().await?,
        }
        cold.quiet().await?;
        let mut took = Vec::new();
        for client in &mut clients {
            let sent = batches.to_vec();
            let begin = Instant::now();
            let written = client.write((&namespace, target.table()), Arc::clone(&schema), sent).await;
            took.push(begin.elapsed());
            let written = written.map_err(|message| BenchError::Call { action: workload.clone(), message })?;
            if written != rows {
                return Err(BenchError::WrongAnswer(format!("{workload}: {written} rows were written of {rows}")));
            }
        }
        check(cold, target, rows).await?;
        let [subject, limit] = took[..] else { continue };
        eprintln!(
            "{workload}, {} of {ROUNDS}: {rows} rows in {:.2} s, {BARE}: {:.2} s",
            round + 1,
            subject.as_secs_f64(),
            limit.as_secs_f64()
        );
        // The first is the warm-up.
        if round > 0 {
            note(&mut found.subject, subject);
            found.limits.iter_mut().for_each(|(_, measured)| note(measured, limit));
        }
    }
    context.report(Record::Load(Box::new(LoadRecord::new(&workload, 1, rows, &found))))
}

/// All rows are there, each with its own user.
async fn check(cold: &ColdServer, target: Target, rows: u64) -> Result<()> {
    let expected_ids = i128::from(rows) * (i128::from(rows) + 1) / 2;
    let mut expected = vec![("count(*)", i128::from(rows)), ("CAST(sum(id) AS BIGINT)", expected_ids)];
    let table = match target {
        Target::Shared => cold.qualified(SHARED_TABLE),
        Target::Users => {
            expected.push(("count(DISTINCT _user_id)", i128::from(USERS.min(rows))));
            cold.qualified(&format!("all_users.{USER_TABLE}"))
        }
    };
    for (figure, expected) in expected {
        let sql = format!("SELECT {figure} FROM {table}");
        let found = i128::from(cold.number(&sql).await?);
        if found != expected {
            return Err(BenchError::WrongAnswer(format!("{sql} is {found} where {expected} was ingested")));
        }
    }
    Ok(())
}

/// The generated messages, as clients of Arrow make them; with the user of each row where that is asked for.
fn batches(rows: u64, target: Target) -> Result<Vec<RecordBatch>, ArrowError> {
    (0..rows)
        .step_by(BATCH_ROWS as usize)
        .map(|from| {
            let indexes = from..rows.min(from + BATCH_ROWS);
            let messages: Vec<Message> = indexes.clone().map(|index| Message::new(index, rows)).collect();
            let text = |of: fn(&Message) -> &str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(messages.iter().map(of)))
            };
            let created_at = TimestampMicrosecondArray::from_iter_values(messages.iter().map(|m| m.created_at_us));
            let files_changed = Int32Array::from_iter_values(messages.iter().map(|m| m.files_changed));
            let ids = Int64Array::from_iter_values(messages.iter().map(|m| m.id));
            let mut columns: Vec<(&str, ArrayRef)> = vec![
                ("id", Arc::new(ids)),
                ("conversation_id", text(|m| &m.conversation_id)),
                ("role", text(|m| m.role)),
                ("content", text(|m| &m.content)),
                ("created_at", Arc::new(created_at)),
                ("files_changed", Arc::new(files_changed)),
            ];
            debug_assert_eq!(columns.len(), data::FILL_COLUMN_COUNT);
            if target == Target::Users {
                let users = StringArray::from_iter_values(indexes.map(|index| format!("user-{:06}", index % USERS)));
                columns.push(("_user_id", Arc::new(users)));
            }
            RecordBatch::try_from_iter(columns)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_all_rows_and_users_take_turns() {
        let rows = BATCH_ROWS + 10;
        let shared = batches(rows, Target::Shared).unwrap();
        assert_eq!(shared.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BATCH_ROWS as usize, 10]);
        assert_eq!(shared[0].num_columns(), data::FILL_COLUMN_COUNT);
        let users = batches(rows, Target::Users).unwrap();
        let column = users[0].column_by_name("_user_id").unwrap();
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        assert_eq!((column.value(1), column.value(1_001)), ("user-000001", "user-000001"));
    }
}
