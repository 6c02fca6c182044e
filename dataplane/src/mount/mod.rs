//! A mount: a name on the agent's port, the upstream behind it, and what belongs to the mount alone: sessions, metrics.
//! A mount never reaches into another.

pub mod admission;
pub mod bodies;
pub mod drain;
pub(crate) mod greeting;
pub mod journal;
pub mod memo;
pub mod metrics;
pub mod session;
pub mod streams;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ostler_config::{CompiledMount, CompiledUpstream, ProtocolPin};
use ostler_core::clock::WallClock;
use ostler_core::name::ResourceName;
use ostler_mcp::{Era, Revision};

use crate::bridge::{Eras, Mirrors, Pool};
use crate::bundle::{self, Bundled};
use crate::govern::Offered;
use crate::http_sse::Channels;
use crate::kills::Kills;
use crate::upstream::health::{Reading, State};
use crate::upstream::{Answer, Call, Cause, Upstream, UpstreamError};
use bodies::Bodies;
use journal::MountJournal;
use metrics::MountMetrics;
use session::SessionTable;
use streams::Streams;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A mount as one snapshot sees it.
#[derive(Debug)]
pub struct Mount {
    pub config: Arc<CompiledMount>,
    /// The upstream as this snapshot describes it.
    pub upstream_config: Arc<CompiledUpstream>,
    /// Its runtime, kept from snapshot to snapshot while its identity stays.
    pub upstream: Arc<Upstream>,
    pub runtime: Arc<MountRuntime>,
    /// What stands behind a bundle in an upstream's place.
    pub bundled: Option<Bundled>,
    pub kills: Arc<Kills>,
}

/// What a mount keeps from snapshot to snapshot.
#[derive(Debug)]
pub struct MountRuntime {
    /// Sessions stand on one upstream's state and end with its identity.
    pub sessions: Arc<SessionTable>,
    pub metrics: Arc<MountMetrics>,
    /// What its request bodies take up.
    pub bodies: Arc<Bodies>,
    /// Cancelled when config no longer has this mount on this upstream: streams without an end of their own end then.
    pub gone: CancellationToken,
    /// Set before that, unless it is the process that ends.
    pub is_withdrawn: AtomicBool,
    /// What ends such streams also while it stays.
    pub streams: Streams,
    /// Requests under way, whatever has become of the snapshot that they pin.
    pub calls: TaskTracker,
    /// Cancelled when the time for them is up.
    pub cut: CancellationToken,
    /// What its server offers, for rules.
    pub offered: Offered,
    /// What its tools want in headers, for clients that do not know of it.
    pub mirrors: Mirrors,
    /// Sessions that are held for clients that have none.
    pub pool: Pool,
    /// What is being found out of its upstream.
    pub eras: Eras,
    /// Streams and sessions of clients of HTTP+SSE.
    pub channels: Channels,
}

// === impl Mount ===

impl Mount {
    pub fn name(&self) -> &ResourceName {
        &self.config.name
    }

    /// The era of its upstream: pinned by config, or as it was found.
    pub fn era(&self) -> Option<Era> {
        self.pinned().map_or_else(|| self.upstream.health.era(), |revision| Some(revision.era()))
    }

    /// Whether config says what the upstream speaks, so that nobody need ask.
    pub fn is_pinned(&self) -> bool {
        self.pinned().is_some()
    }

    /// Whether the upstream has no handshake.
    pub fn refuses_legacy(&self) -> bool {
        self.pinned().map_or_else(|| self.upstream.health.refuses_legacy(), Revision::is_modern)
    }

    /// What the data plane asks for where it shakes hands itself.
    pub fn handshake_revision(&self) -> Revision {
        self.pinned().filter(|revision| !revision.is_modern()).unwrap_or(Revision::LATEST_LEGACY)
    }

    fn pinned(&self) -> Option<Revision> {
        match self.upstream_config.protocol {
            ProtocolPin::Auto => None,
            ProtocolPin::Revision(revision) => Revision::parse(revision.as_str()),
        }
    }

    /// Sends a call to what stands behind the mount.
    ///
    /// # Errors
    /// As [`Upstream::call`].
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, UpstreamError> {
        match &self.bundled {
            None => self.upstream.call(call).await,
            // Boxed: the future of every call would be as large.
            Some(bundled) => Box::pin(bundle::serve(bundled, call)).await,
        }
    }

    /// Whether an operator has stopped it, or everything.
    pub fn is_stopped(&self) -> bool {
        self.kills.load().stops_mount(self.name().as_str()).is_some()
    }

    /// The mount's health, which is its upstream's unless config keeps it from being used, and of a bundle its members'.
    pub fn reading(&self) -> Reading {
        let reading = Reading { era: self.era(), ..self.upstream.health.reading() };
        if let Some(switch) = self.kills.load().stops_mount(self.name().as_str()) {
            return Reading {
                state: State::Disabled,
                reason: Cause::KillSwitch,
                since_unix_ms: switch.since_unix_ms,
                next_probe_unix_ms: None,
                ..reading
            };
        }
        if let Some(bundled) = &self.bundled {
            return bundled.reading(reading);
        }
        if self.upstream_config.unresolved.is_some() {
            return Reading {
                state: State::Down,
                reason: Cause::SecretUnresolved,
                next_probe_unix_ms: None,
                ..reading
            };
        }
        reading
    }
}

// === impl MountRuntime ===

impl MountRuntime {
    /// Sessions are kept in the journal, where there is one.
    pub fn new(clock: WallClock, journal: Option<MountJournal>) -> Self {
        Self::with(clock, journal, Arc::default(), Arc::default())
    }

    /// The same mount on another upstream: its sessions are gone, its history is not.
    pub fn on_new_upstream(&self, clock: WallClock, journal: Option<MountJournal>) -> Self {
        Self::with(clock, journal, Arc::clone(&self.metrics), Arc::clone(&self.bodies))
    }

    /// Sessions that clients hold, whatever their transport.
    pub fn session_count(&self) -> usize {
        self.sessions.len() + self.channels.len()
    }

    fn with(
        clock: WallClock,
        journal: Option<MountJournal>,
        metrics: Arc<MountMetrics>,
        bodies: Arc<Bodies>,
    ) -> Self {
        let sessions = match journal {
            Some(journal) => SessionTable::kept(clock.clone(), journal),
            None => SessionTable::new(clock.clone()),
        };
        let gone = CancellationToken::new();
        Self {
            sessions: Arc::new(sessions),
            metrics,
            bodies,
            streams: Streams::new(&gone),
            gone,
            is_withdrawn: AtomicBool::new(false),
            calls: TaskTracker::new(),
            cut: CancellationToken::new(),
            offered: Offered::default(),
            mirrors: Mirrors::default(),
            pool: Pool::new(clock.clone()),
            eras: Eras::default(),
            channels: Channels::new(clock),
        }
    }
}
