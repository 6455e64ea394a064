//! Encrypted connections to a gRPC server in the same process, with certificates made here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use kalam_link::{Client, ClientBuilder, ErrorKind, HealthStatus, RetryPolicy, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};
use tonic::transport::{Server, server::Connected};
use tonic_health::server::health_reporter;

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Each by a name of its own: another's of the same name would be taken for it, and only the signature be wrong.
        let name = key.public_key_raw().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", &name[name.len() - 16..]));
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// What tonic serves: a connection it knows nothing about.
struct Accepted(TlsStream<TcpStream>);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Connections whose handshake succeeded.
fn accepted(listener: TcpListener, acceptor: TlsAcceptor) -> impl Stream<Item = io::Result<Accepted>> {
    futures::stream::unfold((listener, acceptor), async |(listener, acceptor)| {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                return Some((Ok(Accepted(stream)), (listener, acceptor)));
            }
        }
    })
}

/// A server with a certificate for `name`; its port. It asks for certificates of `clients`, if there are any.
async fn serve(authority: &Authority, name: &str, clients: Option<&Authority>, alpn: &[u8]) -> u16 {
    let signed = authority.sign(name);
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_reporter, health) = health_reporter();
    let incoming = accepted(listener, TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    port
}

fn builder(address: String) -> ClientBuilder {
    Client::builder(address).retry(RetryPolicy::NONE).timeout(Duration::from_secs(10))
}

async fn refusal(builder: ClientBuilder) -> (ErrorKind, String) {
    match builder.connect().await {
        // Since TLS 1.3 a server refuses a client's certificate after the client has connected.
        Ok(client) => {
            let error = client.health().await.unwrap_err();
            (error.kind(), error.to_string())
        }
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[tokio::test]
async fn a_server_is_trusted_for_its_authority_and_name_alone() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = serve(&authority, "db.example", None, b"h2").await;
    let tls = || Tls::new().ca_pem(&authority.pem).server_name("db.example");
    for address in [format!("https://127.0.0.1:{port}"), format!("127.0.0.1:{port}")] {
        let client = builder(address).tls(tls()).token("t0ken").connections(2).connect().await.unwrap();
        assert!(client.endpoint().starts_with("https://"));
        // Both connections, the second of which is made by its first call.
        for _ in 0..2 {
            assert_eq!(client.health().await.unwrap(), HealthStatus::Serving);
        }
    }
    let address = || format!("https://127.0.0.1:{port}");
    for (tls, expected) in [
        (Tls::new().ca_pem(&other.pem).server_name("db.example"), "UnknownIssuer"),
        (Tls::new().ca_pem(&authority.pem), "not valid for"),
        (Tls::new().ca_pem(&authority.pem).server_name("localhost"), "not valid for"),
    ] {
        let (kind, message) = refusal(builder(address()).tls(tls)).await;
        assert_eq!(kind, ErrorKind::Connection, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    // Several authorities add up.
    builder(address()).tls(tls().ca_pem(&other.pem)).connect().await.unwrap();
    // Nothing is sent in the clear to a server that expects TLS, nor the other way round.
    assert!(
        builder(format!("http://127.0.0.1:{port}")).connect().await.is_err() || {
            let client = builder(format!("http://127.0.0.1:{port}")).connect_lazy().unwrap();
            client.health().await.is_err()
        }
    );
    let (kind, message) = refusal(builder(format!("http://127.0.0.1:{port}")).tls(tls())).await;
    assert_eq!(kind, ErrorKind::Configuration, "{message}");
}

#[tokio::test]
async fn a_lazy_client_says_why_it_cannot_connect() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = serve(&authority, "localhost", None, b"h2").await;
    let tls = Tls::new().ca_pem(&other.pem);
    let client = builder(format!("https://localhost:{port}")).tls(tls).connect_lazy().unwrap();
    let error = client.health().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");

    let port = serve(&authority, "localhost", None, b"http/1.1").await;
    let tls = Tls::new().ca_pem(&authority.pem);
    let (kind, message) = refusal(builder(format!("https://localhost:{port}")).tls(tls)).await;
    assert_eq!(kind, ErrorKind::Connection, "{message}");
}

#[tokio::test]
async fn a_server_that_asks_gets_the_clients_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let port = serve(&authority, "localhost", Some(&clients), b"h2").await;
    let address = || format!("https://localhost:{port}");
    let alice = clients.sign("alice");
    let tls = || Tls::new().ca_pem(&authority.pem);
    let client = builder(address()).tls(tls().identity_pem(&alice.certificate, &alice.key)).connect().await.unwrap();
    assert_eq!(client.health().await.unwrap(), HealthStatus::Serving);

    let stranger = authority.sign("mallory");
    for tls in [tls(), tls().identity_pem(&stranger.certificate, &stranger.key)] {
        let (kind, message) = refusal(builder(address()).tls(tls)).await;
        assert!(matches!(kind, ErrorKind::Connection | ErrorKind::Unavailable), "{kind:?} {message}");
    }
    let mismatched = tls().identity_pem(&alice.certificate, &stranger.key);
    let (kind, message) = refusal(builder(address()).tls(mismatched)).await;
    assert_eq!(kind, ErrorKind::Configuration, "{message}");
}
