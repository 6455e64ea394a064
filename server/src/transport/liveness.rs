//! Noticing in time that a client with live queries has vanished.
//!
//! A client that ends, or drops a call, says so. One whose machine or network is gone says nothing, and its live queries
//! would wait until HTTP/2's ping fails, or the system gives up on TCP, which takes minutes. But live queries send
//! something every second: if none of it is acknowledged for a few seconds, nobody is there. The system watches that by
//! itself, for any version of HTTP and with no traffic of its own; other connections stay as patient as they are.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::identity::CertificateName;

/// How long bytes may stay unacknowledged.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there is no such option"))]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(4);

/// A client, as the calls of its connection know it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: SocketAddr,
    certificate: Option<Arc<CertificateName>>,
    must_acknowledge: Arc<AtomicBool>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, certificate: None, must_acknowledge: Arc::new(AtomicBool::new(false)) }
    }

    /// The same client, which showed a certificate that names a user.
    #[must_use]
    pub(crate) fn with_certificate(mut self, name: Option<CertificateName>) -> Self {
        self.certificate = name.map(Arc::new);
        self
    }

    /// Whom its certificate names, if it showed one that does.
    pub(crate) fn certificate(&self) -> Option<&CertificateName> {
        self.certificate.as_deref()
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the connection ends when the client acknowledges nothing for a few seconds.
    pub(crate) fn must_acknowledge(&self) {
        self.must_acknowledge.store(true, Ordering::Relaxed);
    }
}

/// A client's connection.
pub(crate) struct Acknowledged {
    stream: TcpStream,
    /// `None` once the system was told.
    wanted: Option<Arc<AtomicBool>>,
}

impl Acknowledged {
    pub(crate) fn new(stream: TcpStream, peer: &Peer) -> Self {
        Self { stream, wanted: Some(Arc::clone(&peer.must_acknowledge)) }
    }

    fn before_write(&mut self) {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.load(Ordering::Relaxed)) {
            self.wanted = None;
            if let Err(error) = set_timeout(&self.stream) {
                tracing::debug!("TCP_USER_TIMEOUT: {error}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn set_timeout(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN))
}

#[cfg(not(target_os = "linux"))]
fn set_timeout(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

impl AsyncRead for Acknowledged {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Acknowledged {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.before_write();
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.before_write();
        Pin::new(&mut this.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
