//! Circuits: which way each end sends, what holds one up, and what changed.
use super::{NOW, ago, bare, bounds, named, path};
use controller_cli::show;
use proto_model::circuit::{Circuit, CircuitSpec, CircuitState};
use proto_model::desired::Side;
use proto_model::intent::Bounds;
use proto_model::report::Traffic;
use proto_model::request::CircuitView;
use proto_model::rule::Rule;
use proto_model::{CircuitId, FabricPrefix};

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
