//! Fields of arguments and claims: where they are, and what they must be like.

use std::cmp::Ordering;
use std::fmt;

use ostler_core::limits::{POLICY_MATCHED_BYTES_MAX, POLICY_REGEX_BYTES_MAX};

use crate::json::{Number, View};

/// A field, and all that must hold of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub path: Path,
    pub tests: Box<[Test]>,
}

/// A way into an object: its keys, joined with dots. A number leads to an item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Box<str>);

/// One thing that must hold. Of a field that is not there nothing does, but that it does not exist.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Eq(Scalar),
    Neq(Scalar),
    Gt(i64),
    Gte(i64),
    Lt(i64),
    Lte(i64),
    /// Text holds this text, or a list has it as an item.
    Contains(Box<str>),
    Regex(Regex),
    Exists(bool),
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    Text(Box<str>),
}

/// A regular expression that takes time in proportion to the text, whatever the text is.
#[derive(Clone)]
pub struct Regex(regex::Regex);

/// A test that cannot be made, in one sentence's end: `is no number`.
pub(crate) type Untestable = &'static str;

// === impl Path ===

impl Path {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

// === impl Test ===

impl Test {
    /// Of a field that is there.
    pub(crate) fn holds(
        &self,
        view: &View<'_>,
        has_item: impl FnOnce(&str) -> Result<bool, Untestable>,
    ) -> Result<bool, Untestable> {
        // A field without a value is compared with values only; it is neither more nor less than anything.
        if *view == View::Null && !matches!(self, Self::Eq(_) | Self::Neq(_) | Self::Exists(_)) {
            return Ok(false);
        }
        match self {
            Self::Exists(wanted) => Ok(*wanted),
            Self::Eq(scalar) => Ok(scalar.equals(view)),
            Self::Neq(scalar) => Ok(!scalar.equals(view)),
            Self::Gt(bound) => ordered(view, *bound).map(|it| it == Ordering::Greater),
            Self::Gte(bound) => ordered(view, *bound).map(|it| it != Ordering::Less),
            Self::Lt(bound) => ordered(view, *bound).map(|it| it == Ordering::Less),
            Self::Lte(bound) => ordered(view, *bound).map(|it| it != Ordering::Greater),
            Self::Contains(part) => match view {
                View::Text(text) => Ok(text.contains(&**part)),
                View::List => has_item(part),
                _ => Err("is neither text nor a list"),
            },
            Self::Regex(regex) => match view {
                View::Text(text) => regex.matches(text),
                _ => Err("is no text"),
            },
        }
    }
}

fn ordered(view: &View<'_>, bound: i64) -> Result<Ordering, Untestable> {
    match view {
        View::Number(number) => number.compare(Number::Int(bound.into())).ok_or("is no number"),
        _ => Err("is no number"),
    }
}

// === impl Scalar ===

impl Scalar {
    fn equals(&self, view: &View<'_>) -> bool {
        match (self, view) {
            (Self::Bool(one), View::Bool(other)) => one == other,
            (Self::Text(one), View::Text(other)) => **one == **other,
            (Self::Int(one), View::Number(other)) => {
                other.compare(Number::Int((*one).into())) == Some(Ordering::Equal)
            }
            _ => false,
        }
    }
}

// === impl Regex ===

impl Regex {
    /// # Errors
    /// Why it is none, or is too large once it is compiled.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(pattern).size_limit(POLICY_REGEX_BYTES_MAX).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large once it is compiled".to_owned(),
            regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim().to_owned(),
            other => other.to_string(),
        })
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn matches(&self, text: &str) -> Result<bool, Untestable> {
        if text.len() > POLICY_MATCHED_BYTES_MAX {
            return Err("is too long to be matched");
        }
        Ok(self.0.is_match(text))
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({})", self.as_str())
    }
}
