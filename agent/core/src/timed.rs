//! What of the desired state ends by itself, and how things are at a given time; so that nobody has to say so then.
use proto_model::desired::{Object, ObjectKey};
use proto_model::rule::{Rule, RuleSet};
use proto_model::{Timestamp, Until};
use std::collections::{BTreeMap, BTreeSet};

/// Objects with a time in them, as they were told. The rest of the agent sees only what holds now.
#[derive(Debug, Default)]
pub(crate) struct Timed {
    told: BTreeMap<ObjectKey, Object>,
    due: BTreeSet<(Timestamp, ObjectKey)>,
    at: BTreeMap<ObjectKey, Timestamp>,
}

impl Timed {
    /// Takes note of news about an object; what holds of it now. None: nothing.
    pub(crate) fn tell(
        &mut self,
        key: &ObjectKey,
        new: Option<Object>,
        now: Timestamp,
    ) -> (Option<Object>, Remember) {
        let before = self.forget(key);
        let Some(object) = new else {
            return (None, if before.is_some() { Remember::Forget } else { Remember::Nothing });
        };
        if !has_times(&object) {
            let remember = if before.is_some() { Remember::Forget } else { Remember::Nothing };
            return (Some(object), remember);
        }
        let remember =
            if before.as_ref() == Some(&object) { Remember::Nothing } else { Remember::Keep(object.clone()) };
        (self.note(key, object, now), remember)
    }

    /// As it was told.
    pub(crate) fn told(&self, key: &ObjectKey) -> Option<&Object> {
        self.told.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.told.keys()
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Objects of which something ended, as they are now.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> BTreeMap<ObjectKey, Option<Object>> {
        let mut changed = BTreeMap::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            self.at.remove(&key);
            if let Some(object) = self.told.get(&key).cloned() {
                let holds = self.note(&key, object, now);
                changed.insert(key, holds);
            }
        }
        changed
    }

    fn note(&mut self, key: &ObjectKey, object: Object, now: Timestamp) -> Option<Object> {
        if let Some(at) = times(&object).filter(|at| *at > now).min() {
            self.due.insert((at, key.clone()));
            self.at.insert(key.clone(), at);
        }
        let holds = holding(&object, now);
        self.told.insert(key.clone(), object);
        holds
    }

    fn forget(&mut self, key: &ObjectKey) -> Option<Object> {
        if let Some(at) = self.at.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
        self.told.remove(key)
    }
}

/// What has to be kept for the next life of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remember {
    Nothing,
    Keep(Object),
    Forget,
}

fn has_times(object: &Object) -> bool {
    times(object).next().is_some()
}

fn times(object: &Object) -> impl Iterator<Item = Timestamp> + '_ {
    let (expires, set) = match object {
        Object::Endpoint(end) => (end.expires, None),
        Object::Rules(set) => (set.revert.as_ref().map(|revert| revert.at), Some(set)),
        Object::Eni(_) | Object::Hop(_) | Object::Peer(_) | Object::Trace(_) => (None, None),
    };
    let former = set.and_then(|set| set.revert.as_ref()).into_iter().flat_map(|revert| &revert.rules);
    let rules = set.into_iter().flat_map(|set| &set.rules).chain(former);
    expires.into_iter().chain(rules.filter_map(end_of))
}

fn end_of(rule: &Rule) -> Option<Timestamp> {
    rule.spec.until.and_then(Until::at)
}

/// The object at a time: nothing of an end that has expired, the former rules if nobody confirmed the new ones, and no
/// rule whose time is over.
fn holding(object: &Object, now: Timestamp) -> Option<Object> {
    match object {
        Object::Endpoint(end) if end.expires.is_some_and(|at| at <= now) => None,
        Object::Rules(set) => Some(Object::Rules(rules(set, now))),
        Object::Endpoint(_) | Object::Eni(_) | Object::Hop(_) | Object::Peer(_) | Object::Trace(_) => {
            Some(object.clone())
        }
    }
}

fn rules(set: &RuleSet, now: Timestamp) -> RuleSet {
    let reverted = set.revert.as_ref().filter(|revert| revert.at <= now);
    let all = reverted.map_or(&set.rules, |revert| &revert.rules);
    let left: Vec<Rule> = all.iter().filter(|rule| end_of(rule).is_none_or(|at| at > now)).cloned().collect();
    let passed = all.len() - left.len() + if reverted.is_some() { REVERTED } else { 0 };
    RuleSet { circuit: set.circuit, version: version(set.version, passed), rules: left, revert: None }
}

/// More than a set has rules.
const REVERTED: usize = 512;
/// Marks versions that the agent made; the controller counts from 1.
const OWN: u32 = 1 << 31;

/// Connections are judged anew when the version of their rules changes, so each change needs one of its own; and the
/// same one after a restart.
fn version(told: u32, passed: usize) -> u32 {
    match u32::try_from(passed) {
        Ok(0) => told,
        Ok(passed) => OWN | ((told << 10) & (OWN - 1)) | passed,
        Err(_) => OWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::CircuitId;
    use proto_model::rule::Revert;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn rule(id: u32, text: &str) -> Rule {
        Rule { id, spec: text.parse().expect(text) }
    }

    fn ids(object: Option<Object>) -> (u32, Vec<u32>) {
        match object {
            Some(Object::Rules(set)) => (set.version, set.rules.iter().map(|rule| rule.id).collect()),
            other => panic!("{other:?}"),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_rule_is_gone_at_its_time_and_the_version_changes_with_it() {
        let rules = vec![rule(1, "allow tcp/22 until 1970-01-01T00:00:10Z"), rule(2, "allow tcp/80")];
        let set = Object::Rules(RuleSet { circuit: CircuitId(7), version: 3, rules, revert: None });
        let mut timed = Timed::default();
        let (holds, remember) = timed.tell(&set.key(), Some(set.clone()), NOW);
        assert_eq!(ids(holds), (3, vec![1, 2]));
        assert_eq!(remember, Remember::Keep(set.clone()));
        assert_eq!(timed.next_due(), Some(at(10)));
        assert!(timed.take_due(at(9)).is_empty());
        let changed = timed.take_due(at(10));
        let (version, left) = ids(changed[&set.key()].clone());
        assert_eq!(left, [2]);
        assert_ne!(version, 3);
        assert_eq!(timed.next_due(), None);
        // The same after a restart, and when it is told again.
        let again = ids(Timed::default().tell(&set.key(), Some(set.clone()), at(11)).0);
        assert_eq!(again, (version, left));
        assert_eq!(timed.tell(&set.key(), Some(set.clone()), at(11)).1, Remember::Nothing);
        assert_eq!(timed.tell(&set.key(), None, at(12)), (None, Remember::Forget));
    }

    #[test]
    fn unconfirmed_rules_are_taken_back_and_confirmed_ones_stay() {
        let former = vec![rule(1, "allow tcp/80")];
        let revert = Some(Revert { at: at(60), rules: former });
        let new = RuleSet { circuit: CircuitId(7), version: 4, rules: Vec::new(), revert };
        let mut timed = Timed::default();
        let object = Object::Rules(new.clone());
        assert_eq!(ids(timed.tell(&object.key(), Some(object.clone()), NOW).0), (4, vec![]));
        let (version, back) = ids(timed.take_due(at(60)).remove(&object.key()).flatten());
        assert_eq!(back, [1]);
        assert_ne!(version, 4);
        let confirmed = Object::Rules(RuleSet { revert: None, ..new });
        let (holds, remember) = timed.tell(&object.key(), Some(confirmed), at(30));
        assert_eq!(ids(holds), (4, vec![]));
        assert_eq!(remember, Remember::Forget);
        assert_eq!(timed.next_due(), None);
    }

    #[test]
    fn a_revert_to_rules_that_have_ended_meanwhile_does_not_bring_them_back() {
        let former = vec![rule(1, "allow tcp/80 until 1970-01-01T00:00:30Z"), rule(2, "allow tcp/81")];
        let revert = Some(Revert { at: at(60), rules: former });
        let set = RuleSet { circuit: CircuitId(7), version: 4, rules: Vec::new(), revert };
        let (_, back) = ids(holding(&Object::Rules(set), at(60)));
        assert_eq!(back, [2]);
    }

    #[test]
    fn every_state_of_a_set_has_a_version_of_its_own() {
        let all: BTreeSet<u32> =
            (1..50).flat_map(|told| (0..=768).map(move |passed| version(told, passed))).collect();
        assert_eq!(all.len(), 49 * 769);
    }
}
