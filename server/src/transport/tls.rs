//! TLS: the handshake of connections, and certificates that are exchanged while the server runs.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::{Counter, counter, describe_counter};
use parking_lot::RwLock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};

use crate::{
    config::{ClientAuth, ClientIdentity, TlsSection},
    identity::CertificateName,
};

/// A file of certificates is smaller.
const MOST_FILE_BYTES: u64 = 1024 * 1024;

/// Makes plain connections encrypted ones.
pub(crate) struct Tls {
    files: Files,
    identity: ClientIdentity,
    handshake_timeout: Duration,
    now: RwLock<Arc<ServerConfig>>,
    failed: Counter,
}

/// What certificates are read from.
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_auth: ClientAuth,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn load(section: &TlsSection) -> Result<Self, String> {
        let files = Files::of(section);
        describe_counter!("kalamdb_tls_handshakes_failed_total", "Connections that did not become encrypted ones");
        Ok(Self {
            now: RwLock::new(Arc::new(files.read()?)),
            files,
            identity: section.client_identity,
            handshake_timeout: Duration::from_millis(section.handshake_timeout_ms),
            failed: counter!("kalamdb_tls_handshakes_failed_total"),
        })
    }

    /// Checks the files.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn check(section: &TlsSection) -> Result<(), String> {
        Files::of(section).read().map(drop)
    }

    /// Encrypts a connection; also answers whom the client's certificate names, if it does.
    ///
    /// # Errors
    /// What went wrong, such as that the client does not speak TLS, has no certificate that is accepted, or takes too long.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<CertificateName>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.now.read());
        let handshake = timeout(self.handshake_timeout, TlsAcceptor::from(config).accept(stream)).await;
        let stream = handshake
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")))
            .inspect_err(|_| self.failed.increment(1))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|certificates| certificates.first());
        let name = shown.and_then(|certificate| CertificateName::of(certificate, self.identity));
        Ok((stream, name))
    }

    /// Reads the files again when they change, for ever. New connections get what was read; those that are open stay as
    /// they are.
    pub(crate) async fn keep_fresh(self: Arc<Self>, look_every: Duration) {
        let mut stamps = self.files.stamps();
        let mut ticks = interval(look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = self.files.stamps();
            if now == stamps {
                continue;
            }
            match self.files.read() {
                Ok(config) => {
                    *self.now.write() = Arc::new(config);
                    tracing::info!("the certificates of TLS were read again");
                }
                // Certificate and key are rarely exchanged in one moment: the next look may find both.
                Err(why) => {
                    tracing::error!("the certificates of TLS changed and cannot be used; the old ones stay: {why}")
                }
            }
            stamps = now;
        }
    }
}

impl Files {
    fn of(section: &TlsSection) -> Self {
        Self {
            certificate: PathBuf::from(&section.cert_file),
            key: PathBuf::from(&section.key_file),
            client_ca: (!section.client_ca_file.is_empty()).then(|| PathBuf::from(&section.client_ca_file)),
            client_auth: section.client_auth,
        }
    }

    fn read(&self) -> Result<ServerConfig, String> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| format!("{} has no private key in PEM: {error}", self.key.display()))?;
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(self.verifier(provider)?)
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| {
            format!("{} and {} do not fit: {error}", self.certificate.display(), self.key.display())
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verifier(
        &self,
        provider: Arc<tokio_rustls::rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let path = match (&self.client_ca, self.client_auth) {
            (_, ClientAuth::None) => return Ok(WebPkiClientVerifier::no_client_auth()),
            (Some(path), ClientAuth::Optional | ClientAuth::Required) => path,
            (None, ClientAuth::Optional | ClientAuth::Required) => {
                return Err("tls.client_auth needs tls.client_ca_file".to_owned());
            }
        };
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if self.client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
        builder.build().map(|verifier| verifier as Arc<dyn ClientCertVerifier>).map_err(|error| wrong(&error))
    }

    /// What changes with the files.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().map(stamp).collect()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{} has no certificate in PEM", path.display())),
        Err(error) => Err(format!("{} has no certificate in PEM: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(path).map_err(cannot)?.len() > MOST_FILE_BYTES {
        return Err(format!("{} is too large to be certificates or a key", path.display()));
    }
    std::fs::read(path).map_err(cannot)
}
