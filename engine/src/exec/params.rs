//! Parameters `$1…`: their types reconciled with what the statement expects, and their values converted.

use datafusion::{
    arrow::datatypes::{Field, FieldRef},
    common::ScalarValue,
    logical_expr::LogicalPlan,
    sql::planner::PlannerContext,
};

use crate::{
    error::{Error, Reason, Result},
    exec::from_datafusion,
    functions::is_statement_parameter,
    types::SqlType,
    values::{CastContext, cast_scalar},
};

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The value, in the Arrow type of `sql_type`; NULL may be of any type.
    pub value: ScalarValue,
    /// Its SQL type; [`SqlType::Null`] for an untyped NULL.
    pub sql_type: SqlType,
}

/// Checks that a statement which uses `$1` to `$expected` at most was given as many values.
///
/// # Errors
/// PARAMETER_COUNT_MISMATCH.
pub(crate) fn check_count(expected: usize, given: usize) -> Result<()> {
    if expected == given {
        return Ok(());
    }
    Err(Error::new(
        Reason::ParameterCountMismatch,
        format!("The statement has {expected} parameter(s) ($1 … $n), but {given} value(s) were given."),
    )
    .with("expected", expected.to_string())
    .with("given", given.to_string()))
}

/// A planner context in which parameters have these types.
pub(crate) fn planner_context(types: &[SqlType]) -> PlannerContext {
    let fields = types.iter().map(|t| match t {
        SqlType::Null => None,
        other => Some(FieldRef::new(Field::new("parameter", other.to_arrow(), true))),
    });
    PlannerContext::new().with_prepare_param_data_types(fields.collect())
}

/// The types that the parameters of a plan should be declared with: those the statement infers where a value of the
/// given type can be converted without loss of meaning, else those given. `untyped` is the plan with parameters of
/// unknown types; its failure decides nothing, as `$1 || $2` needs them known.
///
/// # Errors
/// PARAMETER_TYPE_MISMATCH when a given type cannot stand where the statement expects another.
pub(crate) fn reconcile(untyped: Result<LogicalPlan>, given: &[SqlType]) -> Result<Vec<SqlType>> {
    let Ok(inferred) = untyped.map(|plan| plan.get_parameter_fields()) else { return Ok(given.to_vec()) };
    let Ok(inferred) = inferred else {
        // One parameter in places of different types: take it as it was given, and let expressions convert.
        return Ok(given.to_vec());
    };
    let mut types = given.to_vec();
    for (id, field) in inferred {
        if is_statement_parameter(&id) {
            continue;
        }
        let Some(index) = parameter_index(&id) else { continue };
        let (Some(field), Some(slot)) = (field, types.get_mut(index)) else { continue };
        *slot = declared(&SqlType::from_field(&field), slot, index)?;
    }
    Ok(types)
}

/// Position of `$n` in the list of parameters.
pub(crate) fn parameter_index(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn declared(expected: &SqlType, given: &SqlType, index: usize) -> Result<SqlType> {
    use Family::{Boolean, Bytes, Nested, Number, Temporal, Text};
    if *given == SqlType::Null {
        return Ok(expected.clone());
    }
    if *expected == SqlType::Null {
        return Ok(given.clone());
    }
    match (family(expected), family(given)) {
        // Which of two kinds of numbers is compared is for the expression to decide, by the values' own types.
        (Number, Number) | (Temporal, Temporal) | (Nested, Nested) => Ok(given.clone()),
        (Text, Text) | (Boolean, Boolean) | (Bytes, Bytes) => Ok(expected.clone()),
        // A text says a date, a time or bytes where the API's caller has no such type.
        (Temporal | Bytes, Text) => Ok(expected.clone()),
        (Number, Text) if matches!(expected, SqlType::Decimal { .. }) => Ok(expected.clone()),
        _ => Err(Error::new(
            Reason::ParameterTypeMismatch,
            format!("Parameter ${} must be {expected}, but {given} was given.", index + 1),
        )
        .with("parameter", format!("${}", index + 1))
        .with("expected", expected.to_string())
        .with("given", given.to_string())),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Boolean,
    Number,
    Text,
    Bytes,
    Temporal,
    Nested,
}

fn family(sql_type: &SqlType) -> Family {
    match sql_type {
        SqlType::Boolean => Family::Boolean,
        SqlType::SmallInt
        | SqlType::Int
        | SqlType::BigInt
        | SqlType::SmallIntUnsigned
        | SqlType::IntUnsigned
        | SqlType::BigIntUnsigned
        | SqlType::Real
        | SqlType::Double
        | SqlType::Decimal { .. } => Family::Number,
        SqlType::Null | SqlType::Text | SqlType::Uuid | SqlType::Json => Family::Text,
        SqlType::Bytes => Family::Bytes,
        SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::TimestampTz | SqlType::Interval => {
            Family::Temporal
        }
        SqlType::List(_) | SqlType::Struct(_) => Family::Nested,
    }
}

/// The values of parameters, each as its declared type.
///
/// # Errors
/// PARAMETER_TYPE_MISMATCH when a value cannot be of that type.
pub(crate) fn convert(parameters: &[Parameter], declared: &[SqlType]) -> Result<Vec<ScalarValue>> {
    parameters
        .iter()
        .zip(declared)
        .enumerate()
        .map(|(i, (parameter, to))| {
            if parameter.sql_type == *to {
                return Ok(parameter.value.clone());
            }
            if *to == SqlType::Null {
                return Ok(ScalarValue::Null);
            }
            if parameter.value.is_null() {
                return ScalarValue::try_from(&to.to_arrow()).map_err(from_datafusion);
            }
            let name = format!("${}", i + 1);
            cast_scalar(&parameter.value, &parameter.sql_type, to, &name, CastContext::Parameter(i + 1))
        })
        .collect()
}

/// The types of parameters as a part of a plan's identity.
pub(crate) fn types_of(parameters: &[Parameter]) -> Vec<SqlType> {
    parameters.iter().map(|p| p.sql_type.clone()).collect()
}
