//! Desired objects in short words, for tests of the agent alone.
use proto_model::desired::{
    Backup, Change, Endpoint, Eni, Gate, Hop, Leg, NextHop, Object, Receive, Share, Side, Tell,
};
use proto_model::resource::Attachment;
use proto_model::rule::{Rule, RuleSet};
use proto_model::{Bandwidth, CircuitId, FabricAddress, FabricPrefix, Generation, Label, PathId, ResourceId};
use std::net::IpAddr;

pub fn address(host: u32) -> FabricAddress {
    FabricPrefix::default().address(host).expect("within the prefix")
}

pub fn resource(host: u32) -> ResourceId {
    format!("r{host}").parse().expect("a name")
}

pub fn place(host: u32) -> Attachment {
    Attachment::Named(format!("ns{host}"))
}

/// The interface of resource `host`, in the namespace of the same number.
pub fn eni(host: u32) -> Eni {
    Eni {
        resource: resource(host),
        attachment: place(host),
        interface: format!("fw{host}"),
        address: address(host),
        mtu: 1_450,
    }
}

pub fn label(value: u32) -> Label {
    Label::new(value).expect("a label")
}

/// This host.
pub fn here() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// Neighbour number `n`.
pub fn there(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

pub fn send(neighbour: u8, to: u32) -> NextHop {
    NextHop {
        node: format!("n{neighbour}").parse().expect("a name"),
        local: here(),
        remote: there(neighbour),
        label: label(to),
    }
}

pub fn receive(neighbour: u8, under: u32) -> Receive {
    Receive { label: label(under), local: here(), from: there(neighbour) }
}

/// The source end of a circuit from resource `own` here to `far` elsewhere, through a neighbour.
pub fn end(circuit: u64, own: u32, far: u32, neighbour: u8, gate: Gate) -> Endpoint {
    let number = u32::try_from(circuit).expect("a small number");
    Endpoint {
        circuit: CircuitId(circuit),
        side: Side::Source,
        resource: resource(own),
        remote: address(far),
        leg: tunnel(send(neighbour, 1_000 + number), vec![receive(neighbour, number)]),
        gate,
        mtu: 1_450,
        expires: None,
        seal: None,
        share: Share::default(),
    }
}

/// By one way only; its path is known by the next hop.
pub fn tunnel(send: NextHop, receive: Vec<Receive>) -> Leg {
    let IpAddr::V4(v4) = send.remote else { panic!("neighbours have IPv4 addresses") };
    Leg::Tunnel { path: PathId(u64::from(v4.octets()[3])), send, receive, backup: None }
}

/// The same end with a second way through `neighbour`.
pub fn protected(mut end: Endpoint, neighbour: u8) -> Endpoint {
    let number = u32::try_from(end.circuit.0).expect("a small number");
    if let Leg::Tunnel { backup, .. } = &mut end.leg {
        *backup = Some(Box::new(Backup {
            path: PathId(neighbour.into()),
            send: send(neighbour, 3_000 + number),
            receive: receive(neighbour, 2_000 + number),
            max_rtt: None,
            max_loss: None,
        }));
    }
    end
}

/// Both ends of a circuit that stays on this host.
pub fn local(circuit: u64, source: u32, destination: u32, gate: Gate) -> [Object; 2] {
    let number = u32::try_from(circuit).expect("a small number");
    [
        (Side::Source, source, destination, number * 2),
        (Side::Destination, destination, source, number * 2 + 1),
    ]
    .map(|(side, own, far, counter)| {
        let leg = Leg::Local { resource: resource(far), label: label(counter) };
        Object::Endpoint(Endpoint {
            circuit: CircuitId(circuit),
            side,
            resource: resource(own),
            remote: address(far),
            leg,
            gate,
            mtu: 1_500,
            expires: None,
            seal: None,
            share: Share::default(),
        })
    })
}

pub fn hop(circuit: u64, from: u8, under: u32, to: u8, out: u32) -> Object {
    Object::Hop(Hop {
        circuit: CircuitId(circuit),
        from_side: Side::Source,
        receive: receive(from, under),
        send: send(to, out),
        reserved: Bandwidth::ZERO,
    })
}

pub fn rules(circuit: u64, version: u32, texts: &[&str]) -> Object {
    let rule = |(i, text): (usize, &&str)| Rule {
        id: u32::try_from(i).unwrap_or(0) + 1,
        spec: text.parse().expect("a rule"),
    };
    Object::Rules(RuleSet {
        circuit: CircuitId(circuit),
        version,
        rules: texts.iter().enumerate().map(rule).collect(),
        revert: None,
    })
}

pub fn whole(generation: u64, objects: &[Object]) -> Tell {
    Tell::Whole { generation: Generation(generation), objects: objects.to_vec() }
}

pub fn changes(from: u64, changes: Vec<Change>) -> Tell {
    Tell::Changes { from: Generation(from), to: Generation(from + 1), changes }
}
