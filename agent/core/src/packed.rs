//! An ordered map for keys that mostly grow, which takes as much memory as it has entries.
//!
//! Numbers that a controller gives grow. A B-tree splits its full nodes in halves, and behind a growing end the halves stay half empty
//! for ever. So the map is made anew, with full nodes, whenever it has grown by a quarter: as with a vector that grows, an insertion
//! still costs the same on average.
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// Smaller ones are not worth it.
const SMALL: usize = 1_000;

#[derive(Clone, Debug)]
pub(crate) struct Packed<K, V> {
    map: BTreeMap<K, V>,
    /// Entries when it was made anew last.
    packed: usize,
}

impl<K, V> Default for Packed<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), packed: 0 }
    }
}

impl<K: Ord, V> Packed<K, V> {
    /// Of the key, which is new if need be.
    pub(crate) fn of(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.pack();
        self.map.entry(key).or_default()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.pack();
        self.map.insert(key, value)
    }

    fn pack(&mut self) {
        if self.map.len() > SMALL.max(self.packed + self.packed / 4) {
            self.map = std::mem::take(&mut self.map).into_iter().collect();
            self.packed = self.map.len();
        }
    }
}

impl<K, V> Deref for Packed<K, V> {
    type Target = BTreeMap<K, V>;
    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

impl<K, V> DerefMut for Packed<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map_like_any_other_while_it_is_made_anew() {
        let mut packed = Packed::default();
        let mut plain = BTreeMap::new();
        let mut times = 0;
        for number in 0..10_000_u64 {
            let key = number * 7_919 % 10_007;
            let before = packed.packed;
            *packed.of(key) = number;
            plain.insert(key, number);
            if key % 3 == 0 {
                assert_eq!(packed.remove(&(key / 2)), plain.remove(&(key / 2)));
            }
            times += usize::from(packed.packed != before);
        }
        assert!(packed.iter().eq(&plain));
        assert!((5..20).contains(&times), "made anew {times} times: each time when a quarter more is there");
    }
}
