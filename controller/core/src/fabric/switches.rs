//! Which way ends send, as their agents say, and what becomes of a plan that is not followed for long.
use super::Fabric;
use crate::compile;
use crate::deadlines::Deadline;
use crate::protection::Turned;
use crate::route::paths::inner;
use crate::topology::Link;
use proto_model::circuit::Path;
use proto_model::desired::Side;
use proto_model::insight::Happened;
use proto_model::intent::Bounds;
use proto_model::report::{Switch, Way};
use proto_model::topology::LinkId;
use proto_model::{CircuitId, NodeName, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// An end that is on the backup for so long does not come back by itself: an agent's longest hold-down is 10 min.
const PAST_HOLD_DOWN: Duration = Duration::from_secs(11 * 60);
/// Words of an agent that are kept.
const MAX_WHY: usize = 500;

impl Fabric {
    /// An agent says which way its ends send.
    pub(super) fn switched(&mut self, name: &NodeName, switches: Vec<Switch>, now: Timestamp) {
        for switch in switches {
            let id = switch.circuit;
            let Some(circuit) = self.circuits.get_mut(id) else { continue };
            let Some(route) = circuit.phase.route() else { continue };
            let end = match switch.side {
                Side::Source => route.path.nodes.first(),
                Side::Destination => route.path.nodes.last(),
            };
            if end != Some(name) {
                continue;
            }
            let protection = &mut circuit.protection;
            // Said of a plan that is no longer: it had not heard yet that its backup became the path.
            let stale = protection.retiring.as_ref().is_some_and(|old| old.waiting.contains_key(name))
                || !route.backup.as_ref().is_some_and(|backup| backup.ready);
            let changed = match switch.to {
                Way::Backup if stale => false,
                Way::Backup => {
                    let why = switch.why.chars().take(MAX_WHY).collect();
                    let turned = Turned { why, since: switch.at, heard: now };
                    let old = protection.on_backup.insert(switch.side, turned.clone());
                    old.is_none_or(|old| (old.why, old.since) != (turned.why, turned.since))
                }
                Way::Primary => protection.on_backup.remove(&switch.side).is_some(),
            };
            if protection.on_backup.is_empty() {
                self.deadlines.clear(&Deadline::Repair(id));
            } else {
                let at = now.plus(self.settings.timing.repair);
                self.deadlines.set_if_none(Deadline::Repair(id), at);
            }
            let left = changed && protection.on_backup.is_empty();
            if changed {
                self.note_switch(id, &switch, now);
                self.standings.counts.switches += 1;
                self.step.announce_circuit(id);
            }
            if left {
                self.relieve_again(now);
                self.seek_if_broken(id, now);
            }
        }
    }

    fn note_switch(&mut self, id: CircuitId, switch: &Switch, now: Timestamp) {
        let Some(route) = self.route_of(id) else { return };
        let (path, backup) = (Some(route.path.clone()), route.second().map(|lane| lane.path.clone()));
        let end = match switch.side {
            Side::Source => "the source",
            Side::Destination => "the destination",
        };
        let why: String = format!("{end}: {}", switch.why).chars().take(MAX_WHY).collect();
        let (what, ways) = match switch.to {
            Way::Backup => (Happened::Switched, [path, backup]),
            Way::Primary => (Happened::Returned, [backup, path]),
        };
        self.note_past(id, what, ways, why, now);
    }

    /// A backup whose host was lost while an end sent by it can be replaced now, and what is said of it.
    fn seek_if_broken(&mut self, id: CircuitId, now: Timestamp) {
        let Some(route) = self.circuits.get(id).and_then(|circuit| circuit.phase.route()) else { return };
        if !route.protection.is_empty() || route.second().is_some_and(|lane| self.is_broken(&lane.path)) {
            self.seek_soon(id, now);
        }
    }

    /// A session began: its agent says again which of its ends are on the backup.
    pub(super) fn forget_switches(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        for id in &node.circuits {
            let Some(circuit) = self.circuits.get_mut(*id) else { continue };
            let Some(route) = circuit.phase.route() else { continue };
            let at = [(Side::Source, route.path.nodes.first()), (Side::Destination, route.path.nodes.last())];
            for (side, _) in at.into_iter().filter(|(_, end)| *end == Some(name)) {
                if circuit.protection.on_backup.remove(&side).is_some() {
                    self.step.announce_circuit(*id);
                }
            }
        }
    }

    /// An end is on the backup for long: if the path is dead, the backup becomes the path.
    pub(super) fn repair(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let (Some(since), Some(route)) = (circuit.protection.heard(), circuit.phase.route()) else { return };
        let both = circuit.protection.on_backup.len() == 2;
        let dead = self.is_dead(&route.path, both) || now.since(since) >= PAST_HOLD_DOWN;
        // A host of it out of contact may forward: the ends see for themselves.
        let stands = both
            && route
                .second()
                .is_some_and(|lane| compile::mtu(&lane.path, &Bounds::default(), &self.topology).is_ok());
        if dead && (stands && circuit.phase.opened() || self.can_promote(id, &BTreeSet::new())) {
            return self.promote(id, now);
        }
        self.deadlines.set(Deadline::Repair(id), now.plus(self.settings.timing.repair));
    }

    /// A host of it is out of contact, or a link answers no probe any longer. When `both` ends have left it, also one that
    /// was not heard to answer in this life of the controller.
    fn is_dead(&self, path: &Path, both: bool) -> bool {
        let now = self.topology.now();
        let silent = |link: &Link| link.is_silent(now) || both && link.is_unanswered(now);
        let is_silent =
            |id: &LinkId| self.topology.link(id).is_none_or(|link| !link.is_usable() || silent(link));
        inner(path).iter().any(|node| !self.topology.is_connected(node)) || path.links.iter().any(is_silent)
    }
}
