//! Which content: a revision within a lineage, and how what a node holds relates to what it should hold.

use ostler_core::digest::Digest;

use crate::api::types::RevisionInfo;
use crate::store::VersionRecord;

/// The source name that control gives its own lineages.
pub const SOURCE: &str = "control";

/// One version's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    pub epoch: u64,
    pub version: u64,
    pub digest: Digest,
}

/// What a node holds, against what its fleet should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The node holds exactly this.
    Same,
    /// The node is to be given this.
    Behind,
    /// The node would refuse this, because it holds a later version of the same lineage.
    Ahead,
    /// The node would refuse this, because it holds the same version with another digest.
    Conflict,
}

impl Revision {
    pub fn of(record: &VersionRecord) -> Self {
        Self { epoch: record.epoch, version: record.version, digest: record.digest }
    }

    pub fn info(&self) -> RevisionInfo {
        RevisionInfo { epoch: self.epoch, version: self.version, digest: self.digest.to_hex() }
    }
}

/// Compares within one lineage; what belongs to another lineage must be passed as `None`.
pub fn relate(held: Option<&Revision>, desired: &Revision) -> Relation {
    let Some(held) = held else { return Relation::Behind };
    match (held.epoch, held.version).cmp(&(desired.epoch, desired.version)) {
        std::cmp::Ordering::Greater => Relation::Ahead,
        std::cmp::Ordering::Less => Relation::Behind,
        std::cmp::Ordering::Equal if held.digest == desired.digest => Relation::Same,
        std::cmp::Ordering::Equal => Relation::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(epoch: u64, version: u64, content: &[u8]) -> Revision {
        Revision { epoch, version, digest: Digest::of(content) }
    }

    #[test]
    fn a_lineage_only_moves_forward() {
        let desired = revision(5, 7, b"a");
        for (held, expected) in [
            (None, Relation::Behind),
            (Some(revision(5, 6, b"a")), Relation::Behind),
            (Some(revision(4, 99, b"a")), Relation::Behind),
            (Some(revision(5, 7, b"a")), Relation::Same),
            (Some(revision(5, 7, b"b")), Relation::Conflict),
            (Some(revision(5, 8, b"a")), Relation::Ahead),
            (Some(revision(6, 1, b"a")), Relation::Ahead),
        ] {
            assert_eq!(relate(held.as_ref(), &desired), expected, "{held:?}");
        }
    }
}
