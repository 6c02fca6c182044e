//! A control process put together: opened, served, ended. Embeddable: it installs no subscriber and no signal handler,
//! and takes clock, randomness and network as parameters.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use ostler_core::clock::WallClock;
use ostler_core::guard::HostGuard;
use ostler_core::limits::{DRAIN_DEADLINE, STORE_CLOSE_DEADLINE, SYNC_DRAIN_DEADLINE, VERSIONS_KEPT_MAX};
use ostler_core::name::FleetName;
use ostler_core::net::{Listener, SharedNetwork, SystemNetwork, explain_bind};
use ostler_core::rng::Jitter;
use ostler_core::state_dir::{Published, StateDir, StateDirError};
use ostler_core::tasks::Tasks;
use ostler_core::token::{self, BearerToken, TokenError};
use ostler_tls::ServerTls;
use ostler_watch::Reload;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};
use crate::distribution::{self, Distribution, Hub};
use crate::file_source::{FileError, FileSource};
use crate::fleet::Registry;
use crate::guard::{Guard, guard};
use crate::metrics::Counters;
use crate::revisions::Revisions;
use crate::server::{Endpoint, serve};
use crate::state::open_store;
use crate::store::{OpenError, Store, StoreError};

/// What a control process is started with.
#[derive(Clone)]
pub struct ControlOptions {
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    pub sync_listen: SocketAddr,
    pub metrics_listen: Option<SocketAddr>,
    /// `operator.token` in the state folder unless given; made when missing.
    pub token_file: Option<PathBuf>,
    /// `node.token` in the state folder unless given; made when missing.
    pub node_token_file: Option<PathBuf>,
    pub tls: Option<ServerTls>,
    /// The file that `fleet` follows.
    pub config: Option<PathBuf>,
    pub fleet: FleetName,
    pub allow_hosts: Vec<String>,
    pub clock: WallClock,
    pub network: SharedNetwork,
    pub jitter: Jitter,
    /// Versions that are kept of each fleet.
    pub versions_kept_max: u64,
    /// For the metric of lost log lines; an embedder without Ostler's log leaves it at zero.
    pub log_lines_dropped: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// A control process that cannot start. Each says what and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "{what} on {addr} can be reached by other machines; give it a certificate with --tls-cert and --tls-key, or listen on loopback with {flag} 127.0.0.1:{port}",
        port = addr.port()
    )]
    TlsNeeded { what: &'static str, flag: &'static str, addr: SocketAddr },
    #[error("{0}")]
    Bind(String),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{operator} and {node} hold the same token; delete one of them to get a new one")]
    TokensEqual { operator: PathBuf, node: PathBuf },
    #[error("{path} does not hold an epoch; delete it if the store beside it is sound: it is written anew")]
    EpochFile { path: PathBuf },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A running control process. Dropping it stops everything without waiting; [`RunningControl::shutdown`] waits.
pub struct RunningControl {
    pub api_addr: SocketAddr,
    pub sync_addr: SocketAddr,
    pub metrics_addr: Option<SocketAddr>,
    pub operator_token: BearerToken,
    pub node_token: BearerToken,
    draining: CancellationToken,
    sessions: Tasks,
    tasks: Tasks,
    store: Store,
    counters: Arc<Counters>,
    reload: Reload,
    tls: Option<ServerTls>,
    published: Option<Published>,
}

/// Control as a library.
#[derive(Debug)]
pub struct Control;

impl ControlOptions {
    /// Loopback, the usual ports, the system's clock and network.
    pub fn new(state_dir: impl Into<PathBuf>, fleet: FleetName) -> Self {
        Self {
            state_dir: state_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7500)),
            sync_listen: SocketAddr::from(([127, 0, 0, 1], 7501)),
            metrics_listen: None,
            token_file: None,
            node_token_file: None,
            tls: None,
            config: None,
            fleet,
            allow_hosts: Vec::new(),
            clock: WallClock::system(),
            network: Arc::new(SystemNetwork),
            jitter: Jitter::from_entropy(),
            versions_kept_max: VERSIONS_KEPT_MAX,
            log_lines_dropped: Arc::new(|| 0),
        }
    }
}

impl Control {
    /// Starts everything, on the current runtime. When this returns, both listeners answer.
    ///
    /// # Errors
    /// [`StartError`] in one sentence; nothing is left running.
    pub async fn start(options: ControlOptions) -> Result<RunningControl, StartError> {
        refuse_open_listeners(&options)?;
        let state_dir = StateDir::open(&options.state_dir)?;
        let (operator_token, node_token) = tokens(&options, &state_dir)?;
        let api_listener = bind(&options, "control API", "--listen", options.listen)?;
        let sync_listener = bind(&options, "sync stream", "--sync-listen", options.sync_listen)?;
        let metrics_listener = options
            .metrics_listen
            .map(|addr| bind(&options, "metrics listener", "--metrics-listen", addr))
            .transpose()?;

        let hub = Hub::default();
        let counters = Arc::new(Counters::default());
        let registry = Registry::new(options.clock.clone());
        let store =
            open_store(&state_dir, options.clock.clone(), options.versions_kept_max, false, &hub).await?;
        let revisions = Revisions::new(store.clone(), Arc::clone(&counters));
        let tasks = Tasks::new();
        let reload = Reload::default();
        let followed = match &options.config {
            None => None,
            Some(path) => {
                let started = FileSource::start(
                    path.clone(),
                    &reload,
                    options.fleet.clone(),
                    revisions.clone(),
                    Arc::clone(&counters),
                    options.clock.clone(),
                );
                match started.await {
                    Ok((source, followed)) => {
                        tasks.spawn_until_stopped("file source", source.follow());
                        Some(followed)
                    }
                    Err(error) => {
                        store.close().await;
                        return Err(error.into());
                    }
                }
            }
        };
        let draining = CancellationToken::new();
        let state = ApiState {
            revisions,
            store: store.clone(),
            hub: hub.clone(),
            registry: registry.clone(),
            counters: Arc::clone(&counters),
            followed,
            draining: draining.clone(),
            log_lines_dropped: Arc::clone(&options.log_lines_dropped),
            clock: options.clock.clone(),
            backups: Arc::new(Semaphore::new(1)),
        };
        let sessions = Tasks::new();
        let distribution = Distribution::new(
            hub,
            registry,
            Arc::clone(&counters),
            store.clone(),
            options.clock.clone(),
            sessions.clone(),
            options.jitter.clone(),
        );

        let mut running = RunningControl {
            api_addr: api_listener.1,
            sync_addr: sync_listener.1,
            metrics_addr: metrics_listener.as_ref().map(|(_, addr)| *addr),
            operator_token: operator_token.clone(),
            node_token: node_token.clone(),
            draining,
            sessions,
            tasks,
            store,
            counters,
            reload,
            tls: options.tls.clone(),
            published: None,
        };
        let rules = |listener, addr, token, open_paths| Guard {
            listener,
            hosts: Some(HostGuard::for_listener(addr, &options.allow_hosts)),
            token: Some(token),
            open_paths,
            counters: Arc::clone(&running.counters),
        };
        let api_rules = rules("api", running.api_addr, operator_token, api::OPEN_PATHS);
        let sync_rules = rules("sync", running.sync_addr, node_token, &[]);
        running.serve("api", api_listener.0, options.tls.clone(), api::router(state.clone()), api_rules);
        running.serve(
            "sync",
            sync_listener.0,
            options.tls.clone(),
            distribution::router(distribution),
            sync_rules,
        );
        if let Some((listener, addr)) = metrics_listener {
            // Scrapers reach it under whatever name a network gives it, and it is open on purpose; on loopback a
            // browser is the likelier caller.
            let hosts = addr.ip().is_loopback().then(|| HostGuard::for_listener(addr, &options.allow_hosts));
            let counters = Arc::clone(&running.counters);
            let rules = Guard { listener: "metrics", hosts, token: None, open_paths: &[], counters };
            running.serve("metrics", listener, None, api::open_router(state), rules);
        }
        running.publish(&state_dir)?;
        Ok(running)
    }
}

impl RunningControl {
    /// Reads the followed file anew, whatever events say, and the certificate. Returns at once; what is found goes the way
    /// of any change.
    pub fn reload(&self) {
        tracing::info!("the config file, if one is followed, is read again, as asked");
        self.reload.ask();
        if let Some(Err(error)) = self.tls.as_ref().map(ServerTls::reload) {
            tracing::error!(%error, "the certificate stays as it was");
        }
    }

    /// Sends nodes away with a hint when to return, finishes requests, closes the store.
    pub async fn shutdown(mut self) {
        self.draining.cancel();
        self.published = None;
        self.sessions.shutdown(SYNC_DRAIN_DEADLINE).await;
        if !self.tasks.shutdown(DRAIN_DEADLINE).await {
            tracing::warn!("some connections did not end in time and were dropped");
        }
        if tokio::time::timeout(STORE_CLOSE_DEADLINE, self.store.close()).await.is_err() {
            tracing::warn!(
                "the store did not close in time; what was acknowledged is on disk, and the next start repairs the rest"
            );
        }
    }

    /// Streams of data planes that are open.
    pub fn open_streams(&self) -> i64 {
        self.counters.streams.get()
    }

    /// Whether the store's thread, through which every change goes, still answers; waits for it.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn alive(&self) -> Result<(), String> {
        self.store.epoch().await.map(drop).map_err(|error| error.to_string())
    }

    fn serve(
        &self,
        name: &'static str,
        listener: Listener,
        tls: Option<ServerTls>,
        router: Router,
        rules: Guard,
    ) {
        let router = router.layer(from_fn_with_state(rules, guard));
        serve(Endpoint { name, listener, tls, router }, &self.tasks);
    }

    fn publish(&mut self, state_dir: &StateDir) -> Result<(), StateDirError> {
        let mut listeners =
            BTreeMap::from([("api".to_owned(), self.api_addr), ("sync".to_owned(), self.sync_addr)]);
        listeners.extend(self.metrics_addr.map(|addr| ("metrics".to_owned(), addr)));
        self.published = Some(state_dir.publish_listeners(listeners)?);
        Ok(())
    }
}

impl Drop for RunningControl {
    fn drop(&mut self) {
        self.draining.cancel();
        self.sessions.stop();
        self.tasks.stop();
    }
}

fn tokens(options: &ControlOptions, state_dir: &StateDir) -> Result<(BearerToken, BearerToken), StartError> {
    let operator = options.token_file.clone().unwrap_or_else(|| state_dir.path("operator.token"));
    let node = options.node_token_file.clone().unwrap_or_else(|| state_dir.path("node.token"));
    let operator_token = token::load_or_create(&operator)?;
    let node_token = token::load_or_create(&node)?;
    if operator_token.matches(Some(node_token.to_header().as_bytes())) {
        return Err(StartError::TokensEqual { operator, node });
    }
    Ok((operator_token, node_token))
}

fn refuse_open_listeners(options: &ControlOptions) -> Result<(), StartError> {
    for (what, flag, addr) in
        [("control API", "--listen", options.listen), ("sync stream", "--sync-listen", options.sync_listen)]
    {
        if options.tls.is_none() && !addr.ip().is_loopback() {
            return Err(StartError::TlsNeeded { what, flag, addr });
        }
    }
    Ok(())
}

fn bind(
    options: &ControlOptions,
    what: &str,
    flag: &str,
    addr: SocketAddr,
) -> Result<(Listener, SocketAddr), StartError> {
    let explain = |error: io::Error| StartError::Bind(explain_bind(what, flag, addr, &error));
    let listener = options.network.bind(addr).map_err(explain)?;
    let bound = listener.local_addr().map_err(explain)?;
    Ok((listener, bound))
}
