use arrow::array::{Array, AsArray, UnionArray};
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};

use super::*;

/// Places of the kinds of values among the children of their union.
const BOOL: i8 = 1;
const BIGINT: i8 = 2;
const INT: i8 = 3;

/// A value, and of which kind it is.
fn value(name: SqlInfo) -> (i8, i64) {
    let batch = sql_info(&Config::default()).unwrap().record_batch([name as u32]).unwrap();
    assert_eq!(batch.column(0).as_primitive::<UInt32Type>().value(0), name as u32);
    let values = batch.column(1).as_any().downcast_ref::<UnionArray>().unwrap();
    let (kind, value) = (values.type_id(0), values.value(0));
    let number = match kind {
        BOOL => i64::from(value.as_boolean().value(0)),
        BIGINT => value.as_primitive::<Int64Type>().value(0),
        INT => value.as_primitive::<Int32Type>().value(0).into(),
        other => panic!("{name:?} is of kind {other}"),
    };
    (kind, number)
}

/// The JDBC driver casts each to the one class that it expects, and ends with an exception if it is another.
#[test]
fn values_are_of_the_types_that_drivers_read() {
    for (name, kind, number) in [
        (SqlInfo::SqlDefaultTransactionIsolation, BIGINT, 0),
        (SqlInfo::SqlIdentifierCase, BIGINT, 3),
        (SqlInfo::SqlQuotedIdentifierCase, BIGINT, 0),
        (SqlInfo::SqlNullOrdering, BIGINT, 0),
        (SqlInfo::SqlMaxColumnsInIndex, BIGINT, 1),
        (SqlInfo::SqlMaxTableNameLength, BIGINT, 63),
        (SqlInfo::SqlSupportedTransactionsIsolationLevels, INT, 1),
        (SqlInfo::SqlSupportedGroupBy, INT, 0b11),
        (SqlInfo::SqlOuterJoinsSupportLevel, INT, 0b110),
        (SqlInfo::SqlAnsi92SupportedLevel, INT, 1),
        (SqlInfo::FlightSqlServerTransaction, INT, 0),
        (SqlInfo::SqlTransactionsSupported, BOOL, 0),
        (SqlInfo::SqlSupportsNonNullableColumns, BOOL, 1),
    ] {
        assert_eq!(value(name), (kind, number), "{name:?}");
    }
}
