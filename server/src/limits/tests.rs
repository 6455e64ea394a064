use super::*;

#[test]
fn calls_beyond_the_limit_are_refused_until_one_ends() {
    let limit = CallLimit::new(2);
    let first = limit.begin().unwrap();
    let _second = limit.begin().unwrap();
    assert_eq!(limit.begin().unwrap_err().reason(), Reason::TooManyRequests);
    assert_eq!(limit.under_way(), 2);
    drop(first);
    assert_eq!(limit.under_way(), 1);
    limit.begin().unwrap();
}

#[test]
fn results_beyond_either_limit_are_refused() {
    let mut budget = ResultBudget::new(ResultLimits { max_rows: 3, max_bytes: 10 });
    budget.take_rows(3).unwrap();
    budget.take_bytes(10).unwrap();
    let error = budget.take_rows(1).unwrap_err();
    assert_eq!(error.metadata()["limit"], "limits.max_result_rows");
    let error = budget.take_bytes(usize::MAX).unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["limit"].as_str()),
        (Reason::ResultTooLarge, "limits.max_result_bytes")
    );
}
