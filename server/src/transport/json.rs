//! `Execute`'s messages in JSON, where the generated code is not exact.
//!
//! It writes floating-point NaN and infinities as `null`, which protobuf's mapping writes as texts, and it reads
//! `{"nullValue": null}` as a value of no kind. Everything else is left to the generated code.

use kalamdb_proto::v1::{
    Affected, Column, ExecuteResponse, Row, Rows, StatementResult, Value, statement_result, value::Kind,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// The answer as JSON.
pub(super) fn to_vec(response: &ExecuteResponse) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Response { results: response.results.iter().map(StatementResultJson::from).collect() })
}

/// Gives values of no kind, which is how `null` arrives, the kind NULL.
pub(super) fn null_where_absent(values: &mut [Value]) {
    for value in values {
        match &mut value.kind {
            None => value.kind = Some(Kind::NullValue(0)),
            Some(Kind::ListValue(list)) => null_where_absent(&mut list.values),
            Some(Kind::StructValue(fields)) => null_where_absent(&mut fields.values),
            Some(_) => {}
        }
    }
}

#[derive(Serialize)]
struct Response<'a> {
    results: Vec<StatementResultJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatementResultJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<RowsJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affected: Option<&'a Affected>,
    took_ms: f64,
    commit_seq: String,
}

impl<'a> From<&'a StatementResult> for StatementResultJson<'a> {
    fn from(result: &'a StatementResult) -> Self {
        let (rows, affected) = match &result.result {
            Some(statement_result::Result::Rows(rows)) => (Some(RowsJson(rows)), None),
            Some(statement_result::Result::Affected(affected)) => (None, Some(affected)),
            None => (None, None),
        };
        Self { rows, affected, took_ms: result.took_ms, commit_seq: result.commit_seq.to_string() }
    }
}

struct RowsJson<'a>(&'a Rows);

impl Serialize for RowsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Plain<'a> {
            columns: &'a [Column],
            rows: Vec<RowJson<'a>>,
            row_count: String,
        }
        let rows = self.0;
        if !rows.arrow_ipc.is_empty() {
            // No values to take care of; bytes are base64.
            return rows.serialize(serializer);
        }
        Plain {
            columns: &rows.columns,
            rows: rows.rows.iter().map(RowJson::from).collect(),
            row_count: rows.row_count.to_string(),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
struct RowJson<'a> {
    values: ValuesJson<'a>,
}

impl<'a> From<&'a Row> for RowJson<'a> {
    fn from(row: &'a Row) -> Self {
        Self { values: ValuesJson(&row.values) }
    }
}

struct ValuesJson<'a>(&'a [Value]);

impl Serialize for ValuesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ValueJson))
    }
}

struct ValueJson<'a>(&'a Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Nested<'a> {
            values: ValuesJson<'a>,
        }
        match &self.0.kind {
            Some(Kind::FloatValue(v)) if !v.is_finite() => entry(serializer, "floatValue", &not_finite((*v).into())),
            Some(Kind::DoubleValue(v)) if !v.is_finite() => entry(serializer, "doubleValue", &not_finite(*v)),
            Some(Kind::ListValue(list)) => entry(serializer, "listValue", &Nested { values: ValuesJson(&list.values) }),
            Some(Kind::StructValue(fields)) => {
                entry(serializer, "structValue", &Nested { values: ValuesJson(&fields.values) })
            }
            _ => self.0.serialize(serializer),
        }
    }
}

/// An object with one entry.
fn entry<S: Serializer>(serializer: S, name: &str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

/// How protobuf's JSON mapping writes numbers that JSON does not have.
fn not_finite(number: f64) -> &'static str {
    match (number.is_nan(), number > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    }
}

#[cfg(test)]
mod tests;
