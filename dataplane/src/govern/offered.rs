//! What one mount's server offers, as far as its lists have passed here: names, and what tools say of themselves. Another mount's entries of the
//! same names are others. What was learnt before the server said that its tools have changed, or went away, counts for nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_core::limits::{POLICY_TOOLS_FRESH_MAX, POLICY_TOOLS_MAX};
use ostler_policy::Annotations;
use tokio::time::Instant;

use super::listing::Listing;

/// The lists of one mount.
#[derive(Debug, Default)]
pub struct Offered {
    lists: [Mutex<List>; Listing::ALL.len()],
    /// The server's [`Doubts`](crate::upstream::health::Doubts) that were heeded.
    heeded: AtomicU64,
    /// When somebody began to ask for the tools.
    asked: Mutex<Option<Instant>>,
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

    /// Forgets what its tools say of themselves where the server has raised doubts of it since.
    pub(super) fn heed(&self, doubts: u64) {
        if self.heeded.load(Ordering::Acquire) == doubts {
            return;
        }
        let mut tools = self.lock(Listing::Tools);
        if self.heeded.swap(doubts, Ordering::AcqRel) != doubts {
            *tools = List::default();
            *lock(&self.asked) = None;
        }
    }

    /// True once, and again when it was long ago: whoever is told so asks for the tools.
    pub(super) fn claim_asking(&self) -> bool {
        let mut asked = lock(&self.asked);
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= POLICY_TOOLS_FRESH_MAX);
        if is_due {
            *asked = Some(Instant::now());
        }
        is_due
    }

    fn lock(&self, listing: Listing) -> MutexGuard<'_, List> {
        let [tools, prompts, resources, templates] = &self.lists;
        let list = match listing {
            Listing::Tools => tools,
            Listing::Prompts => prompts,
            Listing::Resources => resources,
            Listing::Templates => templates,
        };
        lock(list)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harmless() -> Annotations {
        Annotations { read_only: true, ..Annotations::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn tools_are_asked_for_once_and_again_when_that_was_long_ago_or_is_doubtful() {
        let offered = Offered::default();
        assert_eq!([offered.claim_asking(), offered.claim_asking()], [true, false]);
        tokio::time::advance(POLICY_TOOLS_FRESH_MAX).await;
        assert_eq!([offered.claim_asking(), offered.claim_asking()], [true, false]);
        offered.heed(1);
        assert_eq!([offered.claim_asking(), offered.claim_asking()], [true, false]);
    }

    #[test]
    fn a_doubt_makes_tools_destructive_until_they_are_learnt_again_and_other_lists_stay() {
        let offered = Offered::default();
        offered.learn(Listing::Tools, "look", harmless());
        offered.learn(Listing::Prompts, "greet", Annotations::default());
        for listing in Listing::ALL {
            offered.passed(listing, true, true);
        }
        assert!(!offered.tool("look").is_destructive() && offered.tool("other").is_destructive());
        offered.heed(0);
        assert!(!offered.tool("look").is_destructive());
        offered.heed(3);
        assert!(offered.tool("look").is_destructive());
        assert_eq!(offered.all(Listing::Tools), None);
        assert_eq!(offered.all(Listing::Prompts).unwrap().len(), 1);
        offered.learn(Listing::Tools, "look", harmless());
        offered.heed(3);
        assert!(!offered.tool("look").is_destructive());
    }

    #[test]
    fn a_list_is_known_whole_from_its_first_page_to_its_last_alone() {
        let offered = Offered::default();
        offered.passed(Listing::Tools, false, true);
        assert_eq!(offered.all(Listing::Tools), None, "its beginning is not known");
        offered.passed(Listing::Tools, true, false);
        assert_eq!(offered.all(Listing::Tools), None, "its end is not known");
        offered.passed(Listing::Tools, false, true);
        assert_eq!(offered.all(Listing::Tools), Some(Vec::new()));
        for number in 0..=POLICY_TOOLS_MAX {
            offered.learn(Listing::Tools, &number.to_string(), harmless());
        }
        assert_eq!(offered.all(Listing::Tools), None, "not all of it fits");
        assert!(offered.tool(&POLICY_TOOLS_MAX.to_string()).is_destructive());
    }
}
