//! The tables of the store. A table's key and value types never change; another shape is another table, so that an
//! older build finds what it knows and a newer one migrates by adding. See docs/decisions/0008.

use redb::TableDefinition;

/// The format this build writes. Raised only by a change that an older build must not touch.
///
/// 2: records of the audit log may belong to no fleet; a version's record may name the digest of its text; the store
/// names the build that last wrote it.
pub(super) const FORMAT: u64 = 2;

/// `format` and `epoch`.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_EPOCH: &str = "epoch";

/// What only people read. Since format 2.
pub(super) const ABOUT: TableDefinition<'static, &str, &str> = TableDefinition::new("about");
/// The build that last opened it for writing.
pub(super) const ABOUT_WRITTEN_BY: &str = "written_by";

/// Fleet → its current version.
pub(super) const FLEETS: TableDefinition<'static, &str, u64> = TableDefinition::new("fleets");

/// (fleet, version) → [`super::VersionRecord`] as JSON.
pub(super) const VERSIONS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("versions");

/// (fleet, version) → the operator's text.
pub(super) const TEXTS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("texts");

/// (fleet, version, place in the part list) → (kind, name, SHA-256, canonical JSON).
pub(super) const PARTS: TableDefinition<'static, (&str, u64, u32), PartRow> = TableDefinition::new("parts");
pub(super) type PartRow = (&'static str, &'static str, &'static [u8; 32], &'static [u8]);

/// Order of arrival → a record of a data plane: chain, place in it, node, fleet, link before, link, when it came, and the bytes
/// that the node wrote. Like the next two, made when it is first written to.
pub(super) const TRAIL: TableDefinition<'static, u64, TrailRow> = TableDefinition::new("trail");
pub(super) type TrailRow =
    (&'static str, u64, &'static str, &'static str, &'static [u8; 32], &'static [u8; 32], u64, &'static [u8]);

/// (chain, place) → order of arrival.
pub(super) const TRAIL_IDS: TableDefinition<'static, (&str, u64), u64> = TableDefinition::new("trail_ids");

/// Chain → [`super::ChainRecord`] as JSON.
pub(super) const TRAIL_CHAINS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("trail_chains");

/// Fleet → its kill switches as JSON. Made when it is first written to.
pub(super) const KILLS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("kills");

/// Sequence number → [`super::AuditRecord`] as JSON. Each holds the digest of the bytes of the one before.
pub(super) const AUDIT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("audit");
