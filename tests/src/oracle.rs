//! Which rows must exist after a crash, known from acknowledgements alone.
//!
//! A [`Ledger`] belongs to one writer that has one statement in flight at a time and whose keys nobody else writes.
//! So after a crash there are at most two correct states: the one of all acknowledged statements, and the same with
//! the statement in flight entirely applied. Anything else, a lost or changed row, a row from nowhere, half a
//! statement, is a [`Discrepancy`].

use std::{collections::BTreeMap, fmt};

use rand::{Rng, rngs::StdRng};

/// The columns of a row besides its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How often the row was written.
    pub version: i64,
    /// Its text.
    pub body: String,
}

/// Rows by key.
pub type Rows = BTreeMap<i64, Row>;

/// A statement of one writer, over the keys it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// INSERT of these keys, all new.
    Insert {
        /// The keys, all absent before.
        keys: Vec<i64>,
        /// The rows' text.
        body: String,
    },
    /// INSERT of these keys, old or new; the version of an old one grows by one.
    Upsert {
        /// The keys.
        keys: Vec<i64>,
        /// The rows' text.
        body: String,
    },
    /// UPDATE of all rows with keys from `first` to `last`.
    Update {
        /// The least key.
        first: i64,
        /// The greatest key.
        last: i64,
        /// The rows' new text.
        body: String,
    },
    /// DELETE of all rows with keys from `first` to `last`.
    Delete {
        /// The least key.
        first: i64,
        /// The greatest key.
        last: i64,
    },
}

impl Statement {
    /// A random statement over the keys from `base` to `base + span`, given the rows that exist.
    pub fn random(rng: &mut StdRng, rows: &Rows, base: i64, span: i64) -> Self {
        // The number makes each statement's rows distinguishable from those of any other.
        let body = format!("{:016x}{}", rng.random::<u64>(), "·".repeat(rng.random_range(0..60)));
        let first = base + rng.random_range(0..span);
        let last = (first + rng.random_range(0..40)).min(base + span - 1);
        match rng.random_range(0..10) {
            0..=3 => {
                let keys: Vec<i64> = (first..=last).filter(|key| !rows.contains_key(key)).take(12).collect();
                if keys.is_empty() { Self::Delete { first, last } } else { Self::Insert { keys, body } }
            }
            4..=5 => Self::Upsert { keys: (first..=last).take(12).collect(), body },
            6..=7 => Self::Update { first, last, body },
            _ => Self::Delete { first, last },
        }
    }

    /// Its SQL on `table (id BIGINT PRIMARY KEY, version BIGINT, body TEXT)`.
    pub fn sql(&self, table: &str) -> String {
        let values = |keys: &[i64], body: &str| {
            keys.iter().map(|key| format!("({key}, 1, '{body}')")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Insert { keys, body } => {
                format!("INSERT INTO {table} (id, version, body) VALUES {}", values(keys, body))
            }
            Self::Upsert { keys, body } => format!(
                "INSERT INTO {table} (id, version, body) VALUES {} \
                 ON CONFLICT (id) DO UPDATE SET version = {}.version + 1, body = excluded.body",
                values(keys, body),
                table.rsplit('.').next().unwrap_or(table)
            ),
            Self::Update { first, last, body } => format!(
                "UPDATE {table} SET version = version + 1, body = '{body}' WHERE id >= {first} AND id <= {last}"
            ),
            Self::Delete { first, last } => format!("DELETE FROM {table} WHERE id >= {first} AND id <= {last}"),
        }
    }

    /// The rows after it, and how many it affects.
    pub fn apply(&self, rows: &Rows) -> (Rows, u64) {
        let mut after = rows.clone();
        let affected = match self {
            Self::Insert { keys, body } | Self::Upsert { keys, body } => {
                for key in keys {
                    let version = rows.get(key).map_or(1, |row| row.version + 1);
                    after.insert(*key, Row { version, body: body.clone() });
                }
                keys.len()
            }
            Self::Update { first, last, body } => {
                let mut count = 0;
                for row in after.range_mut(first..=last).map(|(_, row)| row) {
                    *row = Row { version: row.version + 1, body: body.clone() };
                    count += 1;
                }
                count
            }
            Self::Delete { first, last } => {
                after.retain(|key, _| !(first..=last).contains(&key));
                rows.len() - after.len()
            }
        };
        (after, affected as u64)
    }
}

/// One writer's acknowledged rows and its statement in flight.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    acknowledged: Rows,
    in_flight: Option<(Statement, Rows)>,
}

/// What became of the statement in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There was none, or it would have changed nothing.
    None,
    /// All of it is there.
    Applied,
    /// Nothing of it is there.
    Absent,
}

/// Stored rows that no order of events explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// Keys that are acknowledged but not stored.
    pub lost: Vec<i64>,
    /// Keys that are stored with other contents than acknowledged.
    pub changed: Vec<i64>,
    /// Keys that are stored but not acknowledged.
    pub surplus: Vec<i64>,
    /// The statement in flight, which explains the difference only in part or not at all.
    pub in_flight: Option<Statement>,
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {:?}, changed {:?}, surplus {:?}; in flight: {:?}",
            self.lost, self.changed, self.surplus, self.in_flight
        )
    }
}

impl Ledger {
    /// The acknowledged rows.
    pub fn rows(&self) -> &Rows {
        &self.acknowledged
    }

    /// Notes that the statement is about to be sent; returns how many rows it affects.
    pub fn begin(&mut self, statement: Statement) -> u64 {
        let (after, affected) = statement.apply(&self.acknowledged);
        self.in_flight = Some((statement, after));
        affected
    }

    /// Notes that the statement in flight was acknowledged.
    pub fn acknowledge(&mut self) {
        if let Some((_, after)) = self.in_flight.take() {
            self.acknowledged = after;
        }
    }

    /// Compares with what is stored after a restart, and goes on from there.
    pub fn settle(&mut self, stored: Rows) -> Result<Fate, Box<Discrepancy>> {
        let in_flight = self.in_flight.take();
        if let Some((_, after)) = in_flight.as_ref().filter(|(_, after)| *after != self.acknowledged) {
            if stored == *after {
                self.acknowledged = stored;
                return Ok(Fate::Applied);
            }
            if stored == self.acknowledged {
                return Ok(Fate::Absent);
            }
        } else if stored == self.acknowledged {
            return Ok(Fate::None);
        }
        let acknowledged = &self.acknowledged;
        Err(Box::new(Discrepancy {
            lost: acknowledged.keys().filter(|key| !stored.contains_key(key)).copied().collect(),
            changed: acknowledged
                .iter()
                .filter(|(key, row)| stored.get(key).is_some_and(|other| other != *row))
                .map(|(key, _)| *key)
                .collect(),
            surplus: stored.keys().filter(|key| !acknowledged.contains_key(key)).copied().collect(),
            in_flight: in_flight.map(|(statement, _)| statement),
        }))
    }
}

#[cfg(test)]
mod tests;
