//! Canaries: values that must be seen nowhere, however they are written, and the places where they are looked for.

use std::fmt;
use std::path::{Path, PathBuf};

/// A value that was planted as a secret.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Where it was planted, for people.
    pub planted: &'static str,
    pub value: String,
}

/// Something that was shown or kept, and where.
#[derive(Clone)]
pub struct Surface {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Everything that was shown or kept.
#[derive(Debug, Default)]
pub struct Surfaces(pub Vec<Surface>);

// === impl Canary ===

impl Canary {
    /// One that nothing else looks like.
    pub fn new(planted: &'static str, number: u64) -> Self {
        // Letters and digits alone, so that it is good for headers, URLs, names and JSON as it is.
        let digits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { planted, value: format!("canary{number}x{digits:016x}") }
    }

    /// As it is, and as encoders write it. Of base64, the part that does not depend on what stands before and behind it.
    fn forms(&self) -> Vec<Vec<u8>> {
        let raw = self.value.as_bytes();
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![raw.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        forms.push(raw.iter().rev().copied().collect());
        for before in 0..3 {
            let padded = [&vec![0; before][..], raw].concat();
            let whole = padded.len() / 3 * 3;
            let text = base64(padded.get(..whole).unwrap_or_default());
            forms.push(text.into_bytes().split_off(if before == 0 { 0 } else { 4 }));
        }
        forms
    }

    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms().iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// RFC 4648, of whole groups of three bytes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(ALPHABET[(bits & 63) as usize]);
    let groups =
        bytes.chunks_exact(3).map(|group| group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)));
    groups.flat_map(|bits| [18, 12, 6, 0].map(|shift| digit(bits >> shift))).collect()
}

// === impl Surface ===

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, String::from_utf8_lossy(&self.bytes))
    }
}

// === impl Surfaces ===

impl Surfaces {
    pub fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push(Surface { name: name.into(), bytes: bytes.into() });
    }

    /// All files below a folder, but for those that hold a secret because that is what they are for.
    ///
    /// # Panics
    /// When the folder cannot be read.
    pub fn add_files(&mut self, folder: &Path, is_secret: impl Fn(&Path) -> bool) {
        let mut folders = vec![PathBuf::from(folder)];
        while let Some(inner) = folders.pop() {
            for entry in std::fs::read_dir(&inner).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if is_secret(&path) => {}
                    false => self.add(path.display().to_string(), std::fs::read(&path).expect("a file")),
                }
            }
        }
    }

    /// Where a canary is.
    pub fn holding(&self, canary: &Canary) -> Vec<&str> {
        let holding = self.0.iter().filter(|surface| canary.is_in(&surface.bytes));
        holding.map(|surface| &*surface.name).collect()
    }

    /// The names that have this in them.
    ///
    /// # Panics
    /// When there is none: what was not looked at is not known to be clean.
    pub fn named(&self, part: &str) -> Vec<&Surface> {
        let found: Vec<_> = self.0.iter().filter(|surface| surface.name.contains(part)).collect();
        assert!(
            !found.is_empty(),
            "nothing of `{part}` was looked at: {:?}",
            self.0.iter().map(|it| &it.name).collect::<Vec<_>>()
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_found_however_it_is_written() {
        let canary = Canary::new("test", 7);
        let value = &canary.value;
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(canary.is_in(format!("a {value} b").as_bytes()) && canary.is_in(hex.as_bytes()));
        for user in ["", "a", "ab", "abc", "user:"] {
            let mut text = format!("{user}{value}");
            text.extend(std::iter::repeat_n('~', (3 - text.len() % 3) % 3));
            assert!(canary.is_in(format!("Basic {}", base64(text.as_bytes())).as_bytes()), "after `{user}`");
        }
        assert!(!canary.is_in(Canary::new("test", 8).value.as_bytes()) && !canary.is_in(b""));
        assert_eq!(base64(b"Man"), "TWFu");
    }
}
