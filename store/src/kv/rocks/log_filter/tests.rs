use super::*;
use crate::codec::{log_key, row_prefix};
use crate::ids::{Owner, Partition, TableId, UserId};

fn partition(owner: &str) -> Partition {
    Partition { table: TableId::new(7), owner: Owner::User(UserId::new(owner).unwrap()) }
}

fn is_dropped(filter: &mut LogFilter, key: &[u8]) -> bool {
    match filter.filter(6, key, b"value") {
        CompactionDecision::Remove => true,
        CompactionDecision::Keep => false,
        CompactionDecision::Change(_) => panic!("a filter changes nothing"),
    }
}

#[test]
fn drops_what_was_given_up_and_nothing_else() {
    let trim = Arc::new(LogTrim::default());
    let mut factory = LogFilterFactory(trim.clone());
    let mut before = LogFilter::new(factory.0.clone());
    trim.raise_floor(CommitSeq::new(300));
    trim.raise_floor(CommitSeq::new(5));
    let mut filter = factory.create(CompactionFilterContext { is_full_compaction: true, is_manual_compaction: false });
    for owner in ["ana", "a\0b", "\u{ff}\0"] {
        for (seq, dropped) in [(1, true), (255, true), (256, true), (300, true), (301, false), (u64::MAX, false)] {
            let key = log_key(&partition(owner), CommitSeq::new(seq));
            assert_eq!(is_dropped(&mut filter, &key), dropped, "{owner:?} {seq}");
            assert!(!is_dropped(&mut before, &key), "the floor was 0 when the compaction began");
        }
    }
    let prefix = row_prefix(&partition("ana"));
    let shared = Partition { table: TableId::new(7), owner: Owner::Shared };
    assert!(is_dropped(&mut filter, &log_key(&shared, CommitSeq::new(1))));
    let damaged: [Vec<u8>; 6] = [
        Vec::new(),
        b"same key".to_vec(),
        prefix.clone(),
        [prefix.as_slice(), &[0; 7]].concat(),
        [prefix.as_slice(), &[0; 9]].concat(),
        [&prefix[..prefix.len() - 1], &[9], &[0; 8]].concat(),
    ];
    for key in damaged {
        assert!(!is_dropped(&mut filter, &key), "{key:?}");
    }
    assert_eq!(trim.removed(), LogRemoved::default(), "told at the end");
    drop(filter);
    assert_eq!(trim.removed().entries, 3 * 4 + 1);
    assert!(trim.removed().bytes > 13 * (4 + 2 + 8 + 5));
}
