//! The members of a JSON object, in their order, with values as written.
//!
//! For objects of bodies that were scanned: a key held twice was refused there. Reads one level and never looks into a
//! value.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::BridgeError;
use crate::message::json_text;

/// An object taken apart.
#[derive(Clone, Debug, Default)]
pub struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Members<'a> {
    /// Takes an object apart; `what` is named if it is none.
    ///
    /// # Errors
    /// [`BridgeError::Malformed`].
    pub fn parse(object: &'a str, what: &'static str) -> Result<Self, BridgeError> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((Cow::Owned(key), Cow::Borrowed(value.get())));
                }
                Ok(members)
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(object);
        let members = serde::Deserializer::deserialize_map(&mut deserializer, Visitor);
        members.map(Self).map_err(|_| BridgeError::Malformed(what))
    }

    /// The same of an object that may be missing.
    ///
    /// # Errors
    /// [`BridgeError::Malformed`].
    pub fn parse_optional(object: Option<&'a str>, what: &'static str) -> Result<Self, BridgeError> {
        object.map_or_else(|| Ok(Self::default()), |object| Self::parse(object, what))
    }

    /// A value as written.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(held, _)| held == key).map(|(_, value)| &**value)
    }

    /// A value that is text.
    pub fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.get(key)?).ok()
    }

    /// Takes a member out.
    pub fn take(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let at = self.0.iter().position(|(held, _)| held == key)?;
        Some(self.0.remove(at).1)
    }

    /// Sets a member to raw JSON, in its place or at the end.
    pub fn set(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        match self.0.iter_mut().find(|(held, _)| held == key) {
            Some((_, held)) => *held = value,
            None => self.0.push((Cow::Borrowed(key), value)),
        }
    }

    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and raw values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Puts it together again.
    pub fn to_json(&self) -> String {
        let bytes: usize = self.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
        let mut json = String::with_capacity(bytes + 2);
        json.push('{');
        for (number, (key, value)) in self.iter().enumerate() {
            if number > 0 {
                json.push(',');
            }
            json.push_str(&json_text(key));
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes_and_their_order() {
        let object = r#"{ "b" : 1.0e2 ,"a":{"x":[1, 2]},"\u0063":"\u00e4"}"#;
        let members = Members::parse(object, "it").unwrap();
        assert_eq!(members.to_json(), r#"{"b":1.0e2,"a":{"x":[1, 2]},"c":"\u00e4"}"#);
        assert_eq!(members.text("c").unwrap(), "ä");
        assert!(members.text("a").is_none() && members.get("d").is_none());
    }

    #[test]
    fn members_are_replaced_in_place_added_at_the_end_and_taken_out() {
        let mut members = Members::parse(r#"{"a":1,"b":2,"c":3}"#, "it").unwrap();
        members.set("b", "true");
        members.set("d", "[]");
        assert_eq!(members.take("a").unwrap(), "1");
        assert!(members.take("a").is_none());
        assert_eq!(members.to_json(), r#"{"b":true,"c":3,"d":[]}"#);
        members.retain(|key| key == "q");
        assert_eq!((members.is_empty(), members.to_json()), (true, "{}".to_owned()));
    }

    #[test]
    fn what_is_no_object_is_named() {
        for other in ["[]", "1", "", "{\"a\":}"] {
            assert_eq!(Members::parse(other, "params").unwrap_err(), BridgeError::Malformed("params"));
        }
    }
}
