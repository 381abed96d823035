//! Circuits that are asked for together, and others that move for them.
use crate::fabric::world::{World, link, name, request};
use proto_model::access::Role;
use proto_model::request::{CircuitRef, CircuitRequest, Request, Response};
use proto_model::together::{MOST, PlaceRequest, Placement};
use proto_model::topology::LinkValues;
use proto_model::{Bandwidth, CircuitId, Kind, Refusal, Until};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// The diamond of the other tests, with more resources: on a `web`…, on t1 `mid`…, on b `db`….
fn diamond() -> World {
    let mut world = World::diamond();
    for number in 0..3 {
        world.register(&format!("web{number}"), "a");
        world.register(&format!("mid{number}"), "t1");
        world.register(&format!("db{number}"), "b");
    }
    world
}

fn wanted(source: &str, destination: &str, mbit: u64) -> CircuitRequest {
    let mut wanted = request(source, destination);
    wanted.bounds.bandwidth = Bandwidth::mbit(mbit);
    wanted
}

/// From t1 to b there is a way round, too.
fn direct(number: usize, mbit: u64) -> CircuitRequest {
    let mut wanted = wanted(&format!("mid{number}"), &format!("db{number}"), mbit);
    wanted.bounds.max_hops = Some(1);
    wanted
}

fn together(circuits: Vec<CircuitRequest>) -> PlaceRequest {
    PlaceRequest { circuits, dry_run: false, moves: false, idempotency_key: None }
}

fn place(world: &mut World, request: PlaceRequest) -> Result<Placement, Refusal> {
    match world.ask(Request::PlaceCircuits(request))? {
        Response::Placement(placement) => Ok(placement),
        other => panic!("not a placement: {other:?}"),
    }
}

fn circuits(world: &World) -> Vec<CircuitId> {
    world.fabric.circuits.iter().map(|circuit| circuit.id).collect()
}

#[test]
fn what_one_after_the_other_would_waste_is_placed_together() {
    let mut world = diamond();
    // Alone, the first one takes the way over t1, which is the only one of the second.
    let both = vec![wanted("web0", "db0", 400), direct(1, 400)];
    let planned =
        place(&mut world, PlaceRequest { dry_run: true, ..together(both.clone()) }).expect("a plan");
    assert!(circuits(&world).is_empty(), "a dry run makes nothing");
    let made = place(&mut world, together(both)).expect("both fit");
    let paths = |placement: &Placement| {
        placement.outcomes.iter().map(|outcome| outcome.path.clone().expect("a path")).collect::<Vec<_>>()
    };
    assert_eq!(paths(&planned), paths(&made));
    assert!(paths(&made)[0].nodes.contains(&name("t2")), "{:?}", made.outcomes);
    assert_eq!(made.classes.len(), 1);
    assert_eq!((made.classes[0].placed, made.classes[0].bound), (Bandwidth::mbit(800), Bandwidth::mbit(800)));
    for outcome in &made.outcomes {
        let id = outcome.circuit.expect("it is made");
        assert_eq!(world.state(id), "active");
        assert_eq!(world.view(id).expect("there").circuit.path, outcome.path);
    }
    let explained = world.ask(Request::ExplainCircuit { circuit: CircuitRef::Id(CircuitId(1)) });
    let Ok(Response::Plan(plan)) = explained else { panic!("a plan") };
    assert_eq!(Some(&plan.candidates[plan.chosen.expect("chosen")].path), made.outcomes[0].path.as_ref());
    assert!(plan.candidates.iter().any(|other| other.rejected.iter().any(|why| why.contains("passed over"))));
    world.check();
}

#[test]
fn higher_priorities_come_first_and_who_is_refused_is_told_why_and_what_would_fit() {
    let mut world = diamond();
    let mut high = direct(0, 300);
    high.priority = 9;
    let answer = place(&mut world, together(vec![direct(1, 200), high])).expect("an answer");
    assert_eq!(answer.classes.iter().map(|class| class.priority).collect::<Vec<_>>(), [9, 0]);
    let [low, high] = &answer.outcomes[..] else { panic!("two") };
    assert!(high.circuit.is_some() && low.circuit.is_none() && low.path.is_none());
    assert!(low.refused.contains("100 Mbit/s free, 200 Mbit/s is asked"), "{}", low.refused);
    assert!(low.hint.contains("up to 100 Mbit/s now by t1 → b"), "{}", low.hint);
    assert_eq!(circuits(&world).len(), 1);
    world.check();
}

/// A circuit that could go over t2 stands on the only way of what is asked.
fn in_the_way(world: &mut World) -> (CircuitId, CircuitRequest) {
    let stands = world.create(wanted("web0", "db0", 300)).expect("it fits").circuit;
    assert!(stands.path.expect("placed").nodes.contains(&name("t1")));
    (stands.id, direct(1, 200))
}

#[test]
fn who_would_have_to_move_is_named_and_stays_unless_it_is_wanted() {
    let mut world = diamond();
    let (stands, asked) = in_the_way(&mut world);
    let before = world.view(stands).expect("there").circuit.path;
    let answer = place(&mut world, together(vec![asked])).expect("an answer");
    let outcome = &answer.outcomes[0];
    assert_eq!(outcome.circuit, None);
    assert_eq!(outcome.moves.iter().map(|moved| moved.circuit).collect::<Vec<_>>(), [stands]);
    assert!(
        outcome
            .hint
            .contains("with --move it is made after moving c1 (web0-db0) from a → t1 → b to a → t2 → b"),
        "{}",
        outcome.hint
    );
    world.pass(Duration::from_secs(60));
    assert_eq!(world.view(stands).expect("there").circuit.path, before);
    world.check();
}

#[test]
fn with_leave_others_move_make_before_break_and_then_it_is_made() {
    let mut world = diamond();
    let (stands, asked) = in_the_way(&mut world);
    world.events.clear();
    let request = PlaceRequest { moves: true, idempotency_key: Some("k".into()), ..together(vec![asked]) };
    let answer = place(&mut world, request.clone()).expect("an answer");
    let outcome = &answer.outcomes[0];
    let id = outcome.circuit.expect("it is made");
    assert!(outcome.refused.is_empty() && outcome.moves.len() == 1, "{outcome:?}");
    world.pass(Duration::from_secs(5));
    let moved = world.view(stands).expect("there").circuit;
    assert!(moved.path.expect("placed").nodes.contains(&name("t2")));
    assert!(moved.moved.contains("it makes room for c2 (mid1-db1)"), "{}", moved.moved);
    let gap = world.events.iter().any(|event| match event {
        proto_model::request::Event::Circuit(view) => {
            view.circuit.id == stands && view.circuit.state.name() != "active"
        }
        _ => false,
    });
    assert!(!gap, "it was active all the time");
    assert_eq!(world.state(id), "active");
    world.check();
    // The first answer, also after a restart.
    world.restart();
    assert_eq!(place(&mut world, request.clone()).expect("the same"), answer);
    let refusal = place(&mut world, PlaceRequest { moves: false, ..request }).expect_err("another request");
    assert_eq!(refusal.field, "idempotency_key");
    assert_eq!(circuits(&world).len(), 2);
}

#[test]
fn a_move_that_does_not_come_about_leaves_it_waiting_with_the_reason() {
    let mut world = diamond();
    let disable = |world: &mut World, disabled: bool| {
        let values = LinkValues { disabled, ..LinkValues::default() };
        world.ask(Request::SetLink { link: link("a", "t2"), values }).expect("known");
    };
    disable(&mut world, true);
    let (stands, asked) = in_the_way(&mut world);
    // The other way is there again, and a host of it does not report.
    world.agents.get_mut(&name("t2")).expect("agent").mute = true;
    disable(&mut world, false);
    let answer = place(&mut world, PlaceRequest { moves: true, ..together(vec![asked]) }).expect("an answer");
    let id = answer.outcomes[0].circuit.expect("it waits");
    let waits = world.view(id).expect("there").circuit;
    assert!(waits.detail.contains("it waits for the move of c1 (web0-db0)"), "{}", waits.detail);
    world.pass(Duration::from_secs(30));
    assert_eq!((world.state(stands), world.state(id)), ("active", "suspended"));
    let why = world.view(id).expect("there").circuit.detail;
    assert!(why.contains("200 Mbit/s is asked"), "{why}");
    world.check();
}

#[test]
fn windows_that_do_not_meet_share_what_there_is() {
    let mut world = diamond();
    let at = |number: usize, starts: u32, lasts: u32| {
        let mut wanted = direct(number, 400);
        wanted.starts = Some(Until::After(HOUR * starts));
        wanted.until = Some(Until::After(HOUR * lasts));
        wanted
    };
    let answer = place(&mut world, together(vec![at(0, 1, 1), at(1, 2, 1), at(2, 1, 3)])).expect("an answer");
    let made: Vec<bool> = answer.outcomes.iter().map(|outcome| outcome.circuit.is_some()).collect();
    assert_eq!(made.iter().filter(|made| **made).count(), 2, "{answer:?}");
    assert!(made[0] && made[1], "the third one takes both their times");
    assert!(answer.classes[0].bound >= answer.classes[0].placed);
    for outcome in answer.outcomes.iter().filter_map(|outcome| outcome.circuit) {
        assert_eq!(world.state(outcome), "scheduled");
    }
    world.check();
    world.pass(HOUR + Duration::from_secs(60));
    assert_eq!(world.state(CircuitId(1)), "active");
    world.check();
}

#[test]
fn what_cannot_be_right_is_refused_with_its_place_and_nothing_is_made() {
    let mut world = diamond();
    let good = wanted("web0", "db0", 1);
    let mut named = wanted("web1", "db1", 1);
    named.name = Some(name("web0-db0"));
    for (circuits_of, field, why) in [
        (vec![good.clone(), wanted("web1", "nobody", 1)], "circuits[1].destination", "nobody"),
        (vec![good.clone(), named], "circuits[1].name", "circuits[0] has the name web0-db0 already"),
        (vec![good.clone(), wanted("db0", "web0", 1)], "circuits[1].destination", "circuits[0] joins"),
        (Vec::new(), "circuits", "0 circuits are asked for together, 1 to 100"),
        (vec![good.clone(); MOST + 1], "circuits", "101 circuits"),
    ] {
        let refusal = place(&mut world, together(circuits_of)).expect_err(field);
        assert_eq!(refusal.field, field);
        assert!(refusal.what.contains(why), "{refusal}");
        assert!(circuits(&world).is_empty());
    }
    let viewer = |world: &mut World, dry_run| {
        let request = PlaceRequest { dry_run, ..together(vec![good.clone()]) };
        world.ask_as(Role::Viewer, Request::PlaceCircuits(request))
    };
    assert!(viewer(&mut world, true).is_ok());
    assert_eq!(viewer(&mut world, false).expect_err("it would change something").kind, Kind::Forbidden);
}
