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
use crate::validated::{Auth, Identity};

/// The name of the one part of kind `settings`.
pub(crate) const SETTINGS_NAME: &str = "settings";
/// What a data plane must be able to do that is sent who may use its mounts.
const AUTH: &str = "auth.v1";

/// One piece of a config.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    pub name: String,
    pub sha256: Digest,
    /// Canonical JSON: the value that stands under `upstreams.<name>`, `mounts.<name>`, `bundles.<name>` or `listeners.<name>`,
    /// under `audit`, `auth`, `identity` or `policy`, or the document without all these.
    pub bytes: Bytes,
}

/// What a part describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    /// What stands under `audit`; at most one.
    Audit,
    /// `auth`; at most one, of the same name.
    Auth,
    /// An entry of `bundles`.
    Bundle,
    /// `identity`; at most one, of the same name.
    Identity,
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
    let Meaning {
        upstreams,
        mounts,
        bundles,
        listeners,
        audit,
        default_mount,
        environment,
        policy,
        auth,
        identity,
    } = meaning;
    let mut parts = Vec::with_capacity(upstreams.len() + mounts.len() + bundles.len() + listeners.len() + 5);
    let settings = canonical::settings(default_mount.as_ref(), environment.as_deref());
    parts.push(Part::of(PartKind::Settings, SETTINGS_NAME, &settings));
    if let Some(policy) = policy {
        parts.push(Part::of(PartKind::Policy, PartKind::Policy.as_str(), &canonical::policy(policy)));
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
        parts.push(Part::of(PartKind::Audit, PartKind::Audit.as_str(), &canonical::audit(audit)));
    }
    if *auth != Auth::default() {
        parts.push(Part::of(PartKind::Auth, PartKind::Auth.as_str(), &canonical::auth(auth)));
    }
    if *identity != Identity::default() {
        parts.push(Part::of(PartKind::Identity, PartKind::Identity.as_str(), &canonical::identity(identity)));
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
    let of_kinds = || a.kind.as_str().cmp(b.kind.as_str());
    // Nearly all of a large config are of one kind.
    let kinds = if a.kind == b.kind { Ordering::Equal } else { of_kinds() };
    kinds.then_with(|| a.name.cmp(&b.name))
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
            PartKind::Auth | PartKind::Identity => Some(AUTH),
            PartKind::Bundle => Some("bundles.v1"),
            PartKind::Listener => Some("listeners.v1"),
            PartKind::Policy => Some("policy.v1"),
            PartKind::Upstream if self.has("oauth") => Some("oauth.v1"),
            PartKind::Upstream if self.has("sse") => Some("sse.v1"),
            PartKind::Mount | PartKind::Settings | PartKind::Upstream | PartKind::Unknown(_) => None,
        }
    }

    /// Whether an upstream has this key. Few have those that are asked for, and only those that may are read.
    fn has(&self, key: &str) -> bool {
        let quoted = format!("\"{key}\"");
        let names = self.bytes.windows(quoted.len()).any(|text| text == quoted.as_bytes());
        let value = || serde_json::from_slice::<serde_json::Value>(&self.bytes);
        names && value().is_ok_and(|value| value.get(key).is_some())
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
            Self::Auth => "auth",
            Self::Bundle => "bundle",
            Self::Identity => "identity",
            Self::Listener => "listener",
            Self::Mount => "mount",
            Self::Policy => "policy",
            Self::Settings => "settings",
            Self::Upstream => "upstream",
            Self::Unknown(kind) => kind,
        }
    }

    /// The key of the document that is one part as a whole. Its part has the same name.
    pub(crate) fn section(&self) -> Option<&str> {
        matches!(self, Self::Audit | Self::Auth | Self::Identity | Self::Policy).then(|| self.as_str())
    }

    /// Never fails: what to do about an unknown kind is for `judge_parts` to say.
    pub fn from_wire<'a>(kind: impl Into<Cow<'a, str>>) -> Self {
        let kind = kind.into();
        match &*kind {
            "audit" => Self::Audit,
            "auth" => Self::Auth,
            "bundle" => Self::Bundle,
            "identity" => Self::Identity,
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
