//! One request at a time: few bounds, and all of them.
use crate::Options;
use crate::network::{mesh, name, node, sparse};
use crate::report::Row;
use controller_core::route::{Ask, decide};
use controller_core::topology::Topology;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use proto_model::{Bandwidth, Latency, Loss, NodeName, Price};
use std::collections::BTreeSet;
use std::time::Instant;
use tests_sim::chance::Chance;

/// Paths asked for.
const K: usize = 8;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let requests = if options.quick { 20 } else { 400 };
    let mut chance = Chance::new(1);
    let full = mesh(200, &mut chance);
    let wide = sparse(1_000, 8, &mut chance);
    let mut rows = Vec::new();
    for (network, topology, hosts, links, must) in
        [("200 hosts, full mesh", &full, 200, 1, "≤ 2"), ("1,000 hosts of degree 8", &wide, 1_000, 4, "≤ 5")]
    {
        for (bounds, draw) in KINDS {
            let what = format!("{network}, k = {K}, {bounds}, ms (must be {must})");
            rows.push(row(what, topology, [hosts, links], requests, draw, &mut chance));
        }
    }
    rows
}

/// With how many hosts there are, how many links a path has about, and its ends.
type Draw = fn(&mut Chance, usize, u64, [usize; 2]) -> Bounds;
const KINDS: [(&str, Draw); 3] = [
    ("no bounds", |_, _, _, _| Bounds::default()),
    ("latency, loss, price and bandwidth", quantities),
    ("all bounds", all),
];

fn row(
    what: String,
    topology: &Topology,
    [hosts, links]: [usize; 2],
    requests: usize,
    draw: Draw,
    chance: &mut Chance,
) -> Row {
    let (mut times, mut refused, mut cut_off) = (Vec::new(), 0, 0);
    let (weights, shun) = (Weights::default(), BTreeSet::new());
    for _ in 0..requests {
        let from = chance.below(hosts as u64) as usize;
        let to = (from + 1 + chance.below(hosts as u64 - 1) as usize) % hosts;
        let bounds = draw(chance, hosts, links as u64, [from, to]);
        let (from, to) = (node(from), node(to));
        let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit: K };
        let begun = Instant::now();
        let decision = std::hint::black_box(decide(topology, &weights, &ask));
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        refused += usize::from(decision.chosen().is_none());
        cut_off += usize::from(decision.cut_off);
    }
    Row::of(what, times, format!("{requests} requests, {refused} refused, {cut_off} cut off"))
}

/// Around what the network has, so that a part of them cannot be kept.
fn quantities(chance: &mut Chance, _: usize, links: u64, _: [usize; 2]) -> Bounds {
    Bounds {
        bandwidth: Bandwidth::mbit(10 + chance.below(800)),
        max_rtt: Some(Latency::from_millis(links * (20 + chance.below(100)))),
        max_loss: Some(Loss::from_ppm((links * (50 + chance.below(1_500))) as u32)),
        max_price: Some(Price::from_micro_dollars_per_gb(links * chance.below(200_000))),
        ..Bounds::default()
    }
}

fn all(chance: &mut Chance, hosts: usize, links: u64, ends: [usize; 2]) -> Bounds {
    let mut others = || -> NodeName {
        loop {
            let one = chance.below(hosts as u64) as usize;
            if !ends.contains(&one) {
                return node(one);
            }
        }
    };
    let via = others();
    let mut avoid: BTreeSet<NodeName> = (0..3).map(|_| others()).collect();
    avoid.remove(&via);
    Bounds {
        encrypted_links: true,
        via: BTreeSet::from([via]),
        avoid,
        require_tags: BTreeSet::from([name("eu")]),
        avoid_tags: BTreeSet::from([name("satellite")]),
        max_rtt: Some(Latency::from_millis(2 * links * (20 + chance.below(100)))),
        max_loss: Some(Loss::from_ppm((2 * links * (50 + chance.below(1_500))) as u32)),
        max_hops: Some(12),
        ..quantities(chance, hosts, 2 * links, ends)
    }
}
