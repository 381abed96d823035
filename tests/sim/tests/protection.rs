//! An agent whose circuits have two ways: groups, what the protector is told, what survives a restart.
use agent_core::io::Input;
use agent_core::kernel_state::{Backup, Entry, Flow, Kernel, Target};
use agent_core::protect::{Began, Order, Told};
use proto_model::desired::{Change, Gate, Leg, Object, Side};
use proto_model::report::{Say, Switch, Way};
use proto_model::{CircuitId, Timestamp};
use tests_sim::host::Host;
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;

const T: Timestamp = Timestamp(1_000_000_000);

fn connected() -> Host {
    let mut kernel = PretendedKernel::new();
    kernel.add_namespace(&place(1));
    let mut host = Host::start(kernel, T);
    host.connect(1, T);
    host
}

fn objects(gate: Gate) -> Vec<Object> {
    let ends = [protected(end(1, 1, 8, 2, gate), 3), protected(end(2, 1, 9, 2, gate), 3)];
    let mut objects = vec![Object::Eni(eni(1)), rules(1, 1, &[]), rules(2, 1, &[])];
    objects.extend(ends.map(Object::Endpoint));
    objects
}

fn backups(host: &mut Host) -> Vec<Backup> {
    let flows = host.kernel.observe().expect("readable").into_values();
    let backup = |entry| match entry {
        Entry::Flow(Flow { target: Target::NextHop { backup, .. }, .. }) => backup,
        _ => None,
    };
    flows.filter_map(backup).collect()
}

#[test]
fn ends_on_the_same_two_paths_are_one_group_and_each_path_is_probed_once() {
    let mut host = connected();
    host.tell(1, whole(1, &objects(Gate::Closed)), T);
    host.settle(T);
    let orders: Vec<Order> =
        host.orders.drain(..).filter(|order| !matches!(order, Order::InUse(_))).collect();
    assert!(matches!(orders[..], [Order::Guard { group: 1, began: Began::Now, .. }]), "{orders:?}");
    host.tell(1, whole(2, &objects(Gate::Open)), T);
    host.settle(T);
    let orders: Vec<Order> = host.orders.drain(..).collect();
    assert!(matches!(orders[..], [Order::Measure(..), Order::Measure(..)]), "{orders:?}");
    let backups = backups(&mut host);
    assert_eq!(backups.len(), 4);
    assert!(backups.iter().all(|backup| backup.group == 1));
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn an_end_without_its_second_way_leaves_its_group() {
    let mut host = connected();
    host.tell(1, whole(1, &objects(Gate::Open)), T);
    host.settle(T);
    host.orders.clear();
    let alone = Object::Endpoint(end(1, 1, 8, 2, Gate::Open));
    host.tell(1, changes(1, vec![Change::Put(alone)]), T);
    host.settle(T);
    assert!(matches!(host.orders.make_contiguous(), [Order::Measure(..), Order::Measure(..)]));
    host.orders.clear();
    host.tell(1, whole(3, &[]), T);
    host.settle(T);
    let orders: Vec<Order> = host.orders.drain(..).collect();
    assert!(matches!(orders[..], [Order::Forget(_), Order::Forget(_), Order::Unguard(1)]), "{orders:?}");
    assert_eq!(host.kernel.leftovers(), Vec::<String>::new());
}

#[test]
fn a_restarted_agent_keeps_the_groups_and_touches_nothing() {
    let mut host = connected();
    host.tell(1, whole(1, &objects(Gate::Open)), T);
    host.settle(T);
    let mut host = Host::start(host.crash(), T);
    host.orders.clear();
    host.connect(1, T);
    host.tell(1, whole(1, &objects(Gate::Open)), T);
    assert_eq!(host.settle(T), 0);
    let began = host.orders.iter().find_map(|order| match order {
        Order::Guard { began, .. } => Some(*began),
        _ => None,
    });
    assert_eq!(began, Some(Began::Before));
}

fn switches(host: &mut Host) -> Vec<Switch> {
    let said = host.take_said().into_iter();
    said.filter_map(|say| if let Say::Switched(switches) = say { Some(switches) } else { None })
        .flatten()
        .collect()
}

#[test]
fn the_controller_is_told_of_every_end_that_turned_and_again_in_a_new_session() {
    let mut host = connected();
    host.tell(1, whole(1, &objects(Gate::Open)), T);
    host.settle(T);
    let told = |to| Told::Turned { group: 1, to, why: "lost".into(), at: T };
    host.handle(Input::Protector(told(Way::Backup)), T);
    let both = [(CircuitId(1), Side::Source), (CircuitId(2), Side::Source)];
    let ends = |said: &[Switch]| said.iter().map(|s| (s.circuit, s.side)).collect::<Vec<_>>();
    let said = switches(&mut host);
    assert_eq!(ends(&said), both);
    assert!(said.iter().all(|switch| switch.to == Way::Backup && switch.why == "lost"));
    host.connect(2, T);
    host.tell(2, whole(1, &objects(Gate::Open)), T);
    assert_eq!(ends(&switches(&mut host)), both);
    host.handle(Input::Protector(told(Way::Primary)), T);
    assert!(switches(&mut host).iter().all(|switch| switch.to == Way::Primary));
    host.connect(3, T);
    host.tell(3, whole(1, &objects(Gate::Open)), T);
    assert_eq!(switches(&mut host), []);
}

#[test]
fn a_restarted_agent_protects_what_the_kernel_forwards_before_a_controller_speaks() {
    let mut host = connected();
    host.tell(1, whole(1, &objects(Gate::Open)), T);
    host.settle(T);
    let sessions = |host: &mut Host| {
        let orders: Vec<Order> = host.orders.drain(..).collect();
        let session =
            |order: &Order| if let Order::Measure(_, all) = order { Some(all.clone()) } else { None };
        (orders.iter().filter_map(session).collect::<Vec<_>>(), orders)
    };
    let (before, _) = sessions(&mut host);
    let mut host = Host::start(host.crash(), T);
    let (after, orders) = sessions(&mut host);
    assert_eq!((after.len(), &after), (2, &before));
    assert_eq!(orders[2], Order::InUse([1].into()));
    assert!(matches!(orders[3], Order::Guard { group: 1, began: Began::Before, .. }), "{orders:?}");
    host.connect(1, T);
    host.tell(1, whole(1, &objects(Gate::Open)), T);
    assert_eq!(host.settle(T), 0);
    let (told, orders) = sessions(&mut host);
    assert_eq!(told, before);
    assert_eq!(orders.iter().filter(|order| matches!(order, Order::Forget(_))).count(), 2, "{orders:?}");
    let guards = orders.iter().filter(|order| matches!(order, Order::Guard { began: Began::Before, .. }));
    assert_eq!(guards.count(), 1);
}

/// Two labels of one end lead back the same way while a circuit moves; under which of them the answers come is known to
/// the far end only.
#[test]
fn a_restarted_agent_assumes_nothing_of_an_end_that_is_being_moved() {
    let mut host = connected();
    let mut objects = objects(Gate::Open);
    for object in &mut objects {
        if let Object::Endpoint(end) = object
            && end.circuit == CircuitId(1)
            && let Leg::Tunnel { receive: labels, .. } = &mut end.leg
        {
            labels.push(receive(2, 500));
        }
    }
    host.tell(1, whole(1, &objects), T);
    host.settle(T);
    let mut host = Host::start(host.crash(), T);
    let probed = |order: &Order| match order {
        Order::Measure(_, sessions) => Some(sessions.iter().map(|one| one.receive).collect::<Vec<_>>()),
        _ => None,
    };
    let orders: Vec<Order> = host.orders.drain(..).collect();
    let seen: Vec<Vec<u32>> = orders.iter().filter_map(probed).collect();
    assert_eq!(seen, [[label(2).value()], [label(2_002).value()]], "as the other end only: {orders:?}");
}
