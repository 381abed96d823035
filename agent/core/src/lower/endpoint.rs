//! One end of a circuit: labels that deliver to the workload, its route, and, once the gate is open, its flows.
use super::Ways;
use super::direction;
use crate::kernel_state::{
    Back, Backup, Entry, EntryKey, Flow, HostSide, Label, LabelAction, Route, Seal, Target,
};
use ebpf_abi::label::index;
use proto_model::FabricAddress;
use proto_model::LEAST_IPV6_MTU as LEAST_MTU;
use proto_model::desired::{self, Endpoint, Gate, Leg, Receive, Side};
use std::net::IpAddr;

/// `own`: address of the resource here. `ways`: slots of the next hops; unused when the other end is on this host.
pub(crate) fn entries(end: &Endpoint, own: &FabricAddress, ways: Ways) -> Vec<Entry> {
    let mut entries: Vec<Entry> = seal(end).into_iter().map(Entry::Seal).collect();
    entries.extend(deliveries(end, own, ways));
    entries.push(Entry::Route(route(end, own)));
    match end.gate {
        Gate::Closed => {}
        Gate::Open => {
            entries.push(flow(end, own, ways, own.v4.into(), end.remote.v4.into()));
            entries.push(flow(end, own, ways, own.v6.into(), end.remote.v6.into()));
        }
    }
    entries
}

/// Where the circuit carries less than an interface with IPv6 may have (RFC 8200 §5), the workload's own kernel is told by
/// the route: it cuts datagrams and sizes segments as their source.
fn route(end: &Endpoint, own: &FabricAddress) -> Route {
    let mtu = if end.mtu < LEAST_MTU { end.mtu } else { 0 };
    Route { host: HostSide::of(own), to: end.remote, mtu }
}

/// Of an end whose packets leave this host, and leave it encrypted.
fn seal(end: &Endpoint) -> Option<Seal> {
    let (Leg::Tunnel { receive, .. }, Some(seal)) = (&end.leg, &end.seal) else { return None };
    let slot = receive.first().map_or(0, |r| index(r.label.value()));
    Some(Seal { circuit: end.circuit.0, keys: seal.keys.clone(), slot, mtu: end.mtu })
}

/// Keys of [`entries`].
pub(crate) fn keys(end: &Endpoint, own: &FabricAddress) -> Vec<EntryKey> {
    let host = HostSide::of(own);
    let mut keys: Vec<EntryKey> = seal(end).map(|seal| EntryKey::Seal(seal.circuit)).into_iter().collect();
    keys.extend::<Vec<EntryKey>>(match &end.leg {
        Leg::Tunnel { receive, backup, .. } => {
            let labels = receive.iter().chain(backup.iter().map(|backup| &backup.receive));
            labels.map(|r| EntryKey::Label(index(r.label.value()))).collect()
        }
        Leg::Local { .. } => Vec::new(),
    });
    keys.push(EntryKey::Route(host, end.remote));
    match end.gate {
        Gate::Closed => {}
        Gate::Open => {
            keys.push(EntryKey::Flow(host, end.remote.v4.into()));
            keys.push(EntryKey::Flow(host, end.remote.v6.into()));
        }
    }
    keys
}

/// Packets are taken under the labels of both ways all the time. A probe is answered by the way it came; one that came
/// under the second label of a circuit that moves, by the way that is sent now.
fn deliveries(end: &Endpoint, own: &FabricAddress, ways: Ways) -> Vec<Entry> {
    let Leg::Tunnel { send, receive, backup, .. } = &end.leg else { return Vec::new() };
    let back = Back { next_hop: ways.primary, label: send.label.value() };
    let first = receive.iter().map(|r| delivery(end, own, r, back));
    let second = backup.iter().map(|backup| {
        let back = Back { next_hop: ways.backup, label: backup.send.label.value() };
        delivery(end, own, &backup.receive, back)
    });
    first.chain(second).collect()
}

fn delivery(end: &Endpoint, own: &FabricAddress, receive: &Receive, back: Back) -> Entry {
    let from = match end.side {
        Side::Source => Side::Destination,
        Side::Destination => Side::Source,
    };
    Entry::Label(Label {
        label: receive.label.value(),
        circuit: end.circuit.0,
        direction: direction(from),
        from: receive.from,
        to: receive.local,
        class: 0,
        action: LabelAction::Deliver {
            eni: HostSide::of(own),
            local: *own,
            remote: end.remote,
            back,
            mtu: end.mtu,
            sealed: seal(end).is_some(),
        },
    })
}

fn flow(end: &Endpoint, own: &FabricAddress, ways: Ways, local: IpAddr, remote: IpAddr) -> Entry {
    let (counters, target) = match &end.leg {
        Leg::Tunnel { send, receive, backup, .. } => {
            let second = |b: &desired::Backup| Backup {
                slot: ways.backup,
                label: b.send.label.value(),
                group: ways.group,
            };
            let backup = backup.as_deref().filter(|_| ways.group != 0).map(second);
            (
                receive.first().map_or(0, |r| index(r.label.value())),
                Target::NextHop { slot: ways.primary, label: send.label.value(), backup },
            )
        }
        Leg::Local { label, .. } => (index(label.value()), Target::Eni(HostSide::of(&end.remote))),
    };
    Entry::Flow(Flow {
        host: HostSide::of(own),
        circuit: end.circuit.0,
        local,
        remote,
        mac: end.remote.mac(),
        gateway: end.remote.gateway_mac(),
        slot: counters,
        direction: direction(end.side),
        class: ways.class,
        mtu: end.mtu,
        target,
        sealed: seal(end).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_abi::Direction;
    use proto_model::desired::NextHop;
    use proto_model::{CircuitId, FabricPrefix, PathId};

    const WAYS: Ways = Ways { primary: 4, backup: 5, group: 6, class: 7 };

    fn label(value: u32) -> proto_model::Label {
        proto_model::Label::new(value).expect("a label")
    }

    fn address(host: u32) -> FabricAddress {
        FabricPrefix::default().address(host).expect("an address")
    }

    fn end(side: Side, gate: Gate) -> Endpoint {
        let here: IpAddr = [192, 0, 2, 1].into();
        let there: IpAddr = [192, 0, 2, 2].into();
        Endpoint {
            circuit: CircuitId(7),
            side,
            resource: "web".parse().expect("a name"),
            remote: address(2),
            leg: Leg::Tunnel {
                path: PathId(1),
                send: NextHop {
                    node: "b".parse().expect("a name"),
                    local: here,
                    remote: there,
                    label: label(500),
                },
                receive: vec![Receive { label: label((3 << 17) | 9), local: here, from: there }],
                backup: None,
            },
            gate,
            mtu: 1_450,
            expires: None,
            seal: None,
            share: desired::Share::default(),
        }
    }

    #[test]
    fn a_closed_gate_has_no_flow() {
        let closed = entries(&end(Side::Source, Gate::Closed), &address(1), WAYS);
        assert!(closed.iter().all(|entry| !matches!(entry, Entry::Flow(_))));
        let open = entries(&end(Side::Source, Gate::Open), &address(1), WAYS);
        assert_eq!(open.iter().filter(|entry| matches!(entry, Entry::Flow(_))).count(), 2);
        let keys_of: Vec<_> = open.iter().map(Entry::key).collect();
        assert_eq!(keys_of, keys(&end(Side::Source, Gate::Open), &address(1)));
    }

    #[test]
    fn the_source_sends_forward_and_receives_reverse() {
        for (side, sends, receives) in [
            (Side::Source, Direction::Forward, Direction::Reverse),
            (Side::Destination, Direction::Reverse, Direction::Forward),
        ] {
            for entry in entries(&end(side, Gate::Open), &address(1), WAYS) {
                match entry {
                    Entry::Flow(flow) => {
                        assert_eq!(flow.direction, sends);
                        assert_eq!((flow.slot, flow.class, flow.mac), (9, 7, address(2).mac()));
                        assert_eq!(flow.target, Target::NextHop { slot: 4, label: 500, backup: None });
                    }
                    Entry::Label(label) => assert_eq!(label.direction, receives),
                    Entry::Route(route) => assert_eq!(route.to, address(2)),
                    Entry::NextHop(_)
                    | Entry::Shaper(_)
                    | Entry::Meter(_)
                    | Entry::Class(_)
                    | Entry::Eni(_)
                    | Entry::Rules(_)
                    | Entry::Seal(_)
                    | Entry::Peer(_)
                    | Entry::Trace(_) => {
                        panic!("an end has none of these")
                    }
                }
            }
        }
    }

    #[test]
    fn a_sealed_end_neither_sends_nor_takes_anything_in_the_clear() {
        let mut sealed = end(Side::Source, Gate::Open);
        sealed.seal = Some(proto_model::Seal { keys: vec![proto_model::SealKey([7; 32])] });
        let entries = entries(&sealed, &address(1), WAYS);
        let keys_of: Vec<_> = entries.iter().map(Entry::key).collect();
        assert_eq!(keys_of, keys(&sealed, &address(1)));
        assert_eq!(keys_of[0], EntryKey::Seal(7));
        for entry in &entries {
            match entry {
                Entry::Seal(seal) => assert_eq!((seal.slot, seal.keys.len()), (9, 1)),
                Entry::Flow(flow) => assert!(flow.sealed),
                Entry::Label(Label { action: LabelAction::Deliver { sealed, .. }, .. }) => assert!(sealed),
                Entry::Label(_)
                | Entry::Route(_)
                | Entry::Shaper(_)
                | Entry::Meter(_)
                | Entry::Class(_)
                | Entry::NextHop(_)
                | Entry::Eni(_)
                | Entry::Rules(_)
                | Entry::Peer(_)
                | Entry::Trace(_) => continue,
            }
            let needs_key = crate::lower::needs(entry).contains(&EntryKey::Seal(7));
            assert_eq!(needs_key, !matches!(entry, Entry::Seal(_)));
        }
        sealed.leg = Leg::Local { resource: "db".parse().expect("a name"), label: label(12) };
        assert!(super::entries(&sealed, &address(1), WAYS).iter().all(|e| !matches!(e, Entry::Seal(_))));
    }

    #[test]
    fn an_end_on_the_same_host_needs_no_label_entry() {
        let mut local = end(Side::Source, Gate::Open);
        local.leg = Leg::Local { resource: "db".parse().expect("a name"), label: label(12) };
        let entries = entries(&local, &address(1), Ways::default());
        assert_eq!(entries.len(), 3);
        for entry in &entries {
            if let Entry::Flow(flow) = entry {
                assert_eq!((flow.slot, &flow.target), (12, &Target::Eni(HostSide::of(&address(2)))));
            }
        }
    }
}
