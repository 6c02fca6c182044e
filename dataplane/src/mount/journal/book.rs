//! What is alive of the journal, and what of it is not on disk yet. All of it is bounded, whatever clients begin and leave:
//! when there is too much, the mount that has most gives up its sessions that were idle longest.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use ostler_core::digest::Digest;
use ostler_core::limits::{
    JOURNAL_BYTES_MAX, JOURNAL_ENTRY_BYTES, JOURNAL_USED_INTERVAL, JOURNAL_WITHDRAWN_MAX, SESSION_IDLE,
    SESSION_LIFETIME,
};
use ostler_core::name::ResourceName;

use super::format::Record;

/// The sessions by SHA-256 of their ids.
#[derive(Debug, Default)]
pub(super) struct Book {
    live: HashMap<Digest, Entry>,
    bytes: BTreeMap<ResourceName, usize>,
    /// Sessions whose record on disk is not theirs any more.
    changed: HashSet<Digest>,
    /// Sessions whose time of use alone is another.
    used: HashSet<Digest>,
    /// Those that ended and may stand in the file.
    ended: HashSet<Digest>,
    /// When credentials were withdrawn, which end what was begun with them before.
    withdrawn: BTreeMap<Digest, u64>,
    /// Those of them that are not on disk.
    newly_withdrawn: HashSet<Digest>,
}

/// One session.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub mount: ResourceName,
    pub began_unix_ms: u64,
    pub used_unix_ms: u64,
    pub sealed: Bytes,
    /// A record of it may stand in the file.
    is_written: bool,
}

// === impl Book ===

impl Book {
    /// What a file says is alive at that time.
    pub(super) fn of(records: Vec<Record>, now_unix_ms: u64) -> Self {
        let mut book = Self::default();
        for record in records {
            match record {
                Record::Session { key, mount, began_unix_ms, used_unix_ms, sealed } => {
                    book.take(key);
                    book.insert(key, Entry { mount, began_unix_ms, used_unix_ms, sealed, is_written: true });
                }
                Record::Used { key, used_unix_ms } => {
                    if let Some(entry) = book.live.get_mut(&key) {
                        entry.used_unix_ms = entry.used_unix_ms.max(used_unix_ms);
                    }
                }
                Record::Ended { key } => drop(book.take(key)),
                Record::Withdrawn { credential, at_unix_ms } => book.withdraw(credential, at_unix_ms),
            }
        }
        book.expire(now_unix_ms);
        book.make_room();
        book.ended.clear();
        book.newly_withdrawn.clear();
        book
    }

    /// A session begins, or needs something else after a restart.
    pub(super) fn put(&mut self, key: Digest, entry: Entry) {
        let before = self.take(key);
        let is_written = before.is_some_and(|before| before.is_written);
        self.insert(key, Entry { is_written, ..entry });
        self.ended.remove(&key);
        self.used.remove(&key);
        self.changed.insert(key);
        self.make_room();
    }

    /// A session ends.
    pub(super) fn end(&mut self, key: Digest) {
        let Some(entry) = self.take(key) else { return };
        self.changed.remove(&key);
        self.used.remove(&key);
        if entry.is_written {
            self.ended.insert(key);
        }
    }

    /// A session was used.
    pub(super) fn touch(&mut self, key: Digest, used_unix_ms: u64) {
        let Some(entry) = self.live.get_mut(&key) else { return };
        let interval_ms = u64::try_from(JOURNAL_USED_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if used_unix_ms >= entry.used_unix_ms.saturating_add(interval_ms) {
            entry.used_unix_ms = used_unix_ms;
            self.used.insert(key);
        }
    }

    /// What was begun with a credential until then is over. Whose it is stands sealed in each session, and is asked when it is found.
    pub(super) fn withdraw(&mut self, credential: Digest, at_unix_ms: u64) {
        self.withdrawn.insert(credential, at_unix_ms);
        self.newly_withdrawn.insert(credential);
        while self.withdrawn.len() > JOURNAL_WITHDRAWN_MAX {
            let Some((first, until)) = self.withdrawn.iter().min_by_key(|(_, at)| **at) else { return };
            let (first, until) = (*first, *until);
            // What it ended cannot be told from the others any more.
            let older = |entry: &Entry| entry.began_unix_ms <= until;
            let older: Vec<_> =
                self.live.iter().filter(|(_, entry)| older(entry)).map(|(key, _)| *key).collect();
            older.into_iter().for_each(|key| self.end(key));
            self.withdrawn.remove(&first);
            self.newly_withdrawn.remove(&first);
        }
    }

    /// Whether a session that began then with this credential has ended with it.
    pub(super) fn is_withdrawn(&self, credential: Digest, began_unix_ms: u64) -> bool {
        self.withdrawn.get(&credential).is_some_and(|at| began_unix_ms <= *at)
    }

    pub(super) fn get(&self, key: Digest) -> Option<&Entry> {
        self.live.get(&key)
    }

    /// Ends the sessions whose time is up.
    pub(super) fn expire(&mut self, now_unix_ms: u64) {
        let over = |entry: &Entry| is_over(entry.began_unix_ms, entry.used_unix_ms, now_unix_ms);
        let over: Vec<_> = self.live.iter().filter(|(_, entry)| over(entry)).map(|(key, _)| *key).collect();
        for key in over {
            self.end(key);
        }
        // Nothing that began before can be there any more.
        self.withdrawn.retain(|_, at| !is_over(*at, now_unix_ms, now_unix_ms));
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// What is alive, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.values().sum()
    }

    pub(super) fn has_news(&self) -> bool {
        !(self.changed.is_empty()
            && self.used.is_empty()
            && self.ended.is_empty()
            && self.newly_withdrawn.is_empty())
    }

    /// The records that bring the file up to date; they count as written from here on.
    pub(super) fn take_news(&mut self) -> Vec<Record> {
        let mut news: Vec<_> =
            std::mem::take(&mut self.ended).into_iter().map(|key| Record::Ended { key }).collect();
        for credential in std::mem::take(&mut self.newly_withdrawn) {
            if let Some(at_unix_ms) = self.withdrawn.get(&credential).copied() {
                news.push(Record::Withdrawn { credential, at_unix_ms });
            }
        }
        for key in std::mem::take(&mut self.used) {
            if let Some(entry) = self.live.get(&key).filter(|_| !self.changed.contains(&key)) {
                news.push(Record::Used { key, used_unix_ms: entry.used_unix_ms });
            }
        }
        for key in std::mem::take(&mut self.changed) {
            if let Some(entry) = self.live.get_mut(&key) {
                entry.is_written = true;
                news.push(entry.record(key));
            }
        }
        news
    }

    /// All that is alive, for a new file; it counts as written from here on.
    pub(super) fn take_all(&mut self) -> Vec<Record> {
        self.changed.clear();
        self.used.clear();
        self.ended.clear();
        self.newly_withdrawn.clear();
        let written = |(key, entry): (&Digest, &mut Entry)| {
            entry.is_written = true;
            entry.record(*key)
        };
        let withdrawn = self.withdrawn.iter();
        let withdrawn =
            withdrawn.map(|(credential, at)| Record::Withdrawn { credential: *credential, at_unix_ms: *at });
        self.live.iter_mut().map(written).chain(withdrawn).collect()
    }

    fn insert(&mut self, key: Digest, entry: Entry) {
        *self.bytes.entry(entry.mount.clone()).or_default() += entry.bytes();
        self.live.insert(key, entry);
    }

    fn take(&mut self, key: Digest) -> Option<Entry> {
        let entry = self.live.remove(&key)?;
        if let Some(bytes) = self.bytes.get_mut(&entry.mount) {
            *bytes = bytes.saturating_sub(entry.bytes());
            if *bytes == 0 {
                self.bytes.remove(&entry.mount);
            }
        }
        Some(entry)
    }

    /// Keeps within [`JOURNAL_BYTES_MAX`]. An eighth of a mount's sessions go at once, so that this is rare.
    fn make_room(&mut self) {
        while self.bytes() > JOURNAL_BYTES_MAX {
            let Some(most) = self.bytes.iter().max_by_key(|(_, bytes)| **bytes) else { return };
            let mount = most.0.clone();
            let mut keys: Vec<_> = self
                .live
                .iter()
                .filter(|(_, entry)| entry.mount == mount)
                .map(|(key, entry)| (entry.used_unix_ms, *key))
                .collect();
            keys.sort_unstable();
            let leaving = keys.len().div_ceil(8);
            for (_, key) in keys.into_iter().take(leaving) {
                self.end(key);
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(mount: ResourceName, began_unix_ms: u64, used_unix_ms: u64, sealed: Vec<u8>) -> Self {
        Self { mount, began_unix_ms, used_unix_ms, sealed: sealed.into(), is_written: false }
    }

    fn bytes(&self) -> usize {
        self.sealed.len() + JOURNAL_ENTRY_BYTES
    }

    fn record(&self, key: Digest) -> Record {
        Record::Session {
            key,
            mount: self.mount.clone(),
            began_unix_ms: self.began_unix_ms,
            used_unix_ms: self.used_unix_ms,
            sealed: self.sealed.clone(),
        }
    }
}

/// Whether a session's time is up, for want of use or altogether.
pub(in crate::mount) fn is_over(began_unix_ms: u64, used_unix_ms: u64, now_unix_ms: u64) -> bool {
    let past = |since: u64, limit: std::time::Duration| {
        u128::from(now_unix_ms.saturating_sub(since)) > limit.as_millis()
    };
    past(used_unix_ms, SESSION_IDLE) || past(began_unix_ms, SESSION_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    fn entry(mount: &str, used_unix_ms: u64, bytes: usize) -> Entry {
        Entry::new(mount.parse().unwrap(), 1, used_unix_ms, vec![7; bytes])
    }

    #[test]
    fn what_ended_stays_ended_and_the_last_word_counts() {
        let mut book = Book::default();
        let mut file = Vec::new();
        for number in 0..3 {
            book.put(key(number), entry("a", 1, 10));
        }
        file.extend(book.take_news());
        book.end(key(1));
        book.put(key(2), entry("a", 9, 20));
        file.extend(book.take_news());
        assert!(!book.has_news());
        let read = Book::of(file, 10);
        assert!(read.get(key(0)).is_some() && read.get(key(1)).is_none());
        assert_eq!(read.get(key(2)).unwrap().sealed.len(), 20);
        assert_eq!((read.len(), read.bytes()), (2, book.bytes()));
        // A new file needs no word of what is not in it.
        assert_eq!(Book::of(book.take_all(), 10).len(), 2);
    }

    #[test]
    fn a_session_that_begins_and_ends_before_it_is_written_leaves_nothing() {
        let mut book = Book::default();
        for number in 0..1_000 {
            book.put(key(number), entry("a", 1, 10));
            book.end(key(number));
        }
        assert!(!book.has_news());
        assert_eq!(book.bytes(), 0);
    }

    #[test]
    fn a_flood_of_one_mount_costs_its_own_idlest_sessions_and_no_neighbours() {
        let mut book = Book::default();
        book.put(key(0), entry("quiet", 1, 1_000));
        let bytes = 60 * 1024;
        let flood = 3 * JOURNAL_BYTES_MAX / bytes;
        for number in 1..=flood as u64 {
            book.put(key(number), entry("loud", number, bytes));
            assert!(book.bytes() <= JOURNAL_BYTES_MAX);
        }
        assert!(book.get(key(0)).is_some(), "the neighbour's session is gone");
        assert!(book.get(key(1)).is_none() && book.get(key(flood as u64)).is_some());
        assert!(book.bytes() > JOURNAL_BYTES_MAX / 2);
    }

    #[test]
    fn idle_and_old_sessions_are_not_taken_over() {
        let idle_ms = u64::try_from(SESSION_IDLE.as_millis()).unwrap();
        let lifetime_ms = u64::try_from(SESSION_LIFETIME.as_millis()).unwrap();
        let mut book = Book::default();
        book.put(key(0), entry("a", 1, 10));
        book.put(key(1), entry("a", lifetime_ms, 10));
        let file = book.take_all();
        let left = |now_unix_ms| Book::of(file.clone(), now_unix_ms).len();
        assert_eq!(left(1 + idle_ms), 2);
        assert_eq!(left(2 + idle_ms), 1);
        assert_eq!(left(2 + lifetime_ms), 0, "used, and over all the same");
    }

    #[test]
    fn what_was_withdrawn_ends_what_began_before_and_nothing_else_over_restarts() {
        let credential = |number: usize| key(number as u64 + 1_000_000);
        let mut book = Book::default();
        book.put(key(0), entry("a", 1, 10));
        let mut file = book.take_news();
        book.withdraw(credential(0), 5);
        file.extend(book.take_news());
        assert!(!book.has_news());
        for mut book in [book, Book::of(file, 6)] {
            for read in [Book::of(book.take_all(), 6), book] {
                let ended = [5, 6].map(|began| read.is_withdrawn(credential(0), began));
                assert_eq!((ended, read.is_withdrawn(credential(1), 1)), ([true, false], false));
            }
        }
        let mut full = Book::default();
        full.put(key(0), entry("a", 1, 10));
        full.put(key(1), Entry::new("a".parse().unwrap(), 9, 9, vec![7; 10]));
        (0..=JOURNAL_WITHDRAWN_MAX).for_each(|number| full.withdraw(credential(number), 5 + number as u64));
        // What one that is forgotten may have ended is ended.
        assert!(full.get(key(0)).is_none() && full.get(key(1)).is_some());
        let lifetime_ms = u64::try_from(SESSION_LIFETIME.as_millis()).unwrap();
        full.expire(lifetime_ms * 2);
        assert!(full.withdrawn.is_empty());
    }

    #[test]
    fn times_of_use_are_written_seldom() {
        let interval_ms = u64::try_from(JOURNAL_USED_INTERVAL.as_millis()).unwrap();
        let mut book = Book::default();
        book.put(key(0), entry("a", 1, 10));
        let mut file = book.take_all();
        book.touch(key(0), interval_ms);
        assert!(!book.has_news());
        book.touch(key(0), interval_ms + 1);
        file.extend(book.take_news());
        assert_eq!(Book::of(file, interval_ms).get(key(0)).unwrap().used_unix_ms, interval_ms + 1);
    }
}
