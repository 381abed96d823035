//! The policy of a host: rules of its owner that stand before the rules of every circuit that ends there.
//!
//! A policy restricts, and never grants: what it denies is denied, what it allows or does not speak of is decided by
//! the circuit's own rules, their default deny included (as `accept` of an earlier nftables chain, or Calico's `pass`).
use crate::desired::Side;
use crate::rule::{Action, Opener, Ports, Prefix, Protocol, Revert, Rule, RuleSpec};
use crate::until::Until;
use serde::{Deserialize, Serialize};

/// What a node is told of its policy. In a policy's rules the opener is seen from the host: forward is whoever opens
/// to a workload here, reverse a workload here that opens to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// One larger with every change.
    pub version: u32,
    pub rules: Vec<Rule>,
    /// The change that brought these rules is not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Revert>,
}

/// Rules of all circuits that end at one host, with the policy before each: half of what the data plane's table holds,
/// because under a new policy the old rows and the new ones are there at once.
pub const MAX_HOST_ROWS: usize = 131_072;

/// Told apart from a circuit's rules wherever rules are counted: bit 31 of the number.
const MARK: u32 = 1 << 31;

/// The number under which a rule of a policy is counted.
pub fn marked(rule: u32) -> u32 {
    rule | MARK
}

/// The number within the policy, if the counted one is of a policy.
pub fn rule_of_policy(counted: u32) -> Option<u32> {
    (counted & MARK != 0).then_some(counted & !MARK)
}

/// A circuit's rules with the policy before them, for a host that has these ends of it. Rules that a policy lets pass to
/// the circuit's own come as often as they are let pass; number 0 stands for the circuit's default deny.
pub fn before(policy: &[Rule], ends: &[Side], rules: &[Rule]) -> Vec<Rule> {
    ends.iter().fold(rules.to_vec(), |rules, side| stand_before(policy, *side, rules))
}

/// The circuit's own rules among those that [`before`] made.
pub fn behind(all: &[Rule]) -> &[Rule] {
    // What stands before them ends with a deny of the policy.
    let last = all.iter().rposition(|rule| rule_of_policy(rule.id).is_some());
    last.map_or(all, |last| &all[last + 1..])
}

fn stand_before(policy: &[Rule], side: Side, rules: Vec<Rule>) -> Vec<Rule> {
    // What follows the last deny changes nothing.
    let Some(last) = policy.iter().rposition(|rule| rule.spec.action == Action::Deny) else { return rules };
    let mut all = Vec::with_capacity(last + 1 + rules.len());
    for rule in &policy[..=last] {
        let spec = RuleSpec { opener: seen_from(side, rule.spec.opener), ..rule.spec.clone() };
        match spec.action {
            Action::Deny => all.push(Rule { id: marked(rule.id), spec }),
            Action::Allow => {
                let passed =
                    rules.iter().filter_map(|own| Some(Rule { spec: meet(&own.spec, &spec)?, ..*own }));
                all.extend(passed);
                all.push(Rule { id: 0, spec: RuleSpec { action: Action::Deny, ..spec } });
            }
        }
    }
    all.extend(rules);
    all
}

/// Forward is towards the destination: at the source's host, that is away from it.
fn seen_from(side: Side, opener: Opener) -> Opener {
    match (side, opener) {
        (Side::Destination, opener) | (Side::Source, opener @ Opener::Both) => opener,
        (Side::Source, Opener::Forward) => Opener::Reverse,
        (Side::Source, Opener::Reverse) => Opener::Forward,
    }
}

/// `rule` for those packets only that `other` matches too. None: there are none.
fn meet(rule: &RuleSpec, other: &RuleSpec) -> Option<RuleSpec> {
    let met = RuleSpec {
        action: rule.action,
        opener: openers(rule.opener, other.opener)?,
        protocol: protocols(rule.protocol, other.protocol)?,
        ports: ports(rule.ports, other.ports)?,
        source: prefixes(rule.source, other.source)?,
        destination: prefixes(rule.destination, other.destination)?,
        until: earlier(rule.until, other.until),
    };
    // A packet is of one family.
    met.check().is_ok().then_some(met)
}

fn openers(one: Opener, other: Opener) -> Option<Opener> {
    match (one, other) {
        (Opener::Both, either) | (either, Opener::Both) => Some(either),
        (one, other) => (one == other).then_some(one),
    }
}

fn protocols(one: Protocol, other: Protocol) -> Option<Protocol> {
    match (one, other) {
        (Protocol::Any, either) | (either, Protocol::Any) => Some(either),
        (one, other) => (one == other).then_some(one),
    }
}

fn ports(one: Ports, other: Ports) -> Option<Ports> {
    let met = Ports { from: one.from.max(other.from), to: one.to.min(other.to) };
    (met.from <= met.to).then_some(met)
}

fn prefixes(one: Option<Prefix>, other: Option<Prefix>) -> Option<Option<Prefix>> {
    let (Some(a), Some(b)) = (one, other) else { return Some(one.or(other)) };
    let (wide, narrow) = if a.length() <= b.length() { (a, b) } else { (b, a) };
    wide.contains(narrow.address()).then_some(Some(narrow))
}

fn earlier(one: Option<Until>, other: Option<Until>) -> Option<Until> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        let rule = |(i, text): (usize, &&str)| Rule { id: i as u32 + 1, spec: text.parse().expect(text) };
        texts.iter().enumerate().map(rule).collect()
    }

    #[derive(Clone, Copy, Debug)]
    struct Opening {
        opener: Opener,
        protocol: Protocol,
        port: u16,
        source: IpAddr,
        destination: IpAddr,
    }

    impl Opening {
        fn matches(&self, spec: &RuleSpec) -> bool {
            (spec.opener == Opener::Both || spec.opener == self.opener)
                && (spec.protocol == Protocol::Any || spec.protocol == self.protocol)
                && spec.ports.from <= self.port
                && self.port <= spec.ports.to
                && spec.source.is_none_or(|prefix| prefix.contains(self.source))
                && spec.destination.is_none_or(|prefix| prefix.contains(self.destination))
        }

        fn first<'a>(&self, rules: &'a [Rule]) -> Option<&'a Rule> {
            rules.iter().find(|rule| self.matches(&rule.spec))
        }

        /// What is meant: the policy of each end, then the circuit's rules. The number of the rule that denies.
        fn meant(&self, policy: &[Rule], ends: &[Side], own: &[Rule]) -> Result<u32, u32> {
            for side in ends {
                let opener = seen_from(*side, self.opener);
                match (Self { opener, ..*self }).first(policy) {
                    Some(rule) if rule.spec.action == Action::Deny => return Err(marked(rule.id)),
                    Some(_) | None => {}
                }
            }
            verdict(self.first(own))
        }
    }

    fn verdict(first: Option<&Rule>) -> Result<u32, u32> {
        match first {
            Some(rule) if rule.spec.action == Action::Allow => Ok(rule.id),
            Some(rule) => Err(rule.id),
            None => Err(0),
        }
    }

    fn openings() -> Vec<Opening> {
        let v4 = |n| IpAddr::from([100, 64, 0, n]);
        let v6 = |n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]);
        let pairs = [(v4(1), v4(2)), (v4(9), v4(2)), (v6(1), v6(2)), (v6(9), v6(2))];
        let mut all = Vec::new();
        for opener in [Opener::Forward, Opener::Reverse] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Number(47)] {
                for port in [0, 8, 22, 53, 80, 443, 5432] {
                    for (source, destination) in pairs {
                        all.push(Opening { opener, protocol, port, source, destination });
                    }
                }
            }
        }
        all
    }

    const POLICIES: &[&[&str]] = &[
        &[],
        &["deny tcp/22"],
        &["deny tcp/22 reverse"],
        &["allow tcp/22 from 100.64.0.1", "deny tcp/22 both"],
        &["allow tcp/22-443", "allow icmp both", "deny any both"],
        &["allow any from fd00::/8", "deny udp both", "allow tcp reverse", "deny any reverse"],
        &["allow any both"],
        &["deny any both"],
        &[
            "allow tcp/80 reverse",
            "deny tcp/80",
            "allow any from 100.64.0.0/24",
            "deny any both",
            "allow tcp",
        ],
    ];

    const CIRCUITS: &[&[&str]] = &[
        &[],
        &["allow tcp/5432"],
        &["deny tcp/22 from 100.64.0.9", "allow tcp/20-80 both", "allow icmp"],
        &["allow any both"],
        &["allow udp/53 from fd00::1 to fd00::/8", "deny udp/53 reverse", "allow any to 100.64.0.2 reverse"],
    ];

    #[test]
    fn the_policy_of_each_end_restricts_and_the_circuits_own_rules_grant() {
        let ends: [&[Side]; 3] = [&[Side::Source], &[Side::Destination], &[Side::Source, Side::Destination]];
        for (policy, own) in POLICIES.iter().flat_map(|policy| CIRCUITS.iter().map(move |own| (policy, own)))
        {
            let (policy, own) = (rules(policy), rules(own));
            for ends in ends {
                let all = before(&policy, ends, &own);
                assert_eq!(behind(&all), own);
                for opening in openings() {
                    let (is, meant) = (verdict(opening.first(&all)), opening.meant(&policy, ends, &own));
                    let same = match ends {
                        [_] => is == meant,
                        // Which of two policies says no first does not matter.
                        _ => is.ok() == meant.ok(),
                    };
                    assert!(same, "{opening:?}: {is:?} instead of {meant:?} by {all:?}");
                }
            }
        }
    }

    #[test]
    fn without_a_deny_a_policy_adds_nothing() {
        let own = rules(&["allow tcp/80"]);
        for policy in [rules(&[]), rules(&["allow tcp/22", "allow any both"])] {
            assert_eq!(before(&policy, &[Side::Source, Side::Destination], &own), own);
        }
    }

    #[test]
    fn what_is_let_pass_ends_with_the_earlier_of_both() {
        let policy = rules(&["allow tcp until 2030-01-01T00:00:00Z", "deny any both"]);
        let own = rules(&["allow tcp/80 until 2029-01-01T00:00:00Z", "allow tcp/81"]);
        let all: Vec<String> =
            before(&policy, &[Side::Destination], &own).iter().map(|rule| rule.spec.to_string()).collect();
        assert_eq!(all[0], "allow tcp/80 until 2029-01-01T00:00:00Z");
        assert_eq!(all[1], "allow tcp/81 until 2030-01-01T00:00:00Z");
        assert_eq!(all[2], "deny tcp until 2030-01-01T00:00:00Z");
    }

    #[test]
    fn rules_of_a_policy_are_told_apart() {
        assert_eq!(rule_of_policy(marked(3)), Some(3));
        assert_eq!(rule_of_policy(3), None);
    }
}
