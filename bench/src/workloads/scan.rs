//! An aggregate over all rows of a hot partition.

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use datafusion::error::DataFusionError;
use kalam_link::{Row, Value};

use super::{Context, limit};
use crate::{
    data::ROLE_COUNT,
    driver::Pool,
    error::{BenchError, Result},
    limits::datafusion::DataFusionClient,
    wire::{Expect, Requests, Traffic, statement},
};

const CLIENTS: [usize; 1] = [1];
const SIZES: [u64; 2] = [10_000, 100_000];
const LIMIT: &str = "DataFusion in memory";

/// Count, sum and average by role; the rows' own table first, DataFusion's copy of it as the limit.
pub(super) async fn scan_aggregate(context: &mut Context) -> Result<()> {
    let sizes = context.args.rows.map_or_else(|| SIZES.to_vec(), |rows| vec![rows]);
    for rows in sizes {
        let user = format!("scanner-{rows}");
        let server = context.servers.any().await?;
        server.fill(&user, rows).await?;
        let (url, client) = (server.url().to_owned(), server.client().for_user(&user));
        let sql = aggregate(&format!("{}.messages", context.args.namespace));
        let alone = DataFusionClient::new(rows, &aggregate("messages"), ROLE_COUNT).await?;

        let answer = client.execute(sql.clone(), ()).await.map_err(BenchError::client("an aggregate"))?;
        let found = answer.rows().iter().map(server_figures).collect::<Option<Vec<_>>>();
        let expected = figures(&alone.run().await?)?;
        if found.as_ref() != Some(&expected) {
            return Err(BenchError::WrongAnswer(format!(
                "an aggregate over {rows} rows is {found:?} where DataFusion alone says {expected:?}"
            )));
        }

        let requests = |_: usize| -> Requests {
            let sql = sql.clone();
            Box::new(move || statement(sql.clone(), Vec::new()))
        };
        for clients in context.args.clients(&CLIENTS) {
            let traffic = Traffic {
                clients,
                connections: context.args.connections(),
                user: &|_| user.clone(),
                requests: &requests,
                expect: Expect::Rows(ROLE_COUNT),
            };
            let limits = vec![limit(LIMIT, Pool::new(vec![alone.clone(); clients]))];
            context.measure("scan-aggregate", rows, &url, &traffic, limits).await?;
        }
    }
    Ok(())
}

pub(super) fn aggregate(table: &str) -> String {
    format!(
        "SELECT role, COUNT(*) AS messages, SUM(files_changed) AS files, AVG(files_changed) AS mean \
         FROM {table} GROUP BY role ORDER BY role"
    )
}

/// Role, count, sum, average.
pub(super) type Figures = (String, i64, i64, f64);

pub(super) fn server_figures(row: &Row) -> Option<Figures> {
    match row.values() {
        [Value::Text(role), Value::Int(count), Value::Int(sum), Value::Double(mean)] => {
            Some((role.clone(), *count, *sum, *mean))
        }
        _ => None,
    }
}

pub(super) fn figures(batches: &[RecordBatch]) -> Result<Vec<Figures>> {
    const TYPES: [DataType; 4] = [DataType::Utf8, DataType::Int64, DataType::Int64, DataType::Float64];
    let mut figures = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .zip(&TYPES)
            .map(|(column, to)| cast(column, to))
            .collect::<Result<Vec<_>, _>>()
            .map_err(DataFusionError::from)?;
        if let [roles, counts, sums, means] = columns.as_slice() {
            let (roles, counts) = (roles.as_string::<i32>(), counts.as_primitive::<Int64Type>());
            let (sums, means) = (sums.as_primitive::<Int64Type>(), means.as_primitive::<Float64Type>());
            figures.extend(
                (0..batch.num_rows())
                    .map(|row| (roles.value(row).to_owned(), counts.value(row), sums.value(row), means.value(row))),
            );
        }
    }
    Ok(figures)
}
