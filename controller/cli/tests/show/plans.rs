//! Decisions: candidates, terms, who was left out.
use super::{bare, bounds, named, path, resource};
use controller_cli::show;
use proto_model::intent::Intent;
use proto_model::plan::{Candidate, Discovery, Feasible, Found, HostChange, LeftOut, Offer, Plan, Term};
use proto_model::resource::{Liveness, Status};
use proto_model::{Bandwidth, Latency, Loss, Price};

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
        ..Plan::default()
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
fn a_plan_shows_every_candidate_with_its_terms() {
    insta::assert_snapshot!("plan_chosen", bare(&show::plan::plan(&plan(Some(0)))));
    insta::assert_snapshot!("plan_refused", bare(&show::plan::plan(&plan(None))));
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
