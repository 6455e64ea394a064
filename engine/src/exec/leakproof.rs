//! Conditions that may be evaluated on rows which whoever wrote them may not see.
//!
//! A condition can tell of a row without letting it through: `1 / (x - 5) > 0` fails if there is one with 5, and a cast
//! fails with the text that it cannot read. Of a table whose rows are guarded by rules, scans take over only conditions
//! that neither fail nor do anything else that could be seen, whatever is in a row. All others are evaluated above the
//! scan, on rows that came through.

use datafusion::{
    arrow::datatypes::{DataType, Schema},
    logical_expr::{Expr, Operator, expr::Placeholder},
};

/// Whether a condition is of this kind: comparisons of plain columns with constants or parameters of their types, and
/// what AND, OR and NOT make of them.
pub(crate) fn is_leakproof(condition: &Expr, schema: &Schema) -> bool {
    let same = |expr: &Expr| is_leakproof(expr, schema);
    let column = |expr: &Expr| type_of_column(expr, schema);
    match condition {
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => {
            same(&binary.left) && same(&binary.right)
        }
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => match (column(&binary.left), column(&binary.right)) {
            (Some(data_type), None) => is_value(&binary.right, data_type),
            (None, Some(data_type)) => is_value(&binary.left, data_type),
            _ => false,
        },
        Expr::Not(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsNotUnknown(inner) => same(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => column(inner).is_some(),
        Expr::Between(between) => column(&between.expr)
            .is_some_and(|data_type| is_value(&between.low, data_type) && is_value(&between.high, data_type)),
        Expr::InList(list) => {
            column(&list.expr).is_some_and(|data_type| list.list.iter().all(|value| is_value(value, data_type)))
        }
        Expr::Column(_) => column(condition) == Some(&DataType::Boolean),
        Expr::Literal(value, _) => matches!(value.data_type(), DataType::Boolean | DataType::Null),
        _ => false,
    }
}

/// The type of a plain column that can be compared without fail.
fn type_of_column<'s>(expr: &Expr, schema: &'s Schema) -> Option<&'s DataType> {
    let Expr::Column(column) = expr else { return None };
    schema.field_with_name(&column.name).ok().map(|field| field.data_type()).filter(|data_type| !data_type.is_nested())
}

/// Whether an expression is a constant or parameter of this type.
fn is_value(expr: &Expr, data_type: &DataType) -> bool {
    match expr {
        Expr::Literal(value, _) => is_of(&value.data_type(), data_type),
        Expr::Placeholder(Placeholder { field: Some(field), .. }) => is_of(field.data_type(), data_type),
        _ => false,
    }
}

fn is_of(value: &DataType, column: &DataType) -> bool {
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    value == column || *value == DataType::Null || (is_text(value) && is_text(column))
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::datatypes::Field,
        logical_expr::{cast, col, lit},
    };

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("level", DataType::Int32, true),
            Field::new("body", DataType::Utf8View, true),
            Field::new("seen", DataType::Boolean, true),
        ])
    }

    #[test]
    fn comparisons_with_constants_pass() {
        let parameter = Expr::Placeholder(Placeholder::new_with_field(
            "$1".to_owned(),
            Some(std::sync::Arc::new(Field::new("parameter", DataType::Int64, true))),
        ));
        for condition in [
            col("id").eq(lit(5_i64)),
            lit(5_i64).lt(col("id")),
            col("id").gt(parameter),
            col("level").not_eq(lit(5_i32)),
            col("body").eq(lit("x")),
            col("body").is_null(),
            col("id").in_list(vec![lit(1_i64), lit(2_i64)], true),
            col("level").between(lit(1_i32), lit(3_i32)),
            col("seen"),
            !col("seen"),
            col("id").eq(lit(5_i64)).or(col("body").is_not_null()).and(col("seen").is_true()),
            lit(false),
        ] {
            assert!(is_leakproof(&condition, &schema()), "{condition}");
        }
    }

    #[test]
    fn what_can_fail_does_not_pass() {
        for condition in [
            (lit(1_i64) / (col("id") - lit(5_i64))).gt(lit(0_i64)),
            cast(col("body"), DataType::Int64).eq(lit(5_i64)),
            cast(col("level"), DataType::Int64).eq(lit(5_i64)),
            col("id").eq(lit(5_i64)).and(cast(col("body"), DataType::Int64).eq(lit(5_i64))),
            col("id").eq(lit(5_i64)).or((lit(1_i64) / col("id")).gt(lit(0_i64))),
            !(lit(1_i64) / col("id")).gt(lit(0_i64)),
            col("body").like(lit("x%")),
            col("id").in_list(vec![lit(1_i64), lit(1_i64) / col("id")], false),
            col("id").in_list(vec![col("level")], false),
            (lit(1_i64) / col("id")).is_null(),
            col("id").between(lit(1_i64), lit(1_i64) / col("id")),
            col("id").eq(col("level")),
            col("level").eq(lit(5_i64)),
        ] {
            assert!(!is_leakproof(&condition, &schema()), "{condition}");
        }
    }
}
