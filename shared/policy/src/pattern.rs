//! Patterns over names: literal text, or text with `*` and `?`. Names are compared exactly, case included, since MCP's are.

use ostler_core::glob;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Several, of which one has to match. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Box<[Pattern]>);

// === impl Pattern ===

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one text that it matches.
    pub fn literal(&self) -> Option<&str> {
        (!self.0.contains(['*', '?'])).then_some(&self.0)
    }

    pub fn matches(&self, text: &str) -> bool {
        match self.literal() {
            Some(literal) => literal == text,
            None => glob::matches(&self.0, text),
        }
    }
}

// === impl Patterns ===

impl Patterns {
    /// `None` without any.
    pub fn new(patterns: Vec<Pattern>) -> Option<Self> {
        (!patterns.is_empty()).then(|| Self(patterns.into()))
    }

    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(text))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }

    /// Whether they match whatever there is.
    pub fn is_any(&self) -> bool {
        self.iter().any(|pattern| pattern.as_str() == "*")
    }
}
