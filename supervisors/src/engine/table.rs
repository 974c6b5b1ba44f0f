//! The children of an engine: by key, by id, and in the order of their specs. Finding one costs the same among a hundred
//! thousand as among ten.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use rustc_hash::FxHashMap;
use slotmap::{SlotMap, new_key_type};

use super::child::Child;
use crate::spec::ChildId;

new_key_type! {
    /// Names a child as long as its engine knows it, and no other ever after. Who has many children finds one quicker by
    /// it than by its id.
    pub struct ChildKey;
}

/// The engine's own short word.
pub(super) type Key = ChildKey;

/// The children.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: SlotMap<Key, Child>,
    /// For looking up only: its own order means nothing.
    ids: FxHashMap<ChildId, Key>,
    /// In the order of the specs.
    ranks: BTreeMap<u64, Key>,
}

// === impl Table ===

impl Table {
    /// One more, after all others.
    pub(super) fn push(&mut self, mut child: Child) -> Key {
        let rank = self.ranks.last_key_value().map_or(0, |(last, _)| last + 1);
        child.rank = rank;
        let id = child.spec.id.clone();
        let key = self.slots.insert(child);
        self.ids.insert(id, key);
        self.ranks.insert(rank, key);
        key
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Child> {
        let child = self.slots.remove(key)?;
        self.ids.remove(&child.spec.id);
        self.ranks.remove(&child.rank);
        Some(child)
    }

    /// Puts all in this order.
    pub(super) fn reorder(&mut self, keys: &[Key]) {
        self.ranks = (0u64..).zip(keys.iter().copied()).collect();
        for (&rank, &key) in &self.ranks {
            self.slots[key].rank = rank;
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<Key> {
        self.ids.get(id).copied()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Child> {
        self.slots.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.ranks.values().copied()
    }

    /// All children, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Child)> {
        self.ranks.values().map(|&key| (key, &self.slots[key]))
    }
}

impl Index<Key> for Table {
    type Output = Child;

    fn index(&self, key: Key) -> &Child {
        &self.slots[key]
    }
}

impl IndexMut<Key> for Table {
    fn index_mut(&mut self, key: Key) -> &mut Child {
        &mut self.slots[key]
    }
}
