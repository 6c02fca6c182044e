//! Finds a key that an object holds twice, at a cost that grows with the number of keys and no faster.
//!
//! Two parsers may each pick another of two equal keys, so that policy judges one value and the upstream runs the
//! other. Keys are compared decoded. One vector serves all open objects as a stack; an object that outgrows a linear
//! search gets a hash set with a random seed. It must never compare escaped text.

use std::borrow::Cow;
use std::collections::HashSet;

/// Up to this many keys of one object are compared one by one, without a set.
const LINEAR_KEYS_MAX: usize = 16;

pub(super) struct Keys<'a> {
    open: Vec<Cow<'a, str>>,
}

/// The keys of one open object.
pub(super) struct ObjectKeys<'a> {
    base: usize,
    set: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Keys<'a> {
    pub fn new() -> Self {
        Keys { open: Vec::with_capacity(2 * LINEAR_KEYS_MAX) }
    }

    pub fn open_object(&self) -> ObjectKeys<'a> {
        ObjectKeys { base: self.open.len(), set: None }
    }

    /// False if the object holds the key already. Only the innermost open object may be inserted into.
    pub fn insert(&mut self, object: &mut ObjectKeys<'a>, key: Cow<'a, str>) -> bool {
        if let Some(set) = &mut object.set {
            return set.insert(key);
        }
        let held = self.open.get(object.base..).unwrap_or_default();
        if held.contains(&key) {
            return false;
        }
        if held.len() < LINEAR_KEYS_MAX {
            self.open.push(key);
        } else {
            let mut set: HashSet<_> = self.open.drain(object.base..).collect();
            set.insert(key);
            object.set = Some(set);
        }
        true
    }

    pub fn close_object(&mut self, object: ObjectKeys<'a>) {
        self.open.truncate(object.base);
    }
}
