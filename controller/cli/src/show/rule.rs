//! Rules as people read them.
use super::table::{self, Tone, cell, plain};
use super::words;
use proto_model::Timestamp;
use proto_model::rule::{Action, Rule};
use std::fmt::Display;

pub fn list(rules: &[Rule]) -> String {
    let row = |rule: &Rule| {
        let tone = match rule.spec.action {
            Action::Allow => Tone::Good,
            Action::Deny => Tone::Bad,
        };
        vec![plain(rule.id), cell(&rule.spec, tone)]
    };
    table::of(&["ID", "RULE"], rules.iter().map(row), "no rules: nothing passes (rule 0, the default deny)\n")
}

/// What happens to a change that waits for its confirmation, with the seconds that are left; empty: none waits.
pub fn unconfirmed(
    confirm: &dyn Display,
    what: &dyn Display,
    confirm_by: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let Some(at) = confirm_by else { return String::new() };
    let left = at.since(now).as_secs();
    format!("taken back in {left} s ({at}) unless confirmed: {confirm} {what}\n")
}

/// With the version and what happens to the rest.
pub fn set(circuit: &str, version: u32, rules: &[Rule], pending: &[String]) -> String {
    let rest = if rules.is_empty() { "" } else { "what no rule allows is denied (rule 0)\n" };
    let pending =
        if pending.is_empty() { String::new() } else { format!("pending on: {}\n", words(pending)) };
    format!("{circuit}, rules version {version}\n{}{rest}{pending}", list(rules))
}
