//! Values while an expression runs: borrowed from the message wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use crate::json::{Node, Number, View};
use crate::message::Annotations;

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// It depends on what is not known yet.
    Unknown,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Rc<[Value<'a>]>),
    /// A list or an object of the message's.
    Json(Node<'a>),
    Annotations(Annotations),
}

// === impl Value ===

impl<'a> Value<'a> {
    /// Nothing where it is no JSON.
    pub(super) fn of(node: Node<'a>) -> Option<Self> {
        Some(match node.view()? {
            View::Null => Self::Null,
            View::Bool(value) => Self::Bool(value),
            View::Number(Number::Float(float)) => Self::Float(float),
            #[allow(clippy::cast_precision_loss, reason = "what does not fit 64 bits is near enough")]
            View::Number(Number::Int(int)) => i64::try_from(int).map_or(Self::Float(int as f64), Self::Int),
            View::Text(text) => Self::Text(text),
            View::List | View::Object => Self::Json(node),
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unknown => "something unknown",
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Json(node) if matches!(node.view(), Some(View::List)) => "a list",
            Self::Json(_) | Self::Annotations(_) => "an object",
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Int(int) => Some(Number::Int((*int).into())),
            Self::Float(float) => Some(Number::Float(*float)),
            _ => None,
        }
    }

    /// The items of a list, or the keys of an object. Nothing of anything else.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::Json(node) => match node.items() {
                Some(items) => items.into_iter().map(Self::of).collect(),
                None => Some(node.members()?.into_iter().map(|(key, _)| Self::Text(key)).collect()),
            },
            Self::Annotations(_) => {
                Some(Annotations::NAMES.iter().map(|name| Self::Text(Cow::Borrowed(*name))).collect())
            }
            _ => None,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        self.kind() == "a list"
    }

    pub(super) fn member(&self, key: &str) -> Option<Self> {
        match self {
            Self::Json(node) => Self::of(node.member(key)?),
            Self::Annotations(annotations) => annotations.get(key).map(Self::Bool),
            _ => None,
        }
    }

    /// Values of different kinds are not equal.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Annotations(one), Self::Annotations(other)) => one == other,
            _ => match (self.number(), other.number()) {
                (Some(one), Some(other)) => one.compare(other) == Some(Ordering::Equal),
                (None, None) => self.equal_contents(other),
                _ => false,
            },
        }
    }

    fn equal_contents(&self, other: &Self) -> bool {
        if self.kind() != other.kind() {
            return false;
        }
        let (Some(one), Some(two)) = (self.items(), other.items()) else { return false };
        if one.len() != two.len() {
            return false;
        }
        if self.is_list() {
            return one.iter().zip(&two).all(|(one, other)| one.equals(other));
        }
        one.iter().all(|key| match key {
            Self::Text(key) => match (self.member(key), other.member(key)) {
                (Some(one), Some(other)) => one.equals(&other),
                _ => false,
            },
            _ => false,
        })
    }
}
