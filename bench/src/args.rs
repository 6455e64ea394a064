//! The command line.

mod live;

use std::{path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser, error::ErrorKind};

use self::live::LiveArgs;
use crate::{
    driver::Window,
    workloads::{access::AccessWorkload, bulk::BulkWorkload, live::LiveWorkload},
};

const ABOUT: &str = "Load generator for KalamDB: throughput and latency of each workload, beside its physical limit";

const LONG_ABOUT: &str = "\
Load generator for KalamDB, as pgbench is for PostgreSQL.

Each workload runs closed-loop clients over gRPC against a server and, in alternating slices of the same run, against \
its physical limit on this machine, so that every figure is also a ratio: 1 is the best that the hardware and the \
transport allow. Without --server it starts a server of its own on an empty temporary folder (kalamdb-server is looked \
for beside this program).";

const WORKLOADS: &str = "\
Workloads (clients by default):
  point-read         SELECT * of one row by key, of 10,000 (1, 16). Limit: a bare tonic echo of the same bytes
  conversation-read  the last 50 rows of a conversation (1, 16). Limit: the same echo
  insert             durable single-row INSERT (1, 16, 64, 256). Limit: the lower of the echo and a bare RocksDB
                     put loop with group commit
  insert-async       the same on a server with asynchronous durability
  batch-insert       INSERT of 100 rows a statement (1, 16). Limit: as insert
  scan-aggregate     count, sum, avg and GROUP BY over 10,000 and 100,000 hot rows (1). Limit: DataFusion on the same
                     rows in memory
  cached-plan        a SELECT with parameters again and again (1), compared with the same SELECT under an alias that is
                     new each time, so that its plan is not in the cache: here the figures to look at are the ratios
                     of latency (p50_ratio, mean_ratio), which should be far below 1
  cold-scan          the same over 5,000,000 rows of a SHARED table, all flushed (1). Limit: DataFusion alone on the same
                     segment files
  cold-scan-updated  the same after an UPDATE of every hundredth row (1). Limit: as cold-scan
  mixed-scan         a filter and the aggregate over 1,000,000 rows of a SHARED table, half of them flushed (1). Limit:
                     DataFusion on the same segment files and the other rows in memory
  cold-point-read    SELECT * of one row by key among 200 segments whose key ranges all overlap (1, 16). Limits: the
                     echo, and the same read of a hot row
  partitions-scan    the aggregate over one user's rows (1, 16), and over those of all users (1), in a USER table with 20
                     rows of each of 10,000 users, all flushed. Limits: DataFusion alone on the same segment files; for
                     one user's rows the echo, too
  compaction         COMPACT TABLE of 1,000,000 rows of a SHARED table in 20 segments, once with key ranges one after the
                     other, once with key ranges that all overlap. Limit: arrow's Parquet reader and writer alone, with
                     the same settings, on the same files
  flush              FLUSH TABLE of 1,000,000 rows of a SHARED table. Limit: arrow's Parquet writer alone, with the same
                     settings, on the same rows in memory
  flush-interference point reads and durable INSERTs (8 clients each) while a table of 1,000,000 rows is flushed. Limit:
                     the same while nothing is flushed; the figure to look at is p99 ÷ limit
  shutdown           SIGTERM to the end of a server with 10 tables of 100,000 hot rows each, which it flushes. Limit: the
                     end of an empty server
  idle               start of an empty server until it answers, and its resident memory 2 s later. Limit: the echo server
  live               all of the following, of live queries in a USER table:
  live-latency       from an INSERT's call to its change at a subscriber, under a rate of commits (1, 1,000, 10,000
                     subscriptions: all of one user; each of another user; filters on one column that 10 at most match;
                     see --subscriptions, --rate, --deliveries). Limit: bare tonic streams of the same bytes, written by
                     the same calls
  live-fanout        changes delivered a second to 1,000 subscriptions of one user, each commit as soon as all have those
                     before the last 64. Limit: as live-latency
  live-writers       durable single-row INSERT (64) beside subscriptions that it does not concern (1,000, 100,000, 100 a
                     call): half of them filters in the same partitions, half of other users. Limit: the same without
                     any: op/s ÷ limit is what they leave
  live-memory        resident memory of each idle subscription, of one call each and of 100 a call (1,000, 10,000,
                     50,000); how fast they subscribe, are killed, and are gone after their client. Limit: as many bare
                     tonic streams. Up to 10,000: SELECT * FROM system.live_queries, too. Limit: the echo
  live-start         from subscribing to the end of 1,000 (--rows) initial rows (1, 16). Limits: bare tonic streams of
                     the same bytes, the same rows by SELECT, and the echo of that
  live-resume        100,000 (--rows) changes that 1,000 subscribers have missed (each of another user; of one:
                     --same-user), from their resume tokens after a restart. Limit: bare tonic streams of the same bytes
  live-soak          INSERTs (16 writers, --rate) to 20 subscribers of the same user, and queries (4), for --duration: the
                     server's memory before, at most, and after a rest. No limit
  auth-point-read    point-read with a JWT, with the token of a session, and with an API key (1, 16). Limit: the same by
                     the localhost bypass of --dev
  row-rules          a point read and a read of a conversation in a restricted SHARED table, by a user with 10 rules
                     (1, 16). Limit: the same in a public one; the figure to look at is the difference of p50
  users              makes 100,000 (--rows) users; SELECT of one by id, and of ten by the beginning of their names
                     (1, 16). Limit: the echo
  revocation         from ALTER USER … DISABLE and from REVOKE API KEY to the end of the user's live query
  flight-read        all of 5,000,000 (--rows) rows of a SHARED table, all flushed, by Arrow Flight SQL (1). Limit: a bare
                     arrow-flight server that streams the same batches from memory
  flight-ingest      500,000 (--rows) rows by Arrow Flight SQL, in one atomic ingest, into a SHARED table, and into the
                     partitions of 1,000 users in turn. Limit: a bare arrow-flight server that decodes and forgets them
  export             EXPORT of the same table as flight-read to a Parquet file. Limit: arrow's Parquet writer alone, with
                     the settings of segments, on the same rows in memory
  backup             BACKUP DATABASE of it, once more where nothing has changed, and RESTORE, after which all rows are
                     compared. Limit: copying the segment files
  flight-memory      the server's memory while 10 clients (--clients) read all of it at once, above that of an idle server.
                     Limit: the bare arrow-flight server's
  load-parquet FILE  writes a Parquet file of messages (id, conversation_id, user_id, role, content, created_at,
                     files_changed) into a USER table, each row as its user (32), reads every user's rows back and
                     compares them with the file. Limit: as insert, with as many rows an operation
  flush-users FILE   load-parquet, then FLUSH ALL TABLES, after which every user's rows are read back and compared again,
                     and there are no more segments than users with enough rows for one. Limit: reading the same rows hot
  all                every workload that needs no file; what runs when none is named

The tables live in a namespace of their own (--namespace) and are dropped and made anew. With --server, insert needs a
server with durability sync, insert-async one with async; idle, shutdown, live, the workloads of flushed rows (flush-users
apart), auth-point-read, row-rules, users, revocation, flight-read, flight-ingest, export, backup and flight-memory start
servers of their own and cannot run.

Exit status: 0, 1 (a call failed or an answer was wrong), 2 (usage).";

/// The command line as given.
#[derive(Debug, Parser)]
#[command(name = "kalam-bench", version, about = ABOUT, long_about = LONG_ABOUT, after_help = WORKLOADS)]
pub(crate) struct Args {
    /// Server to measure, such as http://127.0.0.1:2900 (default: one of its own)
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Measured seconds of each contestant
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    duration: Duration,

    /// Seconds of each contestant before the measured ones
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds_or_none)]
    warmup: Duration,

    /// Numbers of concurrent clients, such as 1,16 (default: the workload's)
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=4_096))]
    clients: Vec<u16>,

    /// HTTP/2 connections that the clients share
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    connections: u16,

    /// Rows in a table that is filled before it is read or flushed (default: as described below)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    pub(crate) rows: Option<u64>,

    /// Rows of a statement of load-parquet, at most
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) batch_rows: u16,

    /// Namespace of the benchmark's tables, which are dropped and made anew
    #[arg(long, value_name = "NAME", default_value = "kalam_bench", value_parser = name)]
    pub(crate) namespace: String,

    /// Folder for the data of the server and of the RocksDB limit, in temporary folders (default: the system's)
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Append the results to a file, one JSON object a line, times in microseconds
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// What to run, in this order
    #[arg(value_name = "WORKLOAD", default_value = "all")]
    words: Vec<String>,

    #[command(flatten)]
    pub(crate) live: LiveArgs,
}

/// Something that can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Workload {
    PointRead,
    ConversationRead,
    Insert,
    InsertAsync,
    BatchInsert,
    ScanAggregate,
    CachedPlan,
    ColdScan,
    ColdScanUpdated,
    MixedScan,
    ColdPointRead,
    PartitionsScan,
    Compaction,
    Flush,
    FlushInterference,
    Shutdown,
    Live(LiveWorkload),
    Access(AccessWorkload),
    Bulk(BulkWorkload),
    Idle,
    LoadParquet(PathBuf),
    FlushUsers(PathBuf),
}

impl Workload {
    /// Whether it starts a server of its own, which it looks into, stops, or tells how to behave.
    fn needs_own_server(&self) -> bool {
        matches!(
            self,
            Self::ColdScan
                | Self::ColdScanUpdated
                | Self::MixedScan
                | Self::ColdPointRead
                | Self::PartitionsScan
                | Self::Compaction
                | Self::Flush
                | Self::FlushInterference
                | Self::Shutdown
                | Self::Live(_)
                | Self::Access(_)
                | Self::Bulk(_)
                | Self::Idle
        )
    }
}

const NAMED: [(&str, Workload); 33] = [
    ("point-read", Workload::PointRead),
    ("conversation-read", Workload::ConversationRead),
    ("insert", Workload::Insert),
    ("insert-async", Workload::InsertAsync),
    ("batch-insert", Workload::BatchInsert),
    ("scan-aggregate", Workload::ScanAggregate),
    ("cached-plan", Workload::CachedPlan),
    ("cold-scan", Workload::ColdScan),
    ("cold-scan-updated", Workload::ColdScanUpdated),
    ("mixed-scan", Workload::MixedScan),
    ("cold-point-read", Workload::ColdPointRead),
    ("partitions-scan", Workload::PartitionsScan),
    ("compaction", Workload::Compaction),
    ("flush", Workload::Flush),
    ("flush-interference", Workload::FlushInterference),
    ("shutdown", Workload::Shutdown),
    ("live-latency", Workload::Live(LiveWorkload::Latency)),
    ("live-fanout", Workload::Live(LiveWorkload::Fanout)),
    ("live-writers", Workload::Live(LiveWorkload::Writers)),
    ("live-memory", Workload::Live(LiveWorkload::Memory)),
    ("live-start", Workload::Live(LiveWorkload::Start)),
    ("live-resume", Workload::Live(LiveWorkload::Resume)),
    ("live-soak", Workload::Live(LiveWorkload::Soak)),
    ("auth-point-read", Workload::Access(AccessWorkload::PointRead)),
    ("row-rules", Workload::Access(AccessWorkload::RowRules)),
    ("users", Workload::Access(AccessWorkload::Users)),
    ("revocation", Workload::Access(AccessWorkload::Revocation)),
    ("flight-read", Workload::Bulk(BulkWorkload::Read)),
    ("flight-ingest", Workload::Bulk(BulkWorkload::Ingest)),
    ("export", Workload::Bulk(BulkWorkload::Export)),
    ("backup", Workload::Bulk(BulkWorkload::Backup)),
    ("flight-memory", Workload::Bulk(BulkWorkload::Memory)),
    ("idle", Workload::Idle),
];

impl Args {
    /// The workloads asked for, in order.
    pub(crate) fn workloads(&self) -> Result<Vec<Workload>, clap::Error> {
        let mut workloads = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                // What needs a server of its own is asked for by name only where one can be started.
                "all" => workloads.extend(
                    NAMED.into_iter().map(|(_, w)| w).filter(|w| self.server.is_none() || !w.needs_own_server()),
                ),
                "live" => {
                    workloads.extend(NAMED.into_iter().map(|(_, w)| w).filter(|w| matches!(w, Workload::Live(_))));
                }
                "load-parquet" | "flush-users" => {
                    let file = words.next().ok_or_else(|| usage(format!("{word} needs the name of a file")))?;
                    let of_file = if word == "flush-users" { Workload::FlushUsers } else { Workload::LoadParquet };
                    workloads.push(of_file(file.into()));
                }
                word => {
                    let (_, workload) = NAMED.into_iter().find(|(name, _)| *name == word).ok_or_else(|| {
                        let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
                        let names = names.join(", ");
                        usage(format!(
                            "no workload '{word}'; there are {names}, load-parquet FILE, flush-users FILE, live, all"
                        ))
                    })?;
                    workloads.push(workload);
                }
            }
        }
        if self.server.is_some()
            && let Some((name, _)) = NAMED.iter().find(|(_, w)| w.needs_own_server() && workloads.contains(w))
        {
            return Err(usage(format!("{name} starts a server of its own: run it without --server")));
        }
        Ok(workloads)
    }

    /// The numbers of clients to run a workload with.
    pub(crate) fn clients(&self, default: &[usize]) -> Vec<usize> {
        if self.clients.is_empty() { default.to_vec() } else { self.clients.iter().map(|n| usize::from(*n)).collect() }
    }

    pub(crate) fn connections(&self) -> usize {
        usize::from(self.connections)
    }

    /// Warm-up and measured time of each contestant.
    pub(crate) fn window(&self) -> Window {
        Window { warmup: self.warmup, measure: self.duration }
    }
}

fn usage(message: String) -> clap::Error {
    Args::command().error(ErrorKind::InvalidValue, message)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    const MAX_SECONDS: f64 = 3_600.0;
    let value: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=MAX_SECONDS).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(format!("must be from 0 to {MAX_SECONDS} seconds"))
    }
}

/// A namespace name goes into SQL text, so nothing but a plain name is let through.
fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let first = text.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if first && text.len() <= 63 && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("a name is lower-case letters, digits and _, begins with no digit and has at most 63".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once(&"kalam-bench").chain(words))
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn workloads_come_in_order_and_a_file_follows_its_workload() {
        let args = parse(&["insert", "load-parquet", "all", "idle", "flush-users", "f"]).unwrap();
        let expected =
            [Workload::Insert, Workload::LoadParquet("all".into()), Workload::Idle, Workload::FlushUsers("f".into())];
        assert_eq!(args.workloads().unwrap(), expected);
        assert_eq!(parse(&["all"]).unwrap().workloads().unwrap().len(), NAMED.len());
        assert_eq!(parse(&["live"]).unwrap().workloads().unwrap().len(), 7);
        let unnamed = parse(&["--json", "results.jsonl"]).unwrap();
        assert_eq!(unnamed.workloads().unwrap(), parse(&["all"]).unwrap().workloads().unwrap());
    }

    #[test]
    fn what_cannot_run_is_refused() {
        assert!(parse(&["load-parquet"]).unwrap().workloads().is_err());
        assert!(parse(&["instert"]).unwrap().workloads().is_err());
        assert!(parse(&["flush-users"]).unwrap().workloads().is_err());
        for own in
            ["idle", "cold-scan", "partitions-scan", "compaction", "flush", "shutdown", "live", "users", "flight-read"]
        {
            assert!(parse(&["--server", "http://[::1]:2900", own]).unwrap().workloads().is_err());
        }
        let all = parse(&["--server", "http://[::1]:2900", "all"]).unwrap().workloads().unwrap();
        assert!(all.contains(&Workload::Insert) && !all.iter().any(Workload::needs_own_server));
        for bad in [
            ["--duration", "0"],
            ["--duration", "-1"],
            ["--duration", "NaN"],
            ["--duration", "1e9"],
            ["--clients", "0"],
            ["--clients", "1,,2"],
            ["--rows", "1"],
            ["--namespace", "a;b"],
            ["--namespace", "1a"],
        ] {
            assert!(parse(&[bad[0], bad[1], "all"]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn clients_default_to_the_workloads_own() {
        assert_eq!(parse(&["all"]).unwrap().clients(&[1, 16]), [1, 16]);
        assert_eq!(parse(&["--clients", "2,8", "all"]).unwrap().clients(&[1, 16]), [2, 8]);
    }
}
