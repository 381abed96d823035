//! Measures what a reservation is worth: its share, its delay and the use of the link, with and without queues of the agents'.
use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::ProgressBar;
use proto_wire::v1;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tests_kernel::flood::{Flood, PAYLOAD, Turn};
use tests_kernel::lab::{Lab, Options, api, file};
use tests_kernel::measure::{Row, Spread, percentile, print};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One round, to see that it works.
    #[arg(long)]
    quick: bool,
    /// The reserved flow's sender gets its turn like every thread: its packets come in heaps.
    #[arg(long)]
    ordinary: bool,
    #[arg(long)]
    json: bool,
}

const MBIT: u64 = 1_000_000;
/// Of the narrow link, and what is reserved of it.
const LINK: u64 = 100 * MBIT;
const RESERVED: u64 = 40 * MBIT;
/// What each of those sends that have reserved nothing.
const GREEDY: u64 = 50 * MBIT;
const PORT: u16 = 9_000;
const PATIENCE: Duration = Duration::from_secs(20);
const FLOWS: [&str; 4] = ["gold", "bulk-1", "bulk-2", "bulk-3"];
/// Bytes of a packet of the floods as it leaves a host: Ethernet, IPv4, UDP, VXLAN, Ethernet, IPv4, UDP, payload.
const FRAME: u64 = 14 + 20 + 8 + 8 + 14 + 20 + 8 + PAYLOAD as u64;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.rounds = 1;
    }
    let turn = if arguments.ordinary { Turn::Ordinary } else { Turn::First };
    let shaped = Stage::up("shaped", "shape = true", RESERVED, turn)?;
    let plain = Stage::up("plain", "emulate = true", RESERVED, turn)?;
    let (mut ours, mut other, mut borrowed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        ours.push(shaped.crowd()?);
        borrowed.push(shaped.borrow()?);
        other.push(plain.crowd()?);
        eprintln!("  round {}: {:?}, without: {:?}", round + 1, ours.last(), other.last());
    }
    let how = format!(
        "Two labs of three hosts in turn, {} rounds: a link of 100 Mbit/s, one circuit with 40 Mbit/s reserved that sends as \
         much (frames as they leave), and three without reservation that send {} Mbit/s each of UDP payload; without \
         queues, no host may shape. A packet's queueing delay is what it takes longer than the median packet before \
         the others begin, from the call that sends it to the receiving kernel's stamp; the reserved flow's sender {}",
        arguments.rounds,
        GREEDY / MBIT,
        match turn {
            Turn::First => "and the wires go before other threads",
            Turn::Ordinary => "takes its turn with all threads, only the wires go before",
        }
    );
    print("Bandwidth", &how, &rows(&ours, &other, &borrowed), arguments.json);
    shaped.lab.down()?;
    plain.lab.down()
}

fn rows(ours: &[Crowd], other: &[Crowd], borrowed: &[f64]) -> Vec<Row> {
    let row = |what: &str, of: fn(&Crowd) -> f64| {
        let spread = |crowds: &[Crowd]| Spread::of(&crowds.iter().map(of).collect::<Vec<_>>());
        Row::compared(what, spread(ours), "without queues", spread(other))
    };
    vec![
        row("share of what is reserved in the first second of the crowd, % (must be ≥ 95)", |crowd| {
            crowd.first
        }),
        row("the same over 4 s, %", |crowd| crowd.share),
        row("queueing delay of the reserved flow, p99, ms (must be ≤ 10)", |crowd| crowd.delay),
        row("the same in the second before the others begin, ms", |crowd| crowd.floor),
        row("use of the link, % (must be ≥ 95)", |crowd| crowd.used),
        Row::alone("use of the link by one flow while the reservation is idle, %", Spread::of(borrowed), ""),
    ]
}

/// What four flows get of a link that is too narrow for them.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    first: f64,
    share: f64,
    delay: f64,
    /// What the stage itself adds, by the same measure.
    floor: f64,
    used: f64,
}

struct Stage {
    lab: Lab,
    /// Of the reserved flow's sender.
    turn: Turn,
    sinks: [IpAddr; 4],
}

impl Stage {
    fn up(name: &str, links: &str, reserved: u64, turn: Turn) -> Result<Self> {
        let plan = file::parse(&topology(links)?, Some(&format!("{name}-{}", std::process::id())))?;
        let lab = Lab::up(plan, Options { register: true, ..Options::default() }, &ProgressBar::hidden())?;
        let sinks = api::ask(lab.plan(), async |mut client| {
            for flow in FLOWS {
                let reserved = if flow == "gold" { reserved } else { 0 };
                let circuit = client.create_circuit(request(flow, reserved)).await?.into_inner();
                if circuit.state() != v1::circuit::State::Active {
                    bail!("the circuit is {:?}: {}", circuit.state(), circuit.detail);
                }
            }
            let resources = client.list_resources(v1::Empty {}).await?.into_inner().resources;
            let address = |flow: &str| -> Result<IpAddr> {
                let sink = format!("{flow}-sink");
                let found = resources.iter().find(|one| one.resource_id == sink);
                let address = found.and_then(|one| one.address.as_ref()).context("it is registered")?;
                Ok(address.v4.parse()?)
            };
            Ok([address(FLOWS[0])?, address(FLOWS[1])?, address(FLOWS[2])?, address(FLOWS[3])?])
        })?;
        Ok(Self { lab, turn, sinks })
    }

    fn flood(&self, which: usize, rate: u64) -> Result<Flood> {
        let plan = self.lab.plan();
        let (from, to) = (plan.namespace(FLOWS[which])?, plan.namespace(&format!("{}-sink", FLOWS[which]))?);
        let turn = if which == 0 { self.turn } else { Turn::Ordinary };
        Flood::start_in_turn(&from, &to, SocketAddr::new(self.sinks[which], PORT), rate, turn)
    }

    fn crowd(&self) -> Result<Crowd> {
        let gold = self.flood(0, RESERVED * PAYLOAD as u64 / FRAME)?;
        std::thread::sleep(Duration::from_secs(1));
        gold.take_delays();
        std::thread::sleep(Duration::from_secs(1));
        let quiet = gold.take_delays();
        let alone = percentile(&quiet, 0.5);
        let greedy = [self.flood(1, GREEDY)?, self.flood(2, GREEDY)?, self.flood(3, GREEDY)?];
        let arrived = || gold.arrived() + greedy.iter().map(Flood::arrived).sum::<u64>();
        let before = gold.arrived();
        let first = during(Duration::from_secs(1), || gold.arrived());
        // The link is full by now.
        let all = arrived();
        let began = std::time::Instant::now();
        std::thread::sleep(Duration::from_secs(3));
        let used = rate(arrived() - all, began.elapsed());
        let share = rate(gold.arrived() - before, began.elapsed() + Duration::from_secs(1));
        let delay = percentile(&gold.take_delays(), 0.99) - alone;
        let part = |rate: f64, of: u64| 100.0 * rate / of as f64;
        Ok(Crowd {
            first: part(first, RESERVED),
            share: part(share, RESERVED),
            delay,
            floor: percentile(&quiet, 0.99) - alone,
            used: part(used, LINK),
        })
    }

    /// One flow that has reserved nothing, while nobody else sends.
    fn borrow(&self) -> Result<f64> {
        let greedy = self.flood(1, 2 * GREEDY)?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(100.0 * during(Duration::from_secs(2), || greedy.arrived()) / LINK as f64)
    }
}

/// Bits per second of frames.
fn rate(payload: u64, time: Duration) -> f64 {
    (payload / PAYLOAD as u64 * FRAME * 8) as f64 / time.as_secs_f64()
}

fn during(time: Duration, arrived: impl Fn() -> u64) -> f64 {
    let (before, began) = (arrived(), std::time::Instant::now());
    std::thread::sleep(time);
    rate(arrived() - before, began.elapsed())
}

fn request(flow: &str, reserved: u64) -> v1::CreateCircuitRequest {
    let rule = v1::Rule {
        action: v1::rule::Action::Allow.into(),
        protocol: v1::rule::Protocol::Udp.into(),
        ..v1::Rule::default()
    };
    let circuit = v1::CircuitSpec {
        name: flow.into(),
        source: flow.into(),
        destination: format!("{flow}-sink"),
        bounds: Some(v1::Bounds { bandwidth: reserved, ..v1::Bounds::default() }),
        rules: vec![rule],
        ..v1::CircuitSpec::default()
    };
    let wait = PATIENCE.as_nanos() as u64;
    v1::CreateCircuitRequest { circuit: Some(circuit), idempotency_key: String::new(), wait }
}

/// `links`: what the owners of both links allow.
fn topology(links: &str) -> Result<String> {
    let mut text = "name = \"bandwidth\"\n".to_owned();
    for node in ["a", "t", "b"] {
        write!(text, "[[node]]\nname = \"{node}\"\n")?;
    }
    for (ends, rate) in [(["a", "t"], "1gbit"), (["t", "b"], "100mbit")] {
        write!(text, "[[link]]\nends = {ends:?}\nrate = \"{rate}\"\n{links}\n")?;
    }
    for flow in FLOWS {
        write!(text, "[[workload]]\nname = \"{flow}\"\nnode = \"a\"\n")?;
        write!(text, "[[workload]]\nname = \"{flow}-sink\"\nnode = \"b\"\n")?;
    }
    Ok(text)
}
