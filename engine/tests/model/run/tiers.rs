//! Flushes and compactions: they change no row, only where it is.

use kalamdb_engine::{Error, Reason};
use tokio::task::JoinHandle;

use super::{Run, quoted};
use crate::{
    harness::Answer,
    model::{
        expr::{Sql, Value},
        table::{Rows, Tier},
    },
};

/// A flush or compaction that statements run beside.
pub(super) struct Move {
    text: String,
    /// The table; none for all of them.
    table: Option<String>,
    /// Whether the table, or one of all, was dropped meanwhile.
    dropped: bool,
    outcome: JoinHandle<Result<Answer, Error>>,
}

/// At most so many run at a time.
const MOVES_BESIDE: usize = 3;

impl Run {
    /// Flushes or compacts something, and looks whether the tiers hold what they must.
    pub(super) async fn move_rows(&mut self) {
        self.end_moves().await;
        if self.tables.is_empty() {
            return;
        }
        let name = self.some_table();
        let table = quoted(&name);
        let (text, tables) = match self.random.below(12) {
            0..=5 => (format!("FLUSH TABLE {table} FORCE"), vec![name]),
            6 => (format!("FLUSH TABLE {table}"), vec![name]),
            7 | 8 => ("FLUSH ALL TABLES IN app FORCE".to_owned(), self.tables.keys().cloned().collect()),
            _ => (format!("COMPACT TABLE {table}"), vec![]),
        };
        let answer = self.admin_run(text.clone()).await;
        if text.starts_with("FLUSH") {
            self.flushed(&tables, &answer, text.ends_with("FORCE"));
        }
        self.check_tiers().await;
    }

    /// Begins to flush or compact something, which goes on beside the next statements.
    pub(super) fn move_rows_beside(&mut self) {
        if self.tables.is_empty() || self.beside.len() >= MOVES_BESIDE {
            return;
        }
        let name = self.some_table();
        let (text, table) = match self.random.below(8) {
            0..=3 => (format!("FLUSH TABLE {} FORCE", quoted(&name)), Some(name)),
            4 => ("FLUSH ALL TABLES FORCE".to_owned(), None),
            _ => (format!("COMPACT TABLE {}", quoted(&name)), Some(name)),
        };
        if text.starts_with("FLUSH") {
            let flushed = |known: &str| table.as_deref().is_none_or(|table| table == known);
            let tables: Vec<String> = self.tables.keys().filter(|known| flushed(known)).cloned().collect();
            self.forget_tiers(&tables);
        }
        self.note(&format!("beside the next: {text}"));
        let (client, running) = (self.db.admin(), text.clone());
        let outcome = tokio::spawn(async move { client.try_run(running).await });
        self.beside.push(Move { text, table, dropped: false, outcome });
    }

    /// Waits for what was begun by [`Run::move_rows_beside`]. Only a DROP TABLE makes it fail.
    pub(super) async fn end_moves(&mut self) {
        if !self.beside.is_empty() {
            let tables: Vec<String> = self.tables.keys().cloned().collect();
            self.forget_tiers(&tables);
        }
        for ended in std::mem::take(&mut self.beside) {
            match ended.outcome.await.unwrap() {
                Ok(_) => {}
                Err(error) if ended.dropped && error.reason() == Reason::TableNotFound => {}
                Err(error) => self.fail(&format!("{}: {error}", ended.text)),
            }
        }
    }

    /// A DROP TABLE is about to run.
    pub(super) fn note_drop(&mut self, name: &str) {
        for beside in &mut self.beside {
            beside.dropped |= beside.table.as_deref().is_none_or(|table| table == name);
        }
    }

    /// Flushes every row there is.
    pub(super) async fn flush_everything(&mut self) {
        let tables: Vec<String> = self.tables.keys().cloned().collect();
        let answer = self.admin_run("FLUSH ALL TABLES FORCE".to_owned()).await;
        self.flushed(&tables, &answer, true);
        self.check_tiers().await;
    }

    async fn admin_run(&mut self, text: String) -> Answer {
        let client = self.db.admin();
        match self.execute(&client, &Sql { text, parameters: Vec::new() }).await {
            Ok(answer) => answer,
            Err(error) => self.fail(&format!("expected success, got {error}")),
        }
    }

    /// Compares the number of rows that a flush says it moved with those it had to move, and notes where they are.
    fn flushed(&mut self, tables: &[String], answer: &Answer, forced: bool) {
        if !self.beside.is_empty() {
            // What runs beside may have moved rows that were written after it began.
            self.forget_tiers(tables);
        }
        let count = |tier| -> u64 {
            let counted = tables.iter().map(|name| self.tables[name].in_tier(tier));
            counted.sum::<usize>() as u64
        };
        let (hot, either) = (count(Tier::Hot), count(Tier::Either));
        let least = if forced { hot } else { 0 };
        if !(least..=hot + either).contains(&answer.row_count) {
            self.fail(&format!("{} row(s) were flushed, {hot} (and perhaps {either}) are hot", answer.row_count));
        }
        if forced {
            self.set_tiers(tables, |_| Tier::Cold);
        } else if answer.row_count > 0 {
            // Partitions of few rows are left as they are.
            self.forget_tiers(tables);
        }
    }

    fn forget_tiers(&mut self, tables: &[String]) {
        self.set_tiers(tables, |tier| if tier == Tier::Hot { Tier::Either } else { tier });
    }

    fn set_tiers(&mut self, tables: &[String], to: impl Fn(Tier) -> Tier) {
        for (_, table) in self.tables.iter_mut().filter(|(name, _)| tables.contains(name)) {
            for row in table.partitions.values_mut().flat_map(|rows| rows.values_mut()) {
                row.tier = to(row.tier);
            }
        }
    }

    /// The segments hold, by partition, as many live rows as are cold. There is no row of a table that is gone.
    async fn check_tiers(&mut self) {
        let sql = "SELECT table_name, user_id, CAST(SUM(rows - deleted_rows) AS BIGINT) FROM system.segments \
                   WHERE namespace = 'app' GROUP BY table_name, user_id HAVING SUM(rows - deleted_rows) > 0";
        let answer = self.admin_run(sql.to_owned()).await;
        if self.tables.values().any(|table| table.in_tier(Tier::Either) > 0) {
            return;
        }
        let cold = self.tables.iter().flat_map(|(name, table)| {
            let partitions = table.partitions.iter().map(|(owner, rows)| (owner, count(rows, Tier::Cold)));
            partitions.filter(|(_, rows)| *rows > 0).map(|(owner, rows)| {
                let owner = if owner.is_empty() { Value::Null } else { Value::Text(owner.clone()) };
                vec![Value::Text(name.clone()), owner, Value::Int(rows)]
            })
        });
        self.compare(&answer, cold.collect(), false);
        if !self.tables.is_empty() {
            let name = self.some_table();
            self.check_stats(&name).await;
        }
    }

    /// SHOW TABLE STATS counts the same, in all and by owner.
    async fn check_stats(&mut self, name: &str) {
        let mut answer = self.admin_run(format!("SHOW TABLE STATS {}", quoted(name))).await;
        let column = |name: &str| answer.columns.iter().position(|column| column.name == name).unwrap();
        let shown = [column("user_id"), column("buffered_rows"), column("flushed_rows")];
        answer.rows = answer.rows.iter().map(|row| shown.iter().map(|index| row[*index].clone()).collect()).collect();
        answer.rows.retain(|row| row[0] == "NULL" || row[1..] != ["0", "0"]);
        let table = &self.tables[name];
        let all = [Tier::Hot, Tier::Cold].map(|tier| Value::Int(table.in_tier(tier) as i64));
        let mut expected = vec![[vec![Value::Null], all.to_vec()].concat()];
        for (owner, rows) in table.partitions.iter().filter(|(owner, rows)| !owner.is_empty() && !rows.is_empty()) {
            let [hot, cold] = [Tier::Hot, Tier::Cold].map(|tier| Value::Int(count(rows, tier)));
            expected.push(vec![Value::Text(owner.clone()), hot, cold]);
        }
        self.compare(&answer, expected, false);
    }
}

fn count(rows: &Rows, tier: Tier) -> i64 {
    rows.values().filter(|row| row.tier == tier).count() as i64
}
