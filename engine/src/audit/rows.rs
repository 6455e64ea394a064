//! `system.audit`.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, StringViewBuilder, TimestampMicrosecondArray,
};
use kalamdb_store::{
    codec::{audit_range, split_audit_key},
    kv::{Direction, Keyspace},
};

use super::{AuditRecord, Shelf};
use crate::{
    error::{Error, Result},
    exec::{StatementContext, corrupt, from_store},
    system::{AUDIT_COLUMNS, schema_of},
    types::UTC,
};

/// The records, the oldest first. Who may read them is a matter of the role matrix.
pub(crate) fn rows(context: &StatementContext) -> Result<RecordBatch> {
    let mut records: Vec<(u64, AuditRecord)> = Vec::new();
    let snapshot = context.snapshot();
    for shelf in Shelf::ALL {
        let range = audit_range(shelf.byte());
        let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
        while let Some((key, value)) = cursor.item() {
            let id = split_audit_key(key).map_err(corrupt)?;
            let record = serde_json::from_slice(value).map_err(|_| corrupt("a record of the audit"))?;
            records.push((id, record));
            cursor.advance().map_err(from_store)?;
        }
    }
    records.sort_unstable_by_key(|(id, _)| *id);
    let text = |of: fn(&AuditRecord) -> Option<&str>| -> ArrayRef {
        let mut column = StringViewBuilder::with_capacity(records.len()).with_deduplicate_strings();
        records.iter().for_each(|(_, record)| column.append_option(of(record)));
        Arc::new(column.finish())
    };
    let ids = Int64Array::from_iter_values(records.iter().map(|(id, _)| i64::try_from(*id).unwrap_or(i64::MAX)));
    let times = TimestampMicrosecondArray::from_iter_values(records.iter().map(|(_, record)| record.at_us));
    let outcomes: StringViewArray = records.iter().map(|(_, record)| Some(record.outcome.as_str())).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(times.with_timezone(UTC)),
        text(|record| Some(&record.user_id)),
        text(|record| Some(&record.role)),
        text(|record| record.acting_as.as_deref()),
        text(|record| record.address.as_deref()),
        text(|record| Some(&record.action)),
        text(|record| record.object.as_deref()),
        text(|record| record.statement.as_deref()),
        Arc::new(outcomes),
        text(|record| record.reason.as_deref()),
    ];
    RecordBatch::try_new(schema_of(&AUDIT_COLUMNS), columns).map_err(Error::internal)
}
