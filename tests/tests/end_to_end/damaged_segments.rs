//! Segment files that change behind the server's back: every answer is exact, or an error that names the file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kalam_link::process::ServerProcess;
use kalamdb_tests::{
    client::{Client, Failure},
    server::start,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::files_below;

const NAMESPACE: &str = "damage";
const USERS: usize = 24;
/// Enough for several blocks of checksums in each file.
const ROWS: usize = 1_500;
const QUERIES: [&str; 6] = [
    "SELECT * FROM t ORDER BY id",
    "SELECT count(*), min(n), max(n), sum(n) FROM t",
    "SELECT * FROM t WHERE id = 321",
    "SELECT * FROM t WHERE id = 100000",
    "SELECT n, body FROM t WHERE n % 97 = 5 ORDER BY n",
    "SELECT kind, count(*) FROM t WHERE body LIKE '%7' GROUP BY kind ORDER BY kind",
];

/// A segment of one user, as it was written.
struct Segment {
    user: String,
    id: String,
    file: PathBuf,
    bytes: Vec<u8>,
    /// What the queries answer.
    answers: Vec<Vec<String>>,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip {
        at: usize,
        mask: u8,
    },
    CutTo(usize),
    Remove,
    /// Another segment's file, which is sound in itself.
    Swap(usize),
}

impl Damage {
    fn random(rng: &mut StdRng, length: usize) -> Self {
        match rng.random_range(0..16) {
            0 => Self::CutTo(rng.random_range(0..length)),
            1 => Self::Remove,
            2 => Self::Swap(rng.random_range(0..USERS)),
            // The end of the file holds more structure than the rest of it.
            3..8 => Self::flip(rng, length.saturating_sub(2_000), length),
            _ => Self::flip(rng, 0, length),
        }
    }

    fn flip(rng: &mut StdRng, from: usize, to: usize) -> Self {
        Self::Flip { at: rng.random_range(from..to), mask: rng.random_range(1..=255) }
    }

    fn does(self, segments: &[Segment], segment: &Segment) {
        let mut bytes = segment.bytes.clone();
        match self {
            Self::Flip { at, mask } => bytes[at] ^= mask,
            Self::CutTo(length) => bytes.truncate(length),
            Self::Remove => return fs::remove_file(&segment.file).unwrap(),
            Self::Swap(other) => bytes.clone_from(&segments[other].bytes),
        }
        fs::write(&segment.file, bytes).unwrap();
    }
}

async fn fill(client: &Client) {
    client.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, kind TEXT, n INT, body TEXT)").await;
    for user in 0..USERS {
        let mut rng = StdRng::seed_from_u64(user as u64);
        let row = |id: usize| {
            let text: String = (0..12).map(|_| format!("{:016x}", rng.random::<u64>())).collect();
            format!("({id}, 'kind {}', {}, '{text}{}')", id % 5, id * 7, id * 31 % 1_009)
        };
        let rows: Vec<String> = (0..ROWS).map(row).collect();
        client.user(format!("user-{user}")).run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
    assert_eq!(client.run("FLUSH TABLE t FORCE").await.affected().row_count, (USERS * ROWS) as u64);
    // Marks on some rows, and some rows hot again.
    for user in 0..USERS / 2 {
        let client = client.user(format!("user-{user}"));
        client.run("DELETE FROM t WHERE id % 50 = 3").await;
        client.run("UPDATE t SET body = 'new' WHERE id % 50 = 4").await;
    }
}

async fn segments(client: &Client, data: &Path) -> Vec<Segment> {
    let storage = data.join("storage");
    let files = files_below(&storage);
    let mut segments = Vec::new();
    for line in client.rows("SELECT user_id, segment_id FROM system.segments").await {
        let (user, id) = line.split_once(" | ").unwrap();
        let file = files.iter().find(|file| file.contains(id)).expect("the segment's file");
        let file = storage.join(file);
        let mut answers = Vec::new();
        for query in QUERIES {
            answers.push(client.user(user).rows(query).await);
        }
        segments.push(Segment {
            user: user.to_owned(),
            id: id.to_owned(),
            bytes: fs::read(&file).unwrap(),
            file,
            answers,
        });
    }
    segments
}

fn names_the_file(failure: &Failure, segment: &Segment) -> bool {
    failure.reason == "CORRUPTION" && failure.message.contains(&segment.id)
}

#[tokio::test]
async fn damage_is_an_error_that_names_the_file_or_changes_nothing() {
    const ROUNDS: usize = 6;
    let seed = std::env::var("KALAMDB_DAMAGE_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("KALAMDB_DAMAGE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut server = start(ServerProcess::builder()).await;
    let client = Client::connect(&server.endpoint()).await.namespace(NAMESPACE);
    fill(&client).await;
    let segments = segments(&client, server.data_dir()).await;
    assert_eq!(segments.len(), USERS);

    let (mut exact, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        // Killed, so that nothing is flushed or compacted meanwhile.
        server.kill().unwrap();
        let damages: Vec<Damage> = segments.iter().map(|s| Damage::random(&mut rng, s.bytes.len())).collect();
        for (segment, damage) in segments.iter().zip(&damages) {
            damage.does(&segments, segment);
        }
        server.restart().await.unwrap();
        let client = Client::connect(&server.endpoint()).await.namespace(NAMESPACE);
        for (segment, damage) in segments.iter().zip(&damages) {
            let client = client.user(&segment.user);
            for (query, answer) in QUERIES.iter().zip(&segment.answers) {
                match client.try_run(query).await {
                    Ok(found) => {
                        assert_eq!(found.shown(), *answer, "seed {seed}, {damage:?}: {query}");
                        exact += 1;
                    }
                    Err(failure) if names_the_file(&failure, segment) => refused += 1,
                    Err(failure) => panic!("seed {seed}, {damage:?}, {}: {query}\n{failure:#?}", segment.id),
                }
            }
            // The whole of every column was read by the first query.
            let whole = client.try_run(QUERIES[0]).await;
            let visible = match damage {
                Damage::Remove | Damage::CutTo(_) => true,
                Damage::Swap(other) => segments[*other].id != segment.id,
                Damage::Flip { .. } => false,
            };
            assert!(!visible || whole.is_err(), "seed {seed}, {damage:?}: the rows were read from nowhere");
            // Rows are never changed on the strength of what is damaged.
            let update = format!("UPDATE t SET n = n WHERE id = {}", 300 + round * 7);
            match client.try_run(&update).await {
                Ok(updated) => assert_eq!(updated.affected().row_count, 1, "seed {seed}, {damage:?}"),
                Err(failure) => assert!(names_the_file(&failure, segment), "seed {seed}, {damage:?}\n{failure:#?}"),
            }
        }
        for segment in &segments {
            fs::write(&segment.file, &segment.bytes).unwrap();
        }
    }
    server.kill().unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(&server.endpoint()).await.namespace(NAMESPACE);
    for segment in &segments {
        for (query, answer) in QUERIES.iter().zip(&segment.answers) {
            assert_eq!(client.user(&segment.user).rows(query).await, *answer, "after the files are whole again");
        }
    }
    println!("damaged segments: {exact} answers exact, {refused} errors that name the file, 0 wrong rows");
    assert!(refused > exact / 20, "the damage was real");
}
