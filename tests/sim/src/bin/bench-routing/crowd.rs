//! What it costs to let ten thousand circuits choose among ten paths each, over ten thousand links.
use crate::Options;
use crate::network::{name, node, pairs};
use crate::report::Row;
use controller_core::choice::live::{Live, MOST, Offered};
use controller_core::choice::priced::{Priced, Weight};
use proto_model::CircuitId;
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests_sim::chance::Chance;

/// The usual one.
const STEP: Duration = Duration::from_secs(4);
const DEGREE: usize = 10;
const HOPS: usize = 3;
const FRAMES: usize = 60;

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let (hosts, circuits) = if options.quick { (200, 1_000) } else { (2_000, 10_000) };
    let mut chance = Chance::new(4);
    let links = pairs(hosts, DEGREE, &mut chance);
    let mut beside: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (a, b) in &links {
        beside.entry(*a).or_default().push(*b);
        beside.entry(*b).or_default().push(*a);
    }
    let ids: Vec<LinkId> = links.iter().filter_map(|(a, b)| link(*a, *b)).collect();
    let mut live = Live::new(STEP);
    ids.iter().for_each(|id| live.join(id, &[]));
    frame(&mut live, &ids, &mut chance);
    let mut asked: Vec<(CircuitId, Path)> = Vec::new();
    for number in 0..circuits {
        let paths: Vec<Path> = (0..MOST)
            .map(|_| walk(number % hosts, &beside, &mut chance))
            .collect::<Option<_>>()
            .ok_or("a host without a link")?;
        let offered: Vec<Offered<'_>> = paths.iter().map(|path| Offered { path, extra: 1.5 }).collect();
        let id = CircuitId(number as u64);
        let kept = live
            .options(id, offered[0], &offered[1..], weight(number))
            .ok_or("a link that was never seen")?;
        live.keep(id, kept);
        asked.extend(paths.into_iter().next().map(|path| (id, path)));
    }
    let (mut seeing, mut weighing) = (Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        let samples: Vec<Priced<f32>> = ids.iter().map(|_| sample(&mut chance)).collect();
        let start = Instant::now();
        live.see(ids.iter().zip(samples));
        seeing.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        for (id, path) in &asked {
            live.reconsider(*id, path);
        }
        weighing.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let bytes = live.bytes_of_circuits() as f64 / circuits as f64;
    let what = format!("{circuits} circuits over {} links", ids.len());
    Ok(vec![
        Row::of(format!("{what}: a frame is learned, ms"), seeing, "once in a step"),
        Row::of(
            format!("{what}: all choose among {MOST} paths, ms"),
            weighing,
            "once in a step, without finding the paths",
        ),
        Row::of("memory of a circuit's choice, bytes", vec![bytes], format!("{MOST} paths of {HOPS} links")),
    ])
}

fn link(a: usize, b: usize) -> Option<LinkId> {
    LinkId::new(node(a), node(b), name("internet"))
}

fn frame(live: &mut Live, ids: &[LinkId], chance: &mut Chance) {
    live.see(ids.iter().map(|id| (id, sample(chance))));
}

/// Every tenth loses something.
fn sample(chance: &mut Chance) -> Priced<f32> {
    let rtt = 20.0 + chance.below(3_000) as f32 / 1e3;
    let lost = if chance.below(10) == 0 { chance.below(50) as f32 } else { 0.0 };
    Priced { all: rtt + lost, rtt }
}

/// Every fourth circuit has weights of its own.
fn weight(number: usize) -> Weight {
    let loss = if number.is_multiple_of(4) { 0.3 } else { 1.0 };
    Weight { rtt: 1.0, loss }
}

fn walk(from: usize, beside: &BTreeMap<usize, Vec<usize>>, chance: &mut Chance) -> Option<Path> {
    let mut path = Path { nodes: vec![node(from)], links: Vec::new() };
    let mut at = from;
    for _ in 0..HOPS {
        let others = beside.get(&at)?;
        let to = others[chance.below(others.len() as u64) as usize];
        path.nodes.push(node(to));
        path.links.push(link(at, to)?);
        at = to;
    }
    Some(path)
}
