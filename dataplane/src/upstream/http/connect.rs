//! Opening connections to one upstream, plain or TLS, and running them on the worker that opened them.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ostler_config::HttpTransport;
use ostler_core::last_piece::Spared;
use ostler_core::limits::ANSWER_READ_BYTES;
use ostler_core::net::{SharedNetwork, Stream, Unresolved};
use ostler_core::tasks::Tasks;
use ostler_mcp::Reason;
use ostler_tls::{Alpn, ClientTls};

use super::keep_alive::{KeepAlive, Rest};
use super::pool::Connection;
use crate::deps::Deps;
use crate::own::OwnListeners;
use crate::upstream::{Cause, UpstreamError};

/// Knows where the upstream is and how to get there.
pub(super) struct Connector {
    network: SharedNetwork,
    own: OwnListeners,
    tasks: Tasks,
    host: String,
    port: u16,
    https: bool,
    keep_alive: Arc<KeepAlive>,
}

/// Trust is the process's: read from the system once, when the first `https` upstream is contacted.
static SYSTEM_TRUST: OnceLock<Result<ClientTls, Arc<str>>> = OnceLock::new();

impl Connector {
    pub(super) fn new(transport: &HttpTransport, deps: &Deps, keep_alive: &Arc<KeepAlive>) -> Self {
        Self {
            keep_alive: Arc::clone(keep_alive),
            network: Arc::clone(&deps.network),
            own: deps.own.clone(),
            tasks: deps.tasks.clone(),
            host: transport.host.clone(),
            port: transport.port,
            https: transport.https,
        }
    }

    /// Connects, shakes hands, and leaves the connection running on the current worker.
    pub(super) async fn connect(&self) -> Result<Connection, UpstreamError> {
        let stream =
            self.network.connect(&self.host, self.port).await.map_err(|error| explain_connect(&error))?;
        if self.own.are_behind(&stream, self.network.as_ref()).await {
            return Err(own_listener());
        }
        let stream = if self.https { self.secure(stream).await? } else { stream };
        let (sender, connection) = http1::Builder::new()
            .read_buf_exact_size(Some(ANSWER_READ_BYTES))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unavailable(Cause::HandshakeFailed, &error))?;
        let rest = Rest::new(&self.keep_alive);
        let watched = Arc::clone(&rest);
        // Boxed, since each layer that it is moved into keeps room for it.
        let connection = Spared::new(Box::new(connection));
        self.tasks.spawn_until_stopped("upstream connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
            watched.broken();
        });
        Ok(Connection::new(sender, rest))
    }

    async fn secure(&self, stream: Stream) -> Result<Stream, UpstreamError> {
        let trust = SYSTEM_TRUST
            .get_or_init(|| ClientTls::system(Alpn::Http1).map_err(|error| error.to_string().into()))
            .as_ref()
            .map_err(|error| unavailable(Cause::TlsSetupFailed, &error))?;
        trust.connect(&self.host, stream).await.map_err(|error| unavailable(Cause::TlsFailed, &error))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("https", &self.https)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

fn own_listener() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        "upstream's address is one of Ostler's own listeners; point its URL at the MCP server itself",
    )
    .fault(Cause::OwnListener)
}

fn explain_connect(error: &io::Error) -> UpstreamError {
    let what = match error.kind() {
        _ if Unresolved::is_cause(error) => Cause::DnsFailed,
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Cause::Unreachable,
        io::ErrorKind::ConnectionReset => Cause::Reset,
        _ => Cause::ConnectFailed,
    };
    unavailable(what, error)
}

fn unavailable(what: Cause, error: &dyn fmt::Display) -> UpstreamError {
    tracing::debug!(%what, %error, "upstream connect failed");
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        format!("upstream cannot be reached ({what}); check that it runs and that its URL is right"),
    )
    .fault(what)
}
