//! Arguments, and answers, on their way into a record: without the values of fields that are secret, and bounded.
//!
//! A text that is itself JSON, as answers of tools often are, is looked into like the rest.
//!
//! A field is secret by its name, because config says so or because the name does; a value is secret where it looks like a key
//! or a token. Too many rather than too few: what is left out can still be recognised by the digest of all arguments.

use std::collections::BTreeSet;
use std::fmt;

use ostler_core::limits::{AUDIT_ARGUMENTS_BYTES_MAX, AUDIT_ARGUMENTS_READ_BYTES_MAX, AUDIT_NESTING_MAX};
use ostler_core::members::push_text;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};

/// A text that is read and written anew on its way.
struct Masking<'a> {
    secrets: &'a Secrets,
    out: &'a mut Vec<u8>,
    /// From the top, in lower case, where any path is secret.
    path: String,
    /// Room for a name as [`plain`] has it.
    plain: String,
    /// Containers that are open.
    nesting: usize,
    /// Whether texts that are JSON are looked into.
    looks_inside: bool,
    has_masked: bool,
}

/// The next value on that way, and the name of the next field.
struct Next<'m, 'a>(&'m mut Masking<'a>);
struct Name<'m, 'a>(&'m mut Masking<'a>);

/// What stands in place of a secret.
pub const MASK: &str = "[redacted]";
/// Names that mean something else to who reads a record with `serde_json`: it takes their values for JSON, or for no record.
const RESERVED: &str = "$serde_json::private::";

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
                false => secrets.names.insert(plain(name).collect()),
            };
        }
        secrets
    }

    /// The arguments without what is secret, as they were sent otherwise but for blanks; nothing where they are no JSON or too large
    /// to be kept, or a record could not be read with them.
    pub fn redact(&self, arguments: &str) -> Option<String> {
        let mut kept = Vec::new();
        self.redact_to(arguments, &mut kept).then(|| String::from_utf8(kept).ok())?
    }

    /// Adds the same to a text, to which it may have added anything where it returns false.
    pub fn redact_to(&self, arguments: &str, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        arguments.len() <= AUDIT_ARGUMENTS_READ_BYTES_MAX
            && Masking::new(self, out).run(arguments).is_ok()
            && out.len() - start <= AUDIT_ARGUMENTS_BYTES_MAX
    }

    fn is_secret(&self, plain: &str, path: &str) -> bool {
        self.names.contains(plain) || self.paths.contains(path) || says_secret(plain)
    }
}

// === impl Masking ===

impl<'a> Masking<'a> {
    fn new(secrets: &'a Secrets, out: &'a mut Vec<u8>) -> Self {
        let (path, plain) = (String::new(), String::new());
        Self { secrets, out, path, plain, nesting: 0, looks_inside: true, has_masked: false }
    }

    fn run(&mut self, text: &str) -> serde_json::Result<()> {
        let mut reader = serde_json::Deserializer::from_str(text);
        Next(self).deserialize(&mut reader)?;
        reader.end()
    }

    /// Notes that the way leads into a field, and says whether its value is secret.
    fn enter(&mut self, name: &str) -> bool {
        // Where no path is secret, nothing needs to be known of the way.
        if !self.secrets.paths.is_empty() {
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(&name.to_lowercase());
        }
        self.plain.clear();
        match name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            true => self.plain.push_str(name),
            false => self.plain.extend(plain(name)),
        }
        self.secrets.is_secret(&self.plain, &self.path)
    }

    /// Notes that another container is open, which a reader must be able to follow. What stands in a text is one to nobody.
    fn open<E: Error>(&mut self, bracket: u8) -> Result<(), E> {
        self.nesting += 1;
        if self.looks_inside && self.nesting > AUDIT_NESTING_MAX {
            return Err(E::custom("it nests too deep"));
        }
        self.out.push(bracket);
        Ok(())
    }

    fn close(&mut self, bracket: u8) {
        self.nesting -= 1;
        self.out.push(bracket);
    }

    fn mask(&mut self) {
        self.has_masked = true;
        push_text(self.out, MASK);
    }

    fn text(&mut self, text: &str) {
        if looks_secret(text) {
            self.mask();
        } else if let Some(masked) = self.masked_inside(text) {
            self.has_masked = true;
            push_text(self.out, &masked);
        } else {
            push_text(self.out, text);
        }
    }

    /// A text that is JSON without what is secret in it; nothing where it is another text, or has nothing of that kind. There is no
    /// looking inside what stands inside.
    fn masked_inside(&self, text: &str) -> Option<String> {
        if !self.looks_inside || !text.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let mut out = Vec::new();
        let mut inside = Masking { looks_inside: false, ..Masking::new(self.secrets, &mut out) };
        let is_json = inside.run(text).is_ok();
        (is_json && inside.has_masked).then(|| String::from_utf8(out).ok())?
    }

    fn json(&mut self, value: impl Serialize) {
        // Memory takes everything.
        let _ = serde_json::to_writer(&mut *self.out, &value);
    }
}

impl<'de> DeserializeSeed<'de> for Next<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Next<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.json(());
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.json(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.json(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.json(value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.json(value);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let masking = self.0;
        masking.open(b'[')?;
        let first = masking.out.len();
        loop {
            let end = masking.out.len();
            if end > first {
                masking.out.push(b',');
            }
            if items.next_element_seed(Next(&mut *masking))?.is_none() {
                masking.out.truncate(end);
                masking.close(b']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let masking = self.0;
        masking.open(b'{')?;
        let first = masking.out.len();
        loop {
            let (end, way) = (masking.out.len(), masking.path.len());
            if end > first {
                masking.out.push(b',');
            }
            match fields.next_key_seed(Name(&mut *masking))? {
                Some(true) => {
                    fields.next_value::<IgnoredAny>()?;
                    masking.mask();
                }
                Some(false) => fields.next_value_seed(Next(&mut *masking))?,
                None => {
                    masking.out.truncate(end);
                    masking.close(b'}');
                    return Ok(());
                }
            }
            masking.path.truncate(way);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    /// Whether what it names is secret.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        if self.0.looks_inside && name.starts_with(RESERVED) {
            return Err(E::custom("it has a name that readers of JSON keep for themselves"));
        }
        push_text(self.0.out, name);
        self.0.out.push(b':');
        Ok(self.0.enter(name))
    }
}

/// A name without what its writers differ in.
fn plain(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
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
    let mut ends = plain.char_indices().map(|(at, _)| plain.get(at..).unwrap_or_default());
    WHOLE.contains(&plain) || ends.any(|end| ANYWHERE.iter().any(|word| end.starts_with(word)))
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
    let is_token = text.len() >= 16 && BEGINNINGS.iter().any(|beginning| text.starts_with(beginning));
    is_token || has(text, b'-') && text.contains("PRIVATE KEY-----") || has(text, b'@') && has_password(text)
}

/// A character that few texts have is found sooner than a word.
fn has(text: &str, byte: u8) -> bool {
    text.as_bytes().contains(&byte)
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
    use crate::{Draft, Kind, Record};

    fn redacted(listed: &[&str], arguments: &str) -> String {
        Secrets::new(listed.iter().copied()).redact(arguments).unwrap()
    }

    #[test]
    fn what_config_lists_is_masked_at_any_depth_and_a_path_at_its_place_alone() {
        let listed = ["SSN", "card.number"];
        assert_eq!(
            redacted(&listed, r#"{"a":[{"S-s_n":1}],"card":{"number":"4111","kind":"x"},"number":"7"}"#),
            r#"{"a":[{"S-s_n":"[redacted]"}],"card":{"number":"[redacted]","kind":"x"},"number":"7"}"#
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
            r#"{"content":[{"type":"text","text":"{\"card\":{\"number\":\"[redacted]\"},\"pin\":\"[redacted]\"}"}]}"#
        );
        for plain in [r#"{"text":"{\"a\": 1}"}"#, r#"{"text":"[1, 2"}"#, r#"{"text":"12"}"#] {
            assert_eq!(redacted(&[], plain), plain);
        }
    }

    #[test]
    fn whatever_was_sent_its_record_can_be_read() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let reserved = "$serde_json::private::RawValue";
        let sent = [
            format!(r#"{{"{reserved}":"x"}}"#),
            format!(r#"{{"{reserved}":1}}"#),
            r#"{"a":[{"$serde\u005fjson::private::RawValue":"{"}]}"#.to_owned(),
            format!(r#"{{"{reserved}":"Bearer abcdefghijklmnop"}}"#),
        ];
        for arguments in sent.into_iter().chain((100..130).map(nested)) {
            let mut draft = Draft::new(Kind::Outcome, 1, 0);
            // What was answered to several calls at once stands deepest.
            draft.fields().json("response", |out| {
                out.extend_from_slice(b"[{\"result\":");
                let is_kept = Secrets::default().redact_to(&arguments, out);
                out.extend_from_slice(b"}]");
                is_kept
            });
            let record = [b"{\"seq\":1", draft.as_bytes(), b"}"].concat();
            assert_eq!(Record::parse(&record).map(|record| record.kind), Ok(Kind::Outcome), "{arguments}");
        }
        // Such a name in a text is as any other.
        let text = format!(r#"{{"text":"{{\"{reserved}\":1,\"pin\":2}}"}}"#);
        assert_eq!(
            redacted(&[], &text),
            format!(r#"{{"text":"{{\"{reserved}\":1,\"pin\":\"[redacted]\"}}"}}"#)
        );
    }

    #[test]
    fn what_is_large_or_no_json_is_left_out_whole() {
        let secrets = Secrets::default();
        assert_eq!(secrets.redact("{"), None);
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(AUDIT_ARGUMENTS_BYTES_MAX));
        assert_eq!(secrets.redact(&large), None);
        // What is large because of a secret is kept without it.
        let secret = format!(r#"{{"token":"{}"}}"#, "x".repeat(AUDIT_ARGUMENTS_BYTES_MAX));
        assert!(secrets.redact(&secret).is_some());
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(secrets.redact(&deep), None);
    }
}
