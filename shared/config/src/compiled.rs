//! A config as the data plane serves it: references resolved, names checked, digests attached. Nothing is left to be
//! looked up while serving a request.
//!
//! Values that came from a reference never appear in `Debug`; header values that came from one are marked sensitive.

mod auth;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use ostler_policy::Policy;

use crate::validated::{Audit, Limits, ProtocolPin, Share, Timeouts, Upstream};

pub use auth::{CompiledAuth, CompiledIssuer, CompiledKey, KeySource};

/// Everything that one snapshot of the data plane is built from.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Of the validated config; resolved values have no part in it.
    pub digest: Digest,
    pub upstreams: BTreeMap<ResourceName, Arc<CompiledUpstream>>,
    pub mounts: BTreeMap<ResourceName, Arc<CompiledMount>>,
    pub bundles: BTreeMap<ResourceName, Arc<CompiledBundle>>,
    pub listeners: BTreeMap<ResourceName, Arc<CompiledListener>>,
    /// With what holds where the document says nothing of it.
    pub audit: Arc<Audit>,
    /// The mount or bundle that owns the bare path.
    pub default_mount: Option<ResourceName>,
    /// What the config is for.
    pub environment: Option<Arc<str>>,
    pub policy: Option<Arc<Policy>>,
    /// Shared with the config before while it is the same.
    pub auth: Arc<CompiledAuth>,
}

#[derive(Debug, Clone)]
pub struct CompiledUpstream {
    pub name: ResourceName,
    pub transport: Transport,
    pub protocol: ProtocolPin,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// The first reference that could not be resolved, as written and without its default. Then the upstream must be
    /// down and its `transport` must not be used.
    pub unresolved: Option<String>,
    /// Of the part that this was compiled from: what changes when the operator changes anything.
    pub part: Digest,
    /// Of what makes the runtime itself: url (of `sse` with the headers), or command, args, env, cwd and share, with resolved values hashed in.
    /// While it stays, pools, sessions and children stay.
    pub identity: Digest,
    /// What it was compiled from, if that gives the same whenever it is compiled: no reference is in it.
    pub constant: Option<Arc<Upstream>>,
}

#[derive(Debug, Clone)]
pub enum Transport {
    Http(HttpTransport),
    /// HTTP+SSE, of 2024-11-05.
    Sse(HttpTransport),
    Stdio(StdioTransport),
    /// Other mounts of the same config.
    Bundle,
}

#[derive(Clone)]
pub struct HttpTransport {
    pub url: Uri,
    pub https: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    pub path_and_query: PathAndQuery,
    /// What `Host` says: see [`host_header`](Self::host_header).
    pub host_header: HeaderValue,
    /// Values of secret-bearing headers and all that came from a reference are marked sensitive.
    pub headers: HeaderMap,
    pub oauth: Option<Arc<ClientCredentials>>,
}

/// How the data plane gets its own token for an upstream.
#[derive(Debug)]
pub struct ClientCredentials {
    /// The token endpoint.
    pub endpoint: HttpTransport,
    pub client_id: SecretString,
    pub client_secret: SecretString,
    /// Separated by spaces; empty where none is asked for.
    pub scope: String,
    pub resource: Option<String>,
    /// Of all of the above.
    pub identity: Digest,
}

#[derive(Clone)]
pub struct StdioTransport {
    pub command: String,
    pub args: Vec<SecretString>,
    /// Sorted by name.
    pub env: Vec<(String, SecretString)>,
    pub cwd: Option<String>,
    pub share: Share,
    pub warm: bool,
    /// What references in `args` and `env` gave, and literals that are secret by their names: what the process may know and must not
    /// tell the log. None is shorter than [`SECRET_SHOWN_BYTES_MIN`](ostler_core::limits::SECRET_SHOWN_BYTES_MIN).
    pub secrets: Vec<SecretString>,
}

#[derive(Debug, Clone)]
pub struct CompiledMount {
    pub name: ResourceName,
    pub upstream: ResourceName,
    /// Of the part that this was compiled from: the mount's own, or the upstream's for an automatic one.
    pub part: Digest,
}

/// A bundle, as a mount whose upstream is other mounts.
#[derive(Debug, Clone)]
pub struct CompiledBundle {
    pub mount: Arc<CompiledMount>,
    /// Its identity is the bundle's name alone, so that sessions stay while members come and go. It waits as long as the most
    /// patient of its members does, and has as many places as all of them.
    pub upstream: Arc<CompiledUpstream>,
    /// Its mounts, in their order.
    pub members: Vec<ResourceName>,
}

#[derive(Debug, Clone)]
pub struct CompiledListener {
    pub name: ResourceName,
    pub address: SocketAddr,
    pub tls: Option<CompiledTls>,
    /// In lower case and without brackets.
    pub allowed_hosts: Vec<String>,
    /// The mounts and bundles that it serves; `None` for all.
    pub mounts: Option<BTreeSet<ResourceName>>,
    /// The first reference that could not be resolved, as written. Then the listener has no usable `tls`.
    pub unresolved: Option<String>,
    /// Of the part that this was compiled from.
    pub part: Digest,
}

/// The files of a listener's certificate, and what they held.
#[derive(Debug, Clone)]
pub struct CompiledTls {
    pub certificate: SecretFile,
    pub key: SecretFile,
}

/// A file behind a reference.
#[derive(Debug, Clone)]
pub struct SecretFile {
    pub path: PathBuf,
    pub text: SecretString,
}

/// Text that must not be printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretString(String);

// === impl SecretString ===

impl SecretString {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that hands it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl HttpTransport ===

impl HttpTransport {
    /// What `Host` says in requests to this URL; empty for one that names no host.
    pub fn host_header(url: &Uri) -> HeaderValue {
        let host = url.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        host.unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Debug for HttpTransport {
    /// Host, path and query may hold a resolved reference, and so they are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("https", &self.https)
            .field("port", &self.port)
            .field("headers", &self.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

// === impl StdioTransport ===

impl fmt::Debug for StdioTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioTransport")
            .field("command", &self.command)
            .field("args", &self.args.len())
            .field("env", &self.env.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("share", &self.share)
            .field("warm", &self.warm)
            .finish()
    }
}
