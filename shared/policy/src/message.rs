//! A message as rules see it: what is asked of whom, by whom. Read from the bytes that will be sent, by whoever sends them.

use crate::caller::Caller;
use crate::fields::Path;
use crate::json::{Looked, Node};

/// One message, before it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub method: &'a str,
    /// It makes an upstream do or reveal something. What only keeps a conversation going (handshakes, lists, answers,
    /// notifications) is none, and is judged by rules that name its method alone.
    pub is_call: bool,
    pub target: Target<'a>,
    pub arguments: Arguments<'a>,
    /// Of the tool; of what is none, or is not known, those that a server that says nothing has.
    pub annotations: Annotations,
    pub caller: &'a Caller,
    /// The mount that the caller asked.
    pub mount: &'a str,
    /// The upstream that it would be sent to; none where it stays in the data plane.
    pub upstream: Option<&'a str>,
    /// What the config is for.
    pub environment: Option<&'a str>,
}

/// What a call is made with.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    Known(&'a Known<'a>),
    /// It is only asked what could be called.
    Unknown,
}

/// Arguments as they stand in the message, read once for all rules.
#[derive(Debug, Default)]
pub struct Known<'a>(Looked<'a>);

/// What a server says of a tool of its own (2025-11-25, `ToolAnnotations`), with the defaults of what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Annotations {
    pub read_only: bool,
    /// Means something only of what is not read-only.
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

/// A field of the arguments.
pub(crate) enum Found<'a> {
    Unknown,
    Absent,
    There(Node<'a>),
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

// === impl Known ===

impl<'a> Known<'a> {
    /// `arguments`, raw; a call without any has none of their fields.
    pub fn new(raw: Option<&'a str>) -> Self {
        Self(Looked::new(raw))
    }

    pub(crate) fn node(&self) -> Node<'a> {
        self.0.node()
    }

    pub(crate) fn member(&self, key: &str) -> Option<Node<'a>> {
        self.0.member(key)
    }
}

// === impl Arguments ===

impl<'a> Arguments<'a> {
    pub(crate) fn find(self, path: &Path) -> Found<'a> {
        let Self::Known(known) = self else { return Found::Unknown };
        let mut steps = path.steps();
        let first = steps.next().and_then(|key| known.member(key));
        first.and_then(|node| down(node, steps)).map_or(Found::Absent, Found::There)
    }
}

/// Down from a value: by a key of an object, or by the number of a list's item.
pub(crate) fn down<'a, 'p>(node: Node<'a>, mut steps: impl Iterator<Item = &'p str>) -> Option<Node<'a>> {
    steps.try_fold(node, |node, step| {
        node.member(step).or_else(|| node.items()?.into_iter().nth(step.parse().ok()?))
    })
}

// === impl Annotations ===

impl Annotations {
    /// As the protocol writes them.
    pub const NAMES: [&'static str; 4] =
        ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];

    pub fn get(self, name: &str) -> Option<bool> {
        let values = [self.read_only, self.is_destructive(), self.idempotent, self.open_world];
        let found = Self::NAMES.iter().zip(values).find(|(known, _)| **known == name);
        found.map(|(_, value)| value)
    }

    /// Whether it may destroy something.
    pub fn is_destructive(self) -> bool {
        self.destructive && !self.read_only
    }
}

impl Default for Annotations {
    fn default() -> Self {
        Self { read_only: false, destructive: true, idempotent: false, open_world: true }
    }
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
