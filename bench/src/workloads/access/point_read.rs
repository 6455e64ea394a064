//! What a credential costs: the point read with each kind of one, beside the same without.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    JWT_SECRET, api_key,
    caller::{Proof, connect, foreign_token},
    prepare, start_server,
};
use crate::{
    data,
    driver::contest,
    error::{BenchError, Result},
    report::{LoadRecord, Record},
    wire::{Expect, Requests, Traffic, int, statement},
    workloads::{Context, limit},
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_ROWS: u64 = 10_000;
const USER: &str = "reader";
const PASSWORD: &str = "a password of the benchmark";
const BYPASS: &str = "localhost bypass";

/// `SELECT *` of one row by a random key, with a token of a foreign issuer, with one of a session, and with an API key.
pub(super) async fn auth_point_read(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let namespace = context.args.namespace.clone();
    let server = start_server(context).await?;
    data::fill(server.client(), &namespace, USER, rows).await?;
    prepare(server.client(), format!("CREATE USER {USER} ROLE user PASSWORD '{PASSWORD}'")).await?;
    let key = api_key(server.client(), USER).await?;
    let session = server.client().auth().login(USER, PASSWORD).await.map_err(BenchError::client("logging in"))?;
    let proofs = [
        ("auth-point-read, JWT", Proof::token(&foreign_token(JWT_SECRET, USER))?),
        ("auth-point-read, session", Proof::token(session.access_token())?),
        ("auth-point-read, API key", Proof::api_key(&key)?),
    ];

    let sql = format!("SELECT * FROM {namespace}.messages WHERE id = $1");
    let last_id = data::id(rows - 1);
    let requests = |client: usize| -> Requests {
        let (sql, mut random) = (sql.clone(), StdRng::seed_from_u64(client as u64));
        Box::new(move || statement(sql.clone(), vec![int(random.random_range(1..=last_id))]))
    };
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| USER.to_owned(),
            requests: &requests,
            expect: Expect::Rows(1),
        };
        for (name, proof) in &proofs {
            let mut subject = connect(&traffic, server.url(), proof).await?;
            let bypass = connect(&traffic, server.url(), &Proof::nothing(USER)?).await?;
            let mut limits = [limit(BYPASS, bypass)];
            let found = contest(&mut subject, &mut limits, context.args.window()).await;
            context.report(Record::Load(Box::new(LoadRecord::new(name, clients, 1, &found))))?;
        }
    }
    Ok(())
}
