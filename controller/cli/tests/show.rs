//! What people see, from sample values.
use controller_cli::show;
use proto_model::circuit::{Circuit, CircuitSpec, CircuitState, Path};
use proto_model::desired::{ObjectKey, Side};
use proto_model::intent::{Bounds, Intent};
use proto_model::plan::{
    Candidate, Discovery, Feasible, Found, HostChange, LeftOut, Offer, Plan, Term, Weights,
};
use proto_model::report::{DropCount, DropEvent, Failure, Traffic};
use proto_model::request::{CircuitView, LinkView, NodeView, PolicyView, ResourceView, StatusView};
use proto_model::resource::{Attachment, Form, Liveness, Metadata, Resource, Service, Status};
use proto_model::rule::{Protocol, Rule};
use proto_model::topology::{LinkId, LinkValues, Measured, NodeState, Underlay};
use proto_model::{
    Bandwidth, CircuitId, FabricPrefix, Generation, Latency, Loss, NodeName, Price, Timestamp,
};
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

fn rules() -> Vec<Rule> {
    [(1, "allow tcp/5432"), (4, "deny udp/1000-2000 reverse")]
        .map(|(id, text)| Rule { id, spec: named(text) })
        .to_vec()
}

fn circuit(id: u64, state: CircuitState) -> CircuitView {
    let suspended = matches!(state, CircuitState::Suspended { .. });
    let at_source =
        Traffic { sent_packets: 1_000, sent_bytes: 1_500_000, received_packets: 10, received_bytes: 640 };
    CircuitView {
        circuit: Circuit {
            id: CircuitId(id),
            spec: CircuitSpec {
                name: named(&format!("web-db-{id}")),
                source: named("web"),
                destination: named("db"),
                bounds: if id == 1 { bounds() } else { Bounds::default() },
                priority: 3,
                pinned_path: None,
                expires: None,
                starts: None,
            },
            state,
            path: (!suspended).then(|| path(&["edge-a", "transit-1", "edge-b"])),
            backup: (id == 1).then(|| path(&["edge-a", "transit-2", "edge-b"])),
            backup_ready: true,
            on_backup: Vec::new(),
            guarantee: String::new(),
            silence: String::new(),
            moved: String::new(),
            protection: if id == 2 { "there is no second way from edge-a".into() } else { String::new() },
            external: Vec::new(),
            mtu: (!suspended).then_some(1450),
            rules: rules(),
            rules_version: 7,
            confirm_by: None,
            created: ago(3_600),
            since: ago(90),
            detail: if id == 2 { "edge-b: namespace db does not exist".into() } else { String::new() },
        },
        rules_pending: if id == 2 { vec![named("edge-b")] } else { Vec::new() },
        at_source,
        at_destination: Traffic::default(),
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

fn candidate(nodes: &[&str], rtt: u64, rejected: &[&str]) -> Candidate {
    let terms = vec![
        Term { name: "rtt".into(), quantity: format!("{rtt} ms"), cost: rtt as f64 },
        Term { name: "hop".into(), quantity: "2".into(), cost: 1.0 },
    ];
    Candidate {
        path: path(nodes),
        offer: Offer {
            rtt: Some(Latency::from_millis(rtt)),
            free: Some(Bandwidth::mbit(800)),
            loss: Loss::from_ppm(1_000),
            price: Price::from_micro_dollars_per_gb(20_000),
            encrypted: true,
            mtu: 1450,
        },
        cost: terms.iter().map(|term| term.cost).sum(),
        terms,
        rejected: rejected.iter().map(|why| (*why).to_owned()).collect(),
    }
}

fn plan(chosen: Option<usize>) -> Plan {
    let refused = chosen.is_none();
    Plan {
        bounds: bounds(),
        weights: Weights::default(),
        chosen,
        candidates: vec![
            candidate(
                &["edge-a", "transit-1", "edge-b"],
                8,
                if refused { &["not all of its links are encrypted"] } else { &[] },
            ),
            candidate(&["edge-a", "transit-2", "edge-b"], 44, &["RTT is 44 ms, at most 20 ms was asked for"]),
        ],
        omitted: 5,
        refused: refused.then(|| "none of 2 paths keeps the bounds".into()),
        feasible: refused.then(|| Feasible {
            bandwidth: Some(Bandwidth::mbit(340)),
            rtt: None,
            price: None,
            sentences: vec!["up to 340 Mbit/s now".into()],
        }),
        hosts: Vec::from_iter((!refused).then(|| HostChange {
            node: named("edge-a"),
            changes: vec!["create interface fabric0 in namespace web".into()],
        })),
        backup: None,
        protection: String::new(),
        warnings: Vec::new(),
        choice: None,
        insight: None,
    }
}

#[test]
fn a_dry_run_names_the_backup_what_it_shares_and_its_cost() {
    let mut dry = plan(Some(0));
    dry.backup = Some(candidate(&["edge-a", "transit-2", "edge-b"], 44, &[]));
    dry.protection = "the backup shares the host edge-c with the path".into();
    let text = bare(&show::plan::plan(&dry));
    assert!(text.contains("backup     edge-a → transit-2 → edge-b\n"), "{text}");
    assert!(text.contains("; the backup shares the host edge-c"), "{text}");
    dry.backup = None;
    dry.protection = "the topology has no second path".into();
    let text = bare(&show::plan::plan(&dry));
    assert!(text.contains("backup     none: the topology has no second path\n"), "{text}");
}

#[test]
fn a_backup_that_no_end_knows_yet_protects_nothing() {
    let mut view = circuit(1, CircuitState::Active);
    let row = |view: &CircuitView| bare(&show::circuit::list(std::slice::from_ref(view)));
    assert!(row(&view).contains("yes") && !row(&view).contains("not yet"));
    view.circuit.backup_ready = false;
    assert!(row(&view).contains("not yet"), "{}", row(&view));
}

#[test]
fn circuits_are_listed_with_what_holds_them_up() {
    let waiting = vec![named("edge-b"), named("transit-1")];
    let circuits = [
        circuit(1, CircuitState::Active),
        circuit(2, CircuitState::Building { waiting }),
        circuit(3, CircuitState::Suspended { why: "resource db is down".into() }),
    ];
    insta::assert_snapshot!(bare(&show::circuit::list(&circuits)));
    insta::assert_snapshot!(
        "circuit_lines",
        circuits.iter().map(|c| show::circuit::line(c) + "\n").collect::<String>()
    );
}

#[test]
fn a_circuit_is_shown_with_addresses_rules_and_counters() {
    let ends = show::circuit::Ends {
        source: FabricPrefix::default().address(1),
        destination: FabricPrefix::default().address(2),
    };
    let view = circuit(1, CircuitState::Active);
    insta::assert_snapshot!(bare(&show::circuit::one(&view, ends, NOW)));
    insta::assert_snapshot!("after_create", show::circuit::next(&view, ends));
}

#[test]
fn a_plan_shows_every_candidate_with_its_terms() {
    insta::assert_snapshot!("plan_chosen", bare(&show::plan::plan(&plan(Some(0)))));
    insta::assert_snapshot!("plan_refused", bare(&show::plan::plan(&plan(None))));
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
fn a_discovery_names_who_was_left_out_and_why() {
    let found = Found {
        resource: resource("db", 2, Status::Up, Liveness::Alive).resource,
        best: Some(candidate(&["edge-a", "transit-1", "edge-b"], 8, &[])),
    };
    let discovery = Discovery {
        intent: Intent { service: named("db"), bounds: bounds(), priority: 0 },
        found: vec![found],
        left_out: vec![LeftOut { resource: named("old-db"), why: "its status is down".into() }],
    };
    let nothing = Discovery { found: Vec::new(), left_out: Vec::new(), ..discovery.clone() };
    insta::assert_snapshot!(bare(&show::discovery::all(&[discovery, nothing])));
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
fn a_circuit_on_its_backup_says_which_end_and_why() {
    let before = circuit(1, CircuitState::Active);
    let mut view = before.clone();
    view.circuit.on_backup = vec![Side::Source];
    view.circuit.protection = "the source sends by the backup since 1970-01-12 13:46:00 UTC: 5 probes in a row have no answer, the first was \
         sent 72.1 ms ago; the backup answers".into();
    let ends = show::circuit::Ends::default();
    insta::assert_snapshot!("circuit_on_backup", bare(&show::circuit::one(&view, ends, NOW)));
    let listed = bare(&show::circuit::list(std::slice::from_ref(&view)));
    assert!(listed.contains("on backup"), "{listed}");
    insta::assert_snapshot!("circuit_line_on_backup", show::circuit::line(&view));
}

#[test]
fn watchers_are_told_which_ends_turned_and_nothing_twice() {
    let first = circuit(1, CircuitState::Active);
    let mut second = first.clone();
    second.circuit.on_backup = vec![Side::Source, Side::Destination];
    second.circuit.protection =
        "the source sends by the backup since then: 5 probes; the destination too".into();
    let mut third = second.clone();
    third.circuit.on_backup = vec![Side::Destination];
    third.circuit.protection = String::new();
    third.circuit.rules_version = 8;
    let mut promoted = third.clone();
    promoted.circuit.path = third.circuit.backup.clone();
    promoted.circuit.backup = None;
    promoted.circuit.backup_ready = false;
    promoted.circuit.on_backup = Vec::new();
    promoted.circuit.protection = "the backup has become the path; another one is sought".into();
    let told = [(&first, &second), (&second, &third), (&third, &third), (&third, &promoted)]
        .map(|(before, view)| show::circuit::changes(&before.circuit, view));
    insta::assert_snapshot!("circuit_changes", told.join("\n---\n"));
}

#[test]
fn a_circuit_inside_one_host_needs_no_protection() {
    let mut view = circuit(2, CircuitState::Active);
    view.circuit.path = Some(path(&["edge-a"]));
    view.circuit.protection = String::new();
    view.circuit.detail = String::new();
    let listed = bare(&show::circuit::list(std::slice::from_ref(&view)));
    assert!(listed.contains("edge-a  –"), "{listed}");
    view.circuit.path = Some(path(&["edge-a", "edge-b"]));
    let listed = bare(&show::circuit::list(&[view]));
    assert!(listed.contains("edge-a → edge-b  no"), "{listed}");
}

fn rules_in_force() -> show::drops::Circuits {
    let rules = [(4, "deny tcp/22".to_owned())].into();
    [(CircuitId(1), show::drops::Known { name: named("web-db"), rules })].into()
}

#[test]
fn drops_name_reason_rule_circuit_and_packet() {
    let count = |rule, reason: &str, circuit| DropCount {
        circuit,
        reason: reason.into(),
        rule,
        packets: 12,
        bytes: 1_234,
    };
    let counts = [
        (named("edge-a"), count(0, "denied_by_rule", Some(CircuitId(1)))),
        (named("edge-a"), count(4, "denied_by_rule", Some(CircuitId(1)))),
        (named("edge-b"), count(0, "unknown_label", None)),
    ];
    let told = proto_model::request::DropsView { drops: counts.into(), ..Default::default() };
    insta::assert_snapshot!("drops", bare(&show::drops::counts(&told, &rules_in_force())));
    let event = |protocol, source: Option<&str>, port| DropEvent {
        at: Timestamp(45_296_789_000_000),
        circuit: Some(CircuitId(1)),
        reason: "denied_by_rule".into(),
        text: "A rule of the circuit denies it.".into(),
        rule: 0,
        interface: "fw64400001".into(),
        source: source.map(named),
        destination: source.map(named),
        protocol,
        source_port: 40_000,
        destination_port: port,
        length: 74,
        label: None,
    };
    let lines = [
        event(6, Some("100.64.0.1"), 22),
        event(17, Some("fdfb::1"), 53),
        event(1, Some("100.64.0.1"), 0x0800),
        event(47, Some("100.64.0.1"), 0),
        event(0, None, 0),
        DropEvent {
            reason: "unknown_label".into(),
            text: "A VXLAN packet under an unknown label.".into(),
            circuit: None,
            label: Some(77),
            ..event(17, Some("192.0.2.9"), 4789)
        },
    ];
    let text: String =
        lines.iter().map(|e| show::drops::line(&named("edge-a"), e, &rules_in_force()) + "\n").collect();
    insta::assert_snapshot!("drop_lines", text);
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

#[test]
fn a_policy_is_shown_with_what_it_leaves_to_others_and_named_in_drops() {
    let rule = |id, text: &str| Rule { id, spec: named(text) };
    let mut view = PolicyView {
        node: named("edge-b"),
        version: 4,
        rules: vec![rule(3, "allow tcp/22 from 100.64.0.7"), rule(5, "deny tcp/22")],
        pending: true,
        confirm_by: Some(NOW.plus(Duration::from_secs(42))),
    };
    let text = bare(&show::policy::one(&view, NOW));
    for part in [
        "policy of edge-b, version 4, pending",
        "allow tcp/22 from 100.64.0.7",
        "decided by the circuits' own rules",
        "taken back in 42 s",
        "foreweave node policy confirm edge-b",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    view.rules.clear();
    assert!(bare(&show::policy::one(&view, NOW)).contains("no rules: the circuits' own rules decide"));
    let drop = DropCount {
        circuit: Some(CircuitId(1)),
        reason: "denied_by_rule".into(),
        rule: proto_model::policy::marked(5),
        packets: 2,
        bytes: 100,
    };
    let drops = vec![(named("edge-b"), drop)];
    let told = proto_model::request::DropsView { drops, ..Default::default() };
    assert!(bare(&show::drops::counts(&told, &Default::default())).contains("5 of the policy of edge-b"));
}
