//! The network as a parameter: a connector and listeners that production backs with TCP and tests with whatever they
//! like. Nothing else in the product opens a socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::gather::{GATHER_BYTES_MAX, gather};
use crate::limits::LISTEN_BACKLOG_MAX;
use crate::lookup;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a byte stream must offer.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A byte stream. Plain TCP is not boxed because it is the request path.
pub enum Stream {
    Tcp(TcpStream),
    Boxed(Box<dyn Io>),
}

/// Accepts connections somewhere else than on TCP.
pub trait Accept: Send + Sync {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A bound listener.
pub enum Listener {
    Tcp(TcpListener),
    Boxed(Box<dyn Accept>),
}

/// Opens connections and listeners.
pub trait Network: Send + Sync + 'static {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>>;
    fn bind(&self, addr: SocketAddr) -> io::Result<Listener>;

    /// The addresses behind a name.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(lookup::system(unbracketed(host), port))
    }
}

/// No address behind a name; the error inside the [`io::Error`] that a network's `connect` then returns.
#[derive(Debug)]
pub struct Unresolved(Option<io::Error>);

/// Shared handle to a network.
pub type SharedNetwork = Arc<dyn Network>;

/// The operating system's TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

// === impl SystemNetwork ===

impl Network for SystemNetwork {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = match unbracketed(host).parse::<IpAddr>() {
                Ok(ip) => TcpStream::connect((ip, port)).await?,
                // Asked anew for each connection: an answer is kept no longer than the system's resolver does.
                Err(_) => connect_any(&self.resolve(host, port).await.map_err(Unresolved::because)?).await?,
            };
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        })
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<Listener> {
        bind_std(addr).and_then(Listener::from_std)
    }
}

/// Connects to the first of the addresses that accepts.
///
/// # Errors
/// That of the last address; [`Unresolved`] when there is none.
async fn connect_any(addrs: &[SocketAddr]) -> io::Result<TcpStream> {
    if addrs.is_empty() {
        return Err(Unresolved(None).into());
    }
    TcpStream::connect(addrs).await
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Binds without a runtime, so that a taken port is known before anything starts and several workers can share the
/// socket by cloning it.
///
/// # Errors
/// What the system says; [`explain_bind`] turns it into a sentence.
pub fn bind_std(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Binds, and begins to listen only when `bound` has heard of the address: nobody can have connected before whoever must
/// know of it does. Needs a runtime, which the listener is not tied to.
///
/// # Errors
/// What the system says; what `bound` gave is dropped when the address is free again.
pub fn listen_after<T>(
    addr: SocketAddr,
    bound: impl FnOnce(SocketAddr) -> T,
) -> io::Result<(std::net::TcpListener, T)> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // To follow a predecessor whose connections still end. Elsewhere it would let two listen on one address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let told = bound(socket.local_addr()?);
    let listener = socket.listen(LISTEN_BACKLOG_MAX)?.into_std()?;
    Ok((listener, told))
}

/// One sentence for a bind that failed: what, and what to do.
pub fn explain_bind(what: &str, flag: &str, addr: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "{what} cannot listen on {addr}: the port is taken; stop its owner or choose another with {flag}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{what} cannot listen on {addr}: not permitted; choose a port above 1023 with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{what} cannot listen on {addr}: this machine has no such address; choose another with {flag}"
            )
        }
        _ => format!("{what} cannot listen on {addr}: {error}; choose another address with {flag}"),
    }
}

// === impl Unresolved ===

impl Unresolved {
    /// What the resolver said, as the error of a connection.
    pub fn because(error: io::Error) -> io::Error {
        Self(Some(error)).into()
    }

    /// Whether a connection failed for want of an address.
    pub fn is_cause(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl From<Unresolved> for io::Error {
    fn from(unresolved: Unresolved) -> Self {
        Self::new(io::ErrorKind::NotFound, unresolved)
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, "the name does not resolve: {error}"),
            None => f.write_str("the name has no address"),
        }
    }
}

impl std::error::Error for Unresolved {}

// === impl Listener ===

impl Listener {
    /// Registers a listener with the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// # Errors
    /// What the system says; the caller goes on accepting.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), peer))
            }
            Self::Boxed(listener) => listener.accept().await,
        }
    }

    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Boxed(listener) => listener.local_addr(),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({:?})", self.local_addr().ok())
    }
}

// === impl Stream ===

impl Stream {
    /// The address at the other end, where the stream has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Boxed(_) => None,
        }
    }

    /// The address at this end, where the stream has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Boxed(_) => None,
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(stream) => stream.fmt(f),
            Self::Boxed(_) => f.write_str("Stream(boxed)"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Boxed(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Boxed(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => write_parts(Pin::new(stream), cx, bufs),
            Self::Boxed(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Boxed(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Boxed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Boxed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn write_parts(
    stream: Pin<&mut TcpStream>,
    cx: &mut Context<'_>,
    parts: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [part] = parts {
        return stream.poll_write(cx, part);
    }
    let mut room = [0; GATHER_BYTES_MAX];
    match gather(parts, &mut room) {
        Some(whole) => stream.poll_write(cx, whole),
        None => stream.poll_write_vectored(cx, parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_can_connect_before_it_was_told_of_the_address() {
        let connect = |addr| std::net::TcpStream::connect(addr).map(drop).map_err(|error| error.kind());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, before) = listen_after(any, connect).unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!((before, connect(addr)), (Err(io::ErrorKind::ConnectionRefused), Ok(())));
        let taken = listen_after(addr, |_| ()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
