//! Views of a backup, as a script for DuckDB.
//!
//! Of each table there is one: its segments beside the rows that are marked as deleted, and the rows that were hot. A
//! segment has the columns of the schema version that it was written with, so there is a SELECT for each version, which
//! gives columns the names and the values that they have now.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    sync::Arc,
};

use datafusion::{
    arrow::{datatypes::DataType, util::display::array_value_to_string},
    common::ScalarValue,
};
use kalamdb_store::ids::SchemaVersion;

use super::format::{BackupId, FileLine, ListFile};
use crate::{
    catalog::{Column, OWNER_COLUMN, SEQ_COLUMN, Table, UPDATED_COLUMN},
    sql::TableKind,
};

/// The most bytes of paths in the script. Tables that have no room in it get no view.
const MAX_PATH_BYTES: usize = 32 * 1024 * 1024;

/// The script under way.
pub(super) struct Views {
    backup: BackupId,
    namespace: String,
    tables: Vec<Files>,
    path_bytes: usize,
}

/// The files of a table.
struct Files {
    table: Arc<Table>,
    /// Of segments, by the schema version whose columns they have.
    segments: BTreeMap<SchemaVersion, Vec<String>>,
    hot: Vec<String>,
    has_marks: bool,
    is_too_long: bool,
}

impl Views {
    pub(super) fn new(backup: BackupId, namespace: &str) -> Self {
        Self { backup, namespace: namespace.to_owned(), tables: Vec::new(), path_bytes: 0 }
    }

    /// Begins a table.
    pub(super) fn begin(&mut self, table: &Arc<Table>) {
        let (segments, hot) = (BTreeMap::new(), Vec::new());
        self.tables.push(Files { table: Arc::clone(table), segments, hot, has_marks: false, is_too_long: false });
    }

    /// Adds a file of the table that was begun last.
    pub(super) fn file(&mut self, line: &FileLine) {
        let Some(files) = self.tables.last_mut() else { return };
        if files.is_too_long {
            return;
        }
        if self.path_bytes + line.path.len() > MAX_PATH_BYTES {
            let of_table = files.segments.values().flatten().chain(&files.hot).map(String::len).sum::<usize>();
            self.path_bytes -= of_table;
            (files.segments, files.hot, files.is_too_long) = (BTreeMap::new(), Vec::new(), true);
            return;
        }
        self.path_bytes += line.path.len();
        match &line.segment {
            Some(segment) => {
                files.has_marks |= segment.marks > 0;
                files.segments.entry(line.schema_version).or_default().push(line.path.clone());
            }
            None => files.hot.push(line.path.clone()),
        }
    }

    /// The script; the lists are those of the manifest.
    pub(super) fn finish(self, files: &[ListFile], marks: &[ListFile]) -> String {
        let mut script = format!(
            "-- Backup {} of namespace {}, as views for DuckDB. Run it in the directory that has the folder `data`:\n\
             --   duckdb -init duckdb.sql\n\
             -- INTERVAL, UUID and JSON are text here.\n\n\
             CREATE SCHEMA IF NOT EXISTS {};\n",
            self.backup,
            self.namespace,
            quoted(&self.namespace)
        );
        let mut names = HashSet::new();
        for table in &self.tables {
            let view = if names.insert(table.table.name().as_str().to_ascii_lowercase()) {
                table.view(files, marks)
            } else {
                Err("its name differs from that of another table by case alone, which DuckDB does not tell apart"
                    .to_owned())
            };
            let name = format!("{}.{}", quoted(&self.namespace), quoted(table.table.name().as_str()));
            // Writing to a text does not fail.
            let _ = match view {
                Ok(view) => write!(script, "\nCREATE OR REPLACE VIEW {name} AS\n{view};\n"),
                Err(why) => write!(script, "\n-- No view of {name}: {why}.\n"),
            };
        }
        script
    }
}

impl Files {
    /// The SELECT of a table, or why there is none.
    fn view(&self, files: &[ListFile], marks: &[ListFile]) -> Result<String, String> {
        if self.table.kind() == TableKind::Stream {
            return Err("rows of STREAM tables are in no backup".to_owned());
        }
        if self.is_too_long {
            return Err("it has too many files to name here; they are in the list of files".to_owned());
        }
        let versions = &self.table.record().versions;
        let mut used: HashSet<String> = HashSet::new();
        for version in versions {
            let mut lower = HashSet::new();
            for column in &version.columns {
                let name = column.name.as_str().to_ascii_lowercase();
                used.insert(name.clone());
                if !lower.insert(name) {
                    return Err(
                        "names of its columns differ by case alone, which DuckDB does not tell apart".to_owned()
                    );
                }
            }
        }
        if self.has_marks && used.contains("file_row_number") {
            return Err("its column file_row_number has a name that DuckDB needs itself".to_owned());
        }
        let with_owner = self.table.kind() == TableKind::User;
        let mut parts = Vec::new();
        for (version, paths) in &self.segments {
            parts.push(self.segments_of(*version, paths, with_owner, used.contains("filename"))?);
        }
        if !self.hot.is_empty() {
            let owner = with_owner.then(|| format!("d.{}", quoted(OWNER_COLUMN)));
            let columns = self.table.columns().iter().map(|column| format!("d.{}", quoted(column.name.as_str())));
            let columns = select_list(owner, columns.collect(), self.table.columns());
            parts.push(format!("SELECT {columns}\nFROM read_parquet({}) AS d", list(&self.hot)));
        }
        if parts.is_empty() {
            let nothing = |data_type: &DataType| format!("CAST(NULL AS {})", duckdb_type(data_type));
            let owner = with_owner.then(|| nothing(&DataType::Utf8));
            let columns = self.table.columns().iter().map(|column| nothing(&column.data_type)).collect();
            let columns = columns_list(owner, columns, self.table.columns(), "0::BIGINT", "CAST(NULL AS TIMESTAMPTZ)");
            return Ok(format!("SELECT {columns}\nWHERE false"));
        }
        let mut with = Vec::new();
        let paths = |lists: &[ListFile]| list(&lists.iter().map(|list| list.path.clone()).collect::<Vec<_>>());
        if with_owner && !self.segments.is_empty() {
            with.push(format!(
                "owners AS (SELECT parse_filename(path) AS file, owner FROM read_json({}, format = 'newline_delimited', \
                 columns = {{path: 'VARCHAR', owner: 'VARCHAR'}}))",
                paths(files)
            ));
        }
        if self.has_marks {
            with.push(format!("marks AS (SELECT file, \"row\" FROM read_parquet({}))", paths(marks)));
        }
        let with = if with.is_empty() { String::new() } else { format!("WITH {}\n", with.join(",\n")) };
        Ok(format!("{with}{}", parts.join("\nUNION ALL\n")))
    }

    /// The rows of the segments with the columns of a schema version.
    fn segments_of(
        &self,
        version: SchemaVersion,
        paths: &[String],
        with_owner: bool,
        has_filename: bool,
    ) -> Result<String, String> {
        let versions = &self.table.record().versions;
        let stored = versions.iter().find(|stored| stored.version == version);
        let stored = stored.ok_or_else(|| format!("schema version {version} of its segments is not known"))?;
        let mut columns = Vec::new();
        for column in self.table.columns() {
            let there = stored.columns.iter().find(|stored| stored.id == column.id);
            columns.push(match there {
                Some(there) => format!("d.{}", quoted(there.name.as_str())),
                None => fill(column)?,
            });
        }
        let (option, filename) =
            if has_filename { ("'kalamdb_filename'", "kalamdb_filename") } else { ("true", "filename") };
        let file = format!("parse_filename(d.{})", quoted(filename));
        let owner = with_owner.then(|| "o.owner".to_owned());
        let mut select = format!("SELECT {}\n", select_list(owner, columns, self.table.columns()));
        let number = if self.has_marks { ", file_row_number = true" } else { "" };
        let _ = write!(select, "FROM read_parquet({}, filename = {option}{number}) AS d", list(paths));
        if with_owner {
            let _ = write!(select, "\nJOIN owners AS o ON o.file = {file}");
        }
        if self.has_marks {
            let _ = write!(
                select,
                "\nWHERE NOT EXISTS (SELECT 1 FROM marks AS m WHERE m.file = {file} AND m.\"row\" = d.file_row_number)"
            );
        }
        Ok(select)
    }
}

fn select_list(owner: Option<String>, values: Vec<String>, columns: &[Column]) -> String {
    let own = |name: &str| format!("d.{}", quoted(name));
    columns_list(owner, values, columns, &own(SEQ_COLUMN), &own(UPDATED_COLUMN))
}

fn columns_list(owner: Option<String>, values: Vec<String>, columns: &[Column], seq: &str, updated: &str) -> String {
    let owner = owner.map(|value| format!("{value} AS {}", quoted(OWNER_COLUMN)));
    let own = values.iter().zip(columns).map(|(value, column)| format!("{value} AS {}", quoted(column.name.as_str())));
    let system = [(seq, SEQ_COLUMN), (updated, UPDATED_COLUMN)];
    let system = system.map(|(value, name)| format!("{value} AS {}", quoted(name)));
    owner.into_iter().chain(own).chain(system).collect::<Vec<_>>().join(", ")
}

/// What rows older than a column have in it.
fn fill(column: &Column) -> Result<String, String> {
    let data_type = duckdb_type(&column.data_type);
    let Some(value) = column.fill.as_ref().filter(|value| !value.is_null()) else {
        return Ok(format!("CAST(NULL AS {data_type})"));
    };
    literal(value, &data_type)
        .ok_or_else(|| format!("older rows have a default in column {} that cannot be written in DuckDB", column.name))
}

fn literal(value: &ScalarValue, data_type: &str) -> Option<String> {
    let array = value.to_array().ok()?;
    match array.data_type() {
        DataType::List(_) | DataType::Struct(_) => None,
        DataType::BinaryView | DataType::Binary => {
            let hex = array_value_to_string(&array, 0).ok()?;
            Some(format!("from_hex('{hex}')"))
        }
        _ => {
            let text = array_value_to_string(&array, 0).ok()?;
            Some(format!("CAST('{}' AS {data_type})", text.replace('\'', "''")))
        }
    }
}

/// The type that DuckDB reads from a file's column.
fn duckdb_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt16 => "USMALLINT".to_owned(),
        DataType::UInt32 => "UINTEGER".to_owned(),
        DataType::UInt64 => "UBIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 | DataType::Decimal256(_, _) => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Binary | DataType::BinaryView => "BLOB".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::List(element) => format!("{}[]", duckdb_type(element.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|f| format!("{} {}", quoted(f.name()), duckdb_type(f.data_type())));
            format!("STRUCT({})", fields.collect::<Vec<_>>().join(", "))
        }
        _ => "VARCHAR".to_owned(),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(paths: &[String]) -> String {
    let paths = paths.iter().map(|path| format!("'{}'", path.replace('\'', "''")));
    format!("[{}]", paths.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_are_literals_of_duckdb() {
        let text = |value: ScalarValue, data_type: DataType| literal(&value, &duckdb_type(&data_type));
        assert_eq!(text(ScalarValue::Int32(Some(-5)), DataType::Int32).as_deref(), Some("CAST('-5' AS INTEGER)"));
        assert_eq!(
            text(ScalarValue::Utf8View(Some("it's".to_owned())), DataType::Utf8View).as_deref(),
            Some("CAST('it''s' AS VARCHAR)")
        );
        assert_eq!(
            text(ScalarValue::Boolean(Some(true)), DataType::Boolean).as_deref(),
            Some("CAST('true' AS BOOLEAN)")
        );
        assert_eq!(
            text(ScalarValue::BinaryView(Some(vec![0, 255])), DataType::BinaryView).as_deref(),
            Some("from_hex('00ff')")
        );
        assert_eq!(text(ScalarValue::Date32(Some(1)), DataType::Date32).as_deref(), Some("CAST('1970-01-02' AS DATE)"));
    }

    #[test]
    fn names_and_paths_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(list(&["a".to_owned(), "it's".to_owned()]), "['a', 'it''s']");
    }
}
