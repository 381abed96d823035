//! Packets that queues of shaped interfaces had no room for, by circuit; the kernel counts them by class.
use crate::io::ClassDrops;
use ebpf_abi::Reason;
use proto_model::CircuitId;
use proto_model::report::DropCount;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Queued {
    /// By interface and number, what was shown last and whose it was.
    classes: BTreeMap<(String, u16), Shown>,
    /// In all classes that a circuit had; none: of what has no class of its own.
    lost: BTreeMap<Option<CircuitId>, u64>,
}

#[derive(Debug)]
struct Shown {
    owner: Option<CircuitId>,
    packets: u64,
}

impl Queued {
    /// A class that shows less than before, or has another owner, was made anew. `owners`: circuits by their numbers on this
    /// host; those of circuits that are gone are forgotten.
    pub(crate) fn count(
        &mut self,
        shown: Vec<ClassDrops>,
        owners: &BTreeMap<u16, CircuitId>,
    ) -> Vec<DropCount> {
        let mut before = std::mem::take(&mut self.classes);
        for ClassDrops { interface, number, packets } in shown {
            let owner = owners.get(&number).copied();
            let key = (interface, number);
            let same = |class: &Shown| class.owner == owner && class.packets <= packets;
            let known = before.remove(&key).filter(same).map_or(0, |class| class.packets);
            *self.lost.entry(owner).or_default() += packets - known;
            self.classes.insert(key, Shown { owner, packets });
        }
        self.lost.retain(|owner, _| owner.is_none_or(|owner| owners.values().any(|known| *known == owner)));
        let drop = |(circuit, packets): (&Option<CircuitId>, &u64)| DropCount {
            circuit: *circuit,
            reason: Reason::QueueFull.name().to_owned(),
            rule: 0,
            packets: *packets,
            bytes: 0,
        };
        self.lost.iter().map(drop).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(number: u16, packets: u64) -> ClassDrops {
        ClassDrops { interface: "eth0".into(), number, packets }
    }

    fn told(queued: &mut Queued, shown: Vec<ClassDrops>, owners: &[(u16, u64)]) -> Vec<(Option<u64>, u64)> {
        let owners = owners.iter().map(|(number, circuit)| (*number, CircuitId(*circuit))).collect();
        let drops = queued.count(shown, &owners);
        drops.iter().map(|drop| (drop.circuit.map(|id| id.0), drop.packets)).collect()
    }

    #[test]
    fn drops_of_all_classes_of_a_circuit_are_added_up() {
        let mut queued = Queued::default();
        let owners = [(3, 7), (4, 7), (5, 8)];
        let shown = vec![class(3, 10), class(4, 1), class(5, 2), class(0xfffe, 40)];
        assert_eq!(told(&mut queued, shown, &owners), [(None, 40), (Some(7), 11), (Some(8), 2)]);
        assert_eq!(told(&mut queued, vec![class(3, 12)], &owners), [(None, 40), (Some(7), 13), (Some(8), 2)]);
    }

    #[test]
    fn a_class_that_was_made_anew_goes_on_from_nothing() {
        let mut queued = Queued::default();
        told(&mut queued, vec![class(3, 10)], &[(3, 7)]);
        assert_eq!(told(&mut queued, vec![class(3, 4)], &[(3, 7)]), [(Some(7), 14)]);
        assert_eq!(
            told(&mut queued, vec![class(3, 6)], &[(3, 9)]),
            [(Some(9), 6)],
            "another's, and 7 is gone"
        );
    }
}
