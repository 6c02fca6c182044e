//! The lists of MCP: how each is asked for, what it holds, what its entries are used by, and how clients are told that it has changed.

use ostler_mcp::method;
use ostler_policy::Target;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Listing {
    Tools,
    Prompts,
    Resources,
    Templates,
}

/// How clients are told that something has changed, and in which lists.
pub(super) const CHANGES: [(&str, &[Listing]); 3] = [
    (method::NOTIFICATIONS_TOOLS_LIST_CHANGED, &[Listing::Tools]),
    (method::NOTIFICATIONS_PROMPTS_LIST_CHANGED, &[Listing::Prompts]),
    (method::NOTIFICATIONS_RESOURCES_LIST_CHANGED, &[Listing::Resources, Listing::Templates]),
];

// === impl Listing ===

impl Listing {
    pub(crate) const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    pub(crate) fn asked_by(asked: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|listing| listing.method() == asked)
    }

    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Tools => method::TOOLS_LIST,
            Self::Prompts => method::PROMPTS_LIST,
            Self::Resources => method::RESOURCES_LIST,
            Self::Templates => method::RESOURCES_TEMPLATES_LIST,
        }
    }

    /// What the list is called in a result.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// What an entry is called by, and the method that uses it.
    pub(crate) fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::Tools => ("name", method::TOOLS_CALL),
            Self::Prompts => ("name", method::PROMPTS_GET),
            Self::Resources => ("uri", method::RESOURCES_READ),
            Self::Templates => ("uriTemplate", method::RESOURCES_READ),
        }
    }

    pub(super) fn target(self, name: &str) -> Target<'_> {
        match self {
            Self::Tools => Target::Tool(name),
            Self::Prompts => Target::Prompt(name),
            Self::Resources | Self::Templates => Target::Resource(name),
        }
    }
}
