//! What changes is told as it comes, each change once.
use super::*;

#[tokio::test]
async fn a_watch_prints_switches_as_they_come() {
    let authority = Authority::new();
    let way = |middle: &str| {
        let link = |a: &str, b: &str| v1::LinkId { a: a.into(), b: b.into(), network: "wan".into() };
        Some(v1::Path {
            nodes: vec!["a".into(), middle.into(), "z".into()],
            links: vec![link("a", middle), link(middle, "z")],
        })
    };
    let first = v1::Circuit {
        path: way("m"),
        backup: way("n"),
        backup_ready: true,
        ..circuit(v1::circuit::State::Active)
    };
    let turned = v1::Circuit {
        on_backup: vec![v1::Side::Destination.into()],
        protection: "lost 12 of 60 probes, 1 % is allowed".into(),
        ..first.clone()
    };
    let events = [first, turned]
        .map(|circuit| v1::Event { event: Some(v1::event::Event::Circuit(circuit)), ..Default::default() });
    let pretended = Pretended { events: events.to_vec(), ..Default::default() };
    let config = authority.configure(&[authority.serve(pretended).await]);
    assert_eq!(
        first_lines(&config, &["watch"], 2).await,
        [
            "circuit c42 web-db is active  a → m → z",
            "circuit c42 web-db sends: source by the path, destination by the backup  a → n → z  lost 12 of 60 probes, 1 % is allowed",
        ]
    );
    let json = first_lines(&config, &["watch", "--json"], 2).await;
    let last: serde_json::Value = serde_json::from_str(&json[1]).expect("JSON");
    assert_eq!(last["circuit"]["on_backup"][0], "SIDE_DESTINATION");
    assert_eq!(last["circuit"]["backup"]["nodes"][1], "n");
}

#[tokio::test]
async fn a_watch_goes_on_when_the_controller_is_back_and_tells_only_what_changed() {
    let authority = Authority::new();
    let named = |id: u64, state| v1::Circuit { id, ..circuit(state) };
    let told = |event| v1::Event { event: Some(event), ..Default::default() };
    let active = |id| told(v1::event::Event::Circuit(named(id, v1::circuit::State::Active)));
    let caught_up = || told(v1::event::Event::CaughtUp(v1::Empty {}));
    let suspended = told(v1::event::Event::Circuit(named(2, v1::circuit::State::Suspended)));
    let pretended = Pretended {
        events: vec![active(1), active(2), active(3), caught_up()],
        later: Some(vec![active(1), suspended, caught_up(), active(4)]),
        ..Default::default()
    };
    let config = authority.configure(&[authority.serve(pretended).await]);
    let shown = first_lines(&config, &["watch"], 6).await;
    let expected = [
        "c1 web-db is active",
        "c2 web-db is active",
        "c3 web-db is active",
        "c2 web-db is suspended",
        "c3 is gone",
        "c4 web-db is active",
    ];
    for (line, part) in shown.iter().zip(expected) {
        assert!(line.contains(part), "{part}: {shown:?}");
    }
}

#[tokio::test]
async fn a_watch_is_one_line_per_event() {
    let authority = Authority::new();
    let events = [
        v1::event::Event::Circuit(circuit(v1::circuit::State::Active)),
        v1::event::Event::CaughtUp(v1::Empty {}),
        v1::event::Event::CircuitGone(42),
    ];
    let events = events.map(|event| v1::Event { event: Some(event), ..Default::default() }).to_vec();
    let address = authority.serve(Pretended { events, ..Default::default() }).await;
    let config = authority.configure(&[address]);
    let shown = first_lines(&config, &["watch"], 2).await;
    assert!(shown[0].contains("circuit c42 web-db is active"), "{shown:?}");
    assert!(shown[1].contains("circuit c42 is gone"), "{shown:?}");
    let lines = first_lines(&config, &["watch", "--json"], 3).await;
    let lines: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[2]["circuit_gone"], 42);
}
