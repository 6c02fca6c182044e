//! Validated → Compiled: on the data plane, with what its host allows and knows.
//!
//! Every refusal is reported, not the first. A message may name a reference, never its value.

mod glob;
mod listener;
mod lookup;
mod resolve;
mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ostler_core::digest::Digest;

pub use glob::{GlobError, GlobList};
pub use listener::{unbindable, unusable_tls};
pub use lookup::{Lookup, ProcessLookup};

use crate::compiled::{Compiled, CompiledMount, CompiledUpstream};
use crate::diagnostic::{Diagnostic, Report};
use crate::parts::PartKind;
use crate::validated::{Upstream, Validated};
use resolve::Resolver;

/// What the machine that compiles allows and how it looks references up.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// `--allow-command`.
    pub allow_command: &'a GlobList,
    /// `--allow-ref`, over references as written inside `${}` and without their default.
    pub allow_ref: &'a GlobList,
    /// `--allow-listen`, over addresses as `ip:port`.
    pub allow_listen: &'a GlobList,
    pub lookup: &'a dyn Lookup,
    pub unresolved: Unresolved,
}

/// What a reference without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// The candidate is refused: it is new, and nothing depends on it yet.
    Refuse,
    /// The upstream is marked and the others serve: it is the last-known-good.
    MarkDown,
}

/// Resolves every reference and checks what came of it.
///
/// # Errors
/// Every diagnostic. They have paths and no lines; [`crate::locate`] adds these where the text is at hand. What the host
/// does not allow is refused whatever `host.unresolved` says.
pub fn compile(config: &Validated, host: &Host<'_>) -> Result<Compiled, Report> {
    let mut diagnostics = Vec::new();
    let upstreams: std::collections::BTreeMap<_, _> = config
        .upstreams()
        .values()
        .map(|upstream| {
            let part = part_digest(config, &PartKind::Upstream, upstream.name.as_str());
            (upstream.name.clone(), Arc::new(compile_upstream(upstream, part, host, &mut diagnostics)))
        })
        .collect();
    let mounts = config
        .mounts()
        .values()
        .map(|mount| {
            let part = if mount.automatic {
                part_digest(config, &PartKind::Upstream, mount.upstream.as_str())
            } else {
                part_digest(config, &PartKind::Mount, mount.name.as_str())
            };
            let compiled = CompiledMount { name: mount.name.clone(), upstream: mount.upstream.clone(), part };
            (mount.name.clone(), Arc::new(compiled))
        })
        .collect();
    let listeners = config
        .listeners()
        .values()
        .map(|listener| {
            let part = part_digest(config, &PartKind::Listener, listener.name.as_str());
            let compiled = listener::compile(listener, part, host, &mut diagnostics);
            (listener.name.clone(), Arc::new(compiled))
        })
        .collect();
    if diagnostics.is_empty() {
        Ok(Compiled {
            digest: config.digest(),
            upstreams,
            mounts,
            listeners,
            default_mount: config.default_mount().cloned(),
        })
    } else {
        Err(Report { diagnostics })
    }
}

fn compile_upstream(
    upstream: &Upstream,
    part: Digest,
    host: &Host<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> CompiledUpstream {
    let mut resolver = Resolver::new(host, format!("upstreams.{}", upstream.name));
    let (transport, identity) = transport::compile(upstream, &mut resolver);
    let unresolved = resolver.finish(diagnostics);
    CompiledUpstream {
        name: upstream.name.clone(),
        transport,
        protocol: upstream.protocol,
        timeouts: upstream.timeouts,
        limits: upstream.limits,
        unresolved,
        part,
        identity,
    }
}

fn part_digest(config: &Validated, kind: &PartKind, name: &str) -> Digest {
    let parts = config.parts();
    let found = parts
        .binary_search_by(|part| {
            part.kind.as_str().cmp(kind.as_str()).then_with(|| part.name.as_str().cmp(name))
        })
        .ok()
        .and_then(|index| parts.get(index));
    // Every upstream and explicit mount has a part; the digest of nothing would only make a difference look like one.
    found.map_or_else(|| Digest::of(b""), |part| part.sha256)
}
