use tonic::Code;

use super::*;
use crate::call::TraceIds;

fn trace() -> TraceId {
    TraceIds::new(&kalamdb_engine::SystemEnv).of(&http::HeaderMap::new())
}

#[tokio::test]
async fn answers_end_by_themselves() {
    let answers = until(stream::iter([Ok(1), Ok(2)]), future::pending(), trace());
    assert_eq!(answers.map(Result::unwrap).collect::<Vec<_>>().await, [1, 2]);
}

#[tokio::test]
async fn an_error_is_the_last_answer() {
    let failed = Error::new(Reason::ShuttingDown, "Connect again.");
    let answers: Vec<_> = until(stream::iter([Ok(1), Err(failed), Ok(2)]), future::pending(), trace()).collect().await;
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1].as_ref().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let endless = stream::iter([Ok(1)]).chain(stream::pending());
    let ends = end_of_call(Some(Duration::from_millis(50)), CancellationToken::new());
    let answers: Vec<_> = until(endless, ends, trace()).collect().await;
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1].as_ref().unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_call_ends_when_the_server_stops() {
    let stopping = CancellationToken::new();
    stopping.cancel();
    let ends = end_of_call(None, stopping);
    let answers: Vec<_> = until(stream::pending::<Result<i32, Error>>(), ends, trace()).collect().await;
    assert_eq!(answers[0].as_ref().unwrap_err().code(), Code::Unavailable);
}
