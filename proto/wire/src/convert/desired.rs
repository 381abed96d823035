//! What the controller tells an agent to have.
use super::fields::{
    address, each, inner, interface, list, name, needed, optional, ranged, required, unknown,
};
use super::units::{bandwidth, fabric_address, key_bytes, label, latency, loss, mtu, seal_keys};
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::desired::{
    Backup, Change, Endpoint, Eni, Gate, Hop, Leg, NextHop, Object, ObjectKey, Peer, Receive, Share, Side,
    Tell,
};
use proto_model::query::QueryId;
use proto_model::{CircuitId, Generation, PathId, Seal, Timestamp};
use std::net::IpAddr;

impl TryFrom<v1::Tell> for Tell {
    type Error = Malformed;
    fn try_from(tell: v1::Tell) -> Result<Self> {
        match required("tell", tell.tell)? {
            v1::tell::Tell::Whole(whole) => Ok(Self::Whole {
                generation: Generation(whole.generation),
                objects: list("whole.objects", limits::OBJECTS, whole.objects)?,
            }),
            v1::tell::Tell::Ask(ask) => {
                let query = QueryId(ask.query);
                Ok(Self::Ask { query, question: inner("ask", ask)? })
            }
            v1::tell::Tell::Changes(changes) => Ok(Self::Changes {
                from: Generation(changes.from),
                to: Generation(changes.to),
                changes: list("changes.changes", limits::OBJECTS, changes.changes)?,
            }),
        }
    }
}

impl From<Tell> for v1::Tell {
    fn from(tell: Tell) -> Self {
        let tell = match tell {
            Tell::Whole { generation, objects } => {
                v1::tell::Tell::Whole(v1::tell::Whole { generation: generation.0, objects: each(objects) })
            }
            Tell::Changes { from, to, changes } => {
                v1::tell::Tell::Changes(v1::tell::Changes { from: from.0, to: to.0, changes: each(changes) })
            }
            Tell::Ask { query, question } => v1::tell::Tell::Ask(super::explain::ask(query, question)),
        };
        Self { tell: Some(tell) }
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = Malformed;
    fn try_from(change: v1::Change) -> Result<Self> {
        match required("change", change.change)? {
            v1::change::Change::Put(object) => inner("put", object).map(Self::Put),
            v1::change::Change::Remove(key) => inner("remove", key).map(Self::Remove),
        }
    }
}

impl From<Change> for v1::Change {
    fn from(change: Change) -> Self {
        let change = match change {
            Change::Put(object) => v1::change::Change::Put(object.into()),
            Change::Remove(key) => v1::change::Change::Remove(key.into()),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<v1::Object> for Object {
    type Error = Malformed;
    fn try_from(object: v1::Object) -> Result<Self> {
        match required("object", object.object)? {
            v1::object::Object::Eni(eni) => inner("eni", eni).map(Self::Eni),
            v1::object::Object::Endpoint(endpoint) => inner("endpoint", endpoint).map(Self::Endpoint),
            v1::object::Object::Hop(hop) => inner("hop", hop).map(Self::Hop),
            v1::object::Object::Rules(rules) => inner("rules", rules).map(Self::Rules),
            v1::object::Object::Peer(peer) => inner("peer", peer).map(Self::Peer),
            v1::object::Object::Trace(trace) => inner("trace", trace).map(Self::Trace),
            v1::object::Object::Policy(policy) => inner("policy", policy).map(Self::Policy),
        }
    }
}

impl From<Object> for v1::Object {
    fn from(object: Object) -> Self {
        let object = match object {
            Object::Eni(eni) => v1::object::Object::Eni(eni.into()),
            Object::Endpoint(endpoint) => v1::object::Object::Endpoint(endpoint.into()),
            Object::Hop(hop) => v1::object::Object::Hop(hop.into()),
            Object::Rules(rules) => v1::object::Object::Rules(rules.into()),
            Object::Peer(peer) => v1::object::Object::Peer(peer.into()),
            Object::Trace(trace) => v1::object::Object::Trace(trace.into()),
            Object::Policy(policy) => v1::object::Object::Policy(policy.into()),
        };
        Self { object: Some(object) }
    }
}

pub(super) fn side(field: &str, value: i32) -> Result<Side> {
    match v1::Side::try_from(value) {
        Ok(v1::Side::Source) => Ok(Side::Source),
        Ok(v1::Side::Destination) => Ok(Side::Destination),
        Ok(v1::Side::Unspecified) | Err(_) => {
            Err(unknown(field, value, "SIDE_SOURCE (1), SIDE_DESTINATION (2)"))
        }
    }
}

pub(super) fn side_value(side: Side) -> i32 {
    match side {
        Side::Source => v1::Side::Source,
        Side::Destination => v1::Side::Destination,
    }
    .into()
}

impl TryFrom<v1::ObjectKey> for ObjectKey {
    type Error = Malformed;
    fn try_from(key: v1::ObjectKey) -> Result<Self> {
        use v1::object_key::Key;
        match required("key", key.key)? {
            Key::Eni(resource) => name("eni", &resource).map(Self::Eni),
            Key::Endpoint(end) => {
                Ok(Self::Endpoint(CircuitId(end.circuit), side("endpoint.side", end.side)?))
            }
            Key::Hop(value) => label("hop", value).map(Self::Hop),
            Key::Rules(circuit) => Ok(Self::Rules(CircuitId(circuit))),
            Key::Peer(link) => inner("peer", link).map(Self::Peer),
            Key::Trace(circuit) => Ok(Self::Trace(CircuitId(circuit))),
            Key::Policy(true) => Ok(Self::Policy),
            Key::Queues(name) => interface("queues", name).map(Self::Queues),
            Key::Policy(false) => Err(Malformed::new("policy", "is false; a policy's key is true")),
        }
    }
}

impl From<ObjectKey> for v1::ObjectKey {
    fn from(key: ObjectKey) -> Self {
        use v1::object_key::{EndpointKey, Key};
        let key = match key {
            ObjectKey::Eni(resource) => Key::Eni(resource.to_string()),
            ObjectKey::Endpoint(circuit, side) => {
                Key::Endpoint(EndpointKey { circuit: circuit.0, side: side_value(side) })
            }
            ObjectKey::Hop(label) => Key::Hop(label.value()),
            ObjectKey::Rules(circuit) => Key::Rules(circuit.0),
            ObjectKey::Peer(link) => Key::Peer(link.into()),
            ObjectKey::Trace(circuit) => Key::Trace(circuit.0),
            ObjectKey::Policy => Key::Policy(true),
            ObjectKey::Queues(interface) => Key::Queues(interface),
        };
        Self { key: Some(key) }
    }
}

impl TryFrom<v1::Eni> for Eni {
    type Error = Malformed;
    fn try_from(eni: v1::Eni) -> Result<Self> {
        Ok(Self {
            resource: name("resource", &eni.resource)?,
            attachment: needed("attachment", eni.attachment)?,
            interface: interface("interface", eni.interface)?,
            address: fabric_address("address", eni.address)?,
            mtu: mtu("mtu", eni.mtu, limits::ENI_MTU)?,
        })
    }
}

impl From<Eni> for v1::Eni {
    fn from(eni: Eni) -> Self {
        Self {
            resource: eni.resource.to_string(),
            attachment: Some(eni.attachment.into()),
            interface: eni.interface,
            address: Some(eni.address.into()),
            mtu: eni.mtu.into(),
        }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = Malformed;
    fn try_from(endpoint: v1::Endpoint) -> Result<Self> {
        Ok(Self {
            circuit: CircuitId(endpoint.circuit),
            side: side("side", endpoint.side)?,
            resource: name("resource", &endpoint.resource)?,
            remote: fabric_address("remote", endpoint.remote)?,
            leg: match required("leg", endpoint.leg)? {
                v1::endpoint::Leg::Tunnel(tunnel) => tunnel_leg(tunnel).map_err(|m| m.within("tunnel"))?,
                v1::endpoint::Leg::Local(local) => Leg::Local {
                    resource: name("local.resource", &local.resource)?,
                    label: label("local.label", local.label)?,
                },
            },
            gate: if endpoint.gate_open { Gate::Open } else { Gate::Closed },
            mtu: ranged("mtu", endpoint.mtu.into(), 0, u16::MAX.into(), " bytes")?,
            expires: (endpoint.expires != 0).then_some(Timestamp(endpoint.expires)),
            seal: optional("seal", endpoint.seal)?,
            share: Share {
                reserved: bandwidth("reserved", endpoint.reserved)?,
                limit: endpoint.limit.map(|bits| bandwidth("limit", bits)).transpose()?,
            },
        })
    }
}

impl TryFrom<v1::endpoint::Seal> for Seal {
    type Error = Malformed;
    fn try_from(seal: v1::endpoint::Seal) -> Result<Self> {
        if seal.keys.is_empty() {
            return Err(Malformed::new("keys", "is empty; 1 or 2 are allowed"));
        }
        Ok(Self { keys: seal_keys("keys", seal.keys)? })
    }
}

impl From<Seal> for v1::endpoint::Seal {
    fn from(seal: Seal) -> Self {
        Self { keys: key_bytes(&seal.keys) }
    }
}

fn tunnel_leg(tunnel: v1::endpoint::Tunnel) -> Result<Leg> {
    if tunnel.receive.is_empty() {
        return Err(Malformed::new("receive", "is empty; 1 or 2 are allowed"));
    }
    Ok(Leg::Tunnel {
        path: PathId(tunnel.path),
        send: needed("send", tunnel.send)?,
        receive: list("receive", 2, tunnel.receive)?,
        backup: optional("backup", tunnel.backup)?.map(Box::new),
    })
}

impl TryFrom<v1::endpoint::Backup> for Backup {
    type Error = Malformed;
    fn try_from(backup: v1::endpoint::Backup) -> Result<Self> {
        Ok(Self {
            path: PathId(backup.path),
            send: needed("send", backup.send)?,
            receive: needed("receive", backup.receive)?,
            max_rtt: backup.max_rtt.map(|nanos| latency("max_rtt", nanos)).transpose()?,
            max_loss: backup.max_loss.map(|ppm| loss("max_loss", ppm)).transpose()?,
        })
    }
}

impl From<Backup> for v1::endpoint::Backup {
    fn from(backup: Backup) -> Self {
        Self {
            path: backup.path.0,
            send: Some(backup.send.into()),
            receive: Some(backup.receive.into()),
            max_rtt: backup.max_rtt.map(|rtt| rtt.nanos()),
            max_loss: backup.max_loss.map(|loss| loss.ppm()),
        }
    }
}

impl TryFrom<v1::Peer> for Peer {
    type Error = Malformed;
    fn try_from(peer: v1::Peer) -> Result<Self> {
        let [local, remote] = pair(["local", "remote"], [&peer.local, &peer.remote])?;
        let session = ranged("session", peer.session.into(), 1, u16::MAX.into(), "")?;
        let capacity = peer.capacity.map(|bits| bandwidth("capacity", bits)).transpose()?;
        Ok(Self { link: needed("link", peer.link)?, local, remote, session, capacity })
    }
}

impl From<Peer> for v1::Peer {
    fn from(peer: Peer) -> Self {
        Self {
            link: Some(peer.link.into()),
            local: peer.local.to_string(),
            remote: peer.remote.to_string(),
            session: peer.session.into(),
            capacity: peer.capacity.map(|capacity| capacity.bits_per_second()),
        }
    }
}

impl From<Endpoint> for v1::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        let leg = match endpoint.leg {
            Leg::Tunnel { path, send, receive, backup } => v1::endpoint::Leg::Tunnel(v1::endpoint::Tunnel {
                send: Some(send.into()),
                receive: each(receive),
                path: path.0,
                backup: backup.map(|backup| (*backup).into()),
            }),
            Leg::Local { resource, label } => v1::endpoint::Leg::Local(v1::endpoint::Local {
                resource: resource.to_string(),
                label: label.value(),
            }),
        };
        Self {
            circuit: endpoint.circuit.0,
            side: side_value(endpoint.side),
            resource: endpoint.resource.to_string(),
            remote: Some(endpoint.remote.into()),
            leg: Some(leg),
            gate_open: matches!(endpoint.gate, Gate::Open),
            mtu: endpoint.mtu.into(),
            expires: endpoint.expires.map_or(0, |at| at.0),
            seal: endpoint.seal.map(Into::into),
            reserved: endpoint.share.reserved.bits_per_second(),
            limit: endpoint.share.limit.map(|limit| limit.bits_per_second()),
        }
    }
}

impl TryFrom<v1::Hop> for Hop {
    type Error = Malformed;
    fn try_from(hop: v1::Hop) -> Result<Self> {
        Ok(Self {
            circuit: CircuitId(hop.circuit),
            from_side: side("from_side", hop.from_side)?,
            receive: needed("receive", hop.receive)?,
            send: needed("send", hop.send)?,
            reserved: bandwidth("reserved", hop.reserved)?,
        })
    }
}

impl From<Hop> for v1::Hop {
    fn from(hop: Hop) -> Self {
        Self {
            circuit: hop.circuit.0,
            from_side: side_value(hop.from_side),
            receive: Some(hop.receive.into()),
            send: Some(hop.send.into()),
            reserved: hop.reserved.bits_per_second(),
        }
    }
}

/// Two outer addresses of one packet.
pub(super) fn pair(fields: [&str; 2], texts: [&str; 2]) -> Result<[IpAddr; 2]> {
    let pair = [address(fields[0], texts[0])?, address(fields[1], texts[1])?];
    if pair[0].is_ipv4() != pair[1].is_ipv4() {
        let what = format!("{} and {} are of two address families", pair[0], pair[1]);
        return Err(Malformed::new(fields[1], what));
    }
    Ok(pair)
}

impl TryFrom<v1::NextHop> for NextHop {
    type Error = Malformed;
    fn try_from(next: v1::NextHop) -> Result<Self> {
        let [local, remote] = pair(["local", "remote"], [&next.local, &next.remote])?;
        Ok(Self { node: name("node", &next.node)?, local, remote, label: label("label", next.label)? })
    }
}

impl From<NextHop> for v1::NextHop {
    fn from(next: NextHop) -> Self {
        Self {
            node: next.node.to_string(),
            local: next.local.to_string(),
            remote: next.remote.to_string(),
            label: next.label.value(),
        }
    }
}

impl TryFrom<v1::Receive> for Receive {
    type Error = Malformed;
    fn try_from(receive: v1::Receive) -> Result<Self> {
        let [local, from] = pair(["local", "from"], [&receive.local, &receive.from])?;
        Ok(Self { label: label("label", receive.label)?, local, from })
    }
}

impl From<Receive> for v1::Receive {
    fn from(receive: Receive) -> Self {
        Self {
            label: receive.label.value(),
            local: receive.local.to_string(),
            from: receive.from.to_string(),
        }
    }
}
