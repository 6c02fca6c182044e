//! A message as rules see it: what is asked of whom, by whom. Read from the bytes that will be sent, by whoever sends them.

use std::cell::Cell;

use ostler_core::limits::{POLICY_EXPRESSION_BYTES_PER_STEP, POLICY_MESSAGE_STEPS_MAX};

use crate::caller::Caller;
use crate::fields::{Path, Untestable};
use crate::json::{Looked, Node, Step};

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

/// Arguments as they stand in the message, read once for all rules; and what all of these may still cost.
#[derive(Debug)]
pub struct Known<'a> {
    all: Looked<'a>,
    left: Cell<u32>,
}

/// What a server says of a tool of its own (2025-11-25, `ToolAnnotations`), with the defaults of what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Annotations {
    pub read_only: bool,
    /// Means something only of what is not read-only.
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

/// A field of arguments or claims.
pub(crate) enum Found<'a> {
    Unknown,
    Absent,
    There(Node<'a>),
    /// It cannot be looked for: why, as the end of a sentence.
    Untestable(Untestable),
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
        let all = Looked::new(Node::Raw(raw.unwrap_or("{}")));
        Self { all, left: Cell::new(POLICY_MESSAGE_STEPS_MAX) }
    }

    pub(crate) fn node(&self) -> Node<'a> {
        self.all.node()
    }

    /// Takes the price of so many steps off what the rules together may cost.
    pub(crate) fn charge(&self, steps: u32) -> Result<(), Untestable> {
        let left = self.left.get().checked_sub(steps).ok_or(TOO_COSTLY)?;
        self.left.set(left);
        Ok(())
    }

    /// A member of the arguments; nothing where there is none.
    pub(crate) fn member(&self, key: &str) -> Result<Option<Node<'a>>, Untestable> {
        match self.find(std::iter::once(key)) {
            Found::There(node) => Ok(Some(node)),
            Found::Untestable(why) => Err(why),
            Found::Absent | Found::Unknown => Ok(None),
        }
    }

    fn find<'p>(&self, steps: impl Iterator<Item = &'p str>) -> Found<'a> {
        let mut at = &self.all;
        for step in steps {
            let price = if at.is_read() { 1 } else { steps_of(at.node().len()) };
            if let Err(why) = self.charge(price) {
                return Found::Untestable(why);
            }
            match at.step(step) {
                Step::There(inner) => at = inner,
                Step::Absent => return Found::Absent,
                Step::Blocked => return Found::Untestable(BLOCKED),
            }
        }
        Found::There(at.node())
    }
}

impl Default for Known<'_> {
    fn default() -> Self {
        Self::new(None)
    }
}

/// What it costs to look through so many bytes, in steps.
pub(crate) fn steps_of(bytes: usize) -> u32 {
    1 + u32::try_from(bytes / POLICY_EXPRESSION_BYTES_PER_STEP).unwrap_or(u32::MAX - 1)
}

const TOO_COSTLY: Untestable =
    "is not looked at: the rules together take more steps for one message than they may";
const BLOCKED: Untestable =
    "cannot be looked for: the path leads through something that is no object, or no list";

// === impl Arguments ===

impl<'a> Arguments<'a> {
    pub(crate) fn find(self, path: &Path) -> Found<'a> {
        let Self::Known(known) = self else { return Found::Unknown };
        known.find(path.steps())
    }

    /// As [`Known::charge`]; what is not known costs nothing.
    pub(crate) fn charge(self, bytes: usize) -> Result<(), Untestable> {
        match self {
            Self::Known(known) => known.charge(steps_of(bytes)),
            Self::Unknown => Ok(()),
        }
    }
}

/// Down from a value: by a key of an object, or by the number of a list's item.
pub(crate) fn down<'a, 'p>(node: Node<'a>, steps: impl Iterator<Item = &'p str>) -> Found<'a> {
    let mut at = node;
    for step in steps {
        match at.step(step) {
            Step::There(inner) => at = inner,
            Step::Absent => return Found::Absent,
            Step::Blocked => return Found::Untestable(BLOCKED),
        }
    }
    Found::There(at)
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
