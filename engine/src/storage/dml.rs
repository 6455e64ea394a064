//! INSERT, UPDATE and DELETE on `system.storages`: the same operations as CREATE, ALTER and DROP STORAGE.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, RecordBatch, RecordBatchOptions},
        compute::filter_record_batch,
        datatypes::Schema,
    },
    common::{DFSchema, DFSchemaRef, ScalarValue},
    sql::sqlparser::ast,
};

use crate::{
    access,
    catalog::{did_you_mean, nearest},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        Body, Invocation, Planner, RowExpr, StatementContext, convert_parameters, from_datafusion, parameter_types,
        qualified,
    },
    sql::{
        AlterStorage, CREDENTIALS_COLUMN, CreateStorage, Delete, DropStorage, Insert, InsertSource, Name, Statement,
        StorageKind, TableName, TableScope, Update,
    },
    system::{SYSTEM, rows},
    types::SqlType,
    values::{CastContext, cast_scalar},
};

/// The table that storages are rows of.
const TABLE: &str = "storages";
/// Its columns that a statement can give.
const GIVEN_COLUMNS: [&str; 4] = ["name", "type", "uri", CREDENTIALS_COLUMN];

/// Whether a statement changes `system.storages`.
pub(crate) fn concerns(statement: &Statement, namespace: Option<&str>) -> bool {
    let is_storages = |table: &TableName| {
        let namespace = table.namespace.as_ref().map(|n| n.text.as_str()).or(namespace);
        namespace == Some(SYSTEM) && table.table.text == TABLE && table.scope == TableScope::Caller
    };
    match statement {
        Statement::Insert(insert) => is_storages(&insert.table),
        Statement::Update(update) => is_storages(&update.table),
        Statement::Delete(delete) => is_storages(&delete.table),
        _ => false,
    }
}

/// Runs a statement that [`concerns`] storages. All of its rows take effect, or none.
pub(crate) async fn run(shared: &Arc<Shared>, invocation: &Invocation, statement: &Statement) -> Result<Body> {
    access::may_write_system_table(&invocation.caller, TABLE)?;
    let context = shared.context(invocation.caller.clone());
    let given = Given::new(shared, &context, invocation)?;
    match statement {
        Statement::Insert(insert) => {
            let creates = given.creates(insert)?;
            let created = shared.storages.create_all(&creates).await?;
            Ok(affected(created, format!("INSERT 0 {created}")))
        }
        Statement::Update(update) => {
            let alters = given.alters(update)?;
            shared.storages.alter_all(&alters).await?;
            Ok(affected(alters.len(), format!("UPDATE {}", alters.len())))
        }
        Statement::Delete(delete) => {
            let drops = given.drops(delete)?;
            let dropped = shared.storages.drop_all(&drops).await?;
            Ok(affected(dropped, format!("DELETE {dropped}")))
        }
        other => Err(Error::internal(format!("not a change of storages: {other:?}"))),
    }
}

/// What the expressions of a statement are evaluated with.
struct Given<'a> {
    shared: &'a Shared,
    context: &'a StatementContext,
    planner: Planner<'a>,
    types: Vec<SqlType>,
    values: Vec<ScalarValue>,
}

impl<'a> Given<'a> {
    fn new(shared: &'a Shared, context: &'a StatementContext, invocation: &Invocation) -> Result<Self> {
        let types = parameter_types(&invocation.parameters);
        let values = convert_parameters(&invocation.parameters, &types)?;
        Ok(Self { shared, context, planner: Planner::functions_only(&shared.template), types, values })
    }

    fn creates(&self, insert: &Insert) -> Result<Vec<CreateStorage>> {
        if insert.on_conflict.is_some() {
            return Err(unsupported("ON CONFLICT", "Use CREATE STORAGE IF NOT EXISTS."));
        }
        if insert.returning.is_some() {
            return Err(unsupported("RETURNING", "Read system.storages afterwards."));
        }
        let InsertSource::Values(rows) = &insert.source else {
            return Err(unsupported(
                "INSERT without VALUES",
                "Write VALUES ('name', 'S3', 's3://bucket/prefix', '{…}').",
            ));
        };
        if insert.columns.is_empty() {
            return Err(unsupported(
                "INSERT without column names",
                "Write INSERT INTO system.storages (name, type, uri, credentials).",
            ));
        }
        for column in &insert.columns {
            settable(column, &GIVEN_COLUMNS)?;
        }
        rows.iter().map(|row| self.create(&insert.columns, row)).collect()
    }

    fn create(&self, columns: &[Name], row: &[Option<ast::Expr>]) -> Result<CreateStorage> {
        if row.len() != columns.len() {
            return Err(Error::new(
                Reason::InvalidStatement,
                format!("INSERT names {} column(s), but a row has {} value(s).", columns.len(), row.len()),
            ));
        }
        let nothing: DFSchemaRef = Arc::new(DFSchema::empty());
        let one_row = one_row()?;
        let mut values: [Option<String>; GIVEN_COLUMNS.len()] = Default::default();
        for (column, value) in columns.iter().zip(row) {
            let Some(slot) = GIVEN_COLUMNS.iter().position(|name| *name == column.text) else { continue };
            let Some(expr) = value else { continue };
            values[slot] = self.texts(expr, &nothing, &one_row, &column.text)?.pop().flatten();
        }
        let [name, kind, uri, credentials] = values;
        Ok(CreateStorage {
            name: plain(required(name, "name")?),
            kind: kind_of(&required(kind, "type")?)?,
            uri: required(uri, "uri")?,
            credentials,
            if_not_exists: false,
        })
    }

    fn alters(&self, update: &Update) -> Result<Vec<AlterStorage>> {
        if update.returning.is_some() {
            return Err(unsupported("RETURNING", "Read system.storages afterwards."));
        }
        for assignment in &update.assignments {
            settable(&assignment.column, &GIVEN_COLUMNS[2..])?;
        }
        let (rows, schema) = self.matching(update.alias.as_ref(), update.filter.as_ref())?;
        let mut alters: Vec<AlterStorage> = names(&rows)?
            .into_iter()
            .map(|name| AlterStorage { name: plain(name), uri: None, credentials: None })
            .collect();
        for assignment in &update.assignments {
            let column = assignment.column.text.as_str();
            let values = match &assignment.value {
                Some(expr) => self.texts(expr, &schema, &rows, column)?,
                None => vec![None; alters.len()],
            };
            for (alter, value) in alters.iter_mut().zip(values) {
                match column {
                    "uri" => alter.uri = Some(required(value, "uri")?),
                    // NULL takes them away.
                    _ => alter.credentials = Some(value.unwrap_or_default()),
                }
            }
        }
        Ok(alters)
    }

    fn drops(&self, delete: &Delete) -> Result<Vec<DropStorage>> {
        if delete.returning.is_some() {
            return Err(unsupported("RETURNING", "Read system.storages before."));
        }
        let (rows, _) = self.matching(delete.alias.as_ref(), delete.filter.as_ref())?;
        // One that went meanwhile is gone as was wished.
        Ok(names(&rows)?.into_iter().map(|name| DropStorage { name: plain(name), if_exists: true }).collect())
    }

    /// The rows of `system.storages` for which a condition holds.
    fn matching(&self, alias: Option<&Name>, filter: Option<&ast::Expr>) -> Result<(RecordBatch, DFSchemaRef)> {
        let rows = rows::storages(self.context)?;
        let schema = qualified(&rows.schema(), alias.map_or(TABLE, |a| a.text.as_str()))?;
        let Some(filter) = filter else { return Ok((rows, schema)) };
        let condition = RowExpr::plan(&self.planner, filter, &schema, &self.types)?;
        let keep = condition.holds(&self.shared.template, self.context, &self.values, &rows)?;
        Ok((filter_record_batch(&rows, &keep).map_err(Error::internal)?, schema))
    }

    /// The values of an expression for each row, as texts.
    fn texts(
        &self,
        expr: &ast::Expr,
        schema: &DFSchemaRef,
        rows: &RecordBatch,
        column: &str,
    ) -> Result<Vec<Option<String>>> {
        let planned = RowExpr::plan(&self.planner, expr, schema, &self.types);
        let values =
            planned.and_then(|planned| planned.evaluate(&self.shared.template, self.context, &self.values, rows));
        // Errors repeat values.
        let values = if column == CREDENTIALS_COLUMN { values.map_err(|_| Error::of_secret(column))? } else { values? };
        (0..values.len())
            .map(|row| {
                let value = ScalarValue::try_from_array(&values, row).map_err(from_datafusion)?;
                if value.is_null() {
                    return Ok(None);
                }
                let from = SqlType::from_arrow(&value.data_type());
                if !matches!(from, SqlType::Text | SqlType::Json) {
                    return Err(Error::new(
                        Reason::InvalidValue,
                        format!("Column \"{column}\" of system.storages is TEXT; the value is {from}."),
                    )
                    .with("column", column));
                }
                match cast_scalar(&value, &from, &SqlType::Text, column, CastContext::Expression)? {
                    ScalarValue::Utf8View(text) => Ok(text),
                    other => Err(Error::internal(format!("a text of type {}", other.data_type()))),
                }
            })
            .collect()
    }
}

/// The names of rows of `system.storages`.
fn names(rows: &RecordBatch) -> Result<Vec<String>> {
    let Some(column) = rows.column_by_name(GIVEN_COLUMNS[0]) else {
        return Err(Error::internal("storages without names"));
    };
    (0..rows.num_rows())
        .map(|row| match ScalarValue::try_from_array(column, row).map_err(from_datafusion)? {
            ScalarValue::Utf8View(Some(name)) => Ok(name),
            _ => Err(Error::internal("a storage without a name")),
        })
        .collect()
}

/// Checks that a statement can give a column.
fn settable(column: &Name, columns: &[&str]) -> Result<()> {
    if columns.contains(&column.text.as_str()) {
        return Ok(());
    }
    let near = nearest(&column.text, columns.iter().copied());
    let error = Error::new(
        Reason::InvalidStatement,
        format!(
            "Column \"{}\" of system.storages cannot be set here; {} can.{}",
            column.text,
            columns.join(", "),
            did_you_mean(near)
        ),
    )
    .with("column", column.text.as_str());
    Err(match column.position {
        Some(position) => error.at(position),
        None => error,
    })
}

fn kind_of(text: &str) -> Result<StorageKind> {
    StorageKind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let kinds = StorageKind::ALL.map(StorageKind::as_str);
        let near = nearest(text, kinds);
        Error::new(Reason::InvalidValue, format!("A storage has type {}.{}", kinds.join(", "), did_you_mean(near)))
            .with("column", "type")
    })
}

fn required(value: Option<String>, column: &str) -> Result<String> {
    value.ok_or_else(|| {
        Error::new(
            Reason::NotNullViolation,
            format!("Column \"{column}\" of system.storages is NOT NULL; give it a value."),
        )
        .with("column", column)
    })
}

fn unsupported(what: &str, instead: &str) -> Error {
    Error::new(Reason::NotSupported, format!("{what} is not supported on system.storages. {instead}"))
}

fn affected(rows: usize, message: String) -> Body {
    Body::Affected { row_count: rows as u64, message }
}

fn plain(text: String) -> Name {
    Name { text, position: None }
}

fn one_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).map_err(Error::internal)
}
