//! The document as it is written. These types are the one definition of its shape: they are read from it, and the JSON
//! Schema and the reference are generated from them, comments included.
//!
//! Nothing is required and nothing is checked here but shape; `validate` says what is missing and what is wrong.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use crate::located::{Entries, Located};

/// The name by which the deserializer recognises a [`RawDuration`].
pub(crate) const DURATION: &str = "$ostler::Duration";

/// A config document of Ostler: the MCP servers that a fleet of data planes serves, and under which names. Everything in it
/// is applied without a restart.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Config")]
pub(crate) struct RawDocument {
    /// The language of the document.
    #[schemars(required, extend("const" = 1))]
    pub(crate) version: Option<Located<i64>>,
    /// The MCP servers, by name. A name is a permanent id; renaming is removing and adding.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) upstreams: Option<Located<Entries<RawUpstream>>>,
    /// Short for one upstream named `default` that also owns the bare path `/mcp`.
    pub(crate) upstream: Option<Located<RawUpstream>>,
    /// Mounts in addition to the automatic ones: `/mcp/<name>` leads to the upstream.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) mounts: Option<Located<Entries<RawMount>>>,
    /// Several mounts at one endpoint: `/mcp/<name>` has the tools, prompts and resources of all of them, each under the name
    /// of its mount. A bundle's name is no other's, be it a mount or an upstream.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) bundles: Option<Located<Entries<RawBundle>>>,
    /// Further addresses for MCP clients, by name, beside the data plane's own `--listen`. A data plane that takes its config
    /// from control opens only what its `--allow-listen` names.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) listeners: Option<Located<Entries<RawListener>>>,
    /// The mount or bundle that also owns the bare path `/mcp`. Without it the bare path is answered with `unknown_mount`.
    pub(crate) default_mount: Option<Located<String>>,
}

/// One MCP server: exactly one of `http`, `sse` and `stdio`, and how to treat it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upstream", extend("oneOf" = [{ "required": ["http"] }, { "required": ["sse"] }, { "required": ["stdio"] }]))]
pub(crate) struct RawUpstream {
    /// Reached over HTTP.
    pub(crate) http: Option<Located<RawHttp>>,
    /// Reached over HTTP+SSE, the transport of 2024-11-05.
    pub(crate) sse: Option<Located<RawSse>>,
    /// A child process of the data plane.
    pub(crate) stdio: Option<Located<RawStdio>>,
    /// Headers sent with every request to an `http` or `sse` upstream. Values may hold references: `Bearer ${NAME}`,
    /// `${file:/run/secrets/name}`.
    pub(crate) headers: Option<Located<Entries<String>>>,
    /// The protocol revision to ask for where the data plane itself shakes hands, that is, with `share: mount`. Elsewhere
    /// the client's own revision passes through.
    #[schemars(extend("enum" = protocols(), "default" = "auto"))]
    pub(crate) protocol: Option<Located<String>>,
    /// How long each step of a call may take.
    pub(crate) timeouts: Option<Located<RawTimeouts>>,
    /// How much of it may be used at once.
    pub(crate) limits: Option<Located<RawLimits>>,
    /// Whether it is mounted under its own name.
    #[schemars(extend("default" = true))]
    pub(crate) mount: Option<Located<bool>>,
}

/// An MCP server behind a URL, with Streamable HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Http")]
pub(crate) struct RawHttp {
    /// `http://` or `https://`, without user, password and fragment. May hold references.
    #[schemars(required, length(min = 1))]
    pub(crate) url: Option<Located<String>>,
}

/// An MCP server behind a URL, with HTTP+SSE: a stream that says where to send messages. Each client session has a stream of its
/// own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sse")]
pub(crate) struct RawSse {
    /// Of the stream: `http://` or `https://`, without user, password and fragment. May hold references. Messages are sent to
    /// the same origin and nowhere else.
    #[schemars(required, length(min = 1))]
    pub(crate) url: Option<Located<String>>,
}

/// An MCP server that the data plane starts and speaks with over standard input and output.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Stdio")]
pub(crate) struct RawStdio {
    /// The program: a name that is looked up in `PATH`, or a path. It is run as it is, without a shell. A data plane that
    /// takes its config from control runs only what its `--allow-command` names.
    #[schemars(required, length(min = 1))]
    pub(crate) command: Option<Located<String>>,
    /// Its arguments. They may hold references.
    pub(crate) args: Option<Located<Vec<Located<String>>>>,
    /// Variables added to the child's minimal environment. Values may hold references.
    pub(crate) env: Option<Located<Entries<String>>>,
    /// The folder it is started in; the data plane's own without it.
    pub(crate) cwd: Option<Located<String>>,
    /// `session` starts a child for each client session, `mount` one child for all of them.
    #[schemars(extend("enum" = ["session", "mount"], "default" = "session"))]
    pub(crate) share: Option<Located<String>>,
    /// Start the child when the config is applied instead of on first use, again whenever it ends, and keep it when nobody
    /// uses it. Needs `share: mount`.
    #[schemars(extend("default" = false))]
    pub(crate) warm: Option<Located<bool>>,
}

/// How long each step of a call to an upstream may take. Streams that the server pushes have no limit of time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub(crate) struct RawTimeouts {
    /// Until the connection is made, TLS included.
    #[schemars(extend("default" = "5s"))]
    pub(crate) connect: Option<Located<RawDuration>>,
    /// Until the headers of the answer.
    #[schemars(extend("default" = "5m"))]
    pub(crate) answer: Option<Located<RawDuration>>,
    /// Between two bytes of a streamed answer.
    #[schemars(extend("default" = "1m"))]
    pub(crate) idle: Option<Located<RawDuration>>,
    /// For the whole call.
    #[schemars(extend("default" = "1h"))]
    pub(crate) total: Option<Located<RawDuration>>,
}

/// How much of an upstream may be used at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(crate) struct RawLimits {
    /// Calls under way at once on one data plane; one more is answered with `overloaded` at once.
    #[schemars(range(min = 1, max = 65535), extend("default" = 100))]
    pub(crate) in_flight: Option<Located<i64>>,
}

/// A further path that leads to an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Mount")]
pub(crate) struct RawMount {
    /// The name of the upstream.
    #[schemars(required)]
    pub(crate) upstream: Option<Located<String>>,
}

/// Several mounts at one endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bundle")]
pub(crate) struct RawBundle {
    /// Its mounts, in the order of its lists. A tool `create` of the mount `github` is `github__create` there.
    #[schemars(required, length(min = 1, max = 256))]
    pub(crate) mounts: Option<Located<Vec<Located<String>>>>,
}

/// An address at which MCP clients connect. Its socket stays open from version to version while the address stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub(crate) struct RawListener {
    /// IP address and port: `127.0.0.1:7410`, `[::1]:7410`. One that is not on loopback needs `tls`.
    #[schemars(required, length(min = 1))]
    pub(crate) address: Option<Located<String>>,
    /// Certificate and key; without them the listener speaks plain HTTP.
    pub(crate) tls: Option<Located<RawListenerTls>>,
    /// Host names that clients may use for it, beside its own address and the names of loopback.
    #[schemars(length(max = 64))]
    pub(crate) allowed_hosts: Option<Located<Vec<Located<String>>>>,
    /// The mounts and bundles that it serves; all without it.
    #[schemars(length(min = 1))]
    pub(crate) mounts: Option<Located<Vec<Located<String>>>>,
}

/// The certificate of a listener, from files where the data plane runs. They are watched: a renewed certificate is used for
/// the next connection, without a version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenerTls")]
pub(crate) struct RawListenerTls {
    /// The certificate chain (PEM), as `${file:/path}`.
    #[schemars(required, extend("pattern" = FILE_REFERENCE))]
    pub(crate) certificate: Option<Located<String>>,
    /// Its private key (PEM), as `${file:/path}`; a file that others can read is refused.
    #[schemars(required, extend("pattern" = FILE_REFERENCE))]
    pub(crate) key: Option<Located<String>>,
}

/// One `${file:…}` and nothing else.
const FILE_REFERENCE: &str = "^\\$\\{file:[^}]+\\}$";

/// A duration as text.
#[derive(Debug, Deserialize)]
#[serde(rename = "$ostler::Duration")]
pub(crate) struct RawDuration(pub(crate) String);

// === impl RawSse ===

impl RawSse {
    /// Its URL has the rules of any other.
    pub(crate) fn into_http(found: Located<Self>) -> Located<RawHttp> {
        Located { at: found.at, value: found.value.map(|sse| RawHttp { url: sse.url }) }
    }
}

// === impl RawDuration ===

impl JsonSchema for RawDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Whole numbers with a unit, the larger unit first: `500ms`, `5s`, `1m30s`, `2h`.",
            "pattern": "^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
        })
    }
}

fn name_rule() -> serde_json::Value {
    serde_json::json!({
        "pattern": "^(?!.*__)[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$",
    })
}

fn protocols() -> Vec<&'static str> {
    crate::validated::ProtocolPin::all().map(crate::validated::ProtocolPin::as_str).collect()
}
