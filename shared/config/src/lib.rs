//! The one definition of a config document: text → Raw → [`Validated`] → [`Compiled`].
//!
//! [`judge_text`] and [`judge_parts`] are the only ways to a [`Validated`], so a file, the API, the stream and the disk
//! follow the same rules and give the same [`Diagnostic`]s, all of them at once. [`compile`] is the only way to a
//! [`Compiled`], and the only place where a `${…}` reference turns into its value.
//!
//! This crate must never keep, print, hash into a version or compare a resolved secret, and never do I/O except through
//! the [`Lookup`] that [`compile`] is given.

mod canonical;
mod codes;
mod compile;
mod compiled;
mod de;
mod diagnostic;
mod diff;
mod duration;
mod judge;
mod locate;
mod located;
mod node;
mod parse;
mod parts;
mod raw;
mod reference;
mod reference_md;
mod rejudge;
pub mod render;
mod reporter;
mod scalar;
mod schema;
mod secret;
mod validate;
mod validated;

#[cfg(test)]
mod tests;

pub use codes::Code;
pub use compile::{
    GlobError, GlobList, Host, Lookup, ProcessLookup, Unresolved, compile, recompile, unbindable,
    unusable_tls,
};
pub use compiled::{
    ClientCredentials, Compiled, CompiledAuth, CompiledBundle, CompiledIssuer, CompiledKey, CompiledListener,
    CompiledMount, CompiledTls, CompiledUpstream, HttpTransport, KeySource, SecretFile, SecretString,
    StdioTransport, Transport,
};
pub use diagnostic::{Diagnostic, Judged, Report, Severity};
pub use diff::{Change, ChangeKind, diff};
pub use duration::parse as parse_duration;
pub use judge::{judge_parts, judge_text};
pub use locate::locate;
pub use parts::{Part, PartKind, digest_of_parts};
pub use reference::{Reference, Source as ReferenceSource, Template, TemplateError};
pub use reference_md::reference_markdown;
pub use rejudge::{Rejudged, rejudge_parts};
pub use schema::schema;
pub use validate::listener::overlap;
pub use validated::{
    Accept, ApiKey, Auth, Identity, IdentitySource, Issuer, IssuerKeys, MountAccess, OnUnresolved,
};
pub use validated::{
    Audit, AuditArguments, AuditMode, AuditResponses, Bundle, HttpUpstream, Limits, Listener, ListenerTls,
    Mount, ProtocolPin, ProtocolRevision, Share, StdioUpstream, Timeouts, Upstream, UpstreamTransport,
    Validated,
};
