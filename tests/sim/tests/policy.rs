//! A host's policy before the rules of its circuits: as told, and by the host's own clock with every controller silent.
use agent_core::io::Input;
use agent_core::kernel_state::{Entry, EntryKey, Kernel};
use proto_model::desired::{Change, Gate, Object, ObjectKey};
use proto_model::policy::{Policy, marked};
use proto_model::rule::{Revert, Rule};
use proto_model::{Timestamp, Until};
use std::time::Duration;
use tests_sim::host::Host;
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;

const T0: Timestamp = Timestamp(1_000_000_000);

fn later(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn numbered(texts: &[&str]) -> Vec<Rule> {
    let rule = |(i, text): (usize, &&str)| Rule { id: i as u32 + 1, spec: text.parse().expect(text) };
    texts.iter().enumerate().map(rule).collect()
}

fn policy(version: u32, texts: &[&str]) -> Object {
    Object::Policy(Policy { version, rules: numbered(texts), revert: None })
}

/// Nothing but SSH is denied; before, and again from second 60 on, DNS was.
fn unconfirmed() -> Object {
    let rules = numbered(&["deny tcp/22"]);
    let former = vec![Rule { id: 9, spec: "deny udp/53".parse().expect("a rule") }];
    Object::Policy(Policy { version: 2, rules, revert: Some(Revert { at: later(60), rules: former }) })
}

/// Circuit 1 leaves the host, circuit 3 stays on it.
fn circuits() -> Vec<Object> {
    let mut objects = vec![
        Object::Eni(eni(1)),
        Object::Eni(eni(3)),
        Object::Eni(eni(4)),
        rules(1, 5, &["allow tcp/80"]),
        rules(3, 6, &["allow any both"]),
        Object::Endpoint(end(1, 1, 9, 2, Gate::Open)),
    ];
    objects.extend(local(3, 3, 4, Gate::Open));
    objects
}

fn host(policy: Option<Object>) -> Host {
    let mut kernel = PretendedKernel::new();
    [1, 2, 3, 4].into_iter().for_each(|host| kernel.add_namespace(&place(host)));
    let mut host = Host::start(kernel, T0);
    host.connect(1, T0);
    let objects: Vec<Object> = circuits().into_iter().chain(policy).collect();
    host.tell(1, whole(1, &objects), T0);
    host.settle(T0);
    host
}

fn silent(mut host: Host) -> Host {
    host.handle(Input::Disconnected { session: 1 }, T0);
    host
}

/// Version and numbers of the rows of a circuit.
fn rows(host: &mut Host, circuit: u64) -> (u32, Vec<u32>) {
    let state = host.kernel.observe().expect("the pretended kernel can always be read");
    match state.get(&EntryKey::Rules(circuit)) {
        Some(Entry::Rules(rules)) => (rules.version, rules.rows.iter().map(|row| row.id).collect()),
        other => panic!("{other:?}"),
    }
}

fn ids(host: &mut Host, circuit: u64) -> Vec<u32> {
    rows(host, circuit).1
}

#[test]
fn a_policy_stands_before_the_rules_of_every_circuit_and_goes_without_a_trace() {
    let mut host = host(None);
    assert_eq!(rows(&mut host, 1), (5, vec![1]));
    host.tell(1, changes(1, vec![Change::Put(policy(1, &["deny tcp/22"]))]), T0);
    host.settle(T0);
    let (version, of_one) = rows(&mut host, 1);
    assert_eq!(of_one, [marked(1), 1]);
    assert_ne!(version, 5, "connections are judged anew");
    assert_eq!(ids(&mut host, 3), [marked(1), marked(1), 1], "once for each end");
    // Another rule of the circuit, and another policy: each makes another version.
    host.tell(1, changes(2, vec![Change::Put(rules(1, 6, &["allow tcp/81"]))]), T0);
    host.settle(T0);
    let second = rows(&mut host, 1).0;
    host.tell(1, changes(3, vec![Change::Put(policy(2, &["deny tcp/23"]))]), T0);
    host.settle(T0);
    let third = rows(&mut host, 1).0;
    assert!(version != second && second != third && version != third);
    host.tell(1, changes(4, vec![Change::Remove(ObjectKey::Policy)]), T0);
    host.settle(T0);
    assert_eq!(rows(&mut host, 1), (6, vec![1]));
    assert_eq!(rows(&mut host, 3), (6, vec![1]));
    assert!(host.kept.is_empty());
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn a_circuit_that_comes_after_the_policy_is_behind_it_too() {
    let mut host = host(Some(unconfirmed()));
    let new = [
        Change::Put(Object::Eni(eni(2))),
        Change::Put(rules(2, 1, &["allow tcp/443"])),
        Change::Put(Object::Endpoint(end(2, 2, 8, 2, Gate::Open))),
    ];
    host.tell(1, changes(1, new.to_vec()), later(10));
    host.settle(later(10));
    assert_eq!(ids(&mut host, 2), [marked(1), 1]);
    let mut host = silent(host);
    host.pass(later(60));
    assert_eq!(ids(&mut host, 2), [marked(9), 1], "it shares what is taken back");
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn what_is_let_pass_is_up_to_the_circuits_own_rules() {
    let policy = policy(1, &["allow tcp/80 both", "deny any both", "allow tcp"]);
    let mut host = host(Some(policy));
    assert_eq!(ids(&mut host, 1), [1, 0, marked(2), 1]);
}

#[test]
fn a_policy_that_nobody_confirmed_is_taken_back_with_the_controller_dead() {
    let mut host = silent(host(Some(unconfirmed())));
    host.pass(later(59));
    assert_eq!(ids(&mut host, 1), [marked(1), 1]);
    host.pass(later(60));
    assert_eq!(ids(&mut host, 1), [marked(9), 1]);
    assert_eq!(ids(&mut host, 3), [marked(9), marked(9), 1]);
    assert_eq!(host.node().ended_so_far().reverted, 1);
    assert_eq!(host.kernel.sins, Vec::<String>::new());
}

#[test]
fn a_policy_that_nobody_confirmed_is_taken_back_over_the_end_of_the_agent() {
    // Started anew before the time …
    let mut before = silent(host(Some(unconfirmed()))).restart(later(30));
    assert_eq!(before.settle(later(30)), 0, "nothing is touched before its time");
    before.pass(later(60));
    // … and after it.
    let mut after = silent(host(Some(unconfirmed()))).restart(later(90));
    after.settle(later(90));
    for mut host in [before, after] {
        assert_eq!(ids(&mut host, 1), [marked(9), 1]);
        assert_eq!(ids(&mut host, 3), [marked(9), marked(9), 1]);
        // The controller comes back, and has taken it back too: what is there is as it shall be, but for the versions.
        let Object::Policy(told) = unconfirmed() else { panic!("a policy") };
        let rules = told.revert.expect("unconfirmed").rules;
        let taken_back = Object::Policy(Policy { version: 3, rules, revert: None });
        let objects: Vec<Object> = circuits().into_iter().chain([taken_back]).collect();
        host.connect(2, later(100));
        host.tell(2, whole(9, &objects), later(100));
        assert_eq!(host.settle(later(100)), 0, "0 writes if nothing changed");
        assert_eq!(host.kernel.sins, Vec::<String>::new());
    }
}

#[test]
fn a_confirmed_policy_stays_and_costs_the_kernel_nothing() {
    let mut host = host(Some(unconfirmed()));
    let confirmed = Object::Policy(Policy { version: 2, rules: numbered(&["deny tcp/22"]), revert: None });
    host.tell(1, changes(1, vec![Change::Put(confirmed)]), later(20));
    assert_eq!(host.settle(later(20)), 0);
    host.pass(later(120));
    assert_eq!(ids(&mut host, 1), [marked(1), 1]);
    let mut host = silent(host).restart(later(130));
    assert_eq!(host.settle(later(130)), 0);
    assert_eq!(host.pass(later(200)), 0);
    assert_eq!(ids(&mut host, 1), [marked(1), 1]);
}

#[test]
fn a_circuits_rule_that_ends_under_a_dead_controller_stays_behind_the_policy() {
    let Object::Rules(mut set) = rules(1, 5, &["allow tcp/22", "allow tcp/80"]) else { panic!("rules") };
    set.rules[0].spec.until = Some(Until::At(later(40)));
    let mut host = host(Some(policy(1, &["deny udp/53"])));
    host.tell(1, changes(1, vec![Change::Put(Object::Rules(set))]), T0);
    host.settle(T0);
    assert_eq!(ids(&mut host, 1), [marked(1), 1, 2]);
    let mut host = silent(host).restart(later(50));
    host.settle(later(50));
    assert_eq!(ids(&mut host, 1), [marked(1), 2]);
}

#[test]
fn changes_of_a_policy_and_of_a_circuits_rules_are_taken_back_each_by_itself() {
    let Object::Rules(mut set) = rules(1, 6, &["allow tcp/443"]) else { panic!("rules") };
    let former = vec![Rule { id: 7, spec: "allow tcp/80".parse().expect("a rule") }];
    set.revert = Some(Revert { at: later(30), rules: former });
    let mut host = host(Some(unconfirmed()));
    host.tell(1, changes(1, vec![Change::Put(Object::Rules(set))]), T0);
    host.settle(T0);
    let mut host = silent(host).restart(later(10));
    host.settle(later(10));
    assert_eq!(ids(&mut host, 1), [marked(1), 1]);
    host.pass(later(30));
    assert_eq!(ids(&mut host, 1), [marked(1), 7]);
    host.pass(later(60));
    assert_eq!(ids(&mut host, 1), [marked(9), 7]);
}

#[test]
fn what_ends_follows_the_hosts_clock_when_it_is_set() {
    const MINUTE: i64 = 60_000_000_000;
    let mut host = silent(host(Some(unconfirmed())));
    host.handle(Input::ClockSet { ahead: -MINUTE }, later(1));
    host.settle(later(1));
    host.pass(later(119));
    assert_eq!(ids(&mut host, 1), [marked(1), 1], "by the host's clock it is second 59");
    // Somebody sets it right again: what is over then ends at once.
    host.handle(Input::ClockSet { ahead: 0 }, later(119));
    host.settle(later(119));
    assert_eq!(ids(&mut host, 1), [marked(9), 1]);
    // And back once more: what has been taken back does not return.
    host.handle(Input::ClockSet { ahead: -3 * MINUTE }, later(120));
    host.settle(later(120));
    host.pass(later(500));
    assert_eq!(ids(&mut host, 1), [marked(9), 1]);
}
