//! The data plane's end of the stream to control: says what it holds, takes what it is given, answers each snapshot
//! with ack or nack, reports its state. It is never on the request path, and losing it changes nothing that is served.

mod forward;
mod stream;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{RECONNECT_BASE, RECONNECT_CAP};
use ostler_core::name::{FleetName, NodeName};
use ostler_core::token::BearerToken;
use ostler_telemetry::metrics::Counter;
use ostler_tls::{Alpn, ClientTls};

use crate::apply::Applier;
use crate::deps::Deps;

/// Where control is and who this node is.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    pub control: Uri,
    pub token: BearerToken,
    /// Authorities that control's certificate must come from, instead of the system's.
    pub ca: Option<PathBuf>,
    pub node: NodeName,
    pub fleet: FleetName,
    pub labels: BTreeMap<String, String>,
}

/// The client, with what others read of it.
#[derive(Debug)]
pub struct SyncClient {
    options: SyncOptions,
    applier: Arc<Applier>,
    deps: Deps,
    tls: Option<ClientTls>,
    pub metrics: Arc<SyncMetrics>,
}

/// Values read at scrape time.
#[derive(Debug, Default)]
pub struct SyncMetrics {
    connected: AtomicBool,
    /// Streams that ended, or were not even opened.
    pub reconnects: Counter,
    /// Messages of control that mean nothing here.
    pub ignored: Counter,
}

impl SyncMetrics {
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

impl SyncClient {
    /// # Errors
    /// When trust for an `https` control cannot be set up.
    pub fn new(
        options: SyncOptions,
        applier: Arc<Applier>,
        deps: Deps,
    ) -> Result<Self, ostler_tls::ClientTlsError> {
        let tls = match (&options.ca, options.control.scheme_str()) {
            (Some(ca), _) => Some(ClientTls::from_file(ca, Alpn::H2)?),
            (None, Some("https")) => Some(ClientTls::system(Alpn::H2)?),
            (None, _) => None,
        };
        Ok(Self { options, applier, deps, tls, metrics: Arc::default() })
    }

    /// Keeps a stream to control for ever: connects, serves it, and comes back with backoff. A clean end is a
    /// disconnect like any other; there is no path that reconnects at once.
    pub async fn run(self) {
        let mut backoff = Backoff::new(RECONNECT_BASE, RECONNECT_CAP, self.deps.jitter());
        loop {
            let ended = stream::serve(&self).await;
            self.metrics.connected.store(false, Ordering::Relaxed);
            self.metrics.reconnects.increment();
            if ended.was_stable {
                backoff.reset();
            }
            // Control may ask for more time than the backoff gives, never for less: one that asks for none is not to be
            // called without pause.
            let delay = backoff.next_delay().max(ended.reconnect_after.unwrap_or_default());
            tracing::info!(control = %self.options.control, reason = ended.reason, delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "not connected to control; what was applied is served on");
            tokio::time::sleep(delay).await;
        }
    }
}
