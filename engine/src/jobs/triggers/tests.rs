use super::*;

const TABLE: TableId = TableId::new(7);
const CREATED_US: i64 = 1_000 * SECOND_US;

fn at(seconds: i64) -> Moment {
    Moment { now_us: CREATED_US + seconds * SECOND_US, now: Instant::now(), quiet_us: 3_600 * SECOND_US }
}

fn due_at(triggers: &Triggers, policy: FlushPolicy, moment: Moment) -> Option<JobTrigger> {
    triggers.due(TABLE, &policy, || CREATED_US, moment)
}

const ROWS: FlushPolicy = FlushPolicy { rows: Some(100), interval_s: None };
const INTERVAL: FlushPolicy = FlushPolicy { rows: None, interval_s: Some(60) };
const BOTH: FlushPolicy = FlushPolicy { rows: Some(100), interval_s: Some(60) };

#[test]
fn rows_are_due_at_their_number() {
    let triggers = Triggers::default();
    triggers.written.add(TABLE, 99);
    assert_eq!(due_at(&triggers, ROWS, at(0)), None);
    triggers.written.add(TABLE, 1);
    assert_eq!(due_at(&triggers, ROWS, at(0)), Some(JobTrigger::Rows));
    assert_eq!(triggers.begun(TABLE, at(0).now_us), 100);
    assert_eq!(due_at(&triggers, ROWS, at(0)), None);
    assert_eq!(due_at(&triggers, ROWS, at(1_000_000)), None);
}

#[test]
fn an_interval_is_due_when_it_has_passed_and_something_was_written() {
    let triggers = Triggers::default();
    assert_eq!(due_at(&triggers, INTERVAL, at(61)), None);
    triggers.written.add(TABLE, 1);
    assert_eq!(due_at(&triggers, INTERVAL, at(59)), None);
    assert_eq!(due_at(&triggers, INTERVAL, at(60)), Some(JobTrigger::Interval));
    triggers.begun(TABLE, at(60).now_us);
    triggers.completed(TABLE, at(60).now_us);
    triggers.written.add(TABLE, 1);
    assert_eq!(due_at(&triggers, INTERVAL, at(119)), None);
    assert_eq!(due_at(&triggers, INTERVAL, at(120)), Some(JobTrigger::Interval));
    assert_eq!(due_at(&triggers, BOTH, at(120)), Some(JobTrigger::Interval));
}

#[test]
fn a_quiet_table_is_looked_at_now_and_then() {
    let triggers = Triggers::default();
    assert_eq!(due_at(&triggers, INTERVAL, at(3_599)), None);
    assert_eq!(due_at(&triggers, INTERVAL, at(3_600)), Some(JobTrigger::Interval));
}

#[test]
fn a_failed_flush_is_not_repeated_at_once() {
    let triggers = Triggers::default();
    triggers.written.add(TABLE, 150);
    let moment = at(0);
    let written = triggers.begun(TABLE, moment.now_us);
    triggers.failed(TABLE, written, moment.now);
    assert_eq!(triggers.written.get(TABLE), 150);
    assert_eq!(due_at(&triggers, ROWS, moment), None);
    let later = Moment { now: moment.now + FIRST_WAIT, ..moment };
    assert_eq!(due_at(&triggers, ROWS, later), Some(JobTrigger::Rows));
    let written = triggers.begun(TABLE, moment.now_us);
    triggers.failed(TABLE, written, later.now);
    assert_eq!(due_at(&triggers, ROWS, Moment { now: later.now + FIRST_WAIT, ..moment }), None);
    assert_eq!(due_at(&triggers, ROWS, Moment { now: later.now + 2 * FIRST_WAIT, ..moment }), Some(JobTrigger::Rows));
}

#[test]
fn time_counts_on_when_the_clock_is_set_back() {
    let triggers = Triggers::default();
    triggers.written.add(TABLE, 1);
    assert_eq!(due_at(&triggers, INTERVAL, at(-10_000)), None);
    assert_eq!(due_at(&triggers, INTERVAL, at(-9_941)), None);
    assert_eq!(due_at(&triggers, INTERVAL, at(-9_940)), Some(JobTrigger::Interval));
}
