//! What ends by itself: circuits and rules at their time, and changes of rules that nobody confirmed.
use super::Fabric;
use crate::circuit::Circuit;
use crate::deadlines::Deadline;
use crate::rules::Edited;
use proto_model::rule::Rule;
use proto_model::{CircuitId, Refusal, Timestamp, Until};

impl Fabric {
    /// Whatever of the circuit ends next wakes the controller then; the hosts need nobody to wake them.
    pub(super) fn watch_ends(&mut self, id: CircuitId) {
        match self.circuits.get(id).and_then(next_end) {
            Some(at) => self.deadlines.set(Deadline::Ends(id), at),
            None => self.deadlines.clear(&Deadline::Ends(id)),
        }
    }

    pub(super) fn something_ended(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id).filter(|circuit| !circuit.phase.is_closing()) else {
            return;
        };
        if circuit.spec.expires.is_some_and(|at| at <= now) {
            return self.close(id, now);
        }
        let next = circuit.next_rule;
        let reverted = circuit.revert.as_ref().filter(|revert| revert.at <= now);
        let rules = reverted.map_or(&circuit.rules, |revert| &revert.rules);
        let rules: Vec<Rule> = rules.iter().filter(|rule| !has_ended(rule, now)).cloned().collect();
        if reverted.is_some() || rules != circuit.rules {
            let revert = circuit.revert.clone().filter(|revert| revert.at > now);
            self.replace_rules(id, Edited { rules, next }, revert);
        }
        self.watch_ends(id);
    }
}

/// The time that a request names.
pub(super) fn expiry(
    until: Option<Until>,
    field: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    let resolved = until.map(|until| until.resolve(now)).transpose();
    resolved.map_err(|why| Refusal::invalid(field, why).hint("name a later time, or none"))
}

fn next_end(circuit: &Circuit) -> Option<Timestamp> {
    if circuit.phase.is_closing() {
        return None;
    }
    let rules = circuit.rules.iter().filter_map(|rule| rule.spec.until?.at());
    rules.chain(circuit.spec.expires).chain(circuit.revert.as_ref().map(|revert| revert.at)).min()
}

fn has_ended(rule: &Rule, now: Timestamp) -> bool {
    rule.spec.until.and_then(Until::at).is_some_and(|at| at <= now)
}
