//! Two sorted maps walked side by side: what has to be done for each entry costs a step and no search, and work is done only
//! for what differs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

/// The values of a map, asked for in the order of its keys.
#[derive(Debug)]
pub struct Cursor<'a, K, V> {
    rest: Option<Peekable<btree_map::Iter<'a, K, V>>>,
}

/// The values before and now of the keys whose shared value came, went or is another one.
pub fn difference<'a, K: Ord, V>(
    before: &'a BTreeMap<K, Arc<V>>,
    after: &'a BTreeMap<K, Arc<V>>,
) -> impl Iterator<Item = (Option<&'a Arc<V>>, Option<&'a Arc<V>>)> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let pairs = std::iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let old = if order == Ordering::Greater { None } else { before.next() };
        let new = if order == Ordering::Less { None } else { after.next() };
        Some((old.map(|(_, value)| value), new.map(|(_, value)| value)))
    });
    pairs.filter(|pair| !matches!(pair, (Some(old), Some(new)) if Arc::ptr_eq(old, new)))
}

// === impl Cursor ===

impl<'a, K: Ord, V> Cursor<'a, K, V> {
    /// Without a map it has no values.
    pub fn new(map: Option<&'a BTreeMap<K, V>>) -> Self {
        Self { rest: map.map(|map| map.iter().peekable()) }
    }

    /// The value of a key that is greater than every one that was asked for before.
    pub fn at(&mut self, key: &K) -> Option<&'a V> {
        let rest = self.rest.as_mut()?;
        loop {
            match rest.peek()?.0.cmp(key) {
                Ordering::Less => rest.next(),
                Ordering::Equal => return rest.next().map(|(_, value)| value),
                Ordering::Greater => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_went_or_changed_is_told() {
        let kept = Arc::new(0);
        let before = BTreeMap::from([("a", Arc::new(1)), ("b", Arc::clone(&kept)), ("c", Arc::new(3))]);
        let after = BTreeMap::from([("b", kept), ("c", Arc::new(3)), ("d", Arc::new(4))]);
        let value = |value: Option<&Arc<i32>>| value.map(|value| **value);
        let told: Vec<_> = difference(&before, &after).map(|(old, new)| (value(old), value(new))).collect();
        assert_eq!(told, [(Some(1), None), (Some(3), Some(3)), (None, Some(4))]);
        assert_eq!(difference(&before, &before).count(), 0);
    }

    #[test]
    fn a_cursor_finds_every_key_that_is_there_and_no_other() {
        let map = BTreeMap::from([(1, "one"), (3, "three"), (4, "four")]);
        let mut cursor = Cursor::new(Some(&map));
        let found: Vec<_> = (0..6).map(|key| cursor.at(&key)).collect();
        assert_eq!(found, [None, Some(&"one"), None, Some(&"three"), Some(&"four"), None]);
        assert_eq!(Cursor::<i32, i32>::new(None).at(&1), None);
    }
}
