//! Tokens of others.

use std::time::Duration;

use kalamdb_tests::{
    client::Client,
    issuer::{Publisher, SigningKey, base64url, claims_of, key_set, now_s},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tonic::Code;

use super::server;
use crate::support::eventually;

const SECRET: &str = "a secret that the issuer shares with the server";

/// Mutated tokens that are tried.
const MUTATIONS: usize = 10_000;

/// The code and the reason that a token is answered with; `None`: it is accepted.
async fn refusal(client: &Client, token: &str) -> Option<(Code, String)> {
    let outcome = client.token(token).try_run("SELECT 1").await;
    outcome.err().map(|failure| (failure.code, failure.reason))
}

async fn who(client: &Client, token: &str) -> String {
    client.token(token).scalar("SELECT CURRENT_USER()").await
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_accepted_and_forged_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (rsa, ec, ed) = (SigningKey::rs256("rsa"), SigningKey::es256("ec"), SigningKey::ed_dsa("ed"));
    let secret = SigningKey::hs256("", SECRET.as_bytes());
    let keys = [&rsa, &ec, &ed].map(|key| key.setting(folder.path())).join(",");
    let (server, admin) = server(&[
        ("auth.jwt_secret", SECRET),
        ("auth.jwt_keys", &keys),
        ("auth.issuers", "https://issuer.example"),
        ("auth.audiences", "chat,other"),
        // Every one of them is to be looked at.
        ("auth.max_failures_per_address", "0"),
    ])
    .await;
    admin.run("CREATE USER ana").await;
    admin.run("CREATE USER gone DISABLE").await;
    let client = Client::connect(&server.endpoint()).await;
    let with = |changes: Value| {
        let mut all = json!({ "iss": "https://issuer.example", "aud": "chat" });
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        claims_of("ana", &all)
    };
    let right = with(json!({}));
    for key in [&secret, &rsa, &ec, &ed] {
        assert_eq!(who(&client, &key.token_with(&json!({ "alg": key.algorithm() }), &right)).await, "ana", "{key:?}");
    }
    for key in [&rsa, &ec, &ed] {
        assert_eq!(who(&client, &key.token(&right)).await, "ana", "{key:?}, named");
    }
    let by_id = with(json!({ "sub": "somebody", "user_id": "ana", "nbf": now_s(), "iat": now_s() }));
    assert_eq!(who(&client, &ed.token(&by_id)).await, "ana");

    let none = |alg: &str, signature: &str| {
        format!("{}.{}.{signature}", base64url(json!({ "alg": alg }).to_string()), base64url(right.to_string()))
    };
    let confused = |id: Option<&str>, secret: &str| {
        let mut header = json!({ "alg": "HS256" });
        if let Some(id) = id {
            header["kid"] = json!(id);
        }
        SigningKey::hs256("", secret.as_bytes()).token_with(&header, &right)
    };
    let valid = ed.token(&right);
    let parts: Vec<&str> = valid.split('.').collect();
    let other = SigningKey::ed_dsa("ed");
    let mut forged = vec![
        ("no algorithm", none("none", "")),
        ("no algorithm, spelt otherwise", none("NonE", "")),
        ("no algorithm, with a signature", none("none", parts[2])),
        ("another algorithm", none("ES512", parts[2])),
        ("RSA's public key as a secret", confused(Some("rsa"), rsa.public_pem())),
        ("RSA's public key as a secret, unnamed", confused(None, rsa.public_pem())),
        ("the curve's public key as a secret", confused(Some("ec"), ec.public_pem())),
        ("an empty secret", confused(None, "")),
        ("another's key", other.token(&right)),
        ("a key that is not known", SigningKey::ed_dsa("unknown").token(&right)),
        ("a key id that is a path", ed.token_with(&json!({ "alg": "EdDSA", "kid": "../../../dev/null" }), &right)),
        ("a key id of another algorithm", ed.token_with(&json!({ "alg": "EdDSA", "kid": "rsa" }), &right)),
        ("a key in the token", {
            let header = json!({ "alg": "EdDSA", "kid": "mine", "jwk": other.jwk(), "jku": "http://127.0.0.1:1/" });
            other.token_with(&header, &right)
        }),
        ("expired", ed.token(&with(json!({ "exp": now_s() - 60 })))),
        ("expired long ago", ed.token(&with(json!({ "exp": 1 })))),
        ("without an end", ed.token(&with(json!({ "exp": null })))),
        ("an end that is a text", ed.token(&with(json!({ "exp": "never" })))),
        ("not yet", ed.token(&with(json!({ "nbf": now_s() + 3_600 })))),
        ("made in the future", ed.token(&with(json!({ "iat": now_s() + 3_600 })))),
        ("another issuer", ed.token(&with(json!({ "iss": "https://issuer.example.evil" })))),
        ("no issuer", ed.token(&with(json!({ "iss": null })))),
        ("KalamDB as issuer", ed.token(&with(json!({ "iss": "kalamdb" })))),
        ("another audience", ed.token(&with(json!({ "aud": "chatter" })))),
        ("no audience", ed.token(&with(json!({ "aud": null })))),
        ("no user", ed.token(&with(json!({ "sub": null })))),
        ("a user that is a number", ed.token(&with(json!({ "sub": 1 })))),
        ("a user that is not there", ed.token(&with(json!({ "sub": "nobody" })))),
        ("a user that is disabled", ed.token(&with(json!({ "sub": "gone" })))),
        ("huge", ed.token(&with(json!({ "padding": "x".repeat(9_000) })))),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no payload", format!("{}..{}", parts[0], parts[2])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{valid}.{}", parts[2])),
        ("the signature of another token", format!("{}.{}.{}", parts[0], base64url(by_id.to_string()), parts[2])),
        ("no token", "x".to_owned()),
    ];
    for length in (1..valid.len()).step_by(7) {
        forged.push(("truncated", valid[..length].to_owned()));
    }
    for (what, token) in &forged {
        let refused = refusal(&client, token).await;
        let (code, reason) = refused.unwrap_or_else(|| panic!("{what} was accepted: {token}"));
        assert_eq!(code, Code::Unauthenticated, "{what}");
        let expected = match *what {
            "expired" | "expired long ago" => "CREDENTIAL_EXPIRED",
            "a user that is disabled" => "USER_DISABLED",
            _ => "UNAUTHENTICATED",
        };
        assert_eq!(reason, expected, "{what}");
    }
    assert_eq!(who(&client, &valid).await, "ana", "and the server goes on");
}

#[tokio::test]
async fn no_mutated_token_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (rsa, ec, ed) = (SigningKey::rs256("rsa"), SigningKey::es256("ec"), SigningKey::ed_dsa("ed"));
    let keys = [&rsa, &ec, &ed].map(|key| key.setting(folder.path())).join(",");
    let settings = [("auth.jwt_secret", SECRET), ("auth.jwt_keys", &keys), ("auth.max_failures_per_address", "0")];
    let (mut server, admin) = server(&settings).await;
    admin.run("CREATE USER ana").await;
    let client = Client::connect(&server.endpoint()).await;
    let secret = SigningKey::hs256("", SECRET.as_bytes());
    let claims = claims_of("ana", &json!({}));
    let valid: Vec<String> = [&rsa, &ec, &ed]
        .map(|key| key.token(&claims))
        .into_iter()
        .chain([secret.token_with(&json!({ "alg": "HS256" }), &claims)])
        .collect();
    let mut rng = StdRng::seed_from_u64(5);
    for number in 0..MUTATIONS {
        let token = &valid[number % valid.len()];
        let mutated = mutate(token, &mut rng);
        if valid.contains(&mutated) {
            continue;
        }
        let outcome = client.token(&mutated).try_run("SELECT 1").await;
        let failure = outcome.err().unwrap_or_else(|| panic!("accepted: {mutated}\nof {token}"));
        assert_eq!(failure.code, Code::Unauthenticated, "{mutated}: {failure:?}");
    }
    for token in &valid {
        assert_eq!(who(&client, token).await, "ana");
    }
    assert!(server.is_running());
}

/// A token with some of its characters changed, taken away, doubled or exchanged.
fn mutate(token: &str, rng: &mut StdRng) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    let mut bytes = token.as_bytes().to_vec();
    for _ in 0..rng.random_range(1..=3) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..5) {
            0 | 1 => bytes[at] = ALPHABET[rng.random_range(0..ALPHABET.len())],
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, ALPHABET[rng.random_range(0..ALPHABET.len())]),
            _ => {
                let other = rng.random_range(0..bytes.len());
                bytes.swap(at, other);
            }
        }
    }
    // Spaces around a header's value are none of it.
    String::from_utf8(bytes).expect("ASCII").trim().to_owned()
}

#[tokio::test]
async fn keys_that_are_exchanged_are_found_when_a_token_needs_them() {
    let (old, new, newest) = (SigningKey::es256("2025"), SigningKey::ed_dsa("2026"), SigningKey::rs256("2027"));
    let publisher = Publisher::start(&key_set(&[&old])).await;
    let url = publisher.url();
    let settings = [
        ("auth.jwks_url", url.as_str()),
        ("auth.jwks_min_interval_s", "1"),
        ("auth.jwks_refresh_s", "3600"),
        ("auth.max_failures_per_address", "0"),
    ];
    let (server, admin) = server(&settings).await;
    admin.run("CREATE USER ana").await;
    let client = Client::connect(&server.endpoint()).await;
    let claims = claims_of("ana", &json!({}));
    assert_eq!(who(&client, &old.token(&claims)).await, "ana");

    publisher.publish(200, &key_set(&[&old, &new]));
    let found = || async { refusal(&client, &new.token(&claims)).await.is_none() };
    eventually("the new key is found", Duration::from_secs(10), found).await;
    assert_eq!(who(&client, &old.token(&claims)).await, "ana", "the old one is still there");

    // The old one goes: what was verified with it is void as soon as the server knows.
    publisher.publish(200, &key_set(&[&new, &newest]));
    let found = || async { refusal(&client, &newest.token(&claims)).await.is_none() };
    eventually("the newest key is found", Duration::from_secs(10), found).await;
    assert_eq!(refusal(&client, &old.token(&claims)).await.unwrap().1, "UNAUTHENTICATED");

    // An issuer that fails takes nothing away.
    for (status, body) in [(500, ""), (200, "not JSON"), (200, "{\"keys\":[]}"), (302, "")] {
        publisher.publish(status, body);
        let asked = publisher.asked();
        let unknown = SigningKey::ed_dsa("unknown").token(&claims);
        let is_asked = || async {
            assert!(refusal(&client, &unknown).await.is_some());
            publisher.asked() > asked
        };
        eventually("the issuer is asked", Duration::from_secs(10), is_asked).await;
        assert_eq!(who(&client, &new.token(&claims)).await, "ana", "{status} {body}");
    }
}

#[tokio::test]
async fn an_issuer_is_not_asked_for_every_token_that_names_a_key_of_nobody() {
    let key = SigningKey::ed_dsa("one");
    let publisher = Publisher::start(&key_set(&[&key])).await;
    let url = publisher.url();
    let settings =
        [("auth.jwks_url", url.as_str()), ("auth.jwks_min_interval_s", "600"), ("auth.max_failures_per_address", "0")];
    let (server, admin) = server(&settings).await;
    admin.run("CREATE USER ana").await;
    let client = Client::connect(&server.endpoint()).await;
    let claims = claims_of("ana", &json!({}));
    assert_eq!(who(&client, &key.token(&claims)).await, "ana");
    let asked = publisher.asked();
    for _ in 0..50 {
        assert!(refusal(&client, &SigningKey::ed_dsa("unknown").token(&claims)).await.is_some());
    }
    assert!(publisher.asked() <= asked + 1, "asked {} times", publisher.asked() - asked);
}

#[tokio::test]
async fn a_file_with_keys_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (SigningKey::es256("old"), SigningKey::ed_dsa("new"));
    std::fs::write(&path, key_set(&[&old])).unwrap();
    let path_text = path.display().to_string();
    let (server, admin) = server(&[("auth.jwks_file", &path_text), ("tls.reload_interval_ms", "100")]).await;
    admin.run("CREATE USER ana").await;
    let client = Client::connect(&server.endpoint()).await;
    let claims = claims_of("ana", &json!({}));
    assert_eq!(who(&client, &old.token(&claims)).await, "ana");
    std::fs::write(&path, key_set(&[&new])).unwrap();
    let gone = || async { refusal(&client, &old.token(&claims)).await.is_some() };
    eventually("the old key is forgotten", Duration::from_secs(10), gone).await;
    assert_eq!(who(&client, &new.token(&claims)).await, "ana");
}
