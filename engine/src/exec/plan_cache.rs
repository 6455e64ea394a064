//! Caches of parsed and of planned statements.
//!
//! A plan holds nothing of a caller or a moment, so that one plan serves every user. It is found by the statement's
//! normalised text, the namespace of its unqualified names and the types of its parameters, and is used only while
//! each table it names is still the same object of the catalog: DDL on a table makes a new object, and so retires the
//! plans that use it, and only them.
//!
//! A plan over restricted tables has the row rules of whoever it was made for in it, with CURRENT_USER() left open. It
//! serves those who have the same rules for these tables. Under the statement itself it is then only noted which tables these
//! are; the plans are under the statement and the texts of the rules. That is how they are found: whether one may be used
//! is decided by comparing its rules with the caller's, each time.

use std::{hash::Hash, sync::Arc};

use datafusion::arrow::datatypes::SchemaRef;
use metrics::{Counter, counter};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{
    access::{self, RowRule, Viewer},
    catalog::CatalogState,
    error::Result,
    exec::{delete::DeletePlan, insert::InsertPlan, planner::UsedTable, query::QueryPlan, update::UpdatePlan},
    sql::{Access, ParsedStatement, TableKind},
    types::SqlType,
};

/// Longer texts are parsed each time: they are bulk loads, not repeated queries.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;

/// What makes two statements the same plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey {
    pub(crate) normalized: Arc<str>,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) parameter_types: Vec<SqlType>,
    /// The texts of the caller's rules for the restricted tables; `None`: what is known of the statement for everybody.
    pub(crate) rules: Option<Arc<str>>,
}

/// What is known of a statement.
#[derive(Debug, Clone)]
enum Known {
    Plan(Arc<Plan>),
    /// Its plan depends on the caller's rules for these tables.
    Ruled(Arc<[UsedTable]>),
}

/// A statement that was planned.
#[derive(Debug)]
pub(crate) enum Plan {
    Query(QueryPlan),
    Insert(InsertPlan),
    Update(UpdatePlan),
    Delete(DeletePlan),
}

impl Plan {
    /// Whether it reads rows other than one by its key.
    pub(crate) fn scans(&self) -> bool {
        match self {
            Plan::Query(plan) => !plan.is_point_read(),
            Plan::Insert(plan) => plan.reads(),
            Plan::Update(_) | Plan::Delete(_) => true,
        }
    }

    /// The columns of its rows; `None`: it answers a count.
    pub(crate) fn schema(&self) -> Option<&SchemaRef> {
        match self {
            Plan::Query(plan) => Some(plan.schema()),
            Plan::Insert(plan) => plan.returned(),
            Plan::Update(plan) => plan.returned(),
            Plan::Delete(plan) => plan.returned(),
        }
    }

    /// The types of its parameters.
    pub(crate) fn parameter_types(&self) -> &[SqlType] {
        match self {
            Plan::Query(plan) => plan.parameter_types(),
            Plan::Insert(plan) => plan.parameter_types(),
            Plan::Update(plan) => plan.parameter_types(),
            Plan::Delete(plan) => plan.parameter_types(),
        }
    }

    fn tables(&self) -> &[UsedTable] {
        match self {
            Plan::Query(plan) => &plan.tables,
            Plan::Insert(plan) => &plan.tables,
            Plan::Update(plan) => &plan.tables,
            Plan::Delete(plan) => &plan.tables,
        }
    }
}

/// A batch of statements that was parsed.
#[derive(Debug)]
pub(crate) struct ParsedBatch {
    pub(crate) statements: Vec<CachedStatement>,
    /// The highest `$n` of all of them.
    pub(crate) parameter_count: usize,
}

/// A parsed statement, with its normalised text to be shared.
#[derive(Debug)]
pub(crate) struct CachedStatement {
    pub(crate) parsed: ParsedStatement,
    pub(crate) normalized: Arc<str>,
}

/// The caches of an engine.
#[derive(Debug)]
pub(crate) struct Caches {
    batches: Cache<Arc<str>, Arc<ParsedBatch>>,
    plans: Cache<PlanKey, Known>,
    hits: Counter,
    misses: Counter,
}

impl Caches {
    pub(crate) fn new(entries: u64) -> Self {
        Self {
            batches: recently_used(entries),
            plans: recently_used(entries),
            hits: counter!("kalamdb_plan_cache_hits_total"),
            misses: counter!("kalamdb_plan_cache_misses_total"),
        }
    }

    /// The batch with exactly this text, parsed with `parse` when it is new.
    pub(crate) fn parsed(
        &self,
        sql: &str,
        parse: impl FnOnce(&str) -> Result<Vec<ParsedStatement>>,
    ) -> Result<Arc<ParsedBatch>> {
        if let Some(batch) = self.batches.get(sql) {
            return Ok(batch);
        }
        let statements = parse(sql)?;
        let parameter_count = statements.iter().map(|s| s.parameter_count).max().unwrap_or(0);
        let statements = statements
            .into_iter()
            .map(|parsed| CachedStatement { normalized: parsed.normalized.as_str().into(), parsed })
            .collect();
        let batch = Arc::new(ParsedBatch { statements, parameter_count });
        let secret = batch.statements.iter().any(|s| s.parsed.statement.has_secrets());
        if sql.len() <= MAX_CACHED_TEXT_BYTES && !secret {
            self.batches.insert(sql.into(), Arc::clone(&batch));
        }
        Ok(batch)
    }

    /// A plan that is still valid in `catalog`, and that the caller may use.
    ///
    /// # Errors
    /// PERMISSION_DENIED when the caller may not use one of its tables.
    pub(crate) fn plan(&self, key: &PlanKey, catalog: &CatalogState, viewer: &Viewer) -> Result<Option<Arc<Plan>>> {
        let plan = match self.plans.get(key) {
            Some(Known::Plan(plan)) => usable(plan, catalog, viewer)?,
            Some(Known::Ruled(tables)) if are_current(&tables, catalog) => {
                let seen = tables.iter().map(|used| access::may_use_table(viewer, &used.table, used.scope));
                let rules = seen.map(|seen| Ok(seen?.rule().map(Arc::clone))).collect::<Result<Vec<_>>>()?;
                match self.plans.get(&PlanKey { rules: Some(rules_text(&rules)), ..key.clone() }) {
                    Some(Known::Plan(plan)) => usable(plan, catalog, viewer)?,
                    Some(Known::Ruled(_)) | None => None,
                }
            }
            Some(Known::Ruled(_)) | None => None,
        };
        match &plan {
            Some(_) => self.hits.increment(1),
            None => self.misses.increment(1),
        }
        Ok(plan)
    }

    /// Keeps a plan.
    pub(crate) fn insert(&self, key: PlanKey, plan: Arc<Plan>) {
        if key.normalized.len() > MAX_CACHED_TEXT_BYTES {
            return;
        }
        let is_ruled =
            |used: &&UsedTable| used.table.kind() == TableKind::Shared && used.table.access() == Access::Restricted;
        let ruled: Vec<UsedTable> = plan.tables().iter().filter(is_ruled).cloned().collect();
        if ruled.is_empty() {
            self.plans.insert(key, Known::Plan(plan));
            return;
        }
        let rules: Vec<Option<Arc<RowRule>>> = ruled.iter().map(|used| used.rule.clone()).collect();
        self.plans.insert(PlanKey { rules: Some(rules_text(&rules)), ..key.clone() }, Known::Plan(plan));
        self.plans.insert(key, Known::Ruled(ruled.into()));
    }
}

/// The plan, if it is valid in `catalog` and was made for rules such as the caller has.
fn usable(plan: Arc<Plan>, catalog: &CatalogState, viewer: &Viewer) -> Result<Option<Arc<Plan>>> {
    if !are_current(plan.tables(), catalog) {
        return Ok(None);
    }
    for used in plan.tables() {
        let visible = access::may_use_table(viewer, &used.table, used.scope)?;
        if visible.rule() != used.rule.as_ref() {
            return Ok(None);
        }
    }
    Ok(Some(plan))
}

fn are_current(tables: &[UsedTable], catalog: &CatalogState) -> bool {
    tables.iter().all(|used| catalog.is_current(&used.table))
}

/// The texts of rules for some tables, as one.
fn rules_text(rules: &[Option<Arc<RowRule>>]) -> Arc<str> {
    match rules {
        [Some(rule)] => Arc::clone(rule.text()),
        rules => {
            let texts = rules.iter().map(|rule| rule.as_ref().map_or("", |rule| rule.text()));
            texts.collect::<Vec<_>>().join("; ").into()
        }
    }
}

/// A cache of the entries used last. By moka's own choice a new entry would have to be asked for more often than an
/// old one to get in, so that after a change of load its statements would be planned again and again.
fn recently_used<K, V>(entries: u64) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(entries).eviction_policy(EvictionPolicy::lru()).build()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        let caches = Caches::new(2);
        let parses = Cell::new(0);
        let parse = |sql: &str| {
            caches
                .parsed(sql, |_| {
                    parses.set(parses.get() + 1);
                    Ok(Vec::new())
                })
                .unwrap();
            caches.batches.run_pending_tasks();
        };
        // However often the first two were used, the third takes the place of the one not used for longest.
        for _ in 0..100 {
            parse("SELECT 1");
            parse("SELECT 2");
        }
        parse("SELECT 3");
        assert_eq!(parses.get(), 3);
        parse("SELECT 3");
        parse("SELECT 2");
        assert_eq!(parses.get(), 3);
        parse("SELECT 1");
        assert_eq!(parses.get(), 4);
    }
}
