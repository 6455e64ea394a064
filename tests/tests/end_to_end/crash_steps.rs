//! A server that kills itself at a step of a flush, a compaction, a sweep or a change of storages; and after the
//! restart every acknowledged row exactly as acknowledged, no other, and no file that nothing refers to.
//!
//! The steps, and `KALAMDB_FAILPOINT`, are those of `server/src/failpoint.rs`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kalam_link::process::{ProcessError, ServerProcess, ServerProcessBuilder};
use kalamdb_tests::{
    client::{Client, Failure},
    server::{configured, start},
};
use tempfile::TempDir;

use crate::{
    crash::is_gone,
    support::{eventually, files_below},
};

const FAILPOINT: &str = "KALAMDB_FAILPOINT";
const NAMESPACE: &str = "steps";
const USERS: [&str; 2] = ["ana", "../\u{e9}mile"];
const SOON: Duration = Duration::from_secs(30);
const SIGABRT: i32 = 6;

/// Servers at work at a time: they mostly wait for syncs.
const AT_ONCE: usize = 4;

/// A statement that makes a server go through steps, and the step at which it ends: the name and how often it is reached.
struct Kill {
    statement: &'static str,
    step: &'static str,
    count: u32,
}

const fn flush(step: &'static str, count: u32) -> Kill {
    Kill { statement: "FLUSH TABLE t FORCE", step, count }
}

const fn compact(step: &'static str, count: u32) -> Kill {
    Kill { statement: "COMPACT TABLE t", step, count }
}

/// The table has two partitions: their files are noted together by a flush, and one after the other by a compaction.
const KILLS: &[Kill] = &[
    flush("before_pending", 1),
    flush("before_upload", 1),
    flush("before_upload", 2),
    flush("after_upload", 1),
    flush("after_upload", 2),
    flush("before_commit", 1),
    flush("after_commit", 1),
    compact("before_pending", 1),
    compact("before_pending", 2),
    compact("before_upload", 1),
    compact("after_upload", 1),
    compact("after_upload", 2),
    compact("before_commit", 1),
    compact("before_commit", 2),
    compact("after_commit", 1),
    compact("after_commit", 2),
    compact("before_delete", 1),
    compact("after_delete", 1),
];

/// The rows of each user, as acknowledged.
#[derive(Clone, Default)]
struct Model {
    rows: BTreeMap<(String, i64), String>,
}

impl Model {
    async fn insert(&mut self, client: &Client, keys: impl Iterator<Item = i64> + Clone, body: &str) {
        let values: Vec<String> = keys.clone().map(|key| format!("({key}, '{body}')")).collect();
        self.change(client, &format!("INSERT INTO t VALUES {}", values.join(", ")), |rows, user| {
            rows.extend(keys.clone().map(|key| ((user.to_owned(), key), body.to_owned())));
        })
        .await;
    }

    async fn update(&mut self, client: &Client, last_digit: i64, body: &str) {
        let sql = format!("UPDATE t SET body = '{body}' WHERE id % 10 = {last_digit}");
        self.change(client, &sql, |rows, user| {
            let changed = rows.iter_mut().filter(|((owner, key), _)| owner == user && key % 10 == last_digit);
            changed.for_each(|(_, kept)| *kept = body.to_owned());
        })
        .await;
    }

    async fn delete(&mut self, client: &Client, last_digit: i64) {
        self.change(client, &format!("DELETE FROM t WHERE id % 10 = {last_digit}"), |rows, user| {
            rows.retain(|(owner, key), _| owner != user || key % 10 != last_digit);
        })
        .await;
    }

    async fn change(&mut self, client: &Client, sql: &str, apply: impl Fn(&mut BTreeMap<(String, i64), String>, &str)) {
        for user in USERS {
            client.user(user).run(sql).await;
            apply(&mut self.rows, user);
        }
    }

    /// Each row is there once, with its last value, and no other: for an operator, for its owner, and by its key.
    async fn check(&self, client: &Client, when: &str) {
        let all = format!("SELECT _user_id, id, body FROM {NAMESPACE}.all_users.t ORDER BY 1, 2");
        let expected: Vec<String> =
            self.rows.iter().map(|((user, key), body)| format!("{user} | {key} | {body}")).collect();
        assert_eq!(client.rows(&all).await, expected, "{when}");
        for user in USERS {
            let mine = client.user(user);
            let expected = self.rows.keys().filter(|(owner, _)| owner == user).count();
            assert_eq!(mine.scalar("SELECT count(*) FROM t").await, expected.to_string(), "{when}: {user}");
            for key in [1, 2, 3, 4, 12, 91, 95] {
                let found = mine.rows(&format!("SELECT body FROM t WHERE id = {key}")).await;
                let expected = self.rows.get(&(user.to_owned(), key));
                assert_eq!(found.iter().collect::<Vec<_>>(), Vec::from_iter(expected), "{when}: {user}, {key}");
            }
        }
    }
}

/// A server on a folder that nothing runs on by itself.
fn settings(folder: &Path) -> ServerProcessBuilder {
    configured(&[("compaction.automatic", "false")]).data_dir(folder)
}

async fn client_of(server: &ServerProcess) -> Client {
    Client::connect(&server.endpoint()).await.namespace(NAMESPACE)
}

/// A folder of a server that was killed: two segments for each user, with rows changed and deleted since.
async fn prepared(folder: &Path) -> Model {
    let mut server = start(settings(folder)).await;
    let client = client_of(&server).await;
    client.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let mut model = Model::default();
    for keys in [0..60, 60..90] {
        model.insert(&client, keys, "first").await;
        client.run("FLUSH TABLE t FORCE").await;
    }
    model.update(&client, 1, "changed while cold").await;
    model.delete(&client, 2).await;
    model.check(&client, "prepared").await;
    server.kill().unwrap();
    model
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Waits until the server has killed itself.
async fn until_killed(server: &mut ServerProcess, what: &str) {
    let status = server.wait(SOON).await.unwrap();
    let status = status.unwrap_or_else(|| panic!("{what}: the step was not reached"));
    assert_eq!(status.signal(), Some(SIGABRT), "{what}: {status}");
}

/// The statement succeeded, or its server went away.
fn is_gone_or_done<T>(outcome: Result<T, Failure>, what: &str) {
    if let Err(failure) = outcome {
        assert!(is_gone(&failure), "{what}: {failure:#?}");
    }
}

async fn no_orphans(client: &Client, folder: &Path, what: &str) {
    eventually(&format!("{what}: the files are those of system.segments"), SOON, || async {
        let mut known = client.rows("SELECT path FROM system.segments").await;
        known.sort();
        let mut files = files_below(&folder.join("storage"));
        files.sort();
        files == known
    })
    .await;
}

async fn kill_in_a_job(template: &Path, mut model: Model, kill: &Kill) {
    let Kill { statement, step, count } = kill;
    let what = format!("{statement}, {step} number {count}");
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("data");
    copy(template, &folder);
    let mut server = start(settings(&folder).env(FAILPOINT, format!("{step}:{count}"))).await;
    let client = client_of(&server).await;
    model.insert(&client, 90..100, "second").await;
    model.insert(&client, (0..90).filter(|key| key % 20 == 2), "again").await;
    model.update(&client, 3, "changed at last").await;
    model.delete(&client, 4).await;
    is_gone_or_done(client.try_run(statement).await, &what);
    until_killed(&mut server, &what).await;
    drop(server);

    let server = start(settings(&folder)).await;
    let client = client_of(&server).await;
    model.check(&client, &format!("{what}, restarted")).await;
    let is_flush = statement.starts_with("FLUSH");
    let job_type = if is_flush { "flush" } else { "compaction" };
    let jobs = format!("SELECT status FROM system.jobs WHERE type = '{job_type}' ORDER BY created_at, job_id");
    if is_flush {
        // It is recorded as interrupted, and taken up again.
        eventually(&format!("{what}: it is taken up"), SOON, || async {
            client.rows(&jobs).await == ["completed", "completed", "interrupted", "completed"]
        })
        .await;
    } else {
        let ended = client.rows(&jobs).await;
        let in_the_sweep = step.ends_with("_delete");
        assert!(ended == ["interrupted"] || in_the_sweep && ended == ["completed"], "{what}: {ended:?}");
    }
    no_orphans(&client, &folder, &what).await;
    model.check(&client, &format!("{what}, recovered")).await;

    model.update(&client, 5, "changed after it").await;
    model.delete(&client, 6).await;
    for statement in ["FLUSH TABLE t FORCE", "COMPACT TABLE t"] {
        client.run(statement).await;
        model.check(&client, &format!("{what}, then {statement}")).await;
    }
    assert_eq!(client.scalar("SELECT count(*) FROM system.segments").await, USERS.len().to_string(), "{what}");
    no_orphans(&client, &folder, &what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_at_any_step_of_a_job_has_every_row_and_no_other() {
    let started = Instant::now();
    let template = TempDir::new().unwrap();
    let model = prepared(template.path()).await;
    stream::iter(KILLS)
        .map(|kill| kill_in_a_job(template.path(), model.clone(), kill))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    println!("{} steps in {:.1} s", KILLS.len(), started.elapsed().as_secs_f64());
}

/// A change of storages, and what `system.storages` shows before and after it.
struct Change {
    statement: &'static str,
    /// How many changes there were before it.
    before: u32,
    shown: [&'static [&'static str]; 2],
}

const CREATE: &str = "CREATE STORAGE spare TYPE FILESYSTEM URI '{folder}/c'";
const ALTER: &str = "ALTER STORAGE far SET URI '{folder}/b'";
const DROP: &str = "DROP STORAGE spare";
const CHANGES: &[Change] = &[
    Change { statement: CREATE, before: 1, shown: [&["far a"], &["far a", "spare c"]] },
    Change { statement: ALTER, before: 2, shown: [&["far a", "spare c"], &["far b", "spare c"]] },
    Change { statement: DROP, before: 3, shown: [&["far b", "spare c"], &["far b"]] },
];

async fn kill_in_a_change(change: &Change, step: &str) {
    let Change { statement, before, shown: [unchanged, changed] } = change;
    let what = format!("{statement}, {step}");
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("data");
    let uri = |folder: &Path| format!("file://{}", folder.join("storage").display());
    let sql = |statement: &str| statement.replace("{folder}", &uri(&folder));
    let mut server = start(settings(&folder).env(FAILPOINT, format!("{step}:{}", before + 1))).await;
    let client = client_of(&server).await;
    client.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await;
    client.run(&sql("CREATE STORAGE far TYPE FILESYSTEM URI '{folder}/a'")).await;
    client.run("CREATE SHARED TABLE old (id BIGINT PRIMARY KEY) STORAGE far").await;
    client.run("INSERT INTO old VALUES (1), (2)").await;
    client.run("FLUSH TABLE old FORCE").await;
    client.run("INSERT INTO old VALUES (3)").await;
    for earlier in [CREATE, ALTER].into_iter().take_while(|earlier| earlier != statement) {
        client.run(&sql(earlier)).await;
    }
    is_gone_or_done(client.try_run(&sql(statement)).await, &what);
    until_killed(&mut server, &what).await;
    drop(server);

    let server = start(settings(&folder)).await;
    let client = client_of(&server).await;
    let shown = async || {
        let listed = client.rows("SELECT name, uri FROM system.storages WHERE name <> 'local' ORDER BY name").await;
        let folder = fs::canonicalize(&folder).unwrap();
        listed.iter().map(|line| line.replace(&format!("| {}/", uri(&folder)), "")).collect::<Vec<_>>()
    };
    let is_committed = step == "after_storage_commit";
    assert_eq!(shown().await, if is_committed { *changed } else { *unchanged }, "{what}");
    assert_eq!(client.rows("SELECT id FROM old ORDER BY id").await, ["1", "2", "3"], "{what}");
    if !is_committed {
        client.run(&sql(statement)).await;
        assert_eq!(shown().await, *changed, "{what}, again");
    }
    client.run("CREATE SHARED TABLE new (id BIGINT PRIMARY KEY) STORAGE far").await;
    client.run("INSERT INTO new VALUES (1)").await;
    client.run("FLUSH ALL TABLES FORCE").await;
    client.run("COMPACT TABLE old").await;
    assert_eq!(client.rows("SELECT id FROM old ORDER BY id").await, ["1", "2", "3"], "{what}");
    assert_eq!(client.rows("SELECT id FROM new").await, ["1"], "{what}");
    eventually(&format!("{what}: a file for each table"), SOON, || async {
        let count = |name: &str| files_below(&folder.join("storage").join(name)).len();
        let [a, b, c] = ["a", "b", "c"].map(count);
        let new_is_in_b = changed.contains(&"far b");
        [a, b, c] == if new_is_in_b { [1, 1, 0] } else { [2, 0, 0] }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_storages_is_whole_or_not_at_all() {
    let steps = ["before_storage_commit", "after_storage_commit"];
    stream::iter(CHANGES.iter().flat_map(|change| steps.map(|step| (change, step))))
        .map(|(change, step)| kill_in_a_change(change, step))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

#[tokio::test]
async fn a_failpoint_is_for_tests_alone() {
    for (builder, value, said) in [
        (ServerProcess::builder().dev(false), "after_upload", "--dev"),
        (ServerProcess::builder(), "upload", "there are before_pending"),
    ] {
        match builder.env(FAILPOINT, value).start().await {
            Err(ProcessError::EndedEarly { status, stderr }) => {
                assert!(!status.success() && stderr.contains(said), "{stderr}");
            }
            other => panic!("{value}: {other:?}"),
        }
    }
    let server = start(configured(&[]).env(FAILPOINT, "after_upload:1")).await;
    assert!(server.stderr_tail().contains("KALAMDB_FAILPOINT IS SET"), "{}", server.stderr_tail());
}
