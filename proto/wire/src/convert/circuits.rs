//! Circuits: what is asked for, and what is shown of them.
use super::fields::{
    byte, clipped, each, list, name, name_if_any, names, needed, optional, sentence, shown, strings, unknown,
};
use super::resources::bounds;
use super::units::{ending, mtu, start, until, until_fields};
use super::{Malformed, Result, limits, rules};
use crate::v1;
use proto_model::circuit::{Circuit, CircuitSpec, CircuitState, Path};
use proto_model::desired::Side;
use proto_model::report::Traffic;
use proto_model::request::{CircuitRef, CircuitRequest, CircuitView, Left};
use proto_model::topology::LinkId;
use proto_model::{CircuitId, CircuitName, NodeName, Timestamp};

/// `c42` is a number, anything else a name.
pub fn circuit_ref(field: &str, text: &str) -> Result<CircuitRef> {
    let reference = text.parse::<CircuitRef>();
    reference.map_err(|fault| Malformed::new(field, format!("{fault}; a number is written like c42")))
}

impl TryFrom<v1::CircuitSpec> for CircuitRequest {
    type Error = Malformed;
    fn try_from(spec: v1::CircuitSpec) -> Result<Self> {
        let circuit = Self {
            name: circuit_name(&spec.name)?,
            source: name("source", &spec.source)?,
            destination: name("destination", &spec.destination)?,
            bounds: bounds("bounds", spec.bounds)?,
            priority: byte("priority", spec.priority)?,
            pinned_path: pinned(&spec.path)?,
            rules: list("rules", limits::RULES, spec.rules)?,
            until: until("expires", spec.expires, spec.lifetime)?,
            starts: start(spec.starts, spec.delay)?,
        };
        if circuit.source == circuit.destination {
            let what = format!("{} is the source too; a circuit has two ends", circuit.destination);
            return Err(Malformed::new("destination", what));
        }
        Ok(circuit)
    }
}

/// A name that reads as a number could never be asked for by name.
fn circuit_name(text: &str) -> Result<Option<CircuitName>> {
    let name = name_if_any("name", text)?;
    match (&name, text.parse()) {
        (Some(_), Ok(CircuitRef::Id(id))) => Err(Malformed::new(
            "name",
            format!("\"{}\" reads as the number {id}; choose another name", shown(text)),
        )),
        _ => Ok(name),
    }
}

fn pinned(path: &[String]) -> Result<Option<Vec<NodeName>>> {
    let path: Vec<NodeName> = names("path", usize::from(limits::HOPS) + 1, path)?;
    for (i, node) in path.iter().enumerate() {
        if path[..i].contains(node) {
            return Err(Malformed::new(
                format!("path[{i}]"),
                format!("{node} is crossed twice; a path has no loop"),
            ));
        }
    }
    Ok((!path.is_empty()).then_some(path))
}

impl From<CircuitRequest> for v1::CircuitSpec {
    fn from(circuit: CircuitRequest) -> Self {
        let (expires, lifetime) = until_fields(circuit.until);
        let (starts, delay) = until_fields(circuit.starts);
        Self {
            name: circuit.name.map(|name| name.to_string()).unwrap_or_default(),
            source: circuit.source.to_string(),
            destination: circuit.destination.to_string(),
            bounds: Some(circuit.bounds.into()),
            priority: circuit.priority.into(),
            path: strings(circuit.pinned_path.unwrap_or_default()),
            rules: each(circuit.rules),
            expires,
            lifetime,
            starts,
            delay,
        }
    }
}

/// Of what is shown: a time, never a span.
fn begun(at: u64, after: u64) -> Result<Option<Timestamp>> {
    match after {
        0 => Ok((at != 0).then_some(Timestamp(at))),
        _ => Err(Malformed::new("delay", "is set; what was accepted has a time instead")),
    }
}

/// As shown: with its name, and without the rules, which have their own place.
impl TryFrom<v1::CircuitSpec> for CircuitSpec {
    type Error = Malformed;
    fn try_from(spec: v1::CircuitSpec) -> Result<Self> {
        Ok(Self {
            name: name("name", &spec.name)?,
            source: name("source", &spec.source)?,
            destination: name("destination", &spec.destination)?,
            bounds: bounds("bounds", spec.bounds)?,
            priority: byte("priority", spec.priority)?,
            pinned_path: pinned(&spec.path)?,
            expires: ending(spec.expires, spec.lifetime)?,
            starts: begun(spec.starts, spec.delay)?,
        })
    }
}

impl From<CircuitSpec> for v1::CircuitSpec {
    fn from(spec: CircuitSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            source: spec.source.to_string(),
            destination: spec.destination.to_string(),
            bounds: Some(spec.bounds.into()),
            priority: spec.priority.into(),
            path: strings(spec.pinned_path.unwrap_or_default()),
            rules: Vec::new(),
            expires: spec.expires.map_or(0, |at| at.0),
            lifetime: 0,
            starts: spec.starts.map_or(0, |at| at.0),
            delay: 0,
        }
    }
}

impl TryFrom<v1::LinkId> for LinkId {
    type Error = Malformed;
    fn try_from(id: v1::LinkId) -> Result<Self> {
        let both =
            |end: &NodeName| Malformed::new("b", format!("both ends are {end}; a link joins two hosts"));
        let one: NodeName = name("a", &id.a)?;
        let fault = both(&one);
        Self::new(one, name("b", &id.b)?, name("network", &id.network)?).ok_or(fault)
    }
}

impl From<LinkId> for v1::LinkId {
    fn from(id: LinkId) -> Self {
        let (a, b) = id.ends();
        Self { a: a.to_string(), b: b.to_string(), network: id.network().to_string() }
    }
}

impl TryFrom<v1::Path> for Path {
    type Error = Malformed;
    fn try_from(path: v1::Path) -> Result<Self> {
        let nodes: Vec<NodeName> = names("nodes", usize::from(limits::HOPS) + 1, &path.nodes)?;
        if nodes.len() != path.links.len() + 1 {
            let what = format!("{} links between {} hosts", path.links.len(), nodes.len());
            return Err(Malformed::new("links", format!("{what}; a path has one link fewer than hosts")));
        }
        Ok(Self { nodes, links: list("links", limits::HOPS.into(), path.links)? })
    }
}

impl From<Path> for v1::Path {
    fn from(path: Path) -> Self {
        Self { nodes: strings(path.nodes), links: each(path.links) }
    }
}

impl From<v1::Traffic> for Traffic {
    fn from(traffic: v1::Traffic) -> Self {
        let v1::Traffic { sent_packets, sent_bytes, received_packets, received_bytes } = traffic;
        Self { sent_packets, sent_bytes, received_packets, received_bytes }
    }
}

impl From<Traffic> for v1::Traffic {
    fn from(traffic: Traffic) -> Self {
        let Traffic { sent_packets, sent_bytes, received_packets, received_bytes } = traffic;
        Self { sent_packets, sent_bytes, received_packets, received_bytes }
    }
}

impl TryFrom<v1::Circuit> for CircuitView {
    type Error = Malformed;
    fn try_from(view: v1::Circuit) -> Result<Self> {
        let (state, detail) = state(view.state, &view.waiting, view.detail)?;
        Ok(Self {
            circuit: Circuit {
                id: CircuitId(view.id),
                spec: needed("spec", view.spec)?,
                state,
                detail,
                path: optional("path", view.path)?,
                backup: optional("backup", view.backup)?,
                backup_ready: view.backup_ready,
                on_backup: sides(&view.on_backup)?,
                protection: sentence("protection", view.protection)?,
                external: commands(view.external)?,
                guarantee: sentence("guarantee", view.guarantee)?,
                silence: sentence("silence", view.silence)?,
                moved: sentence("moved", view.moved)?,
                mtu: if view.mtu == 0 { None } else { Some(mtu("mtu", view.mtu, 1)?) },
                rules: rules::in_force(view.rules)?,
                rules_version: view.rules_version,
                confirm_by: (view.confirm_by != 0).then_some(Timestamp(view.confirm_by)),
                created: Timestamp(view.created),
                since: Timestamp(view.since),
            },
            rules_pending: names("rules_pending", limits::OBJECTS, &view.rules_pending)?,
            at_source: view.at_source.unwrap_or_default().into(),
            at_destination: view.at_destination.unwrap_or_default().into(),
        })
    }
}

fn commands(lines: Vec<String>) -> Result<Vec<String>> {
    super::fields::count("external", limits::COMMANDS, lines.len())?;
    lines.into_iter().map(|line| sentence("external", line)).collect()
}

fn sides(values: &[i32]) -> Result<Vec<Side>> {
    super::fields::count("on_backup", 2, values.len())?;
    values.iter().map(|value| super::desired::side("on_backup", *value)).collect()
}

/// The detail of a suspended circuit is why it is suspended.
fn state(value: i32, waiting: &[String], detail: String) -> Result<(CircuitState, String)> {
    use v1::circuit::State as Wire;
    let waiting = || names("waiting", limits::OBJECTS, waiting);
    let detail = sentence("detail", detail)?;
    let state = match Wire::try_from(value) {
        Ok(Wire::Building) => CircuitState::Building { waiting: waiting()? },
        Ok(Wire::Opening) => CircuitState::Opening { waiting: waiting()? },
        Ok(Wire::Active) => CircuitState::Active,
        Ok(Wire::Suspended) => return Ok((CircuitState::Suspended { why: detail }, String::new())),
        Ok(Wire::Closing) => CircuitState::Closing { waiting: waiting()? },
        Ok(Wire::Scheduled) => CircuitState::Scheduled,
        Ok(Wire::Unspecified) | Err(_) => {
            let allowed =
                "STATE_BUILDING (1), _OPENING (2), _ACTIVE (3), _SUSPENDED (4), _CLOSING (5), _SCHEDULED (6)";
            return Err(unknown("state", value, allowed));
        }
    };
    Ok((state, detail))
}

impl From<Left> for v1::DeleteCircuitResponse {
    fn from(left: Left) -> Self {
        Self { pending: strings(left.pending), absent: strings(left.absent) }
    }
}

impl TryFrom<v1::DeleteCircuitResponse> for Left {
    type Error = Malformed;
    fn try_from(left: v1::DeleteCircuitResponse) -> Result<Self> {
        Ok(Self {
            pending: names("pending", limits::OBJECTS, &left.pending)?,
            absent: names("absent", limits::OBJECTS, &left.absent)?,
        })
    }
}

impl From<CircuitView> for v1::Circuit {
    fn from(view: CircuitView) -> Self {
        let circuit = view.circuit;
        let (state, waiting, detail) = shown_state(circuit.state, circuit.detail);
        Self {
            id: circuit.id.0,
            spec: Some(circuit.spec.into()),
            state: state.into(),
            detail: clipped(detail),
            waiting: strings(waiting),
            path: circuit.path.map(v1::Path::from),
            backup: circuit.backup.map(v1::Path::from),
            backup_ready: circuit.backup_ready,
            on_backup: circuit.on_backup.into_iter().map(super::desired::side_value).collect(),
            protection: clipped(circuit.protection),
            external: circuit.external.into_iter().map(clipped).collect(),
            guarantee: clipped(circuit.guarantee),
            silence: clipped(circuit.silence),
            moved: clipped(circuit.moved),
            mtu: circuit.mtu.unwrap_or(0).into(),
            rules: each(circuit.rules),
            rules_version: circuit.rules_version,
            confirm_by: circuit.confirm_by.map_or(0, |at| at.0),
            created: circuit.created.0,
            since: circuit.since.0,
            at_source: Some(view.at_source.into()),
            at_destination: Some(view.at_destination.into()),
            rules_pending: strings(view.rules_pending),
        }
    }
}

fn shown_state(state: CircuitState, detail: String) -> (v1::circuit::State, Vec<NodeName>, String) {
    use v1::circuit::State as Wire;
    match state {
        CircuitState::Building { waiting } => (Wire::Building, waiting, detail),
        CircuitState::Opening { waiting } => (Wire::Opening, waiting, detail),
        CircuitState::Active => (Wire::Active, Vec::new(), detail),
        CircuitState::Suspended { why } if detail.is_empty() || why.contains(&detail) => {
            (Wire::Suspended, Vec::new(), why)
        }
        CircuitState::Suspended { why } => (Wire::Suspended, Vec::new(), format!("{why}; {detail}")),
        CircuitState::Closing { waiting } => (Wire::Closing, waiting, detail),
        CircuitState::Scheduled => (Wire::Scheduled, Vec::new(), detail),
    }
}
