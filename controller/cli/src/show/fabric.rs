//! Status and nodes as people read them.
use super::table::{self, Tone, cell, plain};
use super::{age, words};
use proto_model::Timestamp;
use proto_model::report::Failure;
use proto_model::request::{NodeView, StatusView};
use proto_model::topology::{NodeState, Underlay};

pub fn status(status: &StatusView, region: &str, now: Timestamp) -> String {
    table::pairs(&[
        ("region", region.to_owned()),
        ("controller", format!("version {}, up for {}", status.version, age(now, status.started))),
        ("nodes", format!("{} of {} connected", status.nodes_connected, status.nodes)),
        ("resources", status.resources.to_string()),
        ("circuits", circuits(status)),
    ])
}

fn circuits(status: &StatusView) -> String {
    let active = format!("{} of {} active", status.circuits_active, status.circuits);
    match status.circuits_silent {
        0 => active,
        silent => {
            format!("{active}, {silent} silent: their links answer no probe, see foreweave circuit list")
        }
    }
}

fn state(state: NodeState) -> (&'static str, Tone) {
    match state {
        NodeState::Expected => ("expected", Tone::Waiting),
        NodeState::Connected => ("connected", Tone::Good),
        NodeState::Lost => ("lost", Tone::Bad),
    }
}

pub fn nodes(nodes: &[NodeView], now: Timestamp) -> String {
    let row = |node: &NodeView| {
        let (word, tone) = state(node.state);
        let behind = if node.seen.is_none() {
            plain("–")
        } else if node.reported == node.desired {
            cell("in force", Tone::Good)
        } else {
            cell("behind", Tone::Waiting)
        };
        let seen = node.seen.map_or_else(|| "never".into(), |seen| format!("{} ago", age(now, seen)));
        vec![
            plain(&node.name),
            cell(word, tone),
            plain(seen),
            behind,
            plain(&node.version),
            plain(&node.kernel),
        ]
    };
    let table = table::of(
        &["NAME", "STATE", "SEEN", "DESIRED STATE", "AGENT", "KERNEL"],
        nodes.iter().map(row),
        "no nodes; foreweave node add NAME makes a token for one\n",
    );
    let failures: String = nodes.iter().map(failures).collect();
    let parts = [table, interfaces(nodes), keys(nodes), policies(nodes), failures];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// By which the others know it, as `wg` writes them.
fn keys(nodes: &[NodeView]) -> String {
    let row = |node: &NodeView| {
        let key = |at: usize| plain(node.seal_keys.get(at).map_or_else(|| "–".into(), ToString::to_string));
        vec![plain(&node.name), key(0), key(1)]
    };
    let with_keys = nodes.iter().filter(|node| !node.seal_keys.is_empty());
    if nodes.iter().all(|node| node.seal_keys.is_empty()) {
        return String::new();
    }
    table::of(&["NAME", "ENCRYPTION KEY", "ACCEPTED TOO"], with_keys.map(row), "")
}

/// Of nodes that have one.
fn policies(nodes: &[NodeView]) -> String {
    let line = |node: &NodeView| {
        let pending = if node.policy_pending { ", pending" } else { "" };
        let NodeView { name, policy_rules, .. } = node;
        format!("{name}: policy of {policy_rules} rules{pending}: foreweave node policy show {name}\n")
    };
    nodes.iter().filter(|node| node.policy_rules > 0 || node.policy_pending).map(line).collect()
}

/// What carries tunnels, and how transit packets are handled there.
fn interfaces(nodes: &[NodeView]) -> String {
    let row = |(node, underlay): (&NodeView, &Underlay)| {
        let marked = format!("{}: ", underlay.interface);
        let how = node.datapath.iter().find_map(|text| text.strip_prefix(&marked));
        vec![
            plain(&node.name),
            plain(&underlay.interface),
            plain(&underlay.network),
            plain(words(&underlay.addresses)),
            plain(underlay.mtu),
            plain(how.unwrap_or("–")),
        ]
    };
    let rows = nodes.iter().flat_map(|node| node.underlays.iter().map(move |underlay| (node, underlay)));
    table::of(&["NAME", "INTERFACE", "NETWORK", "ADDRESSES", "MTU", "TRANSIT"], rows.map(row), "")
}

/// What a node could not bring about.
fn failures(node: &NodeView) -> String {
    let line = |failure: &Failure| format!("{}: failed: {}: {}\n", node.name, failure.key, failure.why);
    node.failures.iter().map(line).collect()
}

/// One line for watchers.
pub fn node_line(node: &NodeView) -> String {
    let (word, _) = state(node.state);
    let behind = if node.reported == node.desired { "as desired" } else { "not yet as desired" };
    let text = format!("node {} is {word}, {behind}", node.name);
    match node.failures.first() {
        None => text,
        Some(first) => format!("{text}, {} failed: {}: {}", node.failures.len(), first.key, first.why),
    }
}
