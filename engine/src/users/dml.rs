//! INSERT, UPDATE and DELETE on `system.users`: the same operations as CREATE, ALTER and DROP USER.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
        compute::filter_record_batch,
        datatypes::Schema,
    },
    common::{DFSchema, DFSchemaRef, ScalarValue},
    logical_expr::Expr,
    sql::sqlparser::ast,
};
use kalamdb_store::ids::UserId;

use super::{NewUser, UserPatch, Wanted, removal, rights::no_such_user, valid, wanted};
use crate::{
    access::{self, Role},
    catalog::{did_you_mean, nearest},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        Body, Invocation, Planner, RowExpr, StatementContext, convert_parameters, from_datafusion, parameter_types,
        qualified, value_of,
    },
    sql::{Delete, Insert, InsertSource, Name, PASSWORD_COLUMN, Password, Statement, TableName, TableScope, Update},
    system::{SYSTEM, users::users_wanted},
    types::SqlType,
};

/// The table that users are rows of.
const TABLE: &str = "users";
/// Its columns that a statement can give, and PASSWORD, which can be given and is never shown.
const GIVEN_COLUMNS: [&str; 7] =
    ["user_id", "username", "role", PASSWORD_COLUMN, "permissions", "metadata", "disabled"];

/// Whether a statement changes `system.users`.
pub(crate) fn concerns(statement: &Statement, namespace: Option<&str>) -> bool {
    let is_users = |table: &TableName| {
        let namespace = table.namespace.as_ref().map(|n| n.text.as_str()).or(namespace);
        namespace == Some(SYSTEM) && table.table.text == TABLE && table.scope == TableScope::Caller
    };
    match statement {
        Statement::Insert(insert) => is_users(&insert.table),
        Statement::Update(update) => is_users(&update.table),
        Statement::Delete(delete) => is_users(&delete.table),
        _ => false,
    }
}

/// Runs a statement that [`concerns`] users. All of its rows take effect, or none.
pub(crate) async fn run(shared: &Arc<Shared>, invocation: &Invocation, statement: &Statement) -> Result<Body> {
    let caller = &invocation.caller;
    access::may_write_system_table(caller, TABLE)?;
    let context = shared.context(caller.clone());
    let given = Given::new(shared, &context, invocation)?;
    match statement {
        Statement::Insert(insert) => {
            let creates = given.creates(insert)?;
            let created = shared.users.create_all(caller, creates).await?;
            Ok(affected(created, format!("INSERT 0 {created}")))
        }
        Statement::Update(update) => {
            let alters = given.alters(update)?;
            let count = alters.len();
            shared.users.alter_all(caller, alters).await?;
            Ok(affected(count, format!("UPDATE {count}")))
        }
        Statement::Delete(delete) => {
            let drops = given.drops(delete)?;
            // One that went meanwhile is gone as was wished.
            let dropped = removal::drop_all(shared, caller, drops, false, true).await?;
            Ok(affected(dropped, format!("DELETE {dropped}")))
        }
        other => Err(Error::internal(format!("not a change of users: {other:?}"))),
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

/// The values of one row that a statement gives, by column.
type Row = BTreeMap<&'static str, ScalarValue>;

impl<'a> Given<'a> {
    fn new(shared: &'a Shared, context: &'a StatementContext, invocation: &Invocation) -> Result<Self> {
        let types = parameter_types(&invocation.parameters);
        let values = convert_parameters(&invocation.parameters, &types)?;
        Ok(Self { shared, context, planner: Planner::functions_only(&shared.template), types, values })
    }

    fn creates(&self, insert: &Insert) -> Result<Vec<(NewUser, bool)>> {
        if insert.on_conflict.is_some() {
            return Err(unsupported("ON CONFLICT", "Use CREATE USER IF NOT EXISTS."));
        }
        if insert.returning.is_some() {
            return Err(unsupported("RETURNING", "Read system.users afterwards."));
        }
        let InsertSource::Values(rows) = &insert.source else {
            return Err(unsupported("INSERT without VALUES", "Write VALUES ('ana', 'user')."));
        };
        if insert.columns.is_empty() {
            return Err(unsupported(
                "INSERT without column names",
                "Write INSERT INTO system.users (username, role, password).",
            ));
        }
        let columns = columns(insert.columns.iter(), &GIVEN_COLUMNS)?;
        let nothing: DFSchemaRef = Arc::new(DFSchema::empty());
        let one_row = one_row()?;
        let mut users = Vec::with_capacity(rows.len());
        for row in rows {
            if row.len() != columns.len() {
                return Err(Error::new(
                    Reason::InvalidStatement,
                    format!("INSERT names {} column(s), but a row has {} value(s).", columns.len(), row.len()),
                ));
            }
            let mut values = Row::new();
            for (column, value) in columns.iter().zip(row) {
                let Some(expr) = value else { continue };
                let value = match self.plain(expr) {
                    Some(plain) => Some(plain),
                    None => self.evaluate(column, expr, &nothing, &one_row)?.pop(),
                };
                values.extend(value.map(|value| (*column, value)));
            }
            users.push((new_user(values)?, false));
        }
        Ok(users)
    }

    fn alters(&self, update: &Update) -> Result<Vec<(UserId, UserPatch)>> {
        if update.returning.is_some() {
            return Err(unsupported("RETURNING", "Read system.users afterwards."));
        }
        let assigned = columns(update.assignments.iter().map(|assignment| &assignment.column), &GIVEN_COLUMNS)?;
        if let Some(place) = assigned.iter().position(|column| *column == "user_id") {
            let message = "The id of a user cannot be changed: its rows are stored under it.";
            let error = Error::new(Reason::InvalidStatement, message).with("column", "user_id");
            return Err(at(error, update.assignments.get(place).map(|assignment| &assignment.column)));
        }
        let (rows, schema) = self.matching(update.alias.as_ref(), update.filter.as_ref())?;
        let ids = ids(&rows)?;
        let mut given: Vec<Row> = vec![Row::new(); ids.len()];
        for (column, assignment) in assigned.into_iter().zip(&update.assignments) {
            let values = match &assignment.value {
                Some(expr) => self.evaluate(column, expr, &schema, &rows)?,
                None => vec![ScalarValue::Null; ids.len()],
            };
            for (row, value) in given.iter_mut().zip(values) {
                row.insert(column, value);
            }
        }
        ids.into_iter().zip(given).map(|(id, row)| Ok((id, patch(row)?))).collect()
    }

    fn drops(&self, delete: &Delete) -> Result<Vec<UserId>> {
        if delete.returning.is_some() {
            return Err(unsupported("RETURNING", "Read system.users before."));
        }
        let (rows, _) = self.matching(delete.alias.as_ref(), delete.filter.as_ref())?;
        ids(&rows)
    }

    /// The rows of `system.users` for which a condition holds.
    ///
    /// # Errors
    /// USER_NOT_FOUND if it asks for one user by its id and there is none.
    fn matching(&self, alias: Option<&Name>, filter: Option<&ast::Expr>) -> Result<(RecordBatch, DFSchemaRef)> {
        let table = alias.map_or(TABLE, |alias| alias.text.as_str());
        let Some(filter) = filter else {
            let rows = users_wanted(self.context, &Wanted::All)?;
            let schema = qualified(&rows.schema(), table)?;
            return Ok((rows, schema));
        };
        let schema = qualified(&users_wanted(self.context, &Wanted::Ids(Default::default()))?.schema(), table)?;
        let condition = RowExpr::plan(&self.planner, filter, &schema, &self.types)?;
        let value_of = |expr: &Expr| value_of(expr, &self.values).ok();
        let rows = users_wanted(self.context, &Wanted::by([condition.expr()], value_of))?;
        if let Some(id) = wanted::single_id(condition.expr(), value_of)
            && !ids(&rows)?.iter().any(|found| found.as_str() == id)
        {
            return Err(no_such_user(&id));
        }
        let keep = condition.holds(&self.shared.template, self.context, &self.values, &rows)?;
        Ok((filter_record_batch(&rows, &keep).map_err(Error::internal)?, schema))
    }

    /// The value of a constant or a parameter as it stands: there can be very many.
    fn plain(&self, expr: &ast::Expr) -> Option<ScalarValue> {
        let ast::Expr::Value(value) = expr else { return None };
        match &value.value {
            ast::Value::SingleQuotedString(text) => Some(ScalarValue::Utf8View(Some(text.clone()))),
            ast::Value::Boolean(value) => Some(ScalarValue::Boolean(Some(*value))),
            ast::Value::Null => Some(ScalarValue::Null),
            ast::Value::Placeholder(id) => {
                let index: usize = id.strip_prefix('$')?.parse().ok()?;
                self.values.get(index.checked_sub(1)?).cloned()
            }
            _ => None,
        }
    }

    /// The value of an expression for each row, for a column.
    fn evaluate(
        &self,
        column: &'static str,
        expr: &ast::Expr,
        schema: &DFSchemaRef,
        rows: &RecordBatch,
    ) -> Result<Vec<ScalarValue>> {
        let planned = RowExpr::plan(&self.planner, expr, schema, &self.types);
        let values: Result<ArrayRef> =
            planned.and_then(|planned| planned.evaluate(&self.shared.template, self.context, &self.values, rows));
        // Errors repeat values.
        let values = if column == PASSWORD_COLUMN { values.map_err(|_| Error::of_secret(column))? } else { values? };
        (0..values.len()).map(|row| ScalarValue::try_from_array(&values, row).map_err(from_datafusion)).collect()
    }
}

fn new_user(mut row: Row) -> Result<NewUser> {
    let user_id = text(&mut row, "user_id")?;
    let username = text(&mut row, "username")?;
    let Some(username) = username.or_else(|| user_id.clone()) else {
        let message = "Column \"username\" of system.users is NOT NULL; give it a value, or give user_id.";
        return Err(Error::new(Reason::NotNullViolation, message).with("column", "username"));
    };
    let user_id = match user_id {
        Some(id) => {
            Some(UserId::new(&id).map_err(|e| valid::invalid("user_id", format!("The id cannot be used: {e}.")))?)
        }
        None => None,
    };
    let role = text(&mut row, "role")?;
    Ok(NewUser {
        user_id,
        role: role.map_or(Ok(Role::User), |role| role_of(&role))?,
        password: text(&mut row, "password")?.map(Password::new),
        permissions: texts(&mut row, "permissions")?.unwrap_or_default(),
        metadata: text(&mut row, "metadata")?,
        disabled: flag(&mut row, "disabled")?.unwrap_or(false),
        ..NewUser::named(username)
    })
}

/// NULL and DEFAULT take away what can be none.
fn patch(mut row: Row) -> Result<UserPatch> {
    let required = |column: &str| {
        let message = format!("Column \"{column}\" of system.users is NOT NULL; give it a value.");
        Error::new(Reason::NotNullViolation, message).with("column", column)
    };
    let mut patch = UserPatch::default();
    if row.contains_key("username") {
        patch.username = Some(text(&mut row, "username")?.ok_or_else(|| required("username"))?);
    }
    if row.contains_key("role") {
        patch.role = Some(role_of(&text(&mut row, "role")?.ok_or_else(|| required("role"))?)?);
    }
    if row.contains_key("password") {
        patch.password = Some(text(&mut row, "password")?.map(Password::new));
    }
    if row.contains_key("permissions") {
        patch.permissions = Some(texts(&mut row, "permissions")?.unwrap_or_default());
    }
    if row.contains_key("metadata") {
        patch.metadata = Some(text(&mut row, "metadata")?);
    }
    if row.contains_key("disabled") {
        patch.disabled = Some(flag(&mut row, "disabled")?.ok_or_else(|| required("disabled"))?);
    }
    Ok(patch)
}

fn role_of(text: &str) -> Result<Role> {
    text.to_ascii_lowercase().parse().map_err(|_| {
        let roles = Role::ALL.map(Role::as_str);
        let message = format!("A user has role {}.{}", roles.join(", "), did_you_mean(nearest(text, roles)));
        Error::new(Reason::InvalidValue, message).with("column", "role")
    })
}

fn text(row: &mut Row, column: &'static str) -> Result<Option<String>> {
    let Some(value) = row.remove(column).filter(|value| !value.is_null()) else { return Ok(None) };
    match value.try_as_str() {
        Some(text) => Ok(text.map(str::to_owned)),
        None => Err(wrong_type(column, "TEXT", &value)),
    }
}

fn flag(row: &mut Row, column: &'static str) -> Result<Option<bool>> {
    match row.remove(column) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(ScalarValue::Boolean(value)) => Ok(value),
        Some(other) => Err(wrong_type(column, "BOOLEAN", &other)),
    }
}

/// The elements of an array of texts.
fn texts(row: &mut Row, column: &'static str) -> Result<Option<Vec<String>>> {
    let Some(value) = row.remove(column).filter(|value| !value.is_null()) else { return Ok(None) };
    let wrong = || wrong_type(column, "an array of TEXT, such as ARRAY['ns.table.*']", &value);
    let ScalarValue::List(list) = &value else { return Err(wrong()) };
    if list.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let elements = list.value(0);
    (0..elements.len())
        .map(|i| {
            let element = ScalarValue::try_from_array(&elements, i).map_err(from_datafusion)?;
            element.try_as_str().flatten().map(str::to_owned).ok_or_else(wrong)
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

fn wrong_type(column: &'static str, wanted: &str, value: &ScalarValue) -> Error {
    let found = SqlType::from_arrow(&value.data_type());
    let message = format!("Column \"{column}\" of system.users is {wanted}; the value is {found}.");
    Error::new(Reason::InvalidValue, message).with("column", column)
}

/// The ids of rows of `system.users`.
fn ids(rows: &RecordBatch) -> Result<Vec<UserId>> {
    let Some(column) = rows.column_by_name(GIVEN_COLUMNS[0]) else {
        return Err(Error::internal("users without ids"));
    };
    column.as_string_view().iter().flatten().map(|id| UserId::new(id).map_err(Error::internal)).collect()
}

/// The columns that a statement gives, each once.
fn columns<'n>(names: impl Iterator<Item = &'n Name>, known: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut columns = Vec::new();
    for name in names {
        let Some(column) = known.iter().copied().find(|column| *column == name.text) else {
            return Err(at(not_settable(&name.text, known), Some(name)));
        };
        if columns.contains(&column) {
            let message = format!("Column \"{column}\" is given twice.");
            return Err(at(Error::new(Reason::InvalidStatement, message).with("column", column), Some(name)));
        }
        columns.push(column);
    }
    Ok(columns)
}

fn not_settable(column: &str, known: &[&'static str]) -> Error {
    if ["created_at", "updated_at", "last_login", "has_password"].contains(&column) {
        let message = format!("Column \"{column}\" of system.users is kept by the server; it cannot be set.");
        return Error::new(Reason::InvalidStatement, message).with("column", column);
    }
    let near = nearest(column, known.iter().copied());
    let message = format!("Column \"{column}\" of system.users does not exist.{}", did_you_mean(near));
    Error::new(Reason::ColumnNotFound, message).with("column", column)
}

fn unsupported(what: &str, instead: &str) -> Error {
    Error::new(Reason::NotSupported, format!("{what} is not supported on system.users. {instead}"))
}

fn at(error: Error, name: Option<&Name>) -> Error {
    match name.and_then(|name| name.position) {
        Some(position) => error.at(position),
        None => error,
    }
}

fn affected(rows: usize, message: String) -> Body {
    Body::Affected { row_count: rows as u64, message }
}

fn one_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).map_err(Error::internal)
}
