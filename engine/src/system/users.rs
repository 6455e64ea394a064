//! `system.users` and `system.api_keys`: what may be known of users and keys, never their secrets.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanBuilder, ListBuilder, RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder},
        datatypes::SchemaRef,
    },
    common::ScalarValue,
    logical_expr::Expr,
};

use crate::{
    error::{Error, Result},
    exec::StatementContext,
    system::{
        definition::{API_KEY_COLUMNS, NEW_API_KEY_COLUMNS, SYSTEM, TableDefinition, USER_COLUMNS, batch, schema_of},
        rows::{optional_text, optional_time, text, time},
    },
    types::UTC,
    users::{ApiKeyInfo, NewApiKey, User, Wanted},
};

/// The name of the table of users.
const USERS: &str = "users";

/// Whether a table makes only the rows that a condition can be about.
pub(super) fn looks_up(table: &TableDefinition) -> bool {
    table.namespace == SYSTEM && table.name == USERS
}

/// The users that conditions can be about. Others may be among them.
pub(super) fn matching(context: &StatementContext, conditions: &[Expr]) -> Result<RecordBatch> {
    let constant = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    users_wanted(context, &Wanted::by(conditions, constant))
}

/// The users that are wanted and concern the caller, as rows of `system.users`.
pub(crate) fn users_wanted(context: &StatementContext, wanted: &Wanted) -> Result<RecordBatch> {
    let mut rows = UserRows::default();
    let snapshot = Arc::clone(context.snapshot());
    context.users.each(snapshot.as_ref(), &context.caller, wanted, |user| {
        rows.push(&user);
        Ok(())
    })?;
    rows.finish()
}

/// `system.users`: for a plain user itself, for a service those that it may act for.
pub(crate) fn users(context: &StatementContext) -> Result<RecordBatch> {
    users_wanted(context, &Wanted::All)
}

/// `system.api_keys`: the keys of the users that the caller may know of.
pub(crate) fn api_keys(context: &StatementContext) -> Result<RecordBatch> {
    key_rows(&context.users.keys_seen_by(&context.caller, None)?)
}

/// A row of `system.api_keys`.
fn key_row(key: &ApiKeyInfo) -> Vec<ScalarValue> {
    vec![
        text(&key.key_id),
        text(key.user_id.as_str()),
        optional_text(key.name.as_deref()),
        time(key.created_at_us),
        optional_time(key.expires_at_us),
        optional_time(key.last_used_us),
    ]
}

/// A key that was just created: the only row that ever shows one.
pub(crate) fn new_key_row(new: &NewApiKey) -> Result<RecordBatch> {
    let info = &new.info;
    let row = vec![
        text(&info.key_id),
        text(&new.key),
        text(info.user_id.as_str()),
        optional_text(info.name.as_deref()),
        optional_time(info.expires_at_us),
    ];
    batch(&NEW_API_KEY_COLUMNS, vec![row])
}

/// Keys as rows of `system.api_keys`.
pub(crate) fn key_rows(keys: &[ApiKeyInfo]) -> Result<RecordBatch> {
    batch(&API_KEY_COLUMNS, keys.iter().map(key_row).collect())
}

/// The columns of SHOW USERS.
pub(crate) fn user_schema() -> SchemaRef {
    schema_of(&USER_COLUMNS)
}

/// The columns of SHOW API KEYS.
pub(crate) fn key_schema() -> SchemaRef {
    schema_of(&API_KEY_COLUMNS)
}

/// The columns of CREATE API KEY.
pub(crate) fn new_key_schema() -> SchemaRef {
    schema_of(&NEW_API_KEY_COLUMNS)
}

/// Rows of `system.users`. There can be many: the columns are built as such.
struct UserRows {
    user_id: StringViewBuilder,
    username: StringViewBuilder,
    role: StringViewBuilder,
    permissions: ListBuilder<StringViewBuilder>,
    metadata: StringViewBuilder,
    disabled: BooleanBuilder,
    has_password: BooleanBuilder,
    created_at: TimestampMicrosecondBuilder,
    updated_at: TimestampMicrosecondBuilder,
    last_login: TimestampMicrosecondBuilder,
}

impl Default for UserRows {
    fn default() -> Self {
        let times = || TimestampMicrosecondBuilder::new().with_timezone(UTC);
        Self {
            user_id: StringViewBuilder::new(),
            username: StringViewBuilder::new(),
            role: StringViewBuilder::new(),
            permissions: ListBuilder::new(StringViewBuilder::new()),
            metadata: StringViewBuilder::new(),
            disabled: BooleanBuilder::new(),
            has_password: BooleanBuilder::new(),
            created_at: times(),
            updated_at: times(),
            last_login: times(),
        }
    }
}

impl UserRows {
    fn push(&mut self, user: &User) {
        self.user_id.append_value(user.user_id.as_str());
        self.username.append_value(&user.username);
        self.role.append_value(user.role.as_str());
        self.permissions.append_value(user.permissions.iter().map(Some));
        self.metadata.append_option(user.metadata.as_deref());
        self.disabled.append_value(user.disabled);
        self.has_password.append_value(user.has_password);
        self.created_at.append_value(user.created_at_us);
        self.updated_at.append_value(user.updated_at_us);
        self.last_login.append_option(user.last_login_us);
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.user_id.finish()),
            Arc::new(self.username.finish()),
            Arc::new(self.role.finish()),
            Arc::new(self.permissions.finish()),
            Arc::new(self.metadata.finish()),
            Arc::new(self.disabled.finish()),
            Arc::new(self.has_password.finish()),
            Arc::new(self.created_at.finish()),
            Arc::new(self.updated_at.finish()),
            Arc::new(self.last_login.finish()),
        ];
        RecordBatch::try_new(schema_of(&USER_COLUMNS), columns).map_err(Error::internal)
    }
}
