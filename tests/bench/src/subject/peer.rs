//! Other programs that can stand where the data plane stands: which there are, what each can serve, and where they are found. All
//! get one thread where they let one choose, keep their connections, and write a line for each call where they can. None is needed.

mod bridges;
mod gateways;
mod proxies;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Served, Setting};
use crate::calls::Era;
use crate::cases::{Case, Shape};

/// A program that is not ours, called what its file is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Haproxy,
    Envoy,
    Agentgateway,
    /// The crate of this name.
    McpProxy,
    /// Of PyPI.
    PythonMcpProxy,
    /// Of npm.
    NodeMcpProxy,
    /// Of npm.
    Supergateway,
}

/// What a peer does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Moves bytes.
    Proxy,
    /// Speaks MCP to clients, servers and child processes.
    Gateway,
    /// Speaks MCP to clients and a child process.
    Bridge,
}

/// The peers of this machine.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    folder: PathBuf,
    here: Vec<Peer>,
}

/// Of the upstream in configs that name it.
const TARGET: &str = "up";

// === impl Peer ===

impl Peer {
    const ALL: [Self; 7] = [
        Self::Haproxy,
        Self::Envoy,
        Self::Agentgateway,
        Self::McpProxy,
        Self::PythonMcpProxy,
        Self::NodeMcpProxy,
        Self::Supergateway,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Agentgateway => "agentgateway",
            Self::McpProxy => "mcp-proxy",
            Self::PythonMcpProxy => "python-mcp-proxy",
            Self::NodeMcpProxy => "node-mcp-proxy",
            Self::Supergateway => "supergateway",
        }
    }

    const fn sort(self) -> Sort {
        match self {
            Self::Haproxy | Self::Envoy => Sort::Proxy,
            Self::Agentgateway | Self::McpProxy => Sort::Gateway,
            Self::PythonMcpProxy | Self::NodeMcpProxy | Self::Supergateway => Sort::Bridge,
        }
    }

    /// What needs more than passing a call on is the data plane's alone.
    fn serves(self, case: &Case) -> bool {
        match (self.sort(), case.shape) {
            (Sort::Proxy, Shape::Mount) => case.is_plain(),
            (Sort::Gateway, Shape::Mount | Shape::Stdio) | (Sort::Bridge, Shape::Stdio) => {
                (case.era, case.upstream_era) == (Era::Legacy, Era::Legacy)
            }
            _ => false,
        }
    }

    pub(super) fn start(self, program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
        match self {
            Self::Haproxy => proxies::haproxy(program, setting),
            Self::Envoy => proxies::envoy(program, setting),
            Self::Agentgateway => gateways::agentgateway(program, setting),
            Self::McpProxy => gateways::mcp_proxy(program, setting),
            Self::PythonMcpProxy => bridges::python_mcp_proxy(program, setting),
            Self::NodeMcpProxy => bridges::node_mcp_proxy(program, setting),
            Self::Supergateway => bridges::supergateway(program, setting),
        }
    }
}

// === impl Peers ===

impl Peers {
    /// Those of a folder, which has a program, or a link to one, by each name.
    pub(crate) fn find(folder: &Path) -> Self {
        let here = Peer::ALL.into_iter().filter(|peer| folder.join(peer.name()).is_file()).collect();
        Self { folder: folder.to_owned(), here }
    }

    /// The names of those that are not there.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        Peer::ALL.iter().filter(|peer| !self.here.contains(peer)).map(|peer| peer.name()).collect()
    }

    pub(super) fn of(&self, case: &Case) -> impl Iterator<Item = Peer> {
        self.here.iter().copied().filter(|peer| peer.serves(case))
    }

    pub(super) fn program(&self, peer: Peer) -> PathBuf {
        self.folder.join(peer.name())
    }
}

/// The upstream as a child: its program and arguments.
fn child() -> anyhow::Result<[OsString; 3]> {
    Ok([std::env::current_exe()?.into_os_string(), "upstream".into(), "--stdio".into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn a_peer_is_measured_if_it_is_there_and_only_where_it_can_serve() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["envoy", "supergateway"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let peers = Peers::find(folder.path());
        assert_eq!(
            peers.missing(),
            ["haproxy", "agentgateway", "mcp-proxy", "python-mcp-proxy", "node-mcp-proxy"]
        );
        let of = |name: &str| {
            let case = cases::all().into_iter().find(|case| case.name == name).unwrap();
            peers.of(&case).collect::<Vec<_>>()
        };
        assert_eq!(of("call-16"), [Peer::Envoy]);
        assert_eq!(of("stdio-16"), [Peer::Supergateway]);
        assert_eq!((of("governed-16"), of("bridge-to-legacy-16")), (Vec::new(), Vec::new()));
    }
}
