//! Flushes, storages, jobs, statistics and segments by their own RPCs, and the flush of a server that stops.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kalam_link::{FlushEvent, JobStatus as LinkJobStatus};
use kalamdb_proto::v1::{
    AlterStorageRequest, CompactTableRequest, CreateStorageRequest, DropStorageRequest, FlushAllTablesRequest,
    FlushAllTablesResponse, FlushFinished, FlushTableRequest, FlushTableResponse, GetJobRequest, GetTableRequest,
    GetTableStatsRequest, GetTableStatsResponse, Job, JobStatus, JobTrigger, JobType, ListJobsRequest,
    ListSegmentsRequest, PartitionFlushed, Segment, StorageType, flush_all_tables_response::Event as AllEvent,
    flush_table_response::Event,
};
use kalamdb_tests::{
    client::{Client, Failure, expect_failure},
    http,
    server::{configured, server_with, shared_url, start},
};
use tonic::Code;

use crate::support::{client, client_of, client_with_rows, eventually};

const SOON: Duration = Duration::from_secs(30);

fn order(client: &Client, table: &str) -> FlushTableRequest {
    let namespace = client.namespace_name().to_owned();
    FlushTableRequest { namespace, table: table.to_owned(), force: true, wait: None }
}

/// Flushes a table with force; the events of the call.
async fn flush(client: &Client, request: FlushTableRequest) -> Result<Vec<Event>, Failure> {
    let mut stream = client.flush_service().flush_table(client.request(request)).await?.into_inner();
    let mut events = Vec::new();
    while let Some(FlushTableResponse { event }) = stream.message().await? {
        events.push(event.expect("an event that this test knows"));
    }
    Ok(events)
}

/// Flushes a table with force and checks the order of the events; the partitions and the end.
async fn flushed(client: &Client, table: &str) -> (Vec<PartitionFlushed>, FlushFinished) {
    let mut events = flush(client, order(client, table)).await.unwrap();
    let Some(Event::Finished(finished)) = events.pop() else { panic!("the last event is the end: {events:?}") };
    let mut events = events.into_iter();
    match events.next() {
        Some(Event::Started(started)) => {
            assert_eq!((started.namespace.as_str(), started.table.as_str()), (client.namespace_name(), table));
            assert_eq!(started.job_id, finished.job_id);
        }
        other => panic!("the first event is the job: {other:?}"),
    }
    let partitions = events
        .map(|event| match event {
            Event::PartitionFlushed(partition) => partition,
            other => panic!("only partitions come between: {other:?}"),
        })
        .collect();
    (partitions, finished)
}

async fn job(client: &Client, job_id: &str) -> Job {
    let request = GetJobRequest { job_id: job_id.to_owned() };
    client.admin().get_job(client.request(request)).await.unwrap().into_inner().job.unwrap()
}

async fn stats(client: &Client, table: &str) -> GetTableStatsResponse {
    let (namespace, table) = (client.namespace_name().to_owned(), table.to_owned());
    let request = GetTableStatsRequest { namespace, table, ..Default::default() };
    client.admin().get_table_stats(client.request(request)).await.unwrap().into_inner()
}

async fn segments(client: &Client, table: &str, user_id: Option<&str>) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSegmentsRequest {
            namespace: client.namespace_name().to_owned(),
            table: table.to_owned(),
            user_id: user_id.map(str::to_owned),
            page_size: 2,
            page_token,
        };
        let page = client.admin().list_segments(client.request(request)).await.unwrap().into_inner();
        assert!(page.segments.len() <= 2);
        segments.extend(page.segments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return segments;
        }
    }
}

/// A USER table `t (id, body)` with `rows` rows for each of three users, one of whom has an odd name.
async fn table_of_three(rows: usize) -> (Client, [&'static str; 3]) {
    let client = client().await;
    let users = ["alice", "bob", "../b\u{f6}b"];
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    for user in users {
        let values: Vec<String> = (0..rows).map(|id| format!("({id}, 'row {id} of {user}')")).collect();
        let sql = format!("INSERT INTO t VALUES {}", values.join(", "));
        client.user(user).run(&sql).await;
    }
    (client, users)
}

#[tokio::test]
async fn a_flush_tells_of_each_partition_and_changes_no_answer() {
    let (client, users) = table_of_three(10).await;
    let all = format!("SELECT _user_id, id, body, _seq FROM {}.all_users.t ORDER BY 1, 2", client.namespace_name());
    let before = client.rows(&all).await;

    let (partitions, finished) = flushed(&client, "t").await;
    let by_user: BTreeMap<&str, &PartitionFlushed> = partitions.iter().map(|p| (p.user_id.as_str(), p)).collect();
    assert_eq!(by_user.keys().copied().collect::<Vec<_>>(), {
        let mut users = users;
        users.sort_unstable();
        users
    });
    for partition in &partitions {
        assert_eq!((partition.rows, partition.segments, partition.storage.as_str()), (10, 1, "local"));
        assert_eq!(partition.job_id, finished.job_id);
        assert!(partition.bytes > 0 && partition.path.ends_with(".parquet"), "{partition:?}");
        assert!(!partition.path.contains(".."), "{partition:?}");
    }
    assert_eq!(finished.status(), JobStatus::Completed, "{finished:?}");
    assert_eq!((finished.rows, finished.partitions, finished.segments), (30, 3, 3));
    assert_eq!((finished.partitions_kept_hot, finished.partitions_failed), (0, 0));
    assert_eq!(finished.bytes, partitions.iter().map(|p| p.bytes).sum::<u64>());
    assert!(finished.took_ms > 0.0 && !finished.message.is_empty(), "{finished:?}");
    assert_eq!(client.rows(&all).await, before);

    let job = job(&client, &finished.job_id).await;
    assert_eq!((job.r#type(), job.status(), job.trigger()), (JobType::Flush, JobStatus::Completed, JobTrigger::Manual));
    assert_eq!((job.namespace.as_str(), job.table.as_str()), (client.namespace_name(), "t"));
    assert!(job.parameters.contains(&"force=true".to_owned()), "{job:?}");
    assert_eq!((job.result.as_str(), job.trace.as_str()), (finished.message.as_str(), ""));
    assert_eq!(job.progress.map(|progress| progress.rows), Some(30));
    assert!(job.memory_used_bytes > 0 && job.cpu_used_ms > 0.0 && !job.node.is_empty(), "{job:?}");
    let times = [job.created_at, job.started_at, job.finished_at].map(|at| at.map(|at| (at.seconds, at.nanos)));
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");

    // Nothing is left to do.
    let (partitions, finished) = flushed(&client, "t").await;
    assert_eq!((partitions.len(), finished.rows, finished.status()), (0, 0, JobStatus::Completed));
}

#[tokio::test]
async fn small_partitions_stay_hot_unless_forced() {
    let (client, _) = table_of_three(2).await;
    let events = flush(&client, FlushTableRequest { force: false, ..order(&client, "t") }).await.unwrap();
    let Some(Event::Finished(finished)) = events.last() else { panic!("{events:?}") };
    assert_eq!((events.len(), finished.rows, finished.partitions_kept_hot), (2, 0, 3), "{finished:?}");
    assert_eq!(finished.status(), JobStatus::Completed);
    assert_eq!(stats(&client, "t").await.stats.map(|stats| (stats.hot_rows, stats.cold_rows)), Some((6, 0)));
}

#[tokio::test]
async fn a_call_need_not_wait() {
    let (client, _) = table_of_three(10).await;
    let request = FlushTableRequest { wait: Some(false), ..order(&client, "t") };
    let events = flush(&client, request).await.unwrap();
    let [Event::Started(started)] = events.as_slice() else { panic!("only the start is told: {events:?}") };
    eventually("the job ends", SOON, || async { job(&client, &started.job_id).await.status() == JobStatus::Completed })
        .await;
    assert_eq!(job(&client, &started.job_id).await.progress.map(|progress| progress.rows), Some(30));

    // Nor does the job stop when nobody listens any more.
    client.run("INSERT INTO t VALUES (100, 'late')").await;
    let mut stream =
        client.flush_service().flush_table(client.request(order(&client, "t"))).await.unwrap().into_inner();
    let Some(Event::Started(started)) = stream.message().await.unwrap().and_then(|answer| answer.event) else {
        panic!("the first event is the job")
    };
    drop(stream);
    eventually("the job ends", SOON, || async { job(&client, &started.job_id).await.status() == JobStatus::Completed })
        .await;
}

#[tokio::test]
async fn tables_without_rows_to_flush_succeed_and_unknown_ones_do_not() {
    let client = client_with_rows().await;
    client.run("CREATE SHARED TABLE empty (id BIGINT PRIMARY KEY)").await;
    client.run("CREATE STREAM TABLE typing (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n INT) TTL '1 hour'").await;
    client.run("INSERT INTO typing (n) VALUES (1)").await;
    for table in ["empty", "typing"] {
        let (partitions, finished) = flushed(&client, table).await;
        assert_eq!((partitions.len(), finished.rows, finished.status()), (0, 0, JobStatus::Completed), "{table}");
        let answer = client.run(&format!("FLUSH TABLE {table} FORCE")).await;
        assert_eq!(answer.affected().row_count, 0, "{table}");
    }
    assert_eq!(client.scalar("SELECT count(*) FROM typing").await, "1");

    let failure = flush(&client, order(&client, "emty")).await.unwrap_err();
    let failure = expect_failure("flush", failure, "TABLE_NOT_FOUND", Code::NotFound);
    assert_eq!(failure.meta("nearest"), "empty");
    let elsewhere = FlushTableRequest { namespace: "nowhere_at_all".to_owned(), ..order(&client, "t") };
    let failure = flush(&client, elsewhere).await.unwrap_err();
    expect_failure("flush", failure, "NAMESPACE_NOT_FOUND", Code::NotFound);
    let of_the_system = FlushTableRequest { namespace: "system".to_owned(), ..order(&client, "tables") };
    let failure = flush(&client, of_the_system).await.unwrap_err();
    assert!(failure.code != Code::Internal && !failure.reason.is_empty(), "{failure:#?}");
    for id in ["5", "x", ""] {
        let request = GetJobRequest { job_id: id.to_owned() };
        let failure = client.admin().get_job(client.request(request)).await.unwrap_err().into();
        expect_failure("GetJob", failure, "JOB_NOT_FOUND", Code::NotFound);
    }
}

#[tokio::test]
async fn all_tables_of_a_namespace_are_flushed() {
    let (client, _) = table_of_three(5).await;
    client.run("CREATE SHARED TABLE board (id TEXT PRIMARY KEY) ACCESS public").await;
    client.run("INSERT INTO board VALUES ('a'), ('b')").await;
    client.run("CREATE SHARED TABLE empty (id TEXT PRIMARY KEY)").await;
    client.run("CREATE STREAM TABLE typing (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID()) TTL '1 hour'").await;
    let request = FlushAllTablesRequest { namespace: client.namespace_name().to_owned(), force: true, wait: None };
    let mut stream = client.flush_service().flush_all_tables(client.request(request)).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(FlushAllTablesResponse { event }) = stream.message().await.unwrap() {
        events.push(event.unwrap());
    }
    let started: BTreeSet<&str> = events
        .iter()
        .filter_map(|event| if let AllEvent::Started(started) = event { Some(started.table.as_str()) } else { None })
        .collect();
    assert_eq!(started, BTreeSet::from(["board", "empty", "t"]), "STREAM tables are left out");
    let Some(AllEvent::AllFinished(all)) = events.last() else { panic!("{events:?}") };
    assert_eq!((all.tables, all.tables_failed, all.rows, all.segments), (3, 0, 17, 4));
    let finished: BTreeMap<&str, u64> =
        events
            .iter()
            .filter_map(|event| {
                if let AllEvent::Finished(table) = event { Some((table.table.as_str(), table.rows)) } else { None }
            })
            .collect();
    assert_eq!(finished, BTreeMap::from([("board", 2), ("empty", 0), ("t", 15)]));

    let elsewhere = FlushAllTablesRequest { namespace: "nowhere_at_all".to_owned(), ..Default::default() };
    let failure = client.flush_service().flush_all_tables(client.request(elsewhere)).await.unwrap_err().into();
    expect_failure("FlushAllTables", failure, "NAMESPACE_NOT_FOUND", Code::NotFound);
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_filtered() {
    let (client, _) = table_of_three(5).await;
    let (_, first) = flushed(&client, "t").await;
    let (_, second) = flushed(&client, "t").await;
    let of_table = ListJobsRequest {
        namespace: client.namespace_name().to_owned(),
        table: "t".to_owned(),
        r#type: JobType::Flush.into(),
        status: JobStatus::Completed.into(),
        page_size: 1,
        page_token: String::new(),
    };
    let page = client.admin().list_jobs(client.request(of_table.clone())).await.unwrap().into_inner();
    assert_eq!(page.jobs.iter().map(|job| &job.job_id).collect::<Vec<_>>(), [&second.job_id]);
    let next = ListJobsRequest { page_token: page.next_page_token, ..of_table.clone() };
    let page = client.admin().list_jobs(client.request(next)).await.unwrap().into_inner();
    assert_eq!(page.jobs.iter().map(|job| &job.job_id).collect::<Vec<_>>(), [&first.job_id]);
    assert_eq!(page.next_page_token, "");

    let failed = ListJobsRequest { status: JobStatus::Failed.into(), ..of_table.clone() };
    assert!(client.admin().list_jobs(client.request(failed)).await.unwrap().into_inner().jobs.is_empty());
    for wrong in [
        ListJobsRequest { status: 99, ..of_table.clone() },
        ListJobsRequest { r#type: 99, ..of_table.clone() },
        ListJobsRequest { namespace: String::new(), ..of_table.clone() },
        ListJobsRequest { page_size: 1_001, ..of_table },
    ] {
        let failure = client.admin().list_jobs(client.request(wrong)).await.unwrap_err().into();
        expect_failure("ListJobs", failure, "INVALID_REQUEST", Code::InvalidArgument);
    }
}

#[tokio::test]
async fn segments_and_statistics_say_where_the_rows_are() {
    let (client, users) = table_of_three(10).await;
    flushed(&client, "t").await;
    client.run("DELETE FROM t WHERE id < 3").await;
    client.run("UPDATE t SET body = 'changed' WHERE id = 5").await;
    client.run("INSERT INTO t VALUES (50, 'hot')").await;

    let total = stats(&client, "t").await;
    let sum = total.stats.unwrap();
    assert_eq!((sum.hot_rows, sum.cold_rows, sum.segments), (2, 26, 3), "{sum:?}");
    assert!(sum.cold_bytes > 0 && sum.hot_bytes > 0 && sum.last_flush_at.is_some(), "{sum:?}");
    let mut by_user: Vec<_> = total
        .partitions
        .iter()
        .map(|partition| (partition.user_id.as_str(), partition.stats.as_ref().map(|s| (s.hot_rows, s.cold_rows))))
        .collect();
    assert!(by_user.is_sorted(), "{by_user:?}");
    by_user.retain(|(user, _)| *user == "alice");
    assert_eq!(by_user, [("alice", Some((2, 6)))]);

    let all = segments(&client, "t", None).await;
    assert_eq!(all.len(), 3);
    let mut users = users;
    users.sort_unstable();
    assert_eq!(all.iter().map(|segment| segment.user_id.as_str()).collect::<Vec<_>>(), users);
    let own = segments(&client, "t", Some("alice")).await;
    let [segment] = own.as_slice() else { panic!("one segment: {own:?}") };
    assert_eq!((segment.rows, segment.deleted_rows, segment.schema_version), (10, 4, 1));
    assert_eq!((segment.min_key.as_str(), segment.max_key.as_str()), ("0", "9"));
    assert!(segment.path.ends_with(&format!("{}.parquet", segment.segment_id)), "{segment:?}");
    assert!(segment.min_commit_seq > 0 && segment.min_commit_seq <= segment.max_commit_seq, "{segment:?}");
    assert_eq!((segment.storage.as_str(), segment.table.as_str()), ("local", "t"));
    assert!(segments(&client, "t", Some("nobody")).await.is_empty());

    let table = GetTableRequest { namespace: client.namespace_name().to_owned(), name: "t".to_owned() };
    let table = client.admin().get_table(client.request(table)).await.unwrap().into_inner().table.unwrap();
    assert_eq!(table.properties.get("storage").map(String::as_str), Some("local"));
}

#[tokio::test]
async fn compaction_merges_segments_and_drops_dead_rows() {
    let (client, _) = table_of_three(10).await;
    flushed(&client, "t").await;
    client.run("INSERT INTO t SELECT x + 100, 'more' FROM (VALUES (1), (2), (3)) AS v(x)").await;
    flushed(&client, "t").await;
    client.run("DELETE FROM t WHERE id IN (1, 101)").await;
    let before = client.rows("SELECT * FROM t ORDER BY id").await;
    assert_eq!(segments(&client, "t", Some("alice")).await.len(), 2);

    let request =
        CompactTableRequest { namespace: client.namespace_name().to_owned(), table: "t".to_owned(), wait: None };
    let job = client.admin().compact_table(client.request(request)).await.unwrap().into_inner().job.unwrap();
    assert_eq!((job.r#type(), job.status()), (JobType::Compaction, JobStatus::Completed), "{job:?}");
    let left = segments(&client, "t", Some("alice")).await;
    assert_eq!(left.iter().map(|segment| (segment.rows, segment.deleted_rows)).collect::<Vec<_>>(), [(11, 0)]);
    assert_eq!(client.rows("SELECT * FROM t ORDER BY id").await, before);
}

#[tokio::test]
async fn storages_are_made_used_and_dropped() {
    let roots = tempfile::tempdir().unwrap();
    let root = roots.path().to_str().unwrap();
    let server = server_with(&[("storage.roots", root)]).await;
    let client = client_of(&server.endpoint()).await;
    let mut admin = client.admin();
    let folder = format!("file://{root}/archive");
    let create = CreateStorageRequest {
        name: "archive".to_owned(),
        r#type: StorageType::Filesystem.into(),
        uri: folder.clone(),
        ..Default::default()
    };
    let created = admin.create_storage(client.request(create.clone())).await.unwrap().into_inner();
    let storage = created.storage.unwrap();
    assert_eq!((created.created, storage.name.as_str(), storage.usage_count), (true, "archive", 0));
    assert!(!storage.has_credentials && storage.uri.contains("archive"), "{storage:?}");
    let again = admin.create_storage(client.request(create.clone())).await.unwrap_err().into();
    expect_failure("CreateStorage", again, "STORAGE_EXISTS", Code::AlreadyExists);
    let quietly = CreateStorageRequest { if_not_exists: true, ..create.clone() };
    assert!(!admin.create_storage(client.request(quietly)).await.unwrap().into_inner().created);

    client.run("CREATE USER TABLE letters (id BIGINT PRIMARY KEY) STORAGE archive").await;
    client.run("INSERT INTO letters VALUES (1), (2)").await;
    let (partitions, _) = flushed(&client, "letters").await;
    assert_eq!(partitions.iter().map(|p| (p.storage.as_str(), p.rows)).collect::<Vec<_>>(), [("archive", 2)]);
    assert!(roots.path().join("archive").join(&partitions[0].path).is_file(), "{partitions:?}");
    let listed = admin.list_storages(client.request(Default::default())).await.unwrap().into_inner().storages;
    assert_eq!(
        listed.iter().map(|s| (s.name.as_str(), s.usage_count)).collect::<Vec<_>>(),
        [("archive", 1), ("local", 0)]
    );
    let drop = DropStorageRequest { name: "archive".to_owned(), if_exists: false };
    let in_use: Failure = admin.drop_storage(client.request(drop.clone())).await.unwrap_err().into();
    let in_use = expect_failure("DropStorage", in_use, "STORAGE_IN_USE", Code::FailedPrecondition);
    assert!(in_use.message.contains(&format!("{}.letters", client.namespace_name())), "{in_use:#?}");

    // Tables created from now on have their files elsewhere; the others keep theirs.
    let alter = AlterStorageRequest {
        name: "archive".to_owned(),
        uri: Some(format!("file://{root}/second")),
        credentials: None,
    };
    let altered = admin.alter_storage(client.request(alter)).await.unwrap().into_inner().storage.unwrap();
    assert!(altered.uri.contains("second"), "{altered:?}");
    client.run("INSERT INTO letters VALUES (3)").await;
    let (partitions, _) = flushed(&client, "letters").await;
    assert!(roots.path().join("archive").join(&partitions[0].path).is_file(), "{partitions:?}");
    assert_eq!(client.scalar("SELECT count(*) FROM letters").await, "3");

    client.run("DROP TABLE letters").await;
    assert!(admin.drop_storage(client.request(drop.clone())).await.unwrap().into_inner().dropped);
    let gone = admin.drop_storage(client.request(drop.clone())).await.unwrap_err().into();
    expect_failure("DropStorage", gone, "STORAGE_NOT_FOUND", Code::NotFound);
    let drop = DropStorageRequest { if_exists: true, ..drop };
    assert!(!admin.drop_storage(client.request(drop)).await.unwrap().into_inner().dropped);
}

#[tokio::test]
async fn storages_that_cannot_be_are_refused_and_secrets_are_not_told() {
    let client = client().await;
    let mut admin = client.admin();
    let create = |uri: &str, storage_type: StorageType| CreateStorageRequest {
        name: "cannot_be".to_owned(),
        r#type: storage_type.into(),
        uri: uri.to_owned(),
        ..Default::default()
    };
    for (request, reason) in [
        (create("file:///etc/kalamdb", StorageType::Filesystem), "INVALID_STORAGE"),
        (create("file:///tmp", StorageType::Unspecified), "INVALID_REQUEST"),
        (CreateStorageRequest { r#type: 77, ..create("file:///tmp", StorageType::S3) }, "INVALID_REQUEST"),
        (create("not a uri", StorageType::S3), "INVALID_STORAGE"),
    ] {
        let shown = format!("{request:?}");
        let failure = admin.create_storage(client.request(request)).await.unwrap_err().into();
        expect_failure(&shown, failure, reason, Code::InvalidArgument);
    }
    let secret = CreateStorageRequest {
        credentials: r#"{"access_key_id": "AK", "secret_access_key": "hush-hush-secret"}"#.to_owned(),
        ..create("s3://bucket/prefix", StorageType::S3)
    };
    let failure: Failure = admin.create_storage(client.request(secret)).await.unwrap_err().into();
    assert!(!failure.reason.is_empty() && !format!("{failure:?}").contains("hush"), "{failure:#?}");
    let listed = admin.list_storages(client.request(Default::default())).await.unwrap().into_inner().storages;
    assert!(listed.iter().all(|storage| storage.name != "cannot_be"));
}

#[tokio::test]
async fn what_only_operators_may_do_is_refused_to_others() {
    for role in ["user", "service"] {
        let server = server_with(&[("server.dev_role", role)]).await;
        let client = Client::connect(&server.endpoint()).await.namespace("n");
        let refused = |failure: Failure| expect_failure(role, failure, "PERMISSION_DENIED", Code::PermissionDenied);
        refused(flush(&client, order(&client, "t")).await.unwrap_err());
        let all = client.flush_service().flush_all_tables(client.request(Default::default())).await;
        refused(all.unwrap_err().into());
        let mut admin = client.admin();
        refused(admin.list_jobs(client.request(Default::default())).await.unwrap_err().into());
        refused(admin.get_job(client.request(Default::default())).await.unwrap_err().into());
        refused(admin.list_storages(client.request(Default::default())).await.unwrap_err().into());
        refused(admin.drop_storage(client.request(Default::default())).await.unwrap_err().into());
        refused(admin.compact_table(client.request(Default::default())).await.unwrap_err().into());
        refused(admin.list_segments(client.request(Default::default())).await.unwrap_err().into());
    }
}

#[tokio::test]
async fn unary_calls_answer_json() {
    let (client, _) = table_of_three(5).await;
    let (_, finished) = flushed(&client, "t").await;
    let address = shared_url().trim_start_matches("http://");
    let call = async |method: &str, body: serde_json::Value| {
        let path = format!("/kalamdb.v1.{method}");
        let json = [("content-type", "application/json")];
        http::request(address, "POST", &path, &json, body.to_string().as_bytes()).await.unwrap()
    };
    let table = serde_json::json!({"namespace": client.namespace_name(), "table": "t"});

    let stats = call("AdminService/GetTableStats", table.clone()).await;
    assert_eq!((stats.status, stats.json()["stats"]["coldRows"].as_str()), (200, Some("15")), "{}", stats.text());
    let segments = call("AdminService/ListSegments", table.clone()).await;
    assert_eq!(segments.json()["segments"].as_array().map(Vec::len), Some(3), "{}", segments.text());
    let job = call("AdminService/GetJob", serde_json::json!({"jobId": finished.job_id})).await;
    assert_eq!(job.json()["job"]["status"], "JOB_STATUS_COMPLETED", "{}", job.text());
    let jobs = call("AdminService/ListJobs", serde_json::json!({"type": "JOB_TYPE_FLUSH"})).await;
    assert!(jobs.json()["jobs"].as_array().is_some_and(|jobs| !jobs.is_empty()), "{}", jobs.text());
    let storages = call("AdminService/ListStorages", serde_json::json!({})).await;
    let local = storages.json()["storages"].as_array().unwrap().iter().any(|s| s["name"] == "local");
    assert!(local, "{}", storages.text());
    let stream = call("FlushService/FlushTable", table).await;
    assert_eq!((stream.status, stream.json()["code"].as_str()), (501, Some("unimplemented")), "{}", stream.text());
}

#[tokio::test]
async fn a_server_that_stops_flushes_its_tables() {
    let mut server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    let values: Vec<String> = (0..5_000).map(|id| format!("({id}, 'row {id}')")).collect();
    client.run(&format!("INSERT INTO s VALUES {}", values.join(", "))).await;
    assert_eq!(server.terminate().await.unwrap().status.code(), Some(0), "{}", server.stderr_tail());

    server.restart().await.unwrap();
    let again = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
    let sum = stats(&again, "s").await.stats.unwrap();
    assert_eq!((sum.hot_rows, sum.cold_rows), (0, 5_000), "{}", server.stderr_tail());
    assert_eq!(again.scalar("SELECT sum(id) FROM s").await, (0..5_000).sum::<i64>().to_string());
    let request = ListJobsRequest { r#type: JobType::Flush.into(), ..Default::default() };
    let jobs = again.admin().list_jobs(again.request(request)).await.unwrap().into_inner().jobs;
    assert!(jobs.iter().any(|job| job.trigger() == JobTrigger::Shutdown), "{jobs:#?}");
}

#[tokio::test]
async fn a_server_may_be_told_to_stop_without_flushing() {
    let mut server = start(configured(&[("shutdown.flush_timeout_s", "0")])).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY) ACCESS public").await;
    client.run("INSERT INTO s SELECT x.a FROM generate_series(1, 5000) AS x(a)").await;
    assert_eq!(server.terminate().await.unwrap().status.code(), Some(0));
    server.restart().await.unwrap();
    let again = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
    assert_eq!(stats(&again, "s").await.stats.map(|sum| (sum.hot_rows, sum.cold_rows)), Some((5_000, 0)));
}

#[tokio::test]
async fn metrics_tell_the_sizes_of_both_tiers() {
    let server = server_with(&[]).await;
    let metrics =
        || async { http::request(&server.address().to_string(), "GET", "/metrics", &[], b"").await.unwrap().text() };
    eventually("sizes are measured", SOON, || async {
        let text = metrics().await;
        let expected = [
            "kalamdb_keyspace_disk_bytes{keyspace=\"rows\"}",
            "kalamdb_keyspace_entries{keyspace=\"log\"}",
            "kalamdb_storage_segments{storage=\"local\"} 0",
        ];
        expected.iter().all(|name| text.contains(name))
    })
    .await;
}

#[tokio::test]
async fn the_rust_client_flushes() {
    use futures::StreamExt;

    let (raw, _) = table_of_three(5).await;
    let namespace = raw.namespace_name();
    let client = kalam_link::Client::connect(shared_url()).await.unwrap();
    let job_id = client.flush_table(namespace, "t").force(true).start().await.unwrap();
    eventually("the job ends", SOON, || async { client.admin().get_job(&job_id).await.unwrap().status.has_ended() })
        .await;
    assert_eq!(client.admin().table_stats(namespace, "t").await.unwrap().cold_rows, 15);
    assert_eq!(client.admin().partition_stats(namespace, "t").await.unwrap().len(), 3);
    assert_eq!(client.admin().list_segments(namespace, "t", None).await.unwrap().len(), 3);

    raw.run("INSERT INTO t VALUES (70, 'more')").await;
    let events: Vec<_> =
        client.flush_table(namespace, "t").force(true).stream().await.unwrap().map(Result::unwrap).collect().await;
    assert!(matches!(events.first(), Some(FlushEvent::Started(_))), "{events:?}");
    assert!(matches!(&events[1], FlushEvent::PartitionFlushed(p) if p.user_id.as_deref() == Some("alice")));
    assert!(matches!(events.last(), Some(FlushEvent::Finished(end)) if end.rows == 1), "{events:?}");

    let none = client.flush_table(namespace, "t").wait().await.unwrap();
    assert_eq!((none.status, none.rows), (LinkJobStatus::Completed, 0));
    let all = client.flush_all().namespace(namespace).wait().await.unwrap();
    assert_eq!((all.tables, all.tables_failed), (1, 0));
    let error = client.flush_table(namespace, "nothing").wait().await.unwrap_err();
    assert_eq!(error.reason(), Some("TABLE_NOT_FOUND"));
    let compacted = client.admin().compact_table(namespace, "t").await.unwrap();
    assert_eq!(compacted.status, LinkJobStatus::Completed);
}
