//! Which circuit ends turn together: slots of `GROUPS`, shared by ends with the same two ways and the same promises.
use crate::bounds::{GROUPS, QUARANTINE, SWITCHES};
use crate::protect::{Began, Guard, Order};
use proto_model::desired::Side;
use proto_model::report::{Switch, Way};
use proto_model::{CircuitId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One end of a circuit.
pub(crate) type End = (CircuitId, Side);

/// A slot is kept as long as an end belongs to it or a flow speaks of it (wanted, there, or being written), and rests
/// before it serves others: so no flow ever turns with a group that is not its own.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    slots: BTreeMap<u32, Slot>,
    by_guard: BTreeMap<Guard, u32>,
    group_of: BTreeMap<End, u32>,
    free: BTreeSet<u32>,
    resting: VecDeque<(Timestamp, u32)>,
    /// The highest slot that was ever used.
    highest: u32,
    /// Slots of which the protector may have to be told.
    touched: BTreeSet<u32>,
    /// Ends of which the controller may have to be told, and those that it was told to be on their backup.
    moved: BTreeSet<End>,
    on_backup: BTreeSet<End>,
}

#[derive(Debug, Default)]
struct Slot {
    /// None: only seen in flows of an earlier life.
    guard: Option<Guard>,
    /// It was in the kernel when the agent started.
    seen: bool,
    /// What the protector guards there.
    told: Option<Guard>,
    ends: BTreeSet<End>,
    /// Flows that speak of it.
    held: u32,
    /// Its way, why and since when, if it was ever turned.
    turned: Option<(Way, String, Timestamp)>,
}

impl Groups {
    /// The slot of an end's group. `seen`: the one that its flows, otherwise as wanted, have in the kernel. None: all
    /// slots are in use, and the end does without a second way.
    pub(crate) fn join(&mut self, end: End, guard: Guard, seen: Option<u32>, now: Timestamp) -> Option<u32> {
        let nobodys = |number: &u32| self.slots.get(number).is_some_and(|slot| slot.guard.is_none());
        let known = self.by_guard.get(&guard).copied().or(seen.filter(nobodys));
        let number = known.or_else(|| self.take(now))?;
        self.by_guard.insert(guard, number);
        let slot = self.slots.entry(number).or_default();
        slot.guard = Some(guard);
        slot.ends.insert(end);
        self.group_of.insert(end, number);
        self.touched.insert(number);
        self.moved.insert(end);
        Some(number)
    }

    pub(crate) fn leave(&mut self, end: End) {
        let Some(number) = self.group_of.remove(&end) else { return };
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.ends.remove(&end);
        }
        self.touched.insert(number);
        self.moved.insert(end);
    }

    /// Until a controller tells, a group that flows of an earlier life use is guarded as far as the kernel shows its ways.
    pub(crate) fn assume(&mut self, number: u32, guard: Guard) -> Option<Order> {
        let slot = self.slots.get_mut(&number).filter(|slot| slot.told.is_none())?;
        slot.told = Some(guard);
        Some(Order::Guard { group: number, guard, began: Began::Before })
    }

    /// A flow more speaks of this slot.
    pub(crate) fn hold(&mut self, number: u32) {
        if number == 0 || number >= GROUPS {
            return;
        }
        if !self.slots.contains_key(&number) {
            self.free.extend(self.highest + 1..number);
            self.highest = self.highest.max(number);
            self.free.remove(&number);
            self.slots.insert(number, Slot { seen: true, ..Slot::default() });
        }
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.held += 1;
        }
    }

    /// The opposite of [`Self::hold`].
    pub(crate) fn let_go(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        slot.held = slot.held.saturating_sub(1);
        if slot.held == 0 {
            self.touched.insert(number);
        }
    }

    /// Slots of which flows speak.
    pub(crate) fn in_use(&self) -> BTreeSet<u32> {
        self.slots.iter().filter(|(_, slot)| slot.held > 0).map(|(number, _)| *number).collect()
    }

    /// The protector turned a group.
    pub(crate) fn turned(&mut self, number: u32, to: Way, why: String, at: Timestamp) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        slot.turned = Some((to, why, at));
        self.moved.extend(&slot.ends);
    }

    /// A new listener knows nothing: every end on its backup will be told.
    pub(crate) fn begin(&mut self) {
        self.on_backup.clear();
        let turned = self.slots.values().filter(|slot| matches!(slot.turned, Some((Way::Backup, ..))));
        self.moved = turned.flat_map(|slot| slot.ends.iter().copied()).collect();
    }

    /// What the protector has to know since it was last told.
    pub(crate) fn orders(&mut self, now: Timestamp) -> Vec<Order> {
        let mut orders = Vec::new();
        for number in std::mem::take(&mut self.touched) {
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            if slot.ends.is_empty() && slot.held == 0 {
                orders.push(Order::Unguard(number));
                self.retire(number, now);
            } else if let Some(guard) = slot.guard.filter(|guard| slot.told != Some(*guard)) {
                let began = if slot.seen { Began::Before } else { Began::Now };
                slot.told = Some(guard);
                orders.push(Order::Guard { group: number, guard, began });
            }
        }
        orders
    }

    /// What the controller has to know since it was last told, in words that are not too long. `now`: for ends that
    /// are no longer on a backup because they have other ways.
    pub(crate) fn switches(&mut self, now: Timestamp) -> Vec<Vec<Switch>> {
        let moved = std::mem::take(&mut self.moved);
        let switches: Vec<Switch> = moved.into_iter().filter_map(|end| self.switch(end, now)).collect();
        switches.chunks(SWITCHES).map(<[Switch]>::to_vec).collect()
    }

    /// Nobody listens.
    pub(crate) fn end(&mut self) {
        self.moved.clear();
    }

    fn switch(&mut self, end: End, now: Timestamp) -> Option<Switch> {
        let (circuit, side) = end;
        let turned = self.group_of.get(&end).and_then(|number| self.slots.get(number)?.turned.as_ref());
        let (to, why, at) = match turned {
            Some((to, why, at)) => (*to, why.clone(), *at),
            None => (Way::Primary, "it has other ways than before, and uses the first".to_owned(), now),
        };
        let news = match to {
            Way::Backup => self.on_backup.insert(end),
            Way::Primary => self.on_backup.remove(&end),
        };
        news.then_some(Switch { circuit, side, to, why, at })
    }

    fn retire(&mut self, number: u32, now: Timestamp) {
        let Some(slot) = self.slots.remove(&number) else { return };
        if let Some(guard) = slot.guard {
            self.by_guard.remove(&guard);
        }
        self.resting.push_back((now.plus(QUARANTINE), number));
    }

    fn take(&mut self, now: Timestamp) -> Option<u32> {
        while let Some((_, number)) = self.resting.front().copied().filter(|(until, _)| *until <= now) {
            self.free.insert(number);
            self.resting.pop_front();
        }
        self.free.pop_first().or_else(|| {
            let number = self.highest + 1;
            (number < GROUPS).then(|| {
                self.highest = number;
                number
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::PathId;

    const NOW: Timestamp = Timestamp(0);

    fn guard(primary: u64) -> Guard {
        Guard { primary: PathId(primary), backup: PathId(primary + 1000), max_rtt: None, max_loss: None }
    }

    fn end(circuit: u64) -> End {
        (CircuitId(circuit), Side::Source)
    }

    #[test]
    fn ends_with_the_same_ways_share_a_slot_and_one_order() {
        let mut groups = Groups::default();
        for circuit in 1..=3 {
            assert_eq!(groups.join(end(circuit), guard(1), None, NOW), Some(1));
        }
        assert_eq!(groups.join(end(4), guard(2), None, NOW), Some(2));
        let orders = groups.orders(NOW);
        assert_eq!(orders.len(), 2);
        assert_eq!(orders[0], Order::Guard { group: 1, guard: guard(1), began: Began::Now });
        groups.join(end(5), guard(1), None, NOW);
        assert_eq!(groups.orders(NOW), []);
    }

    #[test]
    fn an_end_that_leaves_and_comes_back_at_once_changes_nothing() {
        let mut groups = Groups::default();
        groups.join(end(1), guard(1), None, NOW);
        groups.orders(NOW);
        groups.leave(end(1));
        groups.join(end(1), guard(1), None, NOW);
        assert_eq!(groups.orders(NOW), []);
    }

    #[test]
    fn a_slot_rests_after_its_last_flow_is_gone() {
        let mut groups = Groups::default();
        groups.join(end(1), guard(1), None, NOW);
        groups.hold(1);
        groups.orders(NOW);
        groups.leave(end(1));
        assert_eq!(groups.orders(NOW), [], "its flow is still in the kernel");
        groups.let_go(1);
        assert_eq!(groups.orders(NOW), [Order::Unguard(1)]);
        assert_eq!(groups.join(end(2), guard(2), None, NOW), Some(2));
        assert_eq!(groups.join(end(3), guard(3), None, NOW.plus(QUARANTINE)), Some(1));
    }

    #[test]
    fn what_flows_have_in_the_kernel_is_kept_by_those_whose_it_is() {
        let mut groups = Groups::default();
        groups.hold(7);
        groups.hold(7);
        assert_eq!(groups.join(end(1), guard(1), Some(7), NOW), Some(7));
        assert_eq!(groups.orders(NOW), [Order::Guard { group: 7, guard: guard(1), began: Began::Before }]);
        assert_eq!(groups.join(end(2), guard(1), Some(7), NOW), Some(7));
        assert_eq!(groups.join(end(3), guard(2), Some(7), NOW), Some(1), "it is another's now");
    }

    #[test]
    fn when_slots_run_out_an_end_does_without() {
        let mut groups = Groups::default();
        for n in 1..u64::from(GROUPS) {
            assert!(groups.join(end(n), guard(n), None, NOW).is_some());
        }
        assert_eq!(groups.join(end(0), guard(0), None, NOW), None);
        assert_eq!(groups.join(end(0), guard(1), None, NOW), Some(1), "a group that is there has room");
    }

    #[test]
    fn every_end_of_a_turned_group_is_told_once_per_listener() {
        let mut groups = Groups::default();
        for n in 0..5_000 {
            groups.join(end(n), guard(1), None, NOW);
        }
        groups.turned(1, Way::Backup, "lost".into(), NOW);
        let told = groups.switches(NOW);
        assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [4096, 904]);
        assert!(told.iter().flatten().all(|switch| switch.to == Way::Backup && switch.why == "lost"));
        assert!(groups.switches(NOW).is_empty());
        groups.begin();
        assert_eq!(groups.switches(NOW).iter().map(Vec::len).sum::<usize>(), 5_000);
        groups.leave(end(3));
        groups.join(end(3), guard(2), None, NOW);
        assert_eq!(groups.switches(NOW)[0][0].to, Way::Primary, "its new group is on its first way");
    }
}
