//! What an agent is told when it is refused: codes, reasons, statuses, and the body that carries them.
//!
//! One table feeds the answers and `docs/reference/errors.md`. The specification's codes keep their meaning; Ostler's
//! own lie outside JSON-RPC's reserved range (-32768 to -32000), since -32099 to -32020 belong to the specification and
//! the rest is taken. A message never holds a secret, an upstream's challenge or an address; the reason is stable.

mod body;
mod reference;

pub use self::body::ErrorBody;
pub use self::reference::reference_markdown;

// JSON-RPC 2.0.
pub const PARSE_ERROR: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
pub const INTERNAL_ERROR: i32 = -32603;
// MCP 2026-07-28.
pub const HEADER_MISMATCH: i32 = -32020;
pub const MISSING_REQUIRED_CLIENT_CAPABILITY: i32 = -32021;
pub const UNSUPPORTED_PROTOCOL_VERSION: i32 = -32022;
// MCP up to 2025-11-25; must not be sent to a modern client.
pub const LEGACY_RESOURCE_NOT_FOUND: i32 = -32002;
// Ostler.
/// Held for refusals by policy, approval, limit, budget, drift, evidence and kill switch.
pub const GOVERNED: i32 = -31001;
pub const UPSTREAM_UNAVAILABLE: i32 = -31003;
pub const UPSTREAM_TIMEOUT: i32 = -31004;
pub const UPSTREAM_INVALID_RESPONSE: i32 = -31005;
pub const UNKNOWN_MOUNT: i32 = -31010;
pub const OVERLOADED: i32 = -31029;

/// Why the data plane answers with an error of its own. The name in `data.reason` never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    PolicyDenied,
    KillSwitch,
    AuditUnavailable,
    UnknownMount,
    UpstreamUnavailable,
    UpstreamUnauthorized,
    UpstreamTimeout,
    UpstreamInvalidResponse,
    Overloaded,
    ParseError,
    InvalidRequest,
    InvalidParams,
    MethodNotFound,
    HeaderMismatch,
    MissingClientCapability,
    UnsupportedProtocolVersion,
    SessionRequired,
    SessionNotFound,
    ForeignOrigin,
    ForeignHost,
    Unauthorized,
    InsufficientScope,
    MountNotPermitted,
    IdentityUnresolved,
    MethodNotAllowed,
    NotAcceptable,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    HeadersTooLarge,
    InternalError,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `data.reason`.
    pub name: &'static str,
    /// `error.code`.
    pub code: i32,
    /// HTTP status, unless a stream has begun.
    pub status: u16,
    /// `data.retryable`: the same request may succeed later without anybody changing it.
    pub retryable: bool,
    /// One line; the default `error.message`.
    pub meaning: &'static str,
    /// One line; what to do.
    pub remedy: &'static str,
}

// === impl Reason ===

impl Reason {
    pub const ALL: [Reason; 31] = [
        Reason::PolicyDenied,
        Reason::KillSwitch,
        Reason::AuditUnavailable,
        Reason::UnknownMount,
        Reason::UpstreamUnavailable,
        Reason::UpstreamUnauthorized,
        Reason::UpstreamTimeout,
        Reason::UpstreamInvalidResponse,
        Reason::Overloaded,
        Reason::ParseError,
        Reason::InvalidRequest,
        Reason::InvalidParams,
        Reason::MethodNotFound,
        Reason::HeaderMismatch,
        Reason::MissingClientCapability,
        Reason::UnsupportedProtocolVersion,
        Reason::SessionRequired,
        Reason::SessionNotFound,
        Reason::ForeignOrigin,
        Reason::ForeignHost,
        Reason::Unauthorized,
        Reason::InsufficientScope,
        Reason::MountNotPermitted,
        Reason::IdentityUnresolved,
        Reason::MethodNotAllowed,
        Reason::NotAcceptable,
        Reason::BodyTimeout,
        Reason::BodyTooLarge,
        Reason::UnsupportedMediaType,
        Reason::HeadersTooLarge,
        Reason::InternalError,
    ];

    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    pub const fn code(self) -> i32 {
        self.facts().code
    }

    pub const fn status(self) -> u16 {
        self.facts().status
    }

    pub const fn retryable(self) -> bool {
        self.facts().retryable
    }

    pub const fn facts(self) -> Facts {
        match self {
            Reason::PolicyDenied => Facts {
                name: "policy_denied",
                code: GOVERNED,
                status: 200,
                retryable: false,
                meaning: "the policy of this data plane denies the call",
                remedy: "do what data.suggestion says, or ask an operator about the rule that data.rule names",
            },
            Reason::KillSwitch => Facts {
                name: "kill_switch",
                code: GOVERNED,
                status: 200,
                retryable: false,
                meaning: "an operator has stopped the tool, the mount, the caller or the whole fleet",
                remedy: "ask the operator; `ostler kills` shows what is stopped and why, `ostler resume` lets it go on",
            },
            Reason::AuditUnavailable => Facts {
                name: "audit_unavailable",
                code: GOVERNED,
                status: 200,
                retryable: true,
                meaning: "the call was not sent, because its audit record could not be kept",
                remedy: "retry later; an operator looks at the disk of the data plane's state folder, and at its way to control",
            },
            Reason::UnknownMount => Facts {
                name: "unknown_mount",
                code: UNKNOWN_MOUNT,
                status: 404,
                retryable: false,
                meaning: "no mount has this path",
                remedy: "use /mcp/<mount> or /sse/<mount> with a name from available_mounts; the bare path needs a default_mount",
            },
            Reason::UpstreamUnavailable => Facts {
                name: "upstream_unavailable",
                code: UPSTREAM_UNAVAILABLE,
                status: 200,
                retryable: true,
                meaning: "the upstream is down or refuses connections",
                remedy: "retry after retry_after_ms; the mount recovers by itself, /mounts on the admin port says why it is down",
            },
            Reason::UpstreamUnauthorized => Facts {
                name: "upstream_unauthorized",
                code: UPSTREAM_UNAVAILABLE,
                status: 200,
                retryable: false,
                meaning: "the upstream refused the credentials of this mount",
                remedy: "an operator corrects the upstream's headers or the secret they refer to",
            },
            Reason::UpstreamTimeout => Facts {
                name: "upstream_timeout",
                code: UPSTREAM_TIMEOUT,
                status: 200,
                retryable: true,
                meaning: "the upstream did not answer in time",
                remedy: "retry if the call is safe to repeat, it may have been executed; or raise the upstream's timeouts",
            },
            Reason::UpstreamInvalidResponse => Facts {
                name: "upstream_invalid_response",
                code: UPSTREAM_INVALID_RESPONSE,
                status: 200,
                retryable: false,
                meaning: "the upstream's answer is not a valid MCP message for this request",
                remedy: "see the data plane's log for what was wrong and report it to the upstream's authors",
            },
            Reason::Overloaded => Facts {
                name: "overloaded",
                code: OVERLOADED,
                status: 429,
                retryable: true,
                meaning: "this mount or data plane has no room for another request",
                remedy: "retry after Retry-After; an operator may raise limits.in_flight or --buffer-bytes",
            },
            Reason::ParseError => Facts {
                name: "parse_error",
                code: PARSE_ERROR,
                status: 400,
                retryable: false,
                meaning: "the body is not JSON in UTF-8",
                remedy: "send one JSON-RPC message; the message names the byte",
            },
            Reason::InvalidRequest => Facts {
                name: "invalid_request",
                code: INVALID_REQUEST,
                status: 400,
                retryable: false,
                meaning: "the body is not an acceptable JSON-RPC 2.0 message",
                remedy: "correct what the message names: keys held twice and deep nesting are refused too",
            },
            Reason::InvalidParams => Facts {
                name: "invalid_params",
                code: INVALID_PARAMS,
                status: 400,
                retryable: false,
                meaning: "a required parameter is missing or has the wrong type",
                remedy: "send the parameter that the message names",
            },
            Reason::MethodNotFound => Facts {
                name: "method_not_found",
                code: METHOD_NOT_FOUND,
                status: 404,
                retryable: false,
                meaning: "this method does not exist in the protocol revision that the request speaks",
                remedy: "use a method of that revision",
            },
            Reason::HeaderMismatch => Facts {
                name: "header_mismatch",
                code: HEADER_MISMATCH,
                status: 400,
                retryable: false,
                meaning: "a header that mirrors the body is missing or says something else",
                remedy: "derive MCP-Protocol-Version, Mcp-Method and Mcp-Name from the body that is sent",
            },
            Reason::MissingClientCapability => Facts {
                name: "missing_client_capability",
                code: MISSING_REQUIRED_CLIENT_CAPABILITY,
                status: 400,
                retryable: false,
                meaning: "the request needs a capability that the client did not declare",
                remedy: "declare what data.requiredCapabilities names, or do without the call",
            },
            Reason::UnsupportedProtocolVersion => Facts {
                name: "unsupported_protocol_version",
                code: UNSUPPORTED_PROTOCOL_VERSION,
                status: 400,
                retryable: false,
                meaning: "this protocol version is not supported",
                remedy: "use one from data.supported",
            },
            Reason::SessionRequired => Facts {
                name: "session_required",
                code: INVALID_REQUEST,
                status: 400,
                retryable: false,
                meaning: "the request needs the Mcp-Session-Id that initialize answered with",
                remedy: "send initialize first, then the header on every request",
            },
            Reason::SessionNotFound => Facts {
                name: "session_not_found",
                code: INVALID_REQUEST,
                status: 404,
                retryable: false,
                meaning: "no session of this mount and caller has this Mcp-Session-Id",
                remedy: "send initialize without a session id and go on with the new one",
            },
            Reason::ForeignOrigin => Facts {
                name: "foreign_origin",
                code: INVALID_REQUEST,
                status: 403,
                retryable: false,
                meaning: "the Origin header names a site that may not use this listener",
                remedy: "call from an allowed origin, or without Origin from outside a browser",
            },
            Reason::ForeignHost => Facts {
                name: "foreign_host",
                code: INVALID_REQUEST,
                status: 403,
                retryable: false,
                meaning: "the Host header names another host than this listener serves",
                remedy: "call the address that the data plane printed when it started",
            },
            Reason::Unauthorized => Facts {
                name: "unauthorized",
                code: INVALID_REQUEST,
                status: 401,
                retryable: false,
                meaning: "the request needs a credential, or its credential is not valid here",
                remedy: "send Authorization: Bearer with an API key or a token of a server that WWW-Authenticate leads to",
            },
            Reason::InsufficientScope => Facts {
                name: "insufficient_scope",
                code: INVALID_REQUEST,
                status: 403,
                retryable: false,
                meaning: "the credential lacks a scope that this mount wants",
                remedy: "get a token with the scopes that WWW-Authenticate names",
            },
            Reason::MountNotPermitted => Facts {
                name: "mount_not_permitted",
                code: INVALID_REQUEST,
                status: 403,
                retryable: false,
                meaning: "the credential is good for other mounts",
                remedy: "use one of those, or another credential; an operator limits keys with mounts",
            },
            Reason::IdentityUnresolved => Facts {
                name: "identity_unresolved",
                code: INVALID_REQUEST,
                status: 403,
                retryable: false,
                meaning: "the request says in none of the ways that config names who calls",
                remedy: "send what identity.sources names; an operator may write on_unresolved: anonymous",
            },
            Reason::MethodNotAllowed => Facts {
                name: "method_not_allowed",
                code: INVALID_REQUEST,
                status: 405,
                retryable: false,
                meaning: "this path does not take this HTTP method",
                remedy: "use POST; GET and DELETE are for legacy sessions only",
            },
            Reason::NotAcceptable => Facts {
                name: "not_acceptable",
                code: INVALID_REQUEST,
                status: 406,
                retryable: false,
                meaning: "the client does not accept what MCP answers with",
                remedy: "send Accept: application/json, text/event-stream",
            },
            Reason::BodyTimeout => Facts {
                name: "body_timeout",
                code: INVALID_REQUEST,
                status: 408,
                retryable: true,
                meaning: "the request's body did not arrive in time",
                remedy: "send the whole body at once",
            },
            Reason::BodyTooLarge => Facts {
                name: "body_too_large",
                code: INVALID_REQUEST,
                status: 413,
                retryable: false,
                meaning: "the request's body is larger than the data plane accepts",
                remedy: "send less in one message, or refer to a resource",
            },
            Reason::UnsupportedMediaType => Facts {
                name: "unsupported_media_type",
                code: INVALID_REQUEST,
                status: 415,
                retryable: false,
                meaning: "the body's Content-Type is not application/json, or it has a Content-Encoding",
                remedy: "send Content-Type: application/json, without a content encoding",
            },
            Reason::HeadersTooLarge => Facts {
                name: "headers_too_large",
                code: INVALID_REQUEST,
                status: 431,
                retryable: false,
                meaning: "the request's headers are larger than the data plane accepts",
                remedy: "send fewer or shorter headers",
            },
            Reason::InternalError => Facts {
                name: "internal_error",
                code: INTERNAL_ERROR,
                status: 500,
                retryable: false,
                meaning: "the data plane failed on this request, and on this one alone",
                remedy: "report it with the request_id, by which the log names the cause",
            },
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl From<&crate::EnvelopeError> for Reason {
    fn from(error: &crate::EnvelopeError) -> Reason {
        match error.kind {
            crate::envelope::ErrorKind::Parse => Reason::ParseError,
            crate::envelope::ErrorKind::Invalid => Reason::InvalidRequest,
        }
    }
}

/// `Retry-After` for a wait in milliseconds: whole seconds, at least one.
pub fn retry_after_seconds(retry_after_ms: u64) -> u64 {
    retry_after_ms.div_ceil(1_000).max(1)
}

#[cfg(test)]
mod tests;
