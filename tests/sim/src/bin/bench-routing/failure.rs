//! A link fails under ten thousand circuits: how long the real core takes until all of them are planned anew.
use crate::Options;
use crate::network::{name, node, pairs};
use crate::report::Row;
use crate::stage::Stage;
use controller_core::fabric::Settings;
use proto_model::intent::Bounds;
use proto_model::request::{CircuitRequest, Request, Response};
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Bandwidth, Latency, Name, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests_sim::chance::Chance;

const HOSTS: usize = 60;
const DEGREE: usize = 6;
/// On each host.
const RESOURCES: u64 = 20;

/// The fabric, and which of its resources have circuits.
pub(crate) struct Network {
    pub(crate) stage: Stage,
    /// Pairs of resources with a circuit.
    joined: BTreeSet<(String, String)>,
}

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let circuits = if options.quick { 500 } else { 10_000 };
    let repeats = if options.quick { 1 } else { 5 };
    let mut chance = Chance::new(2);
    let mut network = Network::up(Settings::default(), &mut chance)?;
    for number in 0..circuits {
        network.create(number, &mut chance)?;
    }
    let mut rows = Vec::new();
    let (mut times, mut most, mut least) = (Vec::new(), 0, usize::MAX);
    for _ in 0..repeats {
        let (link, crossing) = network.busiest()?;
        (most, least) = (most.max(crossing), least.min(crossing));
        let lost = link.network().clone();
        let begun = Instant::now();
        let (end, _) = link.ends();
        let end = end.clone();
        network.lose(&end, &lost);
        times.push(begun.elapsed().as_secs_f64());
        let left = network.crossing()?.get(&link).copied().unwrap_or_default();
        if left > 0 {
            return Err(format!("{left} circuits still cross {link}"));
        }
    }
    let what = format!(
        "the busiest link of {HOSTS} hosts vanishes under {circuits} protected circuits, until all are planned anew, s (must be ≤ 1)"
    );
    rows.push(Row::of(what, times, format!("{repeats} links in turn, {least} to {most} circuits over each")));
    let (host, crossing) = network.busiest_host()?;
    network.stage.disconnect(&host);
    let begun = Instant::now();
    network.stage.pass(Duration::from_secs(31));
    let what = "the busiest transit host of them is given up, s".to_owned();
    rows.push(Row::of(what, vec![begun.elapsed().as_secs_f64()], format!("{crossing} circuits over it")));
    Ok(rows)
}

impl Network {
    pub(crate) fn up(settings: Settings, chance: &mut Chance) -> Result<Self, String> {
        let mut stage = Stage::new(settings)?;
        let links = pairs(HOSTS, DEGREE, chance);
        for (at, (a, b)) in links.iter().enumerate() {
            stage.wire(at, *a, *b);
        }
        for host in 0..HOSTS {
            stage.enrol(host, RESOURCES)?;
        }
        for (at, (a, b)) in links.iter().enumerate() {
            let Some(link) = LinkId::new(node(*a), node(*b), name(&format!("l{at}"))) else { continue };
            let rtt = Some(Latency::from_micros(500 + chance.below(20_000)));
            stage.ask(Request::SetLink { link, values: LinkValues { rtt, ..LinkValues::default() } })?;
        }
        Ok(Self { stage, joined: BTreeSet::new() })
    }

    /// The host's interface into that network is gone.
    fn lose(&mut self, node: &NodeName, network: &Name) {
        self.stage.disconnect(node);
        if let Some(underlays) = self.stage.underlays.get_mut(node) {
            underlays.retain(|underlay| underlay.network != *network);
        }
        self.stage.connect(node);
        self.stage.pass(Duration::from_millis(1));
    }

    pub(crate) fn create(&mut self, number: u64, chance: &mut Chance) -> Result<(), String> {
        let (from, to) = self.draw_pair(chance);
        let circuit = CircuitRequest {
            name: Some(name(&format!("k{number}"))),
            source: name(&from),
            destination: name(&to),
            bounds: Bounds { bandwidth: Bandwidth::mbit(1 + chance.below(9)), ..Bounds::default() },
            priority: chance.below(4) as u8,
            pinned_path: None,
            rules: Vec::new(),
            until: None,
            starts: None,
        };
        self.stage.ask(Request::CreateCircuit { circuit, idempotency_key: None }).map(drop)
    }

    /// Resources of two hosts that have no circuit yet.
    fn draw_pair(&mut self, chance: &mut Chance) -> (String, String) {
        loop {
            let from = chance.below(HOSTS as u64);
            let to = (from + 1 + chance.below(HOSTS as u64 - 1)) % HOSTS as u64;
            let mut resource = |host| format!("r{host}-{}", chance.below(RESOURCES));
            let pair = (resource(from), resource(to));
            let turned = (pair.1.clone(), pair.0.clone());
            if !self.joined.contains(&turned) && self.joined.insert(pair.clone()) {
                return pair;
            }
        }
    }

    fn crossing(&mut self) -> Result<BTreeMap<LinkId, usize>, String> {
        let mut crossing = BTreeMap::new();
        for path in self.paths()? {
            path.links.into_iter().for_each(|link| *crossing.entry(link).or_default() += 1);
        }
        Ok(crossing)
    }

    fn paths(&mut self) -> Result<Vec<proto_model::circuit::Path>, String> {
        let Response::Circuits(all) = self.stage.ask(Request::ListCircuits)? else { return Ok(Vec::new()) };
        Ok(all.into_iter().filter_map(|view| view.circuit.path).collect())
    }

    fn busiest(&mut self) -> Result<(LinkId, usize), String> {
        let most = self.crossing()?.into_iter().max_by_key(|(_, circuits)| *circuits);
        most.ok_or_else(|| "no circuit crosses a link".to_owned())
    }

    fn busiest_host(&mut self) -> Result<(NodeName, usize), String> {
        let mut crossing: BTreeMap<NodeName, usize> = BTreeMap::new();
        for path in self.paths()? {
            let inner = path.nodes.get(1..path.nodes.len() - 1).unwrap_or_default();
            inner.iter().for_each(|node| *crossing.entry(node.clone()).or_default() += 1);
        }
        let most = crossing.into_iter().max_by_key(|(_, circuits)| *circuits);
        most.ok_or_else(|| "no circuit crosses a host".to_owned())
    }
}
