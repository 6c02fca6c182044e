//! Finds a key that an object holds twice, at a cost that grows with the number of keys and no faster.
//!
//! Two parsers may each pick another of two equal keys, so that policy judges one value and the upstream runs the
//! other. Keys are compared decoded. One vector serves all open objects as a stack; an object that outgrows a linear
//! search gets a table of hashes with a random seed. It must never compare escaped text, nor take equal hashes for equal
//! keys.

use std::hash::{BuildHasher as _, RandomState};

/// Up to this many keys of one object are compared one by one, without a table.
const LINEAR_KEYS_MAX: usize = 16;
/// Keys of all open objects that nearly all messages keep within, in half a KiB.
const KEYS_USUAL: usize = 21;
/// Places of the first table; always a power of two.
const TABLE_SLOTS_MIN: usize = 4 * LINEAR_KEYS_MAX;

pub(super) struct Keys<'a> {
    /// The innermost open object.
    here: Object,
    /// The keys of all open objects, outermost first; before those of each, the object around it.
    open: Vec<Key<'a>>,
    /// What the escaped ones among them stand for, end to end.
    decoded: String,
    /// Of the open objects that have one, outermost first.
    tables: Vec<Table>,
    seed: RandomState,
}

#[derive(Clone, Copy)]
enum Key<'a> {
    Written(&'a str),
    Decoded {
        start: usize,
        end: usize,
    },
    /// No key, but what ends those of an object.
    Around(Object),
}

/// An open object: where its keys begin.
#[derive(Clone, Copy)]
struct Object {
    base: usize,
    decoded_base: usize,
    has_table: bool,
}

/// Open addressing: a slot holds the upper half of a key's hash and, below it, the key's number counted from one; zero is
/// free. A key's place is given by the uppermost bits, so that a table that grows is copied from front to back.
struct Table(Vec<u64>);

// === impl Keys ===

impl<'a> Keys<'a> {
    pub fn new() -> Self {
        Keys {
            here: Object { base: 0, decoded_base: 0, has_table: false },
            open: Vec::with_capacity(KEYS_USUAL),
            decoded: String::new(),
            tables: Vec::new(),
            seed: RandomState::new(),
        }
    }

    #[inline]
    pub fn open_object(&mut self) {
        self.open.push(Key::Around(self.here));
        self.here = Object { base: self.open.len(), decoded_base: self.decoded.len(), has_table: false };
    }

    /// False if the innermost open object holds the key already.
    #[inline]
    pub fn insert(&mut self, key: &'a str) -> bool {
        let is_new = self.is_new(key);
        if is_new {
            self.open.push(Key::Written(key));
        }
        is_new
    }

    /// The same for one that was written with escapes, by what it stands for.
    pub fn insert_decoded(&mut self, key: &str) -> bool {
        let is_new = self.is_new(key);
        if is_new {
            let start = self.decoded.len();
            self.decoded.push_str(key);
            self.open.push(Key::Decoded { start, end: self.decoded.len() });
        }
        is_new
    }

    #[inline(always)]
    fn is_new(&mut self, key: &str) -> bool {
        let held = self.open.get(self.here.base..).unwrap_or_default();
        if held.len() >= LINEAR_KEYS_MAX {
            return self.insert_in_table(key);
        }
        !held.iter().any(|held| held.is(key, &self.decoded))
    }

    #[inline(never)]
    fn insert_in_table(&mut self, key: &str) -> bool {
        let held = self.open.get(self.here.base..).unwrap_or_default();
        if !self.here.has_table {
            let hashes = held.iter().map(|held| self.seed.hash_one(held.text(&self.decoded)));
            self.tables.push(Table::of(hashes));
            self.here.has_table = true;
        }
        let is_held = |number: usize| held.get(number).is_some_and(|held| held.is(key, &self.decoded));
        let Some(table) = self.tables.last_mut() else { return false };
        table.insert(self.seed.hash_one(key), held.len(), is_held)
    }

    #[inline]
    pub fn close_object(&mut self) {
        let Object { base, decoded_base, has_table } = self.here;
        self.open.truncate(base);
        if self.decoded.len() > decoded_base {
            self.decoded.truncate(decoded_base);
        }
        if has_table {
            self.tables.pop();
        }
        if let Some(Key::Around(object)) = self.open.pop() {
            self.here = object;
        }
    }
}

// === impl Key ===

impl<'a> Key<'a> {
    fn text<'k>(&self, decoded: &'k str) -> &'k str
    where
        'a: 'k,
    {
        match self {
            Key::Written(text) => text,
            Key::Decoded { start, end } => decoded.get(*start..*end).unwrap_or_default(),
            Key::Around(_) => "",
        }
    }

    #[inline]
    fn is(&self, key: &str, decoded: &str) -> bool {
        match self {
            Key::Written(text) => *text == key,
            _ => self.text(decoded) == key,
        }
    }
}

// === impl Table ===

impl Table {
    /// Of keys that are known to differ, in the order of their numbers.
    fn of(hashes: impl Iterator<Item = u64>) -> Self {
        let mut table = Self(vec![0; TABLE_SLOTS_MIN]);
        for (number, hash) in hashes.enumerate() {
            table.insert(hash, number, |_| false);
        }
        table
    }

    /// Takes the key that comes after `number` others; false if one of these is the same.
    fn insert(&mut self, hash: u64, number: usize, is_same: impl Fn(usize) -> bool) -> bool {
        if number >= self.0.len() / 4 * 3 {
            self.grow();
        }
        // No body has as many keys; one that had would be refused.
        let Ok(count) = u32::try_from(number + 1) else { return false };
        let upper = hash >> u32::BITS;
        let slot = (upper << u32::BITS) | u64::from(count);
        let found = self.probe(hash, |slot| {
            let number = (slot & u64::from(u32::MAX)).saturating_sub(1);
            slot >> u32::BITS == upper && usize::try_from(number).is_ok_and(&is_same)
        });
        match found {
            Some(place) if *place == 0 => *place = slot,
            _ => return false,
        }
        true
    }

    fn grow(&mut self) {
        let slots = std::mem::take(&mut self.0);
        self.0 = vec![0; slots.len() * 2];
        for slot in slots.into_iter().filter(|slot| *slot != 0) {
            if let Some(place) = self.probe(slot, |_| false) {
                *place = slot;
            }
        }
    }

    /// The first slot, from the hash's place on, that is free or `wanted`.
    fn probe(&mut self, hash: u64, wanted: impl Fn(u64) -> bool) -> Option<&mut u64> {
        let bits = self.0.len().trailing_zeros();
        let place = usize::try_from(hash >> (u64::BITS - bits)).unwrap_or_default();
        let (before, after) = self.0.split_at_mut_checked(place)?;
        after.iter_mut().chain(before).find(|slot| **slot == 0 || wanted(**slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_the_same_hash_are_told_apart() {
        for hash in [0, 7, u64::MAX] {
            let mut table = Table::of(std::iter::repeat_n(hash, LINEAR_KEYS_MAX));
            for number in LINEAR_KEYS_MAX..200 {
                assert!(!table.insert(hash, number, |held| held == number - 1), "{number} of {hash}");
                assert!(table.insert(hash, number, |_| false), "{number} of {hash}");
            }
        }
    }
}
