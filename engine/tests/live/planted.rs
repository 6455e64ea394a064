//! The checker finds what it is there to find: sequences that are right pass, and each kind of mistake is reported.

use kalamdb_engine::{ChangeKind, InitialRows, Reason};

use super::{
    Row,
    checker::{Base, Change, Checker, Fault, Finding, History, Lens, Seen},
};

fn base(id: i64, n: i64, seq: u64) -> Base {
    Base { id, n: Some(n), name: None, seq }
}

/// `SELECT id, n FROM t WHERE n > 10`.
fn lens() -> Lens {
    Lens {
        columns: "id, n",
        filter: "WHERE n > 10",
        parameters: Vec::new(),
        holds: |row| row.n.is_some_and(|n| n > 10),
        shows: |row, _| vec![row.id.to_string(), row.n.map_or("NULL".to_owned(), |n| n.to_string())],
    }
}

fn history() -> History {
    let mut history = History::default();
    history.commit(3, vec![(1, Some(base(1, 11, 3))), (2, Some(base(2, 5, 3)))]);
    history.commit(5, vec![(2, Some(base(2, 12, 5)))]);
    history.commit(6, vec![(3, Some(base(3, 30, 6))), (4, Some(base(4, 1, 6)))]);
    history.commit(8, vec![(1, Some(base(1, 13, 8)))]);
    history.commit(9, vec![(2, Some(base(2, 2, 9)))]);
    history.commit(10, vec![(4, None)]);
    history.commit(11, vec![(3, None)]);
    history
}

fn row(id: i64, n: i64) -> Row {
    vec![id.to_string(), n.to_string()]
}

fn commit(seq: u64, changes: Vec<Change>) -> Seen {
    Seen::Commit { seq, token: String::new(), merged: false, changes, published: seq }
}

fn came(new: Row) -> Change {
    Change { kind: ChangeKind::Insert, new: Some(new), old: None }
}

fn changed(old: Row, new: Row) -> Change {
    Change { kind: ChangeKind::Update, new: Some(new), old: Some(old) }
}

fn went(old: Row) -> Change {
    Change { kind: ChangeKind::Delete, new: None, old: Some(old) }
}

fn progress(seq: u64) -> Seen {
    Seen::Progress { seq, token: String::new() }
}

fn ready(seq: u64, row_count: u64) -> Seen {
    Seen::Ready { seq, token: String::new(), row_count }
}

/// Everything as it must be.
fn right() -> Vec<Seen> {
    vec![
        Seen::Connected { after: None },
        Seen::Rows(vec![row(1, 11)]),
        ready(4, 1),
        commit(5, vec![came(row(2, 12))]),
        commit(6, vec![came(row(3, 30))]),
        progress(7),
        commit(8, vec![changed(row(1, 11), row(1, 13))]),
        Seen::Connected { after: Some(8) },
        ready(8, 0),
        commit(9, vec![went(row(2, 12))]),
        progress(10),
        commit(11, vec![went(row(3, 30))]),
        progress(12),
    ]
}

/// Places in [`right`].
const COMMIT_5: usize = 3;
const COMMIT_6: usize = 4;
const LEAVE: usize = 9;

fn findings(seen: &[Seen]) -> Vec<Finding> {
    Checker::new(lens(), InitialRows::All, true).check(seen, &history())
}

#[track_caller]
fn is_found(fault: Fault, seen: &[Seen]) {
    let findings = findings(seen);
    assert!(findings.iter().any(|finding| finding.fault == fault), "{fault:?} was not found, but {findings:?}");
}

#[test]
fn what_is_right_passes() {
    let mut checker = Checker::new(lens(), InitialRows::All, true);
    let findings = checker.check(&right(), &history());
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((checker.at(), checker.held()), (Some(12), vec![row(1, 13)]));
    // The same, looked at in parts, with what is past forgotten.
    let (mut checker, mut history) = (Checker::new(lens(), InitialRows::All, true), history());
    for seen in right() {
        let findings = checker.check(std::slice::from_ref(&seen), &history);
        assert!(findings.is_empty(), "{seen:?}: {findings:?}");
        history.forget_before(checker.at().unwrap_or_default());
    }
    assert_eq!(history.len(), 0);
}

#[test]
fn a_dropped_change_is_found() {
    let mut seen = right();
    seen.remove(COMMIT_6);
    is_found(Fault::Missed, &seen);
    // One of several in a commit.
    let mut seen = right();
    seen[COMMIT_6] = commit(6, vec![]);
    is_found(Fault::Wrong, &seen);
    // The last of all, by the progress that follows.
    let mut seen = right();
    seen.remove(11);
    is_found(Fault::Missed, &seen);
}

#[test]
fn a_skipped_leave_is_found() {
    let mut seen = right();
    seen.remove(LEAVE);
    is_found(Fault::Missed, &seen);
    let mut seen = right();
    seen[LEAVE] = commit(9, vec![changed(row(2, 12), row(2, 2))]);
    is_found(Fault::Wrong, &seen);
}

#[test]
fn a_duplicate_is_found() {
    let mut seen = right();
    seen.insert(COMMIT_5, seen[COMMIT_5].clone());
    is_found(Fault::Double, &seen);
    // A change that is in the rows already.
    let mut seen = right();
    seen.insert(COMMIT_5, commit(3, vec![came(row(1, 11))]));
    is_found(Fault::Reordered, &seen);
    // A change at or below the token.
    let mut seen = right();
    seen.insert(LEAVE, commit(8, vec![changed(row(1, 11), row(1, 13))]));
    is_found(Fault::Double, &seen);
    // Twice in one commit.
    let mut seen = right();
    seen[COMMIT_5] = commit(5, vec![came(row(2, 12)), came(row(2, 12))]);
    is_found(Fault::Wrong, &seen);
    // Twice among the rows.
    let mut seen = right();
    seen[1] = Seen::Rows(vec![row(1, 11), row(1, 11)]);
    is_found(Fault::Double, &seen);
}

#[test]
fn a_reordering_is_found() {
    let mut seen = right();
    seen.swap(COMMIT_5, COMMIT_6);
    is_found(Fault::Reordered, &seen);
    // Progress that overtakes a change.
    let mut seen = right();
    seen.swap(5, 6);
    seen[5] = progress(8);
    is_found(Fault::Missed, &seen);
    // Progress that goes back.
    let mut seen = right();
    seen[5] = progress(4);
    is_found(Fault::Reordered, &seen);
}

#[test]
fn a_change_before_its_commit_is_visible_is_found() {
    let mut seen = right();
    let Seen::Commit { published, .. } = &mut seen[COMMIT_5] else { panic!() };
    *published = 4;
    is_found(Fault::Unpublished, &seen);
}

#[test]
fn wrong_rows_are_found() {
    // A row that the snapshot does not have yet, or no longer; and one that the filter hides.
    for rows in [vec![row(1, 11), row(2, 12)], vec![], vec![row(1, 11), row(2, 5)], vec![row(1, 12)]] {
        let mut seen = right();
        seen[2] = ready(4, rows.len() as u64);
        seen[1] = Seen::Rows(rows);
        is_found(Fault::Wrong, &seen);
    }
    let mut seen = right();
    seen[2] = ready(4, 5);
    is_found(Fault::Protocol, &seen);
}

#[test]
fn wrong_images_are_found() {
    let mut seen = right();
    seen[6] = commit(8, vec![changed(row(1, 10), row(1, 13))]);
    is_found(Fault::Wrong, &seen);
    let mut seen = right();
    seen[6] = commit(8, vec![Change { old: None, ..changed(row(1, 11), row(1, 13)) }]);
    is_found(Fault::Wrong, &seen);
    let mut seen = right();
    seen[6] = commit(8, vec![came(row(1, 13))]);
    is_found(Fault::Wrong, &seen);
}

#[test]
fn events_out_of_place_are_found() {
    let mut seen = right();
    seen.insert(5, Seen::Rows(vec![row(9, 99)]));
    is_found(Fault::Protocol, &seen);
    let mut seen = right();
    seen.insert(1, progress(4));
    is_found(Fault::Protocol, &seen);
    let mut seen = right();
    seen.insert(2, Seen::Reset { reason: Reason::ChangesExpired });
    is_found(Fault::Protocol, &seen);
    // It goes on elsewhere than where the token says.
    let mut seen = right();
    seen[8] = ready(9, 0);
    is_found(Fault::Missed, &seen);
    let mut seen = right();
    seen.insert(5, Seen::Ended { reason: Reason::SlowConsumer, token: None });
    is_found(Fault::Protocol, &seen);
}

#[test]
fn a_reset_begins_anew() {
    let reset = |rows: Vec<Row>| {
        let mut seen = right()[..9].to_vec();
        let row_count = rows.len() as u64;
        seen[8] = Seen::Reset { reason: Reason::ChangesExpired };
        seen.extend([Seen::Rows(rows), ready(10, row_count), commit(11, vec![went(row(3, 30))])]);
        seen
    };
    assert!(findings(&reset(vec![row(1, 13), row(3, 30)])).is_empty());
    is_found(Fault::Wrong, &reset(vec![row(1, 13)]));
}

fn merged(seq: u64, changes: Vec<Change>) -> Seen {
    Seen::Commit { seq, token: String::new(), merged: true, changes, published: seq }
}

fn with_merged(changes: Vec<Change>) -> Vec<Seen> {
    let mut seen = right()[..3].to_vec();
    seen.extend([merged(9, changes), commit(11, vec![went(row(3, 30))])]);
    seen
}

#[test]
fn merged_changes_are_checked_by_their_effect() {
    let net = vec![came(row(3, 30)), changed(row(1, 11), row(1, 13))];
    assert!(findings(&with_merged(net.clone())).is_empty());
    is_found(Fault::Wrong, &with_merged(net[..1].to_vec()));
    // A row that came and went within is not there.
    is_found(Fault::Wrong, &with_merged([net.clone(), vec![came(row(2, 12))]].concat()));
    is_found(Fault::Wrong, &with_merged([net.clone(), vec![went(row(2, 12))]].concat()));
    is_found(Fault::Wrong, &with_merged(vec![came(row(3, 30)), changed(row(1, 12), row(1, 13))]));
    is_found(Fault::Wrong, &with_merged(vec![came(row(3, 30)), came(row(1, 13))]));
}

#[test]
fn the_rows_written_last_are_checked() {
    let last = |most: u64, rows: Vec<Row>| {
        let row_count = rows.len() as u64;
        let seen = [Seen::Connected { after: None }, Seen::Rows(rows), ready(8, row_count)];
        Checker::new(lens(), InitialRows::Last(most), true).check(&seen, &history())
    };
    assert!(last(2, vec![row(3, 30), row(1, 13)]).is_empty());
    assert!(last(9, vec![row(2, 12), row(3, 30), row(1, 13)]).is_empty());
    assert!(last(0, vec![]).is_empty());
    for wrong in [vec![row(1, 13), row(3, 30)], vec![row(1, 13)], vec![row(2, 12), row(1, 13)]] {
        assert!(!last(2, wrong).is_empty());
    }
}
