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

/// A value that is looked into, each part of it read once.
#[derive(Debug)]
pub(crate) struct Looked<'a> {
    node: Node<'a>,
    inside: OnceCell<Box<Inside<'a>>>,
}

/// What is in it.
#[derive(Debug)]
enum Inside<'a> {
    /// In the order of its keys.
    Object(Vec<(Cow<'a, str>, Looked<'a>)>),
    List(Vec<Looked<'a>>),
    Nothing,
}

/// What a step into a value leads to.
pub(crate) enum Step<T> {
    There(T),
    Absent,
    /// It cannot be said: there is nothing to step into in text, a number or a truth value, and in a list only by a number.
    Blocked,
}

/// There are more than may be looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooMany;

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
    ///
    /// # Errors
    /// When it has more than so many; no room was made for these.
    pub(crate) fn items(self, most: usize) -> Result<Option<Vec<Node<'a>>>, TooMany> {
        match self {
            Self::Tree(Value::Array(items)) if items.len() > most => Err(TooMany),
            Self::Tree(Value::Array(items)) => Ok(Some(items.iter().map(Node::Tree).collect())),
            Self::Tree(_) | Self::Object(_) => Ok(None),
            Self::Raw(_) if self.view() != Some(View::List) => Ok(None),
            Self::Raw(raw) => {
                let mut items = Vec::new();
                let read = each_item(raw, |item| {
                    let has_room = items.len() < most;
                    if has_room {
                        items.push(Node::Raw(item));
                    }
                    has_room
                });
                if read { Ok(Some(items)) } else { Err(TooMany) }
            }
        }
    }

    /// How many items, or keys; nothing where it is neither list nor object.
    pub(crate) fn count(self) -> Option<usize> {
        match self {
            Self::Object(map) | Self::Tree(Value::Object(map)) => Some(map.len()),
            Self::Tree(Value::Array(items)) => Some(items.len()),
            Self::Tree(_) => None,
            Self::Raw(raw) => {
                let mut count = 0;
                match self.view()? {
                    View::List => each_item(raw, |_| {
                        count += 1;
                        true
                    }),
                    View::Object => each_member(raw, |_, _| count += 1),
                    _ => false,
                }
                .then_some(count)
            }
        }
    }

    /// By a key of an object, or by the number of a list's item.
    pub(crate) fn step(self, step: &str) -> Step<Node<'a>> {
        let found = match self.view() {
            Some(View::Object) => self.member(step),
            Some(View::List) => match place(step) {
                Some(place) => self.item(place),
                None => return Step::Blocked,
            },
            // A value that is none has nothing in it.
            Some(View::Null) => None,
            _ => return Step::Blocked,
        };
        found.map_or(Step::Absent, Step::There)
    }

    fn item(self, place: usize) -> Option<Node<'a>> {
        match self {
            Self::Tree(Value::Array(items)) => items.get(place).map(Node::Tree),
            Self::Tree(_) | Self::Object(_) => None,
            Self::Raw(raw) => {
                let (mut at, mut found) = (0, None);
                each_item(raw, |item| {
                    if at == place {
                        found = Some(Node::Raw(item));
                    }
                    at += 1;
                    found.is_none()
                });
                found
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
    pub(crate) fn new(node: Node<'a>) -> Self {
        Self { node, inside: OnceCell::new() }
    }

    pub(crate) fn node(&self) -> Node<'a> {
        self.node
    }

    /// Whether what is in it was read before, so that a step costs nothing to speak of.
    pub(crate) fn is_read(&self) -> bool {
        self.inside.get().is_some()
    }

    /// As [`Node::step`].
    pub(crate) fn step(&self, step: &str) -> Step<&Self> {
        let found = match self.inside() {
            Inside::Object(members) => {
                let place = members.binary_search_by(|(held, _)| (**held).cmp(step));
                place.ok().and_then(|place| members.get(place)).map(|(_, inner)| inner)
            }
            Inside::List(items) => match place(step) {
                Some(place) => items.get(place),
                None => return Step::Blocked,
            },
            Inside::Nothing if self.node.view() == Some(View::Null) => None,
            Inside::Nothing => return Step::Blocked,
        };
        found.map_or(Step::Absent, Step::There)
    }

    fn inside(&self) -> &Inside<'a> {
        self.inside.get_or_init(|| {
            Box::new(match self.node.view() {
                Some(View::Object) => {
                    let members = self.node.members().unwrap_or_default().into_iter();
                    let mut members: Vec<_> = members.map(|(key, node)| (key, Self::new(node))).collect();
                    members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                    Inside::Object(members)
                }
                Some(View::List) => {
                    let items = self.node.items(usize::MAX).ok().flatten().unwrap_or_default();
                    Inside::List(items.into_iter().map(Self::new).collect())
                }
                _ => Inside::Nothing,
            })
        })
    }
}

impl Default for Looked<'_> {
    /// An empty object.
    fn default() -> Self {
        Self::new(Node::Raw("{}"))
    }
}

/// A list's place, written as JSON writes numbers.
fn place(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    step.parse().ok().filter(|_| is_plain)
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

/// Nothing where it is no object.
fn members(raw: &str) -> Option<Members<'_>> {
    let mut members = Vec::new();
    let mut is_whole = true;
    let read = each_member(raw, |key, value| match text(key) {
        Some(key) => members.push((key, Node::Raw(value))),
        None => is_whole = false,
    });
    (read && is_whole).then_some(members)
}

/// Shows keys, raw, and values. False where it is no object.
fn each_member<'a>(raw: &'a str, show: impl FnMut(&'a str, &'a str)) -> bool {
    struct Visitor<F>(F);
    impl<'de, F: FnMut(&'de str, &'de str)> serde::de::Visitor<'de> for Visitor<F> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<&'de RawValue>()? {
                let value: &'de RawValue = map.next_value()?;
                (self.0)(key.get(), value.get());
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    serde::Deserializer::deserialize_map(&mut deserializer, Visitor(show)).is_ok()
}

/// Shows items for as long as more are wanted. False where it is no list, or no more were wanted before its end.
fn each_item<'a>(raw: &'a str, show: impl FnMut(&'a str) -> bool) -> bool {
    struct Visitor<F>(F);
    impl<'de, F: FnMut(&'de str) -> bool> serde::de::Visitor<'de> for Visitor<F> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(item) = list.next_element::<&'de RawValue>()? {
                if !(self.0)(item.get()) {
                    return Err(serde::de::Error::custom("no more is wanted"));
                }
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    serde::Deserializer::deserialize_seq(&mut deserializer, Visitor(show)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_stand_and_as_trees_alike() {
        let raw = r#" {"a":{"b":[1,"\u0078",null,true,1.5,-3]},"\u0063":1e400} "#;
        let tree: Value = serde_json::from_str(&raw.replace("1e400", "2")).unwrap();
        for node in [Node::Raw(raw), Node::Tree(&tree)] {
            let list = node.member("a").unwrap().member("b").unwrap();
            assert!(list.items(5).is_err() && node.items(5).unwrap().is_none());
            assert_eq!((list.count(), node.count()), (Some(6), Some(2)));
            let items = list.items(6).unwrap().unwrap();
            let views: Vec<_> = items.into_iter().map(|item| item.view().unwrap()).collect();
            assert_eq!(views[0], View::Number(Number::Int(1)));
            assert_eq!(views[1], View::Text("x".into()));
            assert_eq!(views[2..4], [View::Null, View::Bool(true)]);
            assert_eq!(views[4], View::Number(Number::Float(1.5)));
            assert!(node.member("b").is_none() && node.member("c").is_some());
        }
    }

    #[test]
    fn an_object_of_which_a_key_cannot_be_read_is_not_taken_for_what_is_left_of_it() {
        let raw = r#"{"a":1,"\ud800":2}"#;
        assert!(Node::Raw(raw).members().is_none() && Node::Raw(raw).member("a").is_none());
    }

    #[test]
    fn a_step_leads_into_objects_and_lists_alone_and_a_look_says_the_same_as_the_value() {
        let raw = r#"{"b":[{"x":1},2],"a":"text","n":null,"0":{"01":3}}"#;
        let tree: Value = serde_json::from_str(raw).unwrap();
        for (path, expected) in [
            ("b.0.x", "there"),
            ("b.1", "there"),
            ("b.2", "absent"),
            ("b.00", "blocked"),
            ("b.+1", "blocked"),
            ("b.x", "blocked"),
            ("0.01", "there"),
            ("n.x", "absent"),
            ("a.x", "blocked"),
            ("b.1.x", "blocked"),
        ] {
            let of_node = |node: Node<'_>| {
                let mut at = node;
                for step in path.split('.') {
                    match at.step(step) {
                        Step::There(inner) => at = inner,
                        Step::Absent => return "absent",
                        Step::Blocked => return "blocked",
                    }
                }
                "there"
            };
            let of_look = |looked: &Looked<'_>| {
                let mut at = looked;
                for step in path.split('.') {
                    match at.step(step) {
                        Step::There(inner) => at = inner,
                        Step::Absent => return "absent",
                        Step::Blocked => return "blocked",
                    }
                }
                "there"
            };
            for node in [Node::Raw(raw), Node::Tree(&tree)] {
                assert_eq!((of_node(node), of_look(&Looked::new(node))), (expected, expected), "{path}");
            }
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
