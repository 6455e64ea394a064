use std::{collections::HashSet, sync::Arc, thread};

use super::*;
use crate::env::{FixedEnv, SystemEnv};

/// 2024-01-02 00:00:00.123456 UTC.
const NOW_US: i64 = 1_704_153_600_123_456;

fn fixed(node_id: u16) -> (Arc<FixedEnv>, IdSource) {
    let env = Arc::new(FixedEnv::new(NOW_US, 42));
    let ids = IdSource::new(Arc::clone(&env) as Arc<dyn Env>, node_id).unwrap();
    (env, ids)
}

fn from_threads<T: Send + 'static>(count: usize, make: impl Fn() -> Vec<T> + Send + Sync + 'static) -> Vec<Vec<T>> {
    let make = Arc::new(make);
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let make = Arc::clone(&make);
            thread::spawn(move || make())
        })
        .collect();
    threads.into_iter().map(|t| t.join().unwrap()).collect()
}

fn assert_unique_and_ordered<T: Ord + std::hash::Hash + Eq + Clone + std::fmt::Debug>(lists: &[Vec<T>]) {
    for list in lists {
        assert!(list.windows(2).all(|w| w[0] < w[1]), "a thread's ids must ascend");
    }
    let all: HashSet<&T> = lists.iter().flatten().collect();
    assert_eq!(all.len(), lists.iter().map(Vec::len).sum::<usize>(), "no id may come twice");
}

#[test]
fn snowflake_layout() {
    let (env, ids) = fixed(0x2A5);
    env.advance_us(10_000_000);
    let first = ids.snowflake();
    assert_eq!(first >> 22, NOW_US / 1000 + 10_000 - SNOWFLAKE_EPOCH_MS);
    assert_eq!((first >> 12) & 0x3FF, 0x2A5);
    assert_eq!(first & 0xFFF, 0);
    assert_eq!(ids.snowflake(), first + 1);
    assert_eq!(ids.snowflakes(3), vec![first + 2, first + 3, first + 4]);
    assert_eq!(ids.snowflakes(0), Vec::<i64>::new());
}

#[test]
fn ids_go_on_after_one_that_is_taken() {
    let (_env, before) = fixed(1);
    let taken = before.snowflakes(10_000)[9_999];
    let (env, after) = fixed(1);
    after.resume_after(taken);
    env.advance_us(10_000_000);
    assert!(after.snowflake() > taken);
    after.resume_after(0);
    assert!(after.snowflake() > taken);
}

#[test]
fn a_mark_is_due_while_ids_are_ahead_of_the_clock() {
    let (env, ids) = fixed(1);
    assert_eq!(ids.due_mark(), None);
    ids.snowflakes(10_000);
    assert_eq!(ids.due_mark(), None, "a burst is not ahead");
    let minute_later = last_snowflake_at(NOW_US + 60_000_000);
    ids.resume_after(minute_later);
    let mark = ids.due_mark().expect("a mark");
    assert!(ids.snowflake() > minute_later && ids.snowflake() < mark);
    assert_eq!(ids.due_mark(), Some(mark), "until it is in the store");
    ids.marked(mark);
    assert_eq!(ids.due_mark(), None);
    // Whatever was handed out by then, a later process goes on beyond it, and so does the one after that.
    let last = ids.snowflakes(100_000)[99_999];
    let mut mark = mark;
    for _ in 0..3 {
        let (_, later) = fixed(1);
        later.resume_after(mark);
        assert!(later.snowflake() > last);
        let next = later.due_mark().expect("a mark");
        assert!(next > mark && next > later.snowflakes(100_000)[99_999]);
        mark = next;
    }
    // Before ids come near it there is another.
    ids.resume_after(first_at(time_ms(ids.snowflake()) + MARK_MS / 2 + 1));
    assert!(ids.due_mark().is_some_and(|next| next > first_at(time_ms(minute_later) + MARK_MS)));
    env.advance_us(600_000_000);
    assert_eq!(ids.due_mark(), None, "the clock has caught up");
}

#[test]
fn times_of_ids() {
    let (_env, ids) = fixed(1);
    assert_eq!(snowflake_time_us(ids.snowflake()), (NOW_US / 1000 + 251) * 1000);
    assert!(last_snowflake_at(NOW_US) < ids.snowflake());
    assert_eq!(snowflake_time_us(last_snowflake_at(NOW_US)), (NOW_US / 1000 + 250) * 1000);
    assert!(snowflake_time_us(-1) > snowflake_time_us(i64::MAX));
    assert!(last_snowflake_at(i64::MAX) > MAX_SNOWFLAKE, "no clock leads there");
}

#[test]
fn node_ids_are_checked() {
    let env: Arc<dyn Env> = Arc::new(SystemEnv);
    assert!(IdSource::new(Arc::clone(&env), MAX_NODE_ID).is_ok());
    assert_eq!(IdSource::new(env, MAX_NODE_ID + 1).unwrap_err().reason(), Reason::InvalidRequest);
}

#[test]
fn snowflakes_of_eight_threads() {
    let ids = IdSource::new(Arc::new(SystemEnv), 7).unwrap();
    let lists = from_threads(8, move || {
        let mut list: Vec<i64> = (0..20_000).map(|_| ids.snowflake()).collect();
        list.extend(ids.snowflakes(5_000));
        list
    });
    assert_unique_and_ordered(&lists);
    assert!(lists.iter().flatten().all(|id| *id > 0));
}

#[test]
fn texts_of_eight_threads() {
    let ids = Arc::new(IdSource::new(Arc::new(SystemEnv), 7).unwrap());
    let source = Arc::clone(&ids);
    assert_unique_and_ordered(&from_threads(8, move || (0..5_000).map(|_| source.uuid_v7()).collect()));
    let source = Arc::clone(&ids);
    assert_unique_and_ordered(&from_threads(8, move || (0..5_000).map(|_| source.ulid()).collect()));
}

#[test]
fn a_burst_stays_near_the_clock() {
    let ids = IdSource::new(Arc::new(SystemEnv), 0).unwrap();
    // Twice what fits into the time allowed ahead of the clock.
    let mut last = 0;
    for _ in 0..(2 * MAX_AHEAD_MS) {
        last = *ids.snowflakes(IDS_PER_MS as usize).last().unwrap();
        let ahead_ms = (last >> 22) - (SystemEnv.now_us() / 1000 - SNOWFLAKE_EPOCH_MS);
        assert!(ahead_ms <= MAX_AHEAD_MS as i64, "{ahead_ms} ms ahead");
    }
    let restarted = IdSource::new(Arc::new(SystemEnv), 0).unwrap();
    assert!(restarted.snowflake() > last, "a restarted process must not repeat ids");
}

#[test]
fn ids_grow_when_the_clock_goes_back() {
    let (env, ids) = fixed(1);
    env.advance_us(60_000_000);
    let (mut id, mut uuid, mut ulid) = (ids.snowflake(), ids.uuid_v7(), ids.ulid());
    // Small steps (within the time that ids may be ahead), large ones, and before both epochs.
    for now_us in [NOW_US + 59_900_000, NOW_US, NOW_US - 86_400_000_000, 5, -1, i64::MIN] {
        env.set_now_us(now_us);
        for _ in 0..10_000 {
            let (next_id, next_uuid, next_ulid) = (ids.snowflake(), ids.uuid_v7(), ids.ulid());
            assert!(next_id > id && next_uuid > uuid && next_ulid > ulid);
            (id, uuid, ulid) = (next_id, next_uuid, next_ulid);
        }
    }
    env.set_now_us(NOW_US + 3_600_000_000);
    assert_eq!(ids.snowflake() >> 22, (NOW_US + 3_600_000_000) / 1000 - SNOWFLAKE_EPOCH_MS);
}

#[test]
fn a_clock_that_stands_still_blocks_nobody() {
    let (_env, ids) = fixed(0);
    let list = ids.snowflakes(300 * IDS_PER_MS as usize);
    assert_unique_and_ordered(&[list]);
}

#[test]
fn a_clock_far_in_the_future_gives_positive_ids() {
    let env = Arc::new(FixedEnv::new(i64::MAX, 1));
    let ids = IdSource::new(env, 3).unwrap();
    assert!(ids.snowflakes(10_000).iter().all(|id| *id > 0));
    assert_eq!(ids.uuid_v7().len(), 36);
}

#[test]
fn uuid_v7_is_one() {
    let (_env, ids) = fixed(0);
    let text = ids.uuid_v7();
    let uuid = uuid::Uuid::try_parse(&text).unwrap();
    assert_eq!(uuid.hyphenated().to_string(), text);
    assert_eq!(uuid.get_version_num(), 7);
    assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
    assert_eq!(seconds as i64 * 1000 + i64::from(nanos / 1_000_000), NOW_US / 1000);
    assert!(text.starts_with("018cc7"), "{text}");
}

#[test]
fn uuid_v4_is_one() {
    let (_env, ids) = fixed(0);
    let uuid = uuid::Uuid::try_parse(&ids.uuid_v4()).unwrap();
    assert_eq!(uuid.get_version_num(), 4);
    assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    assert_ne!(ids.uuid_v4(), ids.uuid_v4());
}

#[test]
fn ulid_is_one() {
    let (_env, ids) = fixed(0);
    let text = ids.ulid();
    let ulid = ulid::Ulid::from_string(&text).unwrap();
    assert_eq!(ulid.timestamp_ms() as i64, NOW_US / 1000);
    assert_eq!(ulid.to_string(), text);
}

#[test]
fn a_fixed_env_repeats_its_ids() {
    let (_, a) = fixed(5);
    let (_, b) = fixed(5);
    assert_eq!((a.snowflake(), a.uuid_v7(), a.ulid()), (b.snowflake(), b.uuid_v7(), b.ulid()));
}
