//! What people see, from sample values.
mod circuits;
mod drops;
mod plans;

use controller_cli::show;
use proto_model::circuit::Path;
use proto_model::desired::{ObjectKey, Side};
use proto_model::intent::{Bounds, Intent};
use proto_model::report::Failure;
use proto_model::request::{LinkView, NodeView, ResourceView, StatusView};
use proto_model::resource::{Attachment, Form, Liveness, Metadata, Resource, Service, Status};
use proto_model::rule::Protocol;
use proto_model::topology::{LinkId, LinkValues, Measured, NodeState, Underlay};
use proto_model::{Bandwidth, CircuitId, FabricPrefix, Generation, Latency, Loss, NodeName, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
const NOW: Timestamp = Timestamp(1_000_000 * SECOND);

fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds * SECOND)
}

fn named<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

/// Tables without their colours.
fn bare(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn path(nodes: &[&str]) -> Path {
    let nodes: Vec<NodeName> = nodes.iter().map(|node| named(node)).collect();
    let link =
        |pair: &[NodeName]| LinkId::new(pair[0].clone(), pair[1].clone(), named("wan")).expect("two ends");
    let links = nodes.windows(2).map(link).collect();
    Path { nodes, links }
}

fn bounds() -> Bounds {
    Bounds {
        max_rtt: Some(Latency::from_millis(20)),
        bandwidth: Bandwidth::mbit(200),
        encrypted: true,
        ..Bounds::default()
    }
}

fn resource(name: &str, host: u32, status: Status, liveness: Liveness) -> ResourceView {
    ResourceView {
        resource: Resource {
            id: named(name),
            metadata: Metadata {
                form: Form::Container,
                node: named("edge-a"),
                attachment: Attachment::Named(name.into()),
                interface: Some("fabric0".into()),
                addresses: vec![named("192.168.1.10")],
                labels: BTreeMap::from([(named("tier"), "front".into())]),
                services: vec![Service { name: named("http"), protocol: Protocol::Tcp, port: 80 }],
            },
            intents: vec![Intent { service: named("db"), bounds: bounds(), priority: 2 }],
            status,
            address: FabricPrefix::default().address(host).expect("address"),
            lease: Some(Duration::from_secs(30)),
            registered: ago(7_200),
            renewed: ago(5),
        },
        liveness,
        circuits: vec![CircuitId(1), CircuitId(2)],
        trouble: String::new(),
    }
}

#[test]
fn resources_are_listed_and_shown() {
    let views = [
        resource("db", 2, Status::Draining, Liveness::Expired),
        resource("web", 1, Status::Up, Liveness::Alive),
    ];
    insta::assert_snapshot!("resources", bare(&show::resource::list(&views)));
    insta::assert_snapshot!("resource", show::resource::one(&views[0], NOW));
}

#[test]
fn nodes_and_links_are_listed_with_their_faults() {
    let node = NodeView {
        name: named("edge-a"),
        state: NodeState::Connected,
        underlays: vec![Underlay {
            interface: "eth0".into(),
            network: named("wan"),
            addresses: vec![named("192.0.2.1"), named("2001:db8::1")],
            mtu: 1500,
            speed: None,
            shape: false,
        }],
        datapath: vec!["eth0: tcx (veth loses segmentation offload under XDP)".into()],
        version: "0.1.0".into(),
        kernel: "6.18".into(),
        seen: Some(ago(2)),
        desired: Generation(8),
        reported: Generation(7),
        failures: vec![Failure {
            key: ObjectKey::Endpoint(CircuitId(1), Side::Source),
            why: "namespace web does not exist".into(),
        }],
        seal_keys: vec![proto_model::SealKey([7; 32])],
        policy_rules: 0,
        policy_pending: false,
    };
    let expected = NodeView {
        name: named("edge-b"),
        state: NodeState::Expected,
        underlays: Vec::new(),
        datapath: Vec::new(),
        seen: None,
        desired: Generation(0),
        reported: Generation(0),
        failures: Vec::new(),
        ..node.clone()
    };
    insta::assert_snapshot!("nodes", bare(&show::fabric::nodes(&[node, expected], NOW)));
    let rtt = Some(Latency::from_millis(4));
    let link = |usable: bool| LinkView {
        id: LinkId::new(named("b"), named("a"), named("wan")).expect("two ends"),
        values: LinkValues { rtt, tags: [named("eu")].into(), ..LinkValues::default() },
        capacity: usable.then(|| Bandwidth::mbit(1_000)),
        reserved: Bandwidth::mbit(200),
        usable,
        why: if usable { String::new() } else { "b is lost".into() },
        measured: if usable { measured() } else { Vec::new() },
        forecasts: Vec::new(),
        load: if usable { [Some(Bandwidth::mbit(70)), Some(Bandwidth::mbit(550))] } else { [None; 2] },
        available: usable.then(|| Bandwidth::mbit(450)),
        others: if usable { Bandwidth::mbit(400) } else { Bandwidth::ZERO },
        others_expected: usable,
    };
    insta::assert_snapshot!("links", bare(&show::link::list(&[link(true), link(false)])));
    insta::assert_snapshot!("link", bare(&show::link::all(&[link(true)])));
}

/// Of b one probe only, which was lost.
fn measured() -> Vec<(NodeName, Measured)> {
    let by_a = Measured {
        probes: 50,
        rtt_min: Latency::from_micros(3_900),
        rtt_mean: Latency::from_micros(4_100),
        rtt_max: Latency::from_micros(9_250),
        variation_forward: Latency::from_micros(120),
        variation_backward: Latency::from_micros(80),
        loss_forward: Loss::from_ppm(20_000),
        loss_backward: Loss::NONE,
    };
    let by_b = Measured { probes: 1, loss_backward: Loss::ALL, ..Measured::default() };
    vec![(named("a"), by_a), (named("b"), by_b)]
}

#[test]
fn a_status_fits_on_a_screen() {
    let status = StatusView {
        version: "0.1.0".into(),
        nodes_connected: 3,
        nodes: 4,
        resources: 2,
        circuits_active: 1,
        circuits: 2,
        circuits_silent: 0,
        started: ago(300),
    };
    insta::assert_snapshot!(show::fabric::status(&status, "home", NOW));
}

#[test]
fn empty_lists_say_how_to_fill_them() {
    for (text, way) in [
        (show::circuit::list(&[]), "circuit create"),
        (show::resource::list(&[]), "resource register"),
        (show::fabric::nodes(&[], NOW), "node add"),
        (show::link::list(&[]), "underlay network"),
        (show::discovery::all(&[]), "--service"),
        (show::rule::list(&[]), "default deny"),
    ] {
        assert!(text.contains(way), "{text}");
    }
}
