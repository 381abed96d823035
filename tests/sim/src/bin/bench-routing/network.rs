//! Seeded networks: hosts on a plane, round-trip times by distance and detour, everything else by chance.
use controller_core::topology::Topology;
use proto_model::circuit::Path;
use proto_model::topology::{LinkId, LinkValues, Measured, Underlay};
use proto_model::{Bandwidth, Latency, Loss, Name, NodeName, Price, Timestamp};
use std::collections::BTreeSet;
use tests_sim::chance::Chance;

/// Across the plane, in microseconds of round-trip time.
const SIDE: u64 = 80_000;
/// Of every host's interface into a network.
const PORT: Bandwidth = Bandwidth::mbit(40_000);

pub(crate) fn node(number: usize) -> NodeName {
    name(&format!("n{number:04}"))
}

pub(crate) fn name<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("{text} is well formed"))
}

/// One network that all hosts share: each pair is a link.
pub(crate) fn mesh(hosts: usize, chance: &mut Chance) -> Topology {
    let networks = vec![vec![name("internet")]; hosts];
    build(&networks, chance)
}

/// So many links at each host on average, each a network of its own.
pub(crate) fn sparse(hosts: usize, degree: usize, chance: &mut Chance) -> Topology {
    let mut networks = vec![Vec::new(); hosts];
    for (a, b) in pairs(hosts, degree, chance) {
        let network: Name = name(&format!("l{a}-{b}"));
        networks[a].push(network.clone());
        networks[b].push(network);
    }
    build(&networks, chance)
}

/// A ring, and chords by chance.
pub(crate) fn pairs(hosts: usize, degree: usize, chance: &mut Chance) -> BTreeSet<(usize, usize)> {
    let mut pairs: BTreeSet<(usize, usize)> = (0..hosts).map(|at| (at, (at + 1) % hosts)).collect();
    while pairs.len() < hosts * degree / 2 {
        let (a, b) = (chance.below(hosts as u64) as usize, chance.below(hosts as u64) as usize);
        if a != b && !pairs.contains(&(b, a)) {
            pairs.insert((a, b));
        }
    }
    pairs
}

fn build(networks: &[Vec<Name>], chance: &mut Chance) -> Topology {
    let mut topology = Topology::new(250_000);
    topology.advance(Timestamp(1_800_000_000_000_000_000));
    for (number, networks) in networks.iter().enumerate() {
        let host = [10, (number >> 16) as u8, (number >> 8) as u8, number as u8];
        let underlay = |network: &Name| Underlay {
            interface: format!("e-{network}").chars().take(15).collect(),
            network: network.clone(),
            addresses: vec![host.into()],
            mtu: 1500,
            speed: Some(PORT),
            shape: true,
        };
        topology.add_node(node(number));
        topology.set_underlays(&node(number), networks.iter().map(underlay).collect());
        topology.set_connected(&node(number), true);
    }
    let places: Vec<_> = networks.iter().map(|_| (chance.below(SIDE), chance.below(SIDE))).collect();
    let ids: Vec<LinkId> = topology.graph().edge_weights().map(|link| link.id.clone()).collect();
    for id in ids {
        furnish(&mut topology, &id, &places, chance);
    }
    topology
}

fn furnish(topology: &mut Topology, id: &LinkId, places: &[(u64, u64)], chance: &mut Chance) {
    let (a, b) = id.ends();
    let place = |node: &NodeName| places[node.as_str()[1..].parse::<usize>().unwrap_or_default()];
    let ((ax, ay), (bx, by)) = (place(a), place(b));
    let distance = (ax.abs_diff(bx) as f64).hypot(ay.abs_diff(by) as f64);
    // The public internet is one to three times longer than the straight line.
    let detour = 1.0 + chance.below(2_000) as f64 / 1_000.0;
    let rtt = Latency::from_micros((distance * detour) as u64 + 200);
    let mut tags = BTreeSet::new();
    for (tag, per_mille) in [("eu", 700), ("owned", 500), ("satellite", 60)] {
        if chance.happens(per_mille) {
            tags.insert(name(tag));
        }
    }
    let values = LinkValues {
        capacity: Some(Bandwidth::mbit(500 + chance.below(9_500))),
        price: Price::from_micro_dollars_per_gb(chance.below(12) * 10_000),
        encrypted: chance.happens(850),
        tags,
        ..LinkValues::default()
    };
    let capacity = values.capacity.unwrap_or_default();
    topology.configure(id.clone(), values);
    let lost = if chance.happens(800) { chance.below(300) } else { chance.below(8_000) };
    let loss = Loss::from_ppm(lost as u32);
    let measured = Measured {
        probes: 50,
        rtt_min: rtt,
        rtt_mean: rtt,
        rtt_max: rtt,
        loss_backward: loss,
        ..Measured::default()
    };
    topology.measure(a, id, measured);
    topology.measure(b, id, measured);
    let path = Path { nodes: vec![a.clone(), b.clone()], links: vec![id.clone()] };
    let share = chance.below(80).min(if chance.happens(500) { 20 } else { 80 });
    // Few circuits on many links of one interface: the interface is not what is full.
    let used = Bandwidth::from_bits_per_second((capacity.bits_per_second() / 100).saturating_mul(share));
    topology.reserve(&path, used.min(Bandwidth::mbit(180)));
}
