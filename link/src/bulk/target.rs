//! Where rows are written to.

use std::collections::HashMap;

use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};

/// The table that [`Client::bulk_write`](crate::Client::bulk_write) writes to, and how.
///
/// ```
/// use kalam_link::BulkTarget;
///
/// let _ = BulkTarget::append("messages").namespace("chat");
/// let _ = BulkTarget::create("measurements").primary_key("sensor").access("public").atomic(false);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is to be given to `Client::bulk_write`"]
pub struct BulkTarget {
    table: String,
    namespace: Option<String>,
    if_missing: TableNotExistOption,
    if_exists: TableExistsOption,
    options: HashMap<String, String>,
}

impl BulkTarget {
    /// Rows are added to a table that exists.
    pub fn append(table: impl Into<String>) -> BulkTarget {
        BulkTarget::new(table, TableNotExistOption::Fail, TableExistsOption::Append)
    }

    /// A table is made for the rows, with their columns. There must be none.
    pub fn create(table: impl Into<String>) -> BulkTarget {
        BulkTarget::new(table, TableNotExistOption::Create, TableExistsOption::Fail)
    }

    /// Rows are added to a table, which is made if there is none.
    pub fn create_or_append(table: impl Into<String>) -> BulkTarget {
        BulkTarget::new(table, TableNotExistOption::Create, TableExistsOption::Append)
    }

    fn new(table: impl Into<String>, if_missing: TableNotExistOption, if_exists: TableExistsOption) -> BulkTarget {
        BulkTarget { table: table.into(), namespace: None, if_missing, if_exists, options: HashMap::new() }
    }

    /// The table's namespace, instead of the client's.
    pub fn namespace(mut self, namespace: impl Into<String>) -> BulkTarget {
        self.namespace = Some(namespace.into());
        self
    }

    /// Whether all rows are written or none, which is what happens unless this says `false`. More rows than the server takes
    /// at once (its setting `ingest.max_bytes`) are written in parts: each as a whole and in order, and an error leaves
    /// those before it.
    pub fn atomic(self, atomic: bool) -> BulkTarget {
        self.option("kalamdb.ingest.atomic", if atomic { "true" } else { "false" })
    }

    /// Of a new table: the column that is its primary key. Without this it is the column `id`, which is added if the rows
    /// have none.
    pub fn primary_key(self, column: impl Into<String>) -> BulkTarget {
        self.option("kalamdb.ingest.primary_key", column)
    }

    /// Of a new table: `shared`, which it is without this, or `user`.
    pub fn table_type(self, table_type: impl Into<String>) -> BulkTarget {
        self.option("kalamdb.ingest.table_type", table_type)
    }

    /// Of a new SHARED table: `private`, which it is without this, `restricted` or `public`.
    pub fn access(self, access: impl Into<String>) -> BulkTarget {
        self.option("kalamdb.ingest.access", access)
    }

    /// An option of the server by its name.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> BulkTarget {
        self.options.insert(name.into(), value.into());
        self
    }

    pub(super) fn into_command(self, namespace: &str) -> CommandStatementIngest {
        let definition =
            TableDefinitionOptions { if_not_exist: self.if_missing.into(), if_exists: self.if_exists.into() };
        let schema = self.namespace.or_else(|| Some(namespace.to_owned()).filter(|name| !name.is_empty()));
        CommandStatementIngest {
            table_definition_options: Some(definition),
            table: self.table,
            schema,
            catalog: None,
            temporary: false,
            transaction_id: None,
            options: self.options,
        }
    }
}
