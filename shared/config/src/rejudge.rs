//! Judging a config that differs from one before in a few parts, at a cost in proportion to these. What has the very bytes of a
//! part that was judged before is neither read nor judged again.
//!
//! It accepts what [`judge_parts`] accepts and means the same by it: whatever it is not sure of it leaves to that.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_core::digest::Digest;
use ostler_core::limits;

use crate::de;
use crate::diagnostic::{Diagnostic, Report};
use crate::judge::{Assembly, judge_parts};
use crate::node::Tree;
use crate::parts::{self, Part, PartKind, SETTINGS_NAME};
use crate::reporter::Reporter;
use crate::validate::{self, Meaning};
use crate::validated::{Mount, Validated};

/// A config that was accepted.
#[derive(Debug, Clone)]
pub struct Rejudged {
    pub config: Validated,
    /// Parts that were read; the others are those of the config before.
    pub read: usize,
}

/// Judges the parts of a config by the rules of [`judge_parts`], without its warnings. What the config before has in common
/// with it is shared with it.
///
/// # Errors
/// Those of [`judge_parts`].
pub fn rejudge_parts(parts: &Arc<[Part]>, before: Option<&Validated>) -> Result<Rejudged, Report> {
    if let Some(rejudged) = before.and_then(|before| rejudge(parts, before)) {
        return Ok(rejudged);
    }
    let config = judge_parts(parts)?.config;
    Ok(Rejudged { config, read: parts.len() })
}

/// Nothing if anything is to be said of it, or if it must be looked at as a whole.
fn rejudge(parts: &Arc<[Part]>, before: &Validated) -> Option<Rejudged> {
    if !is_plain(parts) {
        return None;
    }
    let difference = Difference::between(before.parts(), parts)?;
    let known = difference.what_stays(before)?;
    // Few and small, and what they say depends on all others.
    let is_of_the_whole = |part: &&Part| !matches!(part.kind, PartKind::Upstream | PartKind::Mount);
    let of_the_whole = parts.iter().filter(is_of_the_whole);
    let changed = difference.come.iter().copied();
    let changed = changed.filter(|part| matches!(part.kind, PartKind::Upstream | PartKind::Mount));

    let (mut tree, mut assembly) = (Tree::default(), Assembly::default());
    let root = assembly.assemble(of_the_whole.chain(changed), &mut tree);
    let values = before.values().saturating_add(tree.len());
    if !assembly.is_clean() || values > limits::CONFIG_NODES_MAX {
        return None;
    }
    let reporter = Reporter::new(&tree, None);
    let document = de::read(&reporter, root);
    let meaning = validate::validate(document, known, &reporter);
    let is_refused = reporter.finish().iter().any(Diagnostic::is_error);
    let max = limits::CONFIG_RESOURCES_MAX;
    let written = parts.iter().filter(|part| part.kind == PartKind::Mount).count();
    if is_refused || meaning.upstreams.len() > max || written > max {
        return None;
    }
    let digest = parts::digest(parts);
    let config = Validated::new(meaning, Arc::clone(parts), digest, values);
    Some(Rejudged { config, read: difference.come.len() })
}

/// Sorted, nothing twice, nothing unknown, and within the limits.
fn is_plain(parts: &[Part]) -> bool {
    let bytes: usize = parts.iter().map(|part| part.bytes.len()).fold(0, usize::saturating_add);
    parts.len() <= limits::SNAPSHOT_PARTS_MAX
        && bytes <= limits::CONFIG_BYTES_MAX
        && parts.iter().all(|part| !matches!(part.kind, PartKind::Unknown(_)))
        && parts.windows(2).all(|pair| match pair {
            [one, next] => parts::order(one, next) == Ordering::Less,
            _ => false,
        })
        && parts
            .iter()
            .filter(|part| part.kind == PartKind::Settings)
            .map(|part| &*part.name)
            .eq([SETTINGS_NAME])
        && parts.iter().all(|part| part.kind.section().is_none_or(|section| part.name == section))
}

/// What comes and what goes between two sorted lists. A part that changes does both.
struct Difference<'p> {
    come: Vec<&'p Part>,
    gone: Vec<&'p Part>,
}

// === impl Difference ===

impl<'p> Difference<'p> {
    /// Nothing if the content of a part that comes is not what its digest says.
    fn between(before: &'p [Part], after: &'p [Part]) -> Option<Self> {
        let mut difference = Self { come: Vec::new(), gone: Vec::new() };
        let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => parts::order(one, other),
            };
            let old = if order == Ordering::Greater { None } else { before.next() };
            let new = if order == Ordering::Less { None } else { after.next() };
            // The same bytes have the digest that was found to be theirs.
            if let (Some(old), Some(new)) = (old, new)
                && old.sha256 == new.sha256
                && old.bytes == new.bytes
            {
                continue;
            }
            difference.gone.extend(old);
            difference.come.extend(new);
        }
        let is_whole = |part: &&Part| Digest::of(&part.bytes) == part.sha256;
        difference.come.iter().all(is_whole).then_some(difference)
    }

    /// The meaning of the config before, without what is gone. Nothing if what is left leads to something that is gone, or is
    /// in the way of what comes.
    fn what_stays(&self, before: &Validated) -> Option<Meaning> {
        let mut stays = Meaning {
            upstreams: before.upstreams().clone(),
            mounts: before.mounts().clone(),
            ..Meaning::default()
        };
        let mut lost = BTreeSet::new();
        for part in &self.gone {
            let name = part.name.as_str();
            match part.kind {
                PartKind::Upstream => {
                    stays.upstreams.remove(name);
                    if stays.mounts.get(name).is_some_and(|mount| mount.automatic) {
                        stays.mounts.remove(name);
                    }
                    lost.insert(name);
                }
                PartKind::Mount => {
                    stays.mounts.remove(name);
                }
                _ => {}
            }
        }
        let upstreams = self.come.iter().filter(|part| part.kind == PartKind::Upstream);
        let come: BTreeSet<_> = upstreams.map(|part| part.name.as_str()).collect();
        let leads_nowhere =
            |mount: &Mount| lost.contains(mount.upstream.as_str()) && !come.contains(mount.upstream.as_str());
        let is_broken = !lost.is_empty() && stays.mounts.values().any(leads_nowhere);
        let is_in_the_way = come.iter().any(|name| stays.mounts.contains_key(*name));
        (!is_broken && !is_in_the_way).then_some(stays)
    }
}
