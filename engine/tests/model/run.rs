//! The statements: each is made at random, run, compared with the model, and then done to the model.

mod tiers;

use std::collections::{BTreeMap, VecDeque};

use kalamdb_engine::{Reason, Role};

use super::{
    expr::{Expr, Sql, Type, Value},
    random::Random,
    table::{Column, Expected, OnConflict, Table},
};
use crate::harness::{Answer, Client, Db};

/// What happens between the statements.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Disturbances {
    pub(super) restarts: bool,
    /// Flushes and compactions, one after the other with the statements.
    pub(super) flushes: bool,
    /// Flushes and compactions that statements run beside.
    pub(super) flushes_beside: bool,
}

const OWNERS: [&str; 3] = ["ana", "../ana", "émile🙂\0"];
const TABLES: [&str; 4] = ["t", "u", "notes", "Mixed"];

pub(super) struct Run {
    seed: u64,
    random: Random,
    db: Db,
    disturbances: Disturbances,
    tables: BTreeMap<String, Table>,
    /// Flushes and compactions under way.
    beside: Vec<tiers::Move>,
    /// Numbers new columns.
    columns_made: usize,
    last: VecDeque<String>,
    done: usize,
    /// Reads whose plan had an image of hot rows in it.
    over_images: usize,
}

/// Who runs a statement on which rows, and how it names the table.
struct Target {
    table: String,
    owner: String,
    client: Client,
    /// The table in SQL.
    named: String,
}

/// Whether the model keeps a row.
type Kept = Box<dyn Fn(&[Value]) -> bool>;

/// A condition in SQL and its meaning.
struct Condition {
    sql: Sql,
    kept: Kept,
}

impl Run {
    pub(super) fn new(seed: u64, db: Db, disturbances: Disturbances) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            db,
            disturbances,
            tables: BTreeMap::new(),
            beside: Vec::new(),
            columns_made: 0,
            last: VecDeque::new(),
            done: 0,
            over_images: 0,
        }
    }

    /// Runs so many statements; says how many reads of them were seen to be over images of hot rows.
    pub(super) async fn statements(mut self, count: usize) -> usize {
        while self.done < count {
            self.step().await;
            if self.disturbances.flushes && self.random.one_in(9) {
                self.move_rows().await;
            }
            if self.disturbances.flushes_beside && self.random.one_in(4) {
                self.move_rows_beside();
            }
            if self.disturbances.restarts && self.random.one_in(60) {
                self.end_moves().await;
                self.db.reopen();
                self.check_everything().await;
            }
        }
        self.end_moves().await;
        self.check_everything().await;
        if self.disturbances.flushes || self.disturbances.flushes_beside {
            self.flush_everything().await;
            self.check_everything().await;
        }
        self.over_images
    }

    async fn step(&mut self) {
        if self.tables.is_empty() {
            return self.create_table().await;
        }
        match self.random.below(100) {
            0..=2 => self.create_table().await,
            3 => self.drop_table().await,
            4..=8 => self.alter_table().await,
            9..=38 => self.insert().await,
            39..=44 => self.insert_select().await,
            45..=58 => self.update().await,
            59..=66 => self.delete().await,
            67..=76 => self.point_read().await,
            77..=84 => self.ordered_read().await,
            85..=90 => self.filtered_read().await,
            91..=95 => self.aggregate().await,
            96..=97 => self.join().await,
            _ => self.check_everything().await,
        }
    }

    async fn execute(&mut self, client: &Client, sql: &Sql) -> Result<Answer, kalamdb_engine::Error> {
        self.done += 1;
        let shown: Vec<String> = sql.parameters.iter().map(|p| format!("{:?}", p.value)).collect();
        self.note(&format!("[{}] {} {shown:?}", client.session.caller().effective_user(), sql.text));
        client.try_with(sql.text.as_str(), &sql.parameters).await
    }

    fn note(&mut self, what: &str) {
        self.last.push_back(what.to_owned());
        if self.last.len() > 30 {
            self.last.pop_front();
        }
    }

    fn fail(&self, what: &str) -> ! {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        panic!("seed {}, statement {}: {what}\nthe last statements:\n{}", self.seed, self.done, last.join("\n"));
    }

    /// Runs a statement of which only the outcome matters.
    async fn define(&mut self, text: String, expected: Result<(), Reason>) {
        let client = self.db.admin();
        let outcome = self.execute(&client, &Sql { text, parameters: Vec::new() }).await;
        match (outcome, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(reason)) if error.reason() == reason => {}
            (outcome, expected) => self.fail(&format!("expected {expected:?}, got {outcome:?}")),
        }
    }

    async fn create_table(&mut self) {
        let name = (*self.random.pick(&TABLES)).to_owned();
        let shared = self.random.one_in(3);
        let key = if self.random.one_in(2) { Type::BigInt } else { Type::Text };
        let mut columns = vec![Column { name: "id".to_owned(), of: key, not_null: true, default: None }];
        for _ in 0..self.random.below(5) {
            let column = self.new_column();
            columns.push(column);
        }
        let mut text = format!("CREATE {} TABLE ", if shared { "SHARED" } else { "USER" });
        let if_not_exists = self.random.one_in(3);
        if if_not_exists {
            text.push_str("IF NOT EXISTS ");
        }
        text.push_str(&format!("{} (id {} PRIMARY KEY", quoted(&name), key.sql()));
        for column in &columns[1..] {
            text.push_str(&format!(", {}", definition(column)));
        }
        text.push(')');
        if shared {
            text.push_str(" ACCESS PUBLIC");
        }
        let exists = self.tables.contains_key(&name);
        self.define(text, if exists && !if_not_exists { Err(Reason::TableExists) } else { Ok(()) }).await;
        if !exists {
            self.tables.insert(name, Table { shared, columns, partitions: BTreeMap::new() });
        }
    }

    async fn drop_table(&mut self) {
        let name = (*self.random.pick(&TABLES)).to_owned();
        let if_exists = self.random.one_in(2);
        let exists = self.tables.remove(&name).is_some();
        if exists {
            self.note_drop(&name);
        }
        let expected = if exists || if_exists { Ok(()) } else { Err(Reason::TableNotFound) };
        let text = format!("DROP TABLE {}{}", if if_exists { "IF EXISTS " } else { "" }, quoted(&name));
        self.define(text, expected).await;
    }

    fn new_column(&mut self) -> Column {
        self.columns_made += 1;
        let prefix = ["c", "C", "select_"][self.random.below(3)];
        let of = *self.random.pick(&[Type::BigInt, Type::Int, Type::Text, Type::Bool]);
        let default = self.random.one_in(3).then(|| match Value::random(&mut self.random, of) {
            // A literal cannot hold NUL.
            Value::Text(text) => Value::Text(text.replace('\0', "")),
            value => value,
        });
        Column { name: format!("{prefix}{}", self.columns_made), of, not_null: self.random.one_in(4), default }
    }

    async fn alter_table(&mut self) {
        let name = self.some_table();
        let mut table = self.tables[&name].clone();
        let on = format!("ALTER TABLE {}", quoted(&name));
        let at = self.random.below(table.columns.len());
        match self.random.below(4) {
            0 | 1 => {
                let column = self.new_column();
                let text = format!("{on} ADD COLUMN {}", definition(&column));
                if column.not_null && column.default.is_none() {
                    return self.define(text, Err(Reason::InvalidTableDefinition)).await;
                }
                let fill = column.default.clone().unwrap_or(Value::Null);
                table.columns.push(column);
                for row in table.partitions.values_mut().flat_map(BTreeMap::values_mut) {
                    row.values.push(fill.clone());
                }
                self.define(text, Ok(())).await;
            }
            2 => {
                let text = format!("{on} DROP COLUMN {}", table.names("")[at]);
                if at == 0 {
                    return self.define(text, Err(Reason::InvalidTableDefinition)).await;
                }
                table.columns.remove(at);
                for row in table.partitions.values_mut().flat_map(BTreeMap::values_mut) {
                    row.values.remove(at);
                }
                self.define(text, Ok(())).await;
            }
            _ => {
                // To a name that an earlier, dropped column may have had.
                let to = if self.random.one_in(2) {
                    format!("c{}", self.random.below(self.columns_made + 1))
                } else {
                    "id".to_owned()
                };
                let text = format!("{on} RENAME COLUMN {} TO {to}", table.names("")[at]);
                if table.columns.iter().any(|c| c.name == to) {
                    return self.define(text, Err(Reason::ColumnExists)).await;
                }
                table.columns[at].name = to;
                self.define(text, Ok(())).await;
            }
        }
        self.tables.insert(name, table);
    }

    fn some_table(&mut self) -> String {
        let names: Vec<&String> = self.tables.keys().collect();
        (*self.random.pick(&names)).clone()
    }

    /// Some rows, and one of the ways to say whose they are.
    fn target(&mut self) -> Target {
        let table = self.some_table();
        let user = *self.random.pick(&OWNERS);
        let shared = self.tables[&table].shared;
        let (client, qualifier) = match self.random.below(4) {
            0 => (self.db.acting(Role::Service, user), if shared { "app." } else { "app.user." }),
            1 => (self.db.user(user), if shared { "app." } else { "app.user." }),
            2 => (self.db.user(user), "app."),
            _ => (self.db.user(user), ""),
        };
        let owner = if shared { String::new() } else { user.to_owned() };
        Target { owner, client, named: format!("{qualifier}{}", quoted(&table)), table }
    }

    /// A condition with names as they stand alone.
    fn condition(&mut self, target: &Target, parameters: Sql) -> Condition {
        let table = self.tables[&target.table].clone();
        let expr = Expr::random_condition(&mut self.random, &table.types());
        let mut sql = Sql { text: " WHERE ".to_owned(), ..parameters };
        sql.expr(&mut self.random, &expr, &table.names(""));
        let others: Vec<String> = self
            .tables
            .iter()
            .filter(|(_, other)| other.columns[0].of == table.columns[0].of)
            .map(|(name, _)| name.clone())
            .collect();
        if self.random.one_in(8) {
            let other = self.random.pick(&others).clone();
            let other_table = &self.tables[&other];
            let owner = if other_table.shared { "" } else { user_of(&target.client) };
            let keys = other_table.rows(owner);
            let key = other_table.names("").swap_remove(0);
            sql.push(&format!(" AND {} IN (SELECT {key} FROM {})", table.names("")[0], quoted(&other)));
            return Condition { sql, kept: Box::new(move |row| expr.holds(row) && keys.contains_key(&row[0])) };
        }
        Condition { sql, kept: Box::new(move |row| expr.holds(row)) }
    }

    async fn insert(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        let names = table.names("");
        // The columns given, in any order; the key nearly always.
        let mut given: Vec<usize> =
            (0..table.columns.len()).filter(|i| !self.random.one_in(if *i == 0 { 40 } else { 4 })).collect();
        if given.len() > 1 && self.random.one_in(3) {
            given.reverse();
        }
        if given.is_empty() {
            given.push(0);
        }
        let mut sql = Sql::default();
        sql.push(&format!("INSERT INTO {}", target.named));
        let all = given.iter().copied().eq(0..table.columns.len());
        if !(all && self.random.one_in(2)) {
            let list: Vec<&str> = given.iter().map(|i| names[*i].as_str()).collect();
            sql.push(&format!(" ({})", list.join(", ")));
        }
        sql.push(" VALUES ");
        let mut offered = Vec::new();
        let count = if self.random.one_in(2) { 1 } else { 1 + self.random.below(6) };
        for i in 0..count {
            sql.push(if i == 0 { "(" } else { ", (" });
            let mut row: Vec<Value> = table.columns.iter().map(|c| c.default.clone().unwrap_or(Value::Null)).collect();
            for (j, index) in given.iter().enumerate() {
                sql.push(if j == 0 { "" } else { ", " });
                let column = &table.columns[*index];
                if self.random.one_in(12) {
                    sql.push("DEFAULT");
                } else if self.random.one_in(if column.not_null { 60 } else { 6 }) {
                    row[*index] = Value::Null;
                    sql.value(&mut self.random, &Value::Null, column.of);
                } else if *index != 0 && self.random.one_in(5) {
                    let expr = Expr::random(&mut self.random, column.of, &[], false, 2);
                    row[*index] = expr.of(&[], &[]);
                    sql.expr(&mut self.random, &expr, &[]);
                } else {
                    row[*index] = Value::random(&mut self.random, column.of);
                    sql.value(&mut self.random, &row[*index], column.of);
                }
            }
            sql.push(")");
            offered.push(row);
        }
        let on_conflict = self.on_conflict(&target, &mut sql);
        let expected = if table.lacks_value(&given) {
            Err(Reason::NotNullViolation)
        } else {
            table.insert(&target.owner, offered, &on_conflict)
        };
        self.write(target, sql, expected).await;
    }

    fn on_conflict(&mut self, target: &Target, sql: &mut Sql) -> OnConflict {
        let table = self.tables[&target.table].clone();
        let key = table.names("").swap_remove(0);
        match self.random.below(5) {
            0 => {
                sql.push(" ON CONFLICT DO NOTHING");
                OnConflict::Nothing
            }
            1 | 2 if table.columns.len() > 1 => {
                sql.push(&format!(" ON CONFLICT ({key}) DO UPDATE SET "));
                let qualifier = if self.random.one_in(2) { quoted(&target.table) } else { String::new() };
                let names = table.names(&qualifier);
                let mut assignments = Vec::new();
                for index in self.some_columns(&table) {
                    let of = table.columns[index].of;
                    let value = Expr::random(&mut self.random, of, &table.types(), true, 2);
                    sql.push(if assignments.is_empty() { "" } else { ", " });
                    sql.push(&format!("{} = ", table.names("")[index]));
                    sql.expr(&mut self.random, &value, &names);
                    assignments.push((index, value));
                }
                let filter = self.random.one_in(3).then(|| {
                    let filter = Expr::random(&mut self.random, Type::Bool, &table.types(), true, 2);
                    sql.push(" WHERE ");
                    sql.expr(&mut self.random, &filter, &names);
                    filter
                });
                OnConflict::Update { assignments, filter }
            }
            _ => OnConflict::Fail,
        }
    }

    /// At least one column beside the key.
    fn some_columns(&mut self, table: &Table) -> Vec<usize> {
        let mut some: Vec<usize> = (1..table.columns.len()).filter(|_| self.random.one_in(3)).collect();
        if some.is_empty() {
            some.push(1 + self.random.below(table.columns.len() - 1));
        }
        some
    }

    async fn insert_select(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        let same_key = |other: &Table| other.columns[0].of == table.columns[0].of;
        let sources: Vec<String> = self.tables.iter().filter(|(_, t)| same_key(t)).map(|(n, _)| n.clone()).collect();
        let source_name = self.random.pick(&sources).clone();
        let source = self.tables[&source_name].clone();
        let source_owner = if source.shared { "" } else { user_of(&target.client) };
        let columns: Vec<usize> = (0..table.columns.len()).filter(|i| *i == 0 || !self.random.one_in(3)).collect();
        let mut sql = Sql::default();
        let list: Vec<String> = columns.iter().map(|i| table.names("").swap_remove(*i)).collect();
        sql.push(&format!("INSERT INTO {} ({}) SELECT ", target.named, list.join(", ")));
        // The key is moved so that some rows are new; the move keeps keys apart.
        let moved = 1 + self.random.below(30) as i64;
        let key = source.names("").swap_remove(0);
        let is_text = table.columns[0].of == Type::Text;
        sql.push(&if is_text { format!("'m' || {key}") } else { format!("{key} + {moved}") });
        let values: Vec<Expr> = columns[1..]
            .iter()
            .map(|i| Expr::random(&mut self.random, table.columns[*i].of, &source.types(), false, 2))
            .collect();
        for (i, value) in values.iter().enumerate() {
            sql.push(", ").expr(&mut self.random, value, &source.names("")).push(&format!(" AS v{i}"));
        }
        sql.push(&format!(" FROM {}", quoted(&source_name)));
        let filter = Expr::random_condition(&mut self.random, &source.types());
        sql.push(" WHERE ").expr(&mut self.random, &filter, &source.names(""));
        let short = if is_text {
            sql.push(&format!(" AND length({key}) < 6"));
            |key: &Value| matches!(key, Value::Text(t) if t.chars().count() < 6)
        } else {
            |_: &Value| true
        };
        let offered = source.select(source_owner, |row| filter.holds(row) && short(&row[0])).into_iter().map(|row| {
            let mut new: Vec<Value> = table.columns.iter().map(|c| c.default.clone().unwrap_or(Value::Null)).collect();
            new[0] = match &row[0] {
                Value::Int(key) => Value::Int(key + moved),
                Value::Text(key) => Value::Text(format!("m{key}")),
                other => other.clone(),
            };
            for (index, value) in columns[1..].iter().zip(&values) {
                new[*index] = value.of(&row, &[]);
            }
            new
        });
        let offered: Vec<Vec<Value>> = offered.collect();
        let on_conflict = self.on_conflict(&target, &mut sql);
        let expected = if table.lacks_value(&columns) {
            Err(Reason::NotNullViolation)
        } else {
            table.insert(&target.owner, offered, &on_conflict)
        };
        self.write(target, sql, expected).await;
    }

    async fn update(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        if table.columns.len() == 1 {
            return;
        }
        let mut sql = Sql::default();
        sql.push(&format!("UPDATE {} SET ", target.named));
        let qualifier = if self.random.one_in(3) { quoted(&target.table) } else { String::new() };
        let mut assignments = Vec::new();
        for index in self.some_columns(&table) {
            sql.push(if assignments.is_empty() { "" } else { ", " });
            sql.push(&format!("{} = ", table.names("")[index]));
            if self.random.one_in(10) {
                sql.push("DEFAULT");
                assignments.push((index, None));
            } else {
                let value = Expr::random(&mut self.random, table.columns[index].of, &table.types(), false, 3);
                sql.expr(&mut self.random, &value, &table.names(&qualifier));
                assignments.push((index, Some(value)));
            }
        }
        if self.random.one_in(12) {
            let expected = table.update(&target.owner, &assignments, |_| true);
            return self.write(target, sql, expected).await;
        }
        let set = std::mem::take(&mut sql.text);
        let condition = self.condition(&target, sql);
        let sql = Sql { text: set + &condition.sql.text, parameters: condition.sql.parameters };
        let expected = table.update(&target.owner, &assignments, condition.kept);
        self.write(target, sql, expected).await;
    }

    async fn delete(&mut self) {
        let target = self.target();
        let condition = self.condition(&target, Sql::default());
        let text = format!("DELETE FROM {}{}", target.named, condition.sql.text);
        let expected = self.tables[&target.table].delete(&target.owner, condition.kept);
        self.write(target, Sql { text, parameters: condition.sql.parameters }, expected).await;
    }

    /// Runs a write, compares its answer and does it to the model.
    async fn write(&mut self, target: Target, mut sql: Sql, expected: Expected) {
        let table = self.tables[&target.table].clone();
        let returning = match self.random.below(6) {
            0 => {
                sql.push(" RETURNING *");
                Some((0..table.columns.len()).map(Expr::Column).collect::<Vec<_>>())
            }
            1 => {
                let index = self.random.below(table.columns.len());
                let value = Expr::random(&mut self.random, table.columns[index].of, &table.types(), false, 2);
                sql.push(&format!(" RETURNING {}, ", table.names("")[index]));
                sql.expr(&mut self.random, &value, &table.names("")).push(" AS made");
                Some(vec![Expr::Column(index), value])
            }
            _ => None,
        };
        let answer = self.execute(&target.client, &sql).await;
        let (answer, write) = match (answer, expected) {
            (Ok(answer), Ok(write)) => (answer, write),
            (Err(error), Err(reason)) if error.reason() == reason => return,
            (answer, expected) => self.fail(&format!("expected {expected:?}, got {answer:?}")),
        };
        if answer.row_count != write.rows.len() as u64 {
            self.fail(&format!("{} row(s) were affected, not {}", answer.row_count, write.rows.len()));
        }
        if let Some(returning) = returning {
            let rows = write.rows.iter().map(|row| returning.iter().map(|e| e.of(row, &[])).collect()).collect();
            self.compare(&answer, rows, false);
        }
        match answer.commit_seq {
            Some(seq) if !write.rows.is_empty() => {
                self.tables.get_mut(&target.table).unwrap().apply(&target.owner, write, seq.get());
            }
            None if write.rows.is_empty() => {}
            seq => self.fail(&format!("commit sequence {seq:?} of {} row(s)", write.rows.len())),
        }
    }

    fn compare(&self, answer: &Answer, rows: Vec<Vec<Value>>, ordered: bool) {
        let mut expected: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(Value::shown).collect()).collect();
        let mut given = answer.rows.clone();
        if !ordered {
            expected.sort();
            given.sort();
        }
        if expected != given {
            self.fail(&format!("expected rows {expected:?}\n     got rows {given:?}"));
        }
    }

    async fn read(&mut self, client: &Client, sql: &Sql, rows: Vec<Vec<Value>>, ordered: bool) {
        match self.execute(client, sql).await {
            Ok(answer) => self.compare(&answer, rows, ordered),
            Err(error) => self.fail(&format!("expected rows, got {error}")),
        }
    }

    async fn point_read(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        let columns: Vec<usize> =
            (0..1 + self.random.below(3)).map(|_| self.random.below(table.columns.len())).collect();
        let list: Vec<String> =
            columns.iter().enumerate().map(|(i, c)| format!("{} AS o{i}", table.names("")[*c])).collect();
        let keys: Vec<Value> =
            (0..1 + self.random.below(4)).map(|_| Value::random(&mut self.random, table.columns[0].of)).collect();
        let mut sql = Sql::default();
        sql.push(&format!("SELECT {} FROM {} WHERE {}", list.join(", "), target.named, table.names("")[0]));
        if let [key] = keys.as_slice() {
            sql.push(" = ").value(&mut self.random, key, table.columns[0].of);
        } else {
            for (i, key) in keys.iter().enumerate() {
                sql.push(if i == 0 { " IN (" } else { ", " }).value(&mut self.random, key, table.columns[0].of);
            }
            sql.push(")");
        }
        let found = table.select(&target.owner, |row| keys.contains(&row[0]));
        let rows = found.into_iter().map(|row| columns.iter().map(|c| row[*c].clone()).collect()).collect();
        self.read(&target.client, &sql, rows, false).await;
    }

    async fn ordered_read(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        let condition = self.condition(&target, Sql::default());
        let descending = self.random.one_in(2);
        let with_key = !self.random.one_in(3);
        let column = self.random.below(table.columns.len());
        let names = table.names("");
        let list = if with_key {
            format!("{}, {} AS other", names[0], names[column])
        } else {
            format!("{} AS other", names[column])
        };
        let mut text = format!("SELECT {list} FROM {}{} ORDER BY {}", target.named, condition.sql.text, names[0]);
        if descending {
            text.push_str(" DESC");
        }
        let mut rows = table.select(&target.owner, condition.kept);
        if descending {
            rows.reverse();
        }
        if self.random.one_in(2) {
            let limit = self.random.below(6);
            text.push_str(&format!(" LIMIT {limit}"));
            let offset = if self.random.one_in(3) { self.random.below(4) } else { 0 };
            if offset > 0 {
                text.push_str(&format!(" OFFSET {offset}"));
            }
            rows = rows.into_iter().skip(offset).take(limit).collect();
        }
        let rows = rows
            .into_iter()
            .map(|row| if with_key { vec![row[0].clone(), row[column].clone()] } else { vec![row[column].clone()] })
            .collect();
        let sql = Sql { text, parameters: condition.sql.parameters };
        self.read(&target.client, &sql, rows, true).await;
    }

    async fn filtered_read(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        let value = Expr::random(&mut self.random, Type::Bool, &table.types(), false, 3);
        let mut sql = Sql::default();
        sql.push("SELECT *, ")
            .expr(&mut self.random, &value, &table.names(""))
            .push(&format!(" AS made FROM {}", target.named));
        let select = std::mem::take(&mut sql.text);
        let condition = self.condition(&target, sql);
        let sql = Sql { text: select + &condition.sql.text, parameters: condition.sql.parameters };
        let rows = table.select(&target.owner, condition.kept).into_iter().map(|row| {
            let made = value.of(&row, &[]);
            row.into_iter().chain([made]).collect()
        });
        let plan = target.client.try_with(format!("EXPLAIN {}", sql.text), &sql.parameters).await;
        self.over_images += usize::from(plan.is_ok_and(|plan| plan.rows.concat().concat().contains("HotImageScan")));
        self.read(&target.client, &sql, rows.collect(), false).await;
    }

    async fn aggregate(&mut self) {
        let target = self.target();
        let table = self.tables[&target.table].clone();
        let names = table.names("");
        let condition = self.condition(&target, Sql::default());
        let rows = table.select(&target.owner, condition.kept);
        let by = self.random.below(table.columns.len());
        let of = self.random.below(table.columns.len());
        let numeric = table.columns[of].of.is_int();
        let what = if numeric { format!("SUM({})", names[of]) } else { format!("COUNT(DISTINCT {})", names[of]) };
        let grouped = self.random.one_in(2);
        let (list, group) =
            if grouped { (format!("{}, ", names[by]), format!(" GROUP BY {}", names[by])) } else { Default::default() };
        let text = format!(
            "SELECT {list}COUNT(*), COUNT({0}), MIN({0}), MAX({0}), {what} FROM {1}{2}{group}",
            names[of], target.named, condition.sql.text
        );
        let mut groups: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
        if !grouped {
            groups.insert(Value::Null, Vec::new());
        }
        for row in &rows {
            let key = if grouped { row[by].clone() } else { Value::Null };
            groups.entry(key).or_default().push(row[of].clone());
        }
        let expected = groups.into_iter().map(|(key, values)| {
            let total = values.len() as i64;
            let mut known: Vec<Value> = values.into_iter().filter(|v| *v != Value::Null).collect();
            known.sort();
            let last = if numeric {
                let sum = known.iter().map(|v| if let Value::Int(i) = v { *i } else { 0 }).sum();
                if known.is_empty() { Value::Null } else { Value::Int(sum) }
            } else {
                let mut distinct = known.clone();
                distinct.dedup();
                Value::Int(distinct.len() as i64)
            };
            let end = |v: Option<&Value>| v.cloned().unwrap_or(Value::Null);
            let row = [Value::Int(total), Value::Int(known.len() as i64), end(known.first()), end(known.last()), last];
            let key = if grouped { vec![key] } else { Vec::new() };
            key.into_iter().chain(row).collect()
        });
        let sql = Sql { text, parameters: condition.sql.parameters };
        self.read(&target.client, &sql, expected.collect(), false).await;
    }

    async fn join(&mut self) {
        let left = self.target();
        let (a, right) = (self.tables[&left.table].clone(), self.some_table());
        let b = self.tables[&right].clone();
        if a.columns[0].of != b.columns[0].of {
            return;
        }
        let owner = if b.shared { "" } else { user_of(&left.client) };
        let outer = self.random.one_in(2);
        let text = format!(
            "SELECT a.{ka}, b.{kb} FROM {} a {}JOIN {} b ON a.{ka} = b.{kb}",
            left.named,
            if outer { "LEFT " } else { "" },
            quoted(&right),
            ka = a.names("")[0],
            kb = b.names("")[0],
        );
        let keys = b.rows(owner);
        let rows = a.rows(&left.owner).into_keys().filter_map(|key| match keys.contains_key(&key) {
            true => Some(vec![key.clone(), key]),
            false => outer.then(|| vec![key, Value::Null]),
        });
        self.read(&left.client, &Sql { text, parameters: Vec::new() }, rows.collect(), false).await;
    }

    /// Every row of every table and owner, with the commit that wrote it.
    async fn check_everything(&mut self) {
        for (name, table) in self.tables.clone() {
            let admin = self.db.admin();
            let from = if table.shared { quoted(&name) } else { format!("app.all_users.{}", quoted(&name)) };
            let rows = table.partitions.iter().flat_map(|(owner, rows)| {
                rows.values().map(move |row| {
                    let mut values = row.values.clone();
                    if !owner.is_empty() {
                        values.push(Value::Text(owner.clone()));
                    }
                    values.push(Value::Int(row.seq as i64));
                    values
                })
            });
            let sql = Sql { text: format!("SELECT *, _seq FROM {from}"), parameters: Vec::new() };
            self.read(&admin, &sql, rows.collect(), false).await;
        }
    }
}

fn user_of(client: &Client) -> &str {
    client.session.caller().effective_user().as_str()
}

fn quoted(name: &str) -> String {
    if name.contains(char::is_uppercase) { format!("\"{name}\"") } else { name.to_owned() }
}

fn definition(column: &Column) -> String {
    let mut text = format!("{} {}", quoted(&column.name), column.of.sql());
    if column.not_null {
        text.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        let value = match default {
            Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
            other => other.shown(),
        };
        text.push_str(&format!(" DEFAULT {value}"));
    }
    text
}
