//! The document as it is written. These types are the one definition of its shape: they are read from it, and the JSON
//! Schema and the reference are generated from them, comments included.
//!
//! Nothing is required and nothing is checked here but shape; `validate` says what is missing and what is wrong.

mod auth;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::located::{Entries, Located};

pub(crate) use auth::{
    RawApiKey, RawAuth, RawIdentity, RawIssuer, RawListenerAccess, RawMountAccess, RawSource,
};

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
    /// What this config is for, such as `production`: rules and records name it.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) environment: Option<Located<String>>,
    /// What callers may do. Without it everything is allowed that a mount offers.
    pub(crate) policy: Option<Located<RawPolicy>>,
    /// What the data planes write down of the calls they decide. Without it, only what is denied and what happens to the
    /// data plane itself is.
    pub(crate) audit: Option<Located<RawAudit>>,
    /// The mount or bundle that also owns the bare path `/mcp`. Without it the bare path is answered with `unknown_mount`.
    pub(crate) default_mount: Option<Located<String>>,
    /// Who may use the mounts.
    pub(crate) auth: Option<Located<RawAuth>>,
    /// What callers are called.
    pub(crate) identity: Option<Located<RawIdentity>>,
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
    /// How the data plane gets its own token for an `http` or `sse` upstream.
    pub(crate) oauth: Option<Located<RawOauth>>,
    /// What the upstream speaks: the era of this revision and no other, and this revision where the data plane itself shakes
    /// hands. `auto` finds the era out. A client that shakes hands with the upstream does so with its own revision.
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

/// OAuth client credentials (RFC 6749 section 4.4): the token is fetched in the background, sent as `Authorization: Bearer`, and fetched
/// again before it expires. Clients' own credentials are never sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Oauth")]
pub(crate) struct RawOauth {
    /// The token endpoint of the authorization server, `https://`; plain `http://` on loopback alone.
    #[schemars(required, length(min = 1))]
    pub(crate) url: Option<Located<String>>,
    /// May hold references.
    #[schemars(required, length(min = 1))]
    pub(crate) client_id: Option<Located<String>>,
    /// A reference: `${NAME}`, `${file:/run/secrets/name}`. It is sent as RFC 6749 section 2.3.1 has it, in an `Authorization: Basic` header.
    #[schemars(required, length(min = 1))]
    pub(crate) client_secret: Option<Located<String>>,
    /// What is asked for.
    #[schemars(length(min = 1))]
    pub(crate) scopes: Option<Located<Vec<Located<String>>>>,
    /// What the token is to be good for (RFC 8707), as MCP servers want it: the URL of the upstream. Not sent without it.
    pub(crate) resource: Option<Located<String>>,
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

/// What callers may do: rules in order, of which the first that matches a call decides.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(crate) struct RawPolicy {
    /// What becomes of a call that no rule matches.
    #[schemars(extend("enum" = ["allow", "deny"], "default" = "allow"))]
    pub(crate) default: Option<Located<String>>,
    /// Deny nothing, and note what would have been denied.
    #[schemars(extend("default" = false))]
    pub(crate) dry_run: Option<Located<bool>>,
    /// What becomes of a call of a tool that may destroy something, by what its server says or leaves out, if no rule matches
    /// it. Until a mount's tools are known, all of them count as such.
    #[schemars(extend("enum" = ["log", "deny"]))]
    pub(crate) flag_destructive: Option<Located<String>>,
    /// The rules, in their order.
    #[schemars(length(max = 4096))]
    pub(crate) rules: Option<Located<Vec<Located<RawRule>>>>,
}

/// One rule of a policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(crate) struct RawRule {
    /// What errors, logs and records call it; no other rule's. Without it they say its place, such as `rules[3]`.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) name: Option<Located<String>>,
    /// What a message must be like. All of what is given must hold; without it the rule matches every call.
    #[serde(rename = "match")]
    pub(crate) matches: Option<Located<RawMatch>>,
    /// What becomes of a message that it matches. `dry_run` notes that it would have been denied, and leaves it to the rules
    /// below.
    #[schemars(required, extend("enum" = ["allow", "deny", "dry_run"]))]
    pub(crate) action: Option<Located<String>>,
    /// What a denied caller is told, which may be a model.
    pub(crate) feedback: Option<Located<RawFeedback>>,
}

/// What a message must be like for a rule to match it. A pattern is text in which `*` stands for any characters and `?` for
/// one; case counts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Match")]
pub(crate) struct RawMatch {
    /// Patterns of tools, by the names that their own servers give them, in bundles too.
    pub(crate) tool: Option<Located<RawWords>>,
    /// Patterns of prompts.
    pub(crate) prompt: Option<Located<RawWords>>,
    /// Patterns of resources: their URIs, as their own servers have them.
    pub(crate) resource: Option<Located<RawWords>>,
    /// Patterns of methods. Without it a rule is about calls: `tools/call`, `prompts/get`, `resources/read`,
    /// `resources/subscribe`, `completion/complete`, and whatever is not known.
    pub(crate) method: Option<Located<RawWords>>,
    /// What the tool's server says of it, with the protocol's defaults for what it leaves out. A tool that is not known has the
    /// defaults, so it counts as one that may destroy something.
    pub(crate) annotations: Option<Located<RawAnnotations>>,
    /// What arguments must be like, by their path: keys joined with dots, and numbers for items of lists.
    pub(crate) arguments: Option<Located<Entries<RawTests>>>,
    /// Patterns of governance identities. An anonymous caller matches none.
    pub(crate) identity: Option<Located<RawWords>>,
    /// What claims of the caller's token must be like, by their path.
    pub(crate) claims: Option<Located<Entries<RawTests>>>,
    /// Names of upstreams, of which one must be that of the call.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) upstreams: Option<Located<Vec<Located<String>>>>,
    /// The config's `environment`; a rule for another one is refused.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) environment: Option<Located<String>>,
    /// An expression of CEL for the rest, such as `arguments.amount > 100 && "eng" in claims.groups`. One that cannot be
    /// evaluated denies.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) when: Option<Located<String>>,
}

/// Annotations of a tool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Annotations")]
pub(crate) struct RawAnnotations {
    /// It changes nothing.
    pub(crate) read_only_hint: Option<Located<bool>>,
    /// It may destroy something, and is not read-only.
    pub(crate) destructive_hint: Option<Located<bool>>,
    /// Calling it again changes nothing more.
    pub(crate) idempotent_hint: Option<Located<bool>>,
    /// It reaches beyond its server.
    pub(crate) open_world_hint: Option<Located<bool>>,
}

/// What one field must be like. All of what is given must hold. Of a field that is not there nothing holds but `exists: false`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tests")]
pub(crate) struct RawTests {
    /// Equal to this text, whole number or truth value.
    pub(crate) eq: Option<Located<RawScalar>>,
    /// There, and not equal to it.
    pub(crate) neq: Option<Located<RawScalar>>,
    /// A number greater than this. A value that is no number denies, as with `gte`, `lt` and `lte`.
    pub(crate) gt: Option<Located<i64>>,
    /// A number not less than this.
    pub(crate) gte: Option<Located<i64>>,
    /// A number less than this.
    pub(crate) lt: Option<Located<i64>>,
    /// A number not greater than this.
    pub(crate) lte: Option<Located<i64>>,
    /// Text that holds this text, or a list with it as an item.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) contains: Option<Located<String>>,
    /// Text in which this regular expression matches somewhere. It takes time in proportion to the text; text of more than
    /// 1 MiB denies.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) regex: Option<Located<String>>,
    /// Whether it is there.
    pub(crate) exists: Option<Located<bool>>,
}

/// A text, a whole number or a truth value.
#[derive(Debug)]
pub(crate) enum RawScalar {
    Bool(bool),
    Int(i64),
    Text(String),
}

/// What a denied caller is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Feedback")]
pub(crate) struct RawFeedback {
    /// Why, in place of the general sentence.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) message: Option<Located<String>>,
    /// What to do instead.
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) suggestion: Option<Located<String>>,
}

/// One word, or a list of them.
#[derive(Debug)]
pub(crate) enum RawWords {
    One(String),
    Several(Vec<Located<String>>),
}

/// What is written down, and what a call waits for. `durable`: the record is on disk before the call goes out, and a disk that
/// takes nothing denies the call with `audit_unavailable`. `async`: nothing waits; what cannot be written is counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Audit")]
pub(crate) struct RawAudit {
    /// Calls that go out.
    #[schemars(extend("enum" = audit_modes(), "default" = "durable"))]
    pub(crate) allowed: Option<Located<String>>,
    /// Calls that are denied.
    #[schemars(extend("enum" = audit_modes(), "default" = "durable"))]
    pub(crate) denied: Option<Located<String>>,
    /// How calls ended.
    #[schemars(extend("enum" = audit_modes(), "default" = "async"))]
    pub(crate) outcomes: Option<Located<String>>,
    /// What is no call: config that was applied or refused, kill switches, failures to authenticate.
    #[schemars(extend("enum" = audit_modes(), "default" = "durable"))]
    pub(crate) events: Option<Located<String>>,
    /// `redacted` keeps the arguments of a call without the values of secret fields, as far as they are small; `digest` keeps
    /// their SHA-256 and their size alone.
    #[schemars(extend("enum" = ["redacted", "digest"], "default" = "redacted"))]
    pub(crate) arguments: Option<Located<String>>,
    /// What is kept of the answer to a call, with its outcome: nothing, its SHA-256 and its size, or also what it says, as `arguments` does.
    #[schemars(extend("enum" = ["off", "digest", "redacted"], "default" = "off"))]
    pub(crate) responses: Option<Located<String>>,
    /// Names of fields of arguments and answers whose values are never written down, at whatever depth, in upper or lower case; with dots, a path
    /// from the top: `card.number`. Names such as `password`, `token` and `api_key` need not be listed.
    #[schemars(length(max = 256))]
    pub(crate) secrets: Option<Located<Vec<Located<String>>>>,
    /// How long a data plane without control keeps its records, and how long control keeps those that it was sent.
    #[schemars(extend("default" = "2160h"))]
    pub(crate) retention: Option<Located<RawDuration>>,
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

// === impl RawWords ===

impl<'de> Deserialize<'de> for RawWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;

        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = RawWords;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawWords, E> {
                Ok(RawWords::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawWords, A::Error> {
                let mut several = Vec::new();
                while let Some(word) = seq.next_element()? {
                    several.push(word);
                }
                Ok(RawWords::Several(several))
            }
        }

        deserializer.deserialize_any(WordsVisitor)
    }
}

impl JsonSchema for RawWords {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["string", "array"],
            "description": "One text, or a list of texts of which one has to match.",
            "minLength": 1,
            "maxLength": 512,
            "minItems": 1,
            "maxItems": 256,
            "items": { "type": "string", "minLength": 1, "maxLength": 512 },
        })
    }
}

// === impl RawScalar ===

impl<'de> Deserialize<'de> for RawScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl Visitor<'_> for ScalarVisitor {
            type Value = RawScalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a whole number or a truth value")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<RawScalar, E> {
                Ok(RawScalar::Bool(value))
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<RawScalar, E> {
                Ok(RawScalar::Int(value))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawScalar, E> {
                Ok(RawScalar::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl JsonSchema for RawScalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["string", "integer", "boolean"],
            "description": "A text, a whole number or a truth value.",
        })
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

pub(crate) fn name_rule() -> serde_json::Value {
    serde_json::json!({
        "pattern": "^(?!.*__)[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$",
    })
}

fn audit_modes() -> Vec<&'static str> {
    crate::validated::AuditMode::ALL.iter().map(|mode| mode.as_str()).collect()
}

fn protocols() -> Vec<&'static str> {
    crate::validated::ProtocolPin::all().map(crate::validated::ProtocolPin::as_str).collect()
}
