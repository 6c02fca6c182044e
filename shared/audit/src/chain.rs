//! What follows what: ids of chains, links between records, and the place that a chain has come to.

use std::fmt;
use std::str::FromStr;

use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::hex::Hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names one chain among all: 128 random bits as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId([u8; 16]);

/// Text that is no id of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chain's id is 32 hexadecimal digits in lower case")]
pub struct ChainIdError;

/// How far a chain has come: its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// 0 before the first record.
    pub seq: u64,
    pub link: Digest,
}

// === impl ChainId ===

impl ChainId {
    /// Of unguessable bytes, the first 16 of which are taken.
    pub fn of(random: &Digest) -> Self {
        let mut id = [0; 16];
        id.iter_mut().zip(random.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Hex::<32>::of(&self.0).as_str())
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({self})")
    }
}

impl FromStr for ChainId {
    type Err = ChainIdError;

    fn from_str(text: &str) -> Result<Self, ChainIdError> {
        // Twice over it is as long as a digest, which is read strictly.
        let whole: Digest = format!("{text}{text}").parse().map_err(|_| ChainIdError)?;
        Ok(Self::of(&whole))
    }
}

impl Serialize for ChainId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl Position ===

impl Position {
    /// Before a chain's first record: what that follows from is the chain's id, so that it is no other chain's.
    pub fn start(chain: ChainId) -> Self {
        let mut builder = DigestBuilder::new();
        builder.update(b"ostler audit chain 1").update(&chain.0);
        Self { seq: 0, link: builder.finish() }
    }

    /// Behind the record with these bytes, which is the next one.
    #[must_use]
    pub fn after(self, record: &[u8]) -> Self {
        Self { seq: self.seq.saturating_add(1), link: link(&self.link, record) }
    }
}

/// Of what a link is the digest: these bytes, and the record behind them.
pub(crate) const LINKED_BYTES: usize = 8 + 32 + 8;

/// What stands before a record of so many bytes in what its link is the digest of, as a [`DigestBuilder`] takes it in.
pub(crate) fn linked(prev: &Digest, record_bytes: usize) -> [u8; LINKED_BYTES] {
    let mut text = [0; LINKED_BYTES];
    let link = prev.as_bytes();
    let (link_bytes, rest) = text.split_at_mut(8);
    let (before, bytes) = rest.split_at_mut(link.len());
    link_bytes.copy_from_slice(&(link.len() as u64).to_be_bytes());
    before.copy_from_slice(link);
    bytes.copy_from_slice(&(record_bytes as u64).to_be_bytes());
    text
}

/// What a record's link is behind that of the one before.
pub fn link(prev: &Digest, record: &[u8]) -> Digest {
    let mut builder = DigestBuilder::new();
    builder.update(prev.as_bytes()).update(record);
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(seed: &str) -> ChainId {
        ChainId::of(&Digest::of(seed.as_bytes()))
    }

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = chain("a");
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "ab", &id.to_string().to_uppercase(), &format!("{id}{id}"), &"é".repeat(16)] {
            assert_eq!(text.parse::<ChainId>(), Err(ChainIdError), "{text}");
        }
    }

    #[test]
    fn what_is_linked_in_a_row_is_what_is_linked_in_pieces() {
        let prev = Digest::of(b"a");
        for record in [&b""[..], b"x", &[b'x'; 300]] {
            let row = [&linked(&prev, record.len())[..], record].concat();
            assert_eq!(Digest::of(&row), link(&prev, record));
        }
    }

    #[test]
    fn a_link_depends_on_the_chain_and_on_all_before() {
        let (a, b) = (Position::start(chain("a")), Position::start(chain("b")));
        assert_ne!(a.after(b"1").link, b.after(b"1").link);
        assert_ne!(a.after(b"1").after(b"2").link, a.after(b"0").after(b"2").link);
        assert_eq!(a.after(b"1").after(b"2").seq, 2);
    }
}
