//! Turns a placed circuit into the objects that each host on its path shall have, and into sentences about them.
use crate::path_id;
use crate::record::Placed;
use crate::topology::{self, Family, Link, Topology};
use proto_model::circuit::Path;
use proto_model::desired::{Endpoint, Gate, Hop, Leg, NextHop, Object, ObjectKey, Receive, Side};
use proto_model::plan::HostChange;
use proto_model::resource::{Attachment, Resource};
use proto_model::rule::{Rule, RuleSet};
use proto_model::topology::LinkId;
use proto_model::{CircuitId, FabricAddress, NodeName, ResourceId};

/// One end of a circuit.
#[derive(Clone, Debug)]
pub struct Tip<'a> {
    pub resource: &'a ResourceId,
    pub address: FabricAddress,
}

/// What a circuit is compiled from.
#[derive(Clone, Debug)]
pub struct Circuit<'a> {
    pub id: CircuitId,
    pub source: Tip<'a>,
    pub destination: Tip<'a>,
    pub route: &'a Placed,
    pub gate: Gate,
    pub rules_version: u32,
    pub rules: &'a [Rule],
}

/// The topology no longer has what the path needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("link {0} is no longer there")]
    LinkGone(LinkId),
    #[error("{0}")]
    Families(String),
}

/// Links of a path with the address family that it uses.
struct Tunnel<'a> {
    links: Vec<&'a Link>,
    family: Family,
    path: &'a Path,
}

impl<'a> Tunnel<'a> {
    fn new(path: &'a Path, topology: &'a Topology) -> Result<Self, Broken> {
        let link = |id: &LinkId| topology.link(id).ok_or_else(|| Broken::LinkGone(id.clone()));
        let links: Vec<_> = path.links.iter().map(link).collect::<Result<_, _>>()?;
        let family = topology::family(links.iter().copied()).map_err(Broken::Families)?;
        Ok(Self { links, family, path })
    }

    /// Towards node `to` of the path from its neighbour `from`, which the `link`-th link joins.
    fn send(&self, from: usize, to: usize, label: proto_model::Label) -> Option<NextHop> {
        let (local, remote) = self.links[from.min(to)].addresses(&self.path.nodes[from], self.family)?;
        Some(NextHop { node: self.path.nodes[to].clone(), local, remote, label })
    }

    fn receive(&self, at: usize, from: usize, label: proto_model::Label) -> Option<Receive> {
        let (local, from) = self.links[at.min(from)].addresses(&self.path.nodes[at], self.family)?;
        Some(Receive { label, local, from })
    }
}

/// Bytes of an IP packet that fit through the path as the topology is now.
pub fn mtu(path: &Path, topology: &Topology) -> Result<u16, Broken> {
    let tunnel = Tunnel::new(path, topology)?;
    let mtus = tunnel.links.iter().map(|link| link.mtu(tunnel.family));
    Ok(mtus.min().unwrap_or(crate::route::cost::LOCAL_MTU))
}

/// Every object of the circuit but the interfaces, which it shares with others of its ends.
pub fn objects(circuit: &Circuit<'_>, topology: &Topology) -> Result<Vec<(NodeName, Object)>, Broken> {
    let path = &circuit.route.path;
    let tunnel = Tunnel::new(path, topology)?;
    let mut objects = Vec::with_capacity(path.nodes.len() * 2 + 2);
    if let (Some((source, destination)), [node]) = (circuit.route.local, path.nodes.as_slice()) {
        let leg = |other: &Tip<'_>, label| Leg::Local { resource: other.resource.clone(), label };
        objects.push((node.clone(), endpoint(circuit, Side::Source, leg(&circuit.destination, source))));
        objects.push((node.clone(), endpoint(circuit, Side::Destination, leg(&circuit.source, destination))));
        objects.push((node.clone(), rules(circuit)));
        return Ok(objects);
    }
    let missing = || Broken::Families(format!("an address of {path} is gone"));
    hops(circuit, &tunnel, &mut objects).ok_or_else(missing)?;
    tips(circuit, &tunnel, &mut objects).ok_or_else(missing)?;
    Ok(objects)
}

fn hops(circuit: &Circuit<'_>, tunnel: &Tunnel<'_>, objects: &mut Vec<(NodeName, Object)>) -> Option<()> {
    let Placed { path, forward, reverse, .. } = circuit.route;
    for at in 1..path.nodes.len().saturating_sub(1) {
        let hop =
            |from_side, receive, send| Object::Hop(Hop { circuit: circuit.id, from_side, receive, send });
        let onward = hop(
            Side::Source,
            tunnel.receive(at, at - 1, forward[at - 1])?,
            tunnel.send(at, at + 1, forward[at])?,
        );
        let back = hop(
            Side::Destination,
            tunnel.receive(at, at + 1, reverse[at])?,
            tunnel.send(at, at - 1, reverse[at - 1])?,
        );
        objects.push((path.nodes[at].clone(), onward));
        objects.push((path.nodes[at].clone(), back));
    }
    Some(())
}

fn tips(circuit: &Circuit<'_>, tunnel: &Tunnel<'_>, objects: &mut Vec<(NodeName, Object)>) -> Option<()> {
    let Placed { path, forward, reverse, .. } = circuit.route;
    let last = path.nodes.len() - 1;
    let number = path_id::of(path);
    let source = Leg::Tunnel {
        path: number,
        backup: None,
        send: tunnel.send(0, 1, *forward.first()?)?,
        receive: vec![tunnel.receive(0, 1, *reverse.first()?)?],
    };
    let destination = Leg::Tunnel {
        path: number,
        backup: None,
        send: tunnel.send(last, last - 1, *reverse.last()?)?,
        receive: vec![tunnel.receive(last, last - 1, *forward.last()?)?],
    };
    for (node, side, leg) in [(0, Side::Source, source), (last, Side::Destination, destination)] {
        objects.push((path.nodes[node].clone(), endpoint(circuit, side, leg)));
        objects.push((path.nodes[node].clone(), rules(circuit)));
    }
    Some(())
}

fn endpoint(circuit: &Circuit<'_>, side: Side, leg: Leg) -> Object {
    let (here, there) = match side {
        Side::Source => (&circuit.source, &circuit.destination),
        Side::Destination => (&circuit.destination, &circuit.source),
    };
    Object::Endpoint(Endpoint {
        circuit: circuit.id,
        side,
        resource: here.resource.clone(),
        remote: there.address,
        leg,
        gate: circuit.gate,
    })
}

fn rules(circuit: &Circuit<'_>) -> Object {
    Object::Rules(RuleSet {
        circuit: circuit.id,
        version: circuit.rules_version,
        rules: circuit.rules.to_vec(),
    })
}

/// Keys of what [`objects`] makes, without looking at the topology.
pub fn keys(id: CircuitId, route: &Placed) -> Vec<(NodeName, ObjectKey)> {
    let nodes = &route.path.nodes;
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else { return Vec::new() };
    let mut keys = vec![
        (first.clone(), ObjectKey::Endpoint(id, Side::Source)),
        (last.clone(), ObjectKey::Endpoint(id, Side::Destination)),
        (first.clone(), ObjectKey::Rules(id)),
    ];
    if nodes.len() > 1 {
        keys.push((last.clone(), ObjectKey::Rules(id)));
    }
    let transit = nodes.iter().enumerate().take(nodes.len().saturating_sub(1)).skip(1);
    for (at, node) in transit {
        keys.push((node.clone(), ObjectKey::Hop(route.forward[at - 1])));
        keys.push((node.clone(), ObjectKey::Hop(route.reverse[at])));
    }
    keys
}

/// Every label with the node that receives under it.
pub fn labels(route: &Placed) -> Vec<(NodeName, proto_model::Label)> {
    let nodes = &route.path.nodes;
    let forward = route.forward.iter().zip(nodes.iter().skip(1));
    let reverse = route.reverse.iter().zip(nodes.iter());
    let local = route.local.iter().flat_map(|(a, b)| [a, b]).zip(nodes.iter().cycle());
    forward.chain(reverse).chain(local).map(|(label, node)| (node.clone(), *label)).collect()
}

/// Where a resource's interface is put, for people.
pub fn place(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Path(path) => format!("the namespace {path}"),
        Attachment::Named(name) => format!("the namespace {name}"),
        Attachment::Process(pid) => format!("the namespace of process {pid}"),
        Attachment::Host => "the host's own namespace".into(),
    }
}

/// What would change on each host, if the circuit were built.
pub fn sentences(
    path: &Path,
    mtu: u16,
    ends: [(&Resource, String, bool); 2],
    rules: usize,
    encapsulated: &Topology,
) -> Vec<HostChange> {
    let [source, destination] = &ends;
    let last = path.nodes.len().saturating_sub(1);
    let mut hosts = Vec::new();
    for (at, node) in path.nodes.iter().enumerate() {
        let mut changes = Vec::new();
        for ((resource, interface, exists), tip) in [(source, 0), (destination, last)] {
            if at == tip {
                let other = if std::ptr::eq(*resource, source.0) { destination.0 } else { source.0 };
                changes.extend((!exists).then(|| {
                    format!(
                        "create interface {interface} in {} with {}, MTU {mtu}",
                        place(&resource.metadata.attachment),
                        resource.address
                    )
                }));
                changes
                    .push(format!("route {} of {} through it to {}", other.address, other.id, resource.id));
            }
        }
        if at == 0 || at == last {
            changes.push(format!("enforce {rules} rules, everything else is denied"));
        }
        for neighbour in [at.checked_sub(1), (at < last).then_some(at + 1)].into_iter().flatten() {
            let id = &path.links[at.min(neighbour)];
            let addresses = encapsulated.link(id).and_then(|link| {
                let family = if link.has(Family::V4) { Family::V4 } else { Family::V6 };
                link.addresses(node, family)
            });
            if let Some((local, remote)) = addresses {
                changes.push(format!(
                    "exchange packets with {} from {local} to {remote}",
                    path.nodes[neighbour]
                ));
            }
        }
        if at != 0 && at != last {
            changes.push(format!("swap labels between {} and {}", path.nodes[at - 1], path.nodes[at + 1]));
        }
        hosts.push(HostChange { node: node.clone(), changes });
    }
    hosts
}
