//! Joint admission on recorded traffic matrices, and paths under a price cap, from a folder with the data.
use crate::network::{mesh, name, node};
use crate::report::Row;
use controller_core::replay::loads::Network;
use controller_core::replay::money::{Cap, Market};
use controller_core::replay::series::Series;
use controller_core::route::joint::{Standing, Timed, Wanted, place, place_all, seek_moves};
use controller_core::topology::{Topology, Window};
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use proto_model::together::MOST;
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Bandwidth, CircuitId, Name, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tests_sim::chance::Chance;

/// Matrices of each series, spread over it.
const MATRICES: usize = 10;
/// Of the load at which shortest paths are just full.
const LOADS: [f64; 3] = [1.5, 2.0, 3.0];

/// Hosts of a full mesh, and how many of them want to talk to one another.
const HOSTS: usize = 200;
const TALKING: usize = 15;
/// Circuits at these that could move.
const STANDING: usize = 2_000;
/// Seeds.
const CROWDS: u64 = 20;

pub(crate) fn measure(folder: &Path, quick: bool) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (network, matrices) in [("abilene", "tm_abilene_5min.csv.gz"), ("geant", "tm_geant_15min.csv.gz")] {
        let text = read(&folder.join(format!("topo_{network}.json")))?;
        let map: Network = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let series = Series::parse(&read(&folder.join(matrices))?).map_err(|error| error.to_string())?;
        let loads = if quick { &LOADS[..1] } else { &LOADS[..] };
        for load in loads {
            rows.extend(admit(network, &map, &series, *load)?);
        }
    }
    rows.extend(crowd(if quick { 3 } else { CROWDS })?);
    let prices = read(&folder.join("skyplane_egress_cost.csv.gz"))?;
    let latencies = read(&folder.join("skyplane_latency_2022.csv.gz"))?;
    let market = Market::parse(&prices, &latencies).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    for row in market.table(&Cap::ALL) {
        let note = format!(
            "{:.4} ms; {} pairs, {} over a relay, {:.4} $/GB",
            row.mean_rtt, row.pairs, row.relayed, row.mean_price
        );
        rows.push(Row::of(format!("skyplane, {}: mean round trip, ms", row.cap), vec![row.mean_rtt], note));
    }
    let what = "skyplane: all five caps, s".to_owned();
    rows.push(Row::of(what, vec![begun.elapsed().as_secs_f64()], String::new()));
    Ok(rows)
}

fn admit(network: &str, map: &Network, series: &Series, load: f64) -> Result<Vec<Row>, String> {
    let topology = topology(map)?;
    let hosts = hosts(map, series)?;
    let busy: Vec<&Vec<f32>> =
        series.frames.iter().filter(|flows| flows.iter().any(|flow| *flow > 0.0)).collect();
    let (mut shares, mut admitted, mut times, mut most) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for at in 0..MATRICES {
        let matrix = busy.get(at * busy.len() / MATRICES).ok_or("an empty series")?;
        let wanted = wanted(&hosts, matrix, load / fullest(&hosts, &topology, matrix)?);
        let begun = Instant::now();
        let answer = place(&topology, &Weights::default(), &wanted, &[]);
        times.push(begun.elapsed().as_secs_f64());
        // As many as one call takes: the largest.
        let mut largest = wanted.clone();
        largest.sort_by_key(|one| std::cmp::Reverse(one.bounds.bandwidth));
        largest.truncate(MOST);
        let begun = Instant::now();
        place(&topology, &Weights::default(), &largest, &[]);
        most.push(begun.elapsed().as_secs_f64());
        let class = answer.classes.first().ok_or("no class")?;
        shares.push(100.0 * (1.0 - class.gap()));
        let bits = |sum: Bandwidth| sum.bits_per_second() as f64;
        admitted.push(
            100.0 * bits(class.placed) / wanted.iter().map(|one| bits(one.bounds.bandwidth)).sum::<f64>(),
        );
    }
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let (median, _) = middle(&mut admitted);
    let note = format!("least {least:.2} %; {median:.0} % of what is wanted is admitted");
    let what = format!("{network} at {load} × what shortest paths hold");
    Ok(vec![
        Row::of(format!("{what}: admitted, % of the LP bound (must be ≥ 95)"), shares, note),
        Row::of(format!("{what}: time, s"), times, format!("{MATRICES} matrices")),
        Row::of(format!("{what}: time of the {MOST} largest, s"), most, "what one call takes".to_owned()),
    ])
}

/// One call of as many requests as are allowed, in two classes, among a few hosts of a full mesh; their interfaces are what is
/// scarce, and circuits stand at them.
fn crowd(seeds: u64) -> Result<Vec<Row>, String> {
    let (mut shares, mut times, mut with_moves) = (Vec::new(), Vec::new(), Vec::new());
    let (mut refused, mut helped) = (0, 0);
    for seed in 1..=seeds {
        let mut chance = Chance::new(seed);
        let mut topology = mesh(HOSTS, &mut chance);
        let standing = standing(&mut topology, &mut chance);
        let all = crowded(&topology, &mut chance);
        let begun = Instant::now();
        let mut answer = place_all(&mut topology, &Weights::default(), &all);
        times.push(begun.elapsed().as_secs_f64());
        seek_moves(&mut topology, &Weights::default(), &all, &standing, &mut answer);
        with_moves.push(begun.elapsed().as_secs_f64());
        shares.extend(answer.classes.iter().map(|class| 100.0 * (1.0 - class.gap())));
        refused += answer.refused.len();
        helped += answer.refused.values().filter(|refused| !refused.moves.is_empty()).count();
    }
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let what = format!("{MOST} requests among {TALKING} of {HOSTS} hosts, full mesh");
    let note =
        format!("{helped} of {refused} that are refused would fit after moves; {STANDING} circuits stand");
    Ok(vec![
        Row::of(
            format!("{what}: admitted, % of the LP bound"),
            shares,
            format!("least {least:.2} %; two classes"),
        ),
        Row::of(format!("{what}: time, s (must be ≤ 1)"), times, format!("{seeds} seeds")),
        Row::of(format!("{what}: with what would have to move, s (must be ≤ 1)"), with_moves, note),
    ])
}

fn standing(topology: &mut Topology, chance: &mut Chance) -> Vec<Standing> {
    let ids: Vec<LinkId> = topology.views().into_iter().map(|view| view.id).collect();
    let of_talking = |id: &&LinkId| (0..TALKING).any(|at| id.ends().0 == &node(at));
    let mut ids: Vec<LinkId> = ids.iter().filter(of_talking).cloned().collect();
    let mut standing = Vec::new();
    while standing.len() < STANDING && !ids.is_empty() {
        let id = ids.swap_remove(chance.below(ids.len() as u64) as usize);
        let (from, to) = (id.ends().0.clone(), id.ends().1.clone());
        let path = proto_model::circuit::Path { nodes: vec![from.clone(), to.clone()], links: vec![id] };
        let bounds = Bounds { bandwidth: Bandwidth::mbit(2 + chance.below(8)), ..Bounds::default() };
        topology.reserve(&path, bounds.bandwidth);
        let wanted = Wanted { from, to, bounds, priority: 0, pinned: None };
        standing.push(Standing { circuit: CircuitId(standing.len() as u64), wanted, path });
    }
    standing
}

fn crowded(topology: &Topology, chance: &mut Chance) -> Vec<Timed> {
    let mut pairs = BTreeSet::new();
    while pairs.len() < MOST {
        let (a, b) = (chance.below(TALKING as u64) as usize, chance.below(TALKING as u64) as usize);
        if a < b {
            pairs.insert((a, b));
        }
    }
    let wanted = |(a, b): (usize, usize)| {
        let bounds = Bounds { bandwidth: Bandwidth::mbit(20 + chance.below(800)), ..Bounds::default() };
        let priority = chance.below(2) as u8;
        let wanted = Wanted { from: node(a), to: node(b), bounds, priority, pinned: None };
        Timed { wanted, window: Window { from: topology.now(), to: None } }
    };
    pairs.into_iter().map(wanted).collect()
}

fn middle(values: &mut [f64]) -> (f64, usize) {
    values.sort_by(f64::total_cmp);
    (values.get(values.len() / 2).copied().unwrap_or_default(), values.len())
}

/// Load of the fullest link when everything takes the cheapest path.
fn fullest(hosts: &[NodeName], topology: &Topology, matrix: &[f32]) -> Result<f64, String> {
    let mut topology = topology.clone();
    let free: BTreeMap<LinkId, f64> = topology
        .views()
        .into_iter()
        .map(|view| (view.id, view.capacity.unwrap_or_default().bits_per_second() as f64))
        .collect();
    for one in wanted(hosts, matrix, 1e-3) {
        let bounds = Bounds::default();
        let shun = BTreeSet::new();
        let ask = controller_core::route::Ask {
            from: &one.from,
            to: &one.to,
            bounds: &bounds,
            pinned: None,
            shun: &shun,
            limit: 1,
        };
        let decision = controller_core::route::decide(&topology, &Weights::default(), &ask);
        let path = decision.chosen().ok_or("no path")?.path.clone();
        topology.reserve(&path, one.bounds.bandwidth);
    }
    let share =
        |view: proto_model::request::LinkView| view.reserved.bits_per_second() as f64 / free[&view.id];
    let most = topology.views().into_iter().map(share).fold(0.0, f64::max);
    if most > 0.0 { Ok(most * 1e3) } else { Err("nothing is wanted".into()) }
}

fn host(at: usize) -> NodeName {
    name(&format!("h{at}"))
}

fn topology(map: &Network) -> Result<Topology, String> {
    let mut topology = Topology::new(10_000);
    let at = |node: &String| {
        let found = map.nodes.iter().position(|(name, ..)| name == node);
        found.ok_or_else(|| format!("{node} is not a node"))
    };
    let mut underlays = vec![Vec::new(); map.nodes.len()];
    for (number, (a, b, capacities)) in map.links.iter().enumerate() {
        let network: Name = name(&format!("l{number}"));
        for (end, last) in [(at(a)?, 1), (at(b)?, 2)] {
            underlays[end].push(Underlay {
                interface: format!("e{number}"),
                network: network.clone(),
                addresses: vec![[10, 0, number as u8, last].into()],
                mtu: 1500,
                speed: None,
                shape: false,
            });
        }
        let Some(id) = LinkId::new(host(at(a)?), host(at(b)?), network) else { continue };
        let capacity = capacities.first().map(|mbit| Bandwidth::from_bits_per_second((mbit * 1e6) as u64));
        let rtt = Some(proto_model::Latency::from_millis(5));
        topology.configure(id, LinkValues { capacity, rtt, ..LinkValues::default() });
    }
    for (number, underlays) in underlays.into_iter().enumerate() {
        topology.add_node(host(number));
        topology.set_underlays(&host(number), underlays);
        topology.set_connected(&host(number), true);
    }
    Ok(topology)
}

/// Of the columns of the matrices.
fn hosts(map: &Network, series: &Series) -> Result<Vec<NodeName>, String> {
    let at = |node: &String| {
        let found = map.nodes.iter().position(|(name, ..)| name == node);
        found.map(host).ok_or_else(|| format!("{node} is not a node"))
    };
    series.nodes.iter().map(at).collect()
}

/// One circuit for each ordered pair; flows are in Mbit/s.
fn wanted(hosts: &[NodeName], matrix: &[f32], scale: f64) -> Vec<Wanted> {
    let pairs = hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to)));
    let flows = pairs.zip(matrix).filter(|((from, to), _)| from != to);
    let wanted = flows.filter_map(|((from, to), flow)| {
        let bits = (f64::from(*flow) * scale * 1e6) as u64;
        let bounds = Bounds { bandwidth: Bandwidth::from_bits_per_second(bits), ..Bounds::default() };
        let wanted = Wanted { from: from.clone(), to: to.clone(), bounds, priority: 0, pinned: None };
        (bits > 0).then_some(wanted)
    });
    wanted.collect()
}

fn read(path: &Path) -> Result<String, String> {
    let what = path.display();
    if path.extension().is_none_or(|end| end != "gz") {
        return std::fs::read_to_string(path).map_err(|error| format!("{what}: {error}"));
    }
    let output =
        Command::new("gzip").arg("-dc").arg(path).output().map_err(|error| format!("gzip: {error}"))?;
    match output.status.success() {
        true => String::from_utf8(output.stdout).map_err(|error| format!("{what}: {error}")),
        false => Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
