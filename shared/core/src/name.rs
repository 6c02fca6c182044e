//! Names that operators choose. A name is a permanent id: it is validated once, cheap to clone, and never rewritten.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{kind} name is empty; give it a name")]
    Empty { kind: &'static str },
    #[error("{kind} name `{name}` has {len} characters; the longest allowed is {max}")]
    TooLong { kind: &'static str, name: String, len: usize, max: usize },
    #[error("{kind} name `{name}` is not allowed; use {allowed}")]
    Pattern { kind: &'static str, name: String, allowed: &'static str },
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:expr, $allowed:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and keeps the name.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if text.is_empty() {
                    return Err(NameError::Empty { kind: $kind });
                }
                if text.len() > $max {
                    let name = text.chars().take(80).collect();
                    return Err(NameError::TooLong { kind: $kind, name, len: text.len(), max: $max });
                }
                if !Self::allows(text) {
                    let name = text.escape_debug().to_string();
                    return Err(NameError::Pattern { kind: $kind, name, allowed: $allowed });
                }
                Ok(Self(Arc::from(text)))
            }

            /// Whether the text may be one.
            pub fn allows(text: &str) -> bool {
                let check: fn(&[u8]) -> bool = $check;
                (1..=$max).contains(&text.len()) && check(text.as_bytes())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        /// Of the text. A name and its clone are the same without a look at it: maps of thousands of names that are walked side by
        /// side mostly hold clones.
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// Upstream, mount or bundle: `[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?` without `__`, which separates a bundle's prefix.
    ResourceName,
    "resource",
    63,
    "lower-case letters, digits, `-` and `_`, starting and ending with a letter or digit, without `__`",
    |name| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(name.first())
            && edge(name.last())
            && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            && !name.windows(2).any(|pair| pair == b"__")
    }
);

name_type!(
    /// A fleet: the set of data planes that follow one version history.
    FleetName,
    "fleet",
    128,
    "letters, digits, `.`, `-` and `_`, starting and ending with a letter or digit",
    is_host_like
);

name_type!(
    /// A data plane, unique within its fleet.
    NodeName,
    "node",
    128,
    "letters, digits, `.`, `-` and `_`, starting and ending with a letter or digit",
    is_host_like
);

fn is_host_like(name: &[u8]) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(name.first())
        && edge(name.last())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_pattern_accepts() {
        for name in ["a", "a1", "git-hub", "a_b", &"x".repeat(63)] {
            assert_eq!(ResourceName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_edges_case_double_underscore_and_length() {
        for name in ["", "-a", "a-", "_a", "A", "a__b", "a b", "é", "a/b", &"x".repeat(64)] {
            assert!(ResourceName::parse(name).is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn a_fleet_may_look_like_a_host() {
        assert!(FleetName::parse("prod.eu-1").is_ok());
        assert!(FleetName::parse("prod/eu").is_err());
    }
}
