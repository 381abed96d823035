//! The search finds what a plain one finds, in order, and looks at little.
use super::*;
use crate::route::decide;
use proptest::prelude::*;
use proto_model::intent::Bounds;
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Bandwidth, Latency, Loss, NodeName, Price};
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

/// Everything that a link can be, by numbers.
#[derive(Clone, Debug)]
struct Wild {
    rtt: Option<u64>,
    loss: u32,
    price: u64,
    mbit: u64,
    encrypted: bool,
    tags: u8,
}

fn wild() -> impl Strategy<Value = Wild> {
    let rtt = proptest::option::weighted(0.9, 1..20u64);
    let loss = prop_oneof![4 => 0..3_000u32, 1 => 0..600_000u32];
    let tags = prop_oneof![2 => Just(1u8), 1 => 0..4u8];
    let some = (rtt, loss, 0..4u64, 1..30u64, proptest::bool::weighted(0.8), tags);
    some.prop_map(|(rtt, loss, price, mbit, encrypted, tags)| Wild {
        rtt,
        loss,
        price,
        mbit,
        encrypted,
        tags,
    })
}

/// Six hosts, each an interface of some speed in some of three networks; every pair in a network is a link.
fn tangle(interfaces: &[Option<u64>], links: &[Wild]) -> Topology {
    let mut topology = Topology::new(1_000);
    for number in 0..6 {
        let underlay = |network: usize| {
            let mbit = interfaces[number * 3 + network]?;
            Some(Underlay {
                interface: format!("e{network}"),
                network: format!("net{network}").parse().expect("a name"),
                addresses: vec![[10, network as u8, 0, number as u8 + 1].into()],
                mtu: 1500,
                speed: (mbit > 0).then(|| Bandwidth::mbit(mbit)),
                shape: false,
            })
        };
        topology.add_node(node(number));
        topology.set_underlays(&node(number), (0..3).filter_map(underlay).collect());
        topology.set_connected(&node(number), true);
    }
    let ids: Vec<LinkId> = topology.graph().edge_weights().map(|link| link.id.clone()).collect();
    for (id, wild) in ids.into_iter().zip(links.iter().cycle()) {
        let tags = (0..2).filter(|bit| wild.tags & 1 << bit != 0);
        let values = LinkValues {
            rtt: wild.rtt.map(Latency::from_millis),
            loss: Loss::from_ppm(wild.loss),
            price: Price::from_micro_dollars_per_gb(wild.price * 10_000),
            capacity: Some(Bandwidth::mbit(wild.mbit)),
            encrypted: wild.encrypted,
            tags: tags.map(|bit| format!("t{bit}").parse().expect("a name")).collect(),
            ..LinkValues::default()
        };
        topology.configure(id, values);
    }
    topology
}

fn any_bounds() -> impl Strategy<Value = Bounds> {
    let quantities = (
        0..20u64,
        proptest::option::of(1..80u64),
        proptest::option::of(0..30_000u32),
        proptest::option::of(0..10u64),
        1..6u8,
    );
    let hosts =
        (proptest::collection::btree_set(1..5usize, 0..3), proptest::option::weighted(0.3, 1..5usize));
    let conditions =
        (proptest::bool::weighted(0.2), proptest::bool::weighted(0.2), proptest::bool::weighted(0.2));
    (quantities, hosts, conditions).prop_map(|(quantities, (via, avoid), (encrypted, require, avoid_tag))| {
        let (mbit, rtt, loss, price, hops) = quantities;
        let tag =
            |wanted: bool, text: &str| wanted.then(|| text.parse().expect("a name")).into_iter().collect();
        Bounds {
            bandwidth: Bandwidth::mbit(mbit),
            max_rtt: rtt.map(Latency::from_millis),
            max_loss: loss.map(Loss::from_ppm),
            max_price: price.map(|price| Price::from_micro_dollars_per_gb(price * 10_000)),
            max_hops: Some(hops),
            avoid: avoid.filter(|avoid| !via.contains(avoid)).into_iter().map(node).collect(),
            via: via.into_iter().map(node).collect(),
            encrypted_links: encrypted,
            require_tags: tag(require, "t0"),
            avoid_tags: tag(avoid_tag, "t1"),
            ..Bounds::default()
        }
    })
}

fn trail(topology: &Topology, path: &Path) -> Trail {
    Trail {
        nodes: path.nodes.iter().map(|node| topology.place(node).expect("known")).collect(),
        edges: path.links.iter().map(|link| topology.edge(link).expect("known")).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_first_paths_are_those_that_a_plain_search_finds_under_all_bounds(
        interfaces in proptest::collection::vec(proptest::option::weighted(0.6, 0..60u64), 18),
        wilds in proptest::collection::vec(wild(), 45),
        bounds in any_bounds(),
        limit in 1..9usize,
    ) {
        let topology = tangle(&interfaces, &wilds);
        let weights = Weights::default();
        let (from, to, shun) = (node(0), node(5), BTreeSet::new());
        let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit };
        let all = brute(&topology, &from, &to, usize::from(bounds.max_hops.unwrap_or(DEFAULT_HOPS)));
        let trails = all.iter().map(|path| trail(&topology, path)).collect();
        let mut fit = crate::route::judge(&topology, &weights, &ask, trails);
        fit.retain(|judged| judged.broken.is_empty());
        crate::route::order(&mut fit);
        let query = Query {
            topology: &topology,
            weights: &weights,
            ask: &ask,
            from: topology.place(&from).expect("known"),
            to: topology.place(&to).expect("known"),
            pinned: None,
            strict: true,
            beside: None,
        };
        let found = lowest(&query);
        let found = crate::route::judge(&topology, &weights, &ask, found.trails);
        for judged in &found {
            prop_assert!(judged.broken.is_empty(), "{:?}", judged.broken);
        }
        let costs: Vec<f64> = found.iter().map(|judged| judged.candidate.cost).collect();
        prop_assert!(costs.is_sorted());
        prop_assert_eq!(found.len(), fit.len().min(limit));
        for (one, other) in found.iter().zip(&fit) {
            prop_assert!((one.candidate.cost - other.candidate.cost).abs() < 1e-9);
        }
        // Of equal costs at the end of the list, any will do.
        let last = costs.last().copied().unwrap_or_default() - 1e-9;
        let sets = [&found, &fit].map(|paths| -> BTreeSet<Path> {
            let sure = paths.iter().filter(|judged| judged.candidate.cost < last);
            sure.map(|judged| judged.candidate.path.clone()).collect()
        });
        prop_assert_eq!(&sets[0], &sets[1]);
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
    assert!(search.partials.len() < 2_000, "{}", search.partials.len());
}
