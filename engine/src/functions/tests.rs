use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit},
        util::pretty::pretty_format_batches,
    },
    common::{ScalarValue, tree_node::TreeNode},
    datasource::MemTable,
    execution::{SessionStateBuilder, context::SessionContext},
    logical_expr::{Expr, LogicalPlan, Statement, expr::Placeholder},
    physical_plan::collect,
};
use kalamdb_store::ids::UserId;

use super::{statement_value::StatementValue, *};
use crate::{env::FixedEnv, error::Reason};

/// 2024-02-03 04:05:06.789012.
const NOW_US: i64 = 1_706_933_106_789_012;

fn ids() -> Arc<IdSource> {
    Arc::new(IdSource::new(Arc::new(FixedEnv::new(NOW_US, 3)), 9).unwrap())
}

fn user() -> UserId {
    UserId::new("alice").unwrap()
}

/// A session with a table `t` of three rows: made 0, 1 and 2 days before now.
fn context() -> SessionContext {
    let functions = scalar_functions(&ids());
    let state = SessionStateBuilder::new().with_default_features().with_scalar_functions(functions).build();
    let context = SessionContext::new_with_state(state);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    let at: Vec<i64> = (0..3).map(|days| NOW_US - days * 86_400_000_000).collect();
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(TimestampMicrosecondArray::from(at))];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    context.register_table("t", Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())).unwrap();
    context
}

/// As the engine does it: plan (PREPARE tells the types of parameters), take out the statement's values, optimise (what is cached), bind, run.
async fn cached_plan(context: &SessionContext, sql: &str) -> LogicalPlan {
    let mut plan = context.state().create_logical_plan(sql).await.unwrap();
    if let LogicalPlan::Statement(Statement::Prepare(prepare)) = plan {
        plan = prepare.input.as_ref().clone();
    }
    context.state().optimize(&bind_statement_values(plan).unwrap()).unwrap()
}

async fn run_plan(
    context: &SessionContext,
    plan: &LogicalPlan,
    parameters: &[ScalarValue],
    now_us: i64,
) -> Vec<RecordBatch> {
    let user = user();
    let plan = bind_parameters(plan.clone(), &Bindings::new(parameters, now_us, &user)).unwrap();
    let physical = context.state().query_planner().create_physical_plan(&plan, &context.state()).await.unwrap();
    collect(physical, context.task_ctx()).await.unwrap()
}

async fn query(sql: &str, parameters: &[ScalarValue]) -> Vec<RecordBatch> {
    let context = context();
    let plan = cached_plan(&context, sql).await;
    run_plan(&context, &plan, parameters, NOW_US).await
}

async fn ids_of(sql: &str, parameters: &[ScalarValue]) -> Vec<i64> {
    let sql = if parameters.is_empty() { sql.to_owned() } else { format!("PREPARE p(BIGINT) AS {sql}") };
    let batches = query(&sql, parameters).await;
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn statement_values() {
    let batches = query(
        "SELECT now() AS a, current_timestamp AS b, current_timestamp() AS c, localtimestamp AS d, current_date AS e, \
         today() AS f, current_time AS g, current_user AS h",
        &[],
    )
    .await;
    let expected = "\
+----------------------------+----------------------------+----------------------------+----------------------------+------------+------------+-----------------+-------+
| a                          | b                          | c                          | d                          | e          | f          | g               | h     |
+----------------------------+----------------------------+----------------------------+----------------------------+------------+------------+-----------------+-------+
| 2024-02-03T04:05:06.789012 | 2024-02-03T04:05:06.789012 | 2024-02-03T04:05:06.789012 | 2024-02-03T04:05:06.789012 | 2024-02-03 | 2024-02-03 | 04:05:06.789012 | alice |
+----------------------------+----------------------------+----------------------------+----------------------------+------------+------------+-----------------+-------+";
    assert_eq!(pretty_format_batches(&batches).unwrap().to_string(), expected);
}

#[tokio::test]
async fn a_cached_plan_holds_no_time_and_serves_many_statements() {
    let context = context();
    let sql = "SELECT id, now() FROM t WHERE at > now() - INTERVAL '1 day' AND id < $1 ORDER BY id";
    let plan = cached_plan(&context, sql).await;
    let text = plan.display_indent().to_string();
    assert!(text.contains("$now()") && text.contains("$1"), "{text}");
    let count = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    let five = [ScalarValue::Int64(Some(5))];
    assert_eq!(count(run_plan(&context, &plan, &five, NOW_US).await), 1);
    assert_eq!(count(run_plan(&context, &plan, &five, NOW_US - 1).await), 2);
    assert_eq!(count(run_plan(&context, &plan, &five, NOW_US - 86_400_000_001).await), 3);
    assert_eq!(count(run_plan(&context, &plan, &[ScalarValue::Int64(Some(1))], NOW_US).await), 0);
    let batches = run_plan(&context, &plan, &five, NOW_US).await;
    assert_eq!(batches[0].schema().field(1).name(), "now()");
}

#[tokio::test]
async fn constants_are_computed_when_bound() {
    let context = context();
    let plan = cached_plan(&context, "SELECT id FROM t WHERE at > now() - INTERVAL '1 day' LIMIT $1").await;
    let user = user();
    let bound = bind_parameters(plan, &Bindings::new(&[ScalarValue::Int64(Some(2))], NOW_US, &user)).unwrap();
    let text = bound.display_indent().to_string();
    assert!(text.contains(&format!("TimestampMicrosecond({}, None)", NOW_US - 86_400_000_000)), "{text}");
    assert!(!text.contains("Interval"), "{text}");
    assert!(!text.contains('$'), "{text}");
}

#[tokio::test]
async fn values_reach_subqueries_aggregates_and_ctes() {
    let one = [ScalarValue::Int64(Some(1))];
    assert_eq!(
        ids_of("SELECT id FROM t WHERE id IN (SELECT id FROM t WHERE at < now() AND id > $1) ORDER BY 1", &one).await,
        [2, 3]
    );
    assert_eq!(
        ids_of("SELECT count(*) FROM t WHERE EXISTS (SELECT 1 FROM t AS u WHERE u.id = t.id + $1)", &one).await,
        [2]
    );
    assert_eq!(ids_of("WITH x AS (SELECT id, $1 AS n FROM t) SELECT sum(id + n) FROM x", &one).await, [9]);
    assert_eq!(ids_of("SELECT (SELECT max(id) FROM t WHERE at <= now()) + $1", &one).await, [4]);
    assert_eq!(
        ids_of("SELECT count(*) FROM t GROUP BY at > now() - INTERVAL '36 hours' ORDER BY 1", &[]).await,
        [1, 2]
    );
    assert_eq!(ids_of("SELECT sum($1) OVER (ORDER BY id) FROM t ORDER BY 1", &one).await, [1, 2, 3]);
    assert_eq!(ids_of("SELECT * FROM (VALUES ($1), (5)) ORDER BY 1", &one).await, [1, 5]);
    assert_eq!(ids_of("SELECT id FROM t ORDER BY id LIMIT $1 OFFSET $1", &one).await, [2]);
    assert_eq!(
        ids_of("SELECT id FROM t WHERE now() = current_timestamp AND current_user = 'alice' AND id = 1", &[]).await,
        [1]
    );
}

#[tokio::test]
async fn errors_of_parameters() {
    let context = context();
    let user = user();
    let bind = |plan: &LogicalPlan, parameters: &[ScalarValue]| {
        bind_parameters(plan.clone(), &Bindings::new(parameters, NOW_US, &user)).map_err(|e| (e.reason(), e))
    };
    let plan = cached_plan(&context, "SELECT id FROM t WHERE id = $2").await;
    let (reason, error) = bind(&plan, &[ScalarValue::Int64(Some(1))]).unwrap_err();
    assert_eq!(reason, Reason::ParameterCountMismatch, "{error}");
    let two = |value| [ScalarValue::Null, value];
    assert!(bind(&plan, &two(ScalarValue::Int64(Some(1)))).is_ok());
    assert!(bind(&plan, &two(ScalarValue::Int16(Some(1)))).is_ok());
    assert!(bind(&plan, &two(ScalarValue::Float64(Some(2.0)))).is_ok());
    assert!(bind(&plan, &two(ScalarValue::Null)).is_ok());
    for bad in
        [ScalarValue::from("1"), ScalarValue::from(1.5), ScalarValue::from(true), ScalarValue::UInt64(Some(u64::MAX))]
    {
        let (reason, error) = bind(&plan, &two(bad)).unwrap_err();
        assert_eq!(reason, Reason::ParameterTypeMismatch, "{error}");
        assert_eq!(error.metadata()["parameter"], "$2");
        assert_eq!(error.metadata()["expected"], "BIGINT");
    }
    let named = cached_plan(&context, "SELECT id FROM t WHERE id = $foo").await;
    assert_eq!(bind(&named, &[]).unwrap_err().0, Reason::InvalidStatement);
    let text = cached_plan(&context, "SELECT id FROM t WHERE at > $1").await;
    assert!(bind(&text, &[ScalarValue::from("2024-01-01")]).is_ok());
    assert_eq!(bind(&text, &[ScalarValue::from("yesterday")]).unwrap_err().0, Reason::ParameterTypeMismatch);
}

#[test]
fn reserved_placeholders() {
    for value in StatementValue::ALL {
        assert!(is_statement_parameter(value.id()));
        assert!(!value.value(i64::MIN, &user()).is_null() && !value.value(i64::MAX, &user()).is_null());
    }
    assert!(!is_statement_parameter("$1") && !is_statement_parameter("$now"));
    assert_eq!(StatementValue::CurrentDate.value(-1, &user()), ScalarValue::Date32(Some(-1)));
    assert_eq!(StatementValue::CurrentTime.value(-1, &user()), ScalarValue::Time64Microsecond(Some(86_399_999_999)));
}

#[test]
fn expressions_apart_from_plans() {
    let functions = scalar_functions(&ids());
    let now = functions.iter().find(|f| f.name() == "now").unwrap().call(vec![]);
    let user = user();
    let parameters = [ScalarValue::Int64(Some(4))];
    let bindings = Bindings::new(&parameters, NOW_US, &user);
    let literal = Expr::Literal(ScalarValue::TimestampMicrosecond(Some(NOW_US), None), None);
    assert_eq!(bind_expr(now.clone(), &bindings).unwrap(), literal);
    let current_user = functions.iter().find(|f| f.name() == "current_user").unwrap().call(vec![]);
    let alice = Expr::Literal(ScalarValue::Utf8View(Some("alice".to_owned())), None);
    assert_eq!(bind_expr(current_user, &bindings).unwrap(), alice);
    let parameter = Expr::Placeholder(Placeholder::new_with_field("$1".to_owned(), None));
    let sum = parameter + Expr::Literal(ScalarValue::Int64(Some(1)), None);
    assert_eq!(bind_expr(sum, &bindings).unwrap(), Expr::Literal(ScalarValue::Int64(Some(5)), None));
    for id in ["", "$", "$0", "$-1", "$1x", "?", "$99999999999999999999999"] {
        let expr = Expr::Placeholder(Placeholder::new_with_field(id.to_owned(), None));
        assert_eq!(bind_expr(expr, &bindings).unwrap_err().reason(), Reason::InvalidStatement, "{id}");
    }
}

#[tokio::test]
async fn failing_constants_wait_until_they_are_evaluated() {
    let zero = [ScalarValue::Int64(Some(0))];
    assert_eq!(ids_of("SELECT CASE WHEN id > 0 THEN id ELSE 1 / $1 END FROM t ORDER BY 1", &zero).await, [1, 2, 3]);
}

#[tokio::test]
async fn generated_values_are_fresh_for_each_row() {
    let batches = query(
        "SELECT snowflake_id() AS s, uuid_v7() AS u, ulid() AS l, uuid() AS v, random() AS r, rand() AS q \
         FROM generate_series(1, 1000)",
        &[],
    )
    .await;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 1000);
    for column in 0..6 {
        let distinct: HashSet<String> = batches
            .iter()
            .flat_map(|b| {
                (0..b.num_rows()).map(|row| ScalarValue::try_from_array(b.column(column), row).unwrap().to_string())
            })
            .collect();
        assert_eq!(distinct.len(), 1000, "column {column}");
    }
    let random = batches[0].column(4).as_primitive::<Float64Type>();
    assert!(random.values().iter().all(|r| (0.0..1.0).contains(r)));
    assert_eq!(batches[0].column(1).data_type(), &DataType::Utf8View);
}

#[tokio::test]
async fn nothing_escapes_the_injected_clock_and_randomness() {
    let all = || query("SELECT now(), current_date, random(), uuid(), snowflake_id(), ulid(), uuid_v7()", &[]);
    assert_eq!(all().await, all().await);
}

#[test]
fn unsafe_functions_are_gone_from_both_lists() {
    let context = context();
    let state = context.state();
    let listed: HashSet<String> = scalar_functions(&ids()).iter().map(|f| f.name().to_owned()).collect();
    for name in REMOVED {
        assert!(!state.scalar_functions().contains_key(name) && !listed.contains(name), "{name}");
    }
    for name in [
        "now",
        "current_timestamp",
        "snowflake_id",
        "uuid_v7",
        "ulid",
        "current_user",
        "version",
        "upper",
        "array_length",
    ] {
        assert!(state.scalar_functions().contains_key(name) && listed.contains(name), "{name}");
    }
    let registered: HashSet<String> = state.scalar_functions().values().map(|f| f.name().to_owned()).collect();
    assert_eq!(registered, listed);
}

#[tokio::test]
async fn version_is_ours() {
    let batches = query("SELECT version()", &[]).await;
    assert!(batches[0].column(0).as_string_view().value(0).starts_with("KalamDB "));
}

#[test]
fn plans_without_placeholders_stay_as_they_are() {
    let user = user();
    let plan = datafusion::logical_expr::LogicalPlanBuilder::empty(true).build().unwrap();
    let bound = bind_parameters(plan.clone(), &Bindings::new(&[], NOW_US, &user)).unwrap();
    assert_eq!(bound, plan);
    assert!(!bound.exists(|_| Ok(false)).unwrap());
}
