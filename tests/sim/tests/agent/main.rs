//! What an agent does to its kernel, alone: no controller's mind, no network.
mod failures;
mod interfaces;

use agent_core::bounds::{BATCH, QUARANTINE};
use agent_core::io::Input;
use agent_core::kernel_state::{Entry, EntryKey, Kernel, Step};
use proto_model::desired::{Change, Gate, Object, ObjectKey};
use proto_model::report::{Report, Say, Traffic};
use proto_model::{CircuitId, Generation, Timestamp};
use std::time::Duration;
use tests_sim::host::Host;
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;

const T0: Timestamp = Timestamp(1_000_000_000);

fn later(millis: u64) -> Timestamp {
    T0.plus(Duration::from_millis(millis))
}

/// A kernel with namespaces for resources 1 to `n`.
fn kernel(n: u32) -> PretendedKernel {
    let mut kernel = PretendedKernel::new();
    (1..=n).for_each(|host| kernel.add_namespace(&place(host)));
    kernel
}

fn told(kernel: PretendedKernel, objects: &[Object]) -> Host {
    let mut host = Host::start(kernel, T0);
    host.connect(1, T0);
    host.tell(1, whole(1, objects), T0);
    host
}

/// One of everything: an open circuit end, two that share a host, a hop.
fn some_objects() -> Vec<Object> {
    let mut objects = vec![
        Object::Endpoint(end(1, 1, 9, 2, Gate::Open)),
        Object::Eni(eni(1)),
        rules(1, 1, &["allow tcp/80", "deny any"]),
        rules(2, 1, &["allow any both"]),
        Object::Eni(eni(2)),
        hop(3, 2, 50, 3, 60),
    ];
    objects.extend(local(2, 1, 2, Gate::Open));
    objects
}

fn reports(host: &mut Host) -> Vec<Report> {
    host.take_said()
        .into_iter()
        .filter_map(|say| if let Say::Report(report) = say { Some(report) } else { None })
        .collect()
}

fn converged(host: &mut Host) {
    let want = host.node().want();
    assert_eq!(host.node().have(), want);
    assert_eq!(host.kernel.observe(), Ok(want));
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn what_is_told_comes_to_be() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    converged(&mut host);
    let report = reports(&mut host);
    assert_eq!(
        report,
        [Report { generation: Generation(1), whole: true, failed: vec![], recovered: vec![] }]
    );
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let mut objects = some_objects();
    let mut first = None;
    for _ in 0..objects.len() {
        objects.rotate_left(1);
        let mut host = told(kernel(2), &objects);
        host.settle(T0);
        converged(&mut host);
        let state = host.kernel.maps.labels.clone();
        assert_eq!(*first.get_or_insert(state.clone()), state);
    }
}

#[test]
fn restart_with_unchanged_desire_performs_no_step() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.resolve_all(T0);
    host.settle(T0);
    // Slots and rows that are not the first ones, so that only adoption can find them again.
    host.tell(
        1,
        changes(
            1,
            vec![Change::Put(rules(1, 2, &["allow tcp/81"])), Change::Remove(ObjectKey::Hop(label(50)))],
        ),
        T0,
    );
    host.settle(T0);
    host.tell(1, changes(2, vec![Change::Put(hop(3, 3, 51, 2, 60))]), T0);
    host.settle(T0);
    converged(&mut host);
    let objects: Vec<Object> = some_objects()
        .into_iter()
        .filter(|object| {
            object.key() != ObjectKey::Hop(label(50)) && object.key() != ObjectKey::Rules(CircuitId(1))
        })
        .chain([rules(1, 2, &["allow tcp/81"]), hop(3, 3, 51, 2, 60)])
        .collect();
    let mut kernel = host.crash();
    let before = kernel.observe();
    let mut again = told(kernel, &objects);
    assert_eq!(again.next_step(), None);
    assert_eq!(reports(&mut again).len(), 1);
    assert_eq!(again.kernel.observe(), before);
}

#[test]
fn nothing_is_touched_before_a_controller_has_spoken() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let mut again = Host::start(host.crash(), T0);
    again.connect(1, T0);
    assert_eq!(again.pass(later(600_000)), 0);
    assert_eq!(again.next_step(), None);
}

/// The neighbour of every next hop that the kernel has.
fn neighbours(host: &Host) -> Vec<Option<[u8; 6]>> {
    let mac = |entry| match entry {
        Entry::NextHop(hop) => Some(hop.link.map(|link| link.neighbour)),
        _ => None,
    };
    host.node().have().into_values().filter_map(mac).collect()
}

#[test]
fn a_neighbour_that_changes_after_a_restart_is_followed_without_a_controller() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.resolve_all(T0);
    host.settle(T0);
    let watched = host.watched.clone();
    let mut again = Host::start(host.crash(), T0);
    assert_eq!(again.watched, watched);
    again.resolve_all(T0);
    assert_eq!(again.settle(T0), 0, "nothing changed");
    again.resolve_to([2, 0, 0, 0, 0, 7], T0);
    assert_eq!(again.settle(T0), watched.len(), "one step for each next hop, and no other");
    assert_eq!(neighbours(&again), vec![Some([2, 0, 0, 0, 0, 7]); watched.len()]);
    // A controller that speaks at last finds everything in place, and what it does not want goes.
    again.connect(1, T0);
    again.tell(1, whole(1, &some_objects()), T0);
    assert_eq!(again.settle(T0), 0);
    assert_eq!(again.watched, watched);
    converged(&mut again);
    let mut third = Host::start(again.crash(), T0);
    third.resolve_to([2, 0, 0, 0, 0, 8], T0);
    third.connect(1, T0);
    third.tell(1, whole(1, &[]), T0);
    third.settle(T0);
    assert!(third.watched.is_empty());
    assert_eq!(third.kernel.leftovers(), Vec::<String>::new());
}

#[test]
fn strangers_are_removed_and_in_an_order_that_opens_no_hole() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let mut again = told(host.crash(), &[]);
    assert!(again.settle(T0) > 0);
    assert_eq!(again.kernel.leftovers(), Vec::<String>::new());
    converged(&mut again);
}

#[test]
fn a_gap_in_the_numbers_asks_for_the_whole() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.take_said();
    host.tell(1, changes(7, vec![Change::Remove(ObjectKey::Eni(resource(1)))]), T0);
    assert_eq!(host.settle(T0), 0);
    assert_eq!(host.take_said(), [Say::AskWhole]);
    host.tell(1, whole(8, &some_objects()), T0);
    assert_eq!(host.settle(T0), 0);
    assert_eq!(reports(&mut host).pop().map(|report| report.generation), Some(Generation(8)));
}

#[test]
fn an_old_session_is_not_heard() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.connect(2, T0);
    host.tell(1, whole(2, &[]), T0);
    assert_eq!(host.settle(T0), 0);
}

#[test]
fn a_gate_opens_with_two_steps_and_closes_with_two() {
    let mut objects = some_objects();
    objects[0] = Object::Endpoint(end(1, 1, 9, 2, Gate::Closed));
    let mut host = told(kernel(2), &objects);
    host.settle(T0);
    host.tell(1, changes(1, vec![Change::Put(Object::Endpoint(end(1, 1, 9, 2, Gate::Open)))]), T0);
    assert_eq!(host.settle(T0), 2);
    host.tell(1, changes(2, vec![Change::Put(Object::Endpoint(end(1, 1, 9, 2, Gate::Closed)))]), T0);
    assert!(matches!(host.next_step(), Some(Step::Remove(EntryKey::Flow(..)))));
    assert_eq!(host.settle(T0), 2);
    converged(&mut host);
}

#[test]
fn a_moved_circuit_is_made_before_it_is_broken() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let mut both = end(1, 1, 9, 3, Gate::Open);
    both.leg = tunnel(send(3, 700), vec![receive(2, 1), receive(3, 71)]);
    host.tell(1, changes(1, vec![Change::Put(Object::Endpoint(both.clone()))]), T0);
    let mut order = Vec::new();
    while let Some(step) = host.next_step() {
        order.push(step.key());
        host.step(T0);
    }
    let flows = order.iter().rposition(|key| matches!(key, EntryKey::Flow(..)));
    let old_slot = order.iter().position(|key| matches!(key, EntryKey::NextHop(_)));
    assert!(flows < old_slot, "{order:?}");
    both.leg = tunnel(send(3, 700), vec![receive(3, 71)]);
    host.tell(1, changes(2, vec![Change::Put(Object::Endpoint(both))]), T0);
    host.settle(T0);
    converged(&mut host);
}

#[test]
fn a_rule_change_writes_where_no_packet_looks_and_rows_rest_before_reuse() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let mut starts = Vec::new();
    for version in 2..200 {
        let set = rules(1, version, &["allow tcp/1", "allow tcp/2", "allow tcp/3"]);
        let now = later(u64::from(version) * 10);
        host.tell(1, changes(u64::from(version) - 1, vec![Change::Put(set)]), now);
        assert_eq!(host.settle(now), 1);
        let Some(Entry::Rules(there)) = host.node().have().remove(&EntryKey::Rules(1)) else {
            panic!("no rules")
        };
        let last = starts.iter().rev().find(|(start, _)| *start == there.start);
        assert!(last.is_none_or(|(_, at)| now.since(*at) >= QUARANTINE));
        starts.push((there.start, now));
    }
    assert!(starts.iter().all(|(start, _)| *start < 1_000), "rows are used again");
    converged(&mut host);
}

#[test]
fn counters_are_asked_for_while_somebody_listens() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.pass(later(10_000));
    assert_eq!(host.counts, 5);
    host.take_said();
    let sent = Traffic { sent_packets: 3, ..Traffic::default() };
    let traffic = vec![(1, sent), (99, sent)];
    host.handle(Input::Counted { traffic, drops: vec![], queues: vec![], interfaces: vec![] }, later(10_000));
    let Some(Say::Telemetry(telemetry)) = host.take_said().pop() else { panic!("no telemetry") };
    assert_eq!(telemetry.traffic, [(CircuitId(1), sent)]);
    host.handle(Input::Disconnected { session: 1 }, later(10_000));
    assert_eq!((host.pass(later(60_000)), host.counts), (0, 5));
}

#[test]
fn thousands_of_circuits_come_to_be_in_bounded_batches() {
    let circuits = 2_000u64;
    let mut objects = vec![Object::Eni(eni(1))];
    for circuit in 1..=circuits {
        let far = 100 + u32::try_from(circuit).expect("small");
        objects.push(Object::Endpoint(end(circuit, 1, far, 2 + (circuit % 8) as u8, Gate::Open)));
        objects.push(rules(circuit, 1, &["allow tcp/80", "allow tcp/443", "allow icmp both"]));
    }
    let mut host = told(kernel(1), &objects);
    let steps = host.settle(T0);
    assert_eq!(steps as u64, 1 + 8 + circuits * 5);
    assert!(host.largest <= BATCH);
    let mut again = told(host.crash(), &objects);
    assert_eq!(again.next_step(), None);
    again.tell(1, changes(1, vec![Change::Put(rules(5, 2, &["deny any"]))]), T0);
    assert_eq!(again.settle(T0), 1, "one change is one step");
}

#[test]
fn a_hop_that_turns_elsewhere_never_stops_forwarding() {
    let mut host = told(kernel(1), &[hop(7, 2, 317, 2, 50)]);
    host.settle(T0);
    host.tell(1, changes(1, vec![Change::Put(hop(7, 2, 317, 3, 52))]), T0);
    while host.step(T0) {
        assert!(host.kernel.maps.labels.contains_key(&317));
    }
    converged(&mut host);
}
