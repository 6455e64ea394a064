use super::*;

/// Sleeps, so that no machine can make it faster than its pace.
struct Sleeper {
    calls: u32,
    fail_each: u32,
}

const PACE: Duration = Duration::from_millis(5);

impl Client for Sleeper {
    async fn call(&mut self) -> Result<Reply, String> {
        sleep(PACE).await;
        self.calls += 1;
        if self.fail_each > 0 && self.calls.is_multiple_of(self.fail_each) {
            return Err(format!("call {} failed", self.calls));
        }
        Ok(Reply { server_us: Some(250.0) })
    }
}

fn sleepers(count: usize, fail_each: u32) -> Pool<Sleeper> {
    Pool::new((0..count).map(|_| Sleeper { calls: 0, fail_each }).collect())
}

const WINDOW: Window = Window { warmup: Duration::from_millis(60), measure: Duration::from_millis(300) };

#[tokio::test]
async fn the_rate_is_that_of_all_clients_and_without_warm_up() {
    let mut pool = sleepers(4, 0);
    let measured = pool.slice(WINDOW).await;
    assert_eq!(measured.failures(), 0);
    assert!(measured.operations() > 0);
    assert!(measured.ops_per_s() <= 4.0 / PACE.as_secs_f64(), "{}", measured.ops_per_s());
    assert!(measured.latency_us(0.5) >= 5_000.0, "{}", measured.latency_us(0.5));
    let server_us = measured.server_us(0.99).expect("the client tells its time");
    assert!((server_us - 250.0).abs() < 1.0, "{server_us}");
    let calls: u64 = pool.clients.iter().map(|client| u64::from(client.calls)).sum();
    assert!(calls > measured.operations(), "the calls of the warm-up are left out");
    assert_eq!(pool.clients.len(), 4, "clients come back for the next slice");
}

#[tokio::test]
async fn a_call_longer_than_the_window_is_measured_all_the_same() {
    let window = Window { warmup: PACE / 5, measure: PACE / 5 };
    assert_eq!(sleepers(1, 0).slice(window).await.operations(), 1);
}

#[tokio::test]
async fn failures_are_counted_and_the_first_is_kept() {
    let measured = sleepers(1, 2).slice(WINDOW).await;
    assert!(measured.failures() >= 1);
    assert_eq!(measured.first_error(), Some("call 2 failed"));
}

#[tokio::test]
async fn each_contestant_runs_every_round() {
    let mut limits = [Limit { name: "limit", contestant: Box::new(sleepers(2, 0)) }];
    let result = contest(&mut sleepers(1, 0), &mut limits, WINDOW).await;
    assert_eq!(result.subject.slices, ROUNDS);
    assert_eq!(result.limits[0].0, "limit");
    assert_eq!(result.limits[0].1.slices, ROUNDS);
    assert!(result.limits[0].1.operations() > 0);
}

#[test]
fn merging_keeps_quantiles_of_all() {
    let mut all = Measurement::new();
    for part in 0..10_u64 {
        let mut one = Measurement::new();
        for value in 1..=100_u64 {
            one.record(Duration::from_micros(part * 100 + value), Reply::default());
        }
        one.finish_slice(100.0);
        all.merge(one);
    }
    assert_eq!(all.operations(), 1_000);
    assert!((all.latency_us(0.5) - 500.0).abs() < 2.0);
    assert!((all.latency_us(0.99) - 990.0).abs() < 2.0);
    assert!((all.mean_us() - 500.5).abs() < 2.0);
    assert!((all.ops_per_s() - 100.0).abs() < 1e-9, "slices of one contestant follow each other");
    assert_eq!(all.server_us(0.5), None);
}

#[test]
fn an_empty_measurement_has_zeroes_not_failures() {
    let empty = Measurement::new();
    assert_eq!(empty.ops_per_s(), 0.0);
    assert_eq!(empty.latency_us(0.999), 0.0);
    assert_eq!(empty.mean_us(), 0.0);
}
