//! Circuits as people read them.
use super::table::{self, Tone, cell, indented, plain};
use super::{age, bounds, bytes, or_dash, rule, words};
use proto_model::circuit::{Circuit, CircuitState};
use proto_model::report::Traffic;
use proto_model::request::CircuitView;
use proto_model::{FabricAddress, Timestamp};

fn tone(state: &CircuitState) -> Tone {
    match state {
        CircuitState::Active => Tone::Good,
        CircuitState::Building { .. } | CircuitState::Opening { .. } => Tone::Waiting,
        CircuitState::Suspended { .. } => Tone::Bad,
        CircuitState::Closing { .. } => Tone::Faint,
    }
}

/// Why it is not active, or what troubles it; empty when there is nothing to say.
pub fn detail(circuit: &Circuit) -> String {
    let reason = match &circuit.state {
        CircuitState::Active => String::new(),
        CircuitState::Suspended { why } => why.clone(),
        CircuitState::Building { waiting }
        | CircuitState::Opening { waiting }
        | CircuitState::Closing { waiting } => {
            if waiting.is_empty() {
                String::new()
            } else {
                format!("waiting for {}", words(waiting))
            }
        }
    };
    match circuit.detail.as_str() {
        "" => reason,
        same if same == reason => reason,
        detail if reason.is_empty() => detail.to_owned(),
        detail => format!("{reason}; {detail}"),
    }
}

pub fn list(circuits: &[CircuitView]) -> String {
    let row = |view: &CircuitView| {
        let circuit = &view.circuit;
        vec![
            plain(circuit.id),
            plain(&circuit.spec.name),
            cell(circuit.state.name(), tone(&circuit.state)),
            plain(or_dash(circuit.path.as_ref())),
            plain(bounds(&circuit.spec.bounds)),
            plain(bytes(view.at_source.sent_bytes)),
            plain(bytes(view.at_source.received_bytes)),
            cell(detail(circuit), Tone::Faint),
        ]
    };
    table::of(
        &["ID", "NAME", "STATE", "PATH", "ASKED FOR", "SENT", "RECEIVED", ""],
        circuits.iter().map(row),
        "no circuits; foreweave circuit create SRC DST makes one\n",
    )
}

/// The ends' fabric addresses, where they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    pub source: Option<FabricAddress>,
    pub destination: Option<FabricAddress>,
}

pub fn one(view: &CircuitView, ends: Ends, now: Timestamp) -> String {
    let circuit = &view.circuit;
    let spec = &circuit.spec;
    let end = |name: &dyn std::fmt::Display, address: Option<FabricAddress>| match address {
        Some(address) => format!("{name}  {address}"),
        None => name.to_string(),
    };
    let mut pairs = vec![
        ("circuit", format!("{} {}", circuit.id, spec.name)),
        ("state", state(circuit, now)),
        ("source", end(&spec.source, ends.source)),
        ("destination", end(&spec.destination, ends.destination)),
        ("path", or_dash(circuit.path.as_ref())),
        ("MTU", circuit.mtu.map_or_else(|| "–".into(), |mtu| format!("{mtu} bytes"))),
        ("asked for", bounds(&spec.bounds)),
        ("priority", spec.priority.to_string()),
    ];
    if let Some(pinned) = &spec.pinned_path {
        pairs.push(("fixed path", words(pinned)));
    }
    pairs.push(("at source", traffic(&view.at_source)));
    pairs.push(("at destination", traffic(&view.at_destination)));
    pairs.push(("created", format!("{} ago", age(now, circuit.created))));
    if !view.rules_pending.is_empty() {
        pairs.push(("rules pending", format!("on {}", words(&view.rules_pending))));
    }
    format!(
        "{}rules, version {}\n{}",
        table::pairs(&pairs),
        circuit.rules_version,
        indented(&rule::list(&circuit.rules))
    )
}

fn state(circuit: &Circuit, now: Timestamp) -> String {
    let since = age(now, circuit.since);
    match detail(circuit) {
        none if none.is_empty() => format!("{} for {since}", circuit.state.name()),
        detail => format!("{} for {since}: {detail}", circuit.state.name()),
    }
}

fn traffic(traffic: &Traffic) -> String {
    format!(
        "sent {} ({} packets), received {} ({} packets)",
        bytes(traffic.sent_bytes),
        traffic.sent_packets,
        bytes(traffic.received_bytes),
        traffic.received_packets
    )
}

/// One line for watchers.
pub fn line(view: &CircuitView) -> String {
    let circuit = &view.circuit;
    let path = or_dash(circuit.path.as_ref());
    let text = format!("circuit {} {} is {}  {path}", circuit.id, circuit.spec.name, circuit.state.name());
    match detail(circuit) {
        none if none.is_empty() => text,
        detail => format!("{text}  {detail}"),
    }
}

/// What to do next with a circuit that was just made.
pub fn next(view: &CircuitView, ends: Ends) -> String {
    let name = &view.circuit.spec.name;
    let to = ends.destination.map_or_else(|| "its address".into(), |address| address.v4.to_string());
    let rules = if view.circuit.rules.is_empty() {
        format!("it has no rules, so nothing passes yet: foreweave rule add {name} \"allow tcp/443\"\n")
    } else {
        String::new()
    };
    let commands = table::pairs(&[
        (&format!("foreweave explain {name}"), "why this path".into()),
        (&format!("foreweave rule list {name}"), "what may pass".into()),
        (&format!("foreweave drops -f --circuit {name}"), "what does not".into()),
    ]);
    let spec = &view.circuit.spec;
    format!("\n{rules}{} reaches {} at {to}\n{}", spec.source, spec.destination, indented(&commands))
}
