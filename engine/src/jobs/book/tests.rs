use kalamdb_store::{
    commit::CommitSettings,
    kv::{MemoryBackend, StorageBackend},
};

use super::*;
use crate::jobs::record::{JobProgress, JobTrigger};

fn job(id: i64, job_type: JobType) -> Arc<LiveJob> {
    Arc::new(LiveJob::new(JobRecord {
        id: JobId::new(id),
        job_type,
        status: JobStatus::Queued,
        trigger: JobTrigger::Manual,
        table: None,
        force: false,
        details: Vec::new(),
        resumes: None,
        attempt: 0,
        result: None,
        trace: None,
        reason: None,
        memory_used_bytes: 0,
        cpu_used_us: 0,
        node: 0,
        created_at_us: 0,
        started_at_us: None,
        finished_at_us: None,
        progress: JobProgress::default(),
        failed_partitions: Vec::new(),
    }))
}

async fn run(book: &JobBook, id: i64, job_type: JobType) {
    let job = job(id, job_type);
    book.add(&job);
    book.began(&job, 1).await.unwrap();
    book.ended(&job, Outcome::completed("done"), None, 2).await;
}

#[tokio::test]
async fn exports_wash_no_other_records_away() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = Committer::start(Arc::clone(&backend), CommitSettings::default(), None).unwrap();
    let load = || JobBook::load(backend.snapshot().as_ref(), committer.clone()).unwrap();
    let book = load();
    run(&book, 1, JobType::Flush).await;
    run(&book, 2, JobType::Backup).await;
    let exports = MAX_EXPORT_RECORDS as i64 + 100;
    for id in 3..3 + exports {
        run(&book, id, JobType::Export).await;
    }
    run(&book, 10_000, JobType::Restore).await;
    let ids = |book: &JobBook| book.list().iter().map(|record| record.id.get()).collect::<Vec<_>>();
    let kept = ids(&book);
    assert_eq!(kept.len(), MAX_EXPORT_RECORDS + 3);
    assert_eq!((kept[0], kept[1], kept[MAX_EXPORT_RECORDS]), (10_000, 2 + exports, 103));
    assert_eq!(kept[MAX_EXPORT_RECORDS + 1..], [2, 1]);
    assert!(book.record(JobId::new(103)).is_some() && book.record(JobId::new(102)).is_none());
    // The store has the same.
    let again = load();
    assert_eq!(ids(&again), kept);
    assert_eq!(again.last_id(), Some(JobId::new(10_000)));
}

#[tokio::test]
async fn an_export_that_did_not_end_is_found_interrupted() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = Committer::start(Arc::clone(&backend), CommitSettings::default(), None).unwrap();
    let book = JobBook::load(backend.snapshot().as_ref(), committer.clone()).unwrap();
    for (id, job_type) in [(1, JobType::Flush), (2, JobType::Export)] {
        book.began(&job(id, job_type), 1).await.unwrap();
    }
    let later = JobBook::load(backend.snapshot().as_ref(), committer).unwrap();
    assert_eq!(later.last_id(), Some(JobId::new(2)));
    let found = later.mark_interrupted(5).await.unwrap();
    assert_eq!(found.iter().map(|record| record.id.get()).collect::<Vec<_>>(), [1, 2]);
    assert!(later.list().iter().all(|record| record.status == JobStatus::Interrupted));
}
