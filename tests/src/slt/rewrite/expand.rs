//! Expanding `*` over tables that have a hidden key.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
};

use sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAliasColumnDef, TableFactor, TableWithJoins, VisitorMut,
    WildcardAdditionalOptions,
};

use super::{Shape, fold, key_of};

/// Expands each `*` that would show a hidden key.
pub(super) struct Expander<'a> {
    pub(super) tables: &'a BTreeMap<String, Shape>,
    /// Names of common table expressions in scope; they hide tables.
    pub(super) ctes: Vec<HashSet<String>>,
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
                WildcardAdditionalOptions::default(),
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
                if let (Some(alias), Some(known)) = (alias.as_mut(), columns.as_mut())
                    && !alias.columns.is_empty()
                {
                    let names_all = alias.columns.len() == known.len();
                    for (known, renamed) in known.iter_mut().zip(&alias.columns) {
                        *known = renamed.name.clone();
                    }
                    if let Some(key) = hidden.clone().filter(|_| names_all) {
                        alias.columns.push(TableAliasColumnDef::from_name(key.value));
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
