//! Compares what a subscriber has seen with what was written, commit by commit.
//!
//! The truth is a [`History`]: which rows each commit wrote, as its writer was told, and nothing that live queries made.
//! For every place in it the [`Lens`] says, by Rust code of its own, which rows a query shows. So it is known which
//! commits a subscriber must see and what each must say; anything else is a [`Finding`].

use std::collections::BTreeMap;

use kalamdb_engine::{ChangeKind, InitialRows, Parameter, Reason};

use super::Row;

/// A row of `t (id BIGINT, n BIGINT, name TEXT)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Base {
    pub(super) id: i64,
    pub(super) n: Option<i64>,
    pub(super) name: Option<String>,
    /// The commit that wrote it.
    pub(super) seq: u64,
}

/// A query in SQL and its meaning.
#[derive(Debug, Clone)]
pub(super) struct Lens {
    pub(super) columns: &'static str,
    pub(super) filter: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) holds: fn(&Base) -> bool,
    /// The columns of a row, of which the first is the key; `true`: of one that is gone.
    pub(super) shows: fn(&Base, bool) -> Row,
}

/// What a subscriber was told, or did.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// It subscribed, going on after a commit or anew.
    Connected {
        after: Option<u64>,
    },
    Reset {
        reason: Reason,
    },
    Rows(Vec<Row>),
    Ready {
        seq: u64,
        token: String,
        row_count: u64,
    },
    Commit {
        seq: u64,
        token: String,
        merged: bool,
        changes: Vec<Change>,
        /// The last commit that was visible when this had come.
        published: u64,
    },
    Progress {
        seq: u64,
        token: String,
    },
    Ended {
        reason: Reason,
        token: Option<String>,
    },
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) kind: ChangeKind,
    pub(super) new: Option<Row>,
    pub(super) old: Option<Row>,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A commit was not told of, though later ones were.
    Missed,
    /// A commit or a row came twice.
    Double,
    /// A commit came after a later one.
    Reordered,
    /// A commit came before readers could see it.
    Unpublished,
    /// Other rows or other changes than the right ones.
    Wrong,
    /// An event where it must not come.
    Protocol,
}

#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) fault: Fault,
    pub(super) what: String,
}

/// Rows by key.
type Rows = BTreeMap<i64, Base>;

/// What commits wrote in one partition.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The rows at `from`.
    start: Rows,
    from: u64,
    /// By commit: keys, and the rows that they have since then.
    commits: BTreeMap<u64, Vec<(i64, Option<Base>)>>,
}

impl History {
    pub(super) fn commit(&mut self, seq: u64, effects: Vec<(i64, Option<Base>)>) {
        assert!(seq > self.from, "commit {seq} is older than what was forgotten");
        let known = self.commits.insert(seq, effects);
        assert!(known.is_none(), "two statements were told that they are commit {seq}");
    }

    /// Nobody asks for what was before `seq` any more.
    pub(super) fn forget_before(&mut self, seq: u64) {
        let later = self.commits.split_off(&(seq.saturating_add(1)));
        for (seq, effects) in std::mem::replace(&mut self.commits, later) {
            apply(&mut self.start, &effects);
            self.from = seq;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }
}

fn apply(rows: &mut Rows, effects: &[(i64, Option<Base>)]) {
    for (key, row) in effects {
        match row {
            Some(row) => rows.insert(*key, row.clone()),
            None => rows.remove(key),
        };
    }
}

/// A history as it goes by.
struct Replay<'h> {
    history: &'h History,
    at: u64,
    rows: Rows,
}

impl<'h> Replay<'h> {
    fn new(history: &'h History) -> Self {
        Self { history, at: history.from, rows: history.start.clone() }
    }

    /// Goes to a commit, also backwards.
    fn go_to(&mut self, seq: u64) {
        if seq < self.at {
            *self = Self::new(self.history);
        }
        self.until(seq, |_, _, _| {});
    }

    /// Goes on up to a commit; `each` is told of every commit, and of the rows before it.
    fn until(&mut self, seq: u64, mut each: impl FnMut(u64, &Rows, &[(i64, Option<Base>)])) {
        if seq <= self.at {
            return;
        }
        for (seq, effects) in self.history.commits.range(self.at + 1..=seq) {
            each(*seq, &self.rows, effects);
            apply(&mut self.rows, effects);
        }
        self.at = seq;
    }
}

impl Lens {
    pub(super) fn subscribe_sql(&self) -> String {
        let Self { columns, filter, .. } = self;
        match *columns {
            "*" => format!("SUBSCRIBE TO t {filter}"),
            _ => format!("SUBSCRIBE SELECT {columns} FROM t {filter}"),
        }
    }

    pub(super) fn select_sql(&self) -> String {
        format!("SELECT {} FROM t {}", self.columns, self.filter)
    }

    /// What the query shows of some rows, by key.
    fn view(&self, rows: &Rows) -> BTreeMap<String, Row> {
        let visible = rows.values().filter(|row| (self.holds)(row)).map(|row| (self.shows)(row, false));
        visible.map(|row| (row[0].clone(), row)).collect()
    }

    /// What a commit does to the query's result, by key.
    fn changes(&self, before: &Rows, effects: &[(i64, Option<Base>)]) -> Vec<Change> {
        let mut changes: Vec<Change> = effects
            .iter()
            .filter_map(|(key, now)| {
                let before = before.get(key).filter(|row| (self.holds)(row));
                let now = now.as_ref().filter(|row| (self.holds)(row));
                let kind = match (before, now) {
                    (None, None) => return None,
                    (None, Some(_)) => ChangeKind::Insert,
                    (Some(_), Some(_)) => ChangeKind::Update,
                    (Some(_), None) => ChangeKind::Delete,
                };
                let old = before.map(|row| (self.shows)(row, kind == ChangeKind::Delete));
                Some(Change { kind, new: now.map(|row| (self.shows)(row, false)), old })
            })
            .collect();
        changes.sort_by(|a, b| a.key().cmp(&b.key()));
        changes
    }
}

impl Change {
    fn key(&self) -> Option<&String> {
        self.new.as_ref().or(self.old.as_ref()).and_then(|row| row.first())
    }

    fn without_old_of_updates(mut self) -> Self {
        if self.kind == ChangeKind::Update {
            self.old = None;
        }
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is subscribed.
    Away,
    /// Rows come, then `Ready`.
    Beginning,
    /// `Ready` or a reset comes.
    Resuming,
    /// Changes come.
    Following,
}

/// Follows one subscriber through all of its connections.
#[derive(Debug, Clone)]
pub(super) struct Checker {
    lens: Lens,
    initial_rows: InitialRows,
    before_images: bool,
    phase: Phase,
    given: Vec<Row>,
    /// The rows that the subscriber has, once it is ready.
    held: BTreeMap<String, Row>,
    /// The commit that it has been told of.
    at: Option<u64>,
    /// The greatest commit that it has ever been told of.
    furthest: u64,
    findings: Vec<Finding>,
}

impl Checker {
    pub(super) fn new(lens: Lens, initial_rows: InitialRows, before_images: bool) -> Self {
        Self {
            lens,
            initial_rows,
            before_images,
            phase: Phase::Away,
            given: Vec::new(),
            held: BTreeMap::new(),
            at: None,
            furthest: 0,
            findings: Vec::new(),
        }
    }

    /// The rows that the subscriber has, sorted.
    pub(super) fn held(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.held.values().cloned().collect();
        rows.sort();
        rows
    }

    /// The commit whose state they are.
    pub(super) fn at(&self) -> Option<u64> {
        self.at
    }

    /// Looks at what was seen next. What is found is returned, and everything goes on as if it had been right.
    pub(super) fn check(&mut self, seen: &[Seen], history: &History) -> Vec<Finding> {
        let mut replay = Replay::new(history);
        if let Some(at) = self.at {
            replay.go_to(at);
        }
        for event in seen {
            self.take(event, &mut replay);
        }
        std::mem::take(&mut self.findings)
    }

    fn find(&mut self, fault: Fault, what: String) {
        self.findings.push(Finding { fault, what });
    }

    fn begin(&mut self) {
        self.phase = Phase::Beginning;
        self.given.clear();
        self.held.clear();
        self.at = None;
    }

    fn take(&mut self, event: &Seen, replay: &mut Replay<'_>) {
        let fits = match event {
            Seen::Connected { .. } | Seen::Ended { .. } => true,
            // A query can find out at any time that it cannot go on.
            Seen::Reset { .. } => matches!(self.phase, Phase::Resuming | Phase::Following),
            Seen::Rows(_) => self.phase == Phase::Beginning,
            Seen::Ready { .. } => matches!(self.phase, Phase::Beginning | Phase::Resuming),
            Seen::Commit { .. } | Seen::Progress { .. } => self.phase == Phase::Following,
        };
        if !fits {
            return self.find(Fault::Protocol, format!("{event:?} came in phase {:?}", self.phase));
        }
        match event {
            Seen::Connected { after: None } => self.begin(),
            Seen::Connected { after: Some(after) } => {
                if self.at != Some(*after) {
                    self.find(Fault::Protocol, format!("resumed after {after}, but it was at {:?}", self.at));
                }
                self.phase = Phase::Resuming;
            }
            Seen::Reset { .. } => self.begin(),
            Seen::Rows(rows) => self.given.extend(rows.iter().cloned()),
            Seen::Ready { seq, row_count, .. } => self.ready(*seq, *row_count, replay),
            Seen::Commit { seq, merged, changes, published, .. } => {
                if seq > published {
                    self.find(Fault::Unpublished, format!("commit {seq} came when {published} was the last one"));
                }
                self.commit(*seq, *merged, changes, replay);
            }
            Seen::Progress { seq, .. } => {
                if self.at.is_some_and(|at| *seq < at) {
                    self.find(Fault::Reordered, format!("progress {seq} came at {:?}", self.at));
                } else {
                    self.skip_to(*seq, replay);
                    self.moved_to(*seq);
                }
            }
            Seen::Ended { .. } => self.phase = Phase::Away,
        }
    }

    fn moved_to(&mut self, seq: u64) {
        self.at = Some(seq);
        self.furthest = self.furthest.max(seq);
    }

    fn ready(&mut self, seq: u64, row_count: u64, replay: &mut Replay<'_>) {
        if self.phase == Phase::Resuming {
            // The token of an end can be further on than the last event: nothing that concerns the query was in between.
            if row_count != 0 || self.at.is_none_or(|at| seq < at) {
                self.find(Fault::Protocol, format!("resumed after {:?}, ready at {seq}, {row_count} rows", self.at));
            } else {
                self.skip_to(seq, replay);
                self.moved_to(seq);
            }
            self.phase = Phase::Following;
            return;
        }
        self.phase = Phase::Following;
        if seq < self.furthest {
            self.find(Fault::Reordered, format!("rows of {seq} came after {}", self.furthest));
        }
        replay.go_to(seq);
        if row_count != self.given.len() as u64 {
            self.find(Fault::Protocol, format!("{row_count} rows were said, {} came", self.given.len()));
        }
        let right = self.lens.view(&replay.rows);
        let given = std::mem::take(&mut self.given);
        let mut by_key = BTreeMap::new();
        for row in &given {
            if by_key.insert(row[0].clone(), row.clone()).is_some() {
                self.find(Fault::Double, format!("row {row:?} came twice"));
            }
        }
        let is_right = match self.initial_rows {
            InitialRows::None => by_key.is_empty(),
            InitialRows::All => by_key == right,
            InitialRows::Last(most) => self.are_last(&given, most, &right, replay),
        };
        if !is_right {
            let initial = self.initial_rows;
            self.find(Fault::Wrong, format!("{initial:?} at {seq}: given {given:?}\n    right {right:?}"));
        }
        // As if all had been given: what changes from here on is known all the same.
        self.held = right;
        self.moved_to(seq);
    }

    /// Whether these are the rows that were written last, oldest first. Those of one commit have no order.
    fn are_last(&self, given: &[Row], most: u64, right: &BTreeMap<String, Row>, replay: &Replay<'_>) -> bool {
        let written = |row: &Row| row[0].parse().ok().and_then(|id: i64| replay.rows.get(&id)).map(|row| row.seq);
        let mut all: Vec<Option<u64>> = right.values().map(written).collect();
        all.sort_unstable();
        let first = all.len().saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        let order: Vec<Option<u64>> = given.iter().map(written).collect();
        order == all[first..] && given.iter().all(|row| right.get(&row[0]) == Some(row))
    }

    /// There must be nothing to be told up to a commit.
    fn skip_to(&mut self, seq: u64, replay: &mut Replay<'_>) {
        let lens = self.lens.clone();
        let mut missed = Vec::new();
        replay.until(seq, |seq, before, effects| {
            let changes = lens.changes(before, effects);
            if !changes.is_empty() {
                missed.push((seq, changes));
            }
        });
        for (missed, changes) in missed {
            self.find(Fault::Missed, format!("commit {missed} was left out before {seq}: {changes:?}"));
        }
        self.held = self.lens.view(&replay.rows);
    }

    fn commit(&mut self, seq: u64, merged: bool, changes: &[Change], replay: &mut Replay<'_>) {
        let at = self.at.unwrap_or_default();
        if seq <= at {
            let fault = if seq == at { Fault::Double } else { Fault::Reordered };
            return self.find(fault, format!("commit {seq} came at {at}"));
        }
        if merged {
            replay.until(seq, |_, _, _| {});
            self.merged(seq, changes, &self.lens.view(&replay.rows));
        } else {
            self.skip_to(seq - 1, replay);
            let mut right = Vec::new();
            let lens = self.lens.clone();
            replay.until(seq, |_, before, effects| right = lens.changes(before, effects));
            if !self.before_images {
                right = right.into_iter().map(Change::without_old_of_updates).collect();
            }
            let mut came = changes.to_vec();
            came.sort_by(|a, b| a.key().cmp(&b.key()));
            if came != right {
                self.find(Fault::Wrong, format!("commit {seq}: came {came:?}\n    right {right:?}"));
            }
            self.held = self.lens.view(&replay.rows);
        }
        self.moved_to(seq);
    }

    /// Changes that stand for several commits must lead from the rows that are held to the right ones.
    fn merged(&mut self, seq: u64, changes: &[Change], right: &BTreeMap<String, Row>) {
        let mut held = self.held.clone();
        let mut wrong = Vec::new();
        let mut keys = std::collections::BTreeSet::new();
        for change in changes {
            let Some(key) = change.key().cloned() else {
                wrong.push(format!("no row: {change:?}"));
                continue;
            };
            if !keys.insert(key.clone()) {
                wrong.push(format!("two changes of one row: {change:?}"));
            }
            let before = held.get(&key).cloned();
            let kind_fits = match change.kind {
                ChangeKind::Insert => before.is_none() && change.old.is_none() && change.new.is_some(),
                ChangeKind::Update => before.is_some() && change.new.is_some(),
                ChangeKind::Delete => before.is_some() && change.new.is_none() && change.old.is_some(),
            };
            // The row as it was, but for `_deleted`, which each kind has its own way with.
            let old_fits = match (change.kind, self.before_images) {
                (ChangeKind::Insert, _) => true,
                (ChangeKind::Update, true) => change.old == before,
                (ChangeKind::Update, false) => change.old.is_none(),
                (ChangeKind::Delete, true) => self.gone_as(change.old.as_ref(), before.as_ref()),
                (ChangeKind::Delete, false) => true,
            };
            if !kind_fits || !old_fits {
                wrong.push(format!("{change:?} of {before:?}"));
            }
            match &change.new {
                Some(row) => held.insert(key, row.clone()),
                None => held.remove(&key),
            };
        }
        if held != *right {
            wrong.push(format!("leads to {held:?}\n    right {right:?}"));
        }
        if !wrong.is_empty() {
            self.find(Fault::Wrong, format!("merged commit {seq}: {}", wrong.join("\n    ")));
        }
        self.held.clone_from(right);
    }

    /// Whether `old` is `before`, shown as a row that is gone.
    fn gone_as(&self, old: Option<&Row>, before: Option<&Row>) -> bool {
        let (Some(old), Some(before)) = (old, before) else { return false };
        let shown = self.lens.columns.split(", ").chain(std::iter::repeat("")).zip(old.iter().zip(before));
        shown
            .into_iter()
            .all(|(column, (old, before))| if column == "_deleted" { old == "true" } else { old == before })
    }
}
