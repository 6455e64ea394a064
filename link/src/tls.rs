//! Encrypted connections.

use std::{fmt, fs, io, path::PathBuf, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tower::{ServiceExt, service_fn};

use crate::{
    endpoint::Address,
    error::{Error, Result},
};

/// The protocol of gRPC, as TLS names it.
const ALPN_H2: &[u8] = b"h2";

/// How a connection is encrypted: whose certificates are trusted, and the client's own.
///
/// ```no_run
/// # async fn example() -> Result<(), kalam_link::Error> {
/// use kalam_link::{Client, Tls};
///
/// let tls = Tls::new().ca_file("/etc/kalamdb/ca.pem").identity_files("client.pem", "client-key.pem");
/// let client = Client::builder("https://db.example:2900").tls(tls).connect().await?;
/// # Ok(())
/// # }
/// ```
///
/// Without certificates of its own choice it trusts the system's. Files are read when a [`Client`](crate::Client) is
/// made; a client that is to present a renewed certificate must be made anew.
#[derive(Clone, Debug, Default)]
#[must_use = "give it to `ClientBuilder::tls`"]
pub struct Tls {
    roots: Vec<Pem>,
    system_roots: bool,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
}

/// Text in PEM, or the file that has it.
#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Text(Arc<[u8]>),
}

impl Tls {
    /// Trusts the certificate authorities of the system.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Trusts the certificates of a PEM file, authorities or the server's own, in place of the system's. Several files
    /// add up.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Pem::File(path.into()));
        self
    }

    /// As [`Tls::ca_file`], with the text itself.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Pem::Text(pem.as_ref().into()));
        self
    }

    /// Whether the system's authorities are trusted besides those given. Default: false.
    pub fn system_roots(mut self, trusted: bool) -> Self {
        self.system_roots = trusted;
        self
    }

    /// The certificate (with those between it and its authority) and its private key, in PEM files, that the client
    /// shows to a server that asks.
    pub fn identity_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// As [`Tls::identity_files`], with the texts themselves.
    pub fn identity_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((Pem::Text(certificate.as_ref().into()), Pem::Text(key.as_ref().into())));
        self
    }

    /// The name or address that the server's certificate must be for. Default: the host of the server's address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads the files, and makes what opens connections.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming the file, when one cannot be read or has not what it must have.
    pub(crate) fn connector(&self, address: &Address, connect_timeout: Duration) -> Result<Connector> {
        let name = self.server_name.as_deref().unwrap_or(&address.host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::configuration(format!("{name:?} is not a name that a certificate can be for")))?;
        let roots = self.root_store()?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::configuration(format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&key.read()?)
                    .map_err(|_| Error::configuration(format!("there is no private key in {key}")))?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    Error::configuration(format!("{certificate} and {key} cannot be used together: {error}"))
                })?
            }
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Ok(Connector { tcp, tls: TlsConnector::from(Arc::new(config)), name, timeout: connect_timeout })
    }

    fn root_store(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        for pem in &self.roots {
            for certificate in certificates(pem)? {
                store
                    .add(certificate)
                    .map_err(|error| Error::configuration(format!("a certificate in {pem} cannot be used: {error}")))?;
            }
        }
        if self.roots.is_empty() || self.system_roots {
            // Single certificates of the system that cannot be read are not this client's concern.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(Error::configuration(
                    "this system has no certificate authorities: install them (ca-certificates), or name a PEM file \
                     with the certificate to trust",
                ));
            }
        }
        Ok(store)
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let text = pem.read()?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::configuration(format!("there is no certificate in {pem}"))),
        Err(error) => Err(Error::configuration(format!("{pem} is not PEM: {error}"))),
    }
}

impl Pem {
    fn read(&self) -> Result<Arc<[u8]>> {
        match self {
            Pem::Text(text) => Ok(Arc::clone(text)),
            Pem::File(path) => fs::read(path)
                .map(Into::into)
                .map_err(|error| Error::configuration(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.display().fmt(f),
            Pem::Text(_) => f.write_str("the text given"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A text can be a private key.
        write!(f, "{self}")
    }
}

/// Opens encrypted connections to one server.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
    name: ServerName<'static>,
    timeout: Duration,
}

impl Connector {
    /// The connector as tonic takes it.
    pub(crate) fn service(
        &self,
    ) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send> + Send + use<>
    {
        let connector = self.clone();
        service_fn(move |server: Uri| connector.clone().connect(server))
    }

    async fn connect(self, server: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let Connector { tcp, tls, name, timeout } = self;
        let connecting = async {
            let stream = tcp.oneshot(server).await.map_err(io::Error::other)?.into_inner();
            let stream = tls.connect(name, stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
                return Err(io::Error::other("the server answers TLS, but not HTTP/2: it is not KalamDB"));
            }
            Ok(TokioIo::new(stream))
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| Err(late()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Address, Tls};

    fn refusal(tls: &Tls) -> String {
        let address = Address::parse("https://db.example", true).unwrap();
        match tls.connector(&address, Duration::from_secs(1)) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn files_that_are_not_what_they_must_be_are_named() {
        assert!(refusal(&Tls::new().ca_file("/no/such/ca.pem")).contains("/no/such/ca.pem"));
        assert!(refusal(&Tls::new().ca_pem("nothing")).contains("no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(refusal(&Tls::new().ca_pem(broken)).contains("not PEM"));
        let not_one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refusal(&Tls::new().ca_pem(not_one)).contains("cannot be used"));
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let tls = Tls::new().identity_pem("certificate s3cret", "key s3cret");
        assert!(!format!("{tls:?}").contains("s3cret"));
        assert!(!format!("{tls:?}").contains(&format!("{:?}", b"s3cret")[1..10]));
    }

    #[test]
    fn a_name_that_no_certificate_has_is_refused() {
        assert!(refusal(&Tls::new().server_name("a b")).contains("a b"));
    }
}
