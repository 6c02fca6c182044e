//! Fields of arguments and claims: where they are, and what they must be like.

use std::cmp::Ordering;
use std::fmt;

use ostler_core::limits::{
    POLICY_EXPRESSION_BYTES_PER_STEP, POLICY_MATCHED_BYTES_MAX, POLICY_REGEX_BYTES_MAX,
    POLICY_REGEX_TRIES_PER_STEP,
};
use regex_syntax::hir::{Hir, HirKind};

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
pub struct Regex {
    regex: regex::Regex,
    /// Places in it that may be tried at each byte, in the worst case.
    places: usize,
}

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
    /// What it takes to make it of a value of so many bytes, as bytes that are looked through.
    pub(crate) fn price(&self, bytes: usize) -> usize {
        match self {
            Self::Regex(regex) => regex.price(bytes),
            _ => bytes,
        }
    }

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
        let regex = built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large once it is compiled".to_owned(),
            regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim().to_owned(),
            other => other.to_string(),
        })?;
        let parsed = regex_syntax::parse(pattern).map_err(|_| "it cannot be read".to_owned())?;
        let is_plain = parsed.properties().look_set().is_empty() && has_only_literals(&parsed);
        let places = if is_plain { 1 } else { places(&parsed, false) };
        Ok(Self { regex, places })
    }

    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// What it takes to look for it in so many bytes, as bytes that are merely looked through. The places of an expression are tried
    /// together, byte after byte, so that a text may make it cost as many times more as it has places that are repeated.
    pub(crate) fn price(&self, bytes: usize) -> usize {
        let tried = bytes.saturating_mul(self.places) / POLICY_REGEX_TRIES_PER_STEP;
        tried.saturating_mul(POLICY_EXPRESSION_BYTES_PER_STEP).max(bytes)
    }

    pub(crate) fn matches(&self, text: &str) -> Result<bool, Untestable> {
        if text.len() > POLICY_MATCHED_BYTES_MAX {
            return Err("is too long to be matched");
        }
        Ok(self.regex.is_match(text))
    }
}

/// Words that are looked for all at once, in time that does not depend on how many they are.
fn has_only_literals(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) => true,
        HirKind::Capture(capture) => has_only_literals(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(has_only_literals),
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => false,
    }
}

/// Each class, and each literal, with what repetitions make of it. A literal alone is looked for as a whole; one that is repeated, byte by byte.
fn places(hir: &Hir, is_repeated: bool) -> usize {
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Literal(literal) if is_repeated => literal.0.len(),
        HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => 1,
        HirKind::Capture(capture) => places(&capture.sub, is_repeated),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(|part| places(part, is_repeated)).fold(0, usize::saturating_add)
        }
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1);
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            places(&repetition.sub, true).max(1).saturating_mul(times)
        }
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
