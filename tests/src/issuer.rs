//! An issuer of tokens, as others run them: keys of each algorithm, tokens with them, right and wrong ones, and a small
//! HTTP server that publishes the public keys.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair as Pem, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::client::now_us;

/// The RSA key of these tests: making one takes long, and no crate here does it.
const RSA_PRIVATE: &str = include_str!("../keys/rsa_of_tests.pem");
const RSA_PUBLIC: &str = include_str!("../keys/rsa_of_tests.pub.pem");

/// Base64 as tokens have it.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub fn now_s() -> i64 {
    now_us() / 1_000_000
}

/// A key that signs tokens.
pub struct SigningKey {
    id: String,
    kind: Kind,
}

enum Kind {
    Hs256(Vec<u8>),
    Rs256(Box<RsaKeyPair>),
    Es256(EcdsaKeyPair, String),
    EdDsa(Ed25519KeyPair, String),
}

impl SigningKey {
    /// A secret of HS256.
    pub fn hs256(id: &str, secret: &[u8]) -> Self {
        Self { id: id.to_owned(), kind: Kind::Hs256(secret.to_vec()) }
    }

    /// The RSA key of these tests.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn rs256(id: &str) -> Self {
        let body: String = RSA_PRIVATE.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::prelude::BASE64_STANDARD.decode(body).expect("base64");
        let key = RsaKeyPair::from_pkcs8(&der).expect("an RSA key");
        Self { id: id.to_owned(), kind: Kind::Rs256(Box::new(key)) }
    }

    /// A new key of ES256.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn es256(id: &str) -> Self {
        let pem = Pem::generate_for(&PKCS_ECDSA_P256_SHA256).expect("make a key");
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pem.serialize_der(), &SystemRandom::new());
        Self { id: id.to_owned(), kind: Kind::Es256(key.expect("a key of P-256"), pem.public_key_pem()) }
    }

    /// A new key of EdDSA.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn ed_dsa(id: &str) -> Self {
        let pem = Pem::generate_for(&PKCS_ED25519).expect("make a key");
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem.serialize_der()).expect("a key of Ed25519");
        Self { id: id.to_owned(), kind: Kind::EdDsa(key, pem.public_key_pem()) }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The algorithm's name.
    pub fn algorithm(&self) -> &'static str {
        match &self.kind {
            Kind::Hs256(_) => "HS256",
            Kind::Rs256(_) => "RS256",
            Kind::Es256(..) => "ES256",
            Kind::EdDsa(..) => "EdDSA",
        }
    }

    /// The public key in PEM.
    ///
    /// # Panics
    /// For a secret.
    pub fn public_pem(&self) -> &str {
        match &self.kind {
            Kind::Hs256(_) => panic!("a secret has no public key"),
            Kind::Rs256(_) => RSA_PUBLIC,
            Kind::Es256(_, pem) | Kind::EdDsa(_, pem) => pem,
        }
    }

    /// Writes the public key to a file and gives the value of `auth.jwt_keys` for it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn setting(&self, folder: &Path) -> String {
        let path = folder.join(format!("{}.pem", self.id));
        std::fs::write(&path, self.public_pem()).expect("write a key");
        format!("{}:{}={}", self.algorithm(), self.id, path.display())
    }

    /// The public key as a JSON Web Key.
    ///
    /// # Panics
    /// For a secret.
    pub fn jwk(&self) -> Value {
        match &self.kind {
            Kind::Hs256(_) => panic!("a secret has no public key"),
            Kind::Rs256(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.id,
                        "n": base64url(public.n), "e": base64url(public.e) })
            }
            Kind::Es256(key, _) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": self.id,
                        "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
            }
            Kind::EdDsa(key, _) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": base64url(key.public_key()) })
            }
        }
    }

    /// Signs.
    ///
    /// # Panics
    /// When the random numbers of the system fail.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.kind {
            Kind::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Kind::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("sign");
                signature
            }
            Kind::Es256(key, _) => key.sign(&SystemRandom::new(), message).expect("sign").as_ref().to_vec(),
            Kind::EdDsa(key, _) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.id }), claims)
    }

    /// A token with this header, whatever it says.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = base64url(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).field("algorithm", &self.algorithm()).finish()
    }
}

/// Claims for a user that are good for ten minutes, with some of them exchanged; null takes one away.
pub fn claims_of(user: &str, changes: &Value) -> Value {
    let mut claims = json!({ "sub": user, "exp": now_s() + 600 });
    for (name, value) in changes.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

/// An HTTP server that answers every GET with the same, such as a set of keys.
#[derive(Debug)]
pub struct Publisher {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Publisher {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new((200, body.to_owned())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (status, body) = answers.lock().expect("no test panics with it").clone();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut buffer = [0; 1024];
                    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
                            _ => return,
                        }
                    }
                    let answer = format!(
                        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: \
                         close\r\n\r\n{body}",
                        body.len()
                    );
                    // Whoever went away needs no answer.
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, answer, asked, serving }
    }

    /// Answers with this from now on.
    ///
    /// # Panics
    /// When another thread panicked meanwhile.
    pub fn publish(&self, status: u16, body: &str) {
        *self.answer.lock().expect("no test panics with it") = (status, body.to_owned());
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A set of the public keys of these.
pub fn key_set(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}
