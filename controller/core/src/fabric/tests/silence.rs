//! What is said of circuits whose links answer no probe, or are promised to more than they carry.
use super::links::{answered, measure, silence};
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use proto_model::query::{Answer, Connection, Fate, Ran, Sealing, Sent};
use proto_model::report::Say;
use proto_model::request::{CircuitRequest, Event, Request, Response};
use proto_model::topology::{LinkId, LinkValues, Measured};
use proto_model::trail::{Trail, Verdict, Wonder};
use proto_model::{Bandwidth, CircuitId, Label};
use std::time::Duration;

/// Only over t1.
fn pinned() -> CircuitRequest {
    let mut wanted = request("web", "db");
    wanted.pinned_path = Some(vec![name("a"), name("t1"), name("b")]);
    wanted
}

fn hear(world: &mut World, transit: &str) {
    measure(world, "a", "a", transit, answered(1_000, 0));
    measure(world, transit, "a", transit, answered(1_000, 0));
}

/// Both ends of a – `transit` hear nothing for so long.
fn cut(world: &mut World, transit: &str, seconds: u64) {
    for _ in 0..seconds.div_ceil(2) {
        world.pass(Duration::from_secs(2));
        measure(world, "a", "a", transit, silence());
        measure(world, transit, "a", transit, silence());
    }
    world.pass(Duration::ZERO);
}

fn said(world: &mut World, id: CircuitId) -> String {
    world.view(id).expect("there").circuit.silence
}

fn silent(world: &mut World) -> u32 {
    match world.ask(Request::Status) {
        Ok(Response::Status(status)) => status.circuits_silent,
        other => panic!("no status: {other:?}"),
    }
}

fn announced(world: &World, id: CircuitId) -> Vec<String> {
    let of = |event: &Event| match event {
        Event::Circuit(view) if view.circuit.id == id => Some(view.circuit.silence.clone()),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

#[test]
fn a_circuit_whose_only_path_falls_silent_says_so_until_it_answers_again() {
    let mut world = World::diamond();
    let id = world.create(pinned()).expect("feasible").circuit.id;
    hear(&mut world, "t1");
    let heard = world.now;
    cut(&mut world, "t1", 3);
    assert_eq!(said(&mut world, id), "", "that may be an accident");
    world.events.clear();
    cut(&mut world, "t1", 10);
    let text = format!("its path is silent: the link a–t1 (a-t1) has answered no probe since {heard}");
    assert_eq!(said(&mut world, id), text);
    assert_eq!(announced(&world, id), [text], "once");
    assert_eq!((silent(&mut world), world.fabric.standing().silent), (1, 1));
    world.check();
    world.events.clear();
    hear(&mut world, "t1");
    world.pass(Duration::ZERO);
    assert_eq!(announced(&world, id), [""]);
    assert_eq!((said(&mut world, id).as_str(), silent(&mut world)), ("", 0));
    world.check();
}

#[test]
fn a_circuit_with_a_way_that_answers_is_not_silent() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    for transit in ["t1", "t2"] {
        hear(&mut world, transit);
    }
    cut(&mut world, "t2", 10);
    let shown = world.view(id).expect("there").circuit;
    assert_eq!(shown.silence, "");
    assert!(shown.protection.contains("the backup is silent: the link a–t2"), "{}", shown.protection);
    cut(&mut world, "t1", 10);
    let text = said(&mut world, id);
    assert!(text.contains("both its ways are silent: the link a–t1") && text.contains("a–t2"), "{text}");
    assert_eq!(silent(&mut world), 1);
    world.check();
}

#[test]
fn a_link_that_this_controller_never_heard_is_said_to_be_so() {
    let mut world = World::diamond();
    let id = world.create(pinned()).expect("feasible").circuit.id;
    hear(&mut world, "t1");
    world.restart();
    let remark = |world: &mut World| world.view(id).expect("there").circuit.protection;
    cut(&mut world, "t1", 20);
    assert!(!remark(&mut world).contains("a–t1"), "the other end may have begun later");
    world.events.clear();
    cut(&mut world, "t1", 20);
    let text = remark(&mut world);
    assert!(text.contains("the link a–t1") && text.contains("first heard of it"), "{text}");
    assert_eq!(announced(&world, id), [""], "once");
    assert_eq!((said(&mut world, id).as_str(), silent(&mut world)), ("", 0), "it may carry everything else");
    world.check();
}

#[test]
fn silence_ends_when_nobody_measures_the_link_any_longer() {
    let mut world = World::diamond();
    let id = world.create(pinned()).expect("feasible").circuit.id;
    hear(&mut world, "t1");
    cut(&mut world, "t1", 10);
    assert_eq!(silent(&mut world), 1);
    world.pass(Duration::from_secs(30));
    assert_eq!(silent(&mut world), 1, "the last measurement is fresh");
    world.events.clear();
    world.pass(Duration::from_secs(1));
    assert_eq!((said(&mut world, id).as_str(), silent(&mut world)), ("", 0));
    assert_eq!(announced(&world, id), [""]);
    world.check();
}

#[test]
fn a_link_that_is_disabled_is_not_said_to_be_silent() {
    let mut world = World::diamond();
    let id = world.create(pinned()).expect("feasible").circuit.id;
    hear(&mut world, "t1");
    cut(&mut world, "t1", 10);
    assert_eq!(silent(&mut world), 1);
    let values = LinkValues { disabled: true, ..LinkValues::default() };
    world.ask(Request::SetLink { link: link("a", "t1"), values }).expect("known");
    world.pass(Duration::ZERO);
    assert_eq!((said(&mut world, id).as_str(), silent(&mut world)), ("", 0));
    cut(&mut world, "t1", 10);
    assert_eq!(silent(&mut world), 0, "what was under way when it was disabled does not count");
    world.check();
}

#[test]
fn another_silent_link_of_the_path_is_told_of() {
    let mut world = World::diamond();
    let id = world.create(pinned()).expect("feasible").circuit.id;
    let both = |world: &mut World, (one, other): (&str, &str), measured: Measured| {
        measure(world, one, one, other, measured);
        measure(world, other, one, other, measured);
    };
    let (first, second) = (("a", "t1"), ("t1", "b"));
    both(&mut world, first, answered(1_000, 0));
    both(&mut world, second, answered(1_000, 0));
    for _ in 0..5 {
        world.pass(Duration::from_secs(2));
        both(&mut world, first, silence());
        both(&mut world, second, silence());
    }
    world.pass(Duration::ZERO);
    assert!(said(&mut world, id).contains("the link a–t1"));
    world.events.clear();
    // The path is silent as before, by another link.
    both(&mut world, first, answered(1_000, 0));
    world.pass(Duration::ZERO);
    let after = said(&mut world, id);
    assert!(after.contains("the link b–t1") && !after.contains("a–t1"), "{after}");
    assert_eq!(announced(&world, id), [after]);
    world.check();
}

#[test]
fn a_circuit_that_is_deleted_or_moved_is_counted_no_longer() {
    let mut world = World::diamond();
    let id = world.create(pinned()).expect("feasible").circuit.id;
    hear(&mut world, "t1");
    cut(&mut world, "t1", 10);
    assert_eq!(silent(&mut world), 1);
    let circuit = proto_model::request::CircuitRef::Id(id);
    world.ask(Request::DeleteCircuit { circuit }).expect("there");
    assert_eq!(silent(&mut world), 0);
    world.check();
}

#[test]
fn a_new_circuit_over_a_silent_link_is_warned_of() {
    let mut world = World::diamond();
    hear(&mut world, "t1");
    cut(&mut world, "t1", 10);
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: pinned() }) else {
        panic!("a plan")
    };
    assert!(
        plan.warnings.iter().any(|w| w.contains("the link a–t1 (a-t1) has answered no probe")),
        "{plan:?}"
    );
    let made = world.create(pinned()).expect("feasible").circuit;
    assert!(made.silence.contains("its path is silent"), "{made:?}");
}

fn why(world: &mut World) -> Trail {
    let whom = |text: &str| text.parse().expect("a name");
    let wonder = Wonder {
        source: whom("web"),
        destination: whom("db"),
        protocol: 6,
        port: 5432,
        source_port: 40_000,
        answer: false,
        v6: false,
        size: None,
    };
    let ticket = world.wonder(Request::Why(wonder));
    let sent = |local: [u8; 4], remote: [u8; 4]| {
        Fate::Sent(Sent {
            interface: "eth0".into(),
            local: local.into(),
            remote: remote.into(),
            label: Label::new(7).expect("a label"),
            way: None,
            frame: vec![1],
        })
    };
    let fates = [
        ("a", sent([10, 0, 0, 1], [10, 0, 0, 2])),
        ("t1", sent([10, 1, 0, 1], [10, 1, 0, 2])),
        ("b", Fate::Delivered { interface: "fw1".into() }),
    ];
    for (node, fate) in fates {
        let agent = world.agents.get_mut(&name(node)).expect("agent");
        let session = agent.session.expect("connected");
        let (query, _) = agent.asked.pop_front().unwrap_or_else(|| panic!("{node} was not asked"));
        let answer = Answer::Ran(Ran {
            program: "underlay_ingress".into(),
            interface: "eth0".into(),
            label: None,
            circuit: Some(CircuitId(1)),
            rule: 1,
            connection: Connection::WouldOpen,
            sealing: Sealing::Clear,
            fate,
        });
        world.say(node, session, Say::Answer { query, answer });
    }
    match world.take_reply(ticket).expect("an answer").expect("not refused") {
        Response::Why(trail) => trail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_packet_that_would_cross_a_silent_link_is_not_said_to_pass() {
    let mut world = World::diamond();
    world.create(pinned()).expect("feasible");
    hear(&mut world, "t1");
    assert_eq!(why(&mut world).verdict, Verdict::Passes);
    cut(&mut world, "t1", 10);
    let trail = why(&mut world);
    assert_eq!(trail.verdict, Verdict::Unknown);
    assert!(trail.sentence.contains("the link a–t1 (a-t1) has answered no probe since"), "{trail:?}");
    assert!(trail.hops[0].note.contains("has answered no probe"), "{trail:?}");
    assert_eq!(trail.hops[1].note, "", "the next link answers");
}

#[test]
fn an_over_booked_link_is_said_of_the_circuits_over_it() {
    let mut world = World::diamond();
    for node in ["a", "b", "t1", "t2"] {
        let underlays = world.underlays.get_mut(&name(node)).expect("wired");
        underlays.iter_mut().for_each(|underlay| underlay.shape = true);
        world.connect(node);
    }
    let mut wanted = pinned();
    wanted.bounds.bandwidth = Bandwidth::mbit(40);
    let id = world.create(wanted).expect("feasible").circuit.id;
    let guarantee = |world: &mut World| world.view(id).expect("there").circuit.guarantee;
    assert_eq!(guarantee(&mut world), "kept at every host");
    world.events.clear();
    let values = LinkValues { capacity: Some(Bandwidth::mbit(34)), ..LinkValues::default() };
    world.ask(Request::SetLink { link: link("a", "t1"), values }).expect("known");
    assert_eq!(guarantee(&mut world), "not kept in full: a–t1 (a-t1) is over-booked by 6 Mbit/s");
    assert_eq!(announced(&world, id).len(), 1, "whoever watches is told");
    world.ask(Request::ForgetLink { link: link("a", "t1") }).expect("it was set");
    assert_eq!(guarantee(&mut world), "kept at every host");
}

#[test]
fn an_over_booked_interface_is_said_of_all_circuits_over_it() {
    let mut world = World::new(Settings::default());
    for (host, node) in [(1, "a"), (2, "b"), (3, "c")] {
        world.attach(node, host, 100, true);
        world.enrol(node);
        world.connect(node);
        world.register(&format!("at-{node}"), node);
    }
    // No backup, which would take of b and c.
    let beside = LinkId::new(name("b"), name("c"), name("lan")).expect("two ends");
    let values = LinkValues { disabled: true, ..LinkValues::default() };
    world.ask(Request::SetLink { link: beside, values }).expect("known");
    let circuits = ["at-b", "at-c"].map(|to| {
        let mut wanted = request("at-a", to);
        wanted.bounds.bandwidth = Bandwidth::mbit(40);
        world.create(wanted).expect("feasible").circuit.id
    });
    let guarantee = |world: &mut World, id| world.view(id).expect("there").circuit.guarantee;
    for id in circuits {
        assert_eq!(guarantee(&mut world, id), "kept at every host");
    }
    world.events.clear();
    // Each link alone still holds its circuit.
    world.underlays.get_mut(&name("a")).expect("attached")[0].speed = Some(Bandwidth::mbit(60));
    world.connect("a");
    for id in circuits {
        assert_eq!(guarantee(&mut world, id), "not kept in full: eth0 of a is over-booked by 20 Mbit/s");
        assert!(!announced(&world, id).is_empty(), "whoever watches is told");
    }
    world.underlays.get_mut(&name("a")).expect("attached")[0].speed = Some(Bandwidth::mbit(100));
    world.connect("a");
    for id in circuits {
        assert_eq!(guarantee(&mut world, id), "kept at every host");
    }
}
