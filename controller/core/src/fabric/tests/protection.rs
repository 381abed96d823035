//! Second ways: chosen, built after the path, promoted when the path breaks, replaced when they break themselves.
use super::links::{answered, measure, silence};
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use crate::record::{Life, Record, RecordKey};
use proto_model::circuit::Circuit;
use proto_model::desired::{Endpoint, Leg, Object, ObjectKey, Side};
use proto_model::report::{Say, Switch, Way};
use proto_model::request::{Event, Request, Response};
use proto_model::{Bandwidth, CircuitId, Kind, NodeName};
use std::time::Duration;

/// The diamond with a third way over t3, longer than the others.
pub(super) fn three_ways() -> World {
    let mut world = World::new(Settings::default());
    for (at, node) in ["t1", "t2", "t3"].into_iter().enumerate() {
        world.wire("a", node, 1 + 10 * at as u64, 1000);
        world.wire(node, "b", 1 + 10 * at as u64, 1000);
    }
    for node in ["a", "b", "t1", "t2", "t3"] {
        world.enrol(node);
        world.connect(node);
    }
    world.register("web", "a");
    world.register("db", "b");
    world
}

pub(super) fn circuit(world: &mut World, id: CircuitId) -> Circuit {
    world.view(id).expect("there").circuit
}

pub(super) fn paths(circuit: &Circuit) -> (String, String) {
    let text =
        |path: &Option<proto_model::circuit::Path>| path.as_ref().map_or(String::new(), ToString::to_string);
    (text(&circuit.path), text(&circuit.backup))
}

pub(super) fn end(world: &World, node: &str, id: CircuitId, side: Side) -> Endpoint {
    match &world.agents[&name::<NodeName>(node)].objects[&ObjectKey::Endpoint(id, side)] {
        Object::Endpoint(end) => end.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn backup_of(world: &World, id: CircuitId) -> Option<proto_model::desired::Backup> {
    match end(world, "a", id, Side::Source).leg {
        Leg::Tunnel { backup, .. } => backup.map(|backup| *backup),
        Leg::Local { .. } => panic!("local"),
    }
}

pub(super) fn switch(world: &mut World, node: &str, id: CircuitId, side: Side, to: Way) {
    let session = world.agents[&name::<NodeName>(node)].session.expect("connected");
    let why = "5 probes in a row were lost".to_owned();
    let said = Switch { circuit: id, side, to, why, at: world.now };
    world.say(node, session, Say::Switched(vec![said]));
}

#[test]
fn a_circuit_has_the_cheapest_disjoint_backup() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let shown = circuit(&mut world, id);
    assert_eq!(paths(&shown), ("a → t1 → b".into(), "a → t2 → b".into()));
    assert_eq!((shown.protection.as_str(), shown.on_backup.len()), ("", 0));
    let (source, destination) = (end(&world, "a", id, Side::Source), end(&world, "b", id, Side::Destination));
    let ways = |end: Endpoint| match end.leg {
        Leg::Tunnel { path, backup, .. } => (path, backup.expect("protected").path),
        Leg::Local { .. } => panic!("local"),
    };
    assert_eq!(ways(source), ways(destination), "both ends measure the same two paths");
    world.check();
}

#[test]
fn a_slow_host_of_the_backup_does_not_keep_the_circuit_from_being_active() {
    let mut world = three_ways();
    world.agents.get_mut(&name("t2")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    assert_eq!(world.state(id), "active");
    assert_eq!(backup_of(&world, id), None, "no end knows a way that may not be there");
    assert_eq!(circuit(&mut world, id).protection, "the backup is not ready: t2 has not reported");
    world.agents.get_mut(&name("t2")).expect("agent").mute = false;
    world.report(&name("t2"));
    assert!(backup_of(&world, id).is_some());
    assert_eq!(circuit(&mut world, id).protection, "");
    world.check();
}

#[test]
fn a_backup_that_a_host_cannot_build_is_replaced_by_another() {
    for silent in [false, true] {
        let mut world = three_ways();
        let agent = world.agents.get_mut(&name("t2")).expect("agent");
        agent.mute = silent;
        if !silent {
            let labels = (1..9).map(|slot| proto_model::Label::new(1 << 17 | slot).expect("a label"));
            agent.refuses.extend(labels.map(ObjectKey::Hop));
        }
        let id = world.create(request("web", "db")).expect("feasible").circuit.id;
        let tells = world.agents[&name::<NodeName>("t1")].tells;
        assert_eq!((world.state(id), backup_of(&world, id)), ("active", None));
        world.pass(Duration::from_secs(15));
        let shown = circuit(&mut world, id);
        assert_eq!(paths(&shown), ("a → t1 → b".into(), "a → t3 → b".into()), "silent: {silent}");
        assert!(backup_of(&world, id).is_some());
        assert_eq!(world.agents[&name::<NodeName>("t1")].tells, tells, "the path was not touched");
        world.check();
    }
}

#[test]
fn the_backup_becomes_the_path_under_the_same_labels_when_a_host_is_given_up() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let backup = backup_of(&world, id).expect("protected");
    world.events.clear();
    world.disconnect("t1");
    // One end hears of it late, and sends the old way until then.
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    world.pass(Duration::from_secs(31));
    let Leg::Tunnel { path, send, receive, .. } = end(&world, "a", id, Side::Source).leg else {
        panic!("local")
    };
    assert_eq!((path, &send), (backup.path, &backup.send));
    assert_eq!(receive.len(), 2, "what the other end still sends is received");
    assert_eq!(receive[0], backup.receive);
    let was_always_active = world.events.iter().all(|event| match event {
        Event::Circuit(view) => view.circuit.state.name() == "active",
        _ => true,
    });
    assert!(was_always_active);
    world.agents.get_mut(&name("b")).expect("agent").mute = false;
    world.report(&name("b"));
    world.pass(Duration::from_secs(1));
    let Leg::Tunnel { receive, backup, .. } = end(&world, "a", id, Side::Source).leg else { panic!("local") };
    assert_eq!(receive.len(), 1, "both ends have left the old way");
    assert!(backup.is_some());
    assert_eq!(paths(&circuit(&mut world, id)), ("a → t2 → b".into(), "a → t3 → b".into()));
    let Ok(Response::Plan(plan)) = world.ask(Request::ExplainCircuit { circuit: id_of(id) }) else {
        panic!("a plan")
    };
    let chosen = &plan.candidates[plan.chosen.expect("chosen")];
    assert_eq!(chosen.path.to_string(), "a → t2 → b");
    world.connect("t1");
    assert!(world.agents[&name::<NodeName>("t1")].is_bare(), "the old path is gone there, too");
    world.check();
}

fn id_of(id: CircuitId) -> proto_model::request::CircuitRef {
    proto_model::request::CircuitRef::Id(id)
}

#[test]
fn the_backup_becomes_the_path_when_a_link_or_a_host_is_gone() {
    for removed in [false, true] {
        let mut world = three_ways();
        let id = world.create(request("web", "db")).expect("feasible").circuit.id;
        let send = backup_of(&world, id).expect("protected").send;
        world.events.clear();
        if removed {
            world.ask(Request::RemoveNode { node: name("t1") }).expect("no resource is there");
        } else {
            world.underlays.get_mut(&name("t1")).expect("wired").pop();
            world.connect("t1");
        }
        world.pass(Duration::from_secs(1));
        let suspended = world
            .events
            .iter()
            .any(|event| matches!(event, Event::Circuit(view) if view.circuit.state.name() != "active"));
        assert!(!suspended, "removed: {removed}");
        assert_eq!(paths(&circuit(&mut world, id)), ("a → t2 → b".into(), "a → t3 → b".into()));
        let Leg::Tunnel { send: now, .. } = end(&world, "a", id, Side::Source).leg else { panic!("local") };
        assert_eq!(now, send);
    }
}

#[test]
fn a_broken_backup_is_replaced_and_the_path_is_not_touched() {
    for how in ["lost", "removed", "unplugged"] {
        let mut world = three_ways();
        let id = world.create(request("web", "db")).expect("feasible").circuit.id;
        let Leg::Tunnel { send, .. } = end(&world, "a", id, Side::Source).leg else { panic!("local") };
        match how {
            "lost" => world.disconnect("t2"),
            "removed" => {
                world.ask(Request::RemoveNode { node: name("t2") }).expect("no resource is there");
            }
            _ => {
                world.underlays.get_mut(&name("t2")).expect("wired").pop();
                world.connect("t2");
            }
        }
        world.pass(Duration::from_secs(32));
        let shown = circuit(&mut world, id);
        assert_eq!(paths(&shown), ("a → t1 → b".into(), "a → t3 → b".into()), "{how}");
        let Leg::Tunnel { send: now, backup, .. } = end(&world, "a", id, Side::Source).leg else {
            panic!("local")
        };
        assert_eq!(now, send);
        assert!(backup.is_some());
    }
}

#[test]
fn without_another_way_a_backup_out_of_contact_is_kept() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t2");
    world.pass(Duration::from_secs(32));
    let shown = circuit(&mut world, id);
    assert_eq!(paths(&shown).1, "a → t2 → b");
    assert!(shown.protection.starts_with("a host of the backup is lost, and there is no other"), "{shown:?}");
    assert!(backup_of(&world, id).is_some());
    world.connect("t2");
    world.pass(Duration::from_secs(2));
    assert_eq!(circuit(&mut world, id).protection, "");
    world.check();
}

#[test]
fn who_has_no_second_way_is_told_why_and_gets_one_when_there_is_one() {
    let mut world = World::new(Settings::default());
    for (one, other) in [("a", "x"), ("x", "y"), ("x", "z"), ("y", "b"), ("z", "b")] {
        world.wire(one, other, 1, 1000);
    }
    for node in ["a", "b", "x", "y", "z"] {
        world.enrol(node);
        world.connect(node);
    }
    for (id, node) in [("web", "a"), ("db", "b"), ("cache", "a"), ("mail", "x")] {
        world.register(id, node);
    }
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let shared =
        "the backup shares the link a–x (a-x) and the host x with the path: the topology has no other";
    assert_eq!(circuit(&mut world, id).protection, shared);
    let local = world.create(request("web", "cache")).expect("feasible").circuit;
    assert_eq!(
        (local.backup, local.protection.as_str()),
        (None, "both ends are on one host: there is nothing to protect")
    );
    let mut pinned = request("cache", "db");
    pinned.pinned_path = Some(["a", "x", "y", "b"].map(name).into());
    let pinned = world.create(pinned).expect("feasible").circuit;
    assert_eq!((pinned.backup, pinned.protection.as_str()), (None, "the path is pinned: there is no backup"));
    let short = world.create(request("web", "mail")).expect("feasible").circuit;
    assert_eq!((short.backup, short.protection.as_str()), (None, "the topology has no second path"));
    world.wire("a", "z", 1, 1000);
    for node in ["a", "z"] {
        world.connect(node);
    }
    world.pass(Duration::from_secs(2));
    for id in [id, short.id] {
        let shown = circuit(&mut world, id);
        assert_eq!((shown.backup.is_some(), shown.protection.as_str()), (true, ""), "{shown:?}");
    }
    world.check();
}

#[test]
fn an_end_on_its_backup_is_shown_until_its_agent_says_otherwise_or_begins_anew() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.events.clear();
    switch(&mut world, "a", id, Side::Source, Way::Backup);
    switch(&mut world, "b", id, Side::Source, Way::Primary);
    let shown = circuit(&mut world, id);
    assert_eq!(shown.on_backup, [Side::Source]);
    assert!(shown.protection.ends_with("UTC: 5 probes in a row were lost"), "{}", shown.protection);
    assert!(
        matches!(world.events.last(), Some(Event::Circuit(view)) if view.circuit.on_backup == [Side::Source])
    );
    switch(&mut world, "a", id, Side::Source, Way::Primary);
    assert_eq!(
        (circuit(&mut world, id).on_backup.len(), circuit(&mut world, id).protection.as_str()),
        (0, "")
    );
    switch(&mut world, "a", id, Side::Source, Way::Backup);
    world.connect("b");
    assert_eq!(
        circuit(&mut world, id).on_backup,
        [Side::Source],
        "the other end's session is another matter"
    );
    world.connect("a");
    assert_eq!(circuit(&mut world, id).on_backup, []);
}

#[test]
fn a_path_that_is_dead_for_a_minute_is_replaced_by_its_backup_and_a_lossy_one_is_waited_for() {
    for dead in [true, false] {
        let mut world = three_ways();
        let id = world.create(request("web", "db")).expect("feasible").circuit.id;
        switch(&mut world, "a", id, Side::Source, Way::Backup);
        switch(&mut world, "b", id, Side::Destination, Way::Backup);
        for _ in 0..14 {
            let seen = |dead: bool| if dead { silence() } else { answered(900, 200_000) };
            measure(&mut world, "a", "a", "t1", answered(1000, 0));
            measure(&mut world, "a", "a", "t1", seen(dead));
            measure(&mut world, "t1", "a", "t1", seen(dead));
            world.pass(Duration::from_secs(5));
        }
        let shown = circuit(&mut world, id);
        let path = if dead { "a → t2 → b" } else { "a → t1 → b" };
        assert_eq!((paths(&shown).0.as_str(), shown.on_backup.is_empty()), (path, dead));
        world.check();
    }
}

#[test]
fn what_an_agent_said_before_it_heard_of_the_new_plan_is_not_taken_for_it() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("a")).expect("agent").mute = true;
    world.disconnect("t1");
    world.pass(Duration::from_secs(31));
    switch(&mut world, "a", id, Side::Source, Way::Backup);
    assert_eq!(circuit(&mut world, id).on_backup, []);
}

#[test]
fn a_restart_leaves_the_second_way_as_it_is() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let before = world.agents[&name::<NodeName>("a")].objects.clone();
    let hop = world.agents[&name::<NodeName>("t2")].objects.clone();
    world.restart();
    assert_eq!(world.agents[&name::<NodeName>("a")].objects, before);
    assert_eq!(world.agents[&name::<NodeName>("t2")].objects, hop);
    assert_eq!(paths(&circuit(&mut world, id)).1, "a → t2 → b");
    world.check();
}

#[test]
fn circuits_of_an_older_store_get_a_backup() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let Some(record) = world.store.get(&RecordKey::Circuit(id)) else { panic!("stored") };
    let mut text = serde_json::to_value(record).expect("JSON");
    let route = text.pointer_mut("/Circuit/life/Placed/route").and_then(|route| route.as_object_mut());
    let route = route.expect("placed");
    assert!(route.remove("backup").is_some() && route.remove("protection").is_some());
    let old: Record = serde_json::from_value(text).expect("an older record is read");
    assert!(
        matches!(&old, Record::Circuit(record) if matches!(&record.life, Life::Placed { route, .. } if route.backup.is_none()))
    );
    world.store.insert(old.key(), old);
    world.restart();
    world.pass(Duration::from_secs(2));
    let shown = circuit(&mut world, id);
    assert_eq!((shown.state.name(), paths(&shown).1.as_str()), ("active", "a → t2 → b"));
    world.check();
}

#[test]
fn the_interface_fits_both_ways() {
    let mut world = three_ways();
    for underlay in world.underlays.get_mut(&name("t2")).expect("wired") {
        underlay.mtu = 1400;
    }
    world.connect("t2");
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let mtu =
        |world: &World| match &world.agents[&name::<NodeName>("a")].objects[&ObjectKey::Eni(name("web"))] {
            Object::Eni(eni) => eni.mtu,
            other => panic!("{other:?}"),
        };
    assert_eq!((circuit(&mut world, id).mtu, mtu(&world)), (Some(1350), 1350));
    world.disconnect("t2");
    world.pass(Duration::from_secs(32));
    assert_eq!((circuit(&mut world, id).mtu, mtu(&world)), (Some(1450), 1450));
}

#[test]
fn two_disjoint_circuits_share_one_reservation_for_their_backups() {
    let mut world = three_ways();
    world.register("web2", "a");
    world.register("db2", "b");
    let mut first = request("web", "db");
    first.bounds.bandwidth = Bandwidth::mbit(600);
    let mut second = request("web2", "db2");
    second.bounds.bandwidth = Bandwidth::mbit(600);
    second.bounds.avoid.insert(name("t1"));
    let first = world.create(first).expect("feasible").circuit;
    let second = world.create(second).expect("feasible").circuit;
    // Both ways together have no room for a third reservation of 600 Mbit/s beside t1's and t2's.
    assert_eq!(paths(&first), ("a → t1 → b".into(), "a → t2 → b".into()));
    assert_eq!(paths(&second).0, "a → t3 → b");
    world.check();
    let mut world = three_ways();
    world.register("web2", "a");
    world.register("db2", "b");
    for (source, destination, avoid) in [("web", "db", "t2"), ("web2", "db2", "t1")] {
        let mut wanted = request(source, destination);
        wanted.bounds.bandwidth = Bandwidth::mbit(600);
        wanted.bounds.avoid.insert(name(avoid));
        world.create(wanted).expect("feasible");
    }
    let Ok(Response::Links(links)) = world.ask(Request::ListLinks) else { panic!("links") };
    let reserved = |id| links.iter().find(|view| view.id == id).map(|view| view.reserved);
    assert_eq!(reserved(link("t1", "b")), Some(Bandwidth::mbit(600)));
    assert_eq!(reserved(link("t2", "b")), Some(Bandwidth::mbit(600)));
    assert_eq!(reserved(link("t3", "b")), Some(Bandwidth::mbit(600)), "once for both");
    world.check();
}

#[test]
fn what_backups_need_is_not_given_to_others() {
    let mut world = World::diamond();
    world.register("web2", "a");
    let mut first = request("web", "db");
    first.bounds.bandwidth = Bandwidth::mbit(300);
    world.create(first).expect("feasible");
    let mut second = request("web2", "db");
    second.bounds.bandwidth = Bandwidth::mbit(800);
    let refused = world.create(second).expect_err("700 are free beside the backup");
    assert_eq!(refused.kind, Kind::Exhausted);
    assert!(refused.to_string().contains("feasible: up to 700 Mbit/s now"), "{refused}");
    world.check();
}

#[test]
fn a_circuit_that_can_be_protected_is_though_its_best_path_cannot() {
    let mut world = World::new(Settings::default());
    // The best path, a – t1 – t4 – b, takes a host of each of the two disjoint ways.
    let wires = [("a", "t1", 1), ("t1", "t4", 1), ("t4", "b", 1), ("t1", "t3", 2), ("t3", "b", 2)];
    for (one, other, millis) in wires.into_iter().chain([("a", "t2", 2), ("t2", "t4", 2)]) {
        world.wire(one, other, millis, 1_000);
    }
    for node in ["a", "b", "t1", "t2", "t3", "t4"] {
        world.enrol(node);
        world.connect(node);
    }
    world.register("web", "a");
    world.register("db", "b");
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: request("web", "db") }) else {
        panic!("a plan")
    };
    let why = "chosen because its best alternative, a → t1 → t4 → b, has no disjoint backup";
    assert_eq!(plan.protection, why);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let shown = circuit(&mut world, id);
    let (path, backup) = paths(&shown);
    let mut both = [path.clone(), backup];
    both.sort();
    assert_eq!(both, ["a → t1 → t3 → b", "a → t2 → t4 → b"]);
    let Ok(Response::Plan(plan)) = world.ask(Request::ExplainCircuit { circuit: id_of(id) }) else {
        panic!("a plan")
    };
    let passed = plan.candidates.iter().find(|one| one.path.to_string() == "a → t1 → t4 → b").expect("shown");
    let why = format!("passed over: it has no disjoint backup; {path} was chosen because it has one");
    assert_eq!((plan.chosen, &passed.rejected), (Some(0), &vec![why]));
    world.pass(Duration::from_secs(600));
    assert_eq!(paths(&circuit(&mut world, id)).0, path, "the cheaper one would cost it its protection");
    world.check();
}
