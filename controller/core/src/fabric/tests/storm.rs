//! Random lives of a whole fabric: whatever happens in whatever order, the books and the wires agree.
use crate::fabric::world::{World, name, request};
use proptest::prelude::*;
use proto_model::desired::ObjectKey;
use proto_model::request::{CircuitRef, Request};
use proto_model::resource::Status;
use proto_model::{Bandwidth, CircuitId};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Act {
    Create { from: usize, to: usize, mbit: u64 },
    Delete(usize),
    Disconnect(usize),
    Connect(usize),
    Mute(usize),
    Speak(usize),
    Refuse(usize, usize),
    Heal(usize),
    Down(usize),
    Up(usize),
    Restart,
    Pass(u64),
}

const NODES: [&str; 4] = ["a", "b", "t1", "t2"];
const RESOURCES: [(&str, &str); 5] =
    [("web", "a"), ("db", "b"), ("cache", "a"), ("queue", "t1"), ("mail", "b")];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..5usize, 0..5usize, 0..6u64).prop_map(|(from, to, step)| Act::Create { from, to, mbit: step * 60 }),
        3 => any::<usize>().prop_map(Act::Delete),
        1 => (0..4usize).prop_map(Act::Disconnect),
        2 => (0..4usize).prop_map(Act::Connect),
        1 => (0..4usize).prop_map(Act::Mute),
        2 => (0..4usize).prop_map(Act::Speak),
        1 => (0..4usize, any::<usize>()).prop_map(|(node, which)| Act::Refuse(node, which)),
        1 => (0..4usize).prop_map(Act::Heal),
        1 => (0..5usize).prop_map(Act::Down),
        2 => (0..5usize).prop_map(Act::Up),
        1 => Just(Act::Restart),
        3 => (1..40u64).prop_map(Act::Pass),
    ]
}

fn perform(world: &mut World, act: Act) {
    match act {
        Act::Create { from, to, mbit } => {
            let mut wanted = request(RESOURCES[from].0, RESOURCES[to].0);
            wanted.bounds.bandwidth = Bandwidth::mbit(mbit);
            let _ = world.create(wanted);
        }
        Act::Delete(which) => {
            let ids: Vec<CircuitId> = world.fabric.circuits.iter().map(|circuit| circuit.id).collect();
            if !ids.is_empty() {
                let circuit = CircuitRef::Id(ids[which % ids.len()]);
                world.ask(Request::DeleteCircuit { circuit }).expect("it is there");
            }
        }
        Act::Disconnect(node) => world.disconnect(NODES[node]),
        Act::Connect(node) => world.connect(NODES[node]),
        Act::Mute(node) => world.agents.get_mut(&name(NODES[node])).expect("agent").mute = true,
        Act::Speak(node) => speak(world, NODES[node]),
        Act::Refuse(node, which) => {
            let agent = world.agents.get_mut(&name(NODES[node])).expect("agent");
            let keys: Vec<ObjectKey> = agent.objects.keys().cloned().collect();
            if !keys.is_empty() {
                agent.refuses.insert(keys[which % keys.len()].clone());
            }
            if !agent.mute {
                speak(world, NODES[node]);
            }
        }
        Act::Heal(node) => {
            world.agents.get_mut(&name(NODES[node])).expect("agent").refuses.clear();
            speak(world, NODES[node]);
        }
        Act::Down(which) => status(world, which, Status::Down),
        Act::Up(which) => status(world, which, Status::Up),
        Act::Restart => world.restart(),
        Act::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
    }
}

fn speak(world: &mut World, node: &str) {
    world.agents.get_mut(&name(node)).expect("agent").mute = false;
    world.report(&name(node));
}

fn status(world: &mut World, which: usize, status: Status) {
    world.ask(Request::UpdateResourceStatus { id: name(RESOURCES[which].0), status }).expect("known");
}

proptest! {
    #[test]
    fn books_and_wires_agree_and_in_the_end_everything_runs_or_is_gone(acts in proptest::collection::vec(act(), 1..60)) {
        let mut world = World::diamond();
        for (id, node) in &RESOURCES[2..] {
            world.register(id, node);
        }
        for act in acts {
            perform(&mut world, act);
            world.check();
        }
        for node in NODES {
            world.agents.get_mut(&name(node)).expect("agent").refuses.clear();
            world.connect(node);
            speak(&mut world, node);
        }
        for which in 0..RESOURCES.len() {
            status(&mut world, which, Status::Up);
        }
        world.pass(Duration::from_secs(120));
        world.check();
        let ids: Vec<_> = world.fabric.circuits.iter().map(|circuit| circuit.id).collect();
        for id in ids {
            let view = world.view(id).expect("listed");
            let fits = view.circuit.detail.contains("free");
            prop_assert!(view.circuit.state.name() == "active" || fits, "{:?}", view.circuit);
            world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
        }
        for (node, agent) in &world.agents {
            prop_assert!(agent.is_bare(), "{} keeps {:?}", node, agent.objects);
            prop_assert_eq!(world.fabric.nodes[node].labels.given(), 0);
        }
        prop_assert!(world.fabric.circuits.is_empty());
    }
}
