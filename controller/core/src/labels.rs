//! Allocates the labels under which one node receives.
//!
//! The low 17 bits are a slot in the node's table, the high 7 count the slot's uses: a packet that was under way when
//! its circuit went does not enter the next circuit of the slot.
use crate::pool::Pool;
use proto_model::{Label, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most labels of one node at a time.
pub const SLOTS: u32 = (1 << 17) - 1;
const USES: u32 = 1 << 7;

#[derive(Clone, Debug)]
pub struct Labels {
    slots: Pool,
    /// Uses of slots that were used; the others start at `first`.
    uses: BTreeMap<u32, u32>,
    /// Differs between starts of the controller, which forgets the uses.
    first: u32,
}

impl Labels {
    pub fn new(rest: Duration, start: Timestamp) -> Self {
        let first = (start.0 / 1_000_000_000 % u64::from(USES)) as u32;
        Self { slots: Pool::new(SLOTS, rest), uses: BTreeMap::new(), first }
    }

    pub fn take(&mut self, now: Timestamp) -> Option<Label> {
        let slot = self.slots.take(now)?;
        let uses = self.uses.entry(slot).or_insert(self.first);
        *uses = (*uses + 1) % USES;
        Label::new(*uses << 17 | slot)
    }

    /// Takes a label of stored state; false when its slot is taken already.
    pub fn claim(&mut self, label: Label, now: Timestamp) -> bool {
        let slot = label.value() & SLOTS;
        let free = self.slots.claim(slot, now);
        if free {
            self.uses.insert(slot, label.value() >> 17);
        }
        free
    }

    /// After the last [`Self::claim`].
    pub fn settle(&mut self) {
        self.slots.settle();
    }

    pub fn give_back(&mut self, label: Label, now: Timestamp) {
        self.slots.give_back(label.value() & SLOTS, now);
    }

    pub fn given(&self) -> usize {
        self.slots.given()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_slot_used_again_has_another_label() {
        let mut labels = Labels::new(Duration::ZERO, Timestamp(0));
        let mut seen = BTreeSet::new();
        for _ in 0..USES {
            let label = labels.take(Timestamp(0)).expect("free");
            assert!(seen.insert(label), "{label} twice");
            labels.give_back(label, Timestamp(0));
        }
        assert!(seen.iter().all(|label| label.value() & SLOTS == 1));
    }

    #[test]
    fn all_slots_can_be_held_and_no_more() {
        let mut labels = Labels::new(Duration::from_secs(60), Timestamp(5_000_000_000));
        for _ in 0..SLOTS {
            assert!(labels.take(Timestamp(0)).is_some());
        }
        assert_eq!(labels.take(Timestamp(0)), None);
    }

    proptest! {
        #[test]
        fn live_labels_are_distinct(steps in proptest::collection::vec((any::<bool>(), any::<usize>()), 1..200)) {
            let mut labels = Labels::new(Duration::from_nanos(3), Timestamp(0));
            let mut live: Vec<Label> = Vec::new();
            for (at, (take, which)) in steps.into_iter().enumerate() {
                let now = Timestamp(at as u64);
                if take || live.is_empty() {
                    let label = labels.take(now).expect("far from full");
                    prop_assert!(live.iter().all(|l| l.value() & SLOTS != label.value() & SLOTS));
                    live.push(label);
                } else {
                    labels.give_back(live.swap_remove(which % live.len()), now);
                }
                prop_assert_eq!(labels.given(), live.len());
            }
        }
    }
}
