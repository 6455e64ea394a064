use super::*;

#[test]
fn timeouts_must_be_positive_and_the_shorter_counts() {
    let duration = |seconds, nanos| Some(pbjson_types::Duration { seconds, nanos });
    assert_eq!(requested_timeout(duration(1, 500_000_000)).unwrap(), Some(Duration::from_millis(1_500)));
    assert_eq!(requested_timeout(None).unwrap(), None);
    for wrong in [duration(0, 0), duration(-1, 0), duration(0, -1), duration(i64::MIN, i32::MIN)] {
        assert_eq!(requested_timeout(wrong).unwrap_err().reason(), Reason::InvalidRequest);
    }
    let second = Some(Duration::from_secs(1));
    assert_eq!(shorter(second, Some(Duration::from_secs(2))), second);
    assert_eq!(shorter(None, second), second);
    assert_eq!(shorter(None, None), None);
}
