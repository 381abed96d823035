//! Whether it pays to look ahead: the real core moves circuits with bounds while ways become worse and better, by forecasts, by the last
//! measurements, and not at all.
use crate::Options;
use crate::network::{name, node};
use crate::report::Row;
use crate::stage::Stage;
use crate::weather::{CALM, Scene, Way, between, normal};
use controller_core::fabric::Settings;
use controller_core::settings::Mode;
use proto_model::intent::Bounds;
use proto_model::report::{Say, Telemetry};
use proto_model::request::{CircuitRequest, Request, Response};
use proto_model::topology::{LinkId, LinkValues, Measured};
use proto_model::{Latency, Loss, Price};
use std::time::Duration;
use tests_sim::chance::Chance;

pub(crate) const WAYS: usize = 4;
const CIRCUITS: usize = 6;
/// The hosts at the ends; a way leads over the host two further than its number.
const ENDS: [usize; 2] = [0, 1];
/// Of a link, in two seconds, as hosts send them.
const PROBES: u32 = 20;
/// Of one probe, as a part of the round-trip time.
const JITTER: f64 = 0.02;
const MODES: [(Mode, &str); 3] =
    [(Mode::Predictive, "predictive"), (Mode::Reactive, "reactive"), (Mode::Off, "off")];

/// What one seed draws, the same for all modes.
pub(crate) struct Script {
    pub(crate) ways: Vec<Way>,
    pub(crate) prices: Vec<Price>,
    pub(crate) bounds: Vec<Bounds>,
    pub(crate) seed: u64,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Seconds of circuits in which their path broke a bound that another way kept.
    broken: f64,
    /// Seconds of circuits in which some way kept the bounds.
    counted: f64,
    moves: f64,
    /// The broken ones, by [`Cause`].
    causes: [f64; 4],
}

/// Why a bound was broken in a second.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// The way broke under the circuit no more than [`ONSET`] seconds ago: nobody who goes by reports is faster.
    Onset,
    /// It broke under the circuit before that, and the circuit was moved no later than its rest ago.
    Rests,
    /// It broke under the circuit before that, and nothing kept the circuit there.
    Late,
    /// It was broken when the circuit came, or broke within [`ONSET`] seconds after that.
    Target,
}

const CAUSES: [&str; 4] = ["onset", "rests", "late", "target"];
/// Half a report, a second until it is looked ahead, and two in which a circuit moves.
const ONSET: usize = 4;
const REST: usize = 30;

/// Where a circuit is, second by second.
#[derive(Clone, Copy, Debug, Default)]
struct Stay {
    way: Option<usize>,
    since: usize,
    /// Begin of the seconds in a row in which the way breaks the bounds, and whether that was so when the circuit came.
    broken: Option<(usize, bool)>,
}

impl Stay {
    fn go_on(&mut self, way: Option<usize>, breaks: bool, second: usize) {
        if self.way != way {
            *self = Self { way, since: second, broken: None };
        }
        self.broken = match self.broken {
            _ if !breaks => None,
            None => Some((second, second - self.since <= ONSET && self.since > CALM)),
            before => before,
        };
    }

    fn cause(&self, second: usize) -> Option<Cause> {
        let (begun, came) = self.broken?;
        Some(match (came, second - begun < ONSET, second - self.since <= REST) {
            (true, _, _) => Cause::Target,
            (false, true, _) => Cause::Onset,
            (false, false, true) => Cause::Rests,
            (false, false, false) => Cause::Late,
        })
    }
}

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let seeds = if options.quick { 2 } else { 24 };
    let mut rows = Vec::new();
    for scene in Scene::ALL {
        let all: Vec<[Outcome; 3]> = side_by_side(scene, options, seeds)?;
        let hours = (scene.seconds() * CIRCUITS) as f64 / 3_600.0;
        let sum = |mode: usize| all.iter().map(|one| one[mode].broken).sum::<f64>();
        for (mode, (_, by)) in MODES.iter().enumerate() {
            let values = all.iter().map(|one| one[mode].broken / hours).collect();
            let moves = all.iter().map(|one| one[mode].moves / hours).sum::<f64>() / all.len() as f64;
            let counted = 100.0 * all.iter().map(|one| one[mode].counted / hours / 3_600.0).sum::<f64>();
            let more = all.iter().filter(|one| one[mode].broken > 1.05 * one[1].broken + 1.0).count();
            let causes = CAUSES.iter().enumerate().map(|(at, name)| {
                let some: f64 = all.iter().map(|one| one[mode].causes[at]).sum();
                format!("{name} {:.0} %", 100.0 * some / sum(mode).max(1.0))
            });
            let note = format!(
                "{:.0} s in all ({}), {:+.1} % of reactive, more in {more} of {seeds} seeds; {moves:.2} moves per \
                 circuit-hour; {:.0} % of the time some way keeps the bounds",
                sum(mode),
                causes.collect::<Vec<_>>().join(", "),
                100.0 * (sum(mode) / sum(1) - 1.0),
                counted / all.len() as f64
            );
            rows.push(Row::of(format!("{}, {by}: violation s per circuit-hour", scene.name()), values, note));
        }
    }
    Ok(rows)
}

/// Seeds are independent: half of them on another thread.
fn side_by_side(scene: Scene, options: &Options, seeds: u64) -> Result<Vec<[Outcome; 3]>, String> {
    let some = |from: u64, to: u64| -> Result<Vec<_>, String> {
        (from..to).map(|seed| one_seed(scene, options.first_seed + seed, options.log)).collect()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| some(seeds / 2, seeds));
        let mut all = some(0, seeds / 2)?;
        all.extend(other.join().map_err(|_| "a thread has panicked".to_owned())??);
        Ok(all)
    })
}

fn one_seed(scene: Scene, seed: u64, log: bool) -> Result<[Outcome; 3], String> {
    let script = Script::draw(scene, seed);
    let mut outcomes = [Outcome::default(); 3];
    for (outcome, (mode, _)) in outcomes.iter_mut().zip(MODES) {
        *outcome = Play::new(&script, mode, log)?.run()?;
    }
    Ok(outcomes)
}

impl Script {
    pub(crate) fn draw(scene: Scene, seed: u64) -> Self {
        let mut chance = Chance::new(seed.wrapping_mul(4).wrapping_add(scene as u64));
        let ways: Vec<Way> = (0..WAYS).map(|_| Way::of(scene, &mut chance)).collect();
        let prices =
            ways.iter().map(|_| Price::from_micro_dollars_per_gb(chance.below(5) * 50_000)).collect();
        let best = ways.iter().map(|way| way.base).fold(f64::INFINITY, f64::min);
        let bounds = (0..CIRCUITS).map(|number| Bounds {
            max_rtt: Some(latency(best * between(&mut chance, 1.15, 2.5))),
            max_loss: (number % 2 == 1).then(|| share(between(&mut chance, 0.005, 0.02))),
            ..Bounds::default()
        });
        let bounds = bounds.collect();
        Self { ways, prices, bounds, seed }
    }

    fn keeps(&self, way: usize, second: usize, bounds: &Bounds) -> bool {
        let way = &self.ways[way];
        bounds.max_rtt.is_none_or(|max| way.rtt[second] <= max.as_millis_f64())
            && bounds.max_loss.is_none_or(|max| way.loss[second] * 1e6 <= f64::from(max.ppm()))
    }
}

/// One script in one mode.
pub(crate) struct Play<'a> {
    script: &'a Script,
    pub(crate) stage: Stage,
    chance: Chance,
    stays: [Stay; CIRCUITS],
    mode: Mode,
    log: bool,
}

impl<'a> Play<'a> {
    pub(crate) fn new(script: &'a Script, mode: Mode, log: bool) -> Result<Self, String> {
        let mut settings = Settings::default();
        settings.reroute.mode = mode;
        let mut stage = Stage::new(settings)?;
        for way in 0..WAYS {
            stage.wire(2 * way, ENDS[0], way + 2);
            stage.wire(2 * way + 1, way + 2, ENDS[1]);
        }
        for host in 0..WAYS + 2 {
            stage.enrol(host, CIRCUITS as u64)?;
        }
        for (way, price) in script.prices.iter().enumerate() {
            let link = links(way)?[0].clone();
            let values = LinkValues { price: *price, ..LinkValues::default() };
            stage.ask(Request::SetLink { link, values })?;
        }
        let chance = Chance::new(!script.seed);
        Ok(Self { script, stage, chance, stays: [Stay::default(); CIRCUITS], mode, log })
    }

    fn run(mut self) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let seconds = self.script.ways[0].rtt.len();
        let mut before = 0;
        for second in 0..seconds {
            if second % 2 == 1 {
                self.report(second)?;
            }
            self.stage.pass(Duration::from_secs(1));
            if second == CALM / 2 {
                (0..CIRCUITS).try_for_each(|number| self.create(number))?;
            }
            if second == CALM {
                before = self.stage.fabric.standing().moves;
            }
            if second >= CALM {
                self.count(second, &mut outcome)?;
            }
        }
        outcome.moves = (self.stage.fabric.standing().moves - before) as f64;
        Ok(outcome)
    }

    pub(crate) fn create(&mut self, number: usize) -> Result<(), String> {
        let circuit = CircuitRequest {
            name: Some(name(&format!("k{number}"))),
            source: name(&format!("r{}-{number}", ENDS[0])),
            destination: name(&format!("r{}-{number}", ENDS[1])),
            bounds: self.script.bounds[number].clone(),
            priority: 0,
            pinned_path: None,
            rules: Vec::new(),
            until: None,
            starts: None,
        };
        self.stage.ask(Request::CreateCircuit { circuit, idempotency_key: None }).map(drop)
    }

    /// Both ends of each link tell what their probes saw in the last two seconds.
    pub(crate) fn report(&mut self, second: usize) -> Result<(), String> {
        let mut said = vec![Vec::new(); WAYS + 2];
        for (number, way) in self.script.ways.iter().enumerate() {
            let mean = |of: &[f64]| (of[second - 1] + of[second]) / 2.0;
            // One link is as long as the way is at least, in part; what happens, happens on the other one.
            let calm = 0.3 * way.base.min(mean(&way.rtt));
            let values = [(mean(&way.rtt) - calm, mean(&way.loss)), (calm, 0.0)];
            let [near, far] = links(number)?;
            for (link, (rtt, loss)) in [near, far].into_iter().zip(values) {
                let (a, b) = link.ends();
                for end in [a, b] {
                    let at = end.as_str()[1..].parse::<usize>().map_err(|error| error.to_string())?;
                    said[at].push((link.clone(), probed(rtt, loss, &mut self.chance)));
                }
            }
        }
        for (host, links) in said.into_iter().enumerate() {
            self.stage.say(&node(host), Say::Telemetry(Telemetry { links, ..Telemetry::default() }));
        }
        Ok(())
    }

    fn count(&mut self, second: usize, outcome: &mut Outcome) -> Result<(), String> {
        let Response::Circuits(all) = self.stage.ask(Request::ListCircuits)? else { return Ok(()) };
        for (number, bounds) in self.script.bounds.iter().enumerate() {
            let source = format!("r{}-{number}", ENDS[0]);
            let of = all.iter().find(|view| view.circuit.spec.source.as_str() == source);
            let over = of.and_then(|view| view.circuit.path.as_ref()?.nodes.get(1).cloned());
            let way = over.and_then(|over| over.as_str()[1..].parse::<usize>().ok()?.checked_sub(2));
            let breaks = way.is_none_or(|way| !self.script.keeps(way, second, bounds));
            let can_be_kept = (0..WAYS).any(|way| self.script.keeps(way, second, bounds));
            self.stays[number].go_on(way, breaks, second);
            outcome.counted += f64::from(u8::from(can_be_kept));
            if let Some(cause) = self.stays[number].cause(second).filter(|_| can_be_kept) {
                outcome.broken += 1.0;
                outcome.causes[cause as usize] += 1.0;
                self.tell(number, second, cause);
            }
        }
        Ok(())
    }

    /// For who wants to know where the seconds are lost.
    fn tell(&self, number: usize, second: usize, cause: Cause) {
        if self.log {
            let Stay { way, since, broken } = self.stays[number];
            let rtts: Vec<_> = self.script.ways.iter().map(|way| format!("{:.1}", way.rtt[second])).collect();
            let bounds = &self.script.bounds[number];
            eprintln!(
                "{:?} seed {} circuit {number} at {second}: {cause:?} on {way:?} since {since}, broken {broken:?}; \
                 {rtts:?} of {:?} {:?}",
                self.mode, self.script.seed, bounds.max_rtt, bounds.max_loss
            );
        }
    }
}

fn links(way: usize) -> Result<[LinkId; 2], String> {
    let link = |end: usize, number: usize| {
        LinkId::new(node(end), node(way + 2), name(&format!("l{number}")))
            .ok_or("a link to itself".to_owned())
    };
    Ok([link(ENDS[0], 2 * way)?, link(ENDS[1], 2 * way + 1)?])
}

fn probed(rtt: f64, loss: f64, chance: &mut Chance) -> Measured {
    let mut lost = |share: f64| (0..PROBES).filter(|_| between(chance, 0.0, 1.0) < share).count();
    let (forward, backward) = (lost(loss), lost(loss));
    let part = |lost: usize| share(lost as f64 / f64::from(PROBES));
    let mean = rtt * (1.0 + JITTER / f64::from(PROBES).sqrt() * normal(chance));
    Measured {
        probes: PROBES,
        rtt_min: latency(rtt * (1.0 - 2.0 * JITTER)),
        rtt_mean: latency(mean),
        rtt_max: latency(rtt * (1.0 + 2.0 * JITTER)),
        loss_forward: part(forward),
        loss_backward: part(backward),
        ..Measured::default()
    }
}

fn latency(millis: f64) -> Latency {
    Latency::from_micros((millis * 1e3) as u64)
}

fn share(of_one: f64) -> Loss {
    Loss::from_ppm((of_one * 1e6) as u32)
}
