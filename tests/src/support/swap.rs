//! What a swap costs: a data plane inside this process is given configs of many upstreams, and the processor time of its
//! applier is read. Upstreams are stdio ones that nobody uses, so that nothing but the swap is paid for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ostler_config::{Part, PartKind, Validated, judge_text, rejudge_parts};
use ostler_dataplane::DataPlane;
use ostler_dataplane::apply::{Applied, Candidate, Origin, Revision, Source};
use serde_json::json;

use super::{proc, world};

/// The processor time of the thread that applies, and what it had to do.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu: Duration,
    /// Parts read and judged.
    pub parts_read: u64,
    /// Upstream runtimes built.
    pub upstreams_built: u64,
}

/// A data plane that is handed candidates directly.
pub struct Swaps {
    dataplane: DataPlane,
    base: Validated,
    version: u64,
}

// === impl Swaps ===

impl Swaps {
    /// Starts with a config of nothing; what is applied from then on has that many upstreams.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(dir: &Path, upstreams: usize) -> Self {
        let dataplane = world::standalone(dir, "version: 1\n").await;
        let base = judge_text(document(0..upstreams, "same").as_bytes()).expect("a config").config;
        Self { dataplane, base, version: 0 }
    }

    /// Applies the upstreams, of which those are not what they were in other configs.
    ///
    /// # Panics
    /// When the config is refused.
    pub async fn apply(&mut self, changed: &[usize]) -> Cost {
        self.version += 1;
        let parts = self.parts(changed);
        let digest = rejudge_parts(&parts, Some(&self.base)).expect("a config").config.digest();
        let fleet = world::fleet();
        let revision = Revision { source: Source::Control, fleet, epoch: 1, version: self.version, digest };
        let candidate = Candidate { origin: Origin::Stream, revision, parts };
        let before = self.reading();
        let applied = self.dataplane.admin().applier.apply(&candidate).await.expect("an accepted candidate");
        let after = self.reading();
        assert_eq!(applied, Applied::Swapped);
        Cost {
            cpu: after.cpu.saturating_sub(before.cpu),
            parts_read: after.parts_read - before.parts_read,
            upstreams_built: after.upstreams_built - before.upstreams_built,
        }
    }

    pub async fn end(self) {
        self.dataplane.shutdown().await;
    }

    /// As they come from the stream: nothing in them is shared with those before.
    fn parts(&self, changed: &[usize]) -> Arc<[Part]> {
        let other =
            judge_text(document(changed.iter().copied(), "other").as_bytes()).expect("a config").config;
        let part = |part: &Part| {
            let newer = other.parts().iter().find(|newer| newer.kind == part.kind && newer.name == part.name);
            let part = newer.filter(|part| part.kind == PartKind::Upstream).unwrap_or(part);
            Part { bytes: Bytes::copy_from_slice(&part.bytes), ..part.clone() }
        };
        self.base.parts().iter().map(part).collect()
    }

    fn reading(&self) -> Cost {
        let admin = self.dataplane.admin();
        Cost {
            cpu: proc::thread_cpu(),
            parts_read: admin.applier.status.parts_read.get(),
            upstreams_built: admin.deps.upstreams_built.get(),
        }
    }
}

fn document(indices: impl Iterator<Item = usize>, arg: &str) -> String {
    let upstreams: serde_json::Map<_, _> = indices
        .map(|index| {
            let args = [arg.to_owned(), format!("--root=/srv/{index}")];
            let stdio = json!({"command": "mcp-server", "args": args, "env": {"LEVEL": "info"}});
            (format!("upstream-{index:05}"), json!({"stdio": stdio, "limits": {"in_flight": 50}}))
        })
        .collect();
    json!({"version": 1, "upstreams": upstreams}).to_string()
}
