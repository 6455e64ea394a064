//! An oracle that cannot see a loss proves nothing, so each kind of loss is planted here.

use super::*;

fn insert(keys: impl IntoIterator<Item = i64>, body: &str) -> Statement {
    Statement::Insert { keys: keys.into_iter().collect(), body: body.to_owned() }
}

fn update(first: i64, last: i64, body: &str) -> Statement {
    Statement::Update { first, last, body: body.to_owned() }
}

/// Rows 1 to 10, acknowledged.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.begin(insert(1..=10, "a")), 10);
    ledger.acknowledge();
    ledger
}

#[test]
fn what_is_acknowledged_and_stored_is_right() {
    let mut ledger = ledger();
    let stored = ledger.rows().clone();
    assert_eq!(ledger.settle(stored), Ok(Fate::None));
}

#[test]
fn a_lost_row_is_found() {
    let mut ledger = ledger();
    let mut stored = ledger.rows().clone();
    stored.remove(&7);
    assert_eq!(ledger.settle(stored).unwrap_err().lost, [7]);
}

#[test]
fn a_lost_update_is_found() {
    let mut ledger = ledger();
    let before = ledger.rows().clone();
    assert_eq!(ledger.begin(update(3, 4, "b")), 2);
    ledger.acknowledge();
    assert_eq!(ledger.settle(before).unwrap_err().changed, [3, 4]);
}

#[test]
fn a_lost_delete_is_found() {
    let mut ledger = ledger();
    let before = ledger.rows().clone();
    assert_eq!(ledger.begin(Statement::Delete { first: 9, last: 20 }), 2);
    ledger.acknowledge();
    assert_eq!(ledger.settle(before).unwrap_err().surplus, [9, 10]);
}

#[test]
fn a_statement_in_flight_may_be_there_or_not() {
    for (present, fate) in [(true, Fate::Applied), (false, Fate::Absent)] {
        let mut ledger = ledger();
        let statement = update(1, 5, "b");
        let after = statement.apply(ledger.rows()).0;
        let stored = if present { after } else { ledger.rows().clone() };
        ledger.begin(statement);
        assert_eq!(ledger.settle(stored.clone()), Ok(fate));
        assert_eq!(ledger.rows(), &stored, "the ledger goes on from what is stored");
    }
}

#[test]
fn half_a_statement_is_found() {
    let mut ledger = ledger();
    let statement = update(1, 5, "b");
    let after = statement.apply(ledger.rows()).0;
    let mut torn = ledger.rows().clone();
    torn.insert(1, after[&1].clone());
    ledger.begin(statement.clone());
    let discrepancy = ledger.settle(torn).unwrap_err();
    assert_eq!((discrepancy.changed, discrepancy.in_flight), (vec![1], Some(statement)));
}

#[test]
fn a_statement_in_flight_does_not_excuse_the_loss_of_another_row() {
    let mut ledger = ledger();
    let statement = insert(11..=12, "b");
    let mut stored = statement.apply(ledger.rows()).0;
    stored.remove(&2);
    ledger.begin(statement);
    assert_eq!(ledger.settle(stored).unwrap_err().lost, [2]);
}

#[test]
fn an_upsert_counts_versions_up() {
    let ledger = ledger();
    let (after, affected) = Statement::Upsert { keys: vec![10, 11], body: "b".to_owned() }.apply(ledger.rows());
    assert_eq!((affected, after[&10].version, after[&11].version), (2, 2, 1));
}
