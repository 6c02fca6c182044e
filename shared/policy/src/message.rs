//! A message as rules see it: what is asked of whom, by whom. Read from the bytes that will be sent, by whoever sends them.

use crate::caller::Caller;

/// One message, before it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub method: &'a str,
    /// It makes an upstream do or reveal something. What only keeps a conversation going (handshakes, lists, answers,
    /// notifications) is none, and is judged by rules that name its method alone.
    pub is_call: bool,
    pub target: Target<'a>,
    pub caller: &'a Caller,
    /// The mount that the caller asked.
    pub mount: &'a str,
    /// The upstream that it would be sent to; none where it stays in the data plane.
    pub upstream: Option<&'a str>,
}

/// What a message acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    Nothing,
    Tool(&'a str),
    Prompt(&'a str),
    /// A URI, or the template of URIs.
    Resource(&'a str),
}

/// The kinds of targets that patterns are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    Tool,
    Prompt,
    Resource,
}

// === impl Target ===

impl<'a> Target<'a> {
    pub fn named(self) -> Option<(TargetKind, &'a str)> {
        match self {
            Self::Nothing => None,
            Self::Tool(name) => Some((TargetKind::Tool, name)),
            Self::Prompt(name) => Some((TargetKind::Prompt, name)),
            Self::Resource(uri) => Some((TargetKind::Resource, uri)),
        }
    }
}

// === impl TargetKind ===

impl TargetKind {
    /// As the keys of a rule's `match` have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
        }
    }
}
