//! What ends by a host's own clock, with every controller silent, and over the end of the agent.
use agent_core::kernel_state::{Entry, EntryKey, Kernel, KernelState, LabelAction};
use proto_model::desired::{Endpoint, Gate, Object};
use proto_model::rule::{Revert, RuleSet};
use proto_model::{Timestamp, Until};
use std::time::Duration;
use tests_sim::host::Host;
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;

const T0: Timestamp = Timestamp(1_000_000_000);
const END: Duration = Duration::from_secs(60);

fn later(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn seen(host: &mut Host) -> KernelState {
    host.kernel.observe().expect("the pretended kernel can always be read")
}

/// What of a circuit could carry a packet to or from this host.
fn ways(state: &KernelState, circuit: u64) -> usize {
    let carries = |entry: &&Entry| match entry {
        Entry::Flow(flow) => flow.circuit == circuit,
        Entry::Label(label) => {
            label.circuit == circuit && matches!(label.action, LabelAction::Deliver { .. })
        }
        _ => false,
    };
    state.values().filter(carries).count()
}

fn rules_of(state: &KernelState, circuit: u64) -> (u32, Vec<u32>) {
    match state.get(&EntryKey::Rules(circuit)) {
        Some(Entry::Rules(rules)) => (rules.version, rules.rows.iter().map(|row| row.id).collect()),
        other => panic!("{other:?}"),
    }
}

/// Circuit 1 ends at `END`, circuit 2 never, from two resources.
fn two_circuits(set: Object) -> Host {
    let ends = Endpoint { expires: Some(T0.plus(END)), ..end(1, 1, 9, 2, Gate::Open) };
    let stays = end(2, 2, 8, 2, Gate::Open);
    let objects = [
        Object::Eni(eni(1)),
        Object::Eni(eni(2)),
        rules(1, 1, &["allow any both"]),
        set,
        Object::Endpoint(ends),
        Object::Endpoint(stays),
    ];
    let mut kernel = PretendedKernel::new();
    (1..=2).for_each(|host| kernel.add_namespace(&place(host)));
    let mut host = Host::start(kernel, T0);
    host.connect(1, T0);
    host.tell(1, whole(1, &objects), T0);
    host.settle(T0);
    host
}

fn silent(mut host: Host) -> Host {
    host.handle(agent_core::io::Input::Disconnected { session: 1 }, T0);
    host
}

fn forever() -> Object {
    rules(2, 1, &["allow any both"])
}

#[test]
fn a_circuit_ends_by_the_hosts_own_clock_with_the_controller_dead() {
    let mut host = silent(two_circuits(forever()));
    host.pass(later(59));
    assert!(ways(&seen(&mut host), 1) > 0);
    host.pass(later(60));
    let state = seen(&mut host);
    assert_eq!(ways(&state, 1), 0);
    assert!(!state.keys().any(|key| matches!(key, EntryKey::Route(_, to) if *to == address(9))));
    assert_eq!(ways(&state, 2), 3, "two flows and a label");
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn what_ended_while_the_agent_was_dead_is_closed_before_any_controller_speaks() {
    let host = silent(two_circuits(forever()));
    let mut host = host.restart(later(61));
    host.settle(later(61));
    let state = seen(&mut host);
    assert_eq!(ways(&state, 1), 0);
    assert!(!state.keys().any(|key| matches!(key, EntryKey::Route(_, to) if *to == address(9))));
    assert_eq!(ways(&state, 2), 3);
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn a_new_life_ends_what_the_last_one_was_told_at_its_time() {
    let mut host = silent(two_circuits(forever())).restart(later(30));
    assert_eq!(host.settle(later(30)), 0, "nothing is touched before its time");
    host.pass(later(59));
    assert!(ways(&seen(&mut host), 1) > 0);
    host.pass(later(60));
    assert_eq!(ways(&seen(&mut host), 1), 0);
}

#[test]
fn an_extended_circuit_goes_on_and_one_that_is_taken_away_is_forgotten() {
    let mut host = two_circuits(forever());
    let extended = Endpoint { expires: Some(later(600)), ..end(1, 1, 9, 2, Gate::Open) };
    host.tell(1, changes(1, vec![put(Object::Endpoint(extended.clone()))]), later(10));
    assert_eq!(host.settle(later(10)), 0, "a later end is no change of the kernel");
    host.pass(later(599));
    assert!(ways(&seen(&mut host), 1) > 0);
    assert_eq!(host.kept.len(), 1);
    let gone = proto_model::desired::Change::Remove(Object::Endpoint(extended).key());
    host.tell(1, changes(2, vec![gone]), later(599));
    host.settle(later(599));
    assert_eq!((ways(&seen(&mut host), 1), host.kept.len()), (0, 0));
}

fn put(object: Object) -> proto_model::desired::Change {
    proto_model::desired::Change::Put(object)
}

fn limited() -> Object {
    let Object::Rules(mut set) = rules(2, 5, &["allow tcp/22", "allow tcp/80"]) else { panic!("rules") };
    set.rules[0].spec.until = Some(Until::At(T0.plus(END)));
    Object::Rules(set)
}

#[test]
fn a_rule_ends_by_the_hosts_own_clock_and_connections_are_judged_anew() {
    let mut host = silent(two_circuits(limited()));
    assert_eq!(rules_of(&seen(&mut host), 2), (5, vec![1, 2]));
    host.pass(later(60));
    let (version, rows) = rules_of(&seen(&mut host), 2);
    assert_eq!(rows, [2]);
    assert_ne!(version, 5);
    assert_eq!(ways(&seen(&mut host), 2), 3, "the gate stays open");
    // The same after the controller is back and says what it said.
    host.connect(2, later(61));
    host.tell(
        2,
        whole(1, &[Object::Eni(eni(2)), limited(), Object::Endpoint(end(2, 2, 8, 2, Gate::Open))]),
        later(61),
    );
    host.settle(later(61));
    assert_eq!(rules_of(&seen(&mut host), 2), (version, vec![2]));
}

#[test]
fn a_rule_that_ended_while_the_agent_was_dead_is_gone_before_any_controller_speaks() {
    let mut host = silent(two_circuits(limited())).restart(later(61));
    host.settle(later(61));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [2]);
    assert_eq!(ways(&seen(&mut host), 2), 3);
}

fn unconfirmed() -> Object {
    let Object::Rules(new) = rules(2, 6, &["deny any both"]) else { panic!("rules") };
    let Object::Rules(mut former) = rules(2, 5, &["allow tcp/22"]) else { panic!("rules") };
    former.rules[0].id = 9;
    let revert = Some(Revert { at: T0.plus(END), rules: former.rules });
    Object::Rules(RuleSet { revert, ..new })
}

#[test]
fn a_change_that_nobody_confirmed_is_taken_back_with_the_controller_dead() {
    let mut host = silent(two_circuits(unconfirmed()));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [1]);
    host.pass(later(60));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [9]);
}

#[test]
fn a_change_that_nobody_confirmed_is_taken_back_over_the_end_of_the_agent() {
    let mut host = silent(two_circuits(unconfirmed())).restart(later(30));
    host.settle(later(30));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [1]);
    host.pass(later(60));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [9]);
    let mut host = silent(two_circuits(unconfirmed())).restart(later(90));
    host.settle(later(90));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [9]);
}

#[test]
fn a_confirmed_change_stays_and_costs_the_kernel_nothing() {
    let mut host = two_circuits(unconfirmed());
    let Object::Rules(set) = unconfirmed() else { panic!("rules") };
    let confirmed = Object::Rules(RuleSet { revert: None, ..set });
    host.tell(1, changes(1, vec![put(confirmed)]), later(20));
    assert_eq!(host.settle(later(20)), 0);
    host.pass(later(120));
    assert_eq!(rules_of(&seen(&mut host), 2).1, [1]);
}
