//! Desired objects as kernel entries. Pure: numbers that must be allocated (slots, rows) are arguments.
mod endpoint;
mod hop;
mod rules;

pub use rules::row;

use crate::bounds::Refused;
use crate::kernel_state::{Eni, Entry, EntryKey, HostSide, NextHop, Peer, Trace};
use ebpf_abi::Direction;
use proto_model::desired::{self, Endpoint, Hop, Leg, Object, Side};
use proto_model::{CircuitId, FabricAddress, Label, Timestamp};
use std::net::IpAddr;

pub(crate) use endpoint::{entries as endpoint, keys as endpoint_keys};
pub(crate) use hop::entry as hop;
pub(crate) use rules::{rows, rule, version_of};

/// The direction of packets that come from this end.
pub fn direction(from: Side) -> Direction {
    match from {
        Side::Source => Direction::Forward,
        Side::Destination => Direction::Reverse,
    }
}

pub(crate) fn eni(eni: &desired::Eni) -> Entry {
    Entry::Eni(Eni {
        host: HostSide::of(&eni.address),
        resource: eni.resource.to_string(),
        attachment: eni.attachment.clone(),
        interface: eni.interface.clone(),
        address: eni.address,
        mtu: eni.mtu,
    })
}

/// Numbers that an endpoint's entries need: slots of `NEXT_HOPS`, and of `GROUPS` if its flows have two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(crate) primary: u32,
    pub(crate) backup: u32,
    /// 0: none.
    pub(crate) group: u32,
    /// The end's number among those with a bandwidth or a limit; 0: neither.
    pub(crate) class: u16,
}

/// The next hops that an object sends to, outer source and destination: first the primary way's.
pub(crate) fn sends_to(object: &Object) -> Vec<(IpAddr, IpAddr)> {
    let pair = |send: &desired::NextHop| (send.local, send.remote);
    match object {
        Object::Endpoint(Endpoint { leg: Leg::Tunnel { send, backup, .. }, .. }) => {
            let second = backup.iter().map(|backup| pair(&backup.send));
            std::iter::once(pair(send)).chain(second).collect()
        }
        Object::Hop(Hop { send, .. }) => vec![pair(send)],
        Object::Endpoint(Endpoint { leg: Leg::Local { .. }, .. })
        | Object::Eni(_)
        | Object::Rules(_)
        | Object::Peer(_)
        | Object::Trace(_)
        | Object::Policy(_) => Vec::new(),
    }
}

/// Its probes are answered; and the protector sends some.
pub(crate) fn peer(peer: &desired::Peer) -> Entry {
    Entry::Peer(Peer { remote: peer.remote, session: peer.session })
}

/// Nothing any more once its time is over.
pub(crate) fn trace(trace: &desired::Trace, now: Timestamp) -> Vec<Entry> {
    let entry = Trace {
        circuit: trace.circuit.0,
        until: trace.until,
        protocol: trace.filter.protocol,
        port: trace.filter.port,
        snaplen: trace.snaplen,
    };
    if trace.until > now { vec![Entry::Trace(entry)] } else { Vec::new() }
}

/// Slots of `STATS` in which an object's packets are counted, and the circuit that they belong to.
pub(crate) fn counted_in(object: &Object) -> (Option<CircuitId>, Vec<u32>) {
    let index = |label: Label| ebpf_abi::label::index(label.value());
    match object {
        Object::Endpoint(end) => {
            let slots = match &end.leg {
                Leg::Tunnel { receive, backup, .. } => {
                    let second = backup.iter().map(|backup| &backup.receive);
                    receive.iter().chain(second).map(|r| index(r.label)).collect()
                }
                Leg::Local { label, .. } => vec![index(*label)],
            };
            (Some(end.circuit), slots)
        }
        Object::Hop(hop) => (Some(hop.circuit), vec![index(hop.receive.label)]),
        Object::Eni(_) | Object::Rules(_) | Object::Peer(_) | Object::Trace(_) | Object::Policy(_) => {
            (None, Vec::new())
        }
    }
}

/// Keys of the entries that an object becomes; an endpoint's need the address of its own resource.
pub(crate) fn keys(object: &Object, address: Option<&FabricAddress>) -> Vec<EntryKey> {
    match object {
        Object::Eni(eni) => vec![EntryKey::Eni(HostSide::of(&eni.address))],
        Object::Endpoint(end) => address.map(|own| endpoint_keys(end, own)).unwrap_or_default(),
        Object::Hop(hop) => vec![EntryKey::Label(ebpf_abi::label::index(hop.receive.label.value()))],
        Object::Rules(set) => vec![EntryKey::Rules(set.circuit.0)],
        Object::Peer(peer) => vec![EntryKey::Peer(peer.remote, peer.session)],
        Object::Trace(trace) => vec![EntryKey::Trace(trace.circuit.0)],
        Object::Policy(_) => Vec::new(),
    }
}

/// A label's index, which must not be 0; and both addresses of a tunnel must be of one family.
fn check(label: Label, local: IpAddr, remote: IpAddr) -> Result<u32, Refused> {
    let index = ebpf_abi::label::index(label.value());
    if index == 0 {
        return Err(Refused::LabelIndex { label: label.value() });
    }
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(Refused::Families { local, remote });
    }
    Ok(index)
}

/// What must be there before an entry can be made, and as long as it is.
pub(crate) fn needs(entry: &Entry) -> Vec<EntryKey> {
    use crate::kernel_state::{LabelAction, Target};
    match entry {
        Entry::NextHop(_)
        | Entry::Shaper(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Seal(_)
        | Entry::Meter(_)
        | Entry::Peer(_)
        | Entry::Trace(_) => Vec::new(),
        Entry::Class(class) => vec![EntryKey::Shaper(class.interface.clone())],
        Entry::Label(label) => match &label.action {
            LabelAction::Transit { next_hop, .. } => vec![EntryKey::NextHop(*next_hop)],
            LabelAction::Deliver { eni, back, sealed, .. } => {
                // A label written before there were probes has no way back.
                let back = (back.label != 0).then_some(EntryKey::NextHop(back.next_hop));
                let seal = sealed.then_some(EntryKey::Seal(label.circuit));
                std::iter::once(EntryKey::Eni(*eni)).chain(back).chain(seal).collect()
            }
        },
        Entry::Route(route) => vec![EntryKey::Eni(route.host)],
        Entry::Flow(flow) => {
            let mut needs = vec![EntryKey::Eni(flow.host), EntryKey::Rules(flow.circuit)];
            needs.extend(flow.sealed.then_some(EntryKey::Seal(flow.circuit)));
            match &flow.target {
                Target::NextHop { slot, backup, .. } => {
                    needs.push(EntryKey::NextHop(*slot));
                    needs.extend(backup.filter(|b| b.slot != *slot).map(|b| EntryKey::NextHop(b.slot)));
                }
                Target::Eni(far) => needs.push(EntryKey::Eni(*far)),
            }
            needs
        }
    }
}

/// Whether an object's tunnel can be made at all, before anything is allocated for it.
pub(crate) fn check_tunnel(object: &Object) -> Result<(), Refused> {
    match object {
        Object::Endpoint(Endpoint { leg: Leg::Tunnel { send, receive, backup, .. }, .. }) => {
            if receive.is_empty() {
                return Err(Refused::NoLabel);
            }
            families(send)?;
            backup.iter().try_for_each(|backup| families(&backup.send))?;
            let second = backup.iter().map(|backup| &backup.receive);
            receive.iter().chain(second).try_for_each(|r| check(r.label, r.local, r.from).map(drop))
        }
        Object::Endpoint(Endpoint { leg: Leg::Local { label, .. }, .. }) => {
            let any = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            check(*label, any, any).map(drop)
        }
        Object::Hop(hop) => {
            families(&hop.send)?;
            check(hop.receive.label, hop.receive.local, hop.receive.from).map(drop)
        }
        Object::Peer(peer) if peer.local.is_ipv4() != peer.remote.is_ipv4() => {
            Err(Refused::Families { local: peer.local, remote: peer.remote })
        }
        Object::Eni(_) | Object::Rules(_) | Object::Peer(_) | Object::Trace(_) | Object::Policy(_) => Ok(()),
    }
}

fn families(send: &desired::NextHop) -> Result<(), Refused> {
    match send.local.is_ipv4() == send.remote.is_ipv4() {
        true => Ok(()),
        false => Err(Refused::Families { local: send.local, remote: send.remote }),
    }
}

/// A slot's number, for entries that send to it.
pub(crate) fn slot(hop: Option<&NextHop>) -> u32 {
    hop.map_or(0, |hop| hop.slot)
}
