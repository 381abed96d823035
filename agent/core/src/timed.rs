//! What of the desired state ends by itself, and how things are at a given time; so that nobody has to say so then.
use proto_model::desired::{Object, ObjectKey};
use proto_model::policy::Policy;
use proto_model::rule::{Revert, Rule, RuleSet};
use proto_model::{Timestamp, Until};
use std::collections::{BTreeMap, BTreeSet};

/// Objects with a time in them, as they were told. The rest of the agent sees only what holds now.
#[derive(Debug, Default)]
pub(crate) struct Timed {
    told: BTreeMap<ObjectKey, Object>,
    due: BTreeSet<(Timestamp, ObjectKey)>,
    at: BTreeMap<ObjectKey, Timestamp>,
    /// When something of it ended last: a clock that is set back brings nothing back of what is told unchanged.
    passed: BTreeMap<ObjectKey, Timestamp>,
    clock: WallClock,
    counts: Counts,
}

/// The host's own clock, by which things end, against the agent's, which is never set.
#[derive(Clone, Copy, Debug, Default)]
struct WallClock {
    /// Nanoseconds that it is ahead.
    ahead: i64,
}

impl WallClock {
    fn show(self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.ahead))
    }

    /// When it shows `at`, by the agent's clock.
    fn agents(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add_signed(self.ahead.saturating_neg()))
    }
}

/// What ended by itself since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ends of circuits, and times at which rules ended.
    pub expired: u64,
    /// Changes of rules or of the policy that nobody confirmed.
    pub reverted: u64,
}

impl Timed {
    /// Somebody set the host's clock, or it stood still with the host: it is so many nanoseconds ahead of the agent's now.
    pub(crate) fn set_clock(&mut self, ahead: i64) {
        self.clock.ahead = ahead;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes note of news about an object; what holds of it now. None: nothing.
    pub(crate) fn tell(
        &mut self,
        key: &ObjectKey,
        new: Option<Object>,
        now: Timestamp,
    ) -> (Option<Object>, Remember) {
        let now = self.clock.show(now);
        let before = self.forget(key);
        if before != new {
            self.passed.remove(key);
        }
        let Some(object) = new else {
            return (None, if before.is_some() { Remember::Forget } else { Remember::Nothing });
        };
        if !is_kept(&object) {
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
        self.due.first().map(|(at, _)| self.clock.agents(*at))
    }

    /// Objects of which something ended, as they are now.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> BTreeMap<ObjectKey, Option<Object>> {
        let now = self.clock.show(now);
        let mut changed = BTreeMap::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, key)) = self.due.pop_first() else { break };
            self.at.remove(&key);
            if let Some(object) = self.told.get(&key).cloned() {
                self.count(&object, at);
                self.passed.insert(key.clone(), now);
                let holds = self.note(&key, object, now);
                changed.insert(key, holds);
            }
        }
        changed
    }

    fn count(&mut self, object: &Object, at: Timestamp) {
        match revert(object) {
            Some(revert) if revert.at == at => self.counts.reverted += 1,
            Some(_) | None => self.counts.expired += 1,
        }
    }

    fn note(&mut self, key: &ObjectKey, object: Object, now: Timestamp) -> Option<Object> {
        let now = self.passed.get(key).map_or(now, |passed| now.max(*passed));
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

/// A policy is kept whether it has times or not: rules that end before a controller speaks are lowered with it.
fn is_kept(object: &Object) -> bool {
    matches!(object, Object::Policy(_)) || times(object).next().is_some()
}

fn times(object: &Object) -> impl Iterator<Item = Timestamp> + '_ {
    let (expires, rules): (_, &[Rule]) = match object {
        Object::Endpoint(end) => (end.expires, &[]),
        Object::Rules(set) => (None, &set.rules),
        Object::Policy(policy) => (None, &policy.rules),
        Object::Eni(_) | Object::Hop(_) | Object::Peer(_) | Object::Trace(_) => (None, &[]),
    };
    let revert = revert(object);
    let former = revert.into_iter().flat_map(|revert| &revert.rules);
    let at = expires.into_iter().chain(revert.map(|revert| revert.at));
    at.chain(rules.iter().chain(former).filter_map(end_of))
}

fn revert(object: &Object) -> Option<&Revert> {
    match object {
        Object::Rules(set) => set.revert.as_ref(),
        Object::Policy(policy) => policy.revert.as_ref(),
        Object::Endpoint(_) | Object::Eni(_) | Object::Hop(_) | Object::Peer(_) | Object::Trace(_) => None,
    }
}

fn end_of(rule: &Rule) -> Option<Timestamp> {
    rule.spec.until.and_then(Until::at)
}

/// The object at a time: nothing of an end that has expired, the former rules if nobody confirmed the new ones, and no
/// rule whose time is over.
fn holding(object: &Object, now: Timestamp) -> Option<Object> {
    match object {
        Object::Endpoint(end) if end.expires.is_some_and(|at| at <= now) => None,
        Object::Rules(set) => {
            let (version, rules) = in_force(set.version, &set.rules, set.revert.as_ref(), now);
            Some(Object::Rules(RuleSet { circuit: set.circuit, version, rules, revert: None }))
        }
        Object::Policy(policy) => {
            let (version, rules) = in_force(policy.version, &policy.rules, policy.revert.as_ref(), now);
            Some(Object::Policy(Policy { version, rules, revert: None }))
        }
        Object::Endpoint(_) | Object::Eni(_) | Object::Hop(_) | Object::Peer(_) | Object::Trace(_) => {
            Some(object.clone())
        }
    }
}

fn in_force(told: u32, rules: &[Rule], revert: Option<&Revert>, now: Timestamp) -> (u32, Vec<Rule>) {
    let reverted = revert.filter(|revert| revert.at <= now);
    let all = reverted.map_or(rules, |revert| &revert.rules);
    let left: Vec<Rule> = all.iter().filter(|rule| end_of(rule).is_none_or(|at| at > now)).cloned().collect();
    let passed = all.len() - left.len() + if reverted.is_some() { REVERTED } else { 0 };
    (version(told, passed), left)
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

    fn unconfirmed(at: Timestamp) -> Object {
        let (rules, former) = (vec![rule(1, "deny tcp/22")], vec![rule(2, "deny tcp/23")]);
        Object::Policy(Policy { version: 2, rules, revert: Some(Revert { at, rules: former }) })
    }

    fn numbers(object: Option<Object>) -> Vec<u32> {
        match object {
            Some(Object::Policy(policy)) => policy.rules.iter().map(|rule| rule.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unconfirmed_policy_is_taken_back_and_every_policy_is_kept() {
        let mut timed = Timed::default();
        let policy = unconfirmed(at(60));
        assert_eq!(numbers(timed.tell(&ObjectKey::Policy, Some(policy), NOW).0), [1]);
        assert_eq!(numbers(timed.take_due(at(60)).remove(&ObjectKey::Policy).flatten()), [2]);
        assert_eq!(timed.counts(), Counts { expired: 0, reverted: 1 });
        let plain = Object::Policy(Policy { version: 3, rules: vec![rule(1, "deny tcp/22")], revert: None });
        let (holds, remember) = timed.tell(&ObjectKey::Policy, Some(plain.clone()), at(61));
        assert_eq!((numbers(holds), remember), (vec![1], Remember::Keep(plain)));
    }

    #[test]
    fn ends_follow_the_clock_when_it_is_set() {
        const HOUR: i64 = 3_600_000_000_000;
        let mut timed = Timed::default();
        timed.tell(&ObjectKey::Policy, Some(unconfirmed(at(7_200))), NOW);
        assert_eq!(timed.next_due(), Some(at(7_200)));
        // An hour forward: an hour earlier by the agent's clock.
        timed.set_clock(HOUR);
        assert_eq!(timed.next_due(), Some(at(3_600)));
        assert!(timed.take_due(at(3_599)).is_empty());
        // And back: two hours later than that.
        timed.set_clock(-HOUR);
        assert_eq!(timed.next_due(), Some(at(10_800)));
        assert!(timed.take_due(at(10_799)).is_empty());
        assert_eq!(numbers(timed.take_due(at(10_800)).remove(&ObjectKey::Policy).flatten()), [2]);
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back() {
        let mut timed = Timed::default();
        timed.tell(&ObjectKey::Policy, Some(unconfirmed(at(60))), NOW);
        assert_eq!(timed.take_due(at(60)).len(), 1);
        timed.set_clock(-50_000_000_000);
        assert!(timed.take_due(at(61)).is_empty());
        // Told the same again: by a controller that came back.
        assert_eq!(numbers(timed.tell(&ObjectKey::Policy, Some(unconfirmed(at(60))), at(61)).0), [2]);
        // Another change is another matter.
        assert_eq!(numbers(timed.tell(&ObjectKey::Policy, Some(unconfirmed(at(70))), at(61)).0), [1]);
        assert_eq!(timed.next_due(), Some(at(120)));
    }

    #[test]
    fn every_state_of_a_set_has_a_version_of_its_own() {
        let all: BTreeSet<u32> =
            (1..50).flat_map(|told| (0..=768).map(move |passed| version(told, passed))).collect();
        assert_eq!(all.len(), 49 * 769);
    }
}
