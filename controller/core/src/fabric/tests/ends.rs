//! Circuits and rules that end by themselves, and changes that have to be confirmed.
use crate::fabric::world::{World, name, request};
use proto_model::desired::{Object, ObjectKey};
use proto_model::request::{CircuitRef, Request, Response, RuleChange, RuleEdit};
use proto_model::rule::RuleSet;
use proto_model::{Bandwidth, CircuitId, Refusal, Until};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn replace(id: CircuitId, rule: &str, confirm_within: Option<Duration>) -> Request {
    let edit = RuleEdit::Replace { rules: vec![rule.parse().expect("a rule")] };
    let circuit = CircuitRef::Id(id);
    Request::UpdateFirewallRule(RuleChange { circuit, expected_version: None, edit, confirm_within })
}

fn at_b(world: &World, id: CircuitId) -> RuleSet {
    match &world.agents[&name("b")].objects[&ObjectKey::Rules(id)] {
        Object::Rules(set) => set.clone(),
        other => panic!("{other:?}"),
    }
}

fn texts(set: &RuleSet) -> Vec<String> {
    set.rules.iter().map(|rule| rule.spec.to_string()).collect()
}

fn confirm(world: &mut World, id: CircuitId) -> Result<Response, Refusal> {
    world.ask(Request::ConfirmRules { circuit: CircuitRef::Id(id) })
}

fn limited(world: &mut World) -> CircuitId {
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(300);
    wanted.until = Some(Until::After(HOUR));
    world.create(wanted).expect("feasible").circuit.id
}

#[test]
fn a_circuit_is_deleted_at_its_time_and_its_hosts_knew_it() {
    let mut world = World::diamond();
    let id = limited(&mut world);
    let expires = world.view(id).expect("there").circuit.spec.expires.expect("a time");
    for (node, side) in
        [("a", proto_model::desired::Side::Source), ("b", proto_model::desired::Side::Destination)]
    {
        let object = &world.agents[&name(node)].objects[&ObjectKey::Endpoint(id, side)];
        assert!(matches!(object, Object::Endpoint(end) if end.expires == Some(expires)), "{object:?}");
    }
    world.pass(HOUR - MINUTE);
    assert_eq!(world.state(id), "active");
    world.pass(2 * MINUTE);
    assert!(world.view(id).is_none());
    assert!(world.agents.values().all(|agent| agent.is_bare()), "nothing is reserved or wanted");
    world.check();
}

#[test]
fn a_circuit_that_ended_while_the_controller_was_away_is_deleted_when_it_is_back() {
    let mut world = World::diamond();
    let id = limited(&mut world);
    world.now = world.now.plus(HOUR + MINUTE);
    world.restart();
    world.pass(MINUTE);
    assert!(world.view(id).is_none());
    world.check();
}

#[test]
fn an_end_can_be_moved_and_taken_away_but_not_into_the_past() {
    let mut world = World::diamond();
    let id = limited(&mut world);
    let circuit = CircuitRef::Id(id);
    let extend = |until| Request::ExtendCircuit { circuit: circuit.clone(), until };
    world.ask(extend(Some(Until::After(2 * HOUR)))).expect("moved");
    world.pass(HOUR + MINUTE);
    assert_eq!(world.state(id), "active");
    let past = world.ask(extend(Some(Until::At(proto_model::Timestamp(1))))).expect_err("past");
    assert!(past.what.contains("in the past") && past.field == "expires", "{past}");
    world.ask(extend(None)).expect("taken away");
    world.pass(24 * HOUR);
    assert_eq!(world.state(id), "active");
}

#[test]
fn a_rule_is_taken_out_at_its_time_also_after_a_restart() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let edit = RuleEdit::Add { rules: vec!["allow tcp/22 for 30m".parse().expect("a rule")], before: None };
    let circuit = CircuitRef::Id(id);
    let change = RuleChange { circuit, expected_version: None, edit, confirm_within: None };
    world.ask(Request::UpdateFirewallRule(change)).expect("kept");
    let told = at_b(&world, id);
    assert_eq!((told.version, told.rules.len()), (2, 2));
    assert!(matches!(told.rules[1].spec.until, Some(Until::At(_))), "hosts are told a time");
    world.restart();
    world.pass(31 * MINUTE);
    let told = at_b(&world, id);
    assert_eq!((told.version, texts(&told)), (3, vec!["allow tcp/5432".to_owned()]));
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back_by_hosts_and_controller_alike() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.ask(replace(id, "allow tcp/22", Some(MINUTE))).expect("in force at once");
    let told = at_b(&world, id);
    assert_eq!(texts(&told), ["allow tcp/22"]);
    let revert = told.revert.expect("hosts hold what comes back");
    assert_eq!(revert.rules[0].spec.to_string(), "allow tcp/5432");
    assert_eq!(world.view(id).expect("there").circuit.confirm_by, Some(revert.at));
    world.restart();
    world.pass(2 * MINUTE);
    let told = at_b(&world, id);
    assert_eq!((texts(&told), told.revert), (vec!["allow tcp/5432".to_owned()], None));
    let late = confirm(&mut world, id).expect_err("too late");
    assert!(late.what.contains("too late") && late.what.contains(&revert.at.to_string()), "{late}");
}

#[test]
fn a_confirmed_change_stays_and_is_not_counted_as_another() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.ask(replace(id, "allow tcp/22", Some(MINUTE))).expect("in force at once");
    let version = at_b(&world, id).version;
    confirm(&mut world, id).expect("in time");
    world.pass(2 * MINUTE);
    let told = at_b(&world, id);
    assert_eq!((told.version, texts(&told), told.revert), (version, vec!["allow tcp/22".to_owned()], None));
    let none = confirm(&mut world, id).expect_err("twice");
    assert!(none.what.contains("no change"), "{none}");
}

#[test]
fn while_a_change_waits_another_one_is_refused_with_the_time_that_is_left() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.ask(replace(id, "allow tcp/22", Some(MINUTE))).expect("in force at once");
    let refused = world.ask(replace(id, "allow tcp/23", None)).expect_err("one waits");
    assert!(refused.what.contains("(60 s)") && refused.hint.contains("rollback"), "{refused}");
    world.ask(Request::RollbackRules { circuit: CircuitRef::Id(id) }).expect("taken back");
    assert_eq!(texts(&at_b(&world, id)), ["allow tcp/5432"]);
    world.ask(replace(id, "allow tcp/23", None)).expect("nothing waits any more");
    world.pass(2 * MINUTE);
    assert_eq!(texts(&at_b(&world, id)), ["allow tcp/23"], "the time of the one taken back means nothing");
}
