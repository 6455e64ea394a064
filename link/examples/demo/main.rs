//! KalamDB in a minute: `make demo`.
//!
//! Starts a server on an empty folder, writes generated chat messages of a few hundred users, shows what isolation by
//! user means, queries them, restarts the server and shows that everything is still there. At a terminal it then
//! leaves you at the prompt of `kalam-cli`.

mod chat;
mod show;

use std::{
    error::Error,
    io::{IsTerminal, stdin, stdout},
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use futures::{StreamExt, TryStreamExt, stream};
use kalam_link::{
    Client, Value,
    process::{ServerProcess, find_binary},
};

use self::{chat::Conversation, show::Show};

const USERS: usize = 300;
const CONCURRENT_WRITERS: usize = 16;
const POINT_READS: usize = 1_000;

/// Whether the terminal belongs to `kalam-cli`.
static AT_PROMPT: AtomicBool = AtomicBool::new(false);

const CREATE_TABLE: &str = "CREATE USER TABLE chat.messages (
    id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(),
    conversation_id TEXT,
    role TEXT,
    content TEXT,
    created_at TIMESTAMP DEFAULT NOW()
)";

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = demo() => outcome,
        _ = interrupted() => Err("interrupted".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), Box<dyn Error>> {
    let show = Show::new(stdout().is_terminal());

    show.heading("A server on an empty folder");
    // A group of its own: Ctrl+C at the prompt below cancels a query, it must not end the server.
    let mut server = ServerProcess::builder().own_process_group(true).start().await?;
    let client = server.client().await?;
    let info = client.admin().server_info().await?;
    show.fact("version", &format!("{} ({} {})", info.version, info.git_branch, info.git_commit));
    show.fact("address", &server.endpoint());
    show.fact("durability", &info.durability);
    show.timed("started and serving", server.ready_after());

    show.heading("A namespace and a table in which every user has rows of its own");
    for sql in ["CREATE NAMESPACE chat", CREATE_TABLE] {
        show.statement(&client, sql).await?;
    }

    let written = write_messages(&show, &client).await?;
    isolation(&show, &client).await?;
    queries(&show, &client).await?;
    point_reads(&show, &client).await?;

    show.heading("The same after a restart");
    let exit = server.terminate().await?;
    show.timed(&format!("SIGTERM to the end ({})", exit.status), exit.took);
    server.restart().await?;
    show.timed("started again and serving", server.ready_after());
    let client = server.client().await?;
    let again = across_users(&show, &client).await?;
    if again != written {
        return Err(format!("{written} messages were written, {again} are there after the restart").into());
    }
    show.statement(&client.for_user("alice"), FIRST_MESSAGES).await?;

    if stdin().is_terminal() && stdout().is_terminal() {
        prompt(&show, &server).await?;
    }
    let exit = server.terminate().await?;
    show.timed(&format!("server stopped ({})", exit.status), exit.took);
    Ok(())
}

/// Writes every conversation with one INSERT, many at a time. Answers the number of messages.
async fn write_messages(show: &Show, client: &Client) -> Result<i64, Box<dyn Error>> {
    let conversations = chat::conversations(USERS);
    let messages: usize = conversations.iter().map(|conversation| conversation.messages.len()).sum();
    show.heading(&format!(
        "{messages} messages in {} conversations of {USERS} users, {CONCURRENT_WRITERS} writers at a time",
        conversations.len()
    ));
    let started = Instant::now();
    let rows: u64 = stream::iter(conversations)
        .map(|conversation| insert(client, conversation))
        .buffer_unordered(CONCURRENT_WRITERS)
        .try_fold(0, |sum, rows| async move { Ok(sum + rows) })
        .await?;
    let took = started.elapsed();
    show.timed(&format!("{rows} rows written, {:.0} rows/s", rows as f64 / took.as_secs_f64()), took);
    Ok(across_users(show, client).await?)
}

async fn insert(client: &Client, conversation: Conversation) -> kalam_link::Result<u64> {
    let mut params = vec![Value::from(conversation.id)];
    let mut rows = Vec::with_capacity(conversation.messages.len());
    for (role, content) in conversation.messages {
        rows.push(format!("($1, ${}, ${})", params.len() + 1, params.len() + 2));
        params.extend([role.into(), content.into()]);
    }
    let sql = format!("INSERT INTO chat.messages (conversation_id, role, content) VALUES {}", rows.join(", "));
    Ok(client.for_user(conversation.user).execute(sql, params).await?.row_count())
}

const FIRST_MESSAGES: &str = "SELECT conversation_id, role, content FROM chat.messages ORDER BY id LIMIT 4";

async fn isolation(show: &Show, client: &Client) -> kalam_link::Result<()> {
    show.heading("One statement, two users, two results");
    for user in ["alice", "bob"] {
        show.text(&format!("As {user}:"));
        show.statement(&client.for_user(user), FIRST_MESSAGES).await?;
    }
    Ok(())
}

async fn queries(show: &Show, client: &Client) -> kalam_link::Result<()> {
    let alice = client.for_user("alice");
    show.heading("A filter");
    show.statement(
        &alice,
        "SELECT role, content, created_at FROM chat.messages WHERE role = 'user' AND content LIKE '%train%' LIMIT 3",
    )
    .await?;
    show.heading("An aggregate");
    show.statement(
        &alice,
        "SELECT conversation_id, count(*) AS messages, sum(length(content)) AS characters\n\
         FROM chat.messages GROUP BY conversation_id ORDER BY messages DESC, conversation_id LIMIT 4",
    )
    .await?;
    show.heading("A window");
    show.statement(
        &alice,
        "SELECT conversation_id, row_number() OVER w AS turn, role, sum(length(content)) OVER w AS characters_so_far\n\
         FROM chat.messages WINDOW w AS (PARTITION BY conversation_id ORDER BY id)\n\
         ORDER BY conversation_id, turn LIMIT 5",
    )
    .await?;
    Ok(())
}

/// Every user's rows at once, as only an administrator may. Answers their number.
async fn across_users(show: &Show, client: &Client) -> kalam_link::Result<i64> {
    let sql = "SELECT count(*) AS messages, count(DISTINCT _user_id) AS users FROM chat.all_users.messages";
    let result = show.statement(client, sql).await?;
    Ok(result.value("messages")?)
}

async fn point_reads(show: &Show, client: &Client) -> kalam_link::Result<()> {
    show.heading("Reading by key");
    let alice = client.for_user("alice");
    let ids = alice.execute("SELECT id FROM chat.messages", ()).await?;
    let ids = ids.rows().iter().map(|row| row.get::<i64>(0)).collect::<Result<Vec<_>, _>>()?;
    let mut times = Vec::with_capacity(POINT_READS);
    for id in ids.iter().cycle().take(POINT_READS) {
        let started = Instant::now();
        alice.execute("SELECT * FROM chat.messages WHERE id = $1", (*id,)).await?.one()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    show.timed(&format!("{} reads, one after the other, median", times.len()), at(0.5));
    show.timed("99 of 100 within", at(0.99));
    Ok(())
}

/// Leaves the user at the prompt of the terminal client until they quit.
async fn prompt(show: &Show, server: &ServerProcess) -> Result<(), Box<dyn Error>> {
    show.heading("Your turn");
    let Some(cli) = find_binary("kalam-cli") else {
        show.text("kalam-cli is not built: cargo build -p kalam-cli");
        return Ok(());
    };
    show.text("You are alice. Try SELECT * FROM messages LIMIT 5; then \\help, and \\q to end.");
    let endpoint = server.endpoint();
    AT_PROMPT.store(true, Ordering::Relaxed);
    let run = move || Command::new(cli).args(["-u", "alice", "-n", "chat", "-h"]).arg(endpoint).status();
    tokio::task::spawn_blocking(run).await??;
    AT_PROMPT.store(false, Ordering::Relaxed);
    Ok(())
}

/// Ends when Ctrl+C is pressed, except at the prompt: there the terminal client deals with it.
async fn interrupted() {
    while tokio::signal::ctrl_c().await.is_ok() {
        if !AT_PROMPT.load(Ordering::Relaxed) {
            return;
        }
    }
    std::future::pending().await
}
