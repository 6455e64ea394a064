use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use kalamdb_engine::FixedEnv;
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::*;
use crate::config::JwtAlgorithm;

const SECRET: &str = "the secret of these tests, which is long enough";
const NOW_S: i64 = 1_800_000_000;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = base64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256_with(secret: &[u8], header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    token(header, claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn hs256(claims: &Value) -> String {
    hs256_with(SECRET.as_bytes(), &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

fn ana() -> Value {
    json!({ "sub": "ana", "exp": NOW_S + 600 })
}

/// Claims, with some of them exchanged; null takes one away.
fn claims(changes: &Value) -> Value {
    let mut claims = ana();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn config() -> AuthSection {
    let secret = serde_json::from_value(json!(SECRET)).unwrap();
    AuthSection { jwt_secret: secret, ..AuthSection::default() }
}

fn env() -> Arc<FixedEnv> {
    Arc::new(FixedEnv::new(NOW_S * 1_000_000, 7))
}

fn tokens_of(config: &AuthSection, env: &Arc<FixedEnv>) -> Tokens {
    let own = OwnTokens::open(None, std::time::Duration::from_secs(900), env.as_ref()).unwrap();
    Tokens::new(config, Arc::new(own), Arc::clone(env) as Arc<dyn Env>).unwrap()
}

async fn verify(config: &AuthSection, token: &str) -> Result<String, TokenFault> {
    tokens_of(config, &env()).verify(token).await.map(|verified| verified.user.as_str().to_owned())
}

#[tokio::test]
async fn a_valid_token_names_its_user() {
    assert_eq!(verify(&config(), &hs256(&ana())).await.unwrap(), "ana");
    let both = claims(&json!({ "user_id": "u-17", "iat": NOW_S, "nbf": NOW_S - 1, "other": { "a": [1] } }));
    assert_eq!(verify(&config(), &hs256(&both)).await.unwrap(), "u-17", "user_id comes before sub");
    let fraction = claims(&json!({ "exp": NOW_S as f64 + 0.5 }));
    assert_eq!(verify(&config(), &hs256(&fraction)).await.unwrap(), "ana");
}

#[tokio::test]
async fn claims_are_checked() {
    for (changes, fault) in [
        (json!({ "exp": NOW_S - 31 }), TokenFault::Expired),
        (json!({ "exp": 0 }), TokenFault::Expired),
        (json!({ "exp": i64::MIN }), TokenFault::Expired),
        (json!({ "exp": null }), TokenFault::NoExpiry),
        (json!({ "exp": "tomorrow" }), TokenFault::Malformed),
        (json!({ "exp": (NOW_S + 600).to_string() }), TokenFault::Malformed),
        (json!({ "nbf": NOW_S + 31 }), TokenFault::NotYet),
        (json!({ "nbf": "later" }), TokenFault::Malformed),
        (json!({ "iat": NOW_S + 31 }), TokenFault::NotYet),
        (json!({ "sub": null }), TokenFault::NoUser),
        (json!({ "sub": "" }), TokenFault::NoUser),
        (json!({ "sub": "x".repeat(300) }), TokenFault::NoUser),
        (json!({ "sub": 17 }), TokenFault::Malformed),
        (json!({ "user_id": ["ana"] }), TokenFault::Malformed),
        (json!({ "iss": "kalamdb" }), TokenFault::Issuer),
    ] {
        assert_eq!(verify(&config(), &hs256(&claims(&changes))).await, Err(fault), "{changes}");
    }
    // Within the leeway.
    for changes in [json!({ "exp": NOW_S - 29 }), json!({ "nbf": NOW_S + 29 }), json!({ "exp": i64::MAX })] {
        verify(&config(), &hs256(&claims(&changes))).await.unwrap();
    }
}

#[tokio::test]
async fn claims_given_twice_are_refused() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let claims = format!(r#"{{"sub":"ana","exp":{},"sub":"root"}}"#, NOW_S + 600);
    let message = format!("{}.{}", base64(r#"{"alg":"HS256"}"#), base64(claims));
    let token = format!("{message}.{}", base64(hmac::sign(&key, message.as_bytes())));
    assert_eq!(verify(&config(), &token).await, Err(TokenFault::Malformed));
}

#[tokio::test]
async fn issuers_and_audiences_are_those_of_the_configuration() {
    let config = AuthSection {
        issuers: vec!["https://a".to_owned(), "https://b".to_owned()],
        audiences: vec!["chat".to_owned()],
        ..config()
    };
    let right = json!({ "iss": "https://b", "aud": ["other", "chat"] });
    verify(&config, &hs256(&claims(&right))).await.unwrap();
    verify(&config, &hs256(&claims(&json!({ "iss": "https://a", "aud": "chat" })))).await.unwrap();
    for (changes, fault) in [
        (json!({ "aud": "chat" }), TokenFault::Issuer),
        (json!({ "aud": "chat", "iss": "https://c" }), TokenFault::Issuer),
        (json!({ "aud": "chat", "iss": "" }), TokenFault::Issuer),
        (json!({ "iss": "https://a" }), TokenFault::Audience),
        (json!({ "iss": "https://a", "aud": "chatter" }), TokenFault::Audience),
        (json!({ "iss": "https://a", "aud": [] }), TokenFault::Audience),
        (json!({ "iss": "https://a", "aud": { "chat": true } }), TokenFault::Malformed),
    ] {
        assert_eq!(verify(&config, &hs256(&claims(&changes))).await, Err(fault), "{changes}");
    }
}

#[tokio::test]
async fn the_algorithm_is_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rsa.pem");
    let public = include_str!("../../../../tests/keys/rsa_of_tests.pub.pem");
    std::fs::write(&path, public).unwrap();
    let config = AuthSection { jwt_keys: vec![format!("RS256:rsa={}", path.display())], ..AuthSection::default() };
    // The public key, which everybody knows, as a secret.
    for header in [json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "rsa" })] {
        let forged = hs256_with(public.as_bytes(), &header, &ana());
        assert_eq!(verify(&config, &forged).await, Err(TokenFault::Algorithm), "{header}");
        let forged = hs256_with(public.trim().as_bytes(), &header, &ana());
        assert_eq!(verify(&config, &forged).await, Err(TokenFault::Algorithm), "{header}");
    }
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "PS256", "RS512", "ES256K", "hs256", "dir"] {
        let header = json!({ "alg": alg });
        for signature in [&b""[..], b"x"] {
            assert!(verify(&config, &token(&header, &ana(), |_| signature.to_vec())).await.is_err(), "{alg}");
            assert!(verify(&super::tests::config(), &token(&header, &ana(), |_| signature.to_vec())).await.is_err());
        }
        let signed = hs256_with(SECRET.as_bytes(), &header, &ana());
        assert!(verify(&super::tests::config(), &signed).await.is_err(), "{alg} with HMAC's signature");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let valid = hs256(&ana());
    let [header, payload, signature] = valid.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let parts = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{valid}.{signature}"),
        format!("{valid}="),
        format!("{valid} "),
        format!("{header}.{payload}.{}", "A".repeat(signature.len())),
        "\u{1f980}.\u{1f980}.\u{1f980}".to_owned(),
        hs256_with(SECRET.as_bytes(), &json!({ "typ": "JWT" }), &ana()),
        hs256_with(SECRET.as_bytes(), &json!({ "alg": "HS256", "crit": ["exp"] }), &ana()),
        hs256_with(SECRET.as_bytes(), &json!({ "alg": "HS256", "b64": false, "crit": ["b64"] }), &ana()),
        hs256_with(SECRET.as_bytes(), &json!({ "alg": "HS256", "zip": "DEF" }), &ana()),
        hs256_with(SECRET.as_bytes(), &json!(["HS256"]), &ana()),
        hs256_with(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &json!([1])),
        hs256_with(b"another secret, which is long enough too", &json!({ "alg": "HS256" }), &ana()),
        hs256_with(b"", &json!({ "alg": "HS256" }), &ana()),
    ];
    for token in parts {
        assert!(verify(&config(), &token).await.is_err(), "{token:?}");
    }
    let huge = hs256(&claims(&json!({ "padding": "x".repeat(10_000) })));
    assert_eq!(verify(&config(), &huge).await, Err(TokenFault::TooLong));
    for length in 0..valid.len() {
        assert!(verify(&config(), &valid[..length]).await.is_err(), "the first {length} bytes");
    }
}

#[tokio::test]
async fn no_character_can_be_changed() {
    let tokens = tokens_of(&config(), &env());
    let valid = hs256(&ana());
    tokens.verify(&valid).await.unwrap();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for place in 0..valid.len() {
        for other in alphabet.iter().filter(|other| **other != valid.as_bytes()[place]).step_by(5) {
            let mut bytes = valid.clone().into_bytes();
            bytes[place] = *other;
            let mutated = String::from_utf8(bytes).unwrap();
            assert!(tokens.known(&mutated).is_none() && tokens.verify(&mutated).await.is_err(), "{mutated}");
        }
    }
}

#[tokio::test]
async fn a_verified_token_is_known_until_it_expires() {
    let env = env();
    let tokens = tokens_of(&config(), &env);
    let token = hs256(&ana());
    assert!(tokens.known(&token).is_none());
    tokens.verify(&token).await.unwrap();
    assert_eq!(tokens.known(&token).unwrap().user.as_str(), "ana");
    env.advance_us(629 * 1_000_000);
    assert!(tokens.known(&token).is_some());
    env.advance_us(1_000_000);
    assert!(tokens.known(&token).is_none());
    assert_eq!(tokens.verify(&token).await, Err(TokenFault::Expired));
}

struct EdKey(Ed25519KeyPair, &'static str);

impl EdKey {
    fn new(seed: u8, id: &'static str) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), id)
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.1, "x": base64(self.0.public_key()) })
    }

    fn token(&self) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.1 });
        token(&header, &ana(), |message| self.0.sign(message).as_ref().to_vec())
    }
}

#[tokio::test]
async fn sets_of_keys_are_read_and_their_odd_ones_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let key = EdKey::new(1, "one");
    let odd = [
        json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": base64(SECRET) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "enc", "kid": "enc", "x": base64(EdKey::new(2, "").0.public_key()) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "ES256", "kid": "alg", "x": base64(EdKey::new(2, "").0.public_key()) }),
        json!({ "kty": "EC", "crv": "P-384", "kid": "p384", "x": "AA", "y": "AA" }),
        json!({ "kty": "RSA", "kid": "short", "n": base64([255; 64]), "e": "AQAB" }),
        json!({ "kty": "future", "kid": "f" }),
        json!(17),
    ];
    let mut keys = odd.to_vec();
    keys.push(key.jwk());
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    let config = AuthSection { jwks_file: path.display().to_string(), ..AuthSection::default() };
    assert_eq!(verify(&config, &key.token()).await.unwrap(), "ana");
    for other in [EdKey::new(2, "enc"), EdKey::new(2, "alg"), EdKey::new(1, "two")] {
        assert_eq!(verify(&config, &other.token()).await, Err(TokenFault::UnknownKey));
    }
    assert_eq!(verify(&config, &EdKey::new(3, "one").token()).await, Err(TokenFault::Signature));
    let secret = hs256_with(SECRET.as_bytes(), &json!({ "alg": "HS256", "kid": "secret" }), &ana());
    assert_eq!(verify(&config, &secret).await, Err(TokenFault::Algorithm), "secrets of sets are none");
    let narrow = AuthSection { jwks_algorithms: vec![JwtAlgorithm::Rs256], ..config };
    let own = OwnTokens::open(None, std::time::Duration::from_secs(1), env().as_ref()).unwrap();
    assert!(Tokens::new(&narrow, Arc::new(own), env()).is_err());
}

#[tokio::test]
async fn a_set_that_changes_is_read_when_a_token_needs_it_and_old_keys_verify_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (EdKey::new(1, "old"), EdKey::new(2, "new"));
    std::fs::write(&path, json!({ "keys": [old.jwk()] }).to_string()).unwrap();
    let config = AuthSection { jwks_file: path.display().to_string(), ..AuthSection::default() };
    let tokens = tokens_of(&config, &env());
    tokens.verify(&old.token()).await.unwrap();
    // Another length, so that the change shows even within the clock's resolution.
    std::fs::write(&path, json!({ "keys": [new.jwk()], "comment": "exchanged" }).to_string()).unwrap();
    tokens.verify(&new.token()).await.unwrap();
    assert!(tokens.known(&old.token()).is_none(), "what was verified with the old key is forgotten");
    assert_eq!(tokens.verify(&old.token()).await, Err(TokenFault::UnknownKey));
}

#[tokio::test]
async fn own_tokens_are_good_for_their_time_and_their_server() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let lifetime = std::time::Duration::from_secs(900);
    let open = || OwnTokens::open(Some(folder.path()), lifetime, env.as_ref()).unwrap();
    let own = open();
    let user = UserId::new("Zoë \u{1f980}").unwrap();
    let (token, expires_at_us) = own.issue(&user, "0123456789abcdef", env.now_us()).unwrap();
    assert_eq!(expires_at_us, (NOW_S + 900) * 1_000_000);
    // The key is the same after a restart.
    let tokens = Tokens::new(&config(), Arc::new(open()), Arc::clone(&env) as Arc<dyn Env>).unwrap();
    let verified = tokens.verify(&token).await.unwrap();
    assert_eq!((&verified.user, verified.session.as_deref()), (&user, Some("0123456789abcdef")));
    assert!(tokens_of(&config(), &env).verify(&token).await.is_err(), "another server's");
    env.advance_us(900 * 1_000_000);
    assert!(tokens.known(&token).is_none());
    assert_eq!(tokens.verify(&token).await, Err(TokenFault::Expired));
}

#[cfg(unix)]
#[test]
fn the_key_of_own_tokens_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let open = || OwnTokens::open(Some(folder.path()), std::time::Duration::from_secs(900), env().as_ref());
    open().unwrap();
    let path = folder.path().join("token.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What a crash has left does not matter.
    std::fs::rename(&path, folder.path().join("token.key.new")).unwrap();
    open().unwrap();
    assert!(!folder.path().join("token.key.new").exists());
    std::fs::write(&path, "kalamdb token key 1\nshort\n").unwrap();
    assert!(open().err().unwrap().contains("is damaged"));
}
