//! The search finds what a plain one finds, in order, and looks at little.
use super::*;
use crate::route::decide;
use proptest::prelude::*;
use proto_model::intent::Bounds;
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Bandwidth, NodeName};
use std::collections::BTreeSet;

pub(in crate::route) fn node(number: usize) -> NodeName {
    format!("n{number}").parse().expect("a name")
}

/// Hosts 0 to `count`, and links between them with round-trip time in ms and free Mbit/s.
pub(in crate::route) fn topology(count: usize, links: &[(usize, usize, u64, u64)]) -> Topology {
    let mut topology = Topology::new(100_000);
    let mut underlays = vec![Vec::new(); count];
    for (at, (a, b, rtt, mbit)) in links.iter().enumerate() {
        let network: Name = format!("l{at}").parse().expect("a name");
        for (end, host) in [(*a, 1u8), (*b, 2)] {
            underlays[end].push(Underlay {
                interface: format!("e{at}"),
                network: network.clone(),
                addresses: vec![[10, at as u8, 0, host].into()],
                mtu: 1500,
                speed: None,
                shape: false,
            });
        }
        let values = LinkValues {
            rtt: Some(Latency::from_millis(*rtt)),
            capacity: Some(Bandwidth::mbit(*mbit)),
            ..LinkValues::default()
        };
        topology.configure(LinkId::new(node(*a), node(*b), network).expect("two ends"), values);
    }
    for (number, underlays) in underlays.into_iter().enumerate() {
        topology.add_node(node(number));
        topology.set_underlays(&node(number), underlays);
        topology.set_connected(&node(number), true);
    }
    topology
}

/// Every loop-free path by plain search.
fn brute(topology: &Topology, from: &NodeName, to: &NodeName, max_hops: usize) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path { nodes: vec![from.clone()], links: Vec::new() }];
    while let Some(path) = open.pop() {
        let at = &path.nodes[path.nodes.len() - 1];
        if at == to {
            found.insert(path);
            continue;
        }
        for view in topology.views() {
            let Some(next) = view.id.other(at).filter(|next| !path.nodes.contains(next)) else {
                continue;
            };
            if path.links.len() < max_hops {
                let mut longer = path.clone();
                longer.nodes.push(next.clone());
                longer.links.push(view.id.clone());
                open.push(longer);
            }
        }
    }
    found
}

pub(in crate::route) fn links() -> impl Strategy<Value = Vec<(usize, usize, u64, u64)>> {
    let link = (0..6usize, 0..6usize, 1..20u64, 1..10u64).prop_filter("two ends", |(a, b, _, _)| a != b);
    proptest::collection::vec(link, 1..11)
}

proptest! {
    #[test]
    fn every_path_is_found_once_in_the_order_of_cost(links in links(), max_hops in 1..7u8) {
        let topology = topology(6, &links);
        let weights = Weights::default();
        let bounds = Bounds { max_hops: Some(max_hops), ..Bounds::default() };
        let (from, to, shun) = (node(0), node(5), BTreeSet::new());
        let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit: 10_000 };
        let decision = decide(&topology, &weights, &ask);
        let paths: BTreeSet<_> = decision.judged.iter().map(|j| j.candidate.path.clone()).collect();
        prop_assert_eq!(paths.len(), decision.judged.len());
        prop_assert_eq!(&paths, &brute(&topology, &from, &to, usize::from(DEFAULT_HOPS)));
        for judged in &decision.judged {
            prop_assert_eq!(judged.broken.is_empty(), judged.candidate.path.hops() <= usize::from(max_hops));
        }
        let fit: Vec<_> = decision.judged.iter().filter(|j| j.broken.is_empty()).map(|j| j.candidate.cost).collect();
        prop_assert!(fit.is_sorted());
    }

    #[test]
    fn a_short_list_has_the_same_best_path_under_any_bounds(
        links in links(),
        mbit in 0..10u64,
        rtt in proptest::option::of(1..60u64),
        via in proptest::collection::btree_set(1..5usize, 0..3),
        avoid in proptest::option::of(1..5usize),
    ) {
        let topology = topology(6, &links);
        let weights = Weights::default();
        let bounds = Bounds {
            bandwidth: Bandwidth::mbit(mbit),
            max_rtt: rtt.map(Latency::from_millis),
            avoid: avoid.filter(|avoid| !via.contains(avoid)).into_iter().map(node).collect(),
            via: via.into_iter().map(node).collect(),
            ..Bounds::default()
        };
        let (from, to, shun) = (node(0), node(5), BTreeSet::new());
        let best = |limit| {
            let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit };
            decide(&topology, &weights, &ask).chosen().map(|chosen| chosen.cost)
        };
        let (all, few) = (best(10_000), best(1));
        prop_assert_eq!(all.is_some(), few.is_some());
        if let (Some(all), Some(few)) = (all, few) {
            prop_assert!((all - few).abs() < 1e-9, "{} instead of {}", few, all);
        }
    }
}

fn mesh() -> Topology {
    let mut topology = Topology::new(100_000);
    for number in 0..200 {
        let host = [10, 0, (number / 250) as u8, (number % 250) as u8 + 1];
        topology.add_node(node(number));
        let underlay = Underlay {
            interface: "eth0".into(),
            network: "internet".parse().expect("a name"),
            addresses: vec![host.into()],
            mtu: 1500,
            speed: None,
            shape: false,
        };
        topology.set_underlays(&node(number), vec![underlay]);
        topology.set_connected(&node(number), true);
    }
    topology
}

#[test]
fn three_hosts_to_cross_are_found_in_a_full_mesh() {
    let topology = mesh();
    let via: BTreeSet<_> = [9, 10, 11].map(node).into();
    let bounds = Bounds { via: via.clone(), ..Bounds::default() };
    let (from, to, shun) = (node(3), node(177), BTreeSet::new());
    let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit: 64 };
    let decision = decide(&topology, &Weights::default(), &ask);
    let path = &decision.chosen().expect("there is one").path;
    assert_eq!(path.hops(), 4);
    assert!(via.iter().all(|node| path.nodes.contains(node)), "{path}");
}

#[test]
fn a_full_mesh_of_200_hosts_is_searched_with_few_partial_paths() {
    let topology = mesh();
    assert_eq!(topology.graph().edge_count(), 200 * 199 / 2);
    let (from, to, shun, bounds) = (node(3), node(177), BTreeSet::new(), Bounds::default());
    let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit: 64 };
    let query = Query {
        topology: &topology,
        weights: &Weights::default(),
        ask: &ask,
        from: topology.place(&from).expect("known"),
        to: topology.place(&to).expect("known"),
        pinned: None,
        strict: false,
        beside: None,
    };
    let mut search = Search::new(&query);
    let found = search.collect();
    assert_eq!(found.trails.len(), 64);
    assert_eq!(found.trails[0].edges.len(), 1);
    assert!(search.partials.len() < 20_000, "{}", search.partials.len());
}
