//! Turns a placed circuit into the objects that each host on its path shall have, and into sentences about them.
use crate::external;
use crate::path_id;
use crate::record::{Lane, Placed};
use crate::topology::{self, Family, Link, Topology};
use proto_model::circuit::Path;
use proto_model::desired::{
    Backup, Endpoint, Gate, Hop, Leg, NextHop, Object, ObjectKey, Receive, Share, Side,
};
use proto_model::intent::Bounds;
use proto_model::plan::HostChange;
use proto_model::resource::{Attachment, Resource};
use proto_model::rule::{Revert, Rule, RuleSet};
use proto_model::topology::LinkId;
use proto_model::{CircuitId, FabricAddress, NodeName, PathId, ResourceId, Seal, SealKey, Timestamp};

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
    /// The path that it was on, until both ends have left it.
    pub retiring: Option<&'a Lane>,
    pub bounds: &'a Bounds,
    /// Encryption keys of the hosts of source and destination; none: in the clear.
    pub keys: Option<[&'a [SealKey]; 2]>,
    pub gate: Gate,
    pub expires: Option<Timestamp>,
    pub rules_version: u32,
    pub rules: &'a [Rule],
    pub revert: Option<&'a Revert>,
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
pub(crate) struct Tunnel<'a> {
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

    /// All of it in this family, because what follows it is.
    pub(crate) fn in_family(path: &'a Path, topology: &'a Topology, family: Family) -> Result<Self, Broken> {
        let tunnel = Self::new(path, topology)?;
        match tunnel.links.iter().find(|link| !link.has(family)) {
            None => Ok(Self { family, ..tunnel }),
            Some(link) => {
                let name = if family == Family::V4 { "IPv4" } else { "IPv6" };
                Err(Broken::Families(format!("{} has no {name}, which the far end needs", link.id)))
            }
        }
    }

    /// None: it has no links.
    pub(crate) fn mtu(&self) -> Option<u16> {
        self.links.iter().map(|link| link.mtu(self.family)).min()
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

/// Bytes of an IP packet of a circuit with these bounds that fit through the path as the topology is now.
pub fn mtu(path: &Path, bounds: &Bounds, topology: &Topology) -> Result<u16, Broken> {
    let tunnel = Tunnel::new(path, topology)?;
    Ok(crate::route::cost::mtu(&tunnel.links, tunnel.family, bounds))
}

/// The same for a circuit's first way, with the device behind it if it ends at one.
pub fn mtu_of(route: &Placed, bounds: &Bounds, topology: &Topology) -> Result<u16, Broken> {
    match &route.external {
        Some(external) => external::mtu(external, &route.path, topology),
        None => mtu(&route.path, bounds, topology),
    }
}

/// Every object of the circuit but the interfaces, which it shares with others of its ends.
pub fn objects(circuit: &Circuit<'_>, topology: &Topology) -> Result<Vec<(NodeName, Object)>, Broken> {
    if let Some(external) = &circuit.route.external {
        return external::objects(circuit, external, topology);
    }
    let path = &circuit.route.path;
    let mut objects = Vec::with_capacity(path.nodes.len() * 2 + 2);
    if let (Some((source, destination)), [node]) = (circuit.route.local, path.nodes.as_slice()) {
        let leg = |other: &Tip<'_>, label| Leg::Local { resource: other.resource.clone(), label };
        objects
            .push((node.clone(), endpoint(circuit, Side::Source, leg(&circuit.destination, source), None)));
        let far = leg(&circuit.source, destination);
        objects.push((node.clone(), endpoint(circuit, Side::Destination, far, None)));
        objects.push((node.clone(), rules(circuit)));
        return Ok(objects);
    }
    let first = circuit.route.lane();
    for lane in [Some(&first), circuit.route.second()].into_iter().flatten() {
        objects.extend(hops(circuit, lane, &Tunnel::new(&lane.path, topology)?)?);
    }
    // Its transit hosts need not be there any longer.
    let left = |old: &Lane| hops(circuit, old, &Tunnel::new(&old.path, topology).ok()?).ok();
    objects.extend(circuit.retiring.and_then(left).into_iter().flatten());
    let ready = circuit.route.backup.as_ref().filter(|backup| backup.ready).map(|backup| &backup.lane);
    for side in [Side::Source, Side::Destination] {
        let mut tip = Tunnel::new(&first.path, topology)?.tip(&first, side)?;
        // What the other end still sends the old way; a link that is gone brings nothing.
        let old = circuit.retiring.and_then(|old| Tunnel::new(&old.path, topology).ok()?.tip(old, side).ok());
        tip.receive.extend(old.into_iter().flat_map(|old| old.receive));
        let backup = match ready {
            Some(lane) => {
                let tip = Tunnel::new(&lane.path, topology)?.tip(lane, side)?;
                Some(Box::new(backup(circuit.bounds, tip)))
            }
            None => None,
        };
        let leg = Leg::Tunnel { path: tip.path, send: tip.send, receive: tip.receive, backup };
        let seal = circuit.keys.map(|keys| seal(keys, side));
        objects.push((tip.node.clone(), endpoint(circuit, side, leg, seal)));
        objects.push((tip.node, rules(circuit)));
    }
    Ok(objects)
}

/// One end of a path with its labels.
pub(crate) struct LaneTip {
    pub node: NodeName,
    pub path: PathId,
    pub send: NextHop,
    pub receive: Vec<Receive>,
}

impl Tunnel<'_> {
    fn gone(&self) -> Broken {
        Broken::Families(format!("an address of {} is gone", self.path))
    }

    pub(crate) fn tip(&self, lane: &Lane, side: Side) -> Result<LaneTip, Broken> {
        self.tip_of(lane, side).ok_or_else(|| self.gone())
    }

    fn tip_of(&self, lane: &Lane, side: Side) -> Option<LaneTip> {
        let last = self.path.nodes.len().checked_sub(1)?;
        let (at, next, send, receive) = match side {
            Side::Source => (0, 1, lane.forward.first()?, lane.reverse.first()?),
            Side::Destination => (last, last.checked_sub(1)?, lane.reverse.last()?, lane.forward.last()?),
        };
        Some(LaneTip {
            node: self.path.nodes[at].clone(),
            path: path_id::of(self.path),
            send: self.send(at, next, *send)?,
            receive: vec![self.receive(at, next, *receive)?],
        })
    }
}

fn backup(bounds: &Bounds, mut tip: LaneTip) -> Backup {
    Backup {
        path: tip.path,
        send: tip.send,
        receive: tip.receive.swap_remove(0),
        max_rtt: bounds.max_rtt,
        max_loss: bounds.max_loss,
    }
}

/// Of the hosts between the ends of a path.
pub(crate) fn hops(
    circuit: &Circuit<'_>,
    lane: &Lane,
    tunnel: &Tunnel<'_>,
) -> Result<Vec<(NodeName, Object)>, Broken> {
    let mut objects = Vec::with_capacity(lane.path.nodes.len() * 2);
    for at in 1..lane.path.nodes.len().saturating_sub(1) {
        let pair = tunnel.hop_pair(circuit, lane, at).ok_or_else(|| tunnel.gone())?;
        objects.extend(pair.map(|hop| (lane.path.nodes[at].clone(), Object::Hop(hop))));
    }
    Ok(objects)
}

impl Tunnel<'_> {
    fn hop_pair(&self, circuit: &Circuit<'_>, lane: &Lane, at: usize) -> Option<[Hop; 2]> {
        let (id, reserved) = (circuit.id, circuit.bounds.bandwidth);
        let hop = |from_side, receive, send| Hop { circuit: id, from_side, receive, send, reserved };
        let onward = hop(
            Side::Source,
            self.receive(at, at - 1, lane.forward[at - 1])?,
            self.send(at, at + 1, lane.forward[at])?,
        );
        let back = hop(
            Side::Destination,
            self.receive(at, at + 1, lane.reverse[at])?,
            self.send(at, at - 1, lane.reverse[at - 1])?,
        );
        Some([onward, back])
    }
}

/// For the holder of the other end's keys.
fn seal([source, destination]: [&[SealKey]; 2], side: Side) -> Seal {
    let far = match side {
        Side::Source => destination,
        Side::Destination => source,
    };
    Seal { keys: far.to_vec() }
}

pub(crate) fn endpoint(circuit: &Circuit<'_>, side: Side, leg: Leg, seal: Option<Seal>) -> Object {
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
        mtu: circuit.route.mtu_of_both(),
        expires: circuit.expires,
        seal,
        share: Share { reserved: circuit.bounds.bandwidth, limit: circuit.bounds.limit },
    })
}

pub(crate) fn rules(circuit: &Circuit<'_>) -> Object {
    Object::Rules(RuleSet {
        circuit: circuit.id,
        version: circuit.rules_version,
        rules: circuit.rules.to_vec(),
        revert: circuit.revert.cloned(),
    })
}

/// Keys of what [`objects`] makes, without looking at the topology.
pub fn keys(id: CircuitId, route: &Placed) -> Vec<(NodeName, ObjectKey)> {
    if let Some(external) = &route.external {
        let mut keys = external::keys(id, external, route);
        keys.extend(hop_keys(&route.lane()));
        return keys;
    }
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
    keys.extend(hop_keys(&route.lane()));
    keys.extend(route.second().map(hop_keys).unwrap_or_default());
    keys
}

/// Keys of what a path needs on the hosts between its ends.
pub fn hop_keys(lane: &Lane) -> Vec<(NodeName, ObjectKey)> {
    let nodes = &lane.path.nodes;
    let transit = nodes.iter().enumerate().take(nodes.len().saturating_sub(1)).skip(1);
    let pair = |(at, node): (usize, &NodeName)| {
        [lane.forward[at - 1], lane.reverse[at]].map(|label| (node.clone(), ObjectKey::Hop(label)))
    };
    transit.flat_map(pair).collect()
}

/// Every label with the node that receives under it.
pub fn labels(route: &Placed) -> Vec<(NodeName, proto_model::Label)> {
    let local = route.local.iter().flat_map(|(a, b)| [a, b]).zip(route.path.nodes.iter().cycle());
    let mut labels: Vec<_> = local.map(|(label, node)| (node.clone(), *label)).collect();
    labels.extend(lane_labels(&route.lane()));
    let external = route.external.as_ref();
    labels.extend(external.and_then(|end| Some((end.neighbour(&route.path)?.clone(), end.label))));
    labels.extend(route.second().map(lane_labels).unwrap_or_default());
    labels
}

pub fn lane_labels(lane: &Lane) -> Vec<(NodeName, proto_model::Label)> {
    let nodes = &lane.path.nodes;
    let forward = lane.forward.iter().zip(nodes.iter().skip(1));
    let reverse = lane.reverse.iter().zip(nodes.iter());
    forward.chain(reverse).map(|(label, node)| (node.clone(), *label)).collect()
}

/// Where a resource's interface is put, for people.
pub fn place(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Path(path) => format!("the namespace {path}"),
        Attachment::Named(name) => format!("the namespace {name}"),
        Attachment::Process(pid) => format!("the namespace of process {pid}"),
        Attachment::Host => "the host's own namespace".into(),
        Attachment::External(ip) => format!("the plain VXLAN device at {ip}"),
    }
}

/// What a backup would change on the hosts between its ends.
pub fn backup_sentences(path: &Path) -> Vec<HostChange> {
    let between = |around: &[NodeName]| match around {
        [before, node, after] => Some(HostChange {
            node: node.clone(),
            changes: vec![format!("swap labels between {before} and {after}, for the backup {path}")],
        }),
        _ => None,
    };
    path.nodes.windows(3).filter_map(between).collect()
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
            if let (true, Attachment::External(address)) = (at == tip, &resource.metadata.attachment) {
                changes.push(format!("exchange packets with the plain VXLAN device at {address}"));
            } else if at == tip {
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
        let device = |end: &Resource| matches!(end.metadata.attachment, Attachment::External(_));
        if at == 0 && !device(source.0) || at == last && !device(destination.0) {
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
