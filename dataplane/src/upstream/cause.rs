//! Why a mount is in the state it is in: every word that `/mounts`, control and the docs show, in one table. The words
//! are stable; programs may go by them.

use std::fmt;

use serde::{Serialize, Serializer};

/// The reason of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    NotContacted,
    Answered,
    ProbeAnswered,
    DnsFailed,
    Refused,
    Unreachable,
    Reset,
    ConnectTimeout,
    ConnectFailed,
    TlsFailed,
    TlsSetupFailed,
    OwnListener,
    HandshakeFailed,
    ClosedBeforeRequest,
    ConnectionLost,
    NotHttp,
    HeadTooLarge,
    AnswerTimeout,
    IdleTimeout,
    TotalTimeout,
    ProbeTimeout,
    ProbeFailed,
    Http5xx,
    Unauthorized,
    RateLimited,
    InvalidAnswer,
    HttpSse,
    SpawnFailed,
    ChildExited,
    ChildSilent,
    LineTooLong,
    InitializeRefused,
    InitializeTimeout,
    SecretUnresolved,
    CredentialUnavailable,
    MembersDown,
    KillSwitch,
    Removed,
    Replaced,
}

/// One row of the table.
struct Facts {
    word: &'static str,
    meaning: &'static str,
}

const fn facts(word: &'static str, meaning: &'static str) -> Facts {
    Facts { word, meaning }
}

// === impl Cause ===

impl Cause {
    pub const ALL: [Self; 39] = [
        Self::NotContacted,
        Self::Answered,
        Self::ProbeAnswered,
        Self::DnsFailed,
        Self::Refused,
        Self::Unreachable,
        Self::Reset,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::TlsFailed,
        Self::TlsSetupFailed,
        Self::OwnListener,
        Self::HandshakeFailed,
        Self::ClosedBeforeRequest,
        Self::ConnectionLost,
        Self::NotHttp,
        Self::HeadTooLarge,
        Self::AnswerTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::ProbeTimeout,
        Self::ProbeFailed,
        Self::Http5xx,
        Self::Unauthorized,
        Self::RateLimited,
        Self::InvalidAnswer,
        Self::HttpSse,
        Self::SpawnFailed,
        Self::ChildExited,
        Self::ChildSilent,
        Self::LineTooLong,
        Self::InitializeRefused,
        Self::InitializeTimeout,
        Self::SecretUnresolved,
        Self::CredentialUnavailable,
        Self::MembersDown,
        Self::KillSwitch,
        Self::Removed,
        Self::Replaced,
    ];

    pub const fn as_str(self) -> &'static str {
        self.facts().word
    }

    const fn facts(self) -> Facts {
        match self {
            Self::NotContacted => facts("not_contacted", "neither a call nor a probe has been sent yet"),
            Self::Answered => facts("answered", "a call was answered"),
            Self::ProbeAnswered => facts("probe_answered", "a probe was answered"),
            Self::DnsFailed => facts("dns_failed", "the name in the URL did not resolve"),
            Self::Refused => facts("refused", "the connection was refused"),
            Self::Unreachable => facts("unreachable", "there is no way to the address"),
            Self::Reset => facts("reset", "the connection was reset while it was made"),
            Self::ConnectTimeout => facts("connect_timeout", "no connection within `timeouts.connect`"),
            Self::ConnectFailed => {
                facts("connect_failed", "no connection, for another reason of the system's")
            }
            Self::TlsFailed => facts("tls_failed", "no TLS with the upstream: certificate, name or protocol"),
            Self::TlsSetupFailed => facts("tls_setup_failed", "this machine has no usable trust store"),
            Self::OwnListener => {
                facts("own_listener", "the address is one of Ostler's own ports; correct the URL")
            }
            Self::HandshakeFailed => facts("handshake_failed", "HTTP could not be started on the connection"),
            Self::ClosedBeforeRequest => {
                facts("closed_before_request", "a new connection was closed before the request was sent")
            }
            Self::ConnectionLost => {
                facts("connection_lost", "the connection ended before the answer was complete")
            }
            Self::NotHttp => facts("not_http", "what was answered is not HTTP, or breaks its framing"),
            Self::HeadTooLarge => facts("head_too_large", "the head of the answer is larger than 32 KiB"),
            Self::AnswerTimeout => facts("answer_timeout", "no answer within `timeouts.answer`"),
            Self::IdleTimeout => facts("idle_timeout", "an answer paused for longer than `timeouts.idle`"),
            Self::TotalTimeout => facts("total_timeout", "an answer took longer than `timeouts.total`"),
            Self::ProbeTimeout => facts("probe_timeout", "a probe was not answered in time"),
            Self::ProbeFailed => facts("probe_failed", "a probe could not be made"),
            Self::Http5xx => facts("http_5xx", "a 5xx without a JSON-RPC message"),
            Self::Unauthorized => facts(
                "unauthorized",
                "401 or 403: the credentials under `headers` or `oauth` of the upstream are refused",
            ),
            Self::RateLimited => facts("rate_limited", "a probe was answered with 429"),
            Self::InvalidAnswer => {
                facts("invalid_answer", "an answer was no MCP message, or answered another request")
            }
            Self::HttpSse => facts(
                "http_sse",
                "the server speaks HTTP+SSE of 2024-11-05: its URL belongs under `sse:`, not under `http:`",
            ),
            Self::SpawnFailed => facts("spawn_failed", "the command did not start"),
            Self::ChildExited => facts("child_exited", "the process ended or closed its pipes"),
            Self::ChildSilent => facts(
                "child_silent",
                "the process let a call time out, did not answer a ping either and was ended",
            ),
            Self::LineTooLong => facts("line_too_long", "the process wrote an endless message and was ended"),
            Self::InitializeRefused => facts("initialize_refused", "the process refused its greeting"),
            Self::InitializeTimeout => facts("initialize_timeout", "the process did not answer its greeting"),
            Self::SecretUnresolved => {
                facts("secret_unresolved", "a reference in the config has no value here")
            }
            Self::CredentialUnavailable => facts(
                "credential_unavailable",
                "no token was to be had from the authorization server under `oauth` of the upstream",
            ),
            Self::MembersDown => {
                facts("members_down", "mounts of the bundle are down; the others are served")
            }
            Self::KillSwitch => {
                facts("kill_switch", "an operator has stopped it; `ostler resume` lets it go on")
            }
            Self::Removed => facts("removed", "a newer config has no such mount; its last requests finish"),
            Self::Replaced => {
                facts("replaced", "a newer config gave the mount another upstream; its last requests finish")
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// `docs/reference/states.md`.
pub fn reference_markdown() -> String {
    let head = "\
# Reasons of a mount's state

<!-- Generated from dataplane/src/upstream/cause.rs. Do not edit: cargo xtask docs -->

The word beside a mount's state in `/mounts` of the admin port, in `ostler mounts` and in control's API. Which state it leads to, and how a
mount comes back, is in [recovery.md](../recovery.md).

| reason | what happened |
|---|---|
";
    let rows = Cause::ALL.map(|cause| format!("| `{cause}` | {} |\n", cause.facts().meaning));
    head.to_owned() + &rows.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_word_of_its_own() {
        let mut words: Vec<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Cause::ALL.len());
    }
}
