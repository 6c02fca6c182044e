//! Tree → Raw types, through serde, so that one set of types is read, validated and turned into the schema.
//!
//! Mistakes are reported where they are met and confined to the nearest [`Located`](crate::located::Located): unknown keys
//! are reported and skipped, a value of the wrong type is reported and left out.

use std::fmt;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::codes::Code;
use crate::located::{LOCATED, Located};
use crate::node::{Entry, NodeId, Value, path_step};
use crate::raw::DURATION;
use crate::reporter::Reporter;

/// Reads a value of the tree.
pub(crate) fn read<'de, T: Deserialize<'de>>(reporter: &'de Reporter<'de>, at: NodeId) -> Located<T> {
    Located::deserialize(NodeDeserializer { reporter, at }).unwrap_or(Located { at, value: None })
}

/// The nearest known word, if it is near enough to have been meant.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance takes time in proportion to both lengths.
    if word.len() > 128 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[derive(Clone, Copy)]
struct NodeDeserializer<'de> {
    reporter: &'de Reporter<'de>,
    at: NodeId,
}

/// A mistake on its way to the nearest `Located`.
#[derive(Debug)]
enum Mistake {
    WrongType {
        expected: String,
        found: &'static str,
        help: String,
    },
    /// A number where a duration belongs.
    BareDuration(Option<i64>),
    /// What a `Deserialize` implementation has to say.
    Other(String),
    /// Reported before.
    Reported,
}

// === impl NodeDeserializer ===

impl<'de> NodeDeserializer<'de> {
    fn value(&self) -> &'de Value {
        self.reporter.tree().value(self.at)
    }

    fn wrong_type(&self, expected: &str) -> Mistake {
        let value = self.value();
        let found = match value {
            Value::Invalid => return Mistake::Reported,
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float => "a number",
            Value::Str(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        };
        let help = match (expected, value) {
            ("text", Value::Int(_) | Value::Float | Value::Bool(_)) => {
                "put the value in quotes to make it text".to_owned()
            }
            ("a boolean", Value::Str(text)) if matches!(&*text.to_ascii_lowercase(), "yes" | "on" | "y") => {
                "write `true`; in YAML 1.2 `yes` and `on` are text".to_owned()
            }
            ("a boolean", Value::Str(text)) if matches!(&*text.to_ascii_lowercase(), "no" | "off" | "n") => {
                "write `false`; in YAML 1.2 `no` and `off` are text".to_owned()
            }
            ("a boolean", _) => "write `true` or `false`".to_owned(),
            ("a whole number", Value::Str(_)) => "write the number without quotes and unit".to_owned(),
            ("a map", Value::Null) => "write its keys, indented below, or `{}`".to_owned(),
            ("a list", Value::Str(_) | Value::Int(_)) => {
                "write a list: `[…]`, or one `- …` on each line".to_owned()
            }
            _ => format!("write {expected} here"),
        };
        Mistake::WrongType { expected: expected.to_owned(), found, help }
    }

    fn report(&self, mistake: Mistake) {
        match mistake {
            Mistake::Reported => {}
            Mistake::WrongType { expected, found, help } => {
                self.reporter.report(
                    Code::WrongType,
                    self.at,
                    format!("expected {expected}, found {found}"),
                    help,
                );
            }
            Mistake::BareDuration(number) => {
                let help = number.map_or_else(
                    || "write a duration such as `500ms`, `5s` or `1m30s`".to_owned(),
                    |number| format!("write `{number}s` for seconds or `{number}ms` for milliseconds"),
                );
                self.reporter.report(Code::BadDuration, self.at, "the duration has no unit", help);
            }
            Mistake::Other(message) => {
                let help = "compare with the config reference, docs/reference/config.md";
                self.reporter.report(Code::WrongType, self.at, message, help);
            }
        }
    }

    fn entries(&self) -> Result<&'de [Entry], Mistake> {
        match self.value() {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wrong_type("a map")),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value() {
            Value::Invalid => Err(Mistake::Reported),
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Float => Err(self.wrong_type("a whole number")),
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::Seq(items) => visitor.visit_seq(Items { reporter: self.reporter, items }),
            Value::Map(entries) => {
                visitor.visit_map(Fields { reporter: self.reporter, entries, fields: None, value: None })
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value() {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.wrong_type("a boolean")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value() {
            Value::Int(value) => visitor.visit_i64(*value),
            _ => Err(self.wrong_type("a whole number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value() {
            Value::Str(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.wrong_type("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value() {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match (name, self.value()) {
            (LOCATED, _) => visitor.visit_seq(LocatedAccess { node: self, step: 0 }),
            (DURATION, Value::Int(number)) => Err(Mistake::BareDuration((*number >= 0).then_some(*number))),
            (DURATION, Value::Float) => Err(Mistake::BareDuration(None)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value() {
            Value::Seq(items) => visitor.visit_seq(Items { reporter: self.reporter, items }),
            _ => Err(self.wrong_type("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let entries = self.entries()?;
        visitor.visit_map(Fields { reporter: self.reporter, entries, fields: None, value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let entries = self.entries()?;
        visitor.visit_map(Fields { reporter: self.reporter, entries, fields: Some(fields), value: None })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}

/// First the node's index, then its value.
struct LocatedAccess<'de> {
    node: NodeDeserializer<'de>,
    step: u8,
}

struct Items<'de> {
    reporter: &'de Reporter<'de>,
    items: &'de [NodeId],
}

struct Fields<'de> {
    reporter: &'de Reporter<'de>,
    entries: &'de [Entry],
    /// The keys that are known; any if there are none.
    fields: Option<&'static [&'static str]>,
    value: Option<NodeId>,
}

// === impl LocatedAccess ===

impl<'de> SeqAccess<'de> for LocatedAccess<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        self.step += 1;
        if self.step == 1 {
            let at: U32Deserializer<Mistake> = self.node.at.0.into_deserializer();
            return seed.deserialize(at).map(Some);
        }
        seed.deserialize(self.node).map(Some).map_err(|mistake| {
            self.node.report(mistake);
            Mistake::Reported
        })
    }
}

// === impl Items ===

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some((at, rest)) = self.items.split_first() else { return Ok(None) };
        self.items = rest;
        seed.deserialize(NodeDeserializer { reporter: self.reporter, at: *at }).map(Some)
    }
}

// === impl Fields ===

impl<'de> Fields<'de> {
    fn report_unknown(&self, entry: &Entry, fields: &[&'static str]) {
        let message = format!("the key `{}` is not known here", path_step(&entry.key));
        let mut known = fields.to_vec();
        known.sort_unstable();
        let known = known.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        let help = match did_you_mean(&entry.key, fields.iter().copied()) {
            Some(field) => format!("did you mean `{field}`? the keys are {known}"),
            None => format!("remove it; the keys are {known}"),
        };
        self.reporter.report(Code::UnknownKey, entry.key_node, message, help);
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            match self.fields {
                Some(fields) if !fields.contains(&&*entry.key) => self.report_unknown(entry, fields),
                Some(_) => {
                    self.value = Some(entry.value);
                    let key: StrDeserializer<'_, Mistake> = (*entry.key).into_deserializer();
                    return seed.deserialize(key).map(Some);
                }
                None => {
                    self.value = Some(entry.value);
                    return seed.deserialize(KeyDeserializer { entry }).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        match self.value.take() {
            Some(at) => seed.deserialize(NodeDeserializer { reporter: self.reporter, at }),
            None => Err(Mistake::Other("a value was asked for before its key".to_owned())),
        }
    }
}

/// A key is its text, whatever its value would be elsewhere: `8080:` is the key `8080`.
struct KeyDeserializer<'de> {
    entry: &'de Entry,
}

// === impl KeyDeserializer ===

impl<'de> Deserializer<'de> for KeyDeserializer<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_borrowed_str(&self.entry.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if name == LOCATED {
            visitor.visit_seq(KeyAccess { entry: self.entry, step: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

struct KeyAccess<'de> {
    entry: &'de Entry,
    step: u8,
}

impl<'de> SeqAccess<'de> for KeyAccess<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        self.step += 1;
        if self.step == 1 {
            let at: U32Deserializer<Mistake> = self.entry.key_node.0.into_deserializer();
            return seed.deserialize(at).map(Some);
        }
        let key: StrDeserializer<'_, Mistake> = (*self.entry.key).into_deserializer();
        seed.deserialize(key).map(Some)
    }
}

// === impl Mistake ===

impl serde::de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { expected, found, .. } => write!(f, "expected {expected}, found {found}"),
            Self::BareDuration(_) => f.write_str("the duration has no unit"),
            Self::Other(message) => f.write_str(message),
            Self::Reported => f.write_str("reported before"),
        }
    }
}

impl std::error::Error for Mistake {}
