//! Arguments, and answers, on their way into a record: without the values of fields that are secret, and bounded.
//!
//! A text that is itself JSON, as answers of tools often are, is looked into like the rest.
//!
//! A field is secret by its name, because config says so or because the name does; a value is secret where it looks like a key
//! or a token. Too many rather than too few: what is left out can still be recognised by the digest of all arguments.

use std::collections::BTreeSet;

use ostler_core::limits::{AUDIT_ARGUMENTS_BYTES_MAX, AUDIT_ARGUMENTS_READ_BYTES_MAX};
use serde_json::Value;

/// What stands in place of a secret.
pub const MASK: &str = "[redacted]";

/// The fields that are secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// As [`plain`] has them.
    names: BTreeSet<String>,
    /// Paths from the top, in lower case.
    paths: BTreeSet<String>,
}

// === impl Secrets ===

impl Secrets {
    /// Names of fields; those with a dot are paths from the top.
    pub fn new<'n>(listed: impl IntoIterator<Item = &'n str>) -> Self {
        let mut secrets = Self::default();
        for name in listed {
            match name.contains('.') {
                true => secrets.paths.insert(name.to_lowercase()),
                false => secrets.names.insert(plain(name)),
            };
        }
        secrets
    }

    /// The arguments without what is secret; nothing where they are no JSON or too large to be kept.
    pub fn redact(&self, arguments: &[u8]) -> Option<Value> {
        if arguments.len() > AUDIT_ARGUMENTS_READ_BYTES_MAX {
            return None;
        }
        let mut value: Value = serde_json::from_slice(arguments).ok()?;
        self.mask(&mut value, &mut String::new(), true);
        let kept = serde_json::to_vec(&value).ok()?;
        (kept.len() <= AUDIT_ARGUMENTS_BYTES_MAX).then_some(value)
    }

    /// `looks_inside` texts that are JSON, and not inside theirs.
    fn mask(&self, value: &mut Value, path: &mut String, looks_inside: bool) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let before = path.len();
                    if before > 0 {
                        path.push('.');
                    }
                    path.push_str(&name.to_lowercase());
                    if self.is_secret(name, path) {
                        *value = Value::from(MASK);
                    } else {
                        self.mask(value, path, looks_inside);
                    }
                    path.truncate(before);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item, path, looks_inside)),
            Value::String(text) if looks_secret(text) => *value = Value::from(MASK),
            Value::String(text) if looks_inside => {
                if let Some(masked) = self.masked_inside(text) {
                    *text = masked;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// A text that is JSON without what is secret in it; nothing where it is another text, or has nothing of that kind.
    fn masked_inside(&self, text: &str) -> Option<String> {
        let mut inner: Value =
            serde_json::from_str(text).ok().filter(|_| text.trim_start().starts_with(['{', '[']))?;
        let before = inner.clone();
        self.mask(&mut inner, &mut String::new(), false);
        (inner != before).then(|| inner.to_string())
    }

    fn is_secret(&self, name: &str, path: &str) -> bool {
        let plain = plain(name);
        self.names.contains(&plain) || self.paths.contains(path) || says_secret(&plain)
    }
}

/// A name without what its writers differ in.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a name says that its value is a secret.
fn says_secret(plain: &str) -> bool {
    const ANYWHERE: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "privatekey",
        "accesskey",
        "credential",
        "authorization",
        "cookie",
        "sessionid",
    ];
    const WHOLE: [&str; 7] = ["auth", "pwd", "pass", "pin", "otp", "cvv", "cvc"];
    WHOLE.contains(&plain) || ANYWHERE.iter().any(|word| plain.contains(word))
}

/// Whether a value looks like a key or a token, whatever its field is called.
fn looks_secret(text: &str) -> bool {
    const BEGINNINGS: [&str; 14] = [
        "Bearer ",
        "bearer ",
        "Basic ",
        "eyJ",
        "sk-",
        "sk_",
        "rk_",
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "AKIA",
        "xox",
    ];
    let is_key = text.contains("PRIVATE KEY-----");
    let is_token = BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) && text.len() >= 16;
    is_key || is_token || has_password(text)
}

/// `scheme://user:password@host`.
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(listed: &[&str], arguments: &str) -> String {
        Secrets::new(listed.iter().copied()).redact(arguments.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn what_config_lists_is_masked_at_any_depth_and_a_path_at_its_place_alone() {
        let listed = ["SSN", "card.number"];
        assert_eq!(
            redacted(&listed, r#"{"a":[{"S-s_n":1}],"card":{"number":"4111","kind":"x"},"number":"7"}"#),
            r#"{"a":[{"S-s_n":"[redacted]"}],"card":{"kind":"x","number":"[redacted]"},"number":"7"}"#
        );
        assert_eq!(redacted(&listed, r#"{"CARD":{"Number":[1,2]}}"#), r#"{"CARD":{"Number":"[redacted]"}}"#);
    }

    #[test]
    fn names_and_values_that_say_so_are_masked_unlisted() {
        for secret in [
            r#"{"db_password":"x"}"#,
            r#"{"accessToken":{"value":"x"}}"#,
            r#"{"X-Api-Key":["x"]}"#,
            r#"{"PIN":1234}"#,
            r#"{"note":"Bearer abcdefghijkl"}"#,
            r#"{"note":"postgres://u:hunter2@db/x"}"#,
            r#"{"note":"-----BEGIN PRIVATE KEY-----\nMIIE"}"#,
            r#"{"note":"ghp_abcdefghijklmnop"}"#,
        ] {
            let name = secret.split('"').nth(1).unwrap();
            assert_eq!(redacted(&[], secret), format!(r#"{{"{name}":"[redacted]"}}"#), "{secret}");
        }
        for plain in
            [r#"{"pine":"x"}"#, r#"{"url":"https://a.example/@b:c"}"#, r#"{"key":"sk"}"#, r#"{"author":"x"}"#]
        {
            assert_eq!(redacted(&[], plain), plain);
        }
    }

    #[test]
    fn a_text_that_is_json_is_looked_into_once_and_others_stay_as_they_are() {
        let inside = r#"{"content":[{"type":"text","text":"{\"card\":{\"number\":\"4111\"},\"pin\":1}"}]}"#;
        assert_eq!(
            redacted(&["card.number"], inside),
            r#"{"content":[{"text":"{\"card\":{\"number\":\"[redacted]\"},\"pin\":\"[redacted]\"}","type":"text"}]}"#
        );
        for plain in [r#"{"text":"{\"a\": 1}"}"#, r#"{"text":"[1, 2"}"#, r#"{"text":"12"}"#] {
            assert_eq!(redacted(&[], plain), plain);
        }
    }

    #[test]
    fn what_is_large_or_no_json_is_left_out_whole() {
        let secrets = Secrets::default();
        assert_eq!(secrets.redact(b"{"), None);
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(AUDIT_ARGUMENTS_BYTES_MAX));
        assert_eq!(secrets.redact(large.as_bytes()), None);
        // What is large because of a secret is kept without it.
        let secret = format!(r#"{{"token":"{}"}}"#, "x".repeat(AUDIT_ARGUMENTS_BYTES_MAX));
        assert!(secrets.redact(secret.as_bytes()).is_some());
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(secrets.redact(deep.as_bytes()), None);
    }
}
