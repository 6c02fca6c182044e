//! What a data plane is started with, and why it may not start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::{GlobList, Lookup, ProcessLookup};
use ostler_core::clock::WallClock;
use ostler_core::limits::{BUFFER_BYTES_MAX, SETTLE};
use ostler_core::name::FleetName;
use ostler_core::net::{SharedNetwork, SystemNetwork};
use ostler_core::state_dir::StateDirError;
use ostler_core::token::TokenError;
use ostler_telemetry::access::AccessLog;
use ostler_tls::{ClientTlsError, ServerTlsError};

use crate::apply::Allowed;
use crate::source::FileError;
use crate::sync::SyncOptions;

/// What a data plane needs to start.
pub struct Options {
    pub clock: WallClock,
    pub network: SharedNetwork,
    /// Seeds all jitter.
    pub seed: u64,
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub metrics_listen: Option<SocketAddr>,
    /// Where the admin token is, if not in the state folder.
    pub token_file: Option<PathBuf>,
    pub allow_hosts: Vec<String>,
    /// Certificate chain and key of the MCP and admin listeners.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub fleet: FleetName,
    pub config: ConfigFrom,
    pub allowed: Allowed,
    pub lookup: Box<dyn Lookup + Send + Sync>,
    pub settle: Duration,
    pub workers: usize,
    pub buffer_bytes: usize,
    /// Log lines lost so far, if the process keeps count.
    pub log_lines_dropped: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    /// Where the access log goes.
    pub access: AccessLog,
}

/// Where config comes from.
#[derive(Debug, Clone)]
pub enum ConfigFrom {
    Control(SyncOptions),
    File(PathBuf),
}

/// A data plane that cannot start. One sentence each: what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Tls(#[from] ServerTlsError),
    #[error(transparent)]
    Trust(#[from] ClientTlsError),
    #[error("{0}")]
    Bind(String),
    #[error(
        "{what} would listen on {addr} without encryption; add --tls-cert and --tls-key, or use a loopback address with {flag}"
    )]
    Unencrypted { what: &'static str, flag: &'static str, addr: SocketAddr },
    #[error("{}", .0.render())]
    Config(FileError),
    #[error("traffic workers cannot start: {0}; look at the system's limits on threads and files")]
    Workers(std::io::Error),
}

// === impl Options ===

impl Options {
    /// A data plane inside another program or a test: with one worker, on free loopback ports without TLS, without an access log,
    /// on the system's clock and network. Its config may start any program and read any reference; its jitter is the same at each start.
    pub fn on_loopback(state_dir: PathBuf, fleet: FleetName, config: ConfigFrom) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (commands, references, listeners) = (GlobList::any(), GlobList::any(), GlobList::any());
        Self {
            clock: WallClock::system(),
            network: Arc::new(SystemNetwork),
            seed: 1,
            state_dir,
            listen: free,
            admin_listen: free,
            metrics_listen: None,
            token_file: None,
            allow_hosts: Vec::new(),
            tls: None,
            fleet,
            config,
            allowed: Allowed { commands, references, listeners },
            lookup: Box::new(ProcessLookup),
            settle: SETTLE,
            workers: 1,
            buffer_bytes: BUFFER_BYTES_MAX,
            log_lines_dropped: None,
            access: AccessLog::default(),
        }
    }
}
