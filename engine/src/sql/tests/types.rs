//! Names of types.

use super::*;

#[test]
fn type_names() {
    let list = |element: SqlType| SqlType::List(Box::new(element));
    let field = |name: &str, sql_type: SqlType| StructField { name: name.to_owned(), sql_type };
    let decimal = |precision: u8, scale: i8| SqlType::Decimal { precision, scale };
    for (name, sql_type) in [
        ("BOOLEAN", SqlType::Boolean),
        ("bool", SqlType::Boolean),
        ("SMALLINT", SqlType::SmallInt),
        ("INT2", SqlType::SmallInt),
        ("INT", SqlType::Int),
        ("INTEGER", SqlType::Int),
        ("INT4", SqlType::Int),
        ("BIGINT", SqlType::BigInt),
        ("INT8", SqlType::BigInt),
        ("SMALLINT UNSIGNED", SqlType::SmallIntUnsigned),
        ("INT UNSIGNED", SqlType::IntUnsigned),
        ("INTEGER UNSIGNED", SqlType::IntUnsigned),
        ("BIGINT UNSIGNED", SqlType::BigIntUnsigned),
        ("REAL", SqlType::Real),
        ("FLOAT4", SqlType::Real),
        ("DOUBLE", SqlType::Double),
        ("DOUBLE PRECISION", SqlType::Double),
        ("FLOAT", SqlType::Double),
        ("FLOAT8", SqlType::Double),
        ("DECIMAL", decimal(38, 10)),
        ("DECIMAL(10)", decimal(10, 0)),
        ("NUMERIC(76, 76)", decimal(76, 76)),
        ("TEXT", SqlType::Text),
        ("STRING", SqlType::Text),
        ("VARCHAR", SqlType::Text),
        ("BYTES", SqlType::Bytes),
        ("BYTEA", SqlType::Bytes),
        ("BLOB", SqlType::Bytes),
        ("VARBINARY", SqlType::Bytes),
        ("DATE", SqlType::Date),
        ("TIME", SqlType::Time),
        ("TIMESTAMP", SqlType::Timestamp),
        ("TIMESTAMP(6)", SqlType::Timestamp),
        ("TIMESTAMP WITHOUT TIME ZONE", SqlType::Timestamp),
        ("DATETIME", SqlType::Timestamp),
        ("TIMESTAMPTZ", SqlType::TimestampTz),
        ("TIMESTAMP WITH TIME ZONE", SqlType::TimestampTz),
        ("INTERVAL", SqlType::Interval),
        ("UUID", SqlType::Uuid),
        ("JSON", SqlType::Json),
        ("JSONB", SqlType::Json),
        ("TEXT[]", list(SqlType::Text)),
        ("INT[][]", list(list(SqlType::Int))),
        ("ARRAY<BIGINT>", list(SqlType::BigInt)),
        ("ARRAY<ARRAY<INT>>", list(list(SqlType::Int))),
        ("STRUCT<a BIGINT, B TEXT>", SqlType::Struct(vec![field("a", SqlType::BigInt), field("b", SqlType::Text)])),
        (
            "STRUCT(a BIGINT, b STRUCT(c TEXT[]))[]",
            list(SqlType::Struct(vec![
                field("a", SqlType::BigInt),
                field("b", SqlType::Struct(vec![field("c", list(SqlType::Text))])),
            ])),
        ),
    ] {
        assert_eq!(column_type(name).unwrap_or_else(|error| panic!("{name}: {error}")), sql_type, "{name}");
        // A type's own text names it.
        assert_eq!(column_type(&sql_type.to_string()).unwrap_or_else(|error| panic!("{name}: {error}")), sql_type);
    }
}

#[test]
fn types_that_do_not_exist() {
    for (name, reason, message) in [
        ("VARCHAR(10)", Reason::NotSupported, "use TEXT"),
        ("CHAR(5)", Reason::NotSupported, "use TEXT"),
        ("TEXT(5)", Reason::NotSupported, "use TEXT"),
        ("VARBINARY(5)", Reason::NotSupported, "use BYTES"),
        ("TINYINT", Reason::NotSupported, "SMALLINT"),
        ("INT(11)", Reason::NotSupported, "leave the parentheses out"),
        ("FLOAT(24)", Reason::NotSupported, "REAL"),
        ("TIMESTAMP(3)", Reason::NotSupported, "microseconds"),
        ("TIMESTAMPTZ(9)", Reason::NotSupported, "microseconds"),
        ("TIME WITH TIME ZONE", Reason::NotSupported, "use TIME"),
        ("TIME(3)", Reason::NotSupported, "use TIME"),
        ("INTERVAL YEAR TO MONTH", Reason::NotSupported, "INTERVAL without"),
        ("ENUM('a')", Reason::NotSupported, "Use TEXT"),
        ("BIGSERIAL", Reason::NotSupported, "AUTO_INCREMENT"),
        ("INT[3]", Reason::NotSupported, "T[]"),
        ("DECIMAL(77, 0)", Reason::InvalidStatement, "1 to 76"),
        ("DECIMAL(0)", Reason::InvalidStatement, "1 to 76"),
        ("DECIMAL(5, 6)", Reason::InvalidStatement, "out of range"),
        ("DECIMAL(5, -1)", Reason::InvalidStatement, "out of range"),
        ("DECIMAL(300, 2)", Reason::InvalidStatement, "1 to 76"),
        ("BIGNIT", Reason::InvalidStatement, "Did you mean BIGINT?"),
        ("wibble", Reason::InvalidStatement, "There is no type wibble"),
        ("STRUCT<a INT, A TEXT>", Reason::InvalidStatement, "two fields a"),
        ("STRUCT<INT>", Reason::InvalidStatement, "fields of a STRUCT have names"),
        ("STRUCT", Reason::InvalidStatement, "A STRUCT has fields"),
        ("STRUCT()", Reason::InvalidStatement, "A STRUCT has fields"),
        ("STRUCT<>", Reason::InvalidStatement, "A STRUCT has fields"),
        ("STRUCT[]", Reason::InvalidStatement, "A STRUCT has fields"),
        ("STRUCT()[]", Reason::InvalidStatement, "A STRUCT has fields"),
        ("ARRAY<STRUCT>", Reason::InvalidStatement, "A STRUCT has fields"),
        ("STRUCT<a INT, b STRUCT>", Reason::InvalidStatement, "A STRUCT has fields"),
        ("STRUCT(a INT, b STRUCT()[])", Reason::InvalidStatement, "A STRUCT has fields"),
    ] {
        let error = column_type(name).expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
        assert!(error.message().contains(message), "{name}: {error}");
        assert!(error.position().is_some(), "{name}");
    }
    let deep = format!("INT{}", "[]".repeat(17));
    assert_eq!(column_type(&deep).expect_err("deep").reason(), Reason::NestingTooDeep);
}
