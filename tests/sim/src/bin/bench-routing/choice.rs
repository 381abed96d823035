//! What the paths of circuits without bounds cost while ways become better and worse, and how often the circuits move: the real core
//! decides.
use crate::Options;
use crate::report::Row;
use crate::scenes::{Play, Script, WAYS};
use crate::weather::{CALM, Scene, Way, between};
use controller_core::settings::Mode;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use proto_model::request::{Request, Response};
use std::time::Duration;
use tests_sim::chance::Chance;

/// What the ways are like.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Of(Scene),
    /// Ways that are alike, with nothing but noise.
    Alike,
}

const ALL: [(Weather, &str); 5] = [
    (Weather::Of(Scene::Ramp), "ramp"),
    (Weather::Of(Scene::Daily), "daily"),
    (Weather::Of(Scene::Gray), "gray failure"),
    (Weather::Of(Scene::Walk), "random walk"),
    (Weather::Alike, "four ways alike"),
];
const MODES: [(Mode, &str); 2] = [(Mode::Predictive, "choosing"), (Mode::Off, "off")];

/// Of one run, means over its seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    cost: f64,
    /// Of the way that was cheapest in each second.
    best: f64,
    moves_per_hour: f64,
}

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let seeds = if options.quick { 2 } else { 24 };
    let mut rows = Vec::new();
    for (weather, name) in ALL {
        let all = side_by_side(weather, options.first_seed, seeds)?;
        for (mode, (_, by)) in MODES.iter().enumerate() {
            let mean =
                |of: fn(&Outcome) -> f64| all.iter().map(|one| of(&one[mode])).sum::<f64>() / seeds as f64;
            let note = format!(
                "mean cost {:.2}, {:.2} of the cheapest each second; {:.2} moves per hour",
                mean(|one| one.cost),
                mean(|one| one.best),
                mean(|one| one.moves_per_hour)
            );
            let values = all.iter().map(|one| one[mode].cost - one[mode].best).collect();
            rows.push(Row::of(format!("{name}, {by}: cost above the cheapest way's"), values, note));
        }
    }
    Ok(rows)
}

/// Seeds are independent: half of them on another thread.
fn side_by_side(weather: Weather, first: u64, seeds: u64) -> Result<Vec<[Outcome; 2]>, String> {
    let some = |from: u64, to: u64| -> Result<Vec<_>, String> {
        (from..to).map(|seed| one_seed(weather, first + seed)).collect()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| some(seeds / 2, seeds));
        let mut all = some(0, seeds / 2)?;
        all.extend(other.join().map_err(|_| "a thread has panicked".to_owned())??);
        Ok(all)
    })
}

fn one_seed(weather: Weather, seed: u64) -> Result<[Outcome; 2], String> {
    let script = script(weather, seed);
    let mut outcomes = [Outcome::default(); 2];
    for (outcome, (mode, _)) in outcomes.iter_mut().zip(MODES) {
        *outcome = run(&script, mode)?;
    }
    Ok(outcomes)
}

fn script(weather: Weather, seed: u64) -> Script {
    match weather {
        Weather::Of(scene) => Script { bounds: vec![Bounds::default()], ..Script::draw(scene, seed) },
        Weather::Alike => {
            let mut chance = Chance::new(seed);
            let (base, seconds) = (between(&mut chance, 20.0, 50.0), CALM + 7_200);
            let ways = (0..WAYS).map(|_| Way::still(base, seconds, &mut chance)).collect();
            Script { ways, prices: vec![Default::default(); WAYS], bounds: vec![Bounds::default()], seed }
        }
    }
}

fn run(script: &Script, mode: Mode) -> Result<Outcome, String> {
    let mut play = Play::new(script, mode, false)?;
    let (mut cost, mut best, mut before) = (0.0, 0.0, 0);
    let seconds = script.ways[0].rtt.len();
    for second in 0..seconds {
        if second % 2 == 1 {
            play.report(second)?;
        }
        play.stage.pass(Duration::from_secs(1));
        if second == CALM / 2 {
            play.create(0)?;
        }
        if second == CALM {
            before = play.stage.fabric.standing().moves;
        }
        if second >= CALM {
            let costs: Vec<f64> = (0..WAYS).map(|way| true_cost(script, way, second)).collect();
            cost += costs[way(&mut play)?];
            best += costs.into_iter().fold(f64::INFINITY, f64::min);
        }
    }
    let watched = (seconds - CALM) as f64;
    let moves = (play.stage.fabric.standing().moves - before) as f64;
    Ok(Outcome { cost: cost / watched, best: best / watched, moves_per_hour: moves * 3_600.0 / watched })
}

/// Of a path over this way, by the weights that are the default; no load.
fn true_cost(script: &Script, way: usize, second: usize) -> f64 {
    let (weights, of) = (Weights::default(), &script.ways[way]);
    let price = script.prices[way].micro_dollars_per_gb() as f64 / 1e6;
    let loss = of.loss[second].min(1.0) * 100.0;
    weights.rtt * of.rtt[second] + weights.loss * loss + weights.price * price + 2.0 * weights.hop
}

/// Which one the circuit takes.
fn way(play: &mut Play<'_>) -> Result<usize, String> {
    let Response::Circuits(all) = play.stage.ask(Request::ListCircuits)? else {
        return Err("no list of circuits".into());
    };
    let path = all.first().and_then(|view| view.circuit.path.as_ref()).ok_or("the circuit has no path")?;
    let over = path.nodes.get(1).and_then(|node| node.as_str()[1..].parse::<usize>().ok());
    over.and_then(|over| over.checked_sub(2)).ok_or_else(|| format!("{path} leads over no way"))
}
