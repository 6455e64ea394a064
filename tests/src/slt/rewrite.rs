//! Fits SQL written for any database to KalamDB's tables, which have an owner and a key.
//!
//! `CREATE TABLE` becomes `CREATE USER TABLE`. A table without a usable key gets a generated one as its last column,
//! which must stay unseen: `INSERT INTO t VALUES …` is given its column list, and every `*` that would show the key is
//! expanded to the columns that the file knows of. Statements that need none of this are sent exactly as written.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
};

use sqlparser::{
    ast::{
        AlterTableOperation, ColumnOption, CreateTable, DataType, Expr, Ident, Insert, JoinConstraint, JoinOperator,
        ObjectName, ObjectNamePart, ObjectType, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
        Statement, TableAliasColumnDef, TableConstraint, TableFactor, TableObject, TableWithJoins, VisitMut,
        VisitorMut,
    },
    dialect::GenericDialect,
    parser::Parser,
};

/// What to do with a statement of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Send this SQL; when it succeeds, [`Rewriter::note`] these changes.
    Run {
        /// The SQL.
        sql: String,
        /// What it changes about the tables known.
        changes: Vec<Change>,
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
            return Plan::Run { sql: sql.to_owned(), changes: Vec::new() };
        };
        if !statements.is_empty() && statements.iter().all(is_about_plain_indexes) {
            return Plan::Skip;
        }
        let before = statements.clone();
        let mut changes = Vec::new();
        let mut texts = Vec::new();
        let mut created = false;
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
        Plan::Run { sql, changes }
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
                let (sqlparser::ast::FromTable::WithFromKeyword(from)
                | sqlparser::ast::FromTable::WithoutKeyword(from)) = &delete.from;
                let name = from.first().and_then(|table| table_name(&table.relation));
                self.complete_returning(name, &mut delete.returning);
            }
            _ => {}
        }
    }

    fn complete_insert(&self, insert: &mut Insert) {
        let TableObject::TableName(name) = &insert.table else { return };
        let name = key_of(name);
        if let Some(shape) = self.tables.get(&name).filter(|shape| shape.hidden_key.is_some()) {
            if insert.columns.is_empty() && insert.source.is_some() {
                insert.columns = shape.columns.iter().cloned().map(ObjectName::from).collect();
            }
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

/// Expands each `*` that would show a hidden key.
struct Expander<'a> {
    tables: &'a BTreeMap<String, Shape>,
    /// Names of common table expressions in scope; they hide tables.
    ctes: Vec<HashSet<String>>,
}

impl VisitorMut for Expander<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let names = query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| fold(&cte.alias.name)).collect();
        self.ctes.push(names);
        self.set_operation(&mut query.body);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }
}

/// A relation of a FROM clause: what to call it and, when known, its columns.
struct Relation {
    name: ObjectName,
    columns: Option<Vec<Ident>>,
    hides_a_key: bool,
}

/// A column or columns that a `*` stands for.
#[derive(Clone)]
enum Part {
    All(ObjectName),
    One(ObjectName, Ident),
    /// A column that USING or NATURAL has merged.
    Merged(Ident),
}

impl Part {
    fn name(&self) -> Option<&Ident> {
        match self {
            Part::All(_) => None,
            Part::One(_, name) | Part::Merged(name) => Some(name),
        }
    }

    fn item(self) -> SelectItem {
        match self {
            Part::All(relation) => SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(relation),
                sqlparser::ast::WildcardAdditionalOptions::default(),
            ),
            Part::One(relation, column) => {
                let mut path: Vec<Ident> = relation.0.iter().filter_map(ObjectNamePart::as_ident).cloned().collect();
                path.push(column);
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path))
            }
            Part::Merged(column) => SelectItem::UnnamedExpr(Expr::Identifier(column)),
        }
    }
}

impl Expander<'_> {
    fn set_operation(&self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.set_operation(left);
                self.set_operation(right);
            }
            // A nested query is visited by itself.
            _ => {}
        }
    }

    fn shape(&self, name: &str) -> Option<&Shape> {
        if self.ctes.iter().any(|names| names.contains(name)) { None } else { self.tables.get(name) }
    }

    fn select(&self, select: &mut Select) {
        let mut relations = Vec::new();
        let mut everything = Some(Vec::new());
        for from in &mut select.from {
            let parts = self.table_with_joins(from, &mut relations);
            everything = everything.zip(parts).map(|(mut all, parts)| {
                all.extend(parts);
                all
            });
        }
        if !relations.iter().any(|relation| relation.hides_a_key) {
            return;
        }
        let expand = |item: SelectItem| -> Vec<SelectItem> {
            match (&item, &everything) {
                (SelectItem::Wildcard(_), Some(parts)) => parts.iter().cloned().map(Part::item).collect(),
                (SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _), _) => {
                    let wanted = key_of(name);
                    match relations.iter().find(|relation| relation.hides_a_key && key_of(&relation.name) == wanted) {
                        Some(Relation { name, columns: Some(columns), .. }) => {
                            columns.iter().map(|column| Part::One(name.clone(), column.clone()).item()).collect()
                        }
                        _ => vec![item],
                    }
                }
                _ => vec![item],
            }
        };
        select.projection = std::mem::take(&mut select.projection).into_iter().flat_map(expand).collect();
    }

    /// What `*` stands for over a table and its joins; `None` when that cannot be told.
    fn table_with_joins(&self, from: &mut TableWithJoins, relations: &mut Vec<Relation>) -> Option<Vec<Part>> {
        let mut left = self.factor(&mut from.relation, relations);
        for join in &mut from.joins {
            let right = self.factor(&mut join.relation, relations);
            left = match &mut join.join_operator {
                JoinOperator::LeftSemi(_)
                | JoinOperator::Semi(_)
                | JoinOperator::LeftAnti(_)
                | JoinOperator::Anti(_) => left,
                JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => right,
                JoinOperator::Join(on)
                | JoinOperator::Inner(on)
                | JoinOperator::Left(on)
                | JoinOperator::LeftOuter(on)
                | JoinOperator::Right(on)
                | JoinOperator::RightOuter(on)
                | JoinOperator::FullOuter(on)
                | JoinOperator::CrossJoin(on) => left.zip(right).and_then(|(left, right)| joined(left, right, on)),
                _ => None,
            };
        }
        left
    }

    fn factor(&self, factor: &mut TableFactor, relations: &mut Vec<Relation>) -> Option<Vec<Part>> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let shape = self.shape(&key_of(name));
                let hidden = shape.and_then(|shape| shape.hidden_key.clone());
                let mut columns = shape.map(|shape| shape.columns.clone());
                if let (Some(alias), Some(known)) = (alias.as_mut(), columns.as_mut()) {
                    if !alias.columns.is_empty() {
                        for (known, renamed) in known.iter_mut().zip(&alias.columns) {
                            *known = renamed.name.clone();
                        }
                        if let Some(key) = hidden.clone().filter(|_| alias.columns.len() == known.len()) {
                            alias.columns.push(TableAliasColumnDef::from_name(key.value));
                        }
                    }
                }
                let name = alias.as_ref().map_or_else(|| name.clone(), |alias| ObjectName::from(alias.name.clone()));
                let parts = match &columns {
                    Some(columns) => columns.iter().map(|column| Part::One(name.clone(), column.clone())).collect(),
                    None => vec![Part::All(name.clone())],
                };
                relations.push(Relation { name, columns, hides_a_key: hidden.is_some() });
                Some(parts)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.table_with_joins(table_with_joins, relations)
            }
            TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. } => {
                Some(vec![Part::All(ObjectName::from(alias.name.clone()))])
            }
            _ => None,
        }
    }
}

/// What `*` stands for over a join.
fn joined(left: Vec<Part>, right: Vec<Part>, on: &mut JoinConstraint) -> Option<Vec<Part>> {
    let merged: Vec<Ident> = match on {
        JoinConstraint::On(_) | JoinConstraint::None => Vec::new(),
        JoinConstraint::Using(columns) => columns
            .iter()
            .map(|name| name.0.last().and_then(ObjectNamePart::as_ident).cloned())
            .collect::<Option<_>>()?,
        JoinConstraint::Natural => {
            let names = |parts: &[Part]| parts.iter().map(|part| part.name().cloned()).collect::<Option<Vec<_>>>();
            let right = names(&right)?;
            let common: Vec<Ident> =
                names(&left)?.into_iter().filter(|name| right.iter().any(|other| fold(other) == fold(name))).collect();
            if !common.is_empty() {
                // Hidden keys of the same name must not take part.
                *on = JoinConstraint::Using(common.iter().cloned().map(ObjectName::from).collect());
            }
            common
        }
    };
    if merged.is_empty() {
        return Some(left.into_iter().chain(right).collect());
    }
    if left.iter().chain(&right).any(|part| part.name().is_none()) {
        return None;
    }
    let is_merged = |part: &Part| part.name().is_some_and(|name| merged.iter().any(|m| fold(m) == fold(name)));
    let rest = left.into_iter().chain(right).filter(|part| !is_merged(part)).collect::<Vec<_>>();
    Some(merged.iter().cloned().map(Part::Merged).chain(rest).collect())
}

#[cfg(test)]
mod tests;
