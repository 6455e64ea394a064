//! What the server can do, as drivers ask for it.

use std::collections::BTreeMap;

use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
    metadata::{SqlInfoData, SqlInfoDataBuilder},
};
use kalamdb_engine::Error;

use crate::{config::Config, telemetry::build};

/// The version of the Arrow format, which is not that of a library.
const ARROW_FORMAT: &str = "1.5";
/// What a name can have, at most.
const MAX_NAME: i64 = 63;
const MAX_USER_NAME: i64 = 128;
/// Where there is no limit.
const UNLIMITED: i64 = 0;

/// Words that cannot be names without quotes.
const KEYWORDS: &[&str] = &[
    "ALTER",
    "API",
    "AUTO_INCREMENT",
    "COMPACT",
    "CONFLICT",
    "DESCRIBE",
    "EXPORT",
    "FLUSH",
    "KEY",
    "KILL",
    "LIVE",
    "NAMESPACE",
    "NAMESPACES",
    "POLICY",
    "REPLICAS",
    "RETURNING",
    "REVOKE",
    "SHARED",
    "SHOW",
    "STORAGE",
    "STORAGES",
    "STREAM",
    "SUBSCRIBE",
    "TTL",
    "USER",
];
const NUMERIC_FUNCTIONS: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln", "log", "log10",
    "log2", "mod", "pi", "power", "radians", "random", "round", "sign", "sin", "sqrt", "tan", "trunc",
];
const STRING_FUNCTIONS: &[&str] = &[
    "ascii",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "trim",
    "upper",
];
const SYSTEM_FUNCTIONS: &[&str] = &["coalesce", "current_user", "nullif", "snowflake_id", "ulid", "uuid_v7", "version"];
const DATETIME_FUNCTIONS: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "date_bin",
    "date_part",
    "date_trunc",
    "now",
    "to_timestamp",
];

/// Everything that Flight SQL has a name for, but for the versions of Substrait, which is not supported.
///
/// # Errors
/// INTERNAL.
pub(super) fn sql_info(config: &Config) -> Result<SqlInfoData, Error> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info, config);
    names(&mut info);
    language(&mut info);
    limits(&mut info, config);
    transactions(&mut info);
    info.build().map_err(Error::internal)
}

fn server(info: &mut SqlInfoDataBuilder, config: &Config) {
    info.append(SqlInfo::FlightSqlServerName, "KalamDB");
    info.append(SqlInfo::FlightSqlServerVersion, build::VERSION);
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    let lifetime_ms = config.flight.ticket_lifetime_s.saturating_mul(1_000);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, i32::try_from(lifetime_ms).unwrap_or(i32::MAX));
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
}

fn names(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, true);
    info.append(SqlInfo::SqlDdlTable, true);
    let lower_case = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase;
    info.append(SqlInfo::SqlIdentifierCase, ordinal(lower_case as i32));
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // As they are: none of the other values says so.
    let as_is = SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown;
    info.append(SqlInfo::SqlQuotedIdentifierCase, ordinal(as_is as i32));
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "namespace");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    // Names in statements have a namespace and no catalog; nothing of the rest is there.
    info.append(SqlInfo::SqlSchemasSupportedActions, 0);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0);
}

fn language(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlNullOrdering, ordinal(SqlNullOrdering::SqlNullsSortedHigh as i32));
    info.append(SqlInfo::SqlKeywords, KEYWORDS);
    info.append(SqlInfo::SqlNumericFunctions, NUMERIC_FUNCTIONS);
    info.append(SqlInfo::SqlStringFunctions, STRING_FUNCTIONS);
    info.append(SqlInfo::SqlSystemFunctions, SYSTEM_FUNCTIONS);
    info.append(SqlInfo::SqlDatetimeFunctions, DATETIME_FUNCTIONS);
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(
        SqlInfo::SqlSupportedGroupBy,
        bits(&[SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32]),
    );
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    // Entry level.
    info.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    // An ordinal, says Flight SQL; drivers for JDBC and ODBC look at bits. Who has the full ones has the limited ones.
    info.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        bits(&[
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ]),
    );
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(
        SqlInfo::SqlSupportedSubqueries,
        bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(
        SqlInfo::SqlSupportedUnions,
        bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

fn limits(info: &mut SqlInfoDataBuilder, config: &Config) {
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let statement = number(config.limits.max_statement_bytes);
    info.append(SqlInfo::SqlMaxBinaryLiteralLength, statement);
    info.append(SqlInfo::SqlMaxCharLiteralLength, statement);
    for name in [SqlInfo::SqlMaxColumnNameLength, SqlInfo::SqlDbSchemaNameLength, SqlInfo::SqlMaxTableNameLength] {
        info.append(name, MAX_NAME);
    }
    for unlimited in [
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTablesInSelect,
    ] {
        info.append(unlimited, UNLIMITED);
    }
    // A primary key has one column.
    info.append(SqlInfo::SqlMaxColumnsInIndex, 1_i64);
    info.append(SqlInfo::SqlMaxConnections, number(config.server.max_connections));
    info.append(SqlInfo::SqlMaxRowSize, number(config.limits.max_write_bytes));
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
    info.append(SqlInfo::SqlMaxStatementLength, statement);
    info.append(SqlInfo::SqlMaxUsernameLength, MAX_USER_NAME);
}

fn transactions(info: &mut SqlInfoDataBuilder) {
    let none = SqlTransactionIsolationLevel::SqlTransactionNone as i32;
    info.append(SqlInfo::SqlDefaultTransactionIsolation, ordinal(none));
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits(&[none]));
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlBatchUpdatesSupported, true);
    let forward_only = SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32;
    info.append(SqlInfo::SqlSupportedResultSetTypes, bits(&[forward_only]));
    let read_only = bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only);
    for none in [
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        info.append(none, 0);
    }
}

/// From which type to which CAST converts.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert::{
        SqlConvertBigint as Bigint, SqlConvertBit as Bit, SqlConvertDate as Date, SqlConvertDecimal as Decimal,
        SqlConvertFloat as Float, SqlConvertInteger as Integer, SqlConvertNumeric as Numeric, SqlConvertReal as Real,
        SqlConvertSmallint as Smallint, SqlConvertTime as Time, SqlConvertTimestamp as Timestamp,
        SqlConvertVarbinary as Varbinary, SqlConvertVarchar as Varchar,
    };
    let numbers = [Bigint, Decimal, Float, Integer, Numeric, Real, Smallint];
    let codes = |types: &[SqlSupportsConvert]| types.iter().map(|to| *to as i32).collect::<Vec<i32>>();
    let mut map = BTreeMap::new();
    for from in numbers {
        map.insert(from as i32, codes(&[&numbers[..], &[Varchar]].concat()));
    }
    map.insert(Bit as i32, codes(&[Bigint, Integer, Smallint, Varchar]));
    map.insert(Varchar as i32, codes(&[&numbers[..], &[Bit, Date, Time, Timestamp, Varchar, Varbinary]].concat()));
    map.insert(Varbinary as i32, codes(&[Varchar]));
    map.insert(Date as i32, codes(&[Timestamp, Varchar]));
    map.insert(Time as i32, codes(&[Varchar]));
    map.insert(Timestamp as i32, codes(&[Date, Time, Varchar]));
    map
}

/// The number of a value as drivers read it. Flight SQL says that it has 32 bits, but its servers in Java and C++ send 64:
/// the driver for JDBC casts to no other, and that for ODBC reads as many, whatever is there.
fn ordinal(number: i32) -> i64 {
    number.into()
}

/// The bitmask with these bits.
fn bits(numbers: &[i32]) -> i32 {
    numbers.iter().fold(0, |mask, number| mask | 1 << number)
}

#[cfg(test)]
mod tests;
