//! Policies of hosts as people read them.
use super::rule;
use proto_model::request::PolicyView;
use proto_model::{NodeName, Timestamp, policy};

pub fn one(view: &PolicyView, now: Timestamp) -> String {
    let PolicyView { node, version, rules, pending, confirm_by } = view;
    let head = if *pending { format!("version {version}, pending") } else { format!("version {version}") };
    let list = match rules.as_slice() {
        [] => "no rules: the circuits' own rules decide\n".to_owned(),
        rules => {
            format!("{}what no rule denies is decided by the circuits' own rules\n", rule::list(rules))
        }
    };
    let unconfirmed = rule::unconfirmed(&"foreweave node policy confirm", node, *confirm_by, now);
    format!("policy of {node}, {head}\n{list}{unconfirmed}")
}

/// A counted rule as people call it: `3`, or `3 of the policy of edge-b`.
pub fn rule_number(node: &NodeName, counted: u32) -> String {
    match policy::rule_of_policy(counted) {
        Some(number) => format!("{number} of the policy of {node}"),
        None => counted.to_string(),
    }
}

/// Of a circuit: whose rules are tried before its own.
pub fn before(policies: &[(NodeName, u32)]) -> String {
    let line = |(node, rules): &(NodeName, u32)| {
        format!("before them at {node}: its policy, {rules} rules (foreweave node policy show {node})\n")
    };
    policies.iter().map(line).collect()
}
