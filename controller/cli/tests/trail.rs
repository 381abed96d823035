//! What people see of a packet's way, from a sample.
use controller_cli::show;
use proto_model::CircuitId;
use proto_model::query::{Body, Connection, Fate, Packet, Ran, Sealing, Sent};
use proto_model::trail::{Trail, TrailHop, Verdict};

fn named<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

/// Tables without their colours.
fn bare(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_trail_shows_each_host_and_what_would_help() {
    let label = |value| proto_model::Label::new(value);
    let ran = |program: &str, interface: &str, came, fate| Ran {
        program: program.into(),
        interface: interface.into(),
        label: came,
        circuit: Some(CircuitId(1)),
        rule: 0,
        connection: Connection::None,
        sealing: Sealing::Clear,
        fate,
    };
    let sent = Fate::Sent(Sent {
        interface: "eth1".into(),
        local: named("10.0.0.1"),
        remote: named("10.0.0.2"),
        label: label(131_074).expect("a label"),
        way: Some(proto_model::report::Way::Backup),
        frame: Vec::new(),
    });
    let first =
        Ran { rule: 3, connection: Connection::WouldOpen, ..ran("eni_ingress", "fw64400001", None, sent) };
    let denied = Fate::Dropped { reason: "denied_by_rule".into(), text: String::new(), room: None };
    let hop = |node: &str, ran, rule: &str, next: Option<&str>, note: &str| TrailHop {
        node: named(node),
        ran,
        rule: rule.into(),
        next: next.map(named),
        note: note.into(),
    };
    let trail = Trail {
        packet: Packet {
            source: named("100.64.0.1"),
            destination: named("100.64.0.2"),
            body: Body::Tcp { source: 40_000, destination: 22, answer: false },
            size: None,
        },
        circuit: Some((CircuitId(1), named("web-db"))),
        hops: vec![
            hop("edge-a", first, "allow tcp/22", Some("edge-b"), "by the backup: the path lost 20 %"),
            hop("edge-b", ran("underlay_ingress", "eth0", label(131_074), denied), "", None, ""),
        ],
        verdict: Verdict::Dropped,
        sentence: "dropped at edge-b: default deny of web-db; no rule allows it".into(),
        advice: "foreweave rule add web-db \"allow tcp/22\" would allow it".into(),
    };
    insta::assert_snapshot!("trail", bare(&show::why::trail(&trail)));
}
