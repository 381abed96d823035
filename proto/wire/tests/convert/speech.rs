//! What controller and agents say to each other, at random.
use crate::ends::{moment, policy, rule_set};
use crate::words::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proto_model::desired::Share;
use proto_model::desired::{
    Backup, Change, Endpoint, Eni, Gate, Hop, Leg, NextHop, Object, ObjectKey, Peer, Receive, Side, Tell,
    Trace,
};
use proto_model::query::{
    Answer, Body, Connection, Fate, PACKET, Packet, QueryId, Question, Ran, Sealing, Sent, Tunnel,
};
use proto_model::report::{Carried, DropCount, DropEvent, Hello, Report, Say, Switch, Telemetry, Way};
use proto_model::topology::Measured;
use proto_model::trace::{Act, Filter, Hook, SNAPLEN, Traced};
use proto_model::{Generation, PathId, Seal};

pub(crate) fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Source), Just(Side::Destination)]
}

pub(crate) fn object_key() -> impl Strategy<Value = ObjectKey> {
    prop_oneof![
        resource_id().prop_map(ObjectKey::Eni),
        (circuit_id(), side()).prop_map(|(circuit, side)| ObjectKey::Endpoint(circuit, side)),
        label().prop_map(ObjectKey::Hop),
        circuit_id().prop_map(ObjectKey::Rules),
        link_id().prop_map(ObjectKey::Peer),
        circuit_id().prop_map(ObjectKey::Trace),
        Just(ObjectKey::Policy),
        interface().prop_map(ObjectKey::Queues),
    ]
}

pub(crate) fn next_hop() -> impl Strategy<Value = NextHop> {
    (node(), address_pair(), label()).prop_map(|(node, (local, remote), label)| NextHop {
        node,
        local,
        remote,
        label,
    })
}

pub(crate) fn receive() -> impl Strategy<Value = Receive> {
    (label(), address_pair()).prop_map(|(label, (local, from))| Receive { label, local, from })
}

fn backup() -> impl Strategy<Value = Backup> {
    (any::<u64>(), next_hop(), receive(), of(latency()), of(loss())).prop_map(
        |(path, send, receive, max_rtt, max_loss)| Backup {
            path: PathId(path),
            send,
            receive,
            max_rtt,
            max_loss,
        },
    )
}

fn peer() -> impl Strategy<Value = Peer> {
    (link_id(), address_pair(), 1..=u16::MAX, of(bandwidth())).prop_map(
        |(link, (local, remote), session, capacity)| Peer { link, local, remote, session, capacity },
    )
}

pub(crate) fn trace() -> impl Strategy<Value = Trace> {
    (circuit_id(), timestamp(), filter(), 0..=SNAPLEN)
        .prop_map(|(circuit, until, filter, snaplen)| Trace { circuit, until, filter, snaplen })
        .boxed()
}

pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        of(prop_oneof![Just(6u8), Just(17)])
            .prop_flat_map(|protocol| { of(1..=u16::MAX).prop_map(move |port| Filter { protocol, port }) }),
        (0u8..58).prop_map(|number| Filter { protocol: Some(number), port: None }),
    ]
    .boxed()
}

fn packet() -> impl Strategy<Value = Packet> {
    let body = prop_oneof![
        any::<(u16, u16, bool)>().prop_map(|(source, destination, answer)| Body::Tcp {
            source,
            destination,
            answer
        }),
        any::<(u16, u16)>().prop_map(|(source, destination)| Body::Udp { source, destination }),
        any::<(u16, bool)>().prop_map(|(id, answer)| Body::Echo { id, answer }),
        (59u8..).prop_map(Body::Other),
    ];
    (address_pair(), body, of(1..=PACKET))
        .prop_map(|((source, destination), body, size)| Packet { source, destination, body, size })
        .boxed()
}

pub(crate) fn question() -> impl Strategy<Value = Question> {
    prop_oneof![
        (fabric_address(), packet()).prop_map(|(workload, packet)| Question::Sent { workload, packet }),
        (vec(any::<u8>(), 0..90), packet()).prop_map(|(frame, packet)| Question::Arrives { frame, packet }),
        (fabric_address(), address_pair(), label(), packet()).prop_map(
            |(workload, (source, destination), label, packet)| Question::Enters {
                workload,
                tunnel: Tunnel { source, destination, label },
                packet,
            }
        ),
    ]
    .boxed()
}

pub(crate) fn ran() -> impl Strategy<Value = Ran> {
    let way = prop_oneof![Just(None), Just(Some(Way::Primary)), Just(Some(Way::Backup))];
    let sent = (interface(), address_pair(), label(), way, vec(any::<u8>(), 0..90)).prop_map(
        |(interface, (local, remote), label, way, frame)| {
            Fate::Sent(Sent { interface, local, remote, label, way, frame })
        },
    );
    let fate = prop_oneof![
        sent,
        interface().prop_map(|interface| Fate::Delivered { interface }),
        ("[a-z_]{0,30}", sentence(), of(1..=u16::MAX)).prop_map(|(reason, text, room)| Fate::Dropped {
            reason,
            text,
            room
        }),
        Just(Fate::NotOurs),
    ];
    let connection = prop_oneof![
        Just(Connection::None),
        Just(Connection::WouldOpen),
        Just(Connection::Opening),
        Just(Connection::Established),
        Just(Connection::Closing),
    ];
    let sealing = prop_oneof![Just(Sealing::Clear), Just(Sealing::Sealed), Just(Sealing::NoSession)];
    let said = (connection, sealing, fate);
    ("[a-z_]{0,30}", interface(), of(label()), of(circuit_id()), any::<u32>(), said)
        .prop_map(|(program, interface, label, circuit, rule, (connection, sealing, fate))| Ran {
            program,
            interface,
            label,
            circuit,
            rule,
            connection,
            sealing,
            fate,
        })
        .boxed()
}

fn traced() -> impl Strategy<Value = Traced> {
    let act = prop_oneof![
        Just(Act::Entered),
        Just(Act::PassedOn),
        Just(Act::Delivered),
        ("[a-z_]{0,30}", any::<u32>()).prop_map(|(reason, rule)| Act::Dropped { reason, rule }),
    ];
    let hook = prop_oneof![Just(Hook::Eni), Just(Hook::Tcx), Just(Hook::Xdp), Just(Hook::Seal)];
    let place = (timestamp(), circuit_id(), hook, act, interface(), any::<bool>());
    let ends = (of(address()), of(address()), of(label()), of(label()));
    let numbers = any::<(u64, u8, u16, u16, u32, u32, u64)>();
    (place, ends, numbers, vec(any::<u8>(), 0..90))
        .prop_map(|(place, ends, numbers, bytes)| {
            let (at, circuit, hook, act, interface, sealed) = place;
            let (source, destination, label, out_label) = ends;
            let (identity, protocol, source_port, destination_port, length, segment, missed) = numbers;
            Traced {
                at,
                circuit,
                hook,
                act,
                interface,
                label,
                out_label,
                identity,
                source,
                destination,
                protocol,
                source_port,
                destination_port,
                sealed,
                length,
                segment,
                missed,
                bytes,
            }
        })
        .boxed()
}

pub(crate) fn measured() -> impl Strategy<Value = Measured> {
    let rtts = (latency(), latency(), latency());
    (any::<u32>(), rtts, (latency(), latency()), (loss(), loss())).prop_map(
        |(probes, (rtt_min, rtt_mean, rtt_max), variation, loss)| Measured {
            probes,
            rtt_min,
            rtt_mean,
            rtt_max,
            variation_forward: variation.0,
            variation_backward: variation.1,
            loss_forward: loss.0,
            loss_backward: loss.1,
        },
    )
}

pub(crate) fn switch() -> impl Strategy<Value = Switch> {
    (circuit_id(), side(), any::<bool>(), sentence(), timestamp()).prop_map(
        |(circuit, side, backup, why, at)| Switch {
            circuit,
            side,
            to: if backup { Way::Backup } else { Way::Primary },
            why,
            at,
        },
    )
}

pub(crate) fn object() -> impl Strategy<Value = Object> {
    let eni = (resource_id(), attachment(), interface(), fabric_address(), 1280..=u16::MAX).prop_map(
        |(resource, attachment, interface, address, mtu)| Eni {
            resource,
            attachment,
            interface,
            address,
            mtu,
        },
    );
    let leg = prop_oneof![
        (any::<u64>(), next_hop(), vec(receive(), 1..=2), of(backup())).prop_map(
            |(path, send, receive, backup)| Leg::Tunnel {
                path: PathId(path),
                send,
                receive,
                backup: backup.map(Box::new)
            }
        ),
        (resource_id(), label()).prop_map(|(resource, label)| Leg::Local { resource, label }),
    ];
    let gate = (any::<bool>(), any::<u16>(), of(moment()), bandwidth(), of(bandwidth()));
    let seal = of(seal_keys(1).prop_map(|keys| Seal { keys }));
    let endpoint = (circuit_id(), side(), resource_id(), fabric_address(), leg, gate, seal).prop_map(
        |(circuit, side, resource, remote, leg, (open, mtu, expires, reserved, limit), seal)| Endpoint {
            circuit,
            side,
            resource,
            remote,
            leg,
            gate: if open { Gate::Open } else { Gate::Closed },
            mtu,
            expires,
            seal,
            share: Share { reserved, limit },
        },
    );
    let hop = (circuit_id(), side(), receive(), next_hop(), bandwidth()).prop_map(
        |(circuit, from_side, receive, send, reserved)| Hop { circuit, from_side, receive, send, reserved },
    );
    // Boxed, as what contains it is: values of nested strategies are as large as all of their kinds together, and fill
    // the stack of a test's thread.
    prop_oneof![
        eni.boxed().prop_map(Object::Eni),
        endpoint.boxed().prop_map(Object::Endpoint),
        hop.boxed().prop_map(Object::Hop),
        rule_set().prop_map(Object::Rules),
        peer().prop_map(Object::Peer),
        trace().prop_map(Object::Trace).boxed(),
        policy().prop_map(Object::Policy),
    ]
    .boxed()
}

pub(crate) fn tell() -> impl Strategy<Value = Tell> {
    let change = prop_oneof![object().prop_map(Change::Put), object_key().prop_map(Change::Remove)];
    prop_oneof![
        (any::<u64>(), vec(object(), 0..5))
            .prop_map(|(generation, objects)| Tell::Whole { generation: Generation(generation), objects }),
        (any::<(u64, u64)>(), vec(change, 0..5)).prop_map(|((from, to), changes)| Tell::Changes {
            from: Generation(from),
            to: Generation(to),
            changes,
        }),
        (any::<u64>(), question())
            .prop_map(|(query, question)| Tell::Ask { query: QueryId(query), question }),
    ]
    .boxed()
}

pub(crate) fn drop_count() -> impl Strategy<Value = DropCount> {
    (of(circuit_id()), "[a-z_]{0,30}", any::<(u32, u64, u64)>()).prop_map(
        |(circuit, reason, (rule, packets, bytes))| DropCount { circuit, reason, rule, packets, bytes },
    )
}

pub(crate) fn carried() -> impl Strategy<Value = Carried> {
    (interface(), any::<[u64; 2]>()).prop_map(|(interface, [sent_bytes, received_bytes])| Carried {
        interface,
        sent_bytes,
        received_bytes,
    })
}

pub(crate) fn drop_event() -> impl Strategy<Value = DropEvent> {
    let ends = (of(address()), of(address()));
    let words = ("[a-z_]{0,30}", sentence(), interface());
    (timestamp(), of(circuit_id()), words, ends, any::<(u32, u8, u16, u16, u32, Option<u32>)>()).prop_map(
        |(at, circuit, (reason, text, interface), (source, destination), numbers)| {
            let (rule, protocol, source_port, destination_port, length, label) = numbers;
            DropEvent {
                at,
                circuit,
                reason,
                text,
                rule,
                interface,
                source,
                destination,
                protocol,
                source_port,
                destination_port,
                length,
                label,
            }
        },
    )
}

pub(crate) fn say() -> impl Strategy<Value = Say> {
    let sentences = vec(sentence(), 0..4);
    let hello = (sentence(), sentence(), sentence(), vec(underlay(), 0..4), sentences, seal_keys(0))
        .prop_map(|(version, kernel, boot, underlays, datapath, seal_keys)| Hello {
            version,
            kernel,
            boot,
            underlays,
            datapath,
            seal_keys,
        });
    let report = (any::<(u64, bool)>(), vec(failure(), 0..4), vec(object_key(), 0..4)).prop_map(
        |((generation, whole), failed, recovered)| Report {
            generation: Generation(generation),
            whole,
            failed,
            recovered,
        },
    );
    let links = vec((link_id(), measured()), 0..4);
    let traffic = vec((circuit_id(), traffic()), 0..4);
    let telemetry = (timestamp(), traffic, vec(drop_count(), 0..4), links, vec(carried(), 0..4)).prop_map(
        |(counted, traffic, drops, links, interfaces)| Telemetry {
            counted,
            traffic,
            drops,
            links,
            interfaces,
        },
    );
    prop_oneof![
        hello.prop_map(Say::Hello),
        report.prop_map(Say::Report),
        Just(Say::AskWhole),
        telemetry.prop_map(Say::Telemetry),
        vec(drop_event(), 0..4).prop_map(Say::Drops),
        vec(switch(), 0..4).prop_map(Say::Switched),
        (any::<u64>(), prop_oneof![ran().prop_map(Answer::Ran), sentence().prop_map(Answer::Unable)])
            .prop_map(|(query, answer)| Say::Answer { query: QueryId(query), answer }),
        vec(traced(), 0..4).prop_map(Say::Traced),
    ]
    .boxed()
}
