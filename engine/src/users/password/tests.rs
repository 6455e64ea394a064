use super::*;
use crate::env::FixedEnv;

fn passwords(settings: UserSettings) -> (Passwords, FixedEnv) {
    let env = FixedEnv::new(0, 11);
    (Passwords::new(&settings, &env).unwrap(), env)
}

fn cheap() -> UserSettings {
    UserSettings { password_memory_kib: 64, password_iterations: 1, ..UserSettings::default() }
}

#[tokio::test]
async fn a_password_is_told_from_others() {
    let (passwords, env) = passwords(cheap());
    let password = Password::new("correct horse");
    let hash = passwords.hash(&password, &env).await.unwrap();
    assert!(hash.0.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.0);
    assert!(!hash.0.contains("horse"));
    assert!(passwords.verify(&password, Some(&hash)).await.unwrap());
    for wrong in ["", "correct hors", "correct horse ", "Correct horse", &"x".repeat(5_000)] {
        assert!(!passwords.verify(&Password::new(wrong), Some(&hash)).await.unwrap());
    }
    // Two of the same are stored differently.
    assert_ne!(passwords.hash(&password, &env).await.unwrap().0, hash.0);
}

#[tokio::test]
async fn nobody_has_the_password_of_nobody() {
    let (passwords, _) = passwords(cheap());
    assert!(passwords.decoy.0.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", passwords.decoy.0);
    assert!(!passwords.verify(&Password::new("anything"), None).await.unwrap());
}

#[tokio::test]
async fn too_short_and_too_long_ones_are_refused() {
    let (passwords, env) = passwords(cheap());
    for wrong in ["", "1234567", &"x".repeat(MAX_PASSWORD_BYTES + 1)] {
        let error = passwords.hash(&Password::new(wrong), &env).await.unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidUser);
        assert!(wrong.is_empty() || !error.message().contains(wrong));
    }
    passwords.hash(&Password::new("12345678"), &env).await.unwrap();
}

#[tokio::test]
async fn more_than_may_wait_are_refused() {
    let (passwords, _) = passwords(UserSettings { password_concurrency: 1, max_waiting_passwords: 1, ..cheap() });
    let place = passwords.place().await.unwrap();
    let error = passwords.verify(&Password::new("12345678"), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooManyRequests);
    drop(place);
    passwords.verify(&Password::new("12345678"), None).await.unwrap();
}
