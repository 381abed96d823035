//! Policies of hosts: what their owners put before the rules of every circuit that ends there.
use super::Fabric;
use super::ends::has_ended;
use crate::circuit::Circuit;
use crate::deadlines::Deadline;
use crate::record::{PolicyRecord, Record};
use crate::rules::{self, Edited};
use proto_model::circuit::CircuitSpec;
use proto_model::desired::{Object, ObjectKey, Side};
use proto_model::policy::{self, MAX_HOST_ROWS};
use proto_model::request::{PolicyChange, PolicyView, Response, RuleEdit};
use proto_model::rule::{MAX_RULES, Revert, Rule};
use proto_model::{Kind, NodeName, Refusal, Timestamp};
use std::collections::BTreeSet;

impl Fabric {
    pub(super) fn get_policy(&self, name: &NodeName) -> Result<Response, Refusal> {
        let node = self.nodes.get(name).ok_or_else(|| self.unknown_node(name, "node"))?;
        let policy = &node.record.policy;
        Ok(Response::Policy(PolicyView {
            node: name.clone(),
            version: policy.version,
            rules: policy.rules.clone(),
            pending: node.policy_waiting.is_some(),
            confirm_by: policy.revert.as_ref().map(|revert| revert.at),
        }))
    }

    fn policy_of(&self, name: &NodeName) -> Result<&PolicyRecord, Refusal> {
        let node = self.nodes.get(name).ok_or_else(|| self.unknown_node(name, "node"))?;
        Ok(&node.record.policy)
    }

    pub(super) fn set_policy(&mut self, change: PolicyChange, now: Timestamp) -> Result<Response, Refusal> {
        let PolicyChange { node: name, expected_version, rules, confirm_within } = change;
        self.policy_ended(&name, now);
        let policy = self.policy_of(&name)?;
        if let Some(revert) = &policy.revert {
            return Err(waits(&name, revert, now));
        }
        let version = policy.version;
        if let Some(expected) = expected_version.filter(|expected| *expected != version) {
            let what = format!("the policy of {name} is at version {version}, not {expected}");
            return Err(Refusal { field: "expected_version".into(), ..Refusal::precondition(what) }
                .hint("somebody changed it; look at it again"));
        }
        let edited = rules::edit(&policy.rules, policy.next_rule.max(1), &RuleEdit::Replace { rules }, now)?;
        if edited.rules != policy.rules {
            let back = |within| Revert { at: now.plus(within), rules: policy.rules.clone() };
            let revert = confirm_within.map(back);
            self.check_rows_at(&name, &edited.rules)?;
            self.replace_policy(&name, edited, revert);
        }
        self.get_policy(&name)
    }

    /// The change stays.
    pub(super) fn confirm_policy(&mut self, name: &NodeName, now: Timestamp) -> Result<Response, Refusal> {
        self.unconfirmed_policy(name, now)?;
        if let Some(node) = self.nodes.get_mut(name) {
            node.record.policy.revert = None;
        }
        self.policy_changed(name);
        self.get_policy(name)
    }

    /// What was in force before the change is in force again.
    pub(super) fn rollback_policy(&mut self, name: &NodeName, now: Timestamp) -> Result<Response, Refusal> {
        let revert = self.unconfirmed_policy(name, now)?;
        let rules = revert.rules.into_iter().filter(|rule| !has_ended(rule, now)).collect();
        let next = self.policy_of(name)?.next_rule;
        self.replace_policy(name, Edited { rules, next }, None);
        self.get_policy(name)
    }

    fn unconfirmed_policy(&mut self, name: &NodeName, now: Timestamp) -> Result<Revert, Refusal> {
        self.policy_ended(name, now);
        let policy = self.policy_of(name)?;
        if let Some(revert) = policy.revert.clone() {
            return Ok(revert);
        }
        let what = match policy.reverted {
            Some(at) => {
                format!("too late: the change of the policy of {name} was taken back at {at}, it is {now}")
            }
            None => format!("no change of the policy of {name} waits for a confirmation"),
        };
        Err(Refusal { field: "node".into(), ..Refusal::precondition(what) }.hint(format!(
            "see `foreweave node policy show {name}`; a change waits when it is made with --confirm-within"
        )))
    }

    /// A rule of it or the time to confirm it is over.
    pub(super) fn policy_ended(&mut self, name: &NodeName, now: Timestamp) {
        let Some(node) = self.nodes.get(name) else { return };
        let policy = &node.record.policy;
        let next = policy.next_rule;
        let reverted = policy.revert.as_ref().filter(|revert| revert.at <= now);
        let all = reverted.map_or(&policy.rules, |revert| &revert.rules);
        let rules: Vec<Rule> = all.iter().filter(|rule| !has_ended(rule, now)).cloned().collect();
        let late = reverted.map(|revert| revert.at);
        if late.is_some() || rules != policy.rules {
            let revert = policy.revert.clone().filter(|revert| revert.at > now);
            self.replace_policy(name, Edited { rules, next }, revert);
            if let Some(node) = self.nodes.get_mut(name).filter(|_| late.is_some()) {
                node.record.policy.reverted = late;
                self.step.put(Record::Node(node.record.clone()));
            }
        }
        self.watch_policy(name);
    }

    fn replace_policy(&mut self, name: &NodeName, edited: Edited, revert: Option<Revert>) {
        if let Some(node) = self.nodes.get_mut(name) {
            let version = node.record.policy.version + 1;
            let Edited { rules, next: next_rule } = edited;
            node.record.policy = PolicyRecord { version, rules, next_rule, revert, reverted: None };
        }
        self.policy_changed(name);
    }

    fn policy_changed(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get(name) {
            self.step.put(Record::Node(node.record.clone()));
        }
        self.want_policy(name);
        self.watch_policy(name);
        self.step.announce_node(name);
    }

    /// Has the host put it before the rules of its circuits, those that are still to come included.
    pub(super) fn want_policy(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        let policy = &node.record.policy;
        if policy.version == 0 {
            return;
        }
        if policy.rules.is_empty() && policy.revert.is_none() {
            self.undesire(name, &ObjectKey::Policy);
        } else {
            let (version, rules, revert) = (policy.version, policy.rules.clone(), policy.revert.clone());
            self.desire(name, Object::Policy(policy::Policy { version, rules, revert }));
        }
        if let Some(node) = self.nodes.get_mut(name) {
            let generation = node.desire.carrying();
            node.policy_waiting = (node.reported < generation).then_some(generation);
        }
    }

    pub(super) fn watch_policy(&mut self, name: &NodeName) {
        let deadline = Deadline::Policy(name.clone());
        let policy = self.nodes.get(name).map(|node| &node.record.policy);
        match policy.and_then(next_end) {
            Some(at) => self.deadlines.set(deadline, at),
            None => self.deadlines.clear(&deadline),
        }
    }

    /// The host has done what it was told up to here.
    pub(super) fn policy_reported(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get_mut(name)
            && node.policy_waiting.take_if(|generation| *generation <= node.reported).is_some()
        {
            self.step.announce_node(name);
        }
    }

    /// Whether a host can try so many rules, for each of the circuits that end there, whatever is taken back.
    fn check_rows_at(&self, name: &NodeName, policy: &[Rule]) -> Result<(), Refusal> {
        let resources = self.nodes.get(name).into_iter().flat_map(|node| &node.resources);
        let members = resources.filter_map(|id| self.resources.get(id));
        let circuits: BTreeSet<_> = members.flat_map(|member| member.circuits.iter().copied()).collect();
        let mut sum = 0;
        for circuit in circuits.iter().filter_map(|id| self.circuits.get(*id)) {
            let ends = self.ends_at(&circuit.spec, name);
            for own in rules_of(circuit) {
                let rows = policy::before(policy, &ends, own).len();
                fits(rows, name, &circuit.spec.name.to_string(), policy.len(), own.len())?;
                sum += rows;
            }
        }
        if sum > MAX_HOST_ROWS {
            let what =
                format!("the {} circuits that end at {name} would have {sum} rules there", circuits.len());
            let hint = format!("a host can have {MAX_HOST_ROWS} in all: let fewer ranges pass before a deny");
            return Err(Refusal { field: "rules".into(), ..Refusal::new(Kind::Exhausted, what) }.hint(hint));
        }
        Ok(())
    }

    /// The same for the rules that a circuit shall have, behind the policies of both of its hosts.
    pub(super) fn check_behind_policies(&self, spec: &CircuitSpec, own: &[Rule]) -> Result<(), Refusal> {
        let host = |id| Some(self.resources.get(id)?.resource.metadata.node.clone());
        let hosts: BTreeSet<_> = [&spec.source, &spec.destination].into_iter().filter_map(host).collect();
        for name in &hosts {
            let Some(node) = self.nodes.get(name) else { continue };
            let policy = &node.record.policy;
            let former = policy.revert.as_ref().map(|revert| &revert.rules);
            for policy in [Some(&policy.rules), former].into_iter().flatten() {
                let rows = policy::before(policy, &self.ends_at(spec, name), own).len();
                fits(rows, name, spec.name.as_str(), policy.len(), own.len())?;
            }
        }
        Ok(())
    }

    fn ends_at(&self, spec: &CircuitSpec, name: &NodeName) -> Vec<Side> {
        let here = |id| self.resources.get(id).is_some_and(|member| member.resource.metadata.node == *name);
        let sides = [(Side::Source, &spec.source), (Side::Destination, &spec.destination)];
        sides.into_iter().filter(|(_, id)| here(id)).map(|(side, _)| side).collect()
    }
}

/// Those in force, and those that come back if nobody confirms.
fn rules_of(circuit: &Circuit) -> impl Iterator<Item = &Vec<Rule>> {
    std::iter::once(&circuit.rules).chain(circuit.revert.as_ref().map(|revert| &revert.rules))
}

fn fits(rows: usize, host: &NodeName, circuit: &str, policy: usize, own: usize) -> Result<(), Refusal> {
    if rows <= MAX_RULES || policy == 0 {
        return Ok(());
    }
    let what = format!(
        "{host} would have {rows} rules to try for the circuit {circuit}, {policy} of its policy and {own} of the \
         circuit's own counted as often as the policy lets them pass; {MAX_RULES} are allowed"
    );
    Err(Refusal { field: "rules".into(), ..Refusal::precondition(what) }
        .hint("one rule can cover a range of ports and a prefix; what comes after the last deny of a policy costs nothing"))
}

fn waits(name: &NodeName, revert: &Revert, now: Timestamp) -> Refusal {
    let (at, left) = (revert.at, revert.at.since(now).as_secs_f64());
    let what = format!(
        "the last change of the policy of {name} waits for its confirmation until {at} ({left:.0} s)"
    );
    Refusal::precondition(what).hint(format!(
        "confirm it or roll it back first: foreweave node policy confirm {name}, foreweave node policy rollback {name}"
    ))
}

fn next_end(policy: &PolicyRecord) -> Option<Timestamp> {
    let rules = policy.rules.iter().filter_map(|rule| rule.spec.until?.at());
    rules.chain(policy.revert.as_ref().map(|revert| revert.at)).min()
}
