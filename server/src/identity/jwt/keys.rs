//! The keys that tokens are verified with: each for one algorithm, and perhaps for one key id.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header, Validation};
use parking_lot::RwLock;

use crate::config::{AuthSection, JwtAlgorithm};

/// Fewer bytes than HMAC's own hash has make a key that can be guessed.
const LEAST_SECRET_BYTES: usize = 32;
/// A key of RSA with less than 2048 bits is none any more.
const LEAST_RSA_BYTES: usize = 256;
/// An uncompressed point of P-256.
const P256_POINT_BYTES: usize = 65;
const ED25519_BYTES: usize = 32;
/// A file with a key is smaller.
pub(super) const MOST_KEY_FILE_BYTES: u64 = 64 * 1024;

/// A key.
pub(crate) struct Key {
    /// Tokens that name another key are not tried with it. `None`: it is tried with all.
    id: Option<String>,
    decoding: DecodingKey,
    validation: Validation,
}

impl Key {
    /// A key for one algorithm.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(id: Option<String>, algorithm: Algorithm, decoding: DecodingKey) -> Result<Self, String> {
        let mut validation = Validation::new(algorithm);
        // The signature only: claims are checked against the injected clock, and more strictly.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let bytes = match decoding.kind() {
            DecodingKeyKind::RsaModulusExponent { n, .. } => n.iter().skip_while(|byte| **byte == 0).count(),
            DecodingKeyKind::SecretOrDer(bytes) => bytes.len(),
        };
        match algorithm {
            Algorithm::RS256 if bytes < LEAST_RSA_BYTES => Err("the key has less than 2048 bits".to_owned()),
            Algorithm::ES256 if bytes != P256_POINT_BYTES => Err("the key is not one of P-256".to_owned()),
            Algorithm::EdDSA if bytes != ED25519_BYTES => Err("the key is not one of Ed25519".to_owned()),
            _ => Ok(Self { id, decoding, validation }),
        }
    }

    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.validation.algorithms == [algorithm]
    }

    /// Whether a token with this header may be of this key.
    pub(super) fn has_id(&self, header: &Header) -> bool {
        match (&self.id, &header.kid) {
            (Some(id), Some(wanted)) => id == wanted,
            (None, _) | (_, None) => true,
        }
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    pub(super) fn validation(&self) -> &Validation {
        &self.validation
    }
}

/// All keys: those of the configuration, and those of a set that changes.
pub(super) struct KeySet {
    configured: Vec<Arc<Key>>,
    now: RwLock<Arc<KeysNow>>,
}

/// All keys as of now.
pub(super) struct KeysNow {
    pub(super) keys: Vec<Arc<Key>>,
    /// Another one for other keys.
    pub(super) generation: u64,
}

impl KeySet {
    pub(super) fn new(configured: Vec<Key>) -> Self {
        let configured: Vec<Arc<Key>> = configured.into_iter().map(Arc::new).collect();
        let now = KeysNow { keys: configured.clone(), generation: 0 };
        Self { configured, now: RwLock::new(Arc::new(now)) }
    }

    pub(super) fn get(&self) -> Arc<KeysNow> {
        Arc::clone(&self.now.read())
    }

    pub(super) fn generation(&self) -> u64 {
        self.now.read().generation
    }

    /// The set has these keys from now on.
    pub(super) fn replace_set(&self, set: Vec<Key>) {
        let mut now = self.now.write();
        let keys = self.configured.iter().cloned().chain(set.into_iter().map(Arc::new)).collect();
        *now = Arc::new(KeysNow { keys, generation: now.generation + 1 });
    }
}

impl KeysNow {
    /// Whether the key is there that a token with this header names, if it names one.
    pub(super) fn knows_id(&self, header: &Header) -> bool {
        header.kid.is_none() || self.keys.iter().any(|key| key.id == header.kid)
    }
}

/// The keys of the configuration, but for those of sets.
///
/// # Errors
/// A text for the operator.
pub(super) fn configured(config: &AuthSection) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    let secret = config.jwt_secret.expose();
    if !secret.is_empty() {
        check_secret(secret)?;
        keys.push(Key::new(None, Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes()))?);
    }
    for text in &config.jwt_keys {
        keys.push(read_key(text)?);
    }
    Ok(keys)
}

/// Checks a secret that tokens are signed with.
///
/// # Errors
/// A text for the operator.
pub(crate) fn check_secret(secret: &str) -> Result<(), String> {
    if secret.len() < LEAST_SECRET_BYTES {
        return Err(format!(
            "has {} bytes; {LEAST_SECRET_BYTES} at least are needed, such as those of `head -c 32 /dev/urandom | base64`",
            secret.len()
        ));
    }
    Ok(())
}

/// Reads a key in PEM.
type ReadKey = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

/// Reads a key that is written as `ALGORITHM=FILE` or `ALGORITHM:KEY_ID=FILE`.
///
/// # Errors
/// A text for the operator.
pub(crate) fn read_key(text: &str) -> Result<Key, String> {
    let form =
        || format!("\"{text}\" is not a key; write it as RS256=/path/to/key.pem, or RS256:key-id=/path/to/key.pem");
    let (what, file) = text.split_once('=').ok_or_else(form)?;
    let (name, id) = match what.split_once(':') {
        Some((name, id)) if !id.is_empty() => (name, Some(id.to_owned())),
        Some(_) => return Err(form()),
        None => (what, None),
    };
    let (algorithm, read): (Algorithm, ReadKey) = match name {
        "RS256" => (Algorithm::RS256, DecodingKey::from_rsa_pem),
        "ES256" => (Algorithm::ES256, DecodingKey::from_ec_pem),
        "EdDSA" => (Algorithm::EdDSA, DecodingKey::from_ed_pem),
        "HS256" => return Err("a secret of HS256 is given as auth.jwt_secret, not as a file".to_owned()),
        _ => return Err(format!("\"{name}\" is not an algorithm for keys in files; those are RS256, ES256 and EdDSA")),
    };
    let bytes = read_file(Path::new(file))?;
    let wrong = |reason: &str| format!("{file} is not a public key of {name} in PEM: {reason}");
    let key = read(&bytes).map_err(|error| wrong(&error.to_string()))?;
    Key::new(id, algorithm, key).map_err(|reason| wrong(&reason))
}

/// Reads a small file.
///
/// # Errors
/// A text for the operator.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(MOST_KEY_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MOST_KEY_FILE_BYTES {
        return Err(format!("{} is too large to be a key", path.display()));
    }
    Ok(bytes)
}

/// jsonwebtoken's name of an algorithm.
pub(super) fn algorithm(name: JwtAlgorithm) -> Algorithm {
    match name {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}
