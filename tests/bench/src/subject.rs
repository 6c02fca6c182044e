//! What is measured between the load and the upstream: nothing, nginx, or a data plane; each with its config, started for one case.

mod dataplane;
mod nginx;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use crate::cases::Case;
use crate::load::Order;
use crate::process::{Running, Usage};

/// A way from the load to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Nginx,
    Ostler,
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    to: SocketAddr,
    path: String,
    tool: String,
    authorization: Option<String>,
    process: Option<Running>,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Ostler => "ostler",
        }
    }

    /// Those that can serve a case on this machine.
    pub(crate) fn of(case: &Case) -> Vec<Self> {
        let plain = [Self::Direct, Self::Nginx].into_iter();
        let plain = plain.filter(|kind| case.is_plain() && (*kind != Self::Nginx || nginx::is_here()));
        plain.chain([Self::Ostler]).collect()
    }
}

impl Subject {
    /// `folder` is its own.
    pub(crate) fn start(
        kind: Kind,
        case: &Case,
        upstream: SocketAddr,
        dataplane: &Path,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = case.answer.path().to_owned();
        let plain = Self { kind, to: upstream, path, tool: case.tool(), authorization: None, process: None };
        let started = || match kind {
            Kind::Direct => Ok(plain),
            Kind::Nginx => {
                let (process, to) = nginx::start(upstream, folder)?;
                Ok(Self { to, process: Some(process), ..plain })
            }
            Kind::Ostler => {
                let served = dataplane::start(dataplane, case, upstream, folder)?;
                let (to, path, authorization) = (served.to, served.path, served.authorization);
                Ok(Self { to, path, authorization, process: Some(served.process), ..plain })
            }
        };
        let started: anyhow::Result<Self> = started();
        started.with_context(|| format!("{} does not start", kind.name()))
    }

    pub(crate) fn order(&self, case: &Case, seconds: f64) -> Order {
        Order {
            to: self.to,
            path: self.path.clone(),
            era: case.era,
            tool: self.tool.clone(),
            argument_bytes: case.argument_bytes,
            connections: case.connections,
            seconds,
            rate: case.rate,
            authorization: self.authorization.clone(),
        }
    }

    /// Of its processes; nothing where there is none.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.process.as_ref().map_or_else(|| Ok(Usage::default()), Running::usage)
    }
}
