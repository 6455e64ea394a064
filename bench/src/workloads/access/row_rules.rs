//! What row rules cost: statements on a restricted SHARED table, beside the same on a public one.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    api_key,
    caller::{Proof, connect},
    prepare, start_server,
};
use crate::{
    data::{self, CONVERSATION_ROWS},
    driver::contest,
    error::{BenchError, Result},
    report::{LoadRecord, Record, access::RowRulesRecord},
    wire::{Expect, Requests, Traffic, int, statement, text},
    workloads::{Context, limit},
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_ROWS: u64 = 10_000;
const RULES: u64 = 10;
const USER: &str = "reader";
const OPEN: &str = "open_messages";
const GUARDED: &str = "guarded_messages";
const PUBLIC: &str = "public table";

/// A point read and a read of a conversation, of rows that one of ten rules allows.
pub(super) async fn row_rules(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let conversations = data::conversations(rows);
    if conversations < RULES {
        let least = RULES * CONVERSATION_ROWS;
        return Err(BenchError::Usage(format!(
            "row-rules needs --rows of {least} at least: a rule for each conversation"
        )));
    }
    let namespace = context.args.namespace.clone();
    let server = start_server(context).await?;
    let client = server.client();
    for table in [OPEN, GUARDED] {
        let made = client.execute_batch(data::create_shared(&namespace, table), ()).await;
        made.map_err(BenchError::client("making the tables"))?;
        data::insert(client, &format!("{namespace}.{table}"), rows, 0..rows).await?;
    }
    prepare(client, format!("ALTER TABLE {namespace}.{GUARDED} SET ACCESS restricted")).await?;
    let rule = |number| format!("'{namespace}.{GUARDED}.conversation_id = ''{}'''", data::conversation(number));
    let rules: Vec<String> = (0..RULES).map(rule).collect();
    prepare(client, format!("CREATE USER {USER} ROLE user PERMISSIONS ({})", rules.join(", "))).await?;
    let proof = Proof::api_key(&api_key(client, USER).await?)?;

    let point = |table: &str| {
        let sql = format!("SELECT * FROM {namespace}.{table} WHERE id = $1");
        move |client: usize| -> Requests {
            let (sql, mut random) = (sql.clone(), StdRng::seed_from_u64(client as u64));
            Box::new(move || {
                // Message `index` is of conversation `index % conversations`.
                let turn = random.random_range(0..rows / conversations);
                let index = turn * conversations + random.random_range(0..RULES);
                statement(sql.clone(), vec![int(data::id(index))])
            })
        }
    };
    let conversation = |table: &str| {
        let sql = format!(
            "SELECT * FROM {namespace}.{table} WHERE conversation_id = $1 ORDER BY id DESC LIMIT {CONVERSATION_ROWS}"
        );
        move |client: usize| -> Requests {
            let (sql, mut random) = (sql.clone(), StdRng::seed_from_u64(client as u64));
            Box::new(move || statement(sql.clone(), vec![text(data::conversation(random.random_range(0..RULES)))]))
        }
    };
    let in_conversation = (rows / conversations).min(CONVERSATION_ROWS);
    let (open_point, guarded_point) = (point(OPEN), point(GUARDED));
    let (open_conversation, guarded_conversation) = (conversation(OPEN), conversation(GUARDED));
    type Reads<'a> = &'a (dyn Fn(usize) -> Requests + Sync);
    let statements: [(&'static str, u64, Reads<'_>, Reads<'_>); 2] = [
        ("row-rules, point read", 1, &guarded_point, &open_point),
        ("row-rules, conversation", in_conversation, &guarded_conversation, &open_conversation),
    ];
    for clients in context.args.clients(&CLIENTS) {
        for (name, answer_rows, guarded, open) in statements {
            let traffic = Traffic {
                clients,
                connections: context.args.connections(),
                user: &|_| USER.to_owned(),
                requests: guarded,
                expect: Expect::Rows(answer_rows),
            };
            let public = Traffic { requests: open, ..traffic };
            let mut subject = connect(&traffic, server.url(), &proof).await?;
            let mut limits = [limit(PUBLIC, connect(&public, server.url(), &proof).await?)];
            let found = contest(&mut subject, &mut limits, context.args.window()).await;
            let added = RowRulesRecord::new(name, clients, RULES, &found);
            context.report(Record::Load(Box::new(LoadRecord::new(name, clients, answer_rows, &found))))?;
            context.report(Record::RowRules(added))?;
        }
    }
    Ok(())
}
