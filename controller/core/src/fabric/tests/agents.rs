//! Agents that fail, vanish, come back and talk out of turn.
use crate::fabric::world::{Agent, World, link, name, request};
use crate::io::{Input, Session};
use crate::record::RecordKey;
use proto_model::access::Fingerprint;
use proto_model::circuit::CircuitState;
use proto_model::desired::{ObjectKey, Side};
use proto_model::report::{DropCount, Failure, Hello, Report, Say, Telemetry, Traffic};
use proto_model::request::{CircuitRef, DropsView, Event, Request, Response};
use proto_model::resource::Status;
use proto_model::topology::{LinkValues, NodeState};
use proto_model::{Bandwidth, Kind};
use std::time::Duration;

fn path(world: &mut World, id: proto_model::CircuitId) -> String {
    world.view(id).and_then(|view| view.circuit.path).map_or(String::new(), |path| path.to_string())
}

pub(super) fn hello() -> Say {
    Say::Hello(Hello {
        version: String::new(),
        kernel: String::new(),
        boot: String::new(),
        underlays: Vec::new(),
        datapath: Vec::new(),
        seal_keys: Vec::new(),
    })
}

#[test]
fn an_object_that_a_host_cannot_build_keeps_the_gate_closed_and_is_shown() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("b")).expect("agent").refuses.insert(ObjectKey::Eni(name("db")));
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let circuit = world.view(id).expect("there").circuit;
    assert_eq!(circuit.state.name(), "building");
    assert!(circuit.detail.contains("b cannot build the interface of db: EPERM"), "{}", circuit.detail);
    world.agents.get_mut(&name("b")).expect("agent").refuses.clear();
    world.report(&name("b"));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_host_cannot_trouble_circuits_that_it_is_no_part_of() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let agent = &world.agents[&name("t2")];
    let (session, generation) = (agent.session.expect("connected"), agent.generation);
    let failed = [ObjectKey::Endpoint(id, Side::Source), ObjectKey::Rules(id), ObjectKey::Eni(name("web"))]
        .map(|key| Failure { key, why: "made up".into() })
        .into();
    let report = Report { generation, whole: false, failed, recovered: Vec::new() };
    world.say("t2", session, Say::Report(report));
    assert_eq!(world.view(id).expect("there").circuit.detail, "");
    world.pass(Duration::from_secs(60));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t1 → b"));
}

#[test]
fn a_transit_host_that_cannot_build_is_gone_around() {
    let mut world = World::diamond();
    let agent = world.agents.get_mut(&name("t1")).expect("agent");
    agent.mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let agent = world.agents.get_mut(&name("t1")).expect("agent");
    agent.refuses = agent.objects.keys().cloned().collect();
    agent.mute = false;
    world.report(&name("t1"));
    world.pass(Duration::from_secs(9));
    assert_eq!(world.state(id), "building");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.state(id), "active");
    assert_eq!(path(&mut world, id), "a → t2 → b");
    world.check();
}

#[test]
fn an_end_that_stays_broken_suspends_the_circuit_and_it_is_tried_again() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("b")).expect("agent").refuses.insert(ObjectKey::Eni(name("db")));
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.pass(Duration::from_secs(11));
    let circuit = world.view(id).expect("there").circuit;
    assert!(
        matches!(&circuit.state, CircuitState::Suspended { why } if why.contains("EPERM")),
        "{circuit:?}"
    );
    assert!(world.agents.values().all(Agent::is_bare));
    world.agents.get_mut(&name("b")).expect("agent").refuses.clear();
    world.pass(Duration::from_secs(31));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_transit_host_that_says_nothing_is_gone_around() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.pass(Duration::from_secs(9));
    assert_eq!(world.state(id), "building");
    world.pass(Duration::from_secs(2));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t2 → b"));
    world.check();
}

#[test]
fn an_end_that_says_nothing_suspends_the_circuit_and_it_is_tried_again() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.pass(Duration::from_secs(11));
    let shown = world.view(id).expect("there").circuit;
    assert_eq!(shown.state.name(), "suspended");
    assert!(
        shown.detail.contains("b is connected, but has not done what it was told for 10 s"),
        "{}",
        shown.detail
    );
    world.agents.get_mut(&name("b")).expect("agent").mute = false;
    world.report(&name("b"));
    world.pass(Duration::from_secs(30));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn an_end_that_does_not_open_suspends_the_circuit() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("t1")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.pass(Duration::from_secs(5));
    world.agents.get_mut(&name("a")).expect("agent").mute = true;
    world.report(&name("t1"));
    assert_eq!(world.state(id), "opening");
    world.pass(Duration::from_secs(9));
    assert_eq!(world.state(id), "opening", "the ends have their own time");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.state(id), "suspended");
    world.check();
}

#[test]
fn a_host_that_gets_further_or_is_out_of_contact_is_not_called_silent() {
    let mut world = World::diamond();
    for node in ["a", "b"] {
        world.agents.get_mut(&name(node)).expect("agent").mute = true;
    }
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("b");
    for _ in 0..5 {
        world.pass(Duration::from_secs(4));
        // Another of its circuits takes its time; it reports one after the other.
        let node = world.fabric.nodes.get_mut(&name("a")).expect("there");
        node.progressed = world.now;
    }
    assert_eq!(world.state(id), "building");
}

#[test]
fn a_failure_of_an_active_circuit_is_shown_and_healed() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let key = ObjectKey::Endpoint(id, Side::Source);
    world.agents.get_mut(&name("a")).expect("agent").refuses.insert(key);
    world.report(&name("a"));
    let circuit = world.view(id).expect("there").circuit;
    assert_eq!(circuit.state, CircuitState::Active);
    assert!(circuit.detail.contains("EPERM"), "{}", circuit.detail);
    world.agents.get_mut(&name("a")).expect("agent").refuses.clear();
    world.report(&name("a"));
    assert_eq!(world.view(id).expect("there").circuit.detail, "");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.state(id), "active");
}

#[test]
fn a_lost_transit_host_is_left_alone_for_the_grace_period_and_then_gone_around() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t1");
    world.pass(Duration::from_secs(29));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t1 → b"));
    world.pass(Duration::from_secs(2));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t2 → b"));
    world.check();
    world.connect("t1");
    assert!(world.agents[&name("t1")].is_bare());
    world.check();
}

#[test]
fn a_circuit_that_finds_no_way_around_keeps_forwarding_until_there_is_one() {
    let mut world = World::diamond();
    world.disconnect("t2");
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t1");
    world.pass(Duration::from_secs(60));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t1 → b"));
    world.connect("t2");
    world.pass(Duration::from_secs(1));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t2 → b"));
    world.check();
}

fn reserved(world: &mut World) -> Bandwidth {
    let Ok(Response::Links(links)) = world.ask(Request::ListLinks) else { panic!("no links") };
    links.iter().map(|link| link.reserved).max().expect("links")
}

#[test]
fn an_active_circuit_whose_end_is_lost_says_so_then_lets_go_and_comes_back_with_it() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(300);
    let id = world.create(wanted).expect("feasible").circuit.id;
    let lost = world.now;
    world.disconnect("b");
    world.pass(Duration::from_secs(31));
    let shown = world.view(id).expect("there").circuit;
    assert_eq!(shown.state, CircuitState::Active, "b may forward still");
    assert_eq!(shown.detail, format!("its end b is lost since {lost}"));
    world.pass(Duration::from_secs(560));
    assert_eq!((world.state(id), reserved(&mut world)), ("active", Bandwidth::mbit(300)));
    world.pass(Duration::from_secs(10));
    let shown = world.view(id).expect("there").circuit;
    assert_eq!((shown.state.name(), reserved(&mut world)), ("suspended", Bandwidth::default()));
    assert!(shown.detail.contains("b"), "{}", shown.detail);
    assert!(world.agents[&name("a")].is_bare());
    world.pass(Duration::from_secs(61));
    assert_eq!(world.fabric.nodes[&name("t1")].labels.given(), 0, "others can have them");
    world.check();
    world.connect("b");
    world.pass(Duration::from_secs(1));
    assert_eq!((world.state(id), reserved(&mut world)), ("active", Bandwidth::mbit(300)));
    assert_eq!(world.view(id).expect("there").circuit.detail, "");
    world.check();
}

#[test]
fn an_end_that_returns_in_time_finds_its_circuit_as_it_was() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let before = world.agents[&name("b")].objects.clone();
    world.disconnect("b");
    world.pass(Duration::from_secs(590));
    world.connect("b");
    assert_eq!(world.view(id).expect("there").circuit.detail, "");
    world.pass(Duration::from_secs(590));
    assert_eq!((world.state(id), &world.agents[&name("b")].objects), ("active", &before));
    world.check();
}

#[test]
fn a_circuit_that_never_opened_lets_go_of_a_lost_end_after_the_first_grace() {
    let mut world = World::diamond();
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("b");
    world.pass(Duration::from_secs(29));
    assert_eq!(world.state(id), "building");
    world.pass(Duration::from_secs(2));
    let shown = world.view(id).expect("there").circuit;
    assert!(
        matches!(shown.state, CircuitState::Suspended { why } if why.contains("its end b is lost since"))
    );
    world.agents.get_mut(&name("b")).expect("agent").mute = false;
    world.connect("b");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_controller_that_hears_nobody_releases_nothing() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let before: Vec<_> = world.agents.values().map(|agent| agent.objects.clone()).collect();
    for node in ["a", "b", "t1", "t2"] {
        world.disconnect(node);
    }
    world.pass(Duration::from_secs(2_000));
    assert_eq!(world.state(id), "active");
    for node in ["a", "t1", "t2", "b"] {
        world.connect(node);
        world.pass(Duration::from_secs(60));
    }
    let after: Vec<_> = world.agents.values().map(|agent| agent.objects.clone()).collect();
    assert_eq!((world.state(id), before), ("active", after));
    world.check();
}

#[test]
fn a_reconnect_with_everything_in_place_changes_nothing() {
    let mut world = World::diamond();
    world.create(request("web", "db")).expect("feasible");
    let before: Vec<_> =
        world.agents.values().map(|agent| (agent.generation, agent.objects.clone())).collect();
    world.events.clear();
    for node in ["a", "t1", "b"] {
        world.disconnect(node);
        world.connect(node);
    }
    let after: Vec<_> =
        world.agents.values().map(|agent| (agent.generation, agent.objects.clone())).collect();
    assert_eq!(before, after);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Circuit(_))), "{:?}", world.events);
}

#[test]
fn an_unknown_or_unenrolled_host_is_hung_up_on_and_told_why() {
    let mut world = World::diamond();
    let session = Session(900);
    world.say("mars", session, hello());
    let expires = world.now.plus(Duration::from_secs(9));
    world.ask(Request::CreateToken { node: name("new"), hash: [9; 32], expires }).expect("admin");
    world.say("new", session, hello());
    let whys: Vec<_> = world.hang_ups.iter().map(|(node, _, why)| (node.as_str(), why.as_str())).collect();
    assert!(
        matches!(whys.as_slice(), [("mars", one), ("new", two)] if one.contains("not a node") && two.contains("enrol")),
        "{whys:?}"
    );
}

#[test]
fn a_newer_session_ends_the_older_one_whose_late_words_are_ignored() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let old = world.agents[&name("a")].session.expect("connected");
    world.connect("a");
    assert!(world.hang_ups.iter().any(|(node, session, _)| *node == name("a") && *session == old));
    let telemetry = |bytes| {
        let traffic = Traffic { sent_bytes: bytes, ..Traffic::default() };
        Say::Telemetry(Telemetry { traffic: vec![(id, traffic)], ..Telemetry::default() })
    };
    world.say("a", old, telemetry(7));
    assert_eq!(world.view(id).expect("there").at_source.sent_bytes, 0);
    world.input(Input::AgentGone { node: name("a"), session: old });
    world.say("a", old, hello());
    let session = world.agents[&name("a")].session.expect("connected");
    world.say("a", session, telemetry(9));
    assert_eq!(world.view(id).expect("there").at_source.sent_bytes, 9);
    let view = world.fabric.node_view(&name("a")).expect("known");
    assert_eq!((view.state, view.underlays.len()), (NodeState::Connected, 2));
}

#[test]
fn an_agent_that_missed_something_is_told_the_whole() {
    let mut world = World::diamond();
    world.create(request("web", "db")).expect("feasible");
    let agent = world.agents.get_mut(&name("t1")).expect("agent");
    let lost = std::mem::take(&mut agent.objects);
    let session = agent.session.expect("connected");
    world.say("t1", session, Say::AskWhole);
    assert_eq!(world.agents[&name("t1")].objects, lost);
}

#[test]
fn drops_are_listed_by_host_with_the_newest_value() {
    let mut world = World::diamond();
    let session = world.agents[&name("t1")].session.expect("connected");
    for packets in [5, 8] {
        let drop = DropCount {
            circuit: None,
            reason: "unknown_label".into(),
            rule: 0,
            packets,
            bytes: 100 * packets,
        };
        let say = Say::Telemetry(Telemetry { drops: vec![drop], ..Telemetry::default() });
        world.say("t1", session, say);
    }
    let Ok(Response::Drops(DropsView { drops, .. })) = world.ask(Request::ListDrops { node: None }) else {
        panic!("drops")
    };
    assert_eq!(drops.len(), 1);
    assert_eq!((drops[0].0.as_str(), drops[0].1.packets), ("t1", 8));
}

#[test]
fn a_host_whose_addresses_change_gets_circuits_with_the_new_ones() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    for underlay in world.underlays.get_mut(&name("t1")).expect("two") {
        underlay.addresses = vec![[172, 16, underlay.network.as_str().len() as u8, 9].into()];
        underlay.mtu = 1400;
    }
    world.disconnect("t1");
    world.connect("t1");
    assert_eq!(world.view(id).expect("there").circuit.mtu, Some(1350));
    world.check();
    world.underlays.insert(name("t1"), Vec::new());
    world.disconnect("t1");
    world.connect("t1");
    world.pass(Duration::from_secs(1));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t2 → b"));
    world.check();
}

#[test]
fn a_path_uses_one_address_family_and_says_so_when_it_cannot() {
    let mut world = World::diamond();
    world.disconnect("t2");
    let keep = |world: &mut World, index: usize, v4: bool| {
        let underlay = &mut world.underlays.get_mut(&name("t1")).expect("two")[index];
        underlay.addresses.retain(|address| address.is_ipv4() == v4);
    };
    keep(&mut world, 0, false);
    world.disconnect("t1");
    world.connect("t1");
    let view = world.create(request("web", "db")).expect("feasible over IPv6");
    assert_eq!(view.circuit.mtu, Some(1430));
    world.check();
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(view.circuit.id) }).expect("there");
    keep(&mut world, 1, true);
    world.disconnect("t1");
    world.connect("t1");
    let refusal = world.create(request("web", "db")).expect_err("mixed");
    assert!(refusal.what.contains("no address family is on all its links"), "{refusal}");
}

#[test]
fn a_token_enrols_once_and_in_time() {
    let mut world = World::diamond();
    let expires = world.now.plus(Duration::from_secs(10));
    let make = |hash| Request::CreateToken { node: name("new"), hash, expires };
    let enrol = |hash, node: &str| Request::Enrol { node: name(node), hash, key: Fingerprint(hash) };
    world.ask(make([1; 32])).expect("admin");
    world.ask(make([2; 32])).expect("admin");
    assert_eq!(world.ask(enrol([7; 32], "new")).expect_err("unknown").kind, Kind::NotFound);
    assert_eq!(world.ask(enrol([1; 32], "a")).expect_err("another host").kind, Kind::Forbidden);
    world.ask(enrol([1; 32], "new")).expect("fresh");
    assert_eq!(world.ask(enrol([1; 32], "new")).expect_err("used").kind, Kind::NotFound);
    world.now = world.now.plus(Duration::from_secs(11));
    assert_eq!(world.ask(enrol([2; 32], "new")).expect_err("expired").kind, Kind::Forbidden);
    world.pass(Duration::from_secs(1));
    assert!(!world.store.keys().any(|key| matches!(key, RecordKey::Token(_))));
}

#[test]
fn a_removed_host_is_hung_up_on_and_its_transit_circuits_move() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let refusal = world.ask(Request::RemoveNode { node: name("a") }).expect_err("web is there");
    assert!(refusal.what.contains("web"), "{refusal}");
    world.ask(Request::RemoveNode { node: name("t1") }).expect("no resources");
    world.agents.remove(&name("t1"));
    assert!(world.hang_ups.iter().any(|(node, _, _)| *node == name("t1")));
    world.pass(Duration::from_secs(1));
    assert_eq!((world.state(id), path(&mut world, id).as_str()), ("active", "a → t2 → b"));
    world.check();
    world.restart();
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_disabled_link_takes_no_new_circuit_and_capacity_set_later_revives_a_suspended_one() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(800);
    let id = world.create(wanted).expect("feasible over t2").circuit.id;
    let set = |capacity, disabled| {
        let values =
            LinkValues { capacity: Some(Bandwidth::mbit(capacity)), disabled, ..LinkValues::default() };
        Request::SetLink { link: link("a", "t2"), values }
    };
    world.ask(set(1000, true)).expect("known");
    assert_eq!(world.state(id), "active", "what is there stays");
    for status in [Status::Down, Status::Up] {
        world.ask(Request::UpdateResourceStatus { id: name("db"), status }).expect("known");
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state(id), "suspended");
    world.ask(set(1000, false)).expect("known");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state(id), "active");
    world.check();
}
