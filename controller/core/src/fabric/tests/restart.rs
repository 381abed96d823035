//! A controller that starts anew from what it wrote.
use crate::fabric::world::{Agent, World, name, request};
use crate::fabric::{Fabric, RestoreError, Settings};
use crate::record::{Life, Record, RecordKey};
use proto_model::circuit::CircuitState;
use proto_model::request::{CircuitRef, Request};
use proto_model::{Bandwidth, Timestamp};

#[test]
fn a_restart_changes_nothing_for_an_agent_that_forwards() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(300);
    let id = world.create(wanted).expect("feasible").circuit.id;
    let before: Vec<_> = world.agents.values().map(|agent| agent.objects.clone()).collect();
    let shown = world.view(id).expect("there").circuit;
    world.now = world.now.plus(std::time::Duration::from_secs(5));
    world.restart();
    let after: Vec<_> = world.agents.values().map(|agent| agent.objects.clone()).collect();
    assert_eq!(before, after, "open gates stay open");
    let again = world.view(id).expect("there").circuit;
    assert_eq!((shown.state, shown.path, shown.rules), (again.state, again.path, again.rules));
    world.check();
}

#[test]
fn a_circuit_that_was_being_built_is_built_on() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.restart();
    assert_eq!(world.state(id), "building");
    world.agents.get_mut(&name("t1")).expect("agent").mute = false;
    world.report(&name("t1"));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_circuit_whose_ends_were_never_told_to_open_is_not_active_after_a_restart() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    let report = world.pending_report("t1").expect("in contact");
    world.die_after_writing(report);
    let life = |world: &World| match &world.store[&RecordKey::Circuit(id)] {
        Record::Circuit(circuit) => circuit.life.clone(),
        other => panic!("not a circuit: {other:?}"),
    };
    assert!(matches!(life(&world), Life::Opening { .. }));
    let state = world.view(id).expect("there").circuit.state;
    assert_eq!(state, CircuitState::Opening { waiting: vec![name("b")] }, "only a has reported");
    world.check();
    world.agents.get_mut(&name("b")).expect("agent").mute = false;
    world.report(&name("b"));
    assert_eq!(world.state(id), "active");
    assert!(matches!(life(&world), Life::Placed { opened: true, .. }));
    world.agents.get_mut(&name("t1")).expect("agent").mute = false;
    world.report(&name("t1"));
    world.check();
}

#[test]
fn numbers_labels_and_addresses_are_not_given_twice_after_a_restart() {
    let mut world = World::diamond();
    let first = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.restart();
    world.register("web2", "a");
    world.register("db2", "b");
    let second = world.create(request("web2", "db2")).expect("feasible").circuit.id;
    assert!(second > first);
    let address = |id: &str| world.fabric.resources.get(&name(id)).map(|member| member.resource.address);
    let addresses: std::collections::BTreeSet<_> = ["web", "db", "web2", "db2"].map(address).into();
    assert_eq!(addresses.len(), 4);
    assert_eq!(world.fabric.nodes[&name("t1")].labels.given(), 4);
    world.check();
}

#[test]
fn a_circuit_that_was_being_closed_is_gone_after_a_restart() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    for agent in world.agents.values_mut() {
        agent.mute = true;
    }
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    assert_eq!(world.state(id), "closing");
    world.restart();
    assert_eq!(world.state(id), "gone");
    assert!(!world.store.contains_key(&RecordKey::Circuit(id)));
    assert!(world.agents.values().all(Agent::is_bare));
    assert_eq!(world.fabric.nodes[&name("t1")].labels.given(), 2, "not free until the host has reported");
    for agent in world.agents.values_mut() {
        agent.mute = false;
    }
    world.report(&name("t1"));
    assert_eq!(world.fabric.nodes[&name("t1")].labels.given(), 0);
}

#[test]
fn a_label_freed_by_one_host_while_another_is_still_closing_may_be_anothers_after_a_restart() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("a")).expect("agent").mute = true;
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    world.pass(std::time::Duration::from_secs(61));
    let second = world.create(request("web", "db")).expect("feasible").circuit.id;
    assert_eq!(world.state(id), "closing");
    world.agents.get_mut(&name("a")).expect("agent").mute = false;
    world.restart();
    assert_eq!((world.state(id), world.state(second)), ("gone", "active"));
    world.check();
}

#[test]
fn a_circuit_whose_link_is_no_longer_stored_is_suspended_and_placed_when_hosts_are_back() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    if let Some(Record::Node(node)) = world.store.get_mut(&RecordKey::Node(name("t1"))) {
        node.underlays.clear();
    }
    for node in ["a", "b", "t1", "t2"] {
        world.disconnect(node);
    }
    world.restart();
    assert_eq!(world.state(id), "suspended");
    for node in ["a", "b", "t2"] {
        world.connect(node);
    }
    world.pass(std::time::Duration::from_secs(1));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn state_that_contradicts_itself_is_refused_by_name() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let restore =
        |records: Vec<Record>| Fabric::restore(Settings::default(), records, Timestamp(0)).map(|_| ());
    let all: Vec<Record> = world.store.values().cloned().collect();
    assert_eq!(restore(all.clone()), Ok(()));
    let without =
        |key: RecordKey| all.iter().filter(|record| record.key() != key).cloned().collect::<Vec<_>>();
    assert!(matches!(
        restore(without(RecordKey::Resource(name("db")))),
        Err(RestoreError::NoResource { .. })
    ));
    assert!(matches!(restore(without(RecordKey::Node(name("t1")))), Err(RestoreError::NoHop { .. })));
    assert!(matches!(restore(without(RecordKey::Node(name("a")))), Err(RestoreError::NoNode { .. })));
    assert!(matches!(restore(without(RecordKey::Counters)), Err(RestoreError::Number { .. })));
    let mut twice = all.clone();
    twice.push(all[0].clone());
    assert!(matches!(restore(twice), Err(RestoreError::Twice(_))));
    let mut torn = all.clone();
    for record in &mut torn {
        if let Record::Circuit(circuit) = record
            && let Life::Placed { route, .. } = &mut circuit.life
        {
            route.forward.pop();
        }
    }
    assert!(matches!(restore(torn), Err(RestoreError::Malformed { circuit, .. }) if circuit == id));
}
