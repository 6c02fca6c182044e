//! What a session needs after a restart, as it is sealed into the journal. Fields are added with defaults; the journal's
//! format number is raised when the meaning of one changes (docs/decisions/0008).

use ostler_core::digest::Digest;
use ostler_core::limits::JOURNAL_RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// A session as it was. It holds what lets its bearer act as the client, so it has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Memo {
    /// The upstream that it stands on; on another one it means nothing.
    pub upstream: Digest,
    /// When the session began, so that nobody who can write the folder makes it younger. Builds before did not seal it.
    #[serde(default)]
    pub began_unix_ms: Option<u64>,
    /// Whom it belongs to, as a digest that the session's id is part of; nobody's where no credential was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Digest>,
    pub link: LinkMemo,
}

/// The upstream's side.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkMemo {
    Http(HttpMemo),
    Stdio(StdioMemo),
    Bridged(BridgedMemo),
}

/// A session at a Streamable HTTP upstream.
#[derive(Clone, Serialize, Deserialize)]
pub struct HttpMemo {
    /// The client's message, as it came.
    pub initialize: String,
    /// What was agreed on, if it is known.
    #[serde(default)]
    pub revision: Option<String>,
    /// What the upstream calls the session now.
    pub upstream_id: String,
    /// The requests that set what is set, oldest first.
    #[serde(default)]
    pub settings: Vec<String>,
}

/// A session with a child of its own, or with a seat at a shared one.
#[derive(Clone, Serialize, Deserialize)]
pub struct StdioMemo {
    /// The client's message, as it came; nothing for a seat, whose child is greeted by the data plane.
    #[serde(default)]
    pub initialize: Option<String>,
    /// What was agreed on, if it is known.
    #[serde(default)]
    pub revision: Option<String>,
    /// See [`HttpMemo::settings`].
    #[serde(default)]
    pub settings: Vec<String>,
}

/// A session on an upstream that has none.
#[derive(Clone, Serialize, Deserialize)]
pub struct BridgedMemo {
    /// The client's message, as it came.
    pub initialize: String,
    #[serde(default)]
    pub log_level: Option<String>,
    #[serde(default)]
    pub subscriptions: Vec<String>,
    /// Whether the client was told of anything that comes unasked.
    #[serde(default)]
    pub pushes: bool,
}

// === impl Memo ===

impl Memo {
    /// As JSON within [`JOURNAL_RECORD_BYTES_MAX`]; settings that do not fit are left out. Nothing where the rest is
    /// too large.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let fits = |bytes: &Vec<u8>| bytes.len() <= JOURNAL_RECORD_BYTES_MAX;
        let whole = serde_json::to_vec(self).ok()?;
        if fits(&whole) {
            return Some(whole);
        }
        let mut bare = self.clone();
        match &mut bare.link {
            LinkMemo::Http(memo) => memo.settings.clear(),
            LinkMemo::Stdio(memo) => memo.settings.clear(),
            LinkMemo::Bridged(memo) => memo.subscriptions.clear(),
        }
        serde_json::to_vec(&bare).ok().filter(fits)
    }

    /// Reads one; nothing where it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
