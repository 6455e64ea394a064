use super::*;

fn shelves(ids: impl IntoIterator<Item = u64>) -> Shelves {
    Shelves { notices: ids.into_iter().collect(), ..Shelves::default() }
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let mut shelves = shelves([10, 20, 30, 40]);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 3, 0), [10]);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 3, 0), [0; 0]);
    assert_eq!(shelves.notices, [20, 30, 40]);
    assert_eq!(shelves.take_surplus(Shelf::Administration, 1, 100), [0; 0]);
}

#[test]
fn those_too_old_go_too() {
    let mut shelves = shelves([10, 20, 30, 40]);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 100, 30), [10, 20]);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 1, 30), [30]);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 100, u64::MAX), [40]);
}

#[test]
fn one_commit_does_not_remove_without_end() {
    let mut shelves = shelves(0..MAX_REMOVED as u64 + 7);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 2, 0).len(), MAX_REMOVED);
    assert_eq!(shelves.take_surplus(Shelf::Notices, 2, 0).len(), 5);
}
