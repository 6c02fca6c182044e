//! Values while an expression runs: borrowed from the message wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use crate::json::{Node, Number, TooMany, View};
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

    /// What it costs to look through it, in bytes.
    pub(super) fn looked_through(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(node) => node.len(),
            Self::List(items) => items.iter().map(Self::copied).fold(0, usize::saturating_add),
            _ => 0,
        }
    }

    /// What it costs to have it twice, in bytes.
    pub(super) fn copied(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.len(),
            _ => 0,
        }
    }

    /// The items of a list, or the keys of an object. Nothing of anything else, and of what cannot be read.
    ///
    /// # Errors
    /// When there are more than so many.
    pub(super) fn items(&self, most: usize) -> Result<Option<Vec<Self>>, TooMany> {
        Ok(match self {
            Self::List(items) if items.len() > most => return Err(TooMany),
            Self::List(items) => Some(items.to_vec()),
            Self::Json(node) => match node.items(most)? {
                Some(items) => items.into_iter().map(Self::of).collect(),
                None if node.count().is_some_and(|count| count > most) => return Err(TooMany),
                None => {
                    let members = node.members();
                    members.map(|members| members.into_iter().map(|(key, _)| Self::Text(key)).collect())
                }
            },
            Self::Annotations(_) => {
                Some(Annotations::NAMES.iter().map(|name| Self::Text(Cow::Borrowed(*name))).collect())
            }
            _ => None,
        })
    }

    /// Of a list the items, of an object the keys; nothing of anything else.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::List(items) => Some(items.len()),
            Self::Json(node) => node.count(),
            Self::Annotations(_) => Some(Annotations::NAMES.len()),
            _ => None,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        self.kind() == "a list"
    }

    /// Of an object. Nothing of anything else, and of what cannot be read.
    pub(super) fn members(&self) -> Option<Vec<(Cow<'a, str>, Self)>> {
        match self {
            Self::Json(node) => {
                node.members()?.into_iter().map(|(key, value)| Some((key, Self::of(value)?))).collect()
            }
            Self::Annotations(annotations) => {
                let value =
                    |name: &'static str| Some((Cow::Borrowed(name), Self::Bool(annotations.get(name)?)));
                Annotations::NAMES.into_iter().map(value).collect()
            }
            _ => None,
        }
    }

    /// Whether both are equal, unless they are lists or objects both, which have to be looked into.
    pub(super) fn equals_plainly(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(true),
            (Self::Bool(one), Self::Bool(other)) => Some(one == other),
            (Self::Text(one), Self::Text(other)) => Some(one == other),
            _ => match (self.number(), other.number()) {
                (Some(one), Some(other)) => Some(one.compare(other) == Some(Ordering::Equal)),
                (None, None) if self.kind() == other.kind() && self.count().is_some() => None,
                _ => Some(false),
            },
        }
    }
}
