//! JSON of messages and claims, read only as far as it is asked for. Objects of messages hold no key twice: the scan of the envelope
//! has refused such.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A value, as written or as a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node<'a> {
    Raw(&'a str),
    Tree(&'a Value),
    Object(&'a Map<String, Value>),
}

/// What a value is. Objects and lists are looked into through the node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum View<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List,
    Object,
}

/// A number: exact as long as it is whole and has no more than 38 digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

/// An object of which members are looked up, read once.
#[derive(Debug, Default)]
pub(crate) struct Looked<'a> {
    raw: Option<&'a str>,
    members: OnceCell<Option<Members<'a>>>,
}

pub(crate) type Members<'a> = Vec<(Cow<'a, str>, Node<'a>)>;

// === impl Node ===

impl<'a> Node<'a> {
    /// Nothing where it is no JSON.
    pub(crate) fn view(self) -> Option<View<'a>> {
        match self {
            Self::Object(_) | Self::Tree(Value::Object(_)) => Some(View::Object),
            Self::Tree(Value::Null) => Some(View::Null),
            Self::Tree(Value::Bool(value)) => Some(View::Bool(*value)),
            Self::Tree(Value::Number(number)) => Number::parse(&number.to_string()).map(View::Number),
            Self::Tree(Value::String(text)) => Some(View::Text(Cow::Borrowed(text))),
            Self::Tree(Value::Array(_)) => Some(View::List),
            Self::Raw(raw) => {
                let raw = raw.trim_ascii();
                match raw.as_bytes().first()? {
                    b'{' => Some(View::Object),
                    b'[' => Some(View::List),
                    b'"' => text(raw).map(View::Text),
                    b't' => Some(View::Bool(true)),
                    b'f' => Some(View::Bool(false)),
                    b'n' => Some(View::Null),
                    _ => Number::parse(raw).map(View::Number),
                }
            }
        }
    }

    /// Of an object. Nothing where it is none, or has no such member.
    pub(crate) fn member(self, key: &str) -> Option<Node<'a>> {
        match self {
            Self::Object(map) | Self::Tree(Value::Object(map)) => map.get(key).map(Node::Tree),
            Self::Tree(_) => None,
            Self::Raw(_) => self.members()?.into_iter().find(|(held, _)| held == key).map(|(_, node)| node),
        }
    }

    /// Nothing where it is no object.
    pub(crate) fn members(self) -> Option<Members<'a>> {
        match self {
            Self::Object(map) | Self::Tree(Value::Object(map)) => Some(
                map.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), Node::Tree(value))).collect(),
            ),
            Self::Tree(_) => None,
            Self::Raw(raw) => members(raw),
        }
    }

    /// Nothing where it is no list.
    pub(crate) fn items(self) -> Option<Vec<Node<'a>>> {
        match self {
            Self::Tree(Value::Array(items)) => Some(items.iter().map(Node::Tree).collect()),
            Self::Tree(_) | Self::Object(_) => None,
            Self::Raw(raw) => {
                let items: Vec<&'a RawValue> = serde_json::from_str(raw).ok()?;
                Some(items.into_iter().map(|item| Node::Raw(item.get())).collect())
            }
        }
    }

    /// In bytes, for what it costs to look into it; of what is at hand as a tree nothing.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Raw(raw) => raw.len(),
            Self::Tree(_) | Self::Object(_) => 0,
        }
    }
}

// === impl Looked ===

impl<'a> Looked<'a> {
    pub(crate) fn new(raw: Option<&'a str>) -> Self {
        Self { raw, members: OnceCell::new() }
    }

    pub(crate) fn member(&self, key: &str) -> Option<Node<'a>> {
        let members = self.members.get_or_init(|| self.raw.and_then(members)).as_ref()?;
        members.iter().find(|(held, _)| held == key).map(|(_, node)| *node)
    }

    pub(crate) fn node(&self) -> Node<'a> {
        Node::Raw(self.raw.unwrap_or("{}"))
    }
}

// === impl Number ===

impl Number {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(int) = text.parse() {
            return Some(Self::Int(int));
        }
        text.parse().ok().filter(|float: &f64| !float.is_nan()).map(Self::Float)
    }

    pub(crate) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(one), Self::Int(other)) => Some(one.cmp(&other)),
            (Self::Float(one), Self::Float(other)) => one.partial_cmp(&other),
            (Self::Int(one), Self::Float(other)) => int_with_float(one, other),
            (Self::Float(one), Self::Int(other)) => int_with_float(other, one).map(Ordering::reverse),
        }
    }
}

/// Exactly: a float of more digits than it has is not taken for the whole number beside it.
fn int_with_float(int: i128, float: f64) -> Option<Ordering> {
    if !float.is_finite() {
        return 0.0_f64.partial_cmp(&float);
    }
    // Saturates far beyond what an integer of JSON has.
    #[allow(clippy::cast_possible_truncation, reason = "the fraction is looked at on its own")]
    let whole = float.trunc() as i128;
    Some(int.cmp(&whole).then(0.0_f64.partial_cmp(&float.fract())?))
}

fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

fn members(raw: &str) -> Option<Members<'_>> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Members<'de>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(key) = map.next_key::<&'de RawValue>()? {
                let value: &'de RawValue = map.next_value()?;
                let key = text(key.get()).ok_or_else(|| serde::de::Error::custom("a key is no text"))?;
                members.push((key, Node::Raw(value.get())));
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    serde::Deserializer::deserialize_map(&mut deserializer, Visitor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_stand_and_as_trees_alike() {
        let raw = r#" {"a":{"b":[1,"\u0078",null,true,1.5,-3]},"\u0063":1e400} "#;
        let tree: Value = serde_json::from_str(&raw.replace("1e400", "2")).unwrap();
        for node in [Node::Raw(raw), Node::Tree(&tree)] {
            let items = node.member("a").unwrap().member("b").unwrap().items().unwrap();
            let views: Vec<_> = items.into_iter().map(|item| item.view().unwrap()).collect();
            assert_eq!(views[0], View::Number(Number::Int(1)));
            assert_eq!(views[1], View::Text("x".into()));
            assert_eq!(views[2..4], [View::Null, View::Bool(true)]);
            assert_eq!(views[4], View::Number(Number::Float(1.5)));
            assert!(node.member("b").is_none() && node.items().is_none() && node.member("c").is_some());
        }
    }

    #[test]
    fn whole_numbers_are_compared_exactly() {
        let number = |text: &str| Number::parse(text).unwrap();
        let cases = [
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("18446744073709551616", "18446744073709551615", Ordering::Greater),
            ("1", "1.0", Ordering::Equal),
            ("-1", "-1.5", Ordering::Greater),
            ("1", "1.5", Ordering::Less),
            ("1e400", "99999999999999999999999999999999999999", Ordering::Greater),
        ];
        for (one, other, expected) in cases {
            assert_eq!(number(one).compare(number(other)), Some(expected), "{one} {other}");
            assert_eq!(number(other).compare(number(one)), Some(expected.reverse()), "{other} {one}");
        }
    }
}
