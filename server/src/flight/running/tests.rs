use super::*;
use crate::flight::seal::Sealed;

fn ticket(purpose: Purpose, origin: u64) -> Opened {
    Opened { purpose, sealed: Sealed::new("SELECT 1", None), origin }
}

fn tickets() -> Arc<Tickets> {
    Tickets::new(Duration::from_secs(60))
}

fn reason(outcome: Result<Turn, Error>) -> Option<Reason> {
    outcome.err().map(|error| error.reason())
}

#[test]
fn a_write_runs_once_and_a_read_any_number_of_times() {
    let tickets = tickets();
    for _ in 0..3 {
        assert_eq!(reason(tickets.begin(&ticket(Purpose::Read, 1))), None);
    }
    assert_eq!(reason(tickets.begin(&ticket(Purpose::Write, 2))), None);
    for _ in 0..3 {
        assert_eq!(reason(tickets.begin(&ticket(Purpose::Write, 2))), Some(Reason::TicketInvalid));
    }
}

#[test]
fn what_is_forgotten_counts_as_used() {
    let mut used = Used::default();
    assert!(used.take(5, 3) && used.take(2, 3) && used.take(9, 3));
    assert!(!used.take(5, 3) && !used.take(2, 3));
    // One more than are remembered: the oldest goes, and all before it.
    assert!(used.take(7, 3));
    assert_eq!(used.numbers.len(), 3);
    for number in [1, 2] {
        assert!(!used.take(number, 3), "{number}");
    }
    assert!(used.take(3, 3), "later than what was forgotten");
    for number in 0..=3 {
        assert!(!used.take(number, 3), "{number}");
    }
    // However many follow, no number is good twice.
    let mut used = Used::default();
    for number in 0..1_000 {
        assert!(used.take(number, 10));
        assert!((0..=number).all(|number| !used.take(number, 10)));
    }
    assert_eq!(used.numbers.len(), 10);
}

#[test]
fn writes_stay_used_when_many_follow() {
    let tickets = tickets();
    for origin in 1..=MAX_REMEMBERED as u64 + 1_000 {
        assert_eq!(reason(tickets.begin(&ticket(Purpose::Write, origin))), None, "{origin}");
    }
    for origin in [1, 2, 1_000, 1_001, 50_000, MAX_REMEMBERED as u64 + 1_000] {
        let again = tickets.begin(&ticket(Purpose::Write, origin));
        assert_eq!(reason(again), Some(Reason::TicketInvalid), "{origin}");
    }
}

#[test]
fn what_was_cancelled_last_is_remembered() {
    let tickets = tickets();
    let last = MAX_REMEMBERED as u64 + 1_000;
    for origin in 0..=last {
        assert_eq!(tickets.cancel(&ticket(Purpose::Read, origin)), CancelStatus::Cancelled);
    }
    tickets.cancelled.run_pending_tasks();
    for origin in last - 10_000..=last {
        let refused = tickets.begin(&ticket(Purpose::Read, origin));
        assert_eq!(reason(refused), Some(Reason::StatementCancelled), "{origin}");
    }
}

#[test]
fn cancelling_ends_what_is_read() {
    let tickets = tickets();
    let (first, renewed) = (ticket(Purpose::Read, 1), ticket(Purpose::Read, 1));
    let turn = tickets.begin(&renewed).unwrap();
    let other = tickets.begin(&ticket(Purpose::Read, 2)).unwrap();
    assert_eq!(tickets.cancel(&first), CancelStatus::Cancelled);
    assert!(turn.cancelled().is_cancelled() && !other.cancelled().is_cancelled());
    drop(turn);
    assert_eq!(reason(tickets.begin(&renewed)), Some(Reason::StatementCancelled));
    assert_eq!(tickets.check(&renewed).unwrap_err().reason(), Reason::StatementCancelled);
    // What was run when the ticket was made cannot be stopped.
    let done = ticket(Purpose::Done, 3);
    assert_eq!(tickets.cancel(&done), CancelStatus::NotCancellable);
    assert_eq!(reason(tickets.begin(&done)), None);
    drop(other);
    assert!(tickets.reading.lock().is_empty());
}
