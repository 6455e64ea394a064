//! The types of SQL, as drivers for JDBC and ODBC ask for them.

use arrow_flight::sql::{
    Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode,
    metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
};
use kalamdb_engine::Error;

/// Every type that a column can have but arrays and structs, which drivers have no number for.
///
/// # Errors
/// INTERNAL.
pub(super) fn types() -> Result<XdbcTypeInfoData, Error> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    let whole = |name: &str, data_type, digits, unsigned| XdbcTypeInfo {
        column_size: Some(digits),
        unsigned_attribute: Some(unsigned),
        num_prec_radix: Some(10),
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        auto_increment: Some(false),
        fixed_prec_scale: true,
        ..plain(name, data_type)
    };
    let floating = |name: &str, data_type, bits| XdbcTypeInfo {
        column_size: Some(bits),
        unsigned_attribute: Some(false),
        num_prec_radix: Some(2),
        auto_increment: Some(false),
        ..plain(name, data_type)
    };
    let quoted = |name: &str, data_type| XdbcTypeInfo {
        literal_prefix: Some("'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..plain(name, data_type)
    };
    let temporal = |name: &str, data_type, size, subcode| XdbcTypeInfo {
        column_size: Some(size),
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: subcode,
        ..quoted(name, data_type)
    };
    let text = |name: &str| XdbcTypeInfo { case_sensitive: true, ..quoted(name, XdbcDataType::XdbcVarchar) };
    let types = [
        plain("BOOLEAN", XdbcDataType::XdbcBit),
        whole("SMALLINT", XdbcDataType::XdbcSmallint, 5, false),
        whole("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, 5, true),
        whole("INT", XdbcDataType::XdbcInteger, 10, false),
        whole("INT UNSIGNED", XdbcDataType::XdbcInteger, 10, true),
        XdbcTypeInfo { auto_increment: Some(true), ..whole("BIGINT", XdbcDataType::XdbcBigint, 19, false) },
        whole("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, 20, true),
        floating("REAL", XdbcDataType::XdbcReal, 24),
        floating("DOUBLE", XdbcDataType::XdbcDouble, 53),
        XdbcTypeInfo {
            column_size: Some(76),
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            unsigned_attribute: Some(false),
            num_prec_radix: Some(10),
            minimum_scale: Some(0),
            maximum_scale: Some(76),
            auto_increment: Some(false),
            ..plain("DECIMAL", XdbcDataType::XdbcDecimal)
        },
        text("TEXT"),
        text("UUID"),
        text("JSON"),
        XdbcTypeInfo { literal_prefix: Some("X'".to_owned()), ..quoted("BYTES", XdbcDataType::XdbcVarbinary) },
        temporal("DATE", XdbcDataType::XdbcDate, 10, Some(XdbcDatetimeSubcode::XdbcSubcodeYear)),
        temporal("TIME", XdbcDataType::XdbcTime, 15, Some(XdbcDatetimeSubcode::XdbcSubcodeTime)),
        temporal("TIMESTAMP", XdbcDataType::XdbcTimestamp, 26, Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp)),
        temporal(
            "TIMESTAMP WITH TIME ZONE",
            XdbcDataType::XdbcTimestamp,
            32,
            Some(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
        ),
        quoted("INTERVAL", XdbcDataType::XdbcInterval),
    ];
    for xdbc_type in types {
        builder.append(xdbc_type);
    }
    builder.build().map_err(Error::internal)
}

fn plain(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}
