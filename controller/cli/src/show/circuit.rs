//! Circuits as people read them.
use super::table::{self, Tone, cell, indented, plain};
use super::{age, bounds, bytes, or_dash, rule, words};
use proto_model::circuit::{Circuit, CircuitState};
use proto_model::desired::Side;
use proto_model::report::Traffic;
use proto_model::request::{CircuitView, Left};
use proto_model::{CircuitId, FabricAddress, Timestamp};

fn tone(state: &CircuitState) -> Tone {
    match state {
        CircuitState::Active => Tone::Good,
        CircuitState::Building { .. } | CircuitState::Opening { .. } => Tone::Waiting,
        CircuitState::Suspended { .. } => Tone::Bad,
        CircuitState::Closing { .. } | CircuitState::Scheduled => Tone::Faint,
    }
}

/// Why it is not active, or what troubles it; empty when there is nothing to say.
pub fn detail(circuit: &Circuit) -> String {
    let reason = match &circuit.state {
        CircuitState::Active => String::new(),
        CircuitState::Scheduled => {
            circuit.spec.starts.map_or_else(String::new, |at| format!("starts at {at}"))
        }
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
    let detail = if circuit.detail == reason { String::new() } else { circuit.detail.clone() };
    let parts = [reason, circuit.silence.clone(), detail];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A circuit that is active and hardly carries anything shall be seen.
fn state_cell(circuit: &Circuit) -> comfy_table::Cell {
    match &circuit.state {
        CircuitState::Active if !circuit.silence.is_empty() => cell("active, silent", Tone::Bad),
        state => cell(state.name(), tone(state)),
    }
}

/// Whether a second way is there, and whether it is in use; a dash where there is no way to lose.
fn protected(circuit: &Circuit) -> (&'static str, Tone) {
    let placed = circuit.state != CircuitState::Scheduled;
    let between_hosts = placed && circuit.path.as_ref().is_some_and(|path| path.hops() > 0);
    match (&circuit.backup, circuit.on_backup.as_slice()) {
        (_, _) if !between_hosts => ("–", Tone::Faint),
        (None, _) => ("no", Tone::Waiting),
        (Some(_), _) if !circuit.backup_ready => ("not yet", Tone::Waiting),
        (Some(_), []) => ("yes", Tone::Good),
        (Some(_), [..]) => ("on backup", Tone::Waiting),
    }
}

/// `both ends by the path`, `source by the backup, destination by the path`: each end decides for what it sends.
fn sending(circuit: &Circuit) -> String {
    let way = |side| if circuit.on_backup.contains(&side) { "backup" } else { "path" };
    match (way(Side::Source), way(Side::Destination)) {
        (source, destination) if source == destination => format!("both ends by the {source}"),
        (source, destination) => format!("source by the {source}, destination by the {destination}"),
    }
}

pub fn list(circuits: &[CircuitView]) -> String {
    let row = |view: &CircuitView| {
        let circuit = &view.circuit;
        let (protected, how) = protected(circuit);
        vec![
            plain(circuit.id),
            plain(&circuit.spec.name),
            state_cell(circuit),
            plain(or_dash(circuit.path.as_ref())),
            cell(protected, how),
            plain(bounds(&circuit.spec.bounds)),
            plain(bytes(view.at_source.sent_bytes)),
            plain(bytes(view.at_source.received_bytes)),
            cell(detail(circuit), Tone::Faint),
        ]
    };
    table::of(
        &["ID", "NAME", "STATE", "PATH", "PROTECTED", "ASKED FOR", "SENT", "RECEIVED", ""],
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
        ("backup", or_dash(circuit.backup.as_ref())),
        (
            "sends",
            or_dash(
                circuit
                    .path
                    .as_ref()
                    .filter(|_| circuit.state != CircuitState::Scheduled)
                    .map(|_| sending(circuit)),
            ),
        ),
        ("protection", or_dash(Some(&circuit.protection).filter(|text| !text.is_empty()))),
        ("MTU", circuit.mtu.map_or_else(|| "–".into(), |mtu| format!("{mtu} bytes"))),
        ("asked for", bounds(&spec.bounds)),
        ("priority", spec.priority.to_string()),
    ];
    if !circuit.moved.is_empty() {
        pairs.push(("moved", circuit.moved.clone()));
    }
    if spec.bounds.encrypted {
        pairs.push(("encryption", encryption(circuit)));
    }
    if !circuit.guarantee.is_empty() {
        pairs.push(("bandwidth", circuit.guarantee.clone()));
    }
    if let Some(pinned) = &spec.pinned_path {
        pairs.push(("fixed path", words(pinned)));
    }
    pairs.push(("at source", traffic(&view.at_source)));
    pairs.push(("at destination", traffic(&view.at_destination)));
    pairs.push(("created", format!("{} ago", age(now, circuit.created))));
    if let Some(at) = spec.starts.filter(|at| *at > now) {
        pairs.push(("starts", format!("in {} ({at})", age(at, now))));
    }
    if let Some(at) = spec.expires {
        pairs.push(("ends", format!("in {} ({at})", left(at, now))));
    }
    if !view.rules_pending.is_empty() {
        pairs.push(("rules pending", format!("on {}", words(&view.rules_pending))));
    }
    format!(
        "{}rules, version {}\n{}{}{}",
        table::pairs(&pairs),
        circuit.rules_version,
        indented(&rule::list(&circuit.rules)),
        indented(&rule::unconfirmed(&"foreweave rule confirm", &spec.name, circuit.confirm_by, now)),
        set_up(circuit)
    )
}

fn left(at: Timestamp, now: Timestamp) -> String {
    if at <= now { "a moment".into() } else { age(at, now) }
}

/// Between which hosts.
fn encryption(circuit: &Circuit) -> String {
    match circuit.path.as_ref().map(|path| path.nodes.as_slice()) {
        Some([first, .., last]) => format!("end to end, between {first} and {last}"),
        Some([only]) => format!("not needed: both ends are on {only}"),
        Some([]) | None => "–".into(),
    }
}

/// What is to be typed where there is no agent.
fn set_up(circuit: &Circuit) -> String {
    if circuit.external.is_empty() {
        return String::new();
    }
    let commands: String = circuit.external.iter().map(|command| format!("{command}\n")).collect();
    format!("on the host of the plain VXLAN device, as root\n{}", indented(&commands))
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
pub fn gone(id: CircuitId, left: &Left) -> String {
    let late: Vec<_> = left.pending.iter().filter(|node| !left.absent.contains(node)).collect();
    let late = (!late.is_empty()).then(|| format!(", not reported yet by {}", words(&late)));
    let absent = (!left.absent.is_empty())
        .then(|| format!(", pending on {} until its agent is back", words(&left.absent)));
    format!("circuit {id} is gone{}{}", late.unwrap_or_default(), absent.unwrap_or_default())
}

/// One line for watchers.
pub fn line(view: &CircuitView) -> String {
    let circuit = &view.circuit;
    let path = or_dash(circuit.path.as_ref());
    let text = format!("circuit {} {} is {}  {path}", circuit.id, circuit.spec.name, circuit.state.name());
    joined([text, second_way(circuit), detail(circuit)])
}

/// Empty when it is there and not in use.
fn second_way(circuit: &Circuit) -> String {
    let why = circuit.protection.clone();
    match &circuit.backup {
        Some(backup) if !circuit.on_backup.is_empty() => {
            joined([format!("sends: {}", sending(circuit)), backup.to_string(), why])
        }
        None if circuit.path.as_ref().is_some_and(|path| path.hops() > 0) && !why.is_empty() => {
            format!("no backup: {why}")
        }
        Some(_) | None => String::new(),
    }
}

fn joined<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// Lines for watchers who saw the circuit before: that its ends turned, with the reason; and the circuit itself, unless
/// that is all that changed.
pub fn changes(before: &Circuit, view: &CircuitView) -> String {
    let circuit = &view.circuit;
    let turned = before.on_backup != circuit.on_backup && before.path == circuit.path;
    let Circuit { on_backup, protection, .. } = circuit.clone();
    let only_turned = turned && Circuit { on_backup, protection, ..before.clone() } == *circuit;
    let turn = turned.then(|| turn(circuit));
    let line = (!only_turned).then(|| line(view));
    turn.into_iter().chain(line).collect::<Vec<_>>().join("\n")
}

/// `circuit c1 web-db sends: source by the backup, destination by the path  a → y → b  why`.
fn turn(circuit: &Circuit) -> String {
    let way = if circuit.on_backup.is_empty() { &circuit.path } else { &circuit.backup };
    let text = format!("circuit {} {} sends: {}", circuit.id, circuit.spec.name, sending(circuit));
    joined([text, or_dash(way.as_ref()), circuit.protection.clone()])
}

/// What to do next with a circuit that was just made.
pub fn next(view: &CircuitView, ends: Ends) -> String {
    let circuit = &view.circuit;
    let name = &circuit.spec.name;
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
    let warning = match circuit.silence.as_str() {
        "" => String::new(),
        silence => format!("warning: hardly anything will arrive: {silence}\n"),
    };
    format!("\n{warning}{rules}{} reaches {} at {to}\n{}", spec.source, spec.destination, indented(&commands))
}
