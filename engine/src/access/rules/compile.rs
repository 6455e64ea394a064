//! The rules for one table as one condition over its rows.

use std::{collections::BTreeMap, fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, BooleanArray, RecordBatch},
        datatypes::Schema,
    },
    common::{
        Column as ColumnName, DFSchema, Result as DataFusionResult, ScalarValue,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    logical_expr::{
        Expr, Operator, binary_expr, execution_props::ExecutionProps, expr::InList,
        physical_planning_context::PhysicalPlanningContext, utils::disjunction,
    },
    physical_expr::{PhysicalExpr, create_physical_expr},
};
use kalamdb_store::{
    codec::PrimaryKey,
    ids::{SchemaVersion, TableId, UserId},
};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    TableRules, check,
    parse::{Comparison, Condition, Test},
};
use crate::{
    access::Caller,
    catalog::Table,
    error::{Error, Reason, Result},
    exec::{batch_of, from_datafusion},
    functions::{Bindings, bind_expr, current_user},
    types::SqlType,
};

/// Name of the column that holds CURRENT_USER() where rows are checked one by one; no column of a table can have it.
const USER_COLUMN: &str = "current_user()";

/// Memory for compiled rules that are kept, about.
const MAX_KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// Rules that were compiled, for all users: those with equal rules share them.
#[derive(Debug)]
pub(crate) struct RowRules(Cache<Compiled, Option<Arc<RowRule>>>);

/// Rules by their text, for a table as it was at a schema version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Compiled {
    rules: Arc<str>,
    table: TableId,
    version: SchemaVersion,
}

impl RowRules {
    pub(crate) fn new() -> Self {
        // Expressions take several times the room of their text.
        let weigh = |key: &Compiled, _: &Option<Arc<RowRule>>| {
            u32::try_from(1_024 + key.rules.len().saturating_mul(10)).unwrap_or(u32::MAX)
        };
        let rules = Cache::builder().weigher(weigh).max_capacity(MAX_KEPT_BYTES);
        Self(rules.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// The rules for a table as a condition; `None`: no row fulfils any of them, whatever it holds.
    pub(super) fn compiled(&self, rules: &TableRules, table: &Table) -> Result<Option<Arc<RowRule>>> {
        let key = Compiled { rules: Arc::clone(&rules.text), table: table.id(), version: table.schema_version() };
        if let Some(known) = self.0.get(&key) {
            return Ok(known);
        }
        let compiled = RowRule::compile(rules, table)?.map(Arc::new);
        self.0.insert(key, compiled.clone());
        Ok(compiled)
    }
}

/// Which rows of a table somebody with certain rules sees. It holds nothing of a user: CURRENT_USER() is filled in when
/// rows are looked at.
pub(crate) struct RowRule {
    text: Arc<str>,
    rules: usize,
    /// Over the table's columns, named alone. CURRENT_USER() is a placeholder.
    condition: Expr,
    /// The columns that the condition looks at, as indexes into the table's.
    columns: Vec<usize>,
    /// The same condition over these columns and one with CURRENT_USER().
    check: Arc<dyn PhysicalExpr>,
    check_schema: Arc<Schema>,
}

impl RowRule {
    /// Compiles rules; `None` if none of them fits the table as it is.
    fn compile(rules: &TableRules, table: &Table) -> Result<Option<Self>> {
        let mut parts = Parts::default();
        for condition in &rules.conditions {
            // A rule whose column is gone, or is of another type by now, matches nothing.
            let Ok(index) = table.column_index(&condition.column.text) else { continue };
            parts.add(index, condition, table);
        }
        let columns: Vec<usize> = parts.columns.keys().copied().collect();
        let count = parts.count;
        let Some(condition) = parts.into_condition(table) else { return Ok(None) };

        let mut fields: Vec<_> =
            columns.iter().filter_map(|i| table.schema().fields().get(*i)).map(Arc::clone).collect();
        fields.push(Arc::new(SqlType::Text.to_field(USER_COLUMN, false)));
        let check_schema = Arc::new(Schema::new(fields));
        let check = physical(&condition, &check_schema).map_err(from_datafusion)?;
        Ok(Some(Self { text: Arc::clone(&rules.text), rules: count, condition, columns, check, check_schema }))
    }

    /// What tells it from other rules for the same table.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How many rules it was made of.
    pub(crate) fn rules(&self) -> usize {
        self.rules
    }

    /// The condition for a user, over the table's columns named alone.
    pub(crate) fn condition_for(&self, user: &UserId) -> Result<Expr> {
        bind_expr(self.condition.clone(), &Bindings::new(&[], 0, user))
    }

    /// The columns that it looks at, as indexes into the table's.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// For each row whether `user` sees it. `columns` are the values of [`RowRule::columns`].
    pub(crate) fn shows(&self, user: &UserId, mut columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
        let user = ScalarValue::Utf8View(Some(user.as_str().to_owned()));
        columns.push(user.to_array_of_size(rows).map_err(Error::internal)?);
        let batch = batch_of(&self.check_schema, columns, rows).map_err(Error::internal)?;
        let value = self.check.evaluate(&batch).and_then(|value| value.into_array(rows)).map_err(Error::internal)?;
        let Some(shown) = value.as_any().downcast_ref::<BooleanArray>() else {
            return Err(Error::internal("a rule that is not boolean"));
        };
        // A condition that is NULL lets nothing through.
        Ok(shown.iter().map(|shown| Some(shown == Some(true))).collect())
    }

    /// The same for whole rows of the table.
    pub(crate) fn shows_rows(&self, user: &UserId, rows: &RecordBatch) -> Result<BooleanArray> {
        let columns = self.columns.iter().map(|i| rows.columns().get(*i).map(Arc::clone));
        let columns =
            columns.collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("rows without a rule's column"))?;
        self.shows(user, columns, rows.num_rows())
    }

    /// Checks that `caller` sees rows that it is about to write.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    pub(crate) fn check_written(&self, caller: &Caller, table: &Table, rows: &RecordBatch) -> Result<()> {
        if self.shows_rows(caller.effective_user(), rows)?.false_count() == 0 {
            return Ok(());
        }
        Err(Error::new(
            Reason::PermissionDenied,
            format!(
                "The permissions of user '{}' do not let it write a row to {} that it could not read back. Write rows that \
                 they show.",
                caller.effective_user().as_str().escape_debug(),
                table.full_name()
            ),
        )
        .with("table", table.full_name()))
    }

    /// Checks that `caller` sees rows whose keys it wants to write.
    ///
    /// # Errors
    /// PERMISSION_DENIED. It says that there is a row with one of the keys, as a conflict must, and nothing more.
    pub(crate) fn check_conflicting(
        &self,
        caller: &Caller,
        table: &Table,
        rows: &RecordBatch,
        keys: &[PrimaryKey],
        display: impl Fn(&PrimaryKey) -> String,
    ) -> Result<()> {
        let shown = self.shows_rows(caller.effective_user(), rows)?;
        let Some(key) = shown.iter().zip(keys).find(|(shown, _)| *shown != Some(true)).map(|(_, key)| key) else {
            return Ok(());
        };
        let key = display(key);
        let column = table.key_column().name.as_str();
        let message = format!(
            "Table {} has a row with {column} = {key} that the permissions of user '{}' do not show. Use another key.",
            table.full_name(),
            caller.effective_user().as_str().escape_debug()
        );
        Err(Error::new(Reason::PermissionDenied, message)
            .with("table", table.full_name())
            .with("column", column)
            .with("key", key))
    }
}

/// Rules are equal if their texts are: they are compared for one table as it is.
impl PartialEq for RowRule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RowRule {}

impl fmt::Debug for RowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowRule").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Conditions gathered by column, so that equalities become one list.
#[derive(Default)]
struct Parts {
    columns: BTreeMap<usize, OfColumn>,
    count: usize,
}

#[derive(Default)]
struct OfColumn {
    equal: Vec<ScalarValue>,
    others: Vec<Expr>,
}

impl Parts {
    fn add(&mut self, index: usize, condition: &Condition, table: &Table) {
        let Some(column) = table.columns().get(index) else { return };
        if check::condition(condition, column).is_err() {
            return;
        }
        let named = Expr::Column(ColumnName::new_unqualified(column.name.as_str()));
        let value = |operand, equality| check::value(operand, column, equality).ok();
        let expr = |value: Option<ScalarValue>| value.map_or_else(current_user, |value| Expr::Literal(value, None));
        let of_column = self.columns.entry(index).or_default();
        match &condition.test {
            Test::IsNull { negated: false } => of_column.others.push(named.is_null()),
            Test::IsNull { negated: true } => of_column.others.push(named.is_not_null()),
            Test::Compare(comparison, operand) => {
                let equality = *comparison == Comparison::Equal;
                match value(operand, equality) {
                    Some(Some(value)) if equality => of_column.equal.push(value),
                    Some(value) => of_column.others.push(binary_expr(named, operator(*comparison), expr(value))),
                    None => return,
                }
            }
            Test::In { operands, negated } => {
                let Some(values) = operands.iter().map(|operand| value(operand, !negated)).collect::<Option<Vec<_>>>()
                else {
                    return;
                };
                if *negated {
                    // One by one, as CURRENT_USER() may be among them.
                    let unequal = values.into_iter().map(|v| binary_expr(named.clone(), Operator::NotEq, expr(v)));
                    of_column.others.extend(datafusion::logical_expr::utils::conjunction(unequal));
                } else {
                    for value in values {
                        match value {
                            Some(value) => of_column.equal.push(value),
                            None => of_column.others.push(binary_expr(named.clone(), Operator::Eq, current_user())),
                        }
                    }
                }
            }
        }
        self.count += 1;
    }

    fn into_condition(self, table: &Table) -> Option<Expr> {
        let mut alternatives = Vec::new();
        for (index, OfColumn { mut equal, others }) in self.columns {
            let column = table.columns().get(index)?;
            let named = Expr::Column(ColumnName::new_unqualified(column.name.as_str()));
            alternatives.extend(others);
            match equal.len() {
                0 => {}
                1 => alternatives
                    .extend(equal.pop().map(|value| binary_expr(named, Operator::Eq, Expr::Literal(value, None)))),
                _ => {
                    let list = equal.into_iter().map(|value| Expr::Literal(value, None)).collect();
                    alternatives.push(Expr::InList(InList { expr: Box::new(named), list, negated: false }));
                }
            }
        }
        balanced(alternatives)
    }
}

/// The alternatives as a balanced tree: a leaning one of a thousand would be too deep to recurse over.
fn balanced(mut alternatives: Vec<Expr>) -> Option<Expr> {
    while alternatives.len() > 2 {
        let mut pairs = Vec::with_capacity(alternatives.len().div_ceil(2));
        let mut rest = alternatives.into_iter();
        while let Some(left) = rest.next() {
            pairs.extend(disjunction(std::iter::once(left).chain(rest.next())));
        }
        alternatives = pairs;
    }
    disjunction(alternatives)
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
    }
}

/// The condition with CURRENT_USER() as a column.
fn physical(condition: &Expr, schema: &Arc<Schema>) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    let over_columns = condition
        .clone()
        .transform_up(|expr| {
            Ok(match expr {
                Expr::Placeholder(_) => Transformed::yes(Expr::Column(ColumnName::new_unqualified(USER_COLUMN))),
                other => Transformed::no(other),
            })
        })
        .data()?;
    let schema = DFSchema::try_from(Arc::clone(schema))?;
    create_physical_expr(&over_columns, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}
