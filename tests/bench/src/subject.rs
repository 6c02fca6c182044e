//! What is measured between the load and the upstream: nothing, nginx, a data plane, and other programs that are there; each with its
//! config, started for one case.

mod bare;
mod dataplane;
mod nginx;
pub(crate) mod peer;

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::cases::{Case, Shape};
use crate::load::Order;
use crate::process::{Running, Usage};
use peer::{Peer, Peers};

/// A way from the load to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Nginx,
    /// A server and a client of hyper with nothing between them.
    Bare,
    Ostler,
    /// The data plane of a case of durable audit, where nothing waits for the disk.
    OstlerAsync,
    Peer(Peer),
}

/// What subjects are started from.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) dataplane: PathBuf,
    pub(crate) peers: Peers,
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    served: Served,
}

/// Where calls of a case are sent, and by whom they are taken.
#[derive(Debug)]
struct Served {
    /// Nothing where the load reaches the upstream itself.
    process: Option<Running>,
    to: SocketAddr,
    path: String,
    tool: String,
    authorization: Option<String>,
}

/// What a subject is started for.
struct Setting<'a> {
    case: &'a Case,
    upstream: SocketAddr,
    /// Its own, for configs and logs.
    folder: &'a Path,
}

// === impl Kind ===

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Bare => "bare",
            Self::Ostler => "ostler",
            Self::OstlerAsync => "ostler-async",
            Self::Peer(peer) => peer.name(),
        }
    }

    /// Those that can serve a case on this machine. nginx and the data plane, which are compared most closely, stand side by side.
    pub(crate) fn of(case: &Case, peers: &Peers) -> Vec<Self> {
        let plain = [Self::Direct, Self::Nginx].into_iter();
        let plain = plain.filter(|kind| case.is_plain() && (*kind != Self::Nginx || nginx::is_here()));
        let also = (case.shape == Shape::AuditDurable).then_some(Self::OstlerAsync);
        let plain = plain.chain(bare::serves(case).then_some(Self::Bare));
        plain.chain([Self::Ostler]).chain(also).chain(peers.of(case).map(Self::Peer)).collect()
    }
}

// === impl Subject ===

impl Subject {
    /// `folder` is its own.
    pub(crate) fn start(
        kind: Kind,
        case: &Case,
        upstream: SocketAddr,
        programs: &Programs,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let setting = Setting { case, upstream, folder };
        let without_waiting = Case { shape: Shape::AuditAsync, ..case.clone() };
        let served = match kind {
            Kind::Direct => Ok(Served::plain(&setting, None, upstream)),
            Kind::Nginx => nginx::start(&setting),
            Kind::Bare => bare::start(&setting),
            Kind::Ostler => dataplane::start(&programs.dataplane, &setting),
            Kind::OstlerAsync => {
                dataplane::start(&programs.dataplane, &Setting { case: &without_waiting, ..setting })
            }
            Kind::Peer(peer) => peer.start(&programs.peers.program(peer), &setting),
        };
        Ok(Self { kind, served: served.with_context(|| format!("{} does not start", kind.name()))? })
    }

    pub(crate) fn order(&self, case: &Case, seconds: f64) -> Order {
        Order {
            to: self.served.to,
            path: self.served.path.clone(),
            era: case.era,
            tool: self.served.tool.clone(),
            argument_bytes: case.argument_bytes,
            connections: case.connections,
            seconds,
            rate: case.rate,
            authorization: self.served.authorization.clone(),
        }
    }

    /// Of its processes; nothing where there is none.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.served.process.as_ref().map_or_else(|| Ok(Usage::default()), Running::usage)
    }
}

// === impl Served ===

impl Served {
    /// What the load would find at the upstream itself.
    fn plain(setting: &Setting<'_>, process: Option<Running>, to: SocketAddr) -> Self {
        let (path, tool) = (setting.case.answer.path().to_owned(), setting.case.tool());
        Self { process, to, path, tool, authorization: None }
    }
}

// === impl Setting ===

impl Setting<'_> {
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let file = self.folder.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Starts a program with its output in a file, and waits until something listens there.
    fn start(&self, command: &mut Command, listens: SocketAddr) -> anyhow::Result<Running> {
        let log = File::create(self.folder.join("log"))?;
        let mut process = Running::start(command.stdout(log.try_clone()?).stderr(log))?;
        let said = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        process.await_sign(|_| TcpStream::connect(listens).ok()).with_context(said)?;
        Ok(process)
    }
}

/// An address that was free just now.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?)
}
