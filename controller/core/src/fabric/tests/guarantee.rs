//! What is said of a reservation where hosts shape, and where they cannot.
use crate::fabric::world::{World, name, request};
use proto_model::Bandwidth;
use proto_model::circuit::CircuitState;
use proto_model::desired::ObjectKey;
use proto_model::report::{Failure, Report, Say};
use proto_model::request::Event;
use std::time::Duration;

#[test]
fn where_queues_cannot_be_made_a_reserved_circuit_is_active_and_only_accounted_there() {
    let mut world = World::diamond();
    for node in ["a", "b", "t1", "t2"] {
        let underlays = world.underlays.get_mut(&name(node)).expect("wired");
        underlays.iter_mut().for_each(|underlay| underlay.shape = true);
        world.connect(node);
    }
    let mut gold = request("web", "db");
    gold.bounds.bandwidth = Bandwidth::mbit(40);
    let id = world.create(gold).expect("feasible").circuit.id;
    let shown = |world: &mut World| {
        world.report(&name("a"));
        let circuit = world.view(id).expect("there").circuit;
        (circuit.state, circuit.guarantee)
    };
    assert_eq!(shown(&mut world), (CircuitState::Active, "kept at every host".into()));
    let say = |world: &mut World, failed: bool| {
        let agent = &world.agents[&name("t1")];
        let (session, generation) = (agent.session.expect("connected"), agent.generation);
        let key = ObjectKey::Queues("eth0".into());
        let why = "eth0 has the root queue cake 8001:".to_owned();
        let (failed, recovered) =
            if failed { (vec![Failure { key, why }], vec![]) } else { (vec![], vec![key]) };
        world.events.clear();
        world.say("t1", session, Say::Report(Report { generation, whole: false, failed, recovered }));
        let told = |event: &Event| matches!(event, Event::Circuit(view) if view.circuit.id == id);
        assert!(world.events.iter().any(told), "whoever watches sees it");
    };
    say(&mut world, true);
    world.pass(Duration::from_secs(600));
    let there =
        "only accounted where queues could not be made: t1 in a-t1 (eth0 has the root queue cake 8001:)";
    assert_eq!(shown(&mut world), (CircuitState::Active, there.into()));
    let path = world.view(id).and_then(|view| view.circuit.path).expect("placed");
    assert_eq!(path.to_string(), "a → t1 → b");
    say(&mut world, false);
    assert_eq!(shown(&mut world), (CircuitState::Active, "kept at every host".into()));
    world.check();
}
