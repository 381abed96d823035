//! Drops, and the policies that cause them, by what they are known as.
use super::{NOW, bare, named};
use controller_cli::show;
use proto_model::report::{DropCount, DropEvent};
use proto_model::request::PolicyView;
use proto_model::rule::Rule;
use proto_model::{CircuitId, Timestamp};
use std::time::Duration;

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
