//! SHA-256 digests of content, shown as lower-case hex. A digest finds corruption; only a signature finds tampering.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hex::Hex;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_aws(&digest(&SHA256, bytes))
    }

    /// From raw bytes, as they travel on the wire.
    ///
    /// # Errors
    /// When there are not exactly 32 of them.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DigestError> {
        bytes.try_into().map(Self).map_err(|_| DigestError)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn to_hex(self) -> String {
        self.hex().as_str().to_owned()
    }

    /// Its first 16 digits: enough to recognise an id that is itself a secret, and never enough to find it.
    pub fn to_short_hex(self) -> String {
        self.short_hex().as_str().to_owned()
    }

    /// The same, in memory of their own.
    pub fn short_hex(self) -> Hex<16> {
        Hex::of(&self.0)
    }

    /// Its digits, in memory of their own.
    pub fn hex(self) -> Hex<64> {
        Hex::of(&self.0)
    }

    fn from_aws(value: &aws_lc_rs::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(value.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| DigestError)?;
            if !pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(DigestError);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| DigestError)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest over several fields. Each is preceded by its length, so that no two field lists collide by concatenation.
pub struct DigestBuilder(Context);

impl DigestBuilder {
    #[expect(clippy::new_without_default, reason = "an empty digest by default would hide a forgotten field")]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub fn update(&mut self, field: &[u8]) -> &mut Self {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
        self
    }

    pub fn finish(self) -> Digest {
        Digest::from_aws(&self.0.finish())
    }
}

/// The digest of a stream, as [`Digest::of`] gives it of the whole.
pub struct StreamDigest(Context);

impl StreamDigest {
    #[expect(clippy::new_without_default, reason = "as for the builder")]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of what has come so far.
    pub fn so_far(&self) -> Digest {
        Digest::from_aws(&self.0.clone().finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_a_known_vector_and_round_trips() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_hex().parse(), Ok(digest));
        assert!("BA".repeat(32).parse::<Digest>().is_err());
        assert!("ab".parse::<Digest>().is_err());
    }

    #[test]
    fn a_stream_has_the_digest_of_its_whole() {
        let mut stream = StreamDigest::new();
        stream.update(b"a");
        assert_eq!(stream.so_far(), Digest::of(b"a"));
        stream.update(b"bc");
        assert_eq!(stream.so_far(), Digest::of(b"abc"));
    }

    #[test]
    fn fields_do_not_run_together() {
        let digest = |fields: &[&[u8]]| {
            let mut builder = DigestBuilder::new();
            fields.iter().for_each(|field| {
                builder.update(field);
            });
            builder.finish()
        };
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
