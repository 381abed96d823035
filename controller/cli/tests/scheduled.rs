//! A circuit whose time has not come is shown with its start, and is not called anything that it is not.
use controller_cli::show;
use controller_cli::show::circuit::Ends;
use proto_model::Timestamp;
use proto_model::request::CircuitView;
use proto_wire::v1;

const NOW: Timestamp = Timestamp(1_795_262_400_000_000_000);

fn scheduled(starts: Timestamp) -> CircuitView {
    let spec = v1::CircuitSpec {
        name: "web-db".into(),
        source: "web".into(),
        destination: "db".into(),
        starts: starts.0,
        ..Default::default()
    };
    let link = v1::LinkId { a: "a".into(), b: "b".into(), network: "wan".into() };
    let path = v1::Path { nodes: vec!["a".into(), "b".into()], links: vec![link] };
    let shown = v1::Circuit {
        id: 42,
        spec: Some(spec),
        state: v1::circuit::State::Scheduled.into(),
        path: Some(path),
        ..Default::default()
    };
    shown.try_into().expect("well-formed")
}

#[test]
fn a_scheduled_circuit_says_when_it_starts() {
    let at = Timestamp(NOW.0 + 7_200_000_000_000);
    let view = scheduled(at);
    let bare = |text: String| anstream::adapter::strip_str(&text).to_string();
    let promised = format!("starts at {at}");
    let row = bare(show::circuit::list(std::slice::from_ref(&view)));
    assert!(row.contains("scheduled") && row.contains(&promised) && row.contains("a → b"), "{row}");
    assert!(!row.contains("yes") && !row.contains(" no "), "it is not there to be protected: {row}");
    let one = bare(show::circuit::one(&view, Ends::default(), NOW));
    assert!(one.contains(&format!("in 2 h ({at})")) && !one.contains("both ends by"), "{one}");
    assert!(show::circuit::line(&view).contains(&promised), "{}", show::circuit::line(&view));
}
