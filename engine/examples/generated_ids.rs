//! Measures generated ids: 8 threads take 100,000 ids each, as fast as they can, from one source.
//!
//! Prints the nanoseconds an id (wall time by all ids taken) and fails when an id came twice or a thread's ids do not
//! ascend. Run by `make bench-ids`.

use std::{
    collections::HashSet,
    error::Error,
    hash::Hash,
    sync::{Arc, Barrier},
    thread,
    time::Instant,
};

use kalamdb_engine::{IdSource, SystemEnv};

const THREADS: usize = 8;
const IDS_PER_THREAD: usize = 100_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let ids = Arc::new(IdSource::new(Arc::new(SystemEnv), 1)?);
    println!("{THREADS} threads, {IDS_PER_THREAD} ids each, median of {ROUNDS} rounds");
    measure("SNOWFLAKE_ID()", &ids, IdSource::snowflake)?;
    measure("UUID_V7()", &ids, IdSource::uuid_v7)?;
    measure("ULID()", &ids, IdSource::ulid)?;
    Ok(())
}

fn measure<T>(name: &str, ids: &Arc<IdSource>, take: fn(&IdSource) -> T) -> Result<(), Box<dyn Error>>
where
    T: Ord + Hash + Eq + Send + 'static,
{
    let mut seen = HashSet::with_capacity(ROUNDS * THREADS * IDS_PER_THREAD);
    let mut nanos_per_id = Vec::new();
    for _ in 0..ROUNDS {
        let start = Arc::new(Barrier::new(THREADS + 1));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (ids, start) = (Arc::clone(ids), Arc::clone(&start));
                thread::spawn(move || {
                    let mut list = Vec::with_capacity(IDS_PER_THREAD);
                    start.wait();
                    list.extend((0..IDS_PER_THREAD).map(|_| take(&ids)));
                    (list, Instant::now())
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        let mut ended = began;
        for thread in threads {
            let (list, at) = thread.join().map_err(|_| "a thread panicked")?;
            ended = ended.max(at);
            if !list.windows(2).all(|pair| pair[0] < pair[1]) {
                return Err(format!("{name}: the ids of a thread do not ascend").into());
            }
            if !list.into_iter().all(|id| seen.insert(id)) {
                return Err(format!("{name}: an id came twice").into());
            }
        }
        nanos_per_id.push(ended.duration_since(began).as_nanos() / (THREADS * IDS_PER_THREAD) as u128);
    }
    nanos_per_id.sort_unstable();
    println!("{name:<15} {:>4} ns an id; unique, and ascending in each thread", nanos_per_id[ROUNDS / 2]);
    Ok(())
}
