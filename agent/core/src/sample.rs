//! Counters by slot into telemetry by circuit: only what moved since the controller was last told.
use crate::bounds::{COUNT_EVERY, INTERFACES};
use crate::io::Counter;
use crate::packed::Packed;
use proto_model::report::{Carried, DropCount, Telemetry, Traffic};
use proto_model::topology::{LinkId, Measured};
use proto_model::{CircuitId, Timestamp};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// Which circuit a slot counts for, and what it showed last.
    slots: Packed<u32, Slot>,
    circuits: Packed<CircuitId, Counted>,
    drops: BTreeMap<DropOf, (u64, u64)>,
    /// Measured since links were last told.
    links: BTreeMap<LinkId, Measured>,
    interfaces: Vec<Carried>,
    next: Option<Timestamp>,
}

#[derive(Debug)]
struct Slot {
    circuit: CircuitId,
    shown: Traffic,
}

#[derive(Debug, Default)]
struct Counted {
    slots: u32,
    /// Counted in slots that the circuit has left.
    before: Traffic,
    told: Traffic,
}

type DropOf = (Option<CircuitId>, String, u32);

impl Sampler {
    /// The circuit's packets are counted in this slot too.
    pub(crate) fn assign(&mut self, slot: u32, circuit: CircuitId) {
        self.unassign(slot, None);
        self.slots.insert(slot, Slot { circuit, shown: Traffic::default() });
        self.circuits.of(circuit).slots += 1;
    }

    /// `of`: only if the slot is this circuit's.
    pub(crate) fn unassign(&mut self, slot: u32, of: Option<CircuitId>) {
        let mine = |slot: &Slot| of.is_none_or(|of| of == slot.circuit);
        if !self.slots.get(&slot).is_some_and(mine) {
            return;
        }
        let Some(Slot { circuit, shown }) = self.slots.remove(&slot) else { return };
        let Some(counted) = self.circuits.get_mut(&circuit) else { return };
        counted.slots -= 1;
        counted.before = sum(counted.before, shown);
        if counted.slots == 0 {
            self.circuits.remove(&circuit);
        }
    }

    /// A new listener knows nothing.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.next = Some(now.plus(COUNT_EVERY));
        self.drops.clear();
        self.links.clear();
        for counted in self.circuits.values_mut() {
            counted.told = Traffic::default();
        }
    }

    pub(crate) fn end(&mut self) {
        self.next = None;
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.next
    }

    /// Whether it is time to count; the next time follows [`COUNT_EVERY`] later.
    pub(crate) fn is_due(&mut self, now: Timestamp) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = Some(now.plus(COUNT_EVERY));
        }
        due
    }

    /// What the probes of links saw goes with the next telemetry; while nobody listens, only the last of it is kept.
    pub(crate) fn measured(&mut self, links: Vec<(LinkId, Measured)>) {
        self.links.extend(links);
    }

    /// What interfaces carried goes with the telemetry of the same reading.
    pub(crate) fn carried(&mut self, counters: Vec<Counter>) {
        let read = |Counter { interface, sent, received }| Carried {
            interface,
            sent_bytes: sent,
            received_bytes: received,
        };
        self.interfaces = counters.into_iter().take(INTERFACES).map(read).collect();
    }

    /// None: nothing moved, and no interface was read.
    pub(crate) fn digest(
        &mut self,
        traffic: &[(u32, Traffic)],
        drops: Vec<DropCount>,
        now: Timestamp,
    ) -> Option<Telemetry> {
        let mut moved: BTreeMap<CircuitId, Traffic> = BTreeMap::new();
        for (index, shown) in traffic {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.shown = *shown;
                let total = moved.entry(slot.circuit).or_default();
                *total = sum(*total, *shown);
            }
        }
        let traffic = moved.into_iter().filter_map(|(circuit, shown)| self.news(circuit, shown)).collect();
        let links = std::mem::take(&mut self.links).into_iter().collect();
        let interfaces = std::mem::take(&mut self.interfaces);
        let drops = self.moved_drops(drops);
        let telemetry = Telemetry { counted: Timestamp::default(), traffic, drops, links, interfaces };
        (telemetry != Telemetry::default()).then_some(Telemetry { counted: now, ..telemetry })
    }

    fn news(&mut self, circuit: CircuitId, shown: Traffic) -> Option<(CircuitId, Traffic)> {
        let counted = self.circuits.get_mut(&circuit)?;
        let total = sum(counted.before, shown);
        let moved = counted.told != total;
        counted.told = total;
        moved.then_some((circuit, total))
    }

    /// The data plane's table forgets its oldest drops; so what it no longer shows is forgotten here too.
    fn moved_drops(&mut self, drops: Vec<DropCount>) -> Vec<DropCount> {
        let of = |drop: &DropCount| (drop.circuit, drop.reason.clone(), drop.rule);
        let seen: BTreeMap<DropOf, (u64, u64)> =
            drops.iter().map(|drop| (of(drop), (drop.packets, drop.bytes))).collect();
        let told = std::mem::replace(&mut self.drops, seen);
        drops.into_iter().filter(|drop| told.get(&of(drop)) != Some(&(drop.packets, drop.bytes))).collect()
    }
}

fn sum(a: Traffic, b: Traffic) -> Traffic {
    Traffic {
        sent_packets: a.sent_packets.saturating_add(b.sent_packets),
        sent_bytes: a.sent_bytes.saturating_add(b.sent_bytes),
        received_packets: a.received_packets.saturating_add(b.received_packets),
        received_bytes: a.received_bytes.saturating_add(b.received_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIRCUIT: CircuitId = CircuitId(1);
    const NOW: Timestamp = Timestamp(1);

    fn packets(sent_packets: u64) -> Traffic {
        Traffic { sent_packets, ..Traffic::default() }
    }

    #[test]
    fn only_what_moved_is_told() {
        let mut sampler = Sampler::default();
        sampler.assign(5, CIRCUIT);
        let first = sampler.digest(&[(5, packets(3)), (6, packets(9))], Vec::new(), NOW).expect("moved");
        assert_eq!(first.traffic, [(CIRCUIT, packets(3))]);
        assert_eq!(sampler.digest(&[(5, packets(3))], Vec::new(), NOW), None);
        sampler.begin(Timestamp(0));
        assert!(sampler.digest(&[(5, packets(3))], Vec::new(), NOW).is_some(), "a new listener is told all");
    }

    #[test]
    fn an_interface_is_told_with_each_reading_whether_it_moved_or_not() {
        let mut sampler = Sampler::default();
        let eth0 = || Counter { interface: "eth0".into(), sent: 7, received: 9 };
        for second in [2, 4] {
            let at = Timestamp(second * 1_000_000_000);
            sampler.carried(vec![eth0()]);
            let told = sampler.digest(&[], Vec::new(), at).expect("a reading");
            let carried = Carried { interface: "eth0".into(), sent_bytes: 7, received_bytes: 9 };
            assert_eq!((told.interfaces, told.counted), (vec![carried], at));
        }
        assert_eq!(sampler.digest(&[], Vec::new(), NOW), None, "what was told is not told again");
        sampler.carried(vec![eth0(); INTERFACES + 1]);
        assert_eq!(sampler.digest(&[], Vec::new(), NOW).map(|told| told.interfaces.len()), Some(INTERFACES));
    }

    #[test]
    fn a_moved_circuit_keeps_its_count() {
        let mut sampler = Sampler::default();
        sampler.assign(5, CIRCUIT);
        sampler.digest(&[(5, packets(3))], Vec::new(), NOW);
        sampler.assign(6, CIRCUIT);
        sampler.unassign(5, Some(CIRCUIT));
        let told = sampler.digest(&[(6, packets(2))], Vec::new(), NOW).expect("moved");
        assert_eq!(told.traffic, [(CIRCUIT, packets(5))]);
    }

    #[test]
    fn drops_are_told_when_they_grow() {
        let mut sampler = Sampler::default();
        let drop =
            |packets| DropCount { circuit: None, reason: "no_route".into(), rule: 0, packets, bytes: 9 };
        assert!(sampler.digest(&[], vec![drop(1)], NOW).is_some());
        assert_eq!(sampler.digest(&[], vec![drop(1)], NOW), None);
        assert_eq!(sampler.digest(&[], vec![drop(2)], NOW).map(|t| t.drops), Some(vec![drop(2)]));
    }
}
