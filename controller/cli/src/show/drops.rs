//! Dropped packets as people read them.
use super::policy::rule_number;
use super::table::{self, plain};
use super::{bytes, or_dash, words};
use proto_model::report::{DropCount, DropEvent};
use proto_model::request::DropsView;
use proto_model::{CircuitId, CircuitName, NodeName, Timestamp};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Circuits and the texts of their rules, as they are in force now.
pub type Circuits = BTreeMap<CircuitId, Known>;

#[derive(Clone, Debug)]
pub struct Known {
    pub name: CircuitName,
    /// By number.
    pub rules: BTreeMap<u32, String>,
}

/// By its name, or by its number when it is gone.
fn circuit(id: CircuitId, circuits: &Circuits) -> String {
    circuits.get(&id).map_or_else(|| id.to_string(), |known| known.name.to_string())
}

pub fn counts(view: &DropsView, circuits: &Circuits) -> String {
    let row = |(node, drop): &(NodeName, DropCount)| {
        vec![
            plain(node),
            plain(or_dash(drop.circuit.map(|id| circuit(id, circuits)))),
            plain(&drop.reason),
            plain(with_text(node, drop.circuit, &drop.reason, drop.rule, circuits)),
            plain(drop.packets),
            plain(bytes(drop.bytes)),
        ]
    };
    let unknown = unknown(view);
    let none = if unknown.is_empty() { "nothing was dropped\n" } else { "no drops are known\n" };
    let columns = ["NODE", "CIRCUIT", "REASON", "RULE", "PACKETS", "BYTES"];
    format!("{}{unknown}", table::of(&columns, view.drops.iter().map(row), none))
}

/// Hosts of which more may be to say than is known.
fn unknown(view: &DropsView) -> String {
    let line = |hosts: &[NodeName], why: &str| match hosts {
        [] => String::new(),
        some => format!("{}: {why}\n", words(some)),
    };
    let unheard = line(&view.unheard, "has not reported yet; ask again in a few seconds");
    let absent =
        line(&view.absent, "not connected: what was dropped there since it last reported is not known");
    format!("{unheard}{absent}")
}

/// Only the firewall has rules; its rule 0 is the default deny.
fn rule(node: &NodeName, reason: &str, rule: u32) -> String {
    match (reason, rule) {
        ("denied_by_rule", 0) => "0 (default deny)".into(),
        (_, 0) => "–".into(),
        (_, id) => rule_number(node, id),
    }
}

/// `3: deny tcp/22`.
fn with_text(
    node: &NodeName,
    circuit: Option<CircuitId>,
    reason: &str,
    id: u32,
    circuits: &Circuits,
) -> String {
    match circuit.and_then(|circuit| circuits.get(&circuit)?.rules.get(&id)) {
        Some(text) if id != 0 => format!("{id}: {text}"),
        Some(_) | None => rule(node, reason, id),
    }
}

/// `12:34:56.789 edge-a web-db denied_by_rule rule 0 (default deny)  100.64.0.1:40000 → 100.64.0.2:22 tcp  fw… 74 B`.
pub fn line(node: &NodeName, drop: &DropEvent, circuits: &Circuits) -> String {
    let name = drop.circuit.map_or_else(|| "no circuit".into(), |id| circuit(id, circuits));
    let rule = match with_text(node, drop.circuit, &drop.reason, drop.rule, circuits) {
        none if none == "–" => String::new(),
        rule => format!(" rule {rule}"),
    };
    let label = drop.label.map(|label| format!(" label {label}")).unwrap_or_default();
    // Of a rule's verdict, the rule says it all.
    let text = if rule.is_empty() { format!("  {}", drop.text) } else { String::new() };
    format!(
        "{} {node} {name} {}{rule}  {}  on {}{label}, {} bytes{text}",
        clock(drop.at),
        drop.reason,
        packet(drop),
        drop.interface,
        drop.length,
    )
}

fn packet(drop: &DropEvent) -> String {
    let (Some(source), Some(destination)) = (drop.source, drop.destination) else {
        return "unreadable packet".into();
    };
    match drop.protocol {
        6 | 17 => format!(
            "{} → {} {}",
            SocketAddr::new(source, drop.source_port),
            SocketAddr::new(destination, drop.destination_port),
            if drop.protocol == 6 { "tcp" } else { "udp" }
        ),
        1 | 58 => {
            let message = message(drop.protocol, drop.destination_port);
            format!("{source} → {destination} icmp {message}")
        }
        0 => between(source, destination),
        other => format!("{} protocol {other}", between(source, destination)),
    }
}

/// Type and code of ICMP, which stand where others have a port (RFC 792, RFC 4443).
pub(super) fn message(protocol: u8, both: u16) -> String {
    let [kind, code] = both.to_be_bytes();
    match (protocol, kind, code) {
        (1, 8, 0) | (58, 128, 0) => "echo request".into(),
        (1, 0, 0) | (58, 129, 0) => "echo reply".into(),
        _ => format!("type {kind} code {code}"),
    }
}

pub(super) fn between(source: IpAddr, destination: IpAddr) -> String {
    format!("{source} → {destination}")
}

/// Time of day in UTC, to the millisecond.
pub(super) fn clock(at: Timestamp) -> String {
    let millis = at.0 / 1_000_000 % 86_400_000;
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", millis % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_is_named_and_one_that_is_gone_is_numbered() {
        let drop = |circuit| DropCount {
            reason: "denied_by_rule".into(),
            circuit: Some(CircuitId(circuit)),
            rule: 3,
            packets: 1,
            bytes: 60,
        };
        let node = NodeName("edge-a".parse().expect("a name"));
        let drops = [7, 8].map(|circuit| (node.clone(), drop(circuit))).to_vec();
        let known = Known {
            name: CircuitName("web-db".parse().expect("a name")),
            rules: [(3, "deny tcp/22".to_owned())].into(),
        };
        let shown = counts(&DropsView { drops, ..DropsView::default() }, &[(CircuitId(7), known)].into());
        let row = |name: &str| shown.lines().find(|line| line.contains(name)).map(str::to_owned);
        assert!(row("web-db").is_some_and(|row| row.contains("3: deny tcp/22")), "{shown}");
        assert!(row("c8").is_some_and(|row| !row.contains("deny")), "{shown}");
    }

    #[test]
    fn hosts_that_have_not_told_their_drops_are_named() {
        let node = |text: &str| NodeName(text.parse().expect("a name"));
        assert_eq!(counts(&DropsView::default(), &Circuits::new()), "nothing was dropped\n");
        let (unheard, absent) = (vec![node("edge-a")], vec![node("edge-b")]);
        let shown = counts(&DropsView { unheard, absent, ..DropsView::default() }, &Circuits::new());
        assert!(!shown.contains("nothing was dropped"), "{shown}");
        assert!(shown.contains("edge-a: has not reported yet"), "{shown}");
        assert!(shown.contains("edge-b: not connected"), "{shown}");
    }
}
