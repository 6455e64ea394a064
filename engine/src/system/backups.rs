//! The rows of SHOW BACKUP.

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    common::ScalarValue,
};

use super::{
    definition::{BACKUP_COLUMNS, batch, schema_of},
    rows::{optional_text, optional_time, text},
};
use crate::{error::Result, jobs::BackupInfo};

/// The columns of SHOW BACKUP.
pub(crate) fn schema() -> SchemaRef {
    schema_of(&BACKUP_COLUMNS)
}

/// A row for each backup.
pub(crate) fn rows(backups: &[BackupInfo]) -> Result<RecordBatch> {
    let count = |value: Option<u64>| ScalarValue::Int64(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
    let rows = backups.iter().map(|backup| {
        let content = backup.content.as_ref();
        let names = content.map(|content| content.tables.join(", "));
        vec![
            text(&backup.backup_id),
            text(backup.status.as_str()),
            optional_text(content.map(|content| content.namespace.as_str())),
            optional_text(content.map(|content| content.mode.as_str())),
            optional_text(content.and_then(|content| content.based_on.as_deref())),
            optional_time(content.map(|content| content.created_at_us)),
            optional_time(content.map(|content| content.finished_at_us)),
            count(content.map(|content| content.commit_seq)),
            count(content.map(|content| content.tables.len() as u64)),
            optional_text(names.as_deref()),
            count(content.map(|content| content.rows)),
            count(content.map(|content| content.files)),
            count(content.map(|content| content.bytes)),
            count(content.map(|content| content.new_files)),
            count(content.map(|content| content.new_bytes)),
            optional_text(content.map(|content| content.version.as_str())),
            optional_text(backup.problem.as_deref()),
        ]
    });
    batch(&BACKUP_COLUMNS, rows.collect())
}
