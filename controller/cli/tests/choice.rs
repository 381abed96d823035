//! Why a circuit stays on its path or leaves it, as people read it.
use controller_cli::show;
use proto_model::choice::{Choice, Expert, Flip, Way};
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use std::time::Duration;

fn path(nodes: [&str; 3]) -> Path {
    let nodes = nodes.map(|node| node.parse().expect("a name")).to_vec();
    let link = |pair: &[proto_model::NodeName]| {
        LinkId::new(pair[0].clone(), pair[1].clone(), "wan".parse().expect("a name")).expect("two ends")
    };
    Path { links: nodes.windows(2).map(link).collect(), nodes }
}

#[test]
fn a_circuit_that_stays_says_whose_advice_counts_and_what_would_move_it() {
    let way = |middle: &str, agile: f64| Way {
        path: path(["edge-a", middle, "edge-b"]),
        beside: 1.0,
        agile: Some(agile),
        steady: None,
        shrunk: Some(30.0),
        usable: true,
    };
    let expert = |name: &str, advises: usize, own: f64, score: f64| Expert {
        name: name.into(),
        advises,
        own,
        all: own / 2.0,
        evidence: 40.0,
        prior: 9.0,
        score,
    };
    let text = show::choice::choice(&Choice {
        ways: vec![way("transit-1", 25.0), way("transit-2", 24.5)],
        here: 0,
        wanted: 1,
        chosen: 0,
        expert: "agile".into(),
        by: "agile".into(),
        margin: 1.9,
        experts: vec![expert("reference", 0, 0.0, 0.31), expert("agile", 1, -3.0, 0.0)],
        flip: Some(Flip { way: 1, below: 23.1, now: 24.5 }),
        step: Duration::from_secs(4),
        held: String::new(),
    });
    let text = anstream::adapter::strip_str(&text).to_string();
    for part in [
        "follows the agile expert: over about 40 steps of 4s its advice cost 3.00 less than edge-a → transit-1 → edge-b (all \
         circuits: 1.50 less)",
        "the reference expert is behind by 0.31",
        "edge-a → transit-2 → edge-b is 0.50 cheaper, and a margin of 1.90 is asked",
        "edge-a → transit-2 → edge-b would be taken if it cost less than 23.10, now 24.50",
        "24.50  -       30.00",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}
