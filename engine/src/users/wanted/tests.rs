use datafusion::logical_expr::{col, lit};

use super::*;

fn by(condition: Expr) -> Wanted {
    let constant = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    Wanted::by([&condition], constant)
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn equalities_name_users() {
    assert_eq!(by(col("user_id").eq(lit("a"))), Wanted::Ids(set(&["a"])));
    assert_eq!(by(lit("a").eq(col("username"))), Wanted::Names(set(&["a"])));
    assert_eq!(by(col("user_id").in_list(vec![lit("a"), lit("b")], false)), Wanted::Ids(set(&["a", "b"])));
    assert_eq!(by(col("user_id").eq(lit("a")).or(col("user_id").eq(lit("b")))), Wanted::Ids(set(&["a", "b"])));
    // Nothing equals NULL.
    assert_eq!(by(col("user_id").eq(lit(ScalarValue::Utf8(None)))), Wanted::Ids(set(&[])));
    // The best of several conditions.
    let both = col("username").like(lit("a%")).and(col("user_id").eq(lit("x")));
    assert_eq!(by(both), Wanted::Ids(set(&["x"])));
}

#[test]
fn patterns_name_beginnings() {
    for pattern in ["abc%", "a_c%", "a\\_c%", "%c"] {
        assert_eq!(by(col("username").like(lit(pattern))), Wanted::NamesLike(NameStart::of_pattern(pattern)));
    }
}

#[test]
fn what_is_not_understood_means_all() {
    for condition in [
        col("role").eq(lit("user")),
        col("user_id").not_eq(lit("a")),
        col("user_id").in_list(vec![lit("a")], true),
        col("user_id").in_list(vec![col("username")], false),
        col("username").ilike(lit("abc%")),
        col("username").not_like(lit("abc%")),
        col("user_id").like(lit("abc%")),
        col("user_id").eq(lit(5)),
        col("user_id").eq(lit("a")).or(col("username").eq(lit("b"))),
        col("user_id").eq(lit("a")).or(col("role").eq(lit("b"))),
        col("user_id").eq(col("username")),
    ] {
        assert_eq!(by(condition.clone()), Wanted::All, "{condition}");
    }
}
