//! Expressions: a part of CEL (the Common Expression Language), for what the keys of a rule cannot say.
//!
//! Read and evaluated here, so that three things hold which an expression of an operator's must not be able to break: its cost is
//! counted while it runs and cannot exceed a limit, whatever the arguments are; nothing of a message is read that it does not
//! name; and it can be asked what it says of a call whose arguments are not known yet. `docs/decisions/0016-expressions.md`
//! says what of CEL is there. It must never panic, recurse without bound, or turn an error into an answer.

mod eval;
mod lexer;
mod parser;
mod value;

use std::fmt;

pub(crate) use eval::{Outcome, evaluate};
use parser::Expr;

/// An expression that is true or false of a message.
#[derive(Clone)]
pub struct Expression {
    source: Box<str>,
    expr: Expr,
    variables: Vec<Variable>,
}

/// What an expression can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    Method,
    Tool,
    Prompt,
    Resource,
    Arguments,
    Annotations,
    Identity,
    Claims,
    Mount,
    Upstream,
    Environment,
}

/// Why text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// In bytes from its beginning.
    pub offset: usize,
    pub message: String,
    pub help: String,
}

// === impl Variable ===

impl Variable {
    pub const ALL: [Self; 11] = [
        Self::Method,
        Self::Tool,
        Self::Prompt,
        Self::Resource,
        Self::Arguments,
        Self::Annotations,
        Self::Identity,
        Self::Claims,
        Self::Mount,
        Self::Upstream,
        Self::Environment,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Arguments => "arguments",
            Self::Annotations => "annotations",
            Self::Identity => "identity",
            Self::Claims => "claims",
            Self::Mount => "mount",
            Self::Upstream => "upstream",
            Self::Environment => "environment",
        }
    }
}

// === impl Expression ===

impl Expression {
    /// # Errors
    /// What of it cannot be read, or costs too much.
    pub fn new(source: &str) -> Result<Self, ExpressionError> {
        let (expr, variables) = parser::parse(source)?;
        Ok(Self { source: source.into(), expr, variables })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Those that it names, each once.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// What it says of every message alike, if it does.
    pub fn constant(&self) -> Option<Result<bool, String>> {
        match evaluate(self, None) {
            Outcome::True => Some(Ok(true)),
            Outcome::False => Some(Ok(false)),
            Outcome::Unknown => None,
            Outcome::Error(why) => Some(Err(why)),
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.source)
    }
}

#[cfg(test)]
mod tests;
