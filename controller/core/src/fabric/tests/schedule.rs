//! Circuits that start later: what they are promised is kept, and never promised to others.
use super::numbers::Numbers;
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use proto_model::request::{CircuitRef, CircuitRequest, Request, Response};
use proto_model::topology::LinkValues;
use proto_model::{Bandwidth, CircuitId, Kind, Refusal, Until};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// One link of 100 Mbit/s between the hosts of `a0`… and `b0`….
fn line() -> World {
    let mut world = World::new(Settings::default());
    world.wire("a", "b", 1, 100);
    for node in ["a", "b"] {
        world.enrol(node);
        world.connect(node);
        (0..4).for_each(|number| world.register(&format!("{node}{number}"), node));
    }
    world
}

/// From `a{number}` to `b{number}`, in so many minutes and for so many.
fn wanted(number: usize, mbit: u64, starts: Option<u32>, lasts: Option<u32>) -> CircuitRequest {
    let mut wanted = request(&format!("a{number}"), &format!("b{number}"));
    wanted.bounds.bandwidth = Bandwidth::mbit(mbit);
    let after = |minutes: u32| Until::After(MINUTE * minutes);
    (wanted.starts, wanted.until) = (starts.map(after), lasts.map(after));
    wanted
}

fn refused(world: &mut World, wanted: CircuitRequest) -> Refusal {
    world.create(wanted).expect_err("no room")
}

#[test]
fn a_scheduled_circuit_is_built_a_moment_before_its_start_and_gone_at_its_end() {
    let mut world = line();
    let view = world.create(wanted(0, 60, Some(60), Some(30))).expect("it fits");
    let (id, spec) = (view.circuit.id, view.circuit.spec);
    assert_eq!(view.circuit.state.name(), "scheduled");
    assert!(view.circuit.path.is_some(), "that which is promised");
    assert_eq!(spec.expires.expect("an end").since(spec.starts.expect("a start")), 30 * MINUTE);
    assert!(world.agents.values().all(|agent| agent.is_bare()), "no host knows of it");
    world.pass(spec.starts.expect("a start").since(world.now) - Duration::from_secs(6));
    assert_eq!(world.state(id), "scheduled");
    world.pass(Duration::from_secs(6));
    assert_eq!(world.state(id), "active");
    world.check();
    world.pass(29 * MINUTE);
    assert_eq!(world.state(id), "active");
    world.pass(2 * MINUTE);
    assert!(world.view(id).is_none() && world.agents.values().all(|agent| agent.is_bare()));
    world.check();
}

#[test]
fn what_is_promised_is_nobody_elses_and_the_refusal_says_until_and_from_when_it_would_fit() {
    let mut world = line();
    let first = world.create(wanted(0, 60, Some(60), Some(60))).expect("it fits").circuit;
    // One without end, one that ends too late, and one that starts within its time.
    for other in [wanted(1, 50, None, None), wanted(1, 50, None, Some(90)), wanted(1, 50, Some(90), Some(10))]
    {
        let refusal = refused(&mut world, other);
        assert_eq!(refusal.kind, Kind::Exhausted);
        assert!(refusal.what.contains("40 Mbit/s free, 50 Mbit/s is asked"), "{refusal}");
    }
    let [starts, ends] = [first.spec.starts, first.spec.expires].map(|at| at.expect("a time").to_string());
    let time = |text: &str| text.split_once(' ').expect("a date and a time").1.to_owned();
    let refusal = refused(&mut world, wanted(1, 50, None, None));
    let both = format!("50 Mbit/s until {}, when c1 starts; 50 Mbit/s from ", time(&starts));
    assert!(refusal.hint.contains(&both) && refusal.hint.ends_with(", when c1 ends"), "{refusal}");
    let refusal = refused(&mut world, wanted(1, 50, Some(90), Some(10)));
    assert!(refusal.hint.contains(&format!("50 Mbit/s from {ends}, when c1 ends")), "{refusal}");
    // Just before it, beside it, and just after it.
    world.create(wanted(1, 100, None, Some(59))).expect("it ends before");
    world.create(wanted(2, 40, Some(61), Some(59))).expect("beside it");
    let mut after = wanted(3, 100, None, None);
    after.starts = first.spec.expires.map(Until::At);
    world.create(after).expect("it starts when the others have ended");
    world.check();
    world.pass(3 * HOUR);
    assert_eq!(world.fabric.circuits.iter().count(), 1);
    world.check();
}

#[test]
fn one_that_follows_another_at_once_is_built_when_that_has_ended() {
    let mut world = line();
    let first = world.create(wanted(0, 100, None, Some(30))).expect("it fits").circuit;
    let mut next = wanted(1, 100, None, None);
    next.starts = first.spec.expires.map(Until::At);
    let next = world.create(next).expect("no instant has both").circuit.id;
    world.pass(first.spec.expires.expect("an end").since(world.now) - Duration::from_secs(1));
    assert_eq!((world.state(first.id), world.state(next)), ("active", "scheduled"));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.state(next), "active");
    world.check();
}

#[test]
fn no_end_is_moved_into_what_others_are_promised() {
    let mut world = line();
    let stands = world.create(wanted(0, 60, None, Some(60))).expect("it fits").circuit;
    let later = world.create(wanted(1, 60, Some(120), Some(60))).expect("it fits").circuit;
    let extend = |world: &mut World, id: CircuitId, until: Option<Until>| {
        world.ask(Request::ExtendCircuit { circuit: CircuitRef::Id(id), until })
    };
    for until in [None, Some(Until::After(3 * HOUR))] {
        let refusal = extend(&mut world, stands.id, until).expect_err("promised to another");
        let from = later.spec.starts.expect("a start");
        assert!(refusal.what.contains(&format!("less than 60 Mbit/s left from {from} on")), "{refusal}");
        assert!(refusal.what.contains("c2 (a1-b1)") && refusal.hint.contains(&from.rfc3339()), "{refusal}");
    }
    world.check();
    extend(&mut world, stands.id, later.spec.starts.map(Until::At)).expect("just until then");
    // A promise can be made longer, too, and shorter again.
    let third = world.create(wanted(2, 60, Some(181), Some(60))).expect("it fits").circuit;
    extend(&mut world, later.id, None).expect_err("the third one is promised the same");
    extend(&mut world, later.id, third.spec.starts.map(Until::At)).expect("until it starts");
    extend(&mut world, third.id, None).expect("nobody comes after it");
    world.check();
}

#[test]
fn a_restart_keeps_what_is_promised() {
    let mut world = line();
    let id = world.create(wanted(0, 60, Some(60), Some(60))).expect("it fits").circuit.id;
    world.restart();
    for node in ["a", "b"] {
        world.connect(node);
    }
    assert_eq!(world.state(id), "scheduled");
    assert!(world.view(id).expect("there").circuit.path.is_some());
    refused(&mut world, wanted(1, 50, None, None));
    world.check();
    world.pass(61 * MINUTE);
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn one_that_is_deleted_before_its_start_gives_back_what_it_was_promised() {
    let mut world = line();
    let id = world.create(wanted(0, 60, Some(60), None)).expect("it fits").circuit.id;
    refused(&mut world, wanted(1, 50, None, None));
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("it is there");
    assert!(world.view(id).is_none());
    world.create(wanted(1, 100, None, None)).expect("all of it");
    world.pass(2 * HOUR);
    world.check();
}

#[test]
fn when_its_path_is_gone_at_its_start_it_takes_another_or_waits_for_one() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(300);
    wanted.starts = Some(Until::After(HOUR));
    let view = world.create(wanted).expect("it fits");
    let id = view.circuit.id;
    assert!(view.circuit.path.expect("promised").nodes.contains(&name("t1")));
    let disable = |world: &mut World, way: &str, disabled: bool| {
        let values = LinkValues { disabled, ..LinkValues::default() };
        world.ask(Request::SetLink { link: link("a", way), values }).expect("known");
    };
    disable(&mut world, "t1", true);
    world.pass(HOUR - 2 * MINUTE);
    assert_eq!(world.state(id), "scheduled");
    world.pass(3 * MINUTE);
    let view = world.view(id).expect("there").circuit;
    assert!(view.path.expect("another one").nodes.contains(&name("t2")));
    assert_eq!(view.state.name(), "active");
    // And where there is none it says so, and is built when there is one.
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    disable(&mut world, "t1", false);
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(300);
    wanted.starts = Some(Until::After(HOUR));
    let id = world.create(wanted).expect("it fits").circuit.id;
    disable(&mut world, "t1", true);
    disable(&mut world, "t2", true);
    world.pass(HOUR + MINUTE);
    let view = world.view(id).expect("there").circuit;
    assert_eq!(view.state.name(), "suspended");
    assert!(view.detail.contains("no way over usable links from a to b"), "{}", view.detail);
    disable(&mut world, "t2", false);
    world.pass(MINUTE);
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_backup_does_not_keep_a_promise_from_being_kept() {
    let mut world = World::diamond();
    world.register("web2", "a");
    world.register("db2", "b");
    // Its backup would take half of the way over t2 for good.
    let mut stands = request("web", "db");
    stands.bounds.bandwidth = Bandwidth::mbit(400);
    let mut later = request("web2", "db2");
    later.bounds.bandwidth = Bandwidth::mbit(800);
    later.bounds.via = [name("t2")].into();
    later.starts = Some(Until::After(HOUR));
    let later = world.create(later).expect("it fits").circuit.id;
    let stands = world.create(stands).expect("beside it").circuit;
    assert_eq!(stands.backup, None, "{}", stands.protection);
    world.pass(HOUR + MINUTE);
    assert_eq!((world.state(stands.id), world.state(later)), ("active", "active"));
    world.check();
}

#[test]
fn a_start_after_the_end_in_the_past_or_too_far_away_is_refused() {
    let mut world = line();
    let now = world.now;
    let mut turned = wanted(0, 1, Some(60), None);
    turned.until = Some(Until::At(now.plus(MINUTE)));
    let refusal = refused(&mut world, turned);
    assert_eq!(refusal.field, "circuit.expires");
    assert!(refusal.what.contains("it would end at") && refusal.what.contains("and start at"), "{refusal}");
    for (starts, why) in [
        (Until::At(proto_model::Timestamp(now.0 - 90_000_000_000)), "90.0 s in the past"),
        (Until::At(now.plus(400 * 24 * HOUR)), "at most 366 days"),
    ] {
        let mut wrong = wanted(0, 1, None, None);
        wrong.starts = Some(starts);
        let refusal = refused(&mut world, wrong);
        assert_eq!(refusal.field, "circuit.starts");
        assert!(refusal.what.contains(why), "{refusal}");
    }
}

#[test]
fn a_plan_looks_at_the_time_that_is_asked_for() {
    let mut world = line();
    world.create(wanted(0, 60, None, Some(60))).expect("it fits");
    let plan = |world: &mut World, circuit: CircuitRequest| match world.ask(Request::PlanCircuit { circuit })
    {
        Ok(Response::Plan(plan)) => plan,
        other => panic!("{other:?}"),
    };
    assert!(plan(&mut world, wanted(1, 50, None, None)).chosen.is_none());
    assert!(plan(&mut world, wanted(1, 50, Some(30), None)).chosen.is_none());
    assert!(plan(&mut world, wanted(1, 50, Some(61), None)).chosen.is_some());
    world.create(wanted(2, 40, None, None)).expect("looking at another time changes nothing now");
    world.check();
}

const REQUESTS: usize = 2_000;
const LIVES: u64 = 50;
const SIDE: usize = 12;

/// Four ways from `a` to `b`, of which two meet on the way.
fn ways() -> World {
    let mut world = World::new(Settings::default());
    for (one, other, millis, mbit) in [
        ("a", "t1", 1, 300),
        ("t1", "b", 1, 200),
        ("a", "t2", 2, 100),
        ("t2", "b", 2, 300),
        ("t1", "t2", 1, 100),
        ("a", "b", 9, 100),
    ] {
        world.wire(one, other, millis, mbit);
    }
    for node in ["a", "b", "t1", "t2"] {
        world.enrol(node);
        world.connect(node);
    }
    for number in 0..SIDE {
        world.register(&format!("a{number}"), "a");
        world.register(&format!("b{number}"), "b");
    }
    world
}

/// How often what happened.
type Counts = BTreeMap<&'static str, usize>;

fn live(seed: u64) -> Counts {
    let mut numbers = Numbers::of(seed);
    let (mut world, mut counts) = (ways(), Counts::new());
    for _ in 0..REQUESTS {
        let what = ask(&mut world, &mut numbers);
        *counts.entry(what).or_default() += 1;
        world.check_books();
        if numbers.below(3) == 0 {
            world.pass(Duration::from_secs(1 + numbers.below(40) as u64));
            world.check_books();
        }
        for circuit in world.fabric.circuits.iter() {
            let state = circuit.view().circuit.state.name();
            // Nothing fails here: whatever was promised is there at its time.
            assert_ne!(state, "suspended", "{}: {:?}", circuit.id, circuit.phase);
            let due = circuit.spec.starts.is_none_or(|at| at.plus(Duration::from_secs(1)) <= world.now);
            assert!(!due || state != "scheduled", "{} is due", circuit.id);
        }
        world.events.clear();
    }
    counts
}

fn ask(world: &mut World, numbers: &mut Numbers) -> &'static str {
    let ids: Vec<CircuitId> = world.fabric.circuits.iter().map(|circuit| circuit.id).collect();
    let span = |numbers: &mut Numbers| Until::After(Duration::from_secs(1 + numbers.below(300) as u64));
    let any = |numbers: &mut Numbers| CircuitRef::Id(ids[numbers.below(ids.len())]);
    match numbers.below(20) {
        0 if !ids.is_empty() => {
            let circuit = any(numbers);
            world.ask(Request::DeleteCircuit { circuit }).map_or("refused", |_| "deleted")
        }
        1 | 2 if !ids.is_empty() => {
            let (circuit, until) = (any(numbers), (numbers.below(8) > 0).then(|| span(numbers)));
            world.ask(Request::ExtendCircuit { circuit, until }).map_or("not extended", |_| "extended")
        }
        _ => {
            let mut wanted =
                request(&format!("a{}", numbers.below(SIDE)), &format!("b{}", numbers.below(SIDE)));
            wanted.bounds.bandwidth = Bandwidth::mbit(5 * (1 + numbers.below(16)) as u64);
            wanted.starts = (numbers.below(3) > 0).then(|| span(numbers));
            wanted.until = (numbers.below(12) > 0).then(|| span(numbers));
            let later = wanted.starts.is_some();
            match world.create(wanted) {
                Ok(_) if later => "promised",
                Ok(_) => "created",
                Err(refusal) if refusal.kind == Kind::Exhausted => "no room",
                Err(_) => "refused",
            }
        }
    }
}

#[test]
fn no_instant_is_over_booked_and_every_promise_kept_in_100_000_requests() {
    let counts: Vec<Counts> = std::thread::scope(|scope| {
        let half = |from: u64| {
            scope.spawn(move || (from..LIVES).step_by(2).map(|seed| live(seed + 1)).collect::<Vec<_>>())
        };
        let halves = [half(0), half(1)];
        halves.into_iter().flat_map(|half| half.join().expect("no life was over-booked")).collect()
    });
    for what in ["promised", "created", "no room", "deleted", "extended", "not extended"] {
        let sum: usize = counts.iter().filter_map(|counts| counts.get(what)).sum();
        println!("{what}: {sum}");
        assert!(sum >= 1_000, "{what}: {sum}: the lives are too tame to say anything");
    }
}
