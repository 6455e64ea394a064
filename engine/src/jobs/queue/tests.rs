use super::*;
use crate::jobs::record::{JobId, JobProgress, JobRecord, JobStatus, JobTrigger};

fn work(table: u32, force: bool) -> Work {
    Work { job_type: JobType::Flush, table: TableId::new(table), force }
}

fn job(id: i64) -> Arc<LiveJob> {
    Arc::new(LiveJob::new(JobRecord {
        id: JobId::new(id),
        job_type: JobType::Flush,
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

fn next(queue: &mut JobQueue) -> Option<Work> {
    queue.next(|_| Some(())).map(|(waiting, ())| waiting.work)
}

#[test]
fn a_table_has_one_job_of_a_type_at_a_time_and_the_others_wait() {
    let mut queue = JobQueue::default();
    let compaction = Work { job_type: JobType::Compaction, ..work(1, false) };
    for (id, work) in [work(1, false), work(1, true), compaction, work(2, false)].into_iter().enumerate() {
        queue.push(work, || job(id as i64)).unwrap();
    }
    assert_eq!(next(&mut queue), Some(work(1, false)));
    assert_eq!(next(&mut queue), Some(compaction));
    assert_eq!(next(&mut queue), Some(work(2, false)));
    assert_eq!(next(&mut queue), None);
    assert!(queue.waits(JobType::Flush, TableId::new(1)) && !queue.waits(JobType::Flush, TableId::new(2)));
    queue.done(&work(1, false));
    assert_eq!(next(&mut queue), Some(work(1, true)));
}

#[test]
fn an_equal_request_that_waits_is_taken_for_a_new_one() {
    let mut queue = JobQueue::default();
    let first = queue.push(work(1, false), || job(1)).unwrap();
    assert!(Arc::ptr_eq(&first, &queue.push(work(1, false), || job(2)).unwrap()));
    assert_eq!(next(&mut queue), Some(work(1, false)));
    let later = queue.push(work(1, false), || job(3)).unwrap();
    assert!(!Arc::ptr_eq(&first, &later), "one that runs may have looked already");
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn a_type_without_a_free_place_holds_up_no_other() {
    let mut queue = JobQueue::default();
    let compaction = Work { job_type: JobType::Compaction, ..work(1, false) };
    queue.push(work(1, false), || job(1)).unwrap();
    queue.push(compaction, || job(2)).unwrap();
    let taken = queue.next(|job_type| (job_type == JobType::Compaction).then_some(()));
    assert_eq!(taken.map(|(waiting, ())| waiting.work), Some(compaction));
}

#[test]
fn the_queue_is_bounded() {
    let mut queue = JobQueue::default();
    for table in 0..MAX_WAITING as u32 {
        queue.push(work(table, false), || job(1)).unwrap();
    }
    assert_eq!(queue.push(work(0, true), || job(2)).unwrap_err().reason(), Reason::TooManyRequests);
    assert!(queue.push(work(0, false), || job(2)).is_ok(), "it waits already");
    assert_eq!(queue.close().len(), MAX_WAITING);
    assert_eq!(queue.push(work(0, false), || job(2)).unwrap_err().reason(), Reason::ShuttingDown);
}
