//! What it costs to hear of ten thousand circuits: every host tells of its circuits, links and interfaces every two seconds.
use crate::Options;
use crate::failure::Network;
use crate::report::Row;
use controller_core::fabric::Settings;
use controller_core::telemetry::{RoundTrip, Sample, Store};
use proto_model::circuit::Path;
use proto_model::report::{Carried, Say, Telemetry, Traffic};
use proto_model::request::{Request, Response};
use proto_model::topology::{LinkId, Measured};
use proto_model::{Bandwidth, CircuitId, Latency, Loss, NodeName, Timestamp};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests_sim::chance::Chance;

const EVERY: Duration = Duration::from_secs(2);
const ROUNDS: u64 = 60;
/// Before that nothing is scored: levels and books fill.
const WARM: u64 = 10;
const WEEK: u64 = 7 * 24 * 3_600;

/// A fabric, and what its hosts report.
struct Region {
    network: Network,
    hosts: BTreeMap<NodeName, Host>,
}

#[derive(Default)]
struct Host {
    /// Circuits that begin or end there.
    circuits: Vec<CircuitId>,
    links: Vec<LinkId>,
    interfaces: Vec<String>,
}

/// Milliseconds of one round: reports with and without the counters of interfaces (every other round), then what happens by itself.
struct Round {
    reports: f64,
    by_itself: f64,
}

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let circuits = if options.quick { 500 } else { 10_000 };
    let mut plain = Settings::default();
    plain.limits.histories = 0;
    let mut regions = [Region::up(Settings::default(), circuits)?, Region::up(plain, circuits)?];
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    for number in 0..ROUNDS {
        for (region, rounds) in regions.iter_mut().zip(&mut rounds) {
            let round = region.round(number, number % 2 == 0);
            rounds.push(round);
        }
    }
    let reports = |of: usize, skip: usize| -> Vec<f64> {
        let scored = rounds[of].iter().skip(WARM as usize + skip).step_by(2);
        scored.map(|round| round.reports).collect()
    };
    let by_itself = |of: usize| -> Vec<f64> {
        rounds[of].iter().skip(WARM as usize).map(|round| round.by_itself).collect()
    };
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let mean = |values: &[f64]| format!("mean {:.1}", values.iter().sum::<f64>() / values.len() as f64);
    let (with, without) = (reports(0, 0), reports(0, 1));
    let hosts = regions[0].hosts.len();
    let told: usize = regions[0].hosts.values().map(|host| host.circuits.len()).sum();
    let each = median(&with) * 1e3 / told as f64;
    let beside =
        format!("{told} counters of circuits, {each:.2} µs each; {:.2} without interfaces", median(&without));
    let mut rows = vec![
        Row::of(format!("{hosts} hosts report all of {circuits} circuits, ms of each 2 s"), with, beside),
        Row::of("what then happens by itself, ms of each 2 s", by_itself(0), mean(&by_itself(0))),
        Row::of("the same while no history of circuits is kept", by_itself(1), mean(&by_itself(1))),
    ];
    rows.extend(histories(circuits)?);
    Ok(rows)
}

impl Region {
    fn up(settings: Settings, circuits: u64) -> Result<Self, String> {
        let mut chance = Chance::new(4);
        let mut network = Network::up(settings, &mut chance)?;
        for number in 0..circuits {
            network.create(number, &mut chance)?;
        }
        let mut hosts: BTreeMap<NodeName, Host> = BTreeMap::new();
        for (host, underlays) in &network.stage.underlays {
            let interfaces = underlays.iter().map(|underlay| underlay.interface.clone());
            hosts.entry(host.clone()).or_default().interfaces = interfaces.collect();
        }
        for (id, path) in paths(&mut network)? {
            for end in [path.nodes.first(), path.nodes.last()].into_iter().flatten() {
                hosts.entry(end.clone()).or_default().circuits.push(id);
            }
        }
        let Response::Links(links) = network.stage.ask(Request::ListLinks)? else {
            return Err("no list of links".into());
        };
        for link in links {
            let (a, b) = link.id.ends();
            for end in [a, b] {
                hosts.entry(end.clone()).or_default().links.push(link.id.clone());
            }
        }
        Ok(Self { network, hosts })
    }

    fn round(&mut self, number: u64, interfaces: bool) -> Round {
        let counted = self.network.stage.now;
        let mut chance = Chance::new(number);
        let all: Vec<(NodeName, Telemetry)> = self
            .hosts
            .iter()
            .map(|(name, host)| (name.clone(), host.report(number, counted, interfaces, &mut chance)))
            .collect();
        let begun = Instant::now();
        for (name, telemetry) in all {
            self.network.stage.say(&name, Say::Telemetry(telemetry));
        }
        let reports = begun.elapsed().as_secs_f64() * 1e3;
        let begun = Instant::now();
        self.network.stage.pass(EVERY);
        Round { reports, by_itself: begun.elapsed().as_secs_f64() * 1e3 }
    }
}

impl Host {
    fn report(&self, number: u64, counted: Timestamp, interfaces: bool, chance: &mut Chance) -> Telemetry {
        // About 1 Mbit/s each.
        let mut bytes = |rate: u64| (number + 1) * rate + chance.below(rate / 8);
        let traffic = self.circuits.iter().map(|id| {
            let (sent_bytes, received_bytes) = (bytes(250_000), bytes(25_000));
            (*id, Traffic { sent_bytes, received_bytes, sent_packets: number, received_packets: number })
        });
        let traffic = traffic.collect();
        let carried = |interface: &String| Carried {
            interface: interface.clone(),
            sent_bytes: bytes(300_000_000),
            received_bytes: bytes(200_000_000),
        };
        let interfaces = self.interfaces.iter().filter(|_| interfaces).map(carried).collect();
        let links = self.links.iter().map(|link| (link.clone(), measured(chance))).collect();
        Telemetry { counted, traffic, drops: Vec::new(), links, interfaces }
    }
}

fn measured(chance: &mut Chance) -> Measured {
    let rtt = Latency::from_micros(5_000 + chance.below(500));
    Measured { probes: 10, rtt_min: rtt, rtt_mean: rtt, rtt_max: rtt, ..Measured::default() }
}

fn paths(network: &mut Network) -> Result<Vec<(CircuitId, Path)>, String> {
    let Response::Circuits(all) = network.stage.ask(Request::ListCircuits)? else {
        return Err("no list of circuits".into());
    };
    Ok(all.into_iter().filter_map(|view| Some((view.circuit.id, view.circuit.path?))).collect())
}

/// What is kept of circuits that ran for a week, and over a restart.
fn histories(circuits: u64) -> Result<Vec<Row>, String> {
    let begun = Timestamp(1_800_000_000_000_000_000);
    let (mut store, mut chance) = (Store::<CircuitId>::default(), Chance::new(5));
    let mut see = |store: &mut Store<CircuitId>, second: u64| {
        let now = begun.plus(Duration::from_secs(second));
        (0..circuits).for_each(|id| store.see(now, &CircuitId(id), &sample(&mut chance)));
    };
    // The hours of a week, the minutes of three hours, and each two seconds of the last four minutes.
    (0..WEEK - 10_800).step_by(3_600).for_each(|second| see(&mut store, second));
    (WEEK - 10_800..WEEK - 240).step_by(60).for_each(|second| see(&mut store, second));
    (WEEK - 240..=WEEK).step_by(2).for_each(|second| see(&mut store, second));
    let each = store.bytes() as f64 / circuits as f64;
    let none = Store::<LinkId>::default();
    let (mut written, mut read, mut length) = (Vec::new(), Vec::new(), 0);
    for _ in 0..5 {
        let start = Instant::now();
        let bytes = controller_core::telemetry::to_bytes(&none, &store);
        written.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let back = controller_core::telemetry::from_bytes(&bytes).map_err(|error| error.to_string())?;
        read.push(start.elapsed().as_secs_f64() * 1e3);
        length = bytes.len();
        if back.1.keys().len() as u64 != circuits {
            return Err("not all circuits came back".into());
        }
    }
    let most = Store::<CircuitId>::most_bytes();
    let what = |what: &str| format!("how {circuits} circuits ran for a week: {what}");
    let file = format!("{:.1} MB, every five minutes", length as f64 / 1e6);
    Ok(vec![
        Row::of(what("memory of each, bytes"), vec![each], format!("never more than {most}")),
        Row::of(what("written for a restart, ms"), written, file),
        Row::of(what("read after it, ms"), read, String::new()),
    ])
}

fn sample(chance: &mut Chance) -> Sample {
    let rtt = Latency::from_micros(20_000 + chance.below(3_000));
    let load = || Some(Bandwidth::mbit(40));
    Sample {
        rtt: Some(RoundTrip { min: rtt, mean: rtt, max: rtt }),
        loss: [Some(Loss::from_ppm(chance.below(2_000) as u32)), None],
        load: [load(), load()],
    }
}
