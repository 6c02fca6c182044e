//! The dated revisions of MCP, and which of its two eras a message speaks.
//!
//! *Legacy* (up to 2025-11-25) has a handshake and sessions, *modern* (from 2026-07-28) carries everything in each
//! request. The era decides how a message is routed and bridged, so it is read from the body that goes upstream, and
//! from the header only where the body says nothing. It must never guess from a client's name.

use crate::envelope::{Envelope, Kind};
use crate::method;

/// The published revisions, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize`, then a session.
    Legacy,
    /// No handshake, no session; `_meta` on every request.
    Modern,
}

// === impl Revision ===

impl Revision {
    pub const ALL: [Revision; 5] = [
        Revision::V2024_11_05,
        Revision::V2025_03_26,
        Revision::V2025_06_18,
        Revision::V2025_11_25,
        Revision::V2026_07_28,
    ];
    pub const LATEST: Revision = Revision::V2026_07_28;
    /// The newest that still has `initialize`.
    pub const LATEST_LEGACY: Revision = Revision::V2025_11_25;

    pub fn parse(text: &str) -> Option<Revision> {
        Revision::ALL.into_iter().find(|revision| revision.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
            Revision::V2026_07_28 => "2026-07-28",
        }
    }

    pub const fn is_modern(self) -> bool {
        matches!(self.era(), Era::Modern)
    }

    pub const fn era(self) -> Era {
        match self {
            Revision::V2024_11_05 | Revision::V2025_03_26 | Revision::V2025_06_18 | Revision::V2025_11_25 => {
                Era::Legacy
            }
            Revision::V2026_07_28 => Era::Modern,
        }
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

// === impl Era ===

impl Era {
    /// The era of a message from a client. In order: what only one era has (batches, `initialize` unless its `_meta`
    /// names a modern version, the version in `_meta`, `server/discover`), then the header, then legacy. A version that
    /// is not known yet counts as modern, so that a modern upstream can answer with the versions it supports.
    pub fn of_request(envelope: &Envelope<'_>, protocol_version_header: Option<&str>) -> Era {
        if envelope.kind == Kind::Batch {
            return Era::Legacy;
        }
        if envelope.method == method::INITIALIZE {
            // Whoever says that it is of the era that has no handshake is told so.
            return envelope.meta.protocol_version.as_deref().map_or(Era::Legacy, Era::of_version);
        }
        if envelope.meta.protocol_version.is_some() || envelope.method == method::SERVER_DISCOVER {
            return Era::Modern;
        }
        match protocol_version_header {
            Some(version) => Era::of_version(version),
            None => Era::Legacy,
        }
    }

    /// The era of a server by its response to `server/discover`: modern when it is a result or an error of that era, unless
    /// the versions that such an error names are all legacy ones; otherwise what the specification calls legacy. An error
    /// in the server itself, as one that is just starting has, says nothing.
    pub fn of_discovery(response: &Envelope<'_>) -> Option<Era> {
        match (response.kind, response.error_code) {
            (Kind::Response { error: false }, _) => Some(Era::Modern),
            (Kind::Response { error: true }, Some(-32022)) => Some(Era::of_supported(response.error)),
            (Kind::Response { error: true }, Some(-32021 | -32020)) => Some(Era::Modern),
            (Kind::Response { error: true }, Some(-32603)) => None,
            (Kind::Response { error: true }, _) => Some(Era::Legacy),
            _ => None,
        }
    }

    /// Of an error's `data.supported`.
    fn of_supported(error: Option<&str>) -> Era {
        #[derive(serde::Deserialize)]
        struct Refusal {
            data: Data,
        }
        #[derive(serde::Deserialize)]
        struct Data {
            supported: Vec<String>,
        }
        let refusal: Option<Refusal> = error.and_then(|error| serde_json::from_str(error).ok());
        let supported = refusal.map_or_else(Vec::new, |refusal| refusal.data.supported);
        let is_legacy = |version: &String| Era::of_version(version) == Era::Legacy;
        if !supported.is_empty() && supported.iter().all(is_legacy) { Era::Legacy } else { Era::Modern }
    }

    /// The era of a version string. Versions are dates, so an unknown one is placed by comparing text; what is no
    /// date is legacy, where an unsupported version is the upstream's to refuse.
    pub fn of_version(version: &str) -> Era {
        match Revision::parse(version) {
            Some(revision) => revision.era(),
            None if is_date(version) && version >= Revision::V2026_07_28.as_str() => Era::Modern,
            None => Era::Legacy,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        }
    }
}

impl std::fmt::Display for Era {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests;
