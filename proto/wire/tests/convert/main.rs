//! What is written can be read back, and whatever bytes come, reading them ends in a value or a named fault.
mod bounds;
mod decisions;
mod ends;
mod insights;
mod shortages;
mod speech;
mod together;
mod words;

use proptest::prelude::*;
use prost::Message as _;
use proto_model::NodeName;
use proto_model::desired::Tell;
use proto_model::insight::Series;
use proto_model::plan::{Discovery, Plan};
use proto_model::report::{DropCount, Say};
use proto_model::request::{
    CircuitRef, CircuitRequest, CircuitView, Event, LinkView, NodeView, PolicyView, Request, ResourceView,
    RuleChange, StatusView,
};
use proto_model::rule::{RuleSet, RuleSpec};
use proto_model::shortage::Shortage;
use proto_model::together::Placement;
use proto_wire::convert::Malformed;
use proto_wire::convert::requests::{Awaited, Message};
use proto_wire::v1;
use std::time::Duration;

/// Through the bytes on the wire and back.
fn travelled<Wire: prost::Message + Default>(message: &Wire) -> Wire {
    Wire::decode(message.encode_to_vec().as_slice()).expect("what was encoded can be decoded")
}

macro_rules! round_trips {
    ($($claim:ident: $strategy:expr, $wire:ty => $model:ty;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(300))]
            $(#[test]
            fn $claim(value in $strategy) {
                let wire = <$wire>::from(value.clone());
                prop_assert_eq!(<$model>::try_from(travelled(&wire)), Ok(value));
            })+
        }
    };
}

round_trips! {
    what_an_agent_says_arrives: speech::say(), v1::Say => Say;
    what_an_agent_is_told_arrives: speech::tell(), v1::Tell => Tell;
    a_rule_arrives: ends::wish(), v1::Rule => RuleSpec;
    a_rule_set_arrives: ends::rule_set(), v1::RuleSet => RuleSet;
    a_shown_rule_set_arrives: ends::shown_rule_set(), v1::RuleSetView => RuleSet;
    a_rule_change_arrives: words::rule_change(), v1::UpdateFirewallRuleRequest => RuleChange;
    a_circuit_request_arrives: words::circuit_request(), v1::CircuitSpec => CircuitRequest;
    a_circuit_arrives: words::circuit_view(), v1::Circuit => CircuitView;
    a_resource_arrives: words::resource_view(), v1::Resource => ResourceView;
    a_plan_arrives: decisions::plan(), v1::Plan => Plan;
    a_placement_arrives: together::placement(), v1::PlaceCircuitsResponse => Placement;
    a_series_arrives: insights::series(), v1::Series => Series;
    a_discovery_arrives: decisions::discovery(), v1::discover_resources_response::Discovery => Discovery;
    a_node_arrives: words::node_view(), v1::Node => NodeView;
    a_link_arrives: words::link_view(), v1::Link => LinkView;
    a_shortage_arrives: shortages::shortage(), v1::Shortage => Shortage;
    the_status_arrives: words::status_view(), v1::Status => StatusView;
    a_policy_arrives: ends::policy_view(), v1::PolicyView => PolicyView;
    a_drop_count_arrives: speech::drop_count(), v1::DropCount => DropCount;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_event_arrives(event in words::event()) {
        let wire = v1::Event::from(event.clone());
        prop_assert_eq!(Option::<Event>::try_from(travelled(&wire)), Ok(Some(event)));
    }

    #[test]
    fn a_request_arrives(request in words::request(), seconds in 0..600_u64) {
        let waits = matches!(
            request,
            Request::CreateCircuit { .. }
                | Request::DeleteCircuit { .. }
                | Request::UpdateFirewallRule(_)
                | Request::SetPolicy(_)
        );
        let wait = Duration::from_secs(if waits { seconds } else { 0 });
        let sent = Awaited { request, wait };
        let message = Message::try_from(sent.clone()).expect("has a message");
        prop_assert_eq!(arrived(message), Ok(sent));
    }

    #[test]
    fn any_bytes_become_a_value_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        read_as_everything(&bytes);
    }

    /// Random bytes seldom get past the first field: so valid messages with a few wrong bytes too.
    #[test]
    fn damaged_messages_become_a_value_or_a_fault(
        say in speech::say(),
        tell in speech::tell(),
        view in words::circuit_view(),
        plan in decisions::plan(),
        request in words::circuit_request(),
        wrong in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let create = v1::CreateCircuitRequest { circuit: Some(request.into()), ..Default::default() };
        let messages = [
            v1::Say::from(say).encode_to_vec(),
            v1::Tell::from(tell).encode_to_vec(),
            v1::Circuit::from(view).encode_to_vec(),
            v1::Plan::from(plan).encode_to_vec(),
            create.encode_to_vec(),
        ];
        for mut bytes in messages {
            for (at, value) in wrong.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            read_as_everything(&bytes);
        }
    }
}

fn arrived(message: Message) -> Result<Awaited, Malformed> {
    let now = |request| Awaited { request, wait: Duration::ZERO };
    match message {
        Message::RegisterResource(wire) => travelled(&wire).try_into().map(now),
        Message::UpdateResourceStatus(wire) => travelled(&wire).try_into().map(now),
        Message::RemoveResource(wire) => travelled(&wire).try_into().map(now),
        Message::GetResource(wire) => travelled(&wire).try_into().map(now),
        Message::DiscoverResources(wire) => travelled(&wire).try_into().map(now),
        Message::CreateCircuit(wire) => travelled(&wire).try_into(),
        Message::PlanCircuit(wire) => travelled(&wire).try_into().map(now),
        Message::PlaceCircuits(wire) => travelled(&wire).try_into().map(now),
        Message::DeleteCircuit(wire) => travelled(&wire).try_into(),
        Message::UpdateFirewallRule(wire) => travelled(&wire).try_into(),
        Message::ExtendCircuit(wire) => travelled(&wire).try_into().map(now),
        Message::ConfirmRules(wire) => {
            CircuitRef::try_from(travelled(&wire)).map(|circuit| now(Request::ConfirmRules { circuit }))
        }
        Message::RollbackRules(wire) => {
            CircuitRef::try_from(travelled(&wire)).map(|circuit| now(Request::RollbackRules { circuit }))
        }
        Message::SetPolicy(wire) => travelled(&wire).try_into(),
        Message::GetPolicy(wire) => {
            NodeName::try_from(travelled(&wire)).map(|node| now(Request::GetPolicy { node }))
        }
        Message::ConfirmPolicy(wire) => {
            NodeName::try_from(travelled(&wire)).map(|node| now(Request::ConfirmPolicy { node }))
        }
        Message::RollbackPolicy(wire) => {
            NodeName::try_from(travelled(&wire)).map(|node| now(Request::RollbackPolicy { node }))
        }
        Message::RemoveNode(wire) => travelled(&wire).try_into().map(now),
        Message::Series(wire) => travelled(&wire).try_into().map(now),
        Message::ForgetLink(wire) => travelled(&wire).try_into().map(now),
        Message::ListDrops(wire) => travelled(&wire).try_into().map(now),
        Message::ListShortages(wire) => travelled(&wire).try_into().map(now),
        Message::SetLink(wire) => travelled(&wire).try_into().map(now),
        Message::Why(wire) => travelled(&wire).try_into().map(now),
        Message::Trace(wire) => travelled(&wire).try_into().map(now),
        Message::GetCircuit(_) | Message::ExplainCircuit(_) | Message::Nothing => {
            panic!("not among the requests")
        }
    }
}

fn read_as_everything(bytes: &[u8]) {
    fn read<Wire: prost::Message + Default, Model: TryFrom<Wire, Error = Malformed>>(bytes: &[u8]) {
        if let Ok(wire) = Wire::decode(bytes)
            && let Err(fault) = Model::try_from(wire)
        {
            assert!(!fault.what.is_empty(), "{fault:?}");
        }
    }
    read::<v1::Say, Say>(bytes);
    read::<v1::Tell, Tell>(bytes);
    read::<v1::RegisterResourceRequest, Request>(bytes);
    read::<v1::UpdateResourceStatusRequest, Request>(bytes);
    read::<v1::RemoveResourceRequest, Request>(bytes);
    read::<v1::GetResourceRequest, Request>(bytes);
    read::<v1::DiscoverResourcesRequest, Request>(bytes);
    read::<v1::CreateCircuitRequest, Awaited>(bytes);
    read::<v1::PlanCircuitRequest, Request>(bytes);
    read::<v1::DeleteCircuitRequest, Awaited>(bytes);
    read::<v1::UpdateFirewallRuleRequest, Awaited>(bytes);
    read::<v1::UpdateFirewallRuleRequest, Request>(bytes);
    read::<v1::RemoveNodeRequest, Request>(bytes);
    read::<v1::SetPolicyRequest, Awaited>(bytes);
    read::<v1::SetLinkRequest, Request>(bytes);
    read::<v1::CreateTokenRequest, proto_wire::convert::requests::TokenWish>(bytes);
    read::<v1::CreateClientRequest, proto_wire::convert::requests::ClientWish>(bytes);
    read::<v1::WatchDropsRequest, proto_wire::convert::requests::DropInterest>(bytes);
    read::<v1::EnrolRequest, proto_wire::convert::requests::Enrolling>(bytes);
    read::<v1::RenewRequest, Vec<u8>>(bytes);
    read::<v1::Circuit, CircuitView>(bytes);
    read::<v1::Resource, ResourceView>(bytes);
    read::<v1::Plan, Plan>(bytes);
    read::<v1::Series, Series>(bytes);
    read::<v1::SeriesRequest, Request>(bytes);
    read::<v1::Node, NodeView>(bytes);
    read::<v1::Link, LinkView>(bytes);
    read::<v1::Event, Option<Event>>(bytes);
    read::<v1::discover_resources_response::Discovery, Discovery>(bytes);
}

/// The field and a part of what is said of it.
fn fault<Wire, Model: TryFrom<Wire, Error = Malformed> + std::fmt::Debug>(wire: Wire) -> (String, String) {
    let fault = Model::try_from(wire).expect_err("malformed");
    (fault.field, fault.what)
}

fn spec() -> v1::CircuitSpec {
    v1::CircuitSpec { source: "web".into(), destination: "db".into(), ..Default::default() }
}

#[track_caller]
fn refused(spec: v1::CircuitSpec, field: &str, part: &str) {
    let request = v1::CreateCircuitRequest { circuit: Some(spec), ..Default::default() };
    let (at, what) = fault::<_, Awaited>(request);
    assert_eq!(at, field, "{what}");
    assert!(what.contains(part), "{what}");
}

#[test]
fn faults_of_a_circuit_name_the_field_the_number_and_the_limit() {
    let bounds = |bounds: v1::Bounds| v1::CircuitSpec { bounds: Some(bounds), ..spec() };
    let none = v1::Bounds::default;
    refused(v1::CircuitSpec { name: "c42".into(), ..spec() }, "circuit.name", "c42");
    refused(v1::CircuitSpec { source: String::new(), ..spec() }, "circuit.source", "empty");
    refused(v1::CircuitSpec { destination: "web".into(), ..spec() }, "circuit.destination", "two ends");
    refused(v1::CircuitSpec { priority: 256, ..spec() }, "circuit.priority", "256 is not between 0 and 255");
    refused(v1::CircuitSpec { path: vec!["a".into(), "a".into()], ..spec() }, "circuit.path[1]", "twice");
    refused(v1::CircuitSpec { path: vec!["a".into(); 18], ..spec() }, "circuit.path", "at most 17");
    refused(
        v1::CircuitSpec { rules: vec![v1::Rule::default(); 257], ..spec() },
        "circuit.rules",
        "at most 256",
    );
    refused(
        bounds(v1::Bounds { bandwidth: u64::MAX, ..none() }),
        "circuit.bounds.bandwidth",
        "10000000000000 bit/s",
    );
    refused(
        bounds(v1::Bounds { max_loss: Some(1_000_001), ..none() }),
        "circuit.bounds.max_loss",
        "1000001 ppm is not between 0 and 1000000 ppm",
    );
    refused(
        bounds(v1::Bounds { max_hops: Some(0), ..none() }),
        "circuit.bounds.max_hops",
        "between 1 and 16",
    );
    let both = v1::Bounds { via: vec!["x".into()], avoid: vec!["x".into()], ..none() };
    refused(bounds(both), "circuit.bounds.via", "avoid");
    refused(
        bounds(v1::Bounds { avoid: vec!["ok".into(), "Bad".into()], ..none() }),
        "circuit.bounds.avoid[1]",
        "a-z",
    );
    let long =
        v1::CreateCircuitRequest { circuit: Some(spec()), wait: 601_000_000_000, ..Default::default() };
    assert_eq!(fault::<_, Awaited>(long).0, "wait");
    let key = v1::CreateCircuitRequest { circuit: Some(spec()), idempotency_key: "k".repeat(129), wait: 0 };
    assert!(fault::<_, Awaited>(key).1.contains("at most 128"));
}

#[test]
fn faults_of_a_rule_name_what_is_wrong() {
    let allow = || v1::Rule { action: v1::rule::Action::Allow.into(), ..Default::default() };
    let ports = |from, to| Some(v1::rule::Ports { from, to });
    let tcp = v1::rule::Protocol::Tcp.into();
    for (rule, field, part) in [
        (v1::Rule::default(), "action", "missing"),
        (v1::Rule { id: 3, ..allow() }, "id", "send 0"),
        (v1::Rule { action: 9, ..allow() }, "action", "9 is none of"),
        (v1::Rule { opener: 9, ..allow() }, "opener", "9 is none of"),
        (v1::Rule { protocol: 9, ..allow() }, "protocol", "9 is none of"),
        (v1::Rule { protocol: tcp, protocol_number: 6, ..allow() }, "protocol_number", "not PROTOCOL_NUMBER"),
        (v1::Rule { protocol: 5, protocol_number: 300, ..allow() }, "protocol_number", "between 0 and 255"),
        (v1::Rule { protocol: 5, protocol_number: 6, ..allow() }, "", "has a name"),
        (v1::Rule { protocol: tcp, ports: ports(0, 65536), ..allow() }, "ports.to", "65535"),
        (v1::Rule { protocol: tcp, ports: ports(9, 3), ..allow() }, "", "empty"),
        (v1::Rule { protocol: 4, ports: ports(0, 256), ..allow() }, "", "end at 255"),
        (v1::Rule { source: "10.0.0.0/33".into(), ..allow() }, "source", "not a prefix"),
        (v1::Rule { source: "10.0.0.0/8".into(), destination: "fd00::/8".into(), ..allow() }, "", "families"),
    ] {
        let (at, what) = fault::<_, RuleSpec>(rule);
        assert_eq!(at, field, "{what}");
        assert!(what.contains(part), "{what}");
    }
    let twice = v1::Rule { id: 1, ..allow() };
    let set = v1::RuleSet { circuit: 1, version: 1, rules: vec![twice.clone(), twice], revert: None };
    assert!(fault::<_, RuleSet>(set).1.contains("number 1"));
}

#[test]
fn faults_inside_an_agents_words_are_located() {
    let underlay = |underlay: v1::Underlay| v1::Say {
        say: Some(v1::say::Say::Hello(v1::Hello { underlays: vec![underlay], ..Default::default() })),
    };
    let good = || v1::Underlay {
        interface: "eth0".into(),
        network: "lan".into(),
        addresses: vec!["10.0.0.1".into()],
        mtu: 1500,
        speed: None,
        shape: false,
    };
    assert!(Say::try_from(underlay(good())).is_ok());
    for (bad, field) in [
        (
            v1::Underlay { interface: "a-name-that-is-too-long".into(), ..good() },
            "hello.underlays[0].interface",
        ),
        (v1::Underlay { interface: "a/b".into(), ..good() }, "hello.underlays[0].interface"),
        (v1::Underlay { mtu: 575, ..good() }, "hello.underlays[0].mtu"),
        (v1::Underlay { addresses: vec!["224.0.0.1".into()], ..good() }, "hello.underlays[0].addresses[0]"),
        (v1::Underlay { addresses: vec!["10.0.0.1".into(); 65], ..good() }, "hello.underlays[0].addresses"),
        (v1::Underlay { speed: Some(u64::MAX), ..good() }, "hello.underlays[0].speed"),
    ] {
        assert_eq!(fault::<_, Say>(underlay(bad)).0, field);
    }
    let hop = v1::Hop {
        circuit: 1,
        from_side: 1,
        receive: Some(v1::Receive { label: 1 << 24, local: "10.0.0.1".into(), from: "10.0.0.2".into() }),
        send: None,
        reserved: 0,
    };
    let tell = v1::Tell {
        tell: Some(v1::tell::Tell::Whole(v1::tell::Whole {
            generation: 1,
            objects: vec![v1::Object { object: Some(v1::object::Object::Hop(hop)) }],
        })),
    };
    let (field, what) = fault::<_, Tell>(tell);
    assert_eq!(field, "whole.objects[0].hop.receive.label");
    assert!(what.contains("16777215"), "{what}");
}

fn told(object: v1::object::Object) -> v1::Tell {
    let objects = vec![v1::Object { object: Some(object) }];
    v1::Tell { tell: Some(v1::tell::Tell::Whole(v1::tell::Whole { generation: 1, objects })) }
}

#[test]
fn faults_of_a_second_way_are_located() {
    let send =
        || v1::NextHop { node: "b".into(), local: "10.0.0.1".into(), remote: "10.0.0.2".into(), label: 7 };
    let receive = || v1::Receive { label: 8, local: "10.0.0.1".into(), from: "10.0.0.2".into() };
    let backup = || v1::endpoint::Backup {
        path: 2,
        send: Some(send()),
        receive: Some(receive()),
        max_rtt: None,
        max_loss: None,
    };
    let endpoint = |backup| {
        let tunnel = v1::endpoint::Tunnel {
            send: Some(send()),
            receive: vec![receive()],
            path: 1,
            backup: Some(backup),
        };
        told(v1::object::Object::Endpoint(v1::Endpoint {
            circuit: 1,
            side: 1,
            resource: "web".into(),
            remote: Some(v1::FabricAddress { v4: "100.64.0.1".into(), v6: "fd00::6440:1".into() }),
            leg: Some(v1::endpoint::Leg::Tunnel(tunnel)),
            gate_open: true,
            mtu: 1450,
            expires: 0,
            seal: None,
            reserved: 0,
            limit: None,
        }))
    };
    assert!(Tell::try_from(endpoint(backup())).is_ok());
    for (bad, field, part) in [
        (v1::endpoint::Backup { send: None, ..backup() }, "send", "missing"),
        (v1::endpoint::Backup { receive: None, ..backup() }, "receive", "missing"),
        (v1::endpoint::Backup { max_loss: Some(1_000_001), ..backup() }, "max_loss", "1000000 ppm"),
        (v1::endpoint::Backup { max_rtt: Some(u64::MAX), ..backup() }, "max_rtt", "3600000000000 ns"),
    ] {
        let (at, what) = fault::<_, Tell>(endpoint(bad));
        assert_eq!(at, format!("whole.objects[0].endpoint.tunnel.backup.{field}"));
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn faults_of_a_neighbour_and_of_measurements_are_located() {
    let link = || v1::LinkId { a: "a".into(), b: "b".into(), network: "wan".into() };
    let peer = || v1::Peer {
        link: Some(link()),
        local: "10.0.0.1".into(),
        remote: "10.0.0.2".into(),
        session: 1,
        capacity: None,
    };
    for (bad, field, part) in [
        (v1::Peer { session: 0, ..peer() }, "session", "0 is not between 1 and 65535"),
        (v1::Peer { session: 65_536, ..peer() }, "session", "65536"),
        (v1::Peer { remote: "fd00::2".into(), ..peer() }, "remote", "two address families"),
        (v1::Peer { link: None, ..peer() }, "link", "missing"),
    ] {
        let (at, what) = fault::<_, Tell>(told(v1::object::Object::Peer(bad)));
        assert_eq!(at, format!("whole.objects[0].peer.{field}"));
        assert!(what.contains(part), "{what}");
    }
    let telemetry = |count: usize, measured: v1::Measured| {
        let one = v1::telemetry::LinkMeasurement { link: Some(link()), measured: Some(measured) };
        let links = vec![one; count];
        v1::Say { say: Some(v1::say::Say::Telemetry(v1::Telemetry { links, ..Default::default() })) }
    };
    assert!(Say::try_from(telemetry(4096, v1::Measured::default())).is_ok());
    assert_eq!(fault::<_, Say>(telemetry(4097, v1::Measured::default())).0, "telemetry.links");
    let lossy = v1::Measured { loss_backward: 1_000_001, ..Default::default() };
    assert_eq!(fault::<_, Say>(telemetry(1, lossy)).0, "telemetry.links[0].measured.loss_backward");
}

#[test]
fn faults_of_what_interfaces_carried_are_located() {
    let carried = |count: usize, interface: &str| {
        let one = v1::telemetry::InterfaceBytes { interface: interface.into(), sent: u64::MAX, received: 0 };
        let interfaces = vec![one; count];
        v1::Say { say: Some(v1::say::Say::Telemetry(v1::Telemetry { interfaces, ..Default::default() })) }
    };
    assert!(Say::try_from(carried(64, "eth0")).is_ok());
    assert_eq!(fault::<_, Say>(carried(65, "eth0")).0, "telemetry.interfaces");
    assert_eq!(fault::<_, Say>(carried(1, "eth 0")).0, "telemetry.interfaces[0].interface");
}

#[test]
fn faults_of_a_switch_are_located() {
    let switched = |count: usize, switch: v1::Switch| v1::Say {
        say: Some(v1::say::Say::Switched(v1::Switches { switches: vec![switch; count] })),
    };
    let good = || v1::Switch { circuit: 1, side: 1, to_backup: true, why: "5 probes lost".into(), at: 1 };
    assert!(Say::try_from(switched(4096, good())).is_ok());
    for (say, field) in [
        (switched(4097, good()), "switched.switches"),
        (switched(1, v1::Switch { side: 0, ..good() }), "switched.switches[0].side"),
        (switched(1, v1::Switch { why: "x".repeat(1025), ..good() }), "switched.switches[0].why"),
    ] {
        assert_eq!(fault::<_, Say>(say).0, field);
    }
}

#[test]
fn long_sentences_are_cut_when_written_so_that_they_can_be_read() {
    let failure = proto_model::report::Failure {
        key: proto_model::desired::ObjectKey::Rules(proto_model::CircuitId(1)),
        why: "ü".repeat(5000),
    };
    let wire = v1::Failure::from(failure);
    assert!(wire.why.len() <= 1024 && wire.why.ends_with('…'));
    assert!(proto_model::report::Failure::try_from(wire).is_ok());
}
