//! Which slot of `NEXT_HOPS` a next hop has: one per pair of underlay addresses, counted by its users.
use crate::bounds::{NEXT_HOPS, QUARANTINE, Refused};
use crate::kernel_state::{LinkLayer, NextHop};
use proto_model::Timestamp;
use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// Outer source and destination.
pub(crate) type Pair = (IpAddr, IpAddr);

/// A slot stays with its pair until the kernel has cleared it, and rests before another pair gets it: so a packet
/// never leaves for a host that its label was not meant for.
#[derive(Debug)]
pub(crate) struct Slots {
    by_pair: BTreeMap<Pair, Slot>,
    pair_of: BTreeMap<u32, Pair>,
    /// Seen in the kernel under a pair that another slot serves; not to be given out until cleared.
    strange: BTreeSet<u32>,
    free: BTreeSet<u32>,
    resting: VecDeque<(Timestamp, u32)>,
    /// All slots from here on have never been used.
    fresh: u32,
}

#[derive(Debug)]
struct Slot {
    number: u32,
    users: u32,
    /// Its neighbour is asked for and followed: it has users, or was found in use when the agent started.
    watched: bool,
    link: Option<LinkLayer>,
}

/// What a change of users brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its first user came, or its last one went.
    Turned,
    Same,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            by_pair: BTreeMap::new(),
            pair_of: BTreeMap::new(),
            strange: BTreeSet::new(),
            free: BTreeSet::new(),
            resting: VecDeque::new(),
            fresh: 1,
        }
    }

    /// Takes over what the kernel has, so that a restart changes nothing. True: its neighbour is to be followed from
    /// now on, because the kernel sends there whether a controller tells anything or not.
    pub(crate) fn adopt(&mut self, hop: &NextHop) -> bool {
        for skipped in self.fresh..hop.slot.min(NEXT_HOPS) {
            self.free.insert(skipped);
        }
        self.fresh = self.fresh.max(hop.slot.saturating_add(1));
        self.free.remove(&hop.slot);
        let pair = (hop.local, hop.remote);
        match self.by_pair.entry(pair) {
            MapEntry::Occupied(_) => {
                self.strange.insert(hop.slot);
                false
            }
            MapEntry::Vacant(vacant) => {
                vacant.insert(Slot { number: hop.slot, users: 0, watched: true, link: hop.link });
                self.pair_of.insert(hop.slot, pair);
                true
            }
        }
    }

    /// Pairs that were taken over and that nobody uses; they are not followed any more.
    pub(crate) fn abandon_unused(&mut self) -> Vec<(u32, Pair)> {
        let unused = self.by_pair.iter_mut().filter(|(_, slot)| slot.users == 0 && slot.watched);
        unused
            .map(|(pair, slot)| {
                slot.watched = false;
                (slot.number, *pair)
            })
            .collect()
    }

    /// Starts to follow a pair's neighbour; false: that is done already.
    pub(crate) fn watch(&mut self, pair: Pair) -> bool {
        self.by_pair.get_mut(&pair).is_some_and(|slot| !std::mem::replace(&mut slot.watched, true))
    }

    /// Counts one user more.
    pub(crate) fn acquire(&mut self, pair: Pair, now: Timestamp) -> Result<(NextHop, Use), Refused> {
        if !self.by_pair.contains_key(&pair) {
            let number = self.take(now).ok_or(Refused::NextHops)?;
            self.by_pair.insert(pair, Slot { number, users: 0, watched: false, link: None });
            self.pair_of.insert(number, pair);
        }
        let slot = self.by_pair.get_mut(&pair).ok_or(Refused::NextHops)?;
        slot.users += 1;
        let turned = if slot.users == 1 { Use::Turned } else { Use::Same };
        Ok((entry(pair, slot), turned))
    }

    /// Counts one user fewer.
    pub(crate) fn release(&mut self, pair: Pair) -> Option<(u32, Use)> {
        let slot = self.by_pair.get_mut(&pair)?;
        slot.users = slot.users.saturating_sub(1);
        slot.watched &= slot.users > 0;
        Some((slot.number, if slot.users == 0 { Use::Turned } else { Use::Same }))
    }

    /// The kernel has cleared this slot.
    pub(crate) fn cleared(&mut self, number: u32, now: Timestamp) {
        if let Some(pair) = self.pair_of.get(&number) {
            if self.by_pair.get(pair).is_some_and(|slot| slot.users > 0) {
                return;
            }
            self.by_pair.remove(pair);
            self.pair_of.remove(&number);
        } else if !self.strange.remove(&number) {
            return;
        }
        if number > 0 && number < NEXT_HOPS {
            self.resting.push_back((now.plus(QUARANTINE), number));
        }
    }

    /// The neighbour of a pair became known or changed. None: nobody follows the pair, or nothing changed.
    pub(crate) fn resolve(&mut self, pair: Pair, link: Option<LinkLayer>) -> Option<NextHop> {
        let slot = self.by_pair.get_mut(&pair).filter(|slot| slot.watched && slot.link != link)?;
        slot.link = link;
        Some(entry(pair, slot))
    }

    fn take(&mut self, now: Timestamp) -> Option<u32> {
        while let Some((until, number)) = self.resting.front().copied().filter(|(until, _)| *until <= now) {
            debug_assert!(until <= now);
            self.free.insert(number);
            self.resting.pop_front();
        }
        if let Some(number) = self.free.pop_first() {
            return Some(number);
        }
        let number = self.fresh;
        (number < NEXT_HOPS).then(|| {
            self.fresh += 1;
            number
        })
    }
}

fn entry(pair: Pair, slot: &Slot) -> NextHop {
    NextHop { slot: slot.number, local: pair.0, remote: pair.1, link: slot.link }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(n: u8) -> Pair {
        (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn a_pair_has_one_slot_until_the_kernel_has_cleared_it() {
        let mut slots = Slots::new();
        let now = Timestamp(0);
        let (first, turned) = slots.acquire(pair(2), now).expect("a slot");
        assert_eq!((first.slot, turned), (1, Use::Turned));
        assert_eq!(slots.acquire(pair(2), now).map(|(hop, turned)| (hop.slot, turned)), Ok((1, Use::Same)));
        assert_eq!(slots.release(pair(2)), Some((1, Use::Same)));
        assert_eq!(slots.release(pair(2)), Some((1, Use::Turned)));
        assert_eq!(slots.acquire(pair(3), now).map(|(hop, _)| hop.slot), Ok(2));
        assert_eq!(slots.acquire(pair(2), now).map(|(hop, _)| hop.slot), Ok(1), "not cleared: still its own");
    }

    #[test]
    fn a_cleared_slot_rests_before_another_pair_gets_it() {
        let mut slots = Slots::new();
        slots.acquire(pair(2), Timestamp(0)).expect("a slot");
        slots.release(pair(2));
        slots.cleared(1, Timestamp(0));
        assert_eq!(slots.acquire(pair(3), Timestamp(0)).map(|(hop, _)| hop.slot), Ok(2));
        let rested = Timestamp(0).plus(QUARANTINE);
        assert_eq!(slots.acquire(pair(4), rested).map(|(hop, _)| hop.slot), Ok(1));
    }

    #[test]
    fn the_last_slot_is_the_last() {
        let mut slots = Slots::new();
        for n in 1..NEXT_HOPS {
            let remote = IpAddr::from(n.to_be_bytes());
            slots.acquire((pair(1).0, remote), Timestamp(0)).expect("a slot");
        }
        let refusal = slots.acquire(pair(1), Timestamp(0)).expect_err("full");
        assert_eq!(refusal.to_string(), "all 4095 slots for next hops are in use");
    }

    #[test]
    fn what_the_kernel_has_is_taken_over_with_its_neighbour() {
        let mut slots = Slots::new();
        let link = Some(LinkLayer { ifindex: 2, source: [1; 6], neighbour: [2; 6], longest: 0 });
        let seen = NextHop { slot: 7, local: pair(2).0, remote: pair(2).1, link };
        slots.adopt(&seen);
        assert_eq!(slots.acquire(pair(2), Timestamp(0)), Ok((seen, Use::Turned)));
        assert_eq!(slots.acquire(pair(3), Timestamp(0)).map(|(hop, _)| hop.slot), Ok(1));
    }
}
