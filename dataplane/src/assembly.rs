//! Puts a data plane together and takes it apart again. Everything that can fail for a reason an operator can mend
//! (folders, tokens, certificates, ports, the first config) fails here, before anything is served.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use ostler_config::Lookup;
use ostler_core::guard::HostGuard;
use ostler_core::limits::{DRAIN_CUT_GRACE, DRAIN_DEADLINE, POOL_IDLE_TIMEOUT};
use ostler_core::name::FleetName;
use ostler_core::net::explain_bind;
use ostler_core::state_dir::{FolderLock, Published, StateDir, StateDirError};
use ostler_core::token;
use ostler_tls::ServerTls;
use ostler_watch::Reload;
use tokio::runtime::Handle;

use crate::admin::{self, Admin, AdminDoor, AdminListener};
use crate::apply::generations::{Kept, Loaded};
use crate::apply::{Allowed, Applier, ConfigStatus, Keeper, Revision, Source, rebind, references};
use crate::audit::{Audit, SpoolOptions};
use crate::auth::KeyStores;
use crate::deps::Deps;
use crate::kills::Kills;
use crate::listener::{Listeners, Liveness, Workers};
use crate::mount::journal::Journal;
use crate::options::{ConfigFrom, Options, StartError};
use crate::own::OwnListeners;
use crate::pipeline::{self, BufferBudget};
use crate::prober::Prober;
use crate::snapshot::SnapshotCell;
use crate::source::FileSource;
use crate::sync::SyncClient;

/// A running data plane.
pub struct DataPlane {
    admin: Arc<Admin>,
    workers: Workers,
    reload: Reload,
    tls: Option<ServerTls>,
    mcp: SocketAddr,
    admin_addr: SocketAddr,
    _published: Option<Published>,
    _lock: Option<FolderLock>,
}

const LOCK_FILE: &str = "dataplane.lock";

impl DataPlane {
    /// Starts serving. Must run on a runtime that lives as long as the data plane and carries no traffic.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let state = StateDir::open(&options.state_dir)?;
        let lock = take(&state)?;
        state.remove_leftovers();
        let token_path = options.token_file.clone().unwrap_or_else(|| state.path("admin.token"));
        let token = token::load_or_create(&token_path)?;
        let tls = options.tls.as_ref().map(|(chain, key)| ServerTls::load(chain, key)).transpose()?;
        require_tls("the MCP listener", "--listen", options.listen, tls.as_ref())?;
        require_tls("the admin port", "--admin-listen", options.admin_listen, tls.as_ref())?;
        let deps =
            Deps::new(options.clock.clone(), Arc::clone(&options.network), options.workers, options.seed);
        let listeners = Listeners::bind(
            options.listen,
            tls.clone(),
            &options.allow_hosts,
            options.workers,
            deps.tasks.clone(),
        )
        .map_err(|error| {
            StartError::Bind(explain_bind("the MCP listener", "--listen", options.listen, &error))
        })?;
        let mcp_addr = listeners.mcp_addr();
        let door = AdminDoor {
            guard: HostGuard::for_listener(options.admin_listen, &options.allow_hosts),
            token: Some(token),
        };
        let admin_listener = bind_admin(&options, options.admin_listen, "--admin-listen", tls.clone(), door)?;
        let metrics_listener = options
            .metrics_listen
            .map(|addr| {
                let door = AdminDoor { guard: HostGuard::open(), token: None };
                bind_admin(&options, addr, "--metrics-listen", None, door)
            })
            .transpose()?;

        let bound =
            [Some(mcp_addr), Some(admin_listener.addr), metrics_listener.as_ref().map(|bound| bound.addr)];
        let control = match &options.config {
            ConfigFrom::Control(sync) => Some(&sync.control),
            ConfigFrom::File(_) => None,
        };
        let own = OwnListeners::new(bound.into_iter().flatten().collect(), control);
        let listeners = Arc::new(listeners.beside(own.clone()));
        let journal = Journal::open(&state, options.clock.clone());
        let spool = match &options.config {
            ConfigFrom::Control(sync) => SpoolOptions::new(sync.node.as_str(), true),
            ConfigFrom::File(_) => SpoolOptions::new("", false),
        };
        let audit = Audit::open(&state, options.clock.clone(), spool);
        let kills = Arc::new(Kills::open(&state, &options.fleet));
        let deps = deps.keeping_from(own).with_journal(journal).with_governance(audit, kills);
        let deps = deps.with_issuers(KeyStores::kept_in(state.clone()));
        deps.orphans.take_over(&state).await;
        let core = Core::build(
            &options.fleet,
            &options.config,
            deps,
            &listeners,
            &state,
            options.allowed,
            options.lookup,
            options.settle,
        )
        .await?;
        let shared = Arc::new(pipeline::Shared {
            snapshots: Arc::clone(&core.applier.snapshots),
            budget: BufferBudget::new(options.buffer_bytes),
            prober: core.prober.clone(),
            refusals: pipeline::Refusals::default(),
            panics: Arc::clone(&core.deps.panics),
            stalled: Arc::default(),
            access: options.access,
            runtimes: pipeline::Runtimes::default(),
        });
        let sync = core.start_sources(options.config).await?;
        let admin = Arc::new(Admin {
            deps: core.deps.clone(),
            applier: Arc::clone(&core.applier),
            pipeline: Arc::clone(&shared),
            liveness: OnceLock::new(),
            sync,
            log_lines_dropped: options.log_lines_dropped,
            draining: AtomicBool::new(false),
            refusals: admin::AdminRefusals::default(),
        });
        let admin_addr = admin_listener.addr;
        let mut roles = BTreeMap::from([("mcp".to_owned(), mcp_addr), ("admin".to_owned(), admin_addr)]);
        for bound in [Some(admin_listener), metrics_listener].into_iter().flatten() {
            if bound.addr != admin_addr {
                roles.insert("metrics".to_owned(), bound.addr);
            }
            core.deps.tasks.spawn_until_stopped("admin", admin::serve(Arc::clone(&admin), bound));
        }
        core.deps.tasks.spawn_until_stopped("sweep", sweep(Arc::clone(&core.applier), core.deps.clone()));
        let followed = references::follow(Arc::clone(&core.applier), core.reload.subscribe());
        core.deps.tasks.spawn_until_stopped("references", followed);
        let rebind = rebind::follow(Arc::clone(&core.applier), core.deps.clone());
        core.deps.tasks.spawn_until_stopped("rebind", rebind);
        let workers = listeners.serve(&shared).map_err(StartError::Workers)?;
        // Nobody else sets it.
        let _ = admin.liveness.set(workers.liveness());
        // A full disk keeps others from finding the addresses, and nobody from being served.
        let published = state
            .publish_listeners(roles)
            .inspect_err(|error| tracing::error!(%error, "this process's addresses cannot be written down"))
            .ok();
        Ok(Self {
            admin,
            workers,
            reload: core.reload,
            tls,
            mcp: mcp_addr,
            admin_addr,
            _published: published,
            _lock: lock,
        })
    }

    /// Where MCP clients connect.
    pub fn mcp_addr(&self) -> SocketAddr {
        self.mcp
    }

    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// What the admin port shows, for a program that embeds the data plane.
    pub fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// Reads every file anew that config comes from or refers to, whatever events say, and the certificate of its own
    /// ports. Returns at once; what is found goes the way of any change.
    pub fn reload(&self) {
        tracing::info!("config file and referenced files are read again, as asked");
        self.reload.ask();
        if let Some(Err(error)) = self.tls.as_ref().map(ServerTls::reload) {
            tracing::error!(%error, "the certificate stays as it was");
        }
    }

    /// Whether the threads that serve answer, for a watchdog.
    pub fn liveness(&self) -> Liveness {
        self.workers.liveness()
    }

    /// One line for people: what is served.
    pub fn summary(&self) -> String {
        let Some(snapshot) = self.admin.applier.snapshots.load() else {
            return "waiting for a first config; until then /readyz answers 503".to_owned();
        };
        let Revision { fleet, version, .. } = &snapshot.revision;
        format!("serving {} mounts, version {version} of fleet {fleet}", snapshot.mounts().count())
    }

    /// Has stdio children ended should this process be killed, by a second process of the same program. Only for programs
    /// whose `main` begins with [`crate::guard()`].
    pub fn guard_children(&self) {
        self.admin.deps.orphans.offer_guard();
    }

    /// Stops accepting, finishes what is in flight up to the deadline, ends children, and leaves nothing behind.
    pub async fn shutdown(self) {
        self.shutdown_unless(std::future::pending()).await;
    }

    /// The same, until `hurry` comes to its end: then what is in flight is cut, and children are killed.
    pub async fn shutdown_unless(self, hurry: impl Future<Output = ()>) {
        let mut hurry = std::pin::pin!(hurry.fuse());
        self.admin.draining.store(true, Ordering::Relaxed);
        if let Some(snapshot) = self.admin.applier.snapshots.load() {
            // They would hold the drain until its deadline.
            snapshot.mounts().for_each(|mount| mount.runtime.gone.cancel());
        }
        let deadline = tokio::select! {
            () = self.admin.applier.listeners.drain() => DRAIN_DEADLINE,
            () = self.end_calls_in_time() => DRAIN_DEADLINE,
            () = &mut hurry => Duration::ZERO,
        };
        if let Some(snapshot) = self.admin.applier.snapshots.load() {
            for mount in snapshot.mounts() {
                mount.runtime.sessions.clear();
                mount.runtime.pool.clear();
            }
            let end = |deadline| {
                futures_util::future::join_all(
                    snapshot.upstreams().map(move |upstream| upstream.shutdown(deadline)),
                )
            };
            tokio::select! {
                _ = end(deadline) => {}
                () = &mut hurry => {
                    end(Duration::ZERO).await;
                }
            }
        }
        self.admin.applier.keeper.end_attempt().await;
        let (journal, audit) = (self.admin.deps.journal.clone(), self.admin.deps.audit.clone());
        // A disk that hangs is not waited for.
        let closed = tokio::task::spawn_blocking(move || {
            journal.inspect(|journal| journal.close());
            audit.inspect(|audit| audit.close());
        });
        let _ = tokio::time::timeout(deadline, closed).await;
        self.admin.deps.orphans.dismiss_guard().await;
        if !self.admin.deps.tasks.shutdown(deadline).await {
            tracing::warn!(left = self.admin.deps.tasks.len(), "some tasks did not end in time");
        }
        let workers = self.workers;
        if tokio::task::spawn_blocking(move || workers.end()).await.is_err() {
            tracing::error!("ending the traffic workers failed");
        }
    }

    /// Ends what does not finish by itself, as it ends with a mount that was removed, as long before its connections are cut
    /// as that takes. Never returns.
    async fn end_calls_in_time(&self) {
        tokio::time::sleep(DRAIN_DEADLINE.saturating_sub(DRAIN_CUT_GRACE)).await;
        if let Some(snapshot) = self.admin.applier.snapshots.load() {
            snapshot.mounts().for_each(|mount| mount.runtime.cut.cancel());
        }
        std::future::pending::<()>().await;
    }
}

/// The parts that know config.
struct Core {
    fleet: FleetName,
    deps: Deps,
    applier: Arc<Applier>,
    prober: Prober,
    reload: Reload,
}

impl Core {
    #[expect(clippy::too_many_arguments, reason = "called once, with what the options were taken apart into")]
    async fn build(
        fleet: &FleetName,
        config: &ConfigFrom,
        deps: Deps,
        listeners: &Arc<Listeners>,
        state: &StateDir,
        allowed: Allowed,
        lookup: Box<dyn Lookup + Send + Sync>,
        settle: Duration,
    ) -> Result<Self, StartError> {
        let prober = Prober::new(deps.clone(), Handle::current());
        let keeper = Arc::new(Keeper::open(state, deps.clock.clone(), Arc::clone(&deps.states_changed)));
        let Loaded { usable, distrusted, findings: _ } = keeper.load();
        let status = Arc::new(ConfigStatus::new(deps.clock.clone(), deps.audit.clone()));
        let applier = Arc::new(Applier::new(
            Arc::new(SnapshotCell::default()),
            status,
            Arc::clone(listeners),
            deps.clone(),
            allowed,
            lookup,
            settle,
            prober.clone(),
            keeper,
        ));
        let source = match config {
            ConfigFrom::Control(_) => Source::Control,
            ConfigFrom::File(_) => Source::File,
        };
        let ours = |kept: &Kept| kept.revision.fleet == *fleet && kept.revision.source == source;
        for kept in usable.iter().filter(|kept| ours(kept)) {
            if applier.restore(kept).await {
                break;
            }
        }
        let newest = distrusted.into_iter().find(ours);
        if let Some(newest) = newest.filter(|_| applier.snapshots.load().is_none()) {
            applier.restore_with_patience(newest);
        }
        Ok(Self { fleet: fleet.clone(), deps, applier, prober, reload: Reload::default() })
    }

    /// Starts following control or a file. A bad file at start is fatal only when nothing is served from disk.
    async fn start_sources(
        &self,
        config: ConfigFrom,
    ) -> Result<Option<Arc<crate::sync::SyncMetrics>>, StartError> {
        match config {
            ConfigFrom::Control(options) => {
                let client = SyncClient::new(options, Arc::clone(&self.applier), self.deps.clone())?;
                let metrics = Arc::clone(&client.metrics);
                self.deps.tasks.spawn_until_stopped("sync", client.run());
                Ok(Some(metrics))
            }
            ConfigFrom::File(path) => {
                let mut source = FileSource::new(path, self.fleet.clone(), Arc::clone(&self.applier));
                let known = match source.first().await {
                    Ok(text) => Some(text),
                    Err(error) if self.applier.snapshots.load().is_some() => {
                        tracing::error!("{error}; the last-known-good config is served instead");
                        None
                    }
                    Err(error) => return Err(StartError::Config(error)),
                };
                self.deps.tasks.spawn_until_stopped("file", source.follow(known, self.reload.clone()));
                Ok(None)
            }
        }
    }
}

/// Two data planes on one folder would end each other's children and overwrite each other's generations. A folder that
/// takes no lock keeps nobody from serving.
fn take(state: &StateDir) -> Result<Option<FolderLock>, StateDirError> {
    match state.lock(LOCK_FILE, "data plane") {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ StateDirError::InUse { .. }) => Err(error),
        Err(error) => {
            tracing::error!("{error}; nothing keeps a second data plane from using it too");
            Ok(None)
        }
    }
}

fn require_tls(
    what: &'static str,
    flag: &'static str,
    addr: SocketAddr,
    tls: Option<&ServerTls>,
) -> Result<(), StartError> {
    if tls.is_none() && !addr.ip().is_loopback() {
        return Err(StartError::Unencrypted { what, flag, addr });
    }
    Ok(())
}

fn bind_admin(
    options: &Options,
    addr: SocketAddr,
    flag: &str,
    tls: Option<ServerTls>,
    door: AdminDoor,
) -> Result<AdminListener, StartError> {
    let failed = |error: std::io::Error| StartError::Bind(explain_bind("the admin port", flag, addr, &error));
    let listener = options.network.bind(addr).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(AdminListener { listener, addr, tls, door })
}

/// Closes what nobody used for a while: pooled connections, idle children, expired sessions.
async fn sweep(applier: Arc<Applier>, deps: Deps) {
    loop {
        tokio::time::sleep(POOL_IDLE_TIMEOUT / 2).await;
        let Some(snapshot) = applier.snapshots.load() else { continue };
        snapshot.upstreams().for_each(|upstream| upstream.sweep());
        if let Some(journal) = &deps.journal {
            journal.sweep();
        }
        snapshot.mounts().for_each(|mount| {
            mount.runtime.sessions.sweep();
            mount.runtime.pool.sweep(mount);
        });
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane")
            .field("mcp", &self.mcp)
            .field("admin", &self.admin_addr)
            .finish_non_exhaustive()
    }
}
