//! Keys: order, isolation of owners, round trips, and damaged bytes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::ops::Bound;

use kalamdb_store::codec::*;
use kalamdb_store::ids::{CommitSeq, Owner, Partition, TableId, UserId};
use proptest::prelude::*;

/// Owners that are likely to collide if anything does: few letters, among them the bytes that escaping uses.
fn owner() -> impl Strategy<Value = Owner> {
    let letters = prop::sample::select(vec!['\0', '\u{1}', 'a', '\u{ff}', '🦀', '/', '.']);
    prop_oneof![
        1 => Just(Owner::Shared),
        8 => prop::collection::vec(letters, 1..5)
            .prop_map(|letters| Owner::User(UserId::new(&letters.into_iter().collect::<String>()).unwrap())),
        2 => "\\PC{1,40}".prop_map(|text| Owner::User(UserId::new(&text).unwrap())),
    ]
}

fn table() -> impl Strategy<Value = TableId> {
    prop_oneof![0..3_u32, 254..258_u32, any::<u32>()].prop_map(TableId::new)
}

fn partition() -> impl Strategy<Value = Partition> {
    (table(), owner()).prop_map(|(table, owner)| Partition { table, owner })
}

fn text_key() -> impl Strategy<Value = String> {
    prop_oneof!["[\0\u{1}a\u{ff}]{0,4}", "\\PC{0,30}"]
}

fn int_key() -> impl Strategy<Value = i64> {
    prop_oneof![-3..3_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn int_keys_keep_their_order(a in int_key(), b in int_key()) {
        let (a_key, b_key) = (PrimaryKey::from_i64(a), PrimaryKey::from_i64(b));
        prop_assert_eq!(a.cmp(&b), a_key.as_bytes().cmp(b_key.as_bytes()));
        prop_assert_eq!(a_key.to_i64().unwrap(), a);
    }

    #[test]
    fn text_keys_keep_their_order(a in text_key(), b in text_key()) {
        let (a_key, b_key) = (PrimaryKey::from_str(&a), PrimaryKey::from_str(&b));
        prop_assert_eq!(a.cmp(&b), a_key.as_bytes().cmp(b_key.as_bytes()));
        prop_assert_eq!(a_key.to_str().unwrap(), a.as_str());
    }

    #[test]
    fn row_keys_sort_by_table_owner_and_key(a in (partition(), text_key()), b in (partition(), text_key())) {
        let key = |(partition, key): &(Partition, String)| row_key(partition, &PrimaryKey::from_str(key));
        let parts = |(partition, key): &(Partition, String)| {
            let owner = match &partition.owner {
                Owner::Shared => Vec::new(),
                Owner::User(user) => user.as_str().as_bytes().to_vec(),
            };
            (partition.table, owner, key.clone())
        };
        prop_assert_eq!(parts(&a).cmp(&parts(&b)), key(&a).cmp(&key(&b)));
    }

    #[test]
    fn no_partition_contains_another_ones_rows(a in partition(), b in partition(), id in text_key()) {
        let key = row_key(&a, &PrimaryKey::from_str(&id));
        prop_assert_eq!(a == b, key.starts_with(&row_prefix(&b)));
        let all_of_b = row_range(&b, Bound::Unbounded, Bound::Unbounded);
        prop_assert_eq!(a == b, all_of_b.contains(&key));
        let log = log_key(&a, CommitSeq::new(7));
        prop_assert_eq!(a == b, log.starts_with(&row_prefix(&b)));
        prop_assert_eq!(a.table == b.table, table_range(b.table).contains(&key));
    }

    #[test]
    fn row_keys_come_apart_again(partition in partition(), id in text_key(), seq in any::<u64>()) {
        let key = row_key(&partition, &PrimaryKey::from_str(&id));
        let prefix = row_prefix(&partition);
        prop_assert_eq!(partition_prefix_len(&key), Some(prefix.len()));
        prop_assert_eq!(&key[..prefix.len()], prefix.as_slice());
        let (table, owner, rest) = split_row_key(&key).unwrap();
        prop_assert_eq!(rest, id.as_bytes());
        prop_assert_eq!(Partition { table, owner }, partition.clone());
        let log = log_key(&partition, CommitSeq::new(seq));
        prop_assert_eq!(split_log_key(&log).unwrap(), (partition, CommitSeq::new(seq)));
    }

    #[test]
    fn ranges_hold_exactly_their_keys(partition in partition(), from in int_key(), to in int_key(), id in int_key()) {
        let (start, end) = (PrimaryKey::from_i64(from), PrimaryKey::from_i64(to));
        let key = row_key(&partition, &PrimaryKey::from_i64(id));
        let including = row_range(&partition, Bound::Included(start.clone()), Bound::Included(end.clone()));
        prop_assert_eq!((from..=to).contains(&id), including.contains(&key));
        let excluding = row_range(&partition, Bound::Excluded(start), Bound::Excluded(end));
        prop_assert_eq!(from < id && id < to, excluding.contains(&key));
        let (lower, upper) = excluding.clone().half_open();
        prop_assert_eq!(excluding.contains(&key), key >= lower && upper.is_none_or(|upper| key < upper));
    }

    #[test]
    fn log_entries_sort_by_sequence(partition in partition(), a in any::<u64>(), b in any::<u64>()) {
        let key = |seq| log_key(&partition, CommitSeq::new(seq));
        prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
        let from_a = log_range(&partition, Bound::Excluded(CommitSeq::new(a)), Bound::Unbounded);
        prop_assert_eq!(b > a, from_a.contains(&key(b)));
    }

    #[test]
    fn damaged_keys_do_no_harm(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xFF), any::<u8>()], 0..24)) {
        if let Some(len) = partition_prefix_len(&bytes) {
            prop_assert!((6..=bytes.len()).contains(&len));
        }
        if let Ok((table, owner, rest)) = split_row_key(&bytes) {
            // Whatever can be split is what would be written.
            prop_assert_eq!(row_key(&Partition { table, owner }, &PrimaryKey::from_encoded(rest)), bytes.clone());
        }
        let _ = split_log_key(&bytes);
        let _ = PrimaryKey::from_encoded(bytes.clone()).to_i64();
        let _ = PrimaryKey::from_encoded(bytes).to_str();
    }
}

#[test]
fn a_table_with_the_greatest_id_has_an_end() {
    let range = table_range(TableId::new(u32::MAX));
    let partition = Partition { table: TableId::new(u32::MAX), owner: Owner::User(UserId::new("ÿ").unwrap()) };
    assert!(range.contains(&row_key(&partition, &PrimaryKey::from_i64(i64::MAX))));
    assert!(!range.contains(&table_prefix(TableId::new(u32::MAX - 1))));
}

fn user() -> impl Strategy<Value = UserId> {
    "[\0\u{1}a\u{ff}]{1,4}".prop_map(|text| UserId::new(&text).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_of_users_are_apart(a in user(), b in user(), name in "[\0a]{0,3}", id in "[0-9a-f]{16}") {
        prop_assert_eq!(split_user_key(&user_key(&a)).unwrap(), a.clone());
        prop_assert_eq!(split_administrator_key(&administrator_key(&a)).unwrap(), a.clone());
        prop_assert_eq!(split_user_leaving_key(&user_leaving_key(&a)).unwrap(), a.clone());
        prop_assert_eq!(user_range(Some(&a)).contains(&user_key(&b)), b > a);
        let key = api_key_of_user_key(&a, &id);
        prop_assert_eq!(split_api_key_of_user_key(&a, &key).unwrap(), id.as_str());
        prop_assert_eq!(api_key_of_range(&b).contains(&key), a == b);
        let session = session_of_user_key(&a, &id);
        prop_assert_eq!(split_session_of_user_key(&a, &session).unwrap(), id.as_str());
        prop_assert_eq!(session_of_range(&b).contains(&session), a == b);
        let found = user_name_range(&name, Some(a.as_str())).contains(&user_name_key(b.as_str()));
        prop_assert_eq!(found, b.as_str().starts_with(&name) && b > a);
    }
}
