use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;

use super::{AccessToken, BoxError, TokenSource};
use crate::{client::Client, error::Error};

/// A provider is asked, not a server.
fn nobody() -> Client {
    Client::builder("http://127.0.0.1:1").connect_lazy().unwrap()
}

/// Answers `token-1`, `token-2`, …, and how many there were.
fn counting(lifetime: Option<Duration>) -> (Arc<TokenSource>, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let source = TokenSource::provider(move || {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            tokio::task::yield_now().await;
            let token = AccessToken::new(format!("token-{number}"));
            Ok(lifetime.map_or(token.clone(), |lifetime| token.expires_in(lifetime)))
        }
    });
    (Arc::new(source), count)
}

#[tokio::test]
async fn one_of_many_asks_and_all_have_it() {
    let (source, count) = counting(None);
    let tokens = join_all((0..50).map(|_| source.token(nobody))).await;
    assert!(tokens.into_iter().all(|token| token.unwrap().header == "Bearer token-1"));
    assert_eq!(count.load(Ordering::Relaxed), 1);

    let refused = source.token(nobody).await.unwrap();
    let tokens = join_all((0..50).map(|_| source.token_after(Some(&refused), nobody))).await;
    assert!(tokens.into_iter().all(|token| token.unwrap().header == "Bearer token-2"));
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_has_expired_is_not_used() {
    let (source, _) = counting(Some(Duration::ZERO));
    assert_eq!(source.token(nobody).await.unwrap().header, "Bearer token-1");
    assert_eq!(source.token(nobody).await.unwrap().header, "Bearer token-2");
    let (source, count) = counting(Some(Duration::MAX));
    source.token(nobody).await.unwrap();
    assert_eq!(source.token(nobody).await.unwrap().header, "Bearer token-1");
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_provider_that_fails_or_panics_is_an_error_and_is_asked_again() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&attempts);
    let source = TokenSource::provider(move || {
        let attempt = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            match attempt {
                0 => Err(BoxError::from("no network")),
                1 => panic!("oh"),
                _ => Ok("token".into()),
            }
        }
    });
    let source = Arc::new(source);
    let message = |outcome: Result<_, Error>| outcome.map(|_: super::HeldToken| ()).unwrap_err().to_string();
    assert_eq!(message(source.token(nobody).await), "no token could be had: no network");
    assert!(message(source.token(nobody).await).starts_with("no token could be had"));
    assert_eq!(source.token(nobody).await.unwrap().header, "Bearer token");
}

#[tokio::test]
async fn while_the_next_cannot_be_had_a_valid_one_is_used() {
    let (source, _) = counting(Some(Duration::from_secs(3_600)));
    let first = source.token(nobody).await.unwrap();
    let failing = TokenSource::provider(|| async { Err(BoxError::from("away")) });
    *failing.lock() = std::mem::take(&mut *source.lock());
    failing.lock().token.as_mut().unwrap().renew_at = Some(std::time::Instant::now());
    let failing = Arc::new(failing);
    assert_eq!(failing.token(nobody).await.unwrap().header, first.header);
    // It is not asked at each call.
    let held = failing.lock().token.clone().unwrap();
    assert!(held.is_fresh(std::time::Instant::now()));
}

#[test]
fn nothing_secret_is_printed() {
    let source = TokenSource::login("alice".to_owned(), "s3cret".into());
    let text = format!("{source:?}");
    assert!(text.contains("alice") && !text.contains("s3cret"), "{text}");
}
