//! Says from when on a circuit will fit that does not fit now, because others end by themselves.
use super::Fabric;
use crate::circuit::Circuit;
use proto_model::Timestamp;
use proto_model::circuit::{CircuitSpec, Path};

/// Ends that are looked at; of more, those of the oldest circuits. What is said is true then, but it may fit earlier.
const LOOKED_AT: usize = 1_000;

impl Fabric {
    /// `full`: paths that lack bandwidth and nothing else.
    pub(super) fn when(&self, spec: &CircuitSpec, full: &[&Path]) -> Option<String> {
        let (need, before) = (spec.bounds.bandwidth, spec.expires);
        let mut ending = self.next_to_end();
        ending.retain(|(at, _)| before.is_none_or(|end| *at < end));
        if full.is_empty() || ending.is_empty() {
            return None;
        }
        let mut ahead = self.topology.ahead(full);
        for (at, circuit) in ending {
            let Some(route) = circuit.phase.route() else { continue };
            let backup = route.second().map(|lane| &lane.path);
            let freed = ahead.release(&route.path, backup, circuit.spec.bounds.bandwidth);
            if freed && full.iter().any(|path| ahead.fits(path, need)) {
                return Some(format!("{need} from {}, when {} ends", self.moment(at), circuit.id));
            }
        }
        None
    }

    /// Circuits with a reservation, by their ends.
    fn next_to_end(&self) -> Vec<(Timestamp, &Circuit)> {
        let ending = self.deadlines.ends().take(LOOKED_AT).filter_map(|id| self.circuits.get(id));
        let reserving = ending.filter(|circuit| !circuit.spec.bounds.bandwidth.is_zero());
        let mut ending: Vec<(Timestamp, &Circuit)> =
            reserving.filter_map(|circuit| Some((circuit.spec.expires?, circuit))).collect();
        ending.sort_by_key(|(at, circuit)| (*at, circuit.id));
        ending
    }

    /// Without the date where that is today's.
    fn moment(&self, at: Timestamp) -> String {
        let (at, now) = (at.to_string(), self.topology.now().to_string());
        match (at.split_once(' '), now.split_once(' ')) {
            (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
            _ => at,
        }
    }
}
