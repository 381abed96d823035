//! Joins a plain VXLAN device, which has no agent, to the end of a circuit: what the host next to it shall have, and the
//! commands that set the device up.
//!
//! Such a device has one VNI for both directions. So the label that the host next to it allocated for what comes from it
//! is also the one under which that host sends to it.
use crate::compile::{Broken, Circuit, Tunnel, endpoint, hops, rules};
use crate::path_id;
use crate::record::Placed;
use crate::topology::{Family, Topology};
use proto_model::circuit::Path;
use proto_model::desired::{Hop, Leg, NextHop, Object, ObjectKey, Receive, Side};
use proto_model::{CircuitId, FabricAddress, LEAST_IPV6_MTU, Label, NodeName};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// UDP port of the tunnels, unless the agents are configured otherwise.
const PORT: u16 = 4789;

/// The end of a circuit that has no agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    pub side: Side,
    /// Its underlay address.
    pub remote: IpAddr,
    /// Of the host next to it, as it sees that host.
    pub local: IpAddr,
    /// VNI both ways; allocated by the host next to it.
    pub label: Label,
    /// Fabric addresses: its own, and the other end's.
    pub own: FabricAddress,
    pub other: FabricAddress,
}

impl External {
    pub fn family(&self) -> Family {
        family(self.remote)
    }

    /// The host next to it.
    pub fn neighbour<'a>(&self, path: &'a Path) -> Option<&'a NodeName> {
        match self.side {
            Side::Source => path.nodes.first(),
            Side::Destination => path.nodes.last(),
        }
    }

    /// The end with an agent.
    fn near(&self) -> Side {
        match self.side {
            Side::Source => Side::Destination,
            Side::Destination => Side::Source,
        }
    }

    /// For a root shell on the device's host. MACs follow from the fabric addresses; nobody answers ARP inside a circuit.
    pub fn commands(&self, mtu: u16) -> Vec<String> {
        let Self { remote, local, label, own, other, .. } = self;
        let device = format!("fwx{}", label.value());
        // Packets over IPv6 come without UDP checksum (RFC 6935), which Linux takes only when told.
        let zero = if remote.is_ipv6() { " udp6zerocsumtx udp6zerocsumrx" } else { "" };
        let id = label.value();
        // An interface with less has no IPv6 at all; the routes know what really fits.
        let (whole, path) = match mtu < LEAST_IPV6_MTU {
            true => (LEAST_IPV6_MTU, format!(" mtu {mtu}")),
            false => (mtu, String::new()),
        };
        vec![
            format!(
                "ip link add {device} address {} mtu {whole} type vxlan id {id} local {remote} remote {local} dstport {PORT} \
                 nolearning{zero}",
                mac(own.mac())
            ),
            format!("ip link set {device} up"),
            format!("ip address add {}/32 dev {device}", own.v4),
            format!("ip address add {}/128 dev {device} nodad", own.v6),
            format!(
                "ip neighbour replace {} lladdr {} dev {device} nud permanent",
                other.v4,
                mac(other.mac())
            ),
            format!(
                "ip neighbour replace {} lladdr {} dev {device} nud permanent",
                other.v6,
                mac(other.mac())
            ),
            format!("ip route replace {}/32 dev {device} src {}{path}", other.v4, own.v4),
            format!("ip route replace {}/128 dev {device} src {}{path}", other.v6, own.v6),
        ]
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

pub fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Bytes of an IP packet that fit through the path and into the device behind it.
pub fn mtu(external: &External, path: &Path, topology: &Topology) -> Result<u16, Broken> {
    let neighbour = external.neighbour(path).ok_or_else(|| unreachable(external, path))?;
    let (_, last) = topology.beside(neighbour, external.remote).ok_or_else(|| unreachable(external, path))?;
    let links = Tunnel::in_family(path, topology, external.family())?.mtu();
    Ok(links.map_or(last, |mtu| mtu.min(last)))
}

fn unreachable(external: &External, path: &Path) -> Broken {
    let host = external.neighbour(path).map_or_else(String::new, ToString::to_string);
    let family = if external.remote.is_ipv4() { "IPv4" } else { "IPv6" };
    Broken::Families(format!(
        "{host} has no {family} underlay address from which to reach {}",
        external.remote
    ))
}

/// Every object of a circuit with such an end, but the interface of the other one.
pub fn objects(
    circuit: &Circuit<'_>,
    external: &External,
    topology: &Topology,
) -> Result<Vec<(NodeName, Object)>, Broken> {
    let lane = circuit.route.lane();
    let path = &lane.path;
    let neighbour = external.neighbour(path).ok_or_else(|| unreachable(external, path))?;
    let Some((local, _)) = topology.beside(neighbour, external.remote) else {
        return Err(unreachable(external, path));
    };
    let out = NextHop { node: neighbour.clone(), local, remote: external.remote, label: external.label };
    let back = Receive { label: external.label, local, from: external.remote };
    if path.links.is_empty() {
        let leg = Leg::Tunnel { path: path_id::of(path), send: out, receive: vec![back], backup: None };
        return Ok(vec![
            (neighbour.clone(), endpoint(circuit, external.near(), leg, None)),
            (neighbour.clone(), rules(circuit)),
        ]);
    }
    let tunnel = Tunnel::in_family(path, topology, external.family())?;
    let mut objects = hops(circuit, &lane, &tunnel)?;
    let tip = tunnel.tip(&lane, external.near())?;
    let edge = tunnel.tip(&lane, external.side)?;
    let [arrives] = edge.receive.as_slice() else { return Err(unreachable(external, path)) };
    let (id, reserved) = (circuit.id, circuit.bounds.bandwidth);
    let hop = |from_side, receive, send| Object::Hop(Hop { circuit: id, from_side, receive, send, reserved });
    objects.push((neighbour.clone(), hop(external.near(), arrives.clone(), out)));
    objects.push((neighbour.clone(), hop(external.side, back, edge.send)));
    let leg = Leg::Tunnel { path: tip.path, send: tip.send, receive: tip.receive, backup: None };
    objects.push((tip.node.clone(), endpoint(circuit, external.near(), leg, None)));
    objects.push((tip.node, rules(circuit)));
    Ok(objects)
}

/// Keys of what [`objects`] makes, beside those of the hosts between.
pub fn keys(id: CircuitId, external: &External, route: &Placed) -> Vec<(NodeName, ObjectKey)> {
    let nodes = &route.path.nodes;
    let (agent, edge, arrives) = match external.side {
        Side::Source => (nodes.last(), nodes.first(), route.reverse.first()),
        Side::Destination => (nodes.first(), nodes.last(), route.forward.last()),
    };
    let Some((agent, edge)) = agent.zip(edge) else { return Vec::new() };
    let mut keys = vec![
        (agent.clone(), ObjectKey::Endpoint(id, external.near())),
        (agent.clone(), ObjectKey::Rules(id)),
    ];
    if let Some(arrives) = arrives {
        keys.push((edge.clone(), ObjectKey::Hop(*arrives)));
        keys.push((edge.clone(), ObjectKey::Hop(external.label)));
    }
    keys
}
