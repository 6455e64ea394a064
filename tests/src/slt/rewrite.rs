//! Fits SQL written for any database to KalamDB's tables, which have an owner and a key.
//!
//! `CREATE TABLE` becomes `CREATE USER TABLE`. A table without a usable key gets a generated one as its last column,
//! which must stay unseen: `INSERT INTO t VALUES …` is given its column list, and every `*` that would show the key is
//! expanded to the columns that the file knows of. Statements that need none of this are sent exactly as written.

mod expand;

use std::{collections::BTreeMap, ops::ControlFlow};

use sqlparser::{
    ast::{
        AlterTableOperation, ColumnOption, CreateTable, DataType, Expr, FromTable, Ident, Insert, ObjectName,
        ObjectNamePart, ObjectType, SelectItem, Statement, TableConstraint, TableFactor, TableObject, TableWithJoins,
        VisitMut,
    },
    dialect::GenericDialect,
    parser::Parser,
};

use expand::Expander;

/// What to do with a statement of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Send this SQL; when it succeeds, [`Rewriter::note`] these changes.
    Run {
        /// The SQL.
        sql: String,
        /// What it changes about the tables known.
        changes: Vec<Change>,
        /// The tables whose rows it changes, as SQL names them.
        writes: Vec<String>,
    },
    /// Nothing: the statement cannot change any result.
    Skip,
}

/// A change of the tables known.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A table was made.
    Created(String, Shape),
    /// A table was dropped.
    Dropped(String),
}

/// The columns of a table made by a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// As the file knows them, in creation order.
    columns: Vec<Ident>,
    /// The key added by the runner, which comes last.
    hidden_key: Option<Ident>,
}

/// Knows the tables that a file has made.
#[derive(Debug, Default)]
pub struct Rewriter {
    tables: BTreeMap<String, Shape>,
    keys_added: usize,
}

impl Rewriter {
    /// How the SQL of one record is to be run.
    pub fn plan(&mut self, sql: &str) -> Plan {
        // What this parser does not know, such as CREATE USER TABLE, needs no rewriting.
        let Ok(mut statements) = Parser::parse_sql(&GenericDialect {}, sql) else {
            return Plan::Run { sql: sql.to_owned(), changes: Vec::new(), writes: Vec::new() };
        };
        if !statements.is_empty() && statements.iter().all(is_about_plain_indexes) {
            return Plan::Skip;
        }
        let before = statements.clone();
        let mut changes = Vec::new();
        let mut texts = Vec::new();
        let mut created = false;
        let writes = statements.iter().filter_map(written_table).map(ToString::to_string).collect();
        for statement in &mut statements {
            match statement {
                Statement::CreateTable(table) if table.query.is_none() && !table.columns.is_empty() => {
                    let (text, shape) = self.create_table(table);
                    changes.push(Change::Created(key_of(&table.name), shape));
                    texts.push(text);
                    created = true;
                    continue;
                }
                Statement::Drop { object_type: ObjectType::Table, names, .. } => {
                    changes.extend(names.iter().map(|name| Change::Dropped(key_of(name))));
                }
                Statement::AlterTable(alter) => {
                    if let Some(shape) = self.altered(&key_of(&alter.name), &alter.operations) {
                        changes.push(Change::Created(key_of(&alter.name), shape));
                    }
                }
                _ => self.rewrite(statement),
            }
            texts.push(statement.to_string());
        }
        let sql = if created || statements != before { texts.join("; ") } else { sql.to_owned() };
        Plan::Run { sql, changes, writes }
    }

    /// Takes up what a statement that succeeded has changed.
    pub fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Created(name, shape) => {
                    self.tables.insert(name, shape);
                }
                Change::Dropped(name) => {
                    self.tables.remove(&name);
                }
            }
        }
    }

    fn rewrite(&self, statement: &mut Statement) {
        let mut visitor = Expander { tables: &self.tables, ctes: Vec::new() };
        let _: ControlFlow<()> = statement.visit(&mut visitor);
        match statement {
            Statement::Insert(insert) => self.complete_insert(insert),
            Statement::Update(update) => {
                let name = table_name(&update.table.relation);
                self.complete_returning(name, &mut update.returning);
            }
            Statement::Delete(delete) => {
                let name = deleted_from(&delete.from).first().and_then(|table| table_name(&table.relation));
                self.complete_returning(name, &mut delete.returning);
            }
            _ => {}
        }
    }

    fn complete_insert(&self, insert: &mut Insert) {
        let TableObject::TableName(name) = &insert.table else { return };
        let name = key_of(name);
        if let Some(shape) = self.tables.get(&name).filter(|shape| shape.hidden_key.is_some())
            && insert.columns.is_empty()
            && insert.source.is_some()
        {
            insert.columns = shape.columns.iter().cloned().map(ObjectName::from).collect();
        }
        self.complete_returning(Some(name), &mut insert.returning);
    }

    fn complete_returning(&self, table: Option<String>, returning: &mut Option<Vec<SelectItem>>) {
        let Some(shape) = table.and_then(|name| self.tables.get(&name)) else { return };
        if let (Some(items), Some(_)) = (returning, &shape.hidden_key) {
            let columns = || shape.columns.iter().cloned().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(name)));
            *items = std::mem::take(items)
                .into_iter()
                .flat_map(|item| match item {
                    SelectItem::Wildcard(_) => columns().collect(),
                    other => vec![other],
                })
                .collect();
        }
    }

    fn create_table(&mut self, table: &mut CreateTable) -> (String, Shape) {
        let columns: Vec<Ident> = table.columns.iter().map(|column| column.name.clone()).collect();
        let declared: Option<String> = declared_key(table);
        let usable = declared.and_then(|key| {
            let column = table.columns.iter_mut().find(|column| fold(&column.name) == key)?;
            usable_key_type(&column.data_type).map(|data_type| column.data_type = data_type)
        });
        let mut hidden_key = None;
        let mut text;
        if usable.is_some() {
            text = table.to_string();
        } else {
            // A key of several columns, or of another type, is replaced: its uniqueness is not checked then.
            for column in &mut table.columns {
                column.options.retain(|option| !matches!(option.option, ColumnOption::PrimaryKey(_)));
            }
            table.constraints.retain(|constraint| !matches!(constraint, TableConstraint::PrimaryKey(_)));
            self.keys_added += 1;
            let key = Ident::new(format!("_slt_key{}", self.keys_added));
            text = table.to_string();
            // `CREATE TABLE t (…)`: the column list ends at the last parenthesis.
            let end = text.rfind(')').unwrap_or(text.len());
            text.insert_str(end, &format!(", {key} BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID()"));
            hidden_key = Some(key);
        }
        (text.replacen("CREATE TABLE", "CREATE USER TABLE", 1), Shape { columns, hidden_key })
    }

    fn altered(&self, name: &str, operations: &[AlterTableOperation]) -> Option<Shape> {
        let mut shape = self.tables.get(name)?.clone();
        for operation in operations {
            match operation {
                // The key is then no longer last, which matters to no statement that the runner sends.
                AlterTableOperation::AddColumn { column_def, .. } => shape.columns.push(column_def.name.clone()),
                AlterTableOperation::DropColumn { column_names, .. } => {
                    shape.columns.retain(|column| !column_names.iter().any(|name| fold(name) == fold(column)));
                }
                AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                    for column in shape.columns.iter_mut().filter(|column| fold(column) == fold(old_column_name)) {
                        *column = new_column_name.clone();
                    }
                }
                _ => {}
            }
        }
        Some(shape)
    }
}

/// Indexes that are not unique change how fast a query is, never what it answers.
fn is_about_plain_indexes(statement: &Statement) -> bool {
    match statement {
        Statement::CreateIndex(index) => !index.unique,
        Statement::Drop { object_type: ObjectType::Index, .. } => true,
        _ => false,
    }
}

/// The table that a statement writes to.
fn written_table(statement: &Statement) -> Option<&ObjectName> {
    let factor = match statement {
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => return Some(name),
            _ => return None,
        },
        Statement::Update(update) => &update.table.relation,
        Statement::Delete(delete) => &deleted_from(&delete.from).first()?.relation,
        _ => return None,
    };
    match factor {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}

fn deleted_from(from: &FromTable) -> &[TableWithJoins] {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = from;
    tables
}

fn fold(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn key_of(name: &ObjectName) -> String {
    name.0.iter().filter_map(ObjectNamePart::as_ident).map(fold).collect::<Vec<_>>().join(".")
}

fn table_name(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { name, args: None, .. } => Some(key_of(name)),
        _ => None,
    }
}

/// The column declared as the key, when it is one column.
fn declared_key(table: &CreateTable) -> Option<String> {
    for column in &table.columns {
        if column.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_))) {
            return Some(fold(&column.name));
        }
    }
    table.constraints.iter().find_map(|constraint| match constraint {
        TableConstraint::PrimaryKey(key) => match key.columns.as_slice() {
            [column] => match &column.column.expr {
                Expr::Identifier(name) => Some(fold(name)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// The type to use for a key declared with this type: integers become BIGINT, text stays.
fn usable_key_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::TinyInt(_) | DataType::SmallInt(_) | DataType::Int(_) | DataType::Integer(_) => {
            Some(DataType::BigInt(None))
        }
        DataType::BigInt(_) | DataType::Text | DataType::Varchar(_) | DataType::String(_) => Some(data_type.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
