//! A circuit that is active and hardly carries anything is seen wherever it is shown.
use controller_cli::show;
use controller_cli::show::circuit::Ends;
use proto_model::Timestamp;
use proto_model::request::CircuitView;
use proto_wire::v1;

fn active(silence: &str) -> CircuitView {
    let spec = v1::CircuitSpec {
        name: "web-db".into(),
        source: "web".into(),
        destination: "db".into(),
        bounds: Some(v1::Bounds::default()),
        ..Default::default()
    };
    let shown = v1::Circuit {
        id: 42,
        spec: Some(spec),
        state: v1::circuit::State::Active.into(),
        silence: silence.into(),
        moved: String::new(),
        ..Default::default()
    };
    shown.try_into().expect("well-formed")
}

/// Every way to show it, without colours.
fn everywhere(view: &CircuitView) -> Vec<String> {
    let shown = [
        show::circuit::list(std::slice::from_ref(view)),
        show::circuit::one(view, Ends::default(), Timestamp(0)),
        show::circuit::line(view),
        show::circuit::next(view, Ends::default()),
    ];
    shown.iter().map(|text| anstream::adapter::strip_str(text).to_string()).collect()
}

#[test]
fn a_silent_circuit_is_seen_everywhere_and_others_are_not_called_so() {
    for text in everywhere(&active("")) {
        assert!(!text.contains("silent"), "{text}");
    }
    let why = "its path is silent: the link edge-a–transit-1 (wan) has answered no probe since then";
    let shown = everywhere(&active(why));
    for text in &shown {
        assert!(text.contains(why), "{text}");
    }
    assert!(shown[0].contains("active, silent"), "{}", shown[0]);
    assert!(shown[3].starts_with("\nwarning: "), "{}", shown[3]);
}
