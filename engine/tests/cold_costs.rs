//! What marks cost a scan, beside DataFusion alone over the same files. Takes a minute, so it runs only when asked for:
//! `cargo test --test engine -- --ignored --nocapture cold_costs`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

use crate::harness::{Client, Db};

const ROWS: i64 = 5_000_000;
const ROUNDS: u32 = 15;

fn parquet_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            parquet_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
}

/// What some repetitions took: the fastest by the clock, and each on the processors.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// Processor time of this process, in the kernel's ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

async fn cost(mut run: impl AsyncFnMut()) -> Cost {
    let (mut wall, ticks) = (Duration::MAX, cpu_ticks());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        run().await;
        wall = wall.min(started.elapsed());
    }
    let cpu = Duration::from_micros((cpu_ticks() - ticks) * 10_000 / u64::from(ROUNDS));
    Cost { wall, cpu }
}

async fn ours(client: &Client, sql: &str) -> Cost {
    cost(async || drop(client.rows(sql.to_owned()).await)).await
}

async fn alone(context: &SessionContext, sql: &str) -> Cost {
    cost(async || drop(context.sql(sql).await.unwrap().collect().await.unwrap())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn marks_beside_datafusion_alone() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::on_disk(folder.path()).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, c INT, n BIGINT, body TEXT)").await;
    for first in (0..ROWS).step_by(250_000) {
        let rows = format!(
            "SELECT value, value % 97, value % 1000, 'row ' || value FROM generate_series({first}, {})",
            first + 249_999
        );
        admin.run(format!("INSERT INTO s {rows}")).await;
    }
    let (_, counted) = (admin.rows("SHOW TABLE STATS s").await, ours(&admin, "SHOW TABLE STATS s").await);
    println!("SHOW TABLE STATS, {ROWS} hot rows: {counted:?}");
    admin.run("FLUSH TABLE s FORCE").await;
    admin.run("CREATE SHARED TABLE h (id BIGINT PRIMARY KEY, c INT, n BIGINT, body TEXT)").await;
    assert_eq!(admin.run("INSERT INTO h SELECT * FROM s WHERE id % 100 = 7").await.row_count, 50_000);
    let aggregate = "SELECT c, count(*), sum(n), max(id) FROM s GROUP BY c";
    let filtered = "SELECT count(*), sum(n) FROM s WHERE c = 13 AND n > 500";
    let queries = [("aggregate", aggregate), ("filter", filtered)];

    let mut files = Vec::new();
    parquet_files(folder.path(), &mut files);
    let context = SessionContext::new_with_config(
        SessionConfig::new().with_target_partitions(2).set_bool("datafusion.execution.parquet.pushdown_filters", true),
    );
    let files: Vec<String> = files.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    let rows = context.read_parquet(files, ParquetReadOptions::default()).await.unwrap();
    context.register_table("s", rows.into_view()).unwrap();
    for (name, sql) in queries {
        let alone = alone(&context, sql).await;
        println!("{name}: DataFusion alone {alone:?}, no marks {:?}", ours(&admin, sql).await);
    }
    let hot = ours(&admin, "SELECT c, count(*), sum(n), max(id) FROM h GROUP BY c").await;
    println!("aggregate over 50,000 hot rows alone: {hot:?}");
    for first in (0..ROWS).step_by(500_000) {
        let last = first + 499_999;
        admin.run(format!("UPDATE s SET n = n + 1 WHERE id BETWEEN {first} AND {last} AND id % 100 = 7")).await;
    }
    println!("{:?}", admin.rows("SHOW TABLE STATS s").await);
    for hot in [50_000, 0] {
        for (name, sql) in queries {
            let alone = alone(&context, sql).await;
            let first = Instant::now();
            admin.rows(sql).await;
            let first = first.elapsed();
            let ours = ours(&admin, sql).await;
            let wall = ours.wall.as_secs_f64() / alone.wall.as_secs_f64();
            let cpu = ours.cpu.as_secs_f64() / alone.cpu.as_secs_f64();
            println!(
                "{name}, 1 % marked, {hot} hot rows: DataFusion alone {alone:?}, first {first:?}, then {ours:?}: {wall:.2}, {cpu:.2}"
            );
        }
        admin.run("FLUSH TABLE s FORCE").await;
    }
    for sql in [
        "EXPLAIN SELECT id FROM s WHERE id < 0",
        "SELECT * FROM s ORDER BY id DESC LIMIT 50",
        "SELECT * FROM s WHERE c = 13 ORDER BY id DESC LIMIT 50",
        "SELECT * FROM s WHERE id < 2000000 AND c = 13 ORDER BY id DESC LIMIT 50",
        "SHOW TABLE STATS s",
    ] {
        println!("{sql}: {:?}", ours(&admin, sql).await);
    }
}
