//! What ends by itself: circuits and rules at their time, and changes of rules that nobody confirmed.
use super::Fabric;
use crate::circuit::Circuit;
use crate::deadlines::Deadline;
use crate::rules::Edited;
use proto_model::request::{CircuitRef, Response};
use proto_model::rule::{Revert, Rule};
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
            let (revert, late) =
                (circuit.revert.clone().filter(|revert| revert.at > now), reverted.map(|r| r.at));
            self.replace_rules(id, Edited { rules, next }, revert);
            if let Some(circuit) = self.circuits.get_mut(id) {
                circuit.reverted = late.or(circuit.reverted);
            }
        }
        self.watch_ends(id);
    }

    /// Moves the end of a circuit; none: it does not end by itself any more.
    pub(super) fn extend_circuit(
        &mut self,
        circuit: &CircuitRef,
        until: Option<Until>,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let id = self.find(circuit)?.id;
        let Some(circuit) = self.circuits.get(id) else { return self.show(id) };
        if circuit.phase.is_closing() {
            return Err(Refusal::precondition(format!("{id} is being closed")));
        }
        let from = circuit.scheduled().and(circuit.spec.starts).unwrap_or(now);
        let expires = expiry(until, "expires", from)?;
        if circuit.spec.expires != expires {
            self.last_until(id, expires, now)?;
            // A path that does not compile at the moment is placed anew soon, with this end.
            let _ = self.want_objects(id);
            self.watch_ends(id);
            self.step.persist(id);
            self.step.announce_circuit(id);
        }
        self.show(id)
    }

    /// The change stays.
    pub(super) fn confirm_rules(
        &mut self,
        circuit: &CircuitRef,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let (id, _) = self.unconfirmed(circuit, now)?;
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.revert = None;
        }
        // A path that does not compile at the moment is placed anew soon, with these rules.
        let _ = self.want_objects(id);
        self.wait_for_rules(id);
        self.watch_ends(id);
        self.step.persist(id);
        self.step.announce_circuit(id);
        self.rules_of(id)
    }

    /// What was in force before the change is in force again.
    pub(super) fn rollback_rules(
        &mut self,
        circuit: &CircuitRef,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let (id, revert) = self.unconfirmed(circuit, now)?;
        let rules = revert.rules.into_iter().filter(|rule| !has_ended(rule, now)).collect();
        let next = self.circuits.get(id).map_or(1, |circuit| circuit.next_rule);
        self.replace_rules(id, Edited { rules, next }, None);
        self.watch_ends(id);
        self.rules_of(id)
    }

    /// A change that waits for its confirmation.
    fn unconfirmed(&mut self, circuit: &CircuitRef, now: Timestamp) -> Result<(CircuitId, Revert), Refusal> {
        let id = self.find(circuit)?.id;
        self.something_ended(id, now);
        let circuit = self.find(&CircuitRef::Id(id))?;
        if let Some(revert) = circuit.revert.clone() {
            return Ok((id, revert));
        }
        let what = match circuit.reverted {
            Some(at) => {
                format!("too late: the change of the rules of {id} was taken back at {at}, it is {now}")
            }
            None => format!("no change of the rules of {id} waits for a confirmation"),
        };
        Err(Refusal { field: "circuit".into(), ..Refusal::precondition(what) }
            .hint("see `foreweave rule list`; a change waits when it is made with --confirm-within"))
    }

    /// While a change waits for its confirmation, what it would fall back to must not move under it.
    pub(super) fn check_unconfirmed(&mut self, id: CircuitId, now: Timestamp) -> Result<(), Refusal> {
        self.something_ended(id, now);
        let Some(revert) = self.circuits.get(id).and_then(|circuit| circuit.revert.as_ref()) else {
            return Ok(());
        };
        let (at, left) = (revert.at, revert.at.since(now).as_secs_f64());
        let what = format!(
            "the last change of the rules of {id} waits for its confirmation until {at} ({left:.0} s)"
        );
        Err(Refusal::precondition(what)
            .hint("confirm it or roll it back first: foreweave rule confirm, foreweave rule rollback"))
    }

    pub(super) fn rules_of(&self, id: CircuitId) -> Result<Response, Refusal> {
        let circuit = self.find(&CircuitRef::Id(id))?;
        Ok(Response::Rules {
            circuit: id,
            version: circuit.rules_version,
            rules: circuit.rules.clone(),
            pending: circuit.rules_pending().into_iter().collect(),
            confirm_by: circuit.revert.as_ref().map(|revert| revert.at),
        })
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

pub(super) fn has_ended(rule: &Rule, now: Timestamp) -> bool {
    rule.spec.until.and_then(Until::at).is_some_and(|at| at <= now)
}
