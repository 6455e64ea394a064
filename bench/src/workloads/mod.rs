//! What can be measured, and what the workloads have in common.

pub(crate) mod access;
pub(crate) mod bulk;
mod cold;
mod idle;
pub(crate) mod live;
mod load;
mod plan;
mod reads;
mod scan;
mod writes;

use std::path::PathBuf;

use kalamdb_proto::v1::ExecuteResponse;

use crate::{
    args::{Args, Workload},
    driver::{Contestant, Limit, contest},
    error::Result,
    limits::{
        echo::EchoServer,
        rocks::{RocksLimit, Writes},
    },
    report::{self, LoadRecord, Record},
    servers::{Durability, Servers},
    wire::Traffic,
};

const ECHO: &str = "bare echo";
const ROCKS_SYNC: &str = "bare RocksDB, synced";
const ROCKS_ASYNC: &str = "bare RocksDB, not synced";

/// A run: its options, its servers, what it found.
pub(crate) struct Context {
    pub(crate) args: Args,
    pub(crate) servers: Servers,
    pub(crate) records: Vec<Record>,
    /// The table of the last scan of flushed rows, for the next one.
    scanned: Option<cold::scan::ScannedTable>,
    /// The table of the last read in bulk, for the next one.
    bulk: Option<bulk::table::BulkTable>,
}

impl Context {
    pub(crate) fn new(args: Args) -> Self {
        let servers = Servers::new(args.server.clone(), args.namespace.clone(), args.dir.clone());
        Self { args, servers, records: Vec::new(), scanned: None, bulk: None }
    }

    /// Runs one workload and reports what it finds.
    pub(crate) async fn run(&mut self, workload: &Workload) -> Result<()> {
        match workload {
            Workload::PointRead => reads::point_read(self).await,
            Workload::ConversationRead => reads::conversation_read(self).await,
            Workload::Insert => writes::insert(self, Durability::Sync).await,
            Workload::InsertAsync => writes::insert(self, Durability::Async).await,
            Workload::BatchInsert => writes::batch_insert(self).await,
            Workload::ScanAggregate => scan::scan_aggregate(self).await,
            Workload::CachedPlan => plan::cached_plan(self).await,
            Workload::ColdScan => cold::scan::cold_scan(self).await,
            Workload::ColdScanUpdated => cold::scan::cold_scan_updated(self).await,
            Workload::MixedScan => cold::scan::mixed_scan(self).await,
            Workload::ColdPointRead => cold::point::cold_point_read(self).await,
            Workload::PartitionsScan => cold::partitions::partitions_scan(self).await,
            Workload::Compaction => cold::compaction::compaction(self).await,
            Workload::Flush => cold::flush::flush(self).await,
            Workload::FlushInterference => cold::interference::flush_interference(self).await,
            Workload::FlushUsers(file) => cold::users::flush_users(self, file).await,
            Workload::Shutdown => cold::shutdown::shutdown(self).await,
            Workload::Live(workload) => live::run(self, *workload).await,
            Workload::Access(workload) => access::run(self, *workload).await,
            Workload::Bulk(workload) => bulk::run(self, *workload).await,
            Workload::Idle => idle::idle(self).await,
            Workload::LoadParquet(file) => load::load_parquet(self, file).await,
        }
    }

    /// Whether any call failed under load.
    pub(crate) fn has_errors(&self) -> bool {
        self.records.iter().any(|record| record.errors() > 0)
    }

    fn report(&mut self, record: Record) -> Result<()> {
        eprintln!("{}", record.summary());
        if let Some(path) = &self.args.json {
            report::append_json(path, &record)?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Runs traffic against a server and its limits, and reports it.
    async fn measure(
        &mut self,
        workload: &str,
        rows: u64,
        server_url: &str,
        traffic: &Traffic<'_>,
        mut limits: Vec<Limit>,
    ) -> Result<()> {
        let mut subject = traffic.connect(server_url).await?;
        self.compete(workload, traffic.clients, rows, &mut subject, &mut limits).await
    }

    /// Runs a subject and its limits, and reports it.
    async fn compete(
        &mut self,
        workload: &str,
        clients: usize,
        rows: u64,
        subject: &mut dyn Contestant,
        limits: &mut [Limit],
    ) -> Result<()> {
        let window = self.args.window();
        let seconds = (window.warmup + window.measure).as_secs_f64() * (1 + limits.len()) as f64;
        eprintln!(
            "{workload}: measuring for {seconds:.0} s, {clients} {}",
            if clients == 1 { "client" } else { "clients" }
        );
        let found = contest(subject, limits, window).await;
        self.report(Record::Load(Box::new(LoadRecord::new(workload, clients, rows, &found))))
    }

    fn folder(&self) -> PathBuf {
        self.servers.folder()
    }
}

/// The echo of a response, with the process that must live as long as the limit runs.
async fn echo_limit(traffic: &Traffic<'_>, response: &ExecuteResponse) -> Result<(EchoServer, Limit)> {
    let echo = EchoServer::start(response).await?;
    let limit = limit(ECHO, traffic.connect(echo.url()).await?);
    Ok((echo, limit))
}

/// The limits of a write: the echo, and RocksDB writing as many rows of the same size.
async fn write_limits(
    context: &Context,
    traffic: &Traffic<'_>,
    response: &ExecuteResponse,
    writes: Writes,
) -> Result<(EchoServer, Vec<Limit>)> {
    let (echo, first) = echo_limit(traffic, response).await?;
    let rocks = RocksLimit::start(&context.folder(), traffic.clients, writes)?;
    let name = if writes.sync { ROCKS_SYNC } else { ROCKS_ASYNC };
    Ok((echo, vec![first, limit(name, rocks)]))
}

fn limit(name: &'static str, contestant: impl Contestant + 'static) -> Limit {
    Limit { name, contestant: Box::new(contestant) }
}
