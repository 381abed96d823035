//! What would become of a packet, host by host.
use super::policy::rule_number;
use super::table::{Tone, cell, plain};
use super::{or_dash, table};
use proto_model::query::{Connection, Fate};
use proto_model::trail::{Trail, TrailHop};

/// A table of the hosts, then the end of it and the advice.
pub fn trail(trail: &Trail) -> String {
    let circuit = match &trail.circuit {
        Some((id, name)) => format!("circuit {name} ({id})"),
        None => "no circuit".into(),
    };
    let hops = if trail.hops.is_empty() {
        String::new()
    } else {
        let columns = ["NODE", "PROGRAM", "IN", "LABEL", "VERDICT", "OUT", "LABEL", "RULE", "CONNECTION"];
        table::of(&columns, trail.hops.iter().map(row), "")
    };
    let notes: String = trail
        .hops
        .iter()
        .filter(|hop| !hop.note.is_empty())
        .map(|hop| format!("{}: {}\n", hop.node, hop.note))
        .collect();
    let advice = if trail.advice.is_empty() { String::new() } else { format!("{}\n", trail.advice) };
    format!("{}, {circuit}\n{hops}{notes}{}\n{advice}", trail.packet, trail.sentence)
}

fn row(hop: &TrailHop) -> Vec<comfy_table::Cell> {
    let ran = &hop.ran;
    let (verdict, tone, out, label) = match &ran.fate {
        Fate::Sent(sent) => {
            let next = hop.next.as_ref().map_or_else(|| sent.remote.to_string(), ToString::to_string);
            (format!("sent to {next}"), Tone::Plain, sent.interface.clone(), Some(sent.label))
        }
        Fate::Delivered { interface } => ("delivered".into(), Tone::Good, interface.clone(), None),
        Fate::Dropped { reason, .. } => (reason.clone(), Tone::Bad, "–".into(), None),
        Fate::NotOurs => ("left to the kernel".into(), Tone::Waiting, "–".into(), None),
    };
    vec![
        plain(&hop.node),
        plain(&ran.program),
        plain(&ran.interface),
        plain(or_dash(ran.label)),
        cell(verdict, tone),
        plain(out),
        plain(or_dash(label)),
        plain(rule(hop)),
        plain(connection(ran.connection)),
    ]
}

/// Its number and text; at a default deny that, and nothing where no rule was asked.
fn rule(hop: &TrailHop) -> String {
    match (&hop.ran.fate, hop.ran.rule) {
        (Fate::Dropped { reason, .. }, 0) if reason == "denied_by_rule" => "0 (default deny)".into(),
        (_, 0) => "–".into(),
        (_, id) if hop.rule.is_empty() => rule_number(&hop.node, id),
        (_, id) => format!("{}: {}", rule_number(&hop.node, id), hop.rule),
    }
}

fn connection(connection: Connection) -> &'static str {
    match connection {
        Connection::None => "–",
        Connection::WouldOpen => "would open",
        Connection::Opening => "opening",
        Connection::Established => "established",
        Connection::Closing => "closing",
    }
}
