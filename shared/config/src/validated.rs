//! A config that was judged and accepted. References are unresolved: the same value serves control, which never resolves
//! them, and the data plane, which compiles it.
//!
//! Only `judge_text` and `judge_parts` make one.

mod auth;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ostler_core::digest::Digest;
use ostler_core::limits;
use ostler_core::name::ResourceName;
use ostler_policy::Policy;

use crate::parts::Part;
use crate::reference::{Reference, Template};
use crate::validate::Meaning;

pub use auth::{
    Accept, ApiKey, Auth, Identity, IdentitySource, Issuer, IssuerKeys, MountAccess, OnUnresolved,
};

/// Accepted content. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Validated(Arc<Content>);

#[derive(Debug)]
struct Content {
    meaning: Meaning,
    parts: Arc<[Part]>,
    digest: Digest,
    /// At least as many as the values of all parts.
    values: usize,
}

/// One MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub name: ResourceName,
    pub transport: UpstreamTransport,
    pub protocol: ProtocolPin,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Whether it is mounted under its own name.
    pub mount: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTransport {
    Http(HttpUpstream),
    /// HTTP+SSE, of 2024-11-05.
    Sse(HttpUpstream),
    Stdio(StdioUpstream),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUpstream {
    pub url: Template,
    /// In the order of their names.
    pub headers: Vec<(HeaderName, Template)>,
    pub oauth: Option<OauthClient>,
}

/// How the data plane gets its own token for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthClient {
    /// The token endpoint.
    pub url: String,
    pub client_id: Template,
    pub client_secret: Template,
    pub scopes: BTreeSet<String>,
    pub resource: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioUpstream {
    pub command: String,
    pub args: Vec<Template>,
    pub env: BTreeMap<String, Template>,
    pub cwd: Option<String>,
    pub share: Share,
    /// Start a child when the config is loaded, not on first use.
    pub warm: bool,
}

/// Who shares a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Share {
    /// One child per client session.
    #[default]
    Session,
    /// One child for all sessions of the mount.
    Mount,
}

/// Which revision of the protocol is spoken with the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProtocolPin {
    /// Found out on first contact.
    #[default]
    Auto,
    Revision(ProtocolRevision),
}

/// A published revision of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolRevision {
    V20241105,
    V20250326,
    V20250618,
    V20251125,
    V20260728,
}

/// How long each step of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Until the connection, with TLS, is there.
    pub connect: Duration,
    /// Until the response headers.
    pub answer: Duration,
    /// Between two bytes of a streamed answer.
    pub idle: Duration,
    /// The whole call.
    pub total: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Calls under way at once; one more is refused at once.
    pub in_flight: u32,
}

/// A path on the agent's port that leads to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub name: ResourceName,
    pub upstream: ResourceName,
    /// Made by the upstream itself, not written under `mounts`.
    pub automatic: bool,
}

/// Several mounts at one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pub name: ResourceName,
    /// In the order of its lists, each once.
    pub mounts: Vec<ResourceName>,
}

/// An address at which MCP clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// In a namespace of its own.
    pub name: ResourceName,
    /// With a port other than 0; an address that maps IPv4 into IPv6 stands there as IPv4.
    pub address: SocketAddr,
    pub tls: Option<ListenerTls>,
    /// In lower case and without brackets.
    pub allowed_hosts: BTreeSet<String>,
    /// The mounts and bundles that it serves; `None` for all.
    pub mounts: Option<BTreeSet<ResourceName>>,
}

/// The files of a listener's certificate. Each template is one `${file:…}` and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    pub certificate: Template,
    pub key: Template,
}

/// What is written down of calls, and of what happens to the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub allowed: AuditMode,
    pub denied: AuditMode,
    pub outcomes: AuditMode,
    pub events: AuditMode,
    pub arguments: AuditArguments,
    pub responses: AuditResponses,
    /// Names of fields, or paths from the top, whose values are never written down.
    pub secrets: BTreeSet<String>,
    pub retention: Duration,
}

/// What waits for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditMode {
    /// The call, until the record is on disk.
    Durable,
    /// Nothing.
    Async,
    /// There is no record.
    Off,
}

/// What is written down of a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditArguments {
    /// All but the values of secret fields.
    Redacted,
    /// Their digest and their size.
    Digest,
}

/// What is written down of the answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditResponses {
    Off,
    /// Its digest and its size.
    Digest,
    /// Also what it says, but for the values of secret fields.
    Redacted,
}

// === impl Validated ===

impl Validated {
    pub(crate) fn new(meaning: Meaning, parts: Arc<[Part]>, digest: Digest, values: usize) -> Self {
        Self(Arc::new(Content { meaning, parts, digest, values }))
    }

    /// An upper bound on the values of its parts, for the limit on them.
    pub(crate) fn values(&self) -> usize {
        self.0.values
    }

    /// Sorted by kind and name.
    pub fn parts(&self) -> &[Part] {
        &self.0.parts
    }

    /// SHA-256 over the parts' kinds, names and digests.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Shared with the configs before and after that have the same part.
    pub fn upstreams(&self) -> &BTreeMap<ResourceName, Arc<Upstream>> {
        &self.0.meaning.upstreams
    }

    /// Those written under `mounts` and the automatic ones.
    pub fn mounts(&self) -> &BTreeMap<ResourceName, Mount> {
        &self.0.meaning.mounts
    }

    pub fn bundles(&self) -> &BTreeMap<ResourceName, Bundle> {
        &self.0.meaning.bundles
    }

    pub fn listeners(&self) -> &BTreeMap<ResourceName, Listener> {
        &self.0.meaning.listeners
    }

    /// What the document says of audit; see [`Audit::unsaid`] for where it says nothing.
    pub fn audit(&self) -> Option<&Arc<Audit>> {
        self.0.meaning.audit.as_ref()
    }

    pub fn default_mount(&self) -> Option<&ResourceName> {
        self.0.meaning.default_mount.as_ref()
    }

    /// What it is for.
    pub fn environment(&self) -> Option<&str> {
        self.0.meaning.environment.as_deref()
    }

    pub fn policy(&self) -> Option<&Arc<Policy>> {
        self.0.meaning.policy.as_ref()
    }

    /// Who may use the mounts.
    pub fn auth(&self) -> &Auth {
        &self.0.meaning.auth
    }

    /// What callers are called.
    pub fn identity(&self) -> &Identity {
        &self.0.meaning.identity
    }

    /// Every reference in it; those to files are what a data plane watches.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let upstreams = self.0.meaning.upstreams.values().flat_map(|upstream| upstream.references());
        let listeners = self.0.meaning.listeners.values().flat_map(Listener::references);
        upstreams.chain(listeners).chain(self.0.meaning.auth.references())
    }
}

impl PartialEq for Validated {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Validated {}

// === impl Upstream ===

impl Upstream {
    /// Every reference in it.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let (first, headers, oauth, args, env) = match &self.transport {
            UpstreamTransport::Http(http) | UpstreamTransport::Sse(http) => {
                (Some(&http.url), &*http.headers, http.oauth.as_ref(), &[][..], None)
            }
            UpstreamTransport::Stdio(stdio) => (None, &[][..], None, &*stdio.args, Some(stdio.env.values())),
        };
        let oauth = oauth.into_iter().flat_map(|oauth| [&oauth.client_id, &oauth.client_secret]);
        let headers = headers.iter().map(|(_, value)| value);
        first
            .into_iter()
            .chain(headers)
            .chain(oauth)
            .chain(args)
            .chain(env.into_iter().flatten())
            .flat_map(Template::references)
    }
}

// === impl Listener ===

impl Listener {
    /// Every reference in it.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]).flat_map(Template::references)
    }
}

// === impl Audit ===

impl Audit {
    /// Where a document has no `audit`: what is denied, and what happens to the data plane.
    pub fn unsaid() -> Self {
        let (allowed, outcomes) = (AuditMode::Off, AuditMode::Off);
        Self { allowed, denied: AuditMode::Async, outcomes, events: AuditMode::Async, ..Self::default() }
    }
}

impl Default for Audit {
    /// Of the keys that `audit` leaves out. A default never changes within one document version.
    fn default() -> Self {
        Self {
            allowed: AuditMode::Durable,
            denied: AuditMode::Durable,
            outcomes: AuditMode::Async,
            events: AuditMode::Durable,
            arguments: AuditArguments::Redacted,
            responses: AuditResponses::Off,
            secrets: BTreeSet::new(),
            retention: Duration::from_secs(90 * 24 * 60 * 60),
        }
    }
}

// === impl AuditMode ===

impl AuditMode {
    pub const ALL: &'static [Self] = &[Self::Durable, Self::Async, Self::Off];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Async => "async",
            Self::Off => "off",
        }
    }
}

// === impl AuditArguments ===

impl AuditArguments {
    pub const ALL: &'static [Self] = &[Self::Redacted, Self::Digest];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redacted => "redacted",
            Self::Digest => "digest",
        }
    }
}

// === impl AuditResponses ===

impl AuditResponses {
    pub const ALL: &'static [Self] = &[Self::Off, Self::Digest, Self::Redacted];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Digest => "digest",
            Self::Redacted => "redacted",
        }
    }
}

// === impl Share ===

impl Share {
    pub const ALL: &'static [Self] = &[Self::Session, Self::Mount];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Mount => "mount",
        }
    }
}

// === impl ProtocolPin ===

impl ProtocolPin {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Revision(revision) => revision.as_str(),
        }
    }

    /// Every value that a document may hold.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Auto).chain(ProtocolRevision::ALL.iter().copied().map(Self::Revision))
    }
}

// === impl ProtocolRevision ===

impl ProtocolRevision {
    pub const ALL: &'static [Self] =
        &[Self::V20241105, Self::V20250326, Self::V20250618, Self::V20251125, Self::V20260728];

    /// The date, as the protocol writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V20241105 => "2024-11-05",
            Self::V20250326 => "2025-03-26",
            Self::V20250618 => "2025-06-18",
            Self::V20251125 => "2025-11-25",
            Self::V20260728 => "2026-07-28",
        }
    }
}

// === impl Timeouts ===

impl Default for Timeouts {
    /// A default never changes within one document version: canonical parts leave defaults out.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(5 * 60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(60 * 60),
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: limits::UPSTREAM_IN_FLIGHT_MAX }
    }
}
