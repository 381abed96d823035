//! Circuits whose packets are followed.
use crate::fabric::world::{World, name, request};
use proto_model::access::Role;
use proto_model::desired::{Object, ObjectKey};
use proto_model::report::Say;
use proto_model::request::{CircuitRef, Request, Response};
use proto_model::trace::{Act, Filter, Hook, Traced};
use proto_model::{CircuitId, Kind, NodeName, Refusal, Timestamp};
use std::time::Duration;

const LASTS: Duration = Duration::from_secs(30);

fn start(world: &mut World, id: CircuitId, nodes: &[&str]) -> Result<(Timestamp, Vec<NodeName>), Refusal> {
    let request = Request::StartTrace {
        circuit: CircuitRef::Id(id),
        filter: Filter { protocol: Some(6), port: Some(5432) },
        snaplen: 128,
        lasts: LASTS,
        nodes: nodes.iter().map(|node| name(node)).collect(),
    };
    match world.ask_as(Role::Operator, request)? {
        Response::Tracing { until, nodes, .. } => Ok((until, nodes)),
        other => panic!("{other:?}"),
    }
}

fn wired() -> (World, CircuitId) {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    (world, id)
}

fn traced(world: &World, id: CircuitId) -> Vec<&str> {
    let has = |(node, agent): (_, &crate::fabric::world::Agent)| {
        agent.objects.contains_key(&ObjectKey::Trace(id)).then_some(node)
    };
    world.agents.iter().map(|(node, agent)| (node.as_str(), agent)).filter_map(has).collect()
}

#[test]
fn every_host_of_the_circuit_is_told_and_let_go_when_the_time_is_over() {
    let (mut world, id) = wired();
    let before = world.agents[&name("a")].objects.clone();
    let (until, nodes) = start(&mut world, id, &[]).expect("placed");
    assert_eq!(until, world.now.plus(LASTS));
    let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
    assert_eq!(names, ["a", "t1", "b", "t2"], "path first, then what only the backup crosses");
    assert_eq!(traced(&world, id), ["a", "b", "t1", "t2"]);
    let Some(Object::Trace(told)) = world.agents[&name("a")].objects.get(&ObjectKey::Trace(id)) else {
        panic!("a trace")
    };
    assert_eq!((told.until, told.snaplen, told.filter.port), (until, 128, Some(5432)));
    world.pass(LASTS + Duration::from_secs(2));
    assert!(traced(&world, id).is_empty());
    assert_eq!(world.agents[&name("a")].objects, before);
    assert_eq!(world.state(id), "active");
}

#[test]
fn a_host_that_is_not_connected_is_said_to_be_and_told_when_it_is_back() {
    let (mut world, id) = wired();
    world.disconnect("b");
    let request = Request::StartTrace {
        circuit: CircuitRef::Id(id),
        filter: Filter { protocol: None, port: None },
        snaplen: 0,
        lasts: LASTS,
        nodes: vec![name("a"), name("b")],
    };
    let Ok(Response::Tracing { nodes, absent, .. }) = world.ask_as(Role::Operator, request) else {
        panic!("followed where it can be")
    };
    assert_eq!((nodes, absent), (vec![name("a"), name("b")], vec![name("b")]));
    assert_eq!(traced(&world, id), ["a"]);
    world.connect("b");
    assert_eq!(traced(&world, id), ["a", "b"]);
}

#[test]
fn hosts_tell_of_the_circuits_they_were_asked_for_and_of_no_others() {
    let (mut world, id) = wired();
    start(&mut world, id, &["t1"]).expect("placed");
    let other = CircuitId(id.0 + 1);
    for (node, circuit) in [("t1", id), ("a", id), ("t1", other)] {
        let session = world.agents[&name(node)].session.expect("connected");
        world.say(node, session, Say::Traced(vec![seen(circuit)]));
    }
    assert_eq!(world.traced, [(name("t1"), id)]);
}

fn seen(circuit: CircuitId) -> Traced {
    Traced {
        at: Timestamp(1),
        circuit,
        hook: Hook::Tcx,
        act: Act::PassedOn,
        interface: "eth0".into(),
        label: None,
        out_label: None,
        identity: 1,
        source: None,
        destination: None,
        protocol: 6,
        source_port: 9,
        destination_port: 5432,
        length: 64,
        segment: 0,
        sealed: false,
        missed: 0,
        bytes: Vec::new(),
    }
}

#[test]
fn only_whoever_began_it_ends_it() {
    let (mut world, id) = wired();
    let (until, _) = start(&mut world, id, &["t1"]).expect("placed");
    assert_eq!(traced(&world, id), ["t1"]);
    let stop = |until| Request::StopTrace { circuit: id, until };
    world.ask_as(Role::Operator, stop(until.plus(Duration::from_nanos(1)))).expect("done");
    assert_eq!(traced(&world, id), ["t1"], "of another request");
    world.ask_as(Role::Operator, stop(until)).expect("done");
    assert!(traced(&world, id).is_empty());
}

#[test]
fn a_circuit_is_followed_by_one_request_at_a_time_and_only_where_it_is() {
    let (mut world, id) = wired();
    start(&mut world, id, &[]).expect("placed");
    assert_eq!(start(&mut world, id, &[]).expect_err("twice").kind, Kind::Precondition);
    world.pass(LASTS + Duration::from_secs(2));
    world.enrol("elsewhere");
    let refused = start(&mut world, id, &["elsewhere"]).expect_err("not crossed");
    assert!(refused.what.contains("it crosses a, t1, b"), "{refused}");
    let refused = world.ask_as(Role::Viewer, Request::StopTrace { circuit: id, until: Timestamp(0) });
    assert_eq!(refused.expect_err("a viewer").kind, Kind::Forbidden);
}

#[test]
fn a_circuit_that_goes_takes_its_trace_along_and_a_restart_forgets_it() {
    let (mut world, id) = wired();
    start(&mut world, id, &[]).expect("placed");
    world.restart();
    assert!(traced(&world, id).is_empty(), "what is followed is nobody's promise");
    start(&mut world, id, &[]).expect("placed");
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    assert!(world.agents.values().all(crate::fabric::world::Agent::is_bare));
}
