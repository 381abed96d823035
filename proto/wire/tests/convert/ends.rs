//! Well-formed ends of what does not last, at random.
use crate::words::{circuit_id, circuit_ref, node, rule_spec, timestamp};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::policy::Policy;
use proto_model::request::{PolicyChange, PolicyView, Request};
use proto_model::rule::{Revert, Rule, RuleSet, RuleSpec};
use proto_model::{Timestamp, Until};
use std::collections::BTreeSet;
use std::time::Duration;

/// A time is never 0, which means none.
pub(crate) fn moment() -> impl Strategy<Value = Timestamp> {
    (1..=u64::MAX).prop_map(Timestamp)
}

pub(crate) fn until() -> impl Strategy<Value = Option<Until>> {
    let span = (1..=366 * 86_400u64).prop_map(Duration::from_secs);
    of(prop_oneof![moment().prop_map(Until::At), span.prop_map(Until::After)])
}

/// As a request has it.
pub(crate) fn wish() -> impl Strategy<Value = RuleSpec> {
    (rule_spec(), until()).prop_map(|(spec, until)| RuleSpec { until, ..spec }).boxed()
}

/// What is shown does not say what comes back.
pub(crate) fn shown_rule_set() -> impl Strategy<Value = RuleSet> {
    rule_set().prop_map(|set| RuleSet { revert: None, ..set })
}

pub(crate) fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let ending = (rule_spec(), of(moment()));
    let spec = ending.prop_map(|(spec, at)| RuleSpec { until: at.map(Until::At), ..spec });
    vec((1..=u32::MAX, spec), 0..6)
        .prop_map(|rules| {
            let mut seen = BTreeSet::new();
            rules.into_iter().filter(|(id, _)| seen.insert(*id)).map(|(id, spec)| Rule { id, spec }).collect()
        })
        .boxed()
}

pub(crate) fn rule_set() -> impl Strategy<Value = RuleSet> {
    let revert = of((timestamp(), rules()).prop_map(|(at, rules)| Revert { at, rules }));
    (circuit_id(), any::<u32>(), rules(), revert)
        .prop_map(|(circuit, version, rules, revert)| RuleSet { circuit, version, rules, revert })
        .boxed()
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    rule_set().prop_map(|RuleSet { version, rules, revert, .. }| Policy { version, rules, revert })
}

pub(crate) fn policy_view() -> impl Strategy<Value = PolicyView> {
    (node(), any::<u32>(), rules(), any::<bool>(), of(moment())).prop_map(
        |(node, version, rules, pending, confirm_by)| PolicyView {
            node,
            version,
            rules,
            pending,
            confirm_by,
        },
    )
}

pub(crate) fn policy_requests() -> impl Strategy<Value = Request> {
    let within = of((1..=86_400u64).prop_map(Duration::from_secs));
    let set = (node(), of(any::<u32>()), vec(wish(), 0..5), within).prop_map(
        |(node, expected_version, rules, confirm_within)| PolicyChange {
            node,
            expected_version,
            rules,
            confirm_within,
        },
    );
    prop_oneof![
        set.prop_map(Request::SetPolicy),
        node().prop_map(|node| Request::GetPolicy { node }),
        node().prop_map(|node| Request::ConfirmPolicy { node }),
        node().prop_map(|node| Request::RollbackPolicy { node }),
    ]
    .boxed()
}

pub(crate) fn changes_of_ends() -> impl Strategy<Value = Request> {
    prop_oneof![
        (circuit_ref(), until()).prop_map(|(circuit, until)| Request::ExtendCircuit { circuit, until }),
        circuit_ref().prop_map(|circuit| Request::ConfirmRules { circuit }),
        circuit_ref().prop_map(|circuit| Request::RollbackRules { circuit }),
    ]
    .boxed()
}
