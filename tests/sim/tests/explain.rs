//! Traces and questions, as an agent handles them without a controller's mind.
use agent_core::io::Input;
use agent_core::kernel_state::Kernel;
use proto_model::desired::{Change, Gate, Object, ObjectKey, Tell, Trace};
use proto_model::query::{Answer, Body, Packet, QueryId, Question};
use proto_model::report::Say;
use proto_model::trace::Filter;
use proto_model::{CircuitId, Timestamp};
use std::time::Duration;
use tests_sim::host::Host;
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;

const T0: Timestamp = Timestamp(1_000_000_000);
const LASTS: Duration = Duration::from_secs(30);

fn trace(circuit: u64, until: Timestamp) -> Object {
    let filter = Filter { protocol: Some(6), port: None };
    Object::Trace(Trace { circuit: CircuitId(circuit), until, filter, snaplen: 64 })
}

fn host(objects: &[Object]) -> Host {
    let mut kernel = PretendedKernel::new();
    kernel.add_namespace(&place(1));
    let mut host = Host::start(kernel, T0);
    host.connect(1, T0);
    host.tell(1, whole(1, objects), T0);
    host.settle(T0);
    host
}

fn circuit() -> Vec<Object> {
    vec![Object::Eni(eni(1)), Object::Endpoint(end(1, 1, 9, 2, Gate::Open)), rules(1, 1, &["allow any"])]
}

#[test]
fn a_trace_ends_by_the_hosts_own_clock_with_nobody_there_and_leaves_the_circuit_alone() {
    let mut objects = circuit();
    objects.push(trace(1, T0.plus(LASTS)));
    let mut host = host(&objects);
    assert_eq!(host.kernel.maps.traced.keys().collect::<Vec<_>>(), [&1]);
    let mut before = host.kernel.maps.clone();
    host.handle(Input::Disconnected { session: 1 }, T0);
    host.pass(T0.plus(LASTS - Duration::from_nanos(1)));
    assert_eq!(host.kernel.maps, before);
    host.pass(T0.plus(LASTS));
    before.traced.clear();
    assert_eq!(host.kernel.maps, before, "nothing but the trace is gone");
    assert!(host.node().next_deadline().is_none_or(|at| at > T0.plus(LASTS)));
}

#[test]
fn a_trace_that_is_over_when_it_is_told_begins_not_and_one_taken_back_ends() {
    let mut host = host(&[circuit(), vec![trace(1, T0)]].concat());
    assert!(host.kernel.maps.traced.is_empty());
    host.tell(1, changes(1, vec![Change::Put(trace(1, T0.plus(LASTS)))]), T0);
    host.settle(T0);
    assert_eq!(host.kernel.maps.traced.len(), 1);
    host.tell(1, changes(2, vec![Change::Remove(ObjectKey::Trace(CircuitId(1)))]), T0);
    host.settle(T0);
    assert!(host.kernel.maps.traced.is_empty());
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn a_restarted_agent_keeps_a_trace_and_still_ends_it() {
    let objects = [circuit(), vec![trace(1, T0.plus(LASTS))]].concat();
    let host = host(&objects);
    let kernel = host.crash();
    let steps = kernel.steps;
    let mut host = Host::start(kernel, T0);
    host.connect(2, T0);
    host.tell(2, whole(1, &objects), T0);
    host.settle(T0);
    assert_eq!(host.kernel.steps, steps, "what is there is left alone");
    host.pass(T0.plus(LASTS));
    assert!(host.kernel.maps.traced.is_empty());
    assert!(host.kernel.observe().expect("readable").len() > 3, "the circuit goes on");
}

#[test]
fn a_question_is_answered_in_its_session_and_changes_nothing() {
    let mut host = host(&circuit());
    let (before, steps) = (host.kernel.maps.clone(), host.kernel.steps);
    host.take_said();
    let packet = Packet {
        source: "100.64.0.1".parse().expect("address"),
        destination: "100.64.0.2".parse().expect("address"),
        body: Body::Udp { source: 1, destination: 2 },
        size: None,
    };
    let question = Question::Arrives { frame: vec![1, 2, 3], packet };
    host.tell(1, Tell::Ask { query: QueryId(7), question }, T0);
    let said = host.take_said();
    assert!(matches!(said.as_slice(), [Say::Answer { query: QueryId(7), .. }]), "{said:?}");
    assert_eq!((&host.kernel.maps, host.kernel.steps), (&before, steps));
    let late = Answer::Unable("late".into());
    host.handle(Input::Disconnected { session: 1 }, T0);
    host.connect(2, T0);
    host.take_said();
    host.handle(Input::Rehearsed { session: 1, query: QueryId(8), answer: late }, T0);
    assert!(host.take_said().is_empty(), "of a session that is over");
}
