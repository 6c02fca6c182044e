//! What one mount's server offers, as far as its lists have passed here: names, and what tools say of themselves. Another mount's entries of the
//! same names are others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_core::limits::POLICY_TOOLS_MAX;
use ostler_policy::Annotations;

use super::listing::Listing;

/// The lists of one mount.
#[derive(Debug, Default)]
pub struct Offered {
    lists: [Mutex<List>; Listing::ALL.len()],
    /// Somebody has asked for the tools, or does.
    is_asked: AtomicBool,
}

/// One of them. What is not in it has the protocol's defaults, and so counts as destructive.
#[derive(Debug, Default)]
struct List {
    entries: HashMap<Box<str>, Annotations>,
    has_begun: bool,
    /// Every entry that the list has held is here.
    is_whole: bool,
}

// === impl Offered ===

impl Offered {
    /// What a tool says of itself.
    pub fn tool(&self, name: &str) -> Annotations {
        self.lock(Listing::Tools).entries.get(name).copied().unwrap_or_default()
    }

    pub(super) fn learn(&self, listing: Listing, name: &str, annotations: Annotations) {
        let mut list = self.lock(listing);
        if let Some(held) = list.entries.get_mut(name) {
            *held = annotations;
        } else if list.entries.len() < POLICY_TOOLS_MAX {
            list.entries.insert(name.into(), annotations);
        } else {
            list.is_whole = false;
            list.has_begun = false;
        }
    }

    /// A page has passed: the first of its list, the last of it, or both.
    pub(super) fn passed(&self, listing: Listing, is_first: bool, is_last: bool) {
        let mut list = self.lock(listing);
        list.has_begun |= is_first;
        list.is_whole |= list.has_begun && is_last;
    }

    /// The names and annotations of a list; nothing unless it is known to its end.
    pub(super) fn all(&self, listing: Listing) -> Option<Vec<(Box<str>, Annotations)>> {
        let list = self.lock(listing);
        let all = || list.entries.iter().map(|(name, annotations)| (name.clone(), *annotations)).collect();
        list.is_whole.then(all)
    }

    /// True once: whoever is told so asks for the tools.
    pub(super) fn claim_asking(&self) -> bool {
        !self.is_asked.swap(true, Ordering::AcqRel)
    }

    fn lock(&self, listing: Listing) -> MutexGuard<'_, List> {
        let [tools, prompts, resources, templates] = &self.lists;
        let list = match listing {
            Listing::Tools => tools,
            Listing::Prompts => prompts,
            Listing::Resources => resources,
            Listing::Templates => templates,
        };
        list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
