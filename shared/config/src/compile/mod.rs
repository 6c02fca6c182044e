//! Validated → Compiled: on the data plane, with what its host allows and knows.
//!
//! Every refusal is reported, not the first. A message may name a reference, never its value.

mod auth;
mod bundle;
mod glob;
mod listener;
mod lookup;
mod resolve;
mod transport;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use ostler_core::ordered::Cursor;

pub use glob::{GlobError, GlobList};
pub use listener::{unbindable, unusable_tls};
pub use lookup::{Lookup, ProcessLookup};

use crate::compiled::{Compiled, CompiledBundle, CompiledMount, CompiledUpstream};
use crate::diagnostic::{Diagnostic, Report};
use crate::parts::PartKind;
use crate::validated::{Audit, Bundle, Upstream, Validated};
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
    /// The data plane's own `--listen`, where there is one.
    pub listen: Option<SocketAddr>,
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
    recompile(config, host, None)
}

/// The same, sharing with what was compiled before, by a host that allows the same, whatever would come out the same:
/// upstreams and mounts of an unchanged part in which no reference is to be resolved again.
///
/// # Errors
/// Those of [`compile`].
pub fn recompile(config: &Validated, host: &Host<'_>, before: Option<&Compiled>) -> Result<Compiled, Report> {
    let mut diagnostics = Vec::new();
    let upstreams = upstreams(config, host, before, &mut diagnostics);
    let mounts = mounts(config, &upstreams, before);
    let bundles = bundles(config, &upstreams, before);
    let listeners = config
        .listeners()
        .values()
        .map(|listener| {
            let part = part_digest(config, &PartKind::Listener, listener.name.as_str());
            let compiled = listener::compile(listener, part, host, &mut diagnostics);
            (listener.name.clone(), Arc::new(compiled))
        })
        .collect();
    let auth = auth::compile(config, host, before.map(|before| &before.auth), &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(Report { diagnostics });
    }
    let default_mount = config.default_mount().cloned();
    let audit = config.audit().cloned().unwrap_or_else(|| Arc::new(Audit::unsaid()));
    Ok(Compiled {
        digest: config.digest(),
        upstreams,
        mounts,
        bundles,
        listeners,
        audit,
        default_mount,
        environment: config.environment().map(Into::into),
        policy: config.policy().cloned(),
        auth,
    })
}

fn upstreams(
    config: &Validated,
    host: &Host<'_>,
    before: Option<&Compiled>,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<ResourceName, Arc<CompiledUpstream>> {
    let mut compiled = before.map(|before| before.upstreams.clone()).unwrap_or_default();
    let mut before = Cursor::new(before.map(|before| &before.upstreams));
    for (name, upstream) in config.upstreams() {
        let kept = before.at(name).and_then(|kept| kept.constant.as_ref());
        if kept.is_some_and(|constant| Arc::ptr_eq(constant, upstream)) {
            continue;
        }
        let part = part_digest(config, &PartKind::Upstream, name.as_str());
        compiled.insert(name.clone(), Arc::new(compile_upstream(upstream, part, host, diagnostics)));
    }
    keep_only(&mut compiled, config.upstreams());
    compiled
}

fn mounts(
    config: &Validated,
    upstreams: &BTreeMap<ResourceName, Arc<CompiledUpstream>>,
    before: Option<&Compiled>,
) -> BTreeMap<ResourceName, Arc<CompiledMount>> {
    let mut compiled = before.map(|before| before.mounts.clone()).unwrap_or_default();
    let mut before = Cursor::new(before.map(|before| &before.mounts));
    let mut own = Cursor::new(Some(upstreams));
    for (name, mount) in config.mounts() {
        let part = match own.at(name) {
            Some(upstream) if mount.automatic => upstream.part,
            _ => part_digest(config, &PartKind::Mount, name.as_str()),
        };
        if before.at(name).is_some_and(|kept| kept.part == part && kept.upstream == mount.upstream) {
            continue;
        }
        let mount = CompiledMount { name: name.clone(), upstream: mount.upstream.clone(), part };
        compiled.insert(name.clone(), Arc::new(mount));
    }
    keep_only(&mut compiled, config.mounts());
    compiled
}

fn bundles(
    config: &Validated,
    upstreams: &BTreeMap<ResourceName, Arc<CompiledUpstream>>,
    before: Option<&Compiled>,
) -> BTreeMap<ResourceName, Arc<CompiledBundle>> {
    let compile = |bundle: &Bundle| {
        let part = part_digest(config, &PartKind::Bundle, bundle.name.as_str());
        let of = |name: &ResourceName| upstreams.get(&config.mounts().get(name)?.upstream);
        let kept = before.and_then(|before| before.bundles.get(&bundle.name));
        let compiled = bundle::compile(bundle, part, bundle.mounts.iter().filter_map(of).map(Arc::as_ref));
        let kept = kept.filter(|kept| bundle::is_same(kept, &compiled));
        (bundle.name.clone(), kept.map_or_else(|| Arc::new(compiled), Arc::clone))
    };
    config.bundles().values().map(compile).collect()
}

/// Removes what is not wanted. Everything wanted is there, so that nothing need be looked for while there are as many.
fn keep_only<V, W>(found: &mut BTreeMap<ResourceName, V>, wanted: &BTreeMap<ResourceName, W>) {
    if found.len() > wanted.len() {
        found.retain(|name, _| wanted.contains_key(name));
    }
}

fn compile_upstream(
    upstream: &Arc<Upstream>,
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
        constant: upstream.references().next().is_none().then(|| Arc::clone(upstream)),
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
