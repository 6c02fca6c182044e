//! The pieces in which a config is stored and shipped: canonical JSON of one validated resource each, references
//! unresolved. Together they are a document again, so that `judge_parts` applies the very rules of `judge_text`.
//!
//! The digest of a config is computed from its parts here and nowhere else.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use ostler_core::digest::{Digest, DigestBuilder};

use crate::canonical::{self, Canonical};
use crate::validate::Meaning;

/// The name of the one part of kind `audit`.
pub(crate) const AUDIT_NAME: &str = "audit";
/// The name of the one part of kind `settings`.
pub(crate) const SETTINGS_NAME: &str = "settings";
/// The name of the one part of kind `policy`.
pub(crate) const POLICY_NAME: &str = "policy";

/// One piece of a config.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    pub name: String,
    pub sha256: Digest,
    /// Canonical JSON: the value that stands under `upstreams.<name>`, `mounts.<name>`, `bundles.<name>` or `listeners.<name>`,
    /// what stands under `policy` or `audit`, or the document without all these.
    pub bytes: Bytes,
}

/// What a part describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    /// What stands under `audit`; at most one.
    Audit,
    /// An entry of `bundles`.
    Bundle,
    /// An entry of `listeners`.
    Listener,
    /// An entry of `mounts`. Automatic mounts follow from the upstreams and are no parts.
    Mount,
    /// What stands under `policy`; at most one.
    Policy,
    /// Everything that has no part of its own; exactly one.
    Settings,
    /// An entry of `upstreams`.
    Upstream,
    /// A kind that a newer build made; refused when judged.
    Unknown(String),
}

/// The parts of a config, sorted, and its digest.
pub(crate) fn split(meaning: &Meaning) -> (Vec<Part>, Digest) {
    let Meaning { upstreams, mounts, bundles, listeners, audit, default_mount, environment, policy } =
        meaning;
    let mut parts = Vec::with_capacity(upstreams.len() + mounts.len() + bundles.len() + listeners.len() + 3);
    let settings = canonical::settings(default_mount.as_ref(), environment.as_deref());
    parts.push(Part::of(PartKind::Settings, SETTINGS_NAME, &settings));
    if let Some(policy) = policy {
        parts.push(Part::of(PartKind::Policy, POLICY_NAME, &canonical::policy(policy)));
    }
    for upstream in upstreams.values() {
        parts.push(Part::of(PartKind::Upstream, upstream.name.as_str(), &canonical::upstream(upstream)));
    }
    for mount in mounts.values().filter(|mount| !mount.automatic) {
        parts.push(Part::of(PartKind::Mount, mount.name.as_str(), &canonical::mount(mount)));
    }
    for bundle in bundles.values() {
        parts.push(Part::of(PartKind::Bundle, bundle.name.as_str(), &canonical::bundle(bundle)));
    }
    for listener in listeners.values() {
        parts.push(Part::of(PartKind::Listener, listener.name.as_str(), &canonical::listener(listener)));
    }
    if let Some(audit) = audit {
        parts.push(Part::of(PartKind::Audit, AUDIT_NAME, &canonical::audit(audit)));
    }
    sort(&mut parts);
    let digest = digest(&parts);
    (parts, digest)
}

/// The digest of a config made of these parts, in whatever order they came. What the parts hold is not looked at.
pub fn digest_of_parts(parts: &[Part]) -> Digest {
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort_by(|a, b| order(a, b));
    list_digest(sorted.into_iter())
}

pub(crate) fn sort(parts: &mut [Part]) {
    parts.sort_by(order);
}

pub(crate) fn digest(sorted: &[Part]) -> Digest {
    list_digest(sorted.iter())
}

pub(crate) fn order(a: &Part, b: &Part) -> Ordering {
    a.kind.as_str().cmp(b.kind.as_str()).then_with(|| a.name.cmp(&b.name))
}

/// Over the sorted list; every field with its length, so that no two lists collide.
fn list_digest<'a>(sorted: impl Iterator<Item = &'a Part>) -> Digest {
    let mut builder = DigestBuilder::new();
    for part in sorted {
        builder.update(part.kind.as_str().as_bytes());
        builder.update(part.name.as_bytes());
        builder.update(part.sha256.as_bytes());
    }
    builder.finish()
}

// === impl Part ===

impl Part {
    /// What a data plane must say that it understands before it is sent this part, beyond those of the first build.
    pub fn capability(&self) -> Option<&'static str> {
        match &self.kind {
            PartKind::Audit => Some("audit.v1"),
            PartKind::Bundle => Some("bundles.v1"),
            PartKind::Listener => Some("listeners.v1"),
            PartKind::Policy => Some("policy.v1"),
            PartKind::Upstream if self.is_sse() => Some("sse.v1"),
            PartKind::Mount | PartKind::Settings | PartKind::Upstream | PartKind::Unknown(_) => None,
        }
    }

    /// Whether it is an upstream over HTTP+SSE. Few are, and only those that may be are read.
    fn is_sse(&self) -> bool {
        let names = self.bytes.windows(b"\"sse\"".len()).any(|text| text == b"\"sse\"");
        let value = || serde_json::from_slice::<serde_json::Value>(&self.bytes);
        names && value().is_ok_and(|value| value.get("sse").is_some())
    }

    fn of(kind: PartKind, name: &str, value: &Canonical) -> Self {
        let bytes = Bytes::from(value.to_json());
        Self { kind, name: name.to_owned(), sha256: Digest::of(&bytes), bytes }
    }
}

impl fmt::Debug for Part {
    /// Without the content, which may hold a secret that should have been a reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({} {} {}, {} bytes)", self.kind, self.name, self.sha256, self.bytes.len())
    }
}

// === impl PartKind ===

impl PartKind {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Audit => "audit",
            Self::Bundle => "bundle",
            Self::Listener => "listener",
            Self::Mount => "mount",
            Self::Policy => "policy",
            Self::Settings => "settings",
            Self::Upstream => "upstream",
            Self::Unknown(kind) => kind,
        }
    }

    /// Never fails: what to do about an unknown kind is for `judge_parts` to say.
    pub fn from_wire<'a>(kind: impl Into<Cow<'a, str>>) -> Self {
        let kind = kind.into();
        match &*kind {
            "audit" => Self::Audit,
            "bundle" => Self::Bundle,
            "listener" => Self::Listener,
            "mount" => Self::Mount,
            "policy" => Self::Policy,
            "settings" => Self::Settings,
            "upstream" => Self::Upstream,
            _ => Self::Unknown(kind.into_owned()),
        }
    }
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
