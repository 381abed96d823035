//! The life of a circuit when all goes well.
use crate::fabric::world::{Agent, World, link, name, request};
use proto_model::circuit::CircuitState;
use proto_model::desired::{Gate, Object, ObjectKey, Side};
use proto_model::request::{CircuitRef, Event, Left, Request, Response, RuleChange, RuleEdit};
use proto_model::{Bandwidth, CircuitId};
use std::time::Duration;

#[test]
fn a_circuit_becomes_active_over_the_cheaper_way_and_is_wired_through() {
    let mut world = World::diamond();
    let view = world.create(request("web", "db")).expect("feasible");
    assert_eq!(view.circuit.state.name(), "building");
    assert_eq!(world.state(view.circuit.id), "active");
    let circuit = world.view(view.circuit.id).expect("there").circuit;
    assert_eq!(circuit.path.expect("placed").to_string(), "a → t1 → b");
    assert_eq!(circuit.mtu, Some(1450));
    world.check();
}

#[test]
fn its_transitions_are_announced_in_order() {
    let mut world = World::diamond();
    world.events.clear();
    world.create(request("web", "db")).expect("feasible");
    let mut states: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Circuit(view) => Some(view.circuit.state.name()),
            _ => None,
        })
        .collect();
    states.dedup();
    assert_eq!(states, ["building", "opening", "active"]);
}

#[test]
fn no_gate_opens_before_every_host_has_reported() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let gate = |world: &World, node: &str, side| match &world.agents[&name(node)].objects
        [&ObjectKey::Endpoint(id, side)]
    {
        Object::Endpoint(end) => end.gate,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        world.view(id).expect("there").circuit.state,
        CircuitState::Building { waiting: vec![name("t1")] }
    );
    assert_eq!(gate(&world, "a", Side::Source), Gate::Closed);
    assert_eq!(gate(&world, "b", Side::Destination), Gate::Closed);
    world.agents.get_mut(&name("t1")).expect("agent").mute = false;
    world.report(&name("t1"));
    assert_eq!(world.state(id), "active");
    assert_eq!(gate(&world, "a", Side::Source), Gate::Open);
    assert_eq!(gate(&world, "b", Side::Destination), Gate::Open);
}

#[test]
fn a_host_is_told_three_times_at_an_end_and_once_in_between() {
    let mut world = World::diamond();
    let before: Vec<_> = world.agents.values().map(|agent| agent.tells).collect();
    world.create(request("web", "db")).expect("feasible");
    let told: Vec<_> =
        world.agents.values().zip(before).map(|(agent, before)| agent.tells - before).collect();
    // An end: closed, open, and with its backup, whose host reports last.
    assert_eq!(told, [3, 3, 1, 1], "a, b, t1, t2");
}

#[test]
fn deletion_leaves_nothing_behind() {
    let mut world = World::diamond();
    let store = world.store.clone();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(300);
    let id = world.create(wanted).expect("feasible").circuit.id;
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    assert_eq!(world.state(id), "gone");
    assert!(world.events.contains(&Event::CircuitGone { id, left: Left::default() }));
    for (node, agent) in &world.agents {
        assert!(agent.is_bare(), "{node}: {:?}", agent.objects);
        assert_eq!(world.fabric.nodes[node].labels.given(), 0);
        assert!(world.fabric.nodes[node].held.is_empty());
        assert!(world.fabric.nodes[node].circuits.is_empty());
    }
    let left: Vec<_> = world.store.keys().filter(|key| !store.contains_key(*key)).collect();
    assert_eq!(left, [&crate::record::RecordKey::Counters]);
    world.check();
}

#[test]
fn a_deleted_circuit_waits_for_its_hosts_and_its_name_is_free_at_once() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    assert_eq!(
        world.view(id).expect("there").circuit.state,
        CircuitState::Closing { waiting: vec![name("t1")] }
    );
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("again is fine");
    let second = world.create(request("web", "db")).expect("name and pair are free").circuit.id;
    assert_ne!(id, second);
    world.disconnect("t1");
    assert_eq!(world.state(id), "gone");
    assert!(!world.fabric.nodes[&name("t1")].held.is_empty(), "labels rest until the host has reported");
    world.agents.get_mut(&name("t1")).expect("agent").mute = false;
    world.connect("t1");
    assert!(world.fabric.nodes[&name("t1")].held.is_empty());
    assert_eq!(world.state(second), "active");
    world.check();
}

fn delete(world: &mut World, id: CircuitId) -> Left {
    match world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }) {
        Ok(Response::Deleted(left)) => left,
        other => panic!("not deleted: {other:?}"),
    }
}

/// Nobody but this host, which is out of contact.
fn absent(host: &str) -> Left {
    Left { pending: vec![name(host)], absent: vec![name(host)] }
}

#[test]
fn a_host_that_the_circuit_left_while_it_was_lost_is_named_after_a_restart() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let path = world.view(id).expect("there").circuit.path.expect("placed");
    assert!(path.nodes.contains(&name("t1")), "{path}");
    world.disconnect("t1");
    world.pass(Duration::from_secs(120));
    let circuit = world.view(id).expect("there").circuit;
    let ways: Vec<_> = circuit.path.iter().chain(&circuit.backup).collect();
    assert!(ways.iter().all(|way| !way.nodes.contains(&name("t1"))), "it has left: {ways:?}");
    world.restart();
    let left = delete(&mut world, id);
    assert_eq!(left.absent, [name("t1")]);
    assert_eq!(world.state(id), "gone");
    assert!(world.events.contains(&Event::CircuitGone { id, left: absent("t1") }));
    world.connect("t1");
    assert!(world.agents[&name("t1")].is_bare());
}

#[test]
fn a_host_that_is_back_and_late_is_waited_for_and_not_called_absent() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t1");
    world.pass(Duration::from_secs(120));
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    world.connect("t1");
    let left = delete(&mut world, id);
    assert_eq!(left.absent, []);
    assert!(left.pending.contains(&name("t1")), "{left:?}");
    assert_eq!(delete(&mut world, id), Left { pending: vec![name("t1")], absent: vec![] });
    world.disconnect("t1");
    assert!(world.events.contains(&Event::CircuitGone { id, left: absent("t1") }));
}

#[test]
fn a_deletion_names_hosts_out_of_contact() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("b");
    let left = delete(&mut world, id);
    assert_eq!(left.absent, [name("b")]);
    assert_eq!(left.pending, [name("a"), name("b"), name("t1"), name("t2")], "the others are told just now");
    assert_eq!(world.state(id), "gone");
    assert!(world.events.contains(&Event::CircuitGone { id, left: absent("b") }));
    world.connect("b");
    assert!(world.agents[&name("b")].is_bare());
    let again = world.create(request("web", "db")).expect("feasible").circuit.id;
    assert_eq!(delete(&mut world, again).absent, []);
    assert!(world.events.contains(&Event::CircuitGone { id: again, left: Left::default() }));
}

#[test]
fn a_host_that_goes_while_it_is_waited_for_is_named_too() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    assert_eq!(delete(&mut world, id).absent, []);
    assert_eq!(delete(&mut world, id).pending, [name("t1")], "asked again, when the others have reported");
    world.disconnect("t1");
    assert!(world.events.contains(&Event::CircuitGone { id, left: absent("t1") }));
}

#[test]
fn hosts_that_a_circuit_left_while_they_were_lost_are_named_when_it_is_deleted() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t1");
    world.disconnect("b");
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.state(id), "suspended");
    assert_eq!(delete(&mut world, id).pending, [name("b"), name("t1")]);
}

#[test]
fn after_a_restart_a_suspended_circuit_is_pending_where_its_ends_were() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("b");
    world.pass(Duration::from_secs(3600));
    world.restart();
    assert_eq!(world.state(id), "suspended");
    assert_eq!(delete(&mut world, id).pending, [name("b")]);
}

#[test]
fn two_resources_on_one_host_get_a_local_circuit() {
    let mut world = World::diamond();
    world.register("cache", "a");
    let id = world.create(request("web", "cache")).expect("feasible").circuit.id;
    let circuit = world.view(id).expect("there").circuit;
    assert_eq!(circuit.state, CircuitState::Active);
    assert_eq!(circuit.path.expect("placed").links, []);
    assert_eq!(circuit.mtu, Some(1500));
    world.check();
}

#[test]
fn an_interface_has_the_smallest_mtu_of_its_circuits_and_goes_with_the_last() {
    let mut world = World::diamond();
    world.register("cache", "a");
    let mtu = |world: &World| match world.agents[&name("a")].objects.get(&ObjectKey::Eni(name("web"))) {
        Some(Object::Eni(eni)) => Some(eni.mtu),
        _ => None,
    };
    let local = world.create(request("web", "cache")).expect("feasible").circuit.id;
    assert_eq!(mtu(&world), Some(1500));
    let far = world.create(request("web", "db")).expect("feasible").circuit.id;
    assert_eq!(mtu(&world), Some(1450));
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(far) }).expect("there");
    assert_eq!(mtu(&world), Some(1500));
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(local) }).expect("there");
    assert_eq!(mtu(&world), None);
}

#[test]
fn bandwidth_is_reserved_and_the_next_circuit_takes_the_other_way() {
    let mut world = World::diamond();
    world.register("web2", "a");
    let mut first = request("web", "db");
    first.bounds.bandwidth = Bandwidth::mbit(300);
    let mut second = request("web2", "db");
    second.bounds.bandwidth = Bandwidth::mbit(200);
    world.create(first).expect("feasible");
    let view = world.create(second).expect("feasible over t2");
    assert_eq!(view.circuit.path.expect("placed").to_string(), "a → t2 → b");
    let why =
        "no second path keeps the bounds: a → t1 → b: b–t1 (t1-b) has 100 Mbit/s free, 200 Mbit/s is asked";
    assert_eq!((view.circuit.backup, view.circuit.protection.as_str()), (None, why));
    let Ok(Response::Links(links)) = world.ask(Request::ListLinks) else { panic!("links") };
    let reserved = |id| links.iter().find(|view| view.id == id).map(|view| view.reserved);
    assert_eq!(reserved(link("t1", "b")), Some(Bandwidth::mbit(300)));
    assert_eq!(reserved(link("t2", "b")), Some(Bandwidth::mbit(500)), "200 and the backup of the other");
    world.check();
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_change_on_each_host() {
    let mut world = World::diamond();
    let store = world.store.clone();
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: request("web", "db") }) else {
        panic!("a plan")
    };
    assert_eq!(plan.chosen, Some(0));
    assert_eq!(plan.candidates.len(), 2);
    assert!(plan.candidates[0].cost < plan.candidates[1].cost);
    for candidate in &plan.candidates {
        let sum: f64 = candidate.terms.iter().map(|term| term.cost).sum();
        assert!((sum - candidate.cost).abs() < 1e-9, "{candidate:?}");
    }
    let hosts: Vec<_> = plan.hosts.iter().map(|host| host.node.as_str()).collect();
    assert_eq!(hosts, ["a", "t1", "b", "t2"]);
    assert!(
        plan.hosts[0].changes[0].contains("create interface fw1 in the namespace web"),
        "{:?}",
        plan.hosts[0]
    );
    assert_eq!(world.store, store);
    assert!(world.agents.values().all(Agent::is_bare));
}

#[test]
fn what_was_decided_can_be_asked_later() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let Ok(Response::Plan(plan)) = world.ask(Request::ExplainCircuit { circuit: CircuitRef::Id(id) }) else {
        panic!("a plan")
    };
    assert_eq!(plan.candidates.len(), 2);
    assert_eq!(plan.candidates[0].path.to_string(), "a → t1 → b");
}

#[test]
fn a_pinned_path_is_taken_although_it_costs_more() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.pinned_path = Some(vec![name("a"), name("t2"), name("b")]);
    let view = world.create(wanted).expect("feasible");
    assert_eq!(view.circuit.path.expect("placed").to_string(), "a → t2 → b");
    assert_eq!(world.state(view.circuit.id), "active");
}

#[test]
fn rules_change_at_both_ends_in_one_step_and_only_there() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let before: Vec<_> = world.agents.values().map(|agent| agent.tells).collect();
    let edit = RuleEdit::Add { rules: vec!["allow icmp both".parse().expect("rule")], before: None };
    let change =
        RuleChange { circuit: CircuitRef::Id(id), expected_version: Some(1), edit, confirm_within: None };
    let Ok(Response::Rules { version, rules, .. }) = world.ask(Request::UpdateFirewallRule(change.clone()))
    else {
        panic!("rules")
    };
    assert_eq!((version, rules.len()), (2, 2));
    let told: Vec<_> =
        world.agents.values().zip(before).map(|(agent, before)| agent.tells - before).collect();
    assert_eq!(told, [1, 1, 0, 0]);
    for node in ["a", "b"] {
        let object = &world.agents[&name(node)].objects[&ObjectKey::Rules(id)];
        assert!(matches!(object, Object::Rules(set) if set.version == 2 && set.rules.len() == 2));
    }
    assert!(world.ask(Request::UpdateFirewallRule(change)).is_err(), "the version is another one now");
}

fn allow_ssh(id: CircuitId) -> Request {
    let edit = RuleEdit::Replace { rules: vec!["allow tcp/22".parse().expect("a rule")] };
    Request::UpdateFirewallRule(RuleChange {
        circuit: CircuitRef::Id(id),
        expected_version: None,
        edit,
        confirm_within: None,
    })
}

#[test]
fn a_rule_change_shows_which_hosts_do_not_have_it_in_force() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    assert_eq!(world.view(id).expect("there").rules_pending, []);
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    let Ok(Response::Rules { pending, .. }) = world.ask(allow_ssh(id)) else { panic!("not changed") };
    assert_eq!(pending, [name("a"), name("b")], "nobody can have reported in the same step");
    let view = world.view(id).expect("there");
    assert_eq!((view.circuit.state, view.rules_pending), (CircuitState::Active, vec![name("b")]));
    world.restart();
    assert_eq!(world.view(id).expect("there").rules_pending, [name("b")], "also after a restart");
    world.events.clear();
    world.agents.get_mut(&name("b")).expect("agent").mute = false;
    world.report(&name("b"));
    let in_force = |event: &Event| matches!(event, Event::Circuit(view) if view.rules_pending.is_empty());
    assert!(world.events.iter().any(in_force), "who waits is told");
}

#[test]
fn a_host_that_cannot_apply_rules_has_them_pending() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("b")).expect("agent").refuses.insert(ObjectKey::Rules(id));
    world.ask(allow_ssh(id)).expect("kept");
    let view = world.view(id).expect("there");
    assert_eq!(view.rules_pending, [name("b")]);
    assert!(view.circuit.detail.contains("EPERM"), "{}", view.circuit.detail);
    world.agents.get_mut(&name("b")).expect("agent").refuses.clear();
    world.report(&name("b"));
    assert_eq!(world.view(id).expect("there").rules_pending, []);
}

#[test]
fn a_repeated_key_makes_one_circuit_and_another_content_is_refused() {
    let mut world = World::diamond();
    world.register("db2", "b");
    let key = Some("k1".to_owned());
    let ask = |to: &str| Request::CreateCircuit { circuit: request("web", to), idempotency_key: key.clone() };
    let Ok(Response::Circuit(first)) = world.ask(ask("db")) else { panic!("a circuit") };
    let Ok(Response::Circuit(again)) = world.ask(ask("db")) else { panic!("a circuit") };
    assert_eq!(first.circuit.id, again.circuit.id);
    assert!(world.ask(ask("db2")).expect_err("other content").what.contains("another content"));
    world.restart();
    let Ok(Response::Circuit(after)) = world.ask(ask("db")) else { panic!("a circuit") };
    assert_eq!(first.circuit.id, after.circuit.id);
    world.pass(Duration::from_secs(86_401));
    assert!(!world.store.keys().any(|key| matches!(key, crate::record::RecordKey::Idempotency(_))));
}
