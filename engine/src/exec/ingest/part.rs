//! What goes into one commit: the rows of a number of lots, by partition, their keys sorted.

use std::{collections::BTreeMap, sync::Arc};

use kalamdb_store::{
    codec::{DuplicateKey, PackedInserts, PrimaryKey},
    commit::{BulkInsert, BulkRows, Unique},
    ids::{Owner, Partition},
};

use super::{lot::EncodedLot, memory::Held};
use crate::{
    catalog::{OWNER_COLUMN, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::write::display_key,
};

/// Tasks that the partitions of a part are divided among.
const TASKS: usize = 8;

/// Lots that will be committed together.
#[derive(Debug)]
pub(super) struct Part {
    lots: Vec<EncodedLot>,
    rows: u64,
    bytes: usize,
    held: Held,
}

/// A part as the committer takes it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) rows: BulkRows,
    pub(super) numbers: Numbers,
    /// Kept until it is committed.
    _held: Held,
}

/// The numbers of rows among all that are ingested: for each partition, in the order of the commit.
#[derive(Debug)]
pub(super) struct Numbers(Vec<OfPartition>);

#[derive(Debug)]
enum OfPartition {
    /// The numbers from this one on.
    From(u64),
    /// For each place the number, from `base`.
    Listed { base: u64, rows: Vec<u32> },
}

impl OfPartition {
    fn at(&self, place: usize) -> u64 {
        match self {
            OfPartition::From(first) => first + place as u64,
            OfPartition::Listed { base, rows } => base + rows.get(place).copied().map_or(0, u64::from),
        }
    }
}

impl Numbers {
    /// The number of a row, by the index of its partition and its place there.
    pub(super) fn of(&self, partition: usize, place: usize) -> u64 {
        self.0.get(partition).map_or(0, |numbers| numbers.at(place))
    }
}

impl Part {
    pub(super) fn new(held: Held) -> Self {
        Self { lots: Vec::new(), rows: 0, bytes: 0, held }
    }

    /// Adds a lot. They come in the order of their rows.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when all ingests together hold too much.
    pub(super) fn add(&mut self, lot: EncodedLot) -> Result<()> {
        self.held.grow(lot.rows.memory_size())?;
        self.rows += lot.rows.len() as u64;
        self.bytes += lot.rows.byte_size();
        self.lots.push(lot);
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the encoded rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Brings the rows of each partition together and sorts their keys, on the query threads.
    ///
    /// # Errors
    /// PRIMARY_KEY_VIOLATION when two rows of a partition have one key; the first one that repeats a key is told.
    pub(super) async fn finish(self, shared: &Shared, table: &Arc<Table>, unique: Unique) -> Result<Finished> {
        let Self { lots, held, .. } = self;
        let made = match owner_of_all(&lots) {
            Some(owner) => {
                let table = Arc::clone(table);
                let of_all = shared.runtime.spawn(async move { one_partition(lots, owner, &table, unique) });
                vec![of_all.outcome().await??]
            }
            None => many_partitions(shared, lots, table, unique).await?,
        };
        let (inserts, numbers) = made.into_iter().unzip();
        Ok(Finished { rows: BulkRows::new(inserts), numbers: Numbers(numbers), _held: held })
    }
}

/// The owner, if all rows have the same.
fn owner_of_all(lots: &[EncodedLot]) -> Option<Owner> {
    let mut runs = lots.iter().flat_map(|lot| &lot.runs);
    let first = &runs.next()?.owner;
    // Lots whose rows were ordered anew have several owners.
    runs.all(|run| run.owner == *first).then(|| first.clone())
}

type Made = (BulkInsert, OfPartition);

fn one_partition(lots: Vec<EncodedLot>, owner: Owner, table: &Table, unique: Unique) -> Result<Made> {
    let first_row = lots.first().map_or(0, |lot| lot.first_row);
    let numbers = OfPartition::From(first_row);
    let mut lots = lots.into_iter();
    let rows = match (lots.next(), lots.len()) {
        (None, _) => PackedInserts::new(),
        (Some(only), 0) => only.rows,
        (Some(first), _) => {
            let (rows, bytes) = lots.as_slice().iter().fold((first.rows.len(), first.rows.byte_size()), |sums, lot| {
                (sums.0 + lot.rows.len(), sums.1 + lot.rows.byte_size())
            });
            let mut all = PackedInserts::with_capacity(rows, bytes);
            // Each is let go of when it was copied.
            for lot in std::iter::once(first).chain(lots) {
                all.append(&lot.rows, 0..lot.rows.len()).map_err(Error::internal)?;
            }
            all
        }
    };
    made(table, Partition { table: table.id(), owner }, rows, unique, numbers)
        .map_err(|duplicate| duplicate.error(table))
}

/// Places of runs: the lot, and the run in it.
type Runs = Vec<(u32, u32)>;

async fn many_partitions(
    shared: &Shared,
    lots: Vec<EncodedLot>,
    table: &Arc<Table>,
    unique: Unique,
) -> Result<Vec<Made>> {
    // In the order of their keys, so that the backend takes all rows in it.
    let mut runs: BTreeMap<&Owner, Runs> = BTreeMap::new();
    for (at, lot) in lots.iter().enumerate() {
        for (run_at, run) in lot.runs.iter().enumerate() {
            runs.entry(&run.owner).or_default().push((at as u32, run_at as u32));
        }
    }
    let mut partitions: Vec<(Owner, Runs)> = runs.into_iter().map(|(owner, runs)| (owner.clone(), runs)).collect();
    let lots = Arc::new(lots);
    let share = partitions.len().div_ceil(TASKS).max(1);
    let mut tasks = Vec::with_capacity(TASKS);
    while !partitions.is_empty() {
        let rest = partitions.split_off(share.min(partitions.len()));
        let mine = std::mem::replace(&mut partitions, rest);
        let (lots, table) = (Arc::clone(&lots), Arc::clone(table));
        tasks.push(shared.runtime.spawn(async move {
            let mut all = Vec::with_capacity(mine.len());
            let mut repeated: Option<Repeated> = None;
            for (owner, runs) in mine {
                let (rows, numbers) = gathered(&lots, &runs)?;
                match made(&table, Partition { table: table.id(), owner }, rows, unique, numbers) {
                    Ok(partition) => all.push(partition),
                    Err(other) => repeated = Some(Repeated::earlier(repeated, other)),
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, Error>((all, repeated))
        }));
    }
    let mut all = Vec::new();
    let mut repeated: Option<Repeated> = None;
    for task in tasks {
        let (made, duplicate) = task.outcome().await??;
        all.extend(made);
        repeated = duplicate.into_iter().fold(repeated, |before, other| Some(Repeated::earlier(before, other)));
    }
    match repeated {
        Some(duplicate) => Err(duplicate.error(table)),
        None => Ok(all),
    }
}

/// The rows of some runs, one behind the other, and their numbers.
fn gathered(lots: &[EncodedLot], runs: &[(u32, u32)]) -> Result<(PackedInserts, OfPartition)> {
    let found = || {
        runs.iter().filter_map(|(lot, run)| {
            let lot = lots.get(*lot as usize)?;
            Some((lot, lot.runs.get(*run as usize)?))
        })
    };
    let (count, bytes) = found()
        .fold((0, 0), |sums, (lot, run)| (sums.0 + run.rows.len(), sums.1 + lot.rows.bytes_of(run.rows.clone())));
    let base = found().next().map_or(0, |(lot, _)| lot.first_row);
    let mut rows = PackedInserts::with_capacity(count, bytes);
    let mut numbers = Vec::with_capacity(count);
    for (lot, run) in found() {
        rows.append(&lot.rows, run.rows.clone()).map_err(Error::internal)?;
        // A part has far fewer than 2^32 rows: each has several bytes.
        let shift = (lot.first_row - base) as u32;
        numbers.extend(run.rows.clone().map(|place| {
            shift + lot.numbers.as_ref().and_then(|numbers| numbers.get(place)).copied().unwrap_or(place as u32)
        }));
    }
    Ok((rows, OfPartition::Listed { base, rows: numbers }))
}

/// Two rows of the data with one key.
#[derive(Debug)]
struct Repeated {
    first_row: u64,
    second_row: u64,
    key: PrimaryKey,
    owner: Owner,
}

impl Repeated {
    fn earlier(one: Option<Self>, other: Self) -> Self {
        match one {
            Some(one) if one.second_row < other.second_row => one,
            _ => other,
        }
    }

    fn error(self, table: &Table) -> Error {
        let shown = display_key(table, &self.key);
        let column = table.key_column().name.as_str();
        let of_user = whose(&self.owner);
        let message = format!(
            "Rows {} and {} of the data both have {column} = {shown}{of_user}. Leave one of them out.",
            self.first_row, self.second_row
        );
        Error::new(Reason::PrimaryKeyViolation, message)
            .with("table", table.full_name())
            .with("column", column)
            .with("key", shown)
            .with("row", self.second_row.to_string())
    }
}

/// Whose row it is, where the data says so.
pub(super) fn whose(owner: &Owner) -> String {
    match owner {
        Owner::Shared => String::new(),
        Owner::User(user) => format!(" ({OWNER_COLUMN} '{}')", user.as_str().escape_debug()),
    }
}

fn made(
    table: &Table,
    partition: Partition,
    rows: PackedInserts,
    unique: Unique,
    numbers: OfPartition,
) -> Result<Made, Repeated> {
    debug_assert_eq!(partition.table, table.id());
    let owner = partition.owner.clone();
    match BulkInsert::new(partition, rows, unique) {
        Ok(insert) => Ok((insert, numbers)),
        Err((DuplicateKey { first, second }, rows)) => Err(Repeated {
            first_row: numbers.at(first),
            second_row: numbers.at(second),
            key: PrimaryKey::from_encoded(rows.key(second)),
            owner,
        }),
    }
}
