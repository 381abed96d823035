//! Circuits leave paths that work for better ones, and stay when it is not worth it.
use super::links::{answered, measure};
use super::protection::{circuit, paths, switch};
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use crate::settings::Mode;
use proto_model::desired::Side;
use proto_model::report::{Say, Telemetry, Traffic, Way};
use proto_model::request::Request;
use proto_model::topology::LinkValues;
use proto_model::{CircuitId, Horizon, Latency, Risk, Weighed, Weight};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
const WAYS: [&str; 3] = ["t1", "t2", "t3"];

/// Three ways of two links each, of which nothing is configured.
pub(super) fn measured(settings: Settings) -> World {
    let mut world = World::new(settings);
    for node in WAYS {
        for (one, other) in [("a", node), (node, "b")] {
            world.wire(one, other, 1, 1_000);
            let values = LinkValues::default();
            world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
        }
    }
    for node in ["a", "b", "t1", "t2", "t3"] {
        world.enrol(node);
        world.connect(node);
    }
    world.register("web", "a");
    world.register("db", "b");
    world
}

/// A second in which the ways have these round-trip times, in microseconds.
fn second(world: &mut World, micros: [u64; 3]) {
    for (node, micros) in WAYS.into_iter().zip(micros) {
        measure(world, "a", "a", node, answered(micros / 2, 0));
        measure(world, "b", node, "b", answered(micros / 2, 0));
    }
    world.pass(SECOND);
    world.check();
}

pub(super) fn seconds(world: &mut World, count: usize, micros: [u64; 3]) {
    (0..count).for_each(|_| second(world, micros));
}

/// So that nothing but a bound is a reason to take it.
fn make_second_way_dear(world: &mut World) {
    for (one, other) in [("a", "t2"), ("t2", "b")] {
        let values = LinkValues { price: "0.5 $/GB".parse().expect("a price"), ..LinkValues::default() };
        world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
    }
}

fn path(world: &mut World, id: CircuitId) -> String {
    paths(&circuit(world, id)).0
}

#[test]
fn a_circuit_moves_to_a_path_that_became_better_and_says_why() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    assert_eq!(path(&mut world, id), "a → t1 → b");
    seconds(&mut world, 40, [30_000, 10_000, 20_000]);
    let shown = circuit(&mut world, id);
    assert_eq!(paths(&shown).0, "a → t2 → b");
    assert!(shown.moved.contains("moved here from a → t1 → b"), "{}", shown.moved);
    assert!(shown.moved.contains("it cost"), "{}", shown.moved);
    assert_eq!(world.fabric.standing().moves, 1);
}

#[test]
fn a_circuit_whose_bound_breaks_moves_to_a_dearer_path_that_keeps_it() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    seconds(&mut world, 15, [2_000, 10_000, 90_000]);
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(25));
    let id = world.create(wanted).expect("feasible").circuit.id;
    seconds(&mut world, 40, [40_000, 10_000, 90_000]);
    let shown = circuit(&mut world, id);
    assert_eq!(paths(&shown).0, "a → t2 → b", "100 dearer, and within its bound");
    assert!(shown.moved.contains("25 ms is allowed"), "{}", shown.moved);
}

#[test]
fn a_circuit_whose_bound_breaks_takes_what_rather_keeps_it_where_nothing_surely_does() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    let alternate = |world: &mut World, count: usize, first: u64| {
        for second in 0..count {
            // Eight seconds of each: what it will be in a minute is anybody's guess, and the worse is above the bound.
            seconds(world, 1, [first, if second % 16 < 8 { 4_000 } else { 30_000 }, 90_000]);
        }
    };
    alternate(&mut world, 300, 2_000);
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(20));
    let id = world.create(wanted).expect("feasible").circuit.id;
    alternate(&mut world, 40, 2_000);
    assert_eq!(path(&mut world, id), "a → t1 → b");
    alternate(&mut world, 60, 60_000);
    assert_eq!(path(&mut world, id), "a → t2 → b");
}

#[test]
fn a_small_gain_is_not_worth_a_move() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [10_000, 11_000, 20_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    seconds(&mut world, 60, [10_000, 9_900, 20_000]);
    assert_eq!(path(&mut world, id), "a → t1 → b");
}

#[test]
fn a_circuit_that_goes_to_and_fro_rests_longer_each_time() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 50_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    for _ in 0..10 {
        seconds(&mut world, 30, [30_000, 10_000, 50_000]);
        seconds(&mut world, 30, [2_000, 10_000, 50_000]);
    }
    let moves = world.fabric.standing().moves;
    assert!((3..=7).contains(&moves), "{moves} moves in 10 min of alternation: {}", path(&mut world, id));
}

#[test]
fn a_circuit_whose_bound_is_broken_does_not_rest_longer_for_having_gone_to_and_fro() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 90_000]);
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(25));
    let id = world.create(wanted).expect("feasible").circuit.id;
    for _ in 0..6 {
        seconds(&mut world, 60, [40_000, 10_000, 90_000]);
        assert_eq!(path(&mut world, id), "a → t2 → b");
        seconds(&mut world, 60, [10_000, 40_000, 90_000]);
        assert_eq!(path(&mut world, id), "a → t1 → b");
    }
}

#[test]
fn pinned_circuits_and_those_on_their_backup_stay() {
    let mut world = measured(Settings::default());
    world.register("web2", "a");
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let mut pinned = request("web", "db");
    pinned.pinned_path = Some(["a", "t1", "b"].map(name).to_vec());
    let pinned = world.create(pinned).expect("feasible").circuit.id;
    let turned = world.create(request("web2", "db")).expect("feasible").circuit.id;
    switch(&mut world, "a", turned, Side::Source, Way::Backup);
    seconds(&mut world, 40, [30_000, 12_000, 10_000]);
    assert_eq!(path(&mut world, pinned), "a → t1 → b");
    assert_eq!(path(&mut world, turned), "a → t1 → b");
    switch(&mut world, "a", turned, Side::Source, Way::Primary);
    seconds(&mut world, 40, [30_000, 12_000, 10_000]);
    assert_eq!(path(&mut world, turned), "a → t3 → b");
}

#[test]
fn nothing_moves_when_that_is_switched_off() {
    let mut settings = Settings::default();
    settings.reroute.mode = Mode::Off;
    let mut world = measured(settings);
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    seconds(&mut world, 60, [30_000, 10_000, 20_000]);
    assert_eq!(path(&mut world, id), "a → t1 → b");
}

#[test]
fn an_agent_that_cannot_build_the_better_path_keeps_the_circuit_where_it_is() {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    seconds(&mut world, 15, [2_000, 10_000, 20_000]);
    world.agents.get_mut(&name("t3")).expect("agent").mute = true;
    let mut announced = Vec::new();
    for _ in 0..60 {
        seconds(&mut world, 1, [30_000, 31_000, 10_000]);
        let shown = circuit(&mut world, id);
        assert_eq!(paths(&shown).0, "a → t1 → b");
        announced.push(shown.protection.contains("about to move there"));
    }
    announced.dedup();
    assert!(
        announced.starts_with(&[false, true, false]),
        "a move that was given up is announced no longer: {announced:?}"
    );
}

/// A hundred circuits of 100 Mbit/s each, and a better way that holds nine of them.
/// A thousand circuits, each of a hundredth of a link, on one that becomes slow; two others become better.
#[test]
fn a_crowd_does_not_overload_a_better_link() {
    const CROWD: u64 = 1_000;
    const MBIT_10: u64 = 1_250_000;
    /// 90 × 10 of 1,000 Mbit/s are 90 %.
    const FULL: usize = 90;
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, [2_000, 30_000, 40_000]);
    let mut ids = Vec::new();
    for n in 0..CROWD {
        world.register(&format!("w{n}"), "a");
        ids.push(world.create(request(&format!("w{n}"), "db")).expect("feasible").circuit.id);
    }
    let mut now: BTreeMap<String, usize> = BTreeMap::new();
    for second_now in 1..150u64 {
        let sent_bytes = second_now * MBIT_10;
        let traffic = ids.iter().map(|id| (*id, Traffic { sent_bytes, ..Traffic::default() })).collect();
        let session = world.agents[&name("a")].session.expect("connected");
        world.say("a", session, Say::Telemetry(Telemetry { traffic, ..Telemetry::default() }));
        let micros = if second_now < 10 { [2_000, 30_000, 40_000] } else { [80_000, 10_000, 70_000] };
        seconds(&mut world, 1, micros);
        now = BTreeMap::new();
        for id in &ids {
            *now.entry(path(&mut world, *id)).or_default() += 1;
        }
        let crowded = now.iter().filter(|(way, crowd)| *way != "a → t1 → b" && **crowd > FULL);
        assert_eq!(crowded.count(), 0, "after {second_now} s: {now:?}");
    }
    assert_eq!((now["a → t2 → b"], now["a → t3 → b"]), (FULL, FULL));
}

/// Of paths that are alike, measurements show now the one, now the other to be the better one.
#[test]
fn noise_moves_nothing() {
    let mut world = measured(Settings::default());
    let mut noise = 1u64;
    let mut jitter = move || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        200 + (noise >> 33) % 200
    };
    for _ in 0..15 {
        second(&mut world, [jitter(), jitter(), jitter()]);
    }
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let first = path(&mut world, id);
    for _ in 0..600 {
        second(&mut world, [jitter(), jitter(), jitter()]);
    }
    assert_eq!((path(&mut world, id), world.fabric.standing().moves), (first, 0));
}

/// Its round-trip time grows by 1 ms in 10 s: within the horizon it will be above the bound.
#[test]
fn circuit_moves_before_its_latency_bound_breaks() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    for _ in 0..120 {
        second(&mut world, [10_000, 20_000, 40_000]);
    }
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(30));
    let id = world.create(wanted).expect("feasible").circuit.id;
    let mut moved = None;
    for now in 0..200u64 {
        let micros = 10_000 + now * 100;
        second(&mut world, [micros, 20_000, 40_000]);
        if path(&mut world, id) != "a → t1 → b" {
            moved = Some(micros);
            break;
        }
    }
    let micros = moved.expect("it moved");
    assert!((15_000..30_000).contains(&micros), "at {micros} µs, 30 ms are allowed");
    let shown = circuit(&mut world, id);
    assert!(shown.moved.contains("may reach"), "{}", shown.moved);
}

/// A round-trip time that wanders: who wants to be surer, or for longer, leaves first.
#[test]
fn an_intent_with_less_risk_and_a_longer_horizon_leaves_earlier() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    let wander = |second: u64| [10_000 + 300 * (second * 7 % 5), 20_000, 40_000];
    (0..180).for_each(|now| second(&mut world, wander(now)));
    let mut ids = Vec::new();
    for (number, risk, horizon) in [(0, 10_000, 60), (1, 250_000, 2)] {
        world.register(&format!("w{number}"), "a");
        let mut wanted = request(&format!("w{number}"), "db");
        wanted.bounds.max_rtt = Some(Latency::from_millis(30));
        wanted.bounds.risk = Risk::try_from(risk).ok();
        wanted.bounds.horizon = Horizon::try_from(horizon).ok();
        ids.push(world.create(wanted).expect("feasible").circuit.id);
    }
    let mut left = [None; 2];
    for now in 0..250 {
        let [first, others @ ..] = wander(now);
        second(&mut world, [first + now * 100, others[0], others[1]]);
        for (id, left) in ids.iter().zip(&mut left) {
            if left.is_none() && path(&mut world, *id) != "a → t1 → b" {
                *left = Some(now);
            }
        }
    }
    let [Some(sure), Some(bold)] = left else { panic!("{left:?}") };
    assert!(sure + 20 < bold, "after {sure} s and {bold} s");
}

/// Both ways break the bound, and one of them is about to keep it: there the circuit is when it does.
#[test]
fn a_circuit_waits_on_the_path_that_recovers_first() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    seconds(&mut world, 240, [10_000, 60_000, 90_000]);
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(30));
    let id = world.create(wanted).expect("feasible").circuit.id;
    seconds(&mut world, 120, [60_000, 60_000, 90_000]);
    assert_eq!(path(&mut world, id), "a → t1 → b", "one is as bad as the other, and this one is cheaper");
    for now in 0..100 {
        second(&mut world, [60_000, 60_000 - now * 300, 90_000]);
    }
    assert_eq!(path(&mut world, id), "a → t2 → b", "at 30.3 ms, on the way down");
}

#[test]
fn an_intent_with_weights_of_its_own_takes_another_path_and_says_so() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    seconds(&mut world, 15, [30_000, 10_000, 90_000]);
    let usual = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.register("web2", "a");
    let mut wanted = request("web2", "db");
    wanted.bounds.weights.insert(Weighed::Price, Weight::try_from(0.0).expect("within"));
    let plan = world.ask(Request::PlanCircuit { circuit: wanted.clone() });
    let Ok(proto_model::request::Response::Plan(plan)) = plan else { panic!("a plan") };
    assert_eq!((plan.weights.price, plan.weights.rtt), (0.0, Settings::default().weights.rtt));
    let free = world.create(wanted).expect("feasible").circuit.id;
    seconds(&mut world, 5, [30_000, 10_000, 90_000]);
    assert_eq!(path(&mut world, usual), "a → t1 → b");
    assert_eq!(path(&mut world, free), "a → t2 → b", "money is nothing to it");
    world.restart();
    assert_eq!(path(&mut world, free), "a → t2 → b");
}

/// Of two ways within the bound the cheaper one may exceed it: that one is passed over, and it is said why.
#[test]
fn a_new_circuit_takes_the_path_that_surely_keeps_its_bound() {
    let mut world = measured(Settings::default());
    make_second_way_dear(&mut world);
    let mut chance = 1u64;
    let mut swings = 6_000;
    for now in 0..400 {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        swings = match now {
            392.. => 6_000,
            _ if now % 4 == 0 => 3_000 + (chance >> 33) % 26_000,
            _ => swings,
        };
        for (node, near, far) in [("t1", swings, 1_000), ("t2", 5_000, 5_000), ("t3", 45_000, 45_000)] {
            measure(&mut world, "a", "a", node, answered(near, 0));
            measure(&mut world, "b", node, "b", answered(far, 0));
        }
        world.pass(SECOND);
    }
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(22));
    let plan = world.ask(Request::PlanCircuit { circuit: wanted.clone() });
    let Ok(proto_model::request::Response::Plan(plan)) = plan else { panic!("a plan") };
    let doubtful = plan.candidates.iter().find(|one| one.path.to_string() == "a → t1 → b").expect("seen");
    let doubts = doubtful.rejected.join("; ");
    assert!(doubts.contains("at a risk of 5 %"), "{doubts:?} of {doubtful:?}, {:?}", plan.warnings);
    assert!(doubtful.cost < plan.candidates[0].cost && plan.warnings.is_empty());
    let mut without = wanted.clone();
    without.bounds.avoid.insert(name("t2"));
    let plan = world.ask(Request::PlanCircuit { circuit: without });
    let Ok(proto_model::request::Response::Plan(plan)) = plan else { panic!("a plan") };
    assert!(plan.warnings.iter().any(|warning| warning.contains("22 ms is allowed")), "{:?}", plan.warnings);
    let id = world.create(wanted).expect("feasible").circuit.id;
    assert_eq!(path(&mut world, id), "a → t2 → b");
}

/// What was measured before a restart is what forecasts begin with after it.
#[test]
fn forecasts_outlive_a_restart() {
    let mut world = measured(Settings::default());
    for _ in 0..120 {
        second(&mut world, [10_000, 20_000, 40_000]);
    }
    let source = |world: &mut World| {
        let plan = world.ask(Request::PlanCircuit { circuit: request("web", "db") });
        let Ok(proto_model::request::Response::Plan(plan)) = plan else { panic!("a plan") };
        plan.candidates[0].terms[0].quantity.clone()
    };
    assert!(source(&mut world).ends_with("(forecast)"), "{}", source(&mut world));
    let history = world.fabric.history().to_bytes();
    world.restart();
    let now = world.now;
    assert_eq!(world.fabric.recall(&history, now), Ok(6));
    assert!(world.fabric.recall(&history[..history.len() / 2], now).is_err());
    for node in ["a", "b", "t1", "t2", "t3"] {
        world.connect(node);
    }
    seconds(&mut world, 3, [10_000, 20_000, 40_000]);
    assert!(source(&mut world).ends_with("(forecast)"), "{}", source(&mut world));
}

/// The classic trap: the path that becomes the cheapest by far crosses a host of each of the two disjoint ones.
#[test]
fn a_circuit_keeps_its_protection_when_a_path_without_any_becomes_cheaper() {
    let mut world = World::new(Settings::default());
    let wires = [("a", "t1", 1_000), ("t1", "b", 10_000), ("a", "t4", 10_000), ("t4", "b", 1_000)];
    for (one, other, _) in wires.into_iter().chain([("t1", "t4", 0)]) {
        world.wire(one, other, 1, 1_000);
        let values = LinkValues::default();
        world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
    }
    for node in ["a", "b", "t1", "t4"] {
        world.enrol(node);
        world.connect(node);
    }
    world.register("web", "a");
    world.register("db", "b");
    let run = |world: &mut World, seconds: usize, short: u64| {
        for _ in 0..seconds {
            for (one, other, micros) in wires.into_iter().chain([("t1", "t4", short)]) {
                measure(world, one, one, other, answered(micros, 0));
            }
            world.pass(SECOND);
        }
    };
    run(&mut world, 15, 50_000);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let before = paths(&circuit(&mut world, id));
    assert_eq!(before, ("a → t1 → b".into(), "a → t4 → b".into()));
    run(&mut world, 200, 500);
    world.register("web2", "a");
    let plan = world.ask(Request::PlanCircuit { circuit: request("web2", "db") });
    let Ok(proto_model::request::Response::Plan(plan)) = plan else { panic!("a plan") };
    assert!(plan.candidates.iter().any(|one| one.path.to_string() == "a → t1 → t4 → b" && one.cost < 6.0));
    assert_eq!(paths(&circuit(&mut world, id)), before);
}
