//! Circuits choose by cost with what is proven on recorded series, and every choice can be asked for its reasons.
use super::links::{answered, measure};
use super::protection::{circuit, paths};
use super::reroute::{SECOND, measured, seconds};
use crate::fabric::Settings;
use crate::fabric::world::{World, link, request};
use proto_model::CircuitId;
use proto_model::choice::Choice;
use proto_model::plan::Plan;
use proto_model::request::{CircuitRef, Request, Response};
use proto_model::topology::LinkValues;
use proto_model::{Latency, Loss, Weighed, Weight};

fn explained(world: &mut World, id: CircuitId) -> Plan {
    let answer = world.ask(Request::ExplainCircuit { circuit: CircuitRef::Id(id) });
    let Ok(Response::Plan(plan)) = answer else { panic!("a plan, not {answer:?}") };
    plan
}

fn choice(world: &mut World, id: CircuitId) -> Choice {
    explained(world, id).choice.expect("it has paths to choose from")
}

/// The path, and what it costs by the forecast that decides.
fn way(choice: &Choice, at: usize) -> (String, f64) {
    let way = &choice.ways[at];
    let cost = match choice.by.as_str() {
        "agile" => way.agile,
        "steady" => way.steady,
        _ => way.shrunk,
    };
    (way.path.to_string(), cost.expect("all links are measured"))
}

fn placed(millis: [u64; 3]) -> (World, CircuitId) {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, millis.map(|ms| ms * 1_000));
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    seconds(&mut world, 90, millis.map(|ms| ms * 1_000));
    (world, id)
}

#[test]
fn a_choice_says_what_each_path_costs_and_what_would_change_it() {
    let (mut world, id) = placed([20, 25, 40]);
    let choice = choice(&mut world, id);
    let ways: Vec<_> = (0..3).map(|at| way(&choice, at)).collect();
    assert_eq!(
        ways.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["a → t1 → b", "a → t2 → b", "a → t3 → b"]
    );
    for ((_, cost), millis) in ways.iter().zip([20.0, 25.0, 40.0]) {
        assert!((cost - millis - 1.0).abs() < 0.5, "two hops cost 1: {cost} for {millis} ms");
    }
    assert_eq!((choice.here, choice.chosen, choice.held.as_str()), (0, 0, ""));
    assert_eq!(choice.experts.len(), 4);
    assert!(choice.experts.iter().any(|expert| expert.name == choice.expert && expert.evidence > 5.0));
    let flip = choice.flip.expect("another path may become better");
    assert_eq!(flip.way, 1);
    assert!(flip.below < 21.0 && flip.below > 19.0, "the margin is asked of it: {flip:?}");
    assert!((flip.now - 26.0).abs() < 0.5, "{flip:?}");
}

#[test]
fn a_path_that_costs_less_than_was_said_is_taken_and_one_that_costs_a_little_more_is_not() {
    let (mut world, id) = placed([20, 25, 40]);
    let below = choice(&mut world, id).flip.expect("another path may become better").below;
    let micros = |cost: f64| ((cost - 1.0) * 1e3) as u64;
    seconds(&mut world, 90, [20_000, micros(below + 0.2), 40_000]);
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t1 → b");
    seconds(&mut world, 90, [20_000, micros(below - 1.5), 40_000]);
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t2 → b");
}

#[test]
fn a_circuit_that_rests_says_that_it_would_choose_another_path() {
    let (mut world, id) = placed([20, 25, 40]);
    let mut waited = 0;
    while paths(&circuit(&mut world, id)).0 != "a → t2 → b" {
        seconds(&mut world, 1, [60_000, 25_000, 40_000]);
        waited += 1;
        assert!(waited < 60, "it has not moved");
    }
    seconds(&mut world, 24, [10_000, 90_000, 40_000]);
    let choice = choice(&mut world, id);
    assert_eq!(way(&choice, choice.here).0, "a → t2 → b");
    assert_ne!(choice.chosen, choice.here);
    assert!(choice.held.contains("it rests until"), "{}", choice.held);
}

#[test]
fn paths_of_which_all_is_configured_are_compared_like_measured_ones() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let seconds = |world: &mut World, count: usize| {
        for _ in 0..count {
            measure(world, "a", "a", "t1", answered(7_000, 0));
            world.pass(SECOND);
        }
    };
    seconds(&mut world, 20);
    let shown = choice(&mut world, id);
    assert_eq!(way(&shown, 0), ("a → t1 → b".into(), 3.0));
    for (one, other) in [("a", "t1"), ("t1", "b")] {
        let rtt = Some(Latency::from_millis(50));
        let values = LinkValues { rtt, loss: Loss::from_ppm(1_000), ..LinkValues::default() };
        world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
    }
    seconds(&mut world, 60);
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t2 → b");
}

/// A second in which this is lost on each link of the first way, which is quicker than the second one.
fn lossy(world: &mut World, count: usize, ppm: u32) {
    for _ in 0..count {
        for (node, micros, ppm) in [("t1", 10_000, ppm), ("t2", 12_500, 0), ("t3", 40_000, 0)] {
            measure(world, "a", "a", node, answered(micros, ppm));
            measure(world, "b", node, "b", answered(micros, ppm));
        }
        world.pass(SECOND);
    }
}

#[test]
fn circuits_between_the_same_hosts_weigh_the_loss_of_a_quick_path_by_themselves() {
    let mut world = measured(Settings::default());
    lossy(&mut world, 15, 0);
    let weighed = |world: &mut World, term: Weighed, weight: f64| {
        world.register(term.word(), "a");
        let mut wanted = request(term.word(), "db");
        wanted.bounds.weights.insert(term, Weight::try_from(weight).expect("a weight"));
        world.create(wanted).expect("feasible").circuit.id
    };
    let usual = world.create(request("web", "db")).expect("feasible").circuit.id;
    let careless = weighed(&mut world, Weighed::Loss, 0.0);
    let hurried = weighed(&mut world, Weighed::Rtt, 100.0);
    let all = [usual, careless, hurried];
    let mut taken = |ppm| {
        lossy(&mut world, 90, ppm);
        all.map(|id| paths(&circuit(&mut world, id)).0)
    };
    let [quick, clean] = ["a → t1 → b", "a → t2 → b"];
    assert_eq!(taken(0), [quick; 3]);
    // Two per cent are 100 ms to the first, nothing to the second, and 1 ms to the third.
    assert_eq!(taken(10_000), [clean, quick, quick]);
}

#[test]
fn what_was_learned_of_a_circuit_goes_with_it() {
    let (mut world, id) = placed([20, 25, 40]);
    let path = circuit(&mut world, id).path.expect("placed");
    assert!(world.fabric.choice.kept_on(id, &path).is_some());
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    seconds(&mut world, 5, [20_000, 25_000, 40_000]);
    assert!(world.fabric.choice.kept_on(id, &path).is_none());
}

#[test]
fn what_links_cost_outlives_a_restart() {
    let (mut world, id) = placed([20, 25, 40]);
    let history = world.fabric.history().to_bytes();
    world.restart();
    let now = world.now;
    world.fabric.recall(&history, now).expect("just written");
    for node in ["a", "b", "t1", "t2", "t3"] {
        world.connect(node);
    }
    // Less than a frame is measured anew, and not of all links.
    for _ in 0..9 {
        measure(&mut world, "a", "a", "t1", answered(10_000, 0));
        world.pass(SECOND);
    }
    let choice = choice(&mut world, id);
    assert!((way(&choice, 1).1 - 26.0).abs() < 0.5, "{choice:?}");
}

#[test]
fn of_many_circuits_all_that_want_to_go_do_so_in_turn() {
    let mut world = measured(Settings::default());
    let mut ids = Vec::new();
    seconds(&mut world, 15, [20_000, 25_000, 40_000]);
    for n in 0..60 {
        world.register(&format!("w{n}"), "a");
        ids.push(world.create(request(&format!("w{n}"), "db")).expect("feasible").circuit.id);
    }
    seconds(&mut world, 30, [20_000, 25_000, 40_000]);
    seconds(&mut world, 60, [60_000, 25_000, 40_000]);
    let stayed = ids.iter().filter(|id| paths(&circuit(&mut world, **id)).0 != "a → t2 → b").count();
    assert_eq!(stayed, 0);
}
