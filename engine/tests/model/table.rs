//! What the engine must hold and answer, in ordered maps.

use std::collections::{BTreeMap, BTreeSet};

use kalamdb_engine::Reason;

use super::expr::{Expr, Type, Value};

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) of: Type,
    pub(super) not_null: bool,
    pub(super) default: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) values: Vec<Value>,
    /// The commit that wrote it.
    pub(super) seq: u64,
    /// The tier it is in; unknown after a flush that other statements ran beside.
    pub(super) tier: Tier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    Hot,
    Cold,
    Either,
}

pub(super) type Rows = BTreeMap<Value, Row>;

/// A table; its first column is the key.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) shared: bool,
    pub(super) columns: Vec<Column>,
    /// By owner; SHARED tables have the one owner `""`.
    pub(super) partitions: BTreeMap<String, Rows>,
}

/// What a write does when it succeeds.
#[derive(Debug, Default)]
pub(super) struct Write {
    /// The rows written or, for DELETE, removed, as RETURNING sees them.
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) deletes: bool,
}

pub(super) type Expected = Result<Write, Reason>;

pub(super) enum OnConflict {
    Fail,
    Nothing,
    Update { assignments: Vec<(usize, Expr)>, filter: Option<Expr> },
}

impl Table {
    pub(super) fn types(&self) -> Vec<Type> {
        self.columns.iter().map(|c| c.of).collect()
    }

    /// Names of the columns, for SQL, behind a qualifier if there is one.
    pub(super) fn names(&self, qualifier: &str) -> Vec<String> {
        let quoted =
            |name: &str| if name.contains(char::is_uppercase) { format!("\"{name}\"") } else { name.to_owned() };
        let dot = if qualifier.is_empty() { "" } else { "." };
        self.columns.iter().map(|c| format!("{qualifier}{dot}{}", quoted(&c.name))).collect()
    }

    pub(super) fn rows(&self, owner: &str) -> Rows {
        self.partitions.get(owner).cloned().unwrap_or_default()
    }

    /// Rows as values, in key order.
    pub(super) fn select(&self, owner: &str, keep: impl Fn(&[Value]) -> bool) -> Vec<Vec<Value>> {
        self.rows(owner).into_values().map(|row| row.values).filter(|row| keep(row)).collect()
    }

    /// Number of rows of all owners in a tier.
    pub(super) fn in_tier(&self, tier: Tier) -> usize {
        self.partitions.values().flat_map(BTreeMap::values).filter(|row| row.tier == tier).count()
    }

    /// Whether a column that is not among `given` would have to be.
    pub(super) fn lacks_value(&self, given: &[usize]) -> bool {
        self.columns.iter().enumerate().any(|(i, c)| c.not_null && c.default.is_none() && !given.contains(&i))
    }

    fn has_null(&self, rows: &[Vec<Value>]) -> bool {
        rows.iter().any(|row| row.iter().zip(&self.columns).any(|(value, c)| c.not_null && *value == Value::Null))
    }

    pub(super) fn insert(&self, owner: &str, offered: Vec<Vec<Value>>, on_conflict: &OnConflict) -> Expected {
        if self.has_null(&offered) {
            return Err(Reason::NotNullViolation);
        }
        let existing = self.rows(owner);
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        for offered in offered {
            let again = !seen.insert(offered[0].clone());
            let conflicting = existing.get(&offered[0]);
            match on_conflict {
                OnConflict::Fail if again || conflicting.is_some() => return Err(Reason::PrimaryKeyViolation),
                OnConflict::Nothing if again || conflicting.is_some() => {}
                OnConflict::Update { .. } if again => return Err(Reason::PrimaryKeyViolation),
                OnConflict::Update { assignments, filter } if conflicting.is_some() => {
                    let current = &conflicting.unwrap().values;
                    let passes = |f: &Expr| f.of(current, &offered) == Value::Bool(true);
                    if filter.as_ref().is_none_or(passes) {
                        let mut row = current.clone();
                        for (index, value) in assignments {
                            row[*index] = value.of(current, &offered);
                        }
                        rows.push(row);
                    }
                }
                _ => rows.push(offered),
            }
        }
        if self.has_null(&rows) {
            return Err(Reason::NotNullViolation);
        }
        Ok(Write { rows, deletes: false })
    }

    pub(super) fn update(
        &self,
        owner: &str,
        assignments: &[(usize, Option<Expr>)],
        keep: impl Fn(&[Value]) -> bool,
    ) -> Expected {
        let mut rows = self.select(owner, keep);
        for row in &mut rows {
            let old = row.clone();
            for (index, value) in assignments {
                row[*index] = match value {
                    Some(value) => value.of(&old, &[]),
                    None => self.columns[*index].default.clone().unwrap_or(Value::Null),
                };
            }
        }
        if self.has_null(&rows) {
            return Err(Reason::NotNullViolation);
        }
        Ok(Write { rows, deletes: false })
    }

    pub(super) fn delete(&self, owner: &str, keep: impl Fn(&[Value]) -> bool) -> Expected {
        Ok(Write { rows: self.select(owner, keep), deletes: true })
    }

    /// Does what a statement did.
    pub(super) fn apply(&mut self, owner: &str, write: Write, seq: u64) {
        let rows = self.partitions.entry(owner.to_owned()).or_default();
        for values in write.rows {
            let key = values[0].clone();
            if write.deletes {
                rows.remove(&key);
            } else {
                rows.insert(key, Row { values, seq, tier: Tier::Hot });
            }
        }
    }
}
