//! Rules as the kernel shall have them: a circuit's own, with the host's policy before them.
use super::{Node, Phase};
use crate::bounds::Refused;
use crate::kernel_state::{Entry, EntryKey, KernelState, Label, LabelAction, Rules};
use crate::ledger::Have;
use crate::lower;
use ebpf_abi::Direction;
use proto_model::desired::{Object, ObjectKey, Side};
use proto_model::policy::{self, Policy};
use proto_model::rule::{Rule, RuleSet};
use proto_model::{CircuitId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    fn policy(&self) -> &[Rule] {
        let Some(Object::Policy(policy)) = self.objects.get(&ObjectKey::Policy) else { return &[] };
        &policy.rules
    }

    /// With the policy as it holds now. The kernel's version is the told one while no policy stands before the rules.
    fn rules_of(&self, set: &RuleSet) -> Result<Rules, Refused> {
        let here = |side: &Side| {
            self.objects.contains_key(&ObjectKey::Endpoint(set.circuit, *side))
                || self.seen_ends.contains(&(set.circuit, *side))
        };
        let ends: Vec<Side> = [Side::Source, Side::Destination].into_iter().filter(here).collect();
        let all = policy::before(self.policy(), &ends, &set.rules);
        let rows = lower::rows(&all)?;
        let version = if all.len() == set.rules.len() { set.version } else { lower::version_of(&rows) };
        Ok(Rules { circuit: set.circuit.0, version, start: 0, rows })
    }

    pub(super) fn lowered_rules(&self, set: &RuleSet) -> Result<Entry, Refused> {
        self.rules_of(set).map(Entry::Rules)
    }

    /// Rows that the kernel has already are kept; others come where no packet looks.
    pub(super) fn want_rules(
        &mut self,
        set: &RuleSet,
        key: &ObjectKey,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let mut rules = self.rules_of(set)?;
        let count = u32::try_from(rules.rows.len()).unwrap_or(u32::MAX);
        if let Some(Have::Is(have)) = self.ledger.get(&EntryKey::Rules(rules.circuit)).map(|cell| &cell.have)
            && let Entry::Rules(there) = &**have
            && (there.version, &there.rows) == (rules.version, &rules.rows)
        {
            rules.start = there.start;
            self.desire(Entry::Rules(rules), Some(key.clone()), now);
            return Ok(());
        }
        rules.start = self.ledger.rows.allocate(count, now)?;
        let start = rules.start;
        self.desire(Entry::Rules(rules), Some(key.clone()), now);
        self.ledger.rows.release(start, count, now);
        Ok(())
    }

    /// Rule sets that look otherwise because of these news: all of them under another policy, one when an end of its
    /// circuit comes or goes.
    pub(super) fn judged_otherwise(&self, news: &BTreeMap<ObjectKey, Option<Object>>) -> BTreeSet<ObjectKey> {
        if news.contains_key(&ObjectKey::Policy) {
            let rules = self.objects.keys().filter(|key| matches!(key, ObjectKey::Rules(_)));
            return rules.cloned().collect();
        }
        if self.policy().is_empty() {
            return BTreeSet::new();
        }
        let of_end = |(key, new): (&ObjectKey, &Option<Object>)| {
            let ObjectKey::Endpoint(circuit, _) = key else { return None };
            (self.objects.contains_key(key) != new.is_some()).then_some(ObjectKey::Rules(*circuit))
        };
        news.iter().filter_map(of_end).collect()
    }

    /// Before any controller has spoken: from now on rules are lowered with this policy. If something of it has ended,
    /// the kernel's own rules are read back from its rows, which end with them.
    pub(super) fn resume_policy(&mut self, told: &Policy, holds: Policy, now: Timestamp) {
        let key = ObjectKey::Policy;
        let mut news = BTreeMap::from([(key.clone(), Some(Object::Policy(holds.clone())))]);
        if holds.rules == told.rules {
            self.objects.insert(key, Object::Policy(holds));
            return;
        }
        let unknown = self.ledger.keys().filter_map(|key| {
            let EntryKey::Rules(circuit) = key else { return None };
            let key = ObjectKey::Rules(CircuitId(*circuit));
            if self.objects.contains_key(&key) { None } else { Some((key, self.seen_rules(*circuit)?)) }
        });
        let unknown: Vec<_> = unknown.collect();
        news.extend(unknown.into_iter().map(|(key, set)| (key, Some(Object::Rules(set)))));
        self.apply(news, now);
    }

    fn seen_rules(&self, circuit: u64) -> Option<RuleSet> {
        let Have::Is(have) = &self.ledger.get(&EntryKey::Rules(circuit))?.have else { return None };
        let Entry::Rules(there) = &**have else { return None };
        let all: Vec<Rule> = there.rows.iter().map(lower::rule).collect::<Option<_>>()?;
        let rules = policy::behind(&all).to_vec();
        let version = lower::version_of(&lower::rows(&rules).ok()?);
        Some(RuleSet { circuit: CircuitId(circuit), version, rules, revert: None })
    }

    /// Which ends of circuits the kernel has; of use until a controller speaks.
    pub(super) fn note_ends(&mut self, state: &KernelState) {
        debug_assert_eq!(self.phase, Phase::Seen);
        self.seen_ends = state.values().filter_map(end).collect();
    }
}

fn end(entry: &Entry) -> Option<(CircuitId, Side)> {
    if let Entry::Flow(flow) = entry {
        return Some((CircuitId(flow.circuit), from(flow.direction)));
    }
    let Entry::Label(Label { circuit, direction, action: LabelAction::Deliver { .. }, .. }) = entry else {
        return None;
    };
    // What is delivered here comes from the other end.
    Some((CircuitId(*circuit), from(direction.opposite())))
}

fn from(direction: Direction) -> Side {
    match direction {
        Direction::Forward => Side::Source,
        Direction::Reverse => Side::Destination,
    }
}
