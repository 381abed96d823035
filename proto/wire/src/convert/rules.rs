//! Firewall rules, and changes to a circuit's.
use super::fields::{byte, count, each, list, port, required, shown, unknown};
use super::policies::confirm_within;
use super::units::{ending, nanos_of, until, until_fields};
use super::{Malformed, Result, circuit_ref, limits};
use crate::v1;
use crate::v1::update_firewall_rule_request as wire;
use proto_model::request::{RuleChange, RuleEdit};
use proto_model::rule::{Action, Opener, Ports, Prefix, Protocol, Revert, Rule, RuleSet, RuleSpec};
use proto_model::{CircuitId, Timestamp};
use std::collections::BTreeSet;

/// In a request: the controller numbers the rules.
impl TryFrom<v1::Rule> for RuleSpec {
    type Error = Malformed;
    fn try_from(rule: v1::Rule) -> Result<Self> {
        match rule.id {
            0 => spec(&rule),
            id => {
                Err(Malformed::new("id", format!("{id} was sent; the controller numbers the rules: send 0")))
            }
        }
    }
}

impl TryFrom<v1::Rule> for Rule {
    type Error = Malformed;
    fn try_from(rule: v1::Rule) -> Result<Self> {
        match rule.id {
            0 => Err(Malformed::new("id", "is 0; rules that are in force have numbers from 1")),
            id => {
                ending(rule.until, rule.lifetime)?;
                Ok(Self { id, spec: spec(&rule)? })
            }
        }
    }
}

fn spec(rule: &v1::Rule) -> Result<RuleSpec> {
    let spec = RuleSpec {
        action: action(rule.action)?,
        opener: opener(rule.opener)?,
        protocol: protocol(rule.protocol, rule.protocol_number)?,
        ports: ports(rule.ports)?,
        source: prefix("source", &rule.source)?,
        destination: prefix("destination", &rule.destination)?,
        until: until("until", rule.until, rule.lifetime)?,
    };
    spec.check().map_err(|why| Malformed::new("", why))?;
    Ok(spec)
}

fn action(value: i32) -> Result<Action> {
    match v1::rule::Action::try_from(value) {
        Ok(v1::rule::Action::Allow) => Ok(Action::Allow),
        Ok(v1::rule::Action::Deny) => Ok(Action::Deny),
        Ok(v1::rule::Action::Unspecified) => {
            Err(Malformed::new("action", "is missing; allowed are ACTION_ALLOW and ACTION_DENY"))
        }
        Err(_) => Err(unknown("action", value, "ACTION_ALLOW (1), ACTION_DENY (2)")),
    }
}

fn opener(value: i32) -> Result<Opener> {
    match v1::rule::Opener::try_from(value) {
        Ok(v1::rule::Opener::Unspecified | v1::rule::Opener::Forward) => Ok(Opener::Forward),
        Ok(v1::rule::Opener::Reverse) => Ok(Opener::Reverse),
        Ok(v1::rule::Opener::Both) => Ok(Opener::Both),
        Err(_) => Err(unknown("opener", value, "OPENER_FORWARD (1), OPENER_REVERSE (2), OPENER_BOTH (3)")),
    }
}

fn protocol(value: i32, number: u32) -> Result<Protocol> {
    let named = match v1::rule::Protocol::try_from(value) {
        Ok(v1::rule::Protocol::Unspecified | v1::rule::Protocol::Any) => Protocol::Any,
        Ok(v1::rule::Protocol::Tcp) => Protocol::Tcp,
        Ok(v1::rule::Protocol::Udp) => Protocol::Udp,
        Ok(v1::rule::Protocol::Icmp) => Protocol::Icmp,
        Ok(v1::rule::Protocol::Number) => return byte("protocol_number", number).map(Protocol::Number),
        Err(_) => {
            return Err(unknown(
                "protocol",
                value,
                "PROTOCOL_ANY (1), _TCP (2), _UDP (3), _ICMP (4), _NUMBER (5)",
            ));
        }
    };
    match number {
        0 => Ok(named),
        _ => Err(Malformed::new(
            "protocol_number",
            format!("{number} was sent, but protocol is not PROTOCOL_NUMBER"),
        )),
    }
}

fn ports(value: Option<v1::rule::Ports>) -> Result<Ports> {
    match value {
        None => Ok(Ports::ALL),
        Some(v1::rule::Ports { from, to }) => {
            Ok(Ports { from: port("ports.from", from, 0)?, to: port("ports.to", to, 0)? })
        }
    }
}

fn prefix(field: &str, text: &str) -> Result<Option<Prefix>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = shown(text).parse::<Prefix>();
    parsed.map(Some).map_err(|why| Malformed::new(field, why))
}

impl From<RuleSpec> for v1::Rule {
    fn from(spec: RuleSpec) -> Self {
        let (until, lifetime) = until_fields(spec.until);
        let (protocol, protocol_number) = match spec.protocol {
            Protocol::Any => (v1::rule::Protocol::Any, 0),
            Protocol::Tcp => (v1::rule::Protocol::Tcp, 0),
            Protocol::Udp => (v1::rule::Protocol::Udp, 0),
            Protocol::Icmp => (v1::rule::Protocol::Icmp, 0),
            Protocol::Number(number) => (v1::rule::Protocol::Number, number.into()),
        };
        Self {
            id: 0,
            action: match spec.action {
                Action::Allow => v1::rule::Action::Allow,
                Action::Deny => v1::rule::Action::Deny,
            }
            .into(),
            opener: match spec.opener {
                Opener::Forward => v1::rule::Opener::Forward,
                Opener::Reverse => v1::rule::Opener::Reverse,
                Opener::Both => v1::rule::Opener::Both,
            }
            .into(),
            protocol: protocol.into(),
            protocol_number,
            ports: (spec.ports != Ports::ALL)
                .then(|| v1::rule::Ports { from: spec.ports.from.into(), to: spec.ports.to.into() }),
            source: spec.source.map(|p| p.to_string()).unwrap_or_default(),
            destination: spec.destination.map(|p| p.to_string()).unwrap_or_default(),
            until,
            lifetime,
        }
    }
}

impl From<Rule> for v1::Rule {
    fn from(rule: Rule) -> Self {
        Self { id: rule.id, ..rule.spec.into() }
    }
}

/// Rules that are in force: numbered, each number once.
pub(super) fn in_force(rules: Vec<v1::Rule>) -> Result<Vec<Rule>> {
    let rules: Vec<Rule> = list("rules", limits::RULES, rules)?;
    let mut seen = BTreeSet::new();
    match rules.iter().find(|rule| !seen.insert(rule.id)) {
        Some(twice) => Err(Malformed::new("rules", format!("two rules have the number {}", twice.id))),
        None => Ok(rules),
    }
}

impl TryFrom<v1::RuleSet> for RuleSet {
    type Error = Malformed;
    fn try_from(set: v1::RuleSet) -> Result<Self> {
        Ok(Self {
            circuit: CircuitId(set.circuit),
            version: set.version,
            rules: in_force(set.rules)?,
            revert: set.revert.map(revert).transpose().map_err(|m| m.within("revert"))?,
        })
    }
}

pub(super) fn revert(revert: v1::rule_set::Revert) -> Result<Revert> {
    Ok(Revert { at: Timestamp(revert.at), rules: in_force(revert.rules)? })
}

pub(super) fn revert_fields(revert: Revert) -> v1::rule_set::Revert {
    v1::rule_set::Revert { at: revert.at.0, rules: each(revert.rules) }
}

impl From<RuleSet> for v1::RuleSet {
    fn from(set: RuleSet) -> Self {
        let revert = set.revert.map(revert_fields);
        Self { circuit: set.circuit.0, version: set.version, rules: each(set.rules), revert }
    }
}

impl TryFrom<v1::RuleSetView> for RuleSet {
    type Error = Malformed;
    fn try_from(set: v1::RuleSetView) -> Result<Self> {
        let rules = in_force(set.rules)?;
        Ok(Self { circuit: CircuitId(set.circuit), version: set.version, rules, revert: None })
    }
}

impl From<RuleSet> for v1::RuleSetView {
    fn from(set: RuleSet) -> Self {
        Self {
            circuit: set.circuit.0,
            version: set.version,
            rules: each(set.rules),
            pending: Vec::new(),
            confirm_by: 0,
        }
    }
}

impl TryFrom<v1::UpdateFirewallRuleRequest> for RuleChange {
    type Error = Malformed;
    fn try_from(request: v1::UpdateFirewallRuleRequest) -> Result<Self> {
        let edit = required("edit", request.edit)
            .map_err(|m| Malformed::new(m.field, "is missing; allowed are add, remove and replace"))?;
        Ok(Self {
            circuit: circuit_ref("circuit", &request.circuit)?,
            expected_version: request.expected_version,
            confirm_within: confirm_within(request.confirm_within)?,
            edit: match edit {
                wire::Edit::Add(add) => added(add).map_err(|m| m.within("add"))?,
                wire::Edit::Remove(remove) => removed(remove).map_err(|m| m.within("remove"))?,
                wire::Edit::Replace(replace) => RuleEdit::Replace {
                    rules: list("rules", limits::RULES, replace.rules).map_err(|m| m.within("replace"))?,
                },
            },
        })
    }
}

fn added(add: wire::Add) -> Result<RuleEdit> {
    if add.rules.is_empty() {
        return Err(Malformed::new("rules", format!("is empty; 1 to {} are allowed", limits::RULES)));
    }
    let before = (add.before != 0).then_some(add.before);
    Ok(RuleEdit::Add { rules: list("rules", limits::RULES, add.rules)?, before })
}

fn removed(remove: wire::Remove) -> Result<RuleEdit> {
    count("ids", limits::RULES, remove.ids.len())?;
    match remove.ids.iter().position(|id| *id == 0) {
        _ if remove.ids.is_empty() => Err(Malformed::new("ids", "is empty; name at least one rule")),
        Some(at) => Err(Malformed::new(format!("ids[{at}]"), "is 0; rules have numbers from 1")),
        None => Ok(RuleEdit::Remove { ids: remove.ids }),
    }
}

impl From<RuleChange> for v1::UpdateFirewallRuleRequest {
    fn from(change: RuleChange) -> Self {
        Self {
            circuit: change.circuit.to_string(),
            expected_version: change.expected_version,
            wait: 0,
            confirm_within: change.confirm_within.map_or(0, nanos_of),
            edit: Some(match change.edit {
                RuleEdit::Add { rules, before } => {
                    wire::Edit::Add(wire::Add { rules: each(rules), before: before.unwrap_or(0) })
                }
                RuleEdit::Remove { ids } => wire::Edit::Remove(wire::Remove { ids }),
                RuleEdit::Replace { rules } => wire::Edit::Replace(wire::Replace { rules: each(rules) }),
            }),
        }
    }
}
