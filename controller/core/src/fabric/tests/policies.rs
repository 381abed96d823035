//! What the owner of a host puts before the rules of its circuits.
use super::super::world::{World, name, request};
use proto_model::access::Role;
use proto_model::desired::{Object, ObjectKey};
use proto_model::policy::Policy;
use proto_model::request::{CircuitRef, PolicyChange, PolicyView, Request, Response, RuleChange, RuleEdit};
use proto_model::rule::RuleSpec;
use proto_model::{Kind, NodeName, Refusal};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn specs(texts: &[&str]) -> Vec<RuleSpec> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn change(node: &str, texts: &[&str]) -> PolicyChange {
    PolicyChange { node: name(node), expected_version: None, rules: specs(texts), confirm_within: None }
}

fn unconfirmed(node: &str, texts: &[&str]) -> PolicyChange {
    PolicyChange { confirm_within: Some(MINUTE), ..change(node, texts) }
}

fn set(world: &mut World, change: PolicyChange) -> Result<PolicyView, Refusal> {
    view(world.ask(Request::SetPolicy(change)))
}

fn view(answer: Result<Response, Refusal>) -> Result<PolicyView, Refusal> {
    match answer? {
        Response::Policy(view) => Ok(view),
        other => panic!("not a policy: {other:?}"),
    }
}

fn show(world: &mut World, node: &str) -> PolicyView {
    view(world.ask(Request::GetPolicy { node: name(node) })).expect("a node")
}

/// What the agent of a node has been told.
fn told(world: &World, node: &str) -> Option<Policy> {
    match world.agents[&name::<NodeName>(node)].objects.get(&ObjectKey::Policy)? {
        Object::Policy(policy) => Some(policy.clone()),
        other => panic!("{other:?}"),
    }
}

fn texts(view: &PolicyView) -> Vec<String> {
    view.rules.iter().map(|rule| rule.spec.to_string()).collect()
}

#[test]
fn a_policy_is_told_to_its_host_alone_and_goes_when_it_is_cleared() {
    let mut world = World::diamond();
    assert_eq!((show(&mut world, "b").version, told(&world, "b")), (0, None));
    let first = set(&mut world, change("b", &["deny tcp/22", "deny udp/53"])).expect("fine");
    assert!(first.pending, "the host has not been told when it is answered");
    assert_eq!(show(&mut world, "b").version, 1);
    assert!(!show(&mut world, "b").pending);
    assert_eq!(told(&world, "b").map(|policy| policy.rules.len()), Some(2));
    assert_eq!(told(&world, "a"), None);
    // A rule that stays keeps its number; a new one gets a new number.
    let second = set(&mut world, change("b", &["deny tcp/23", "deny udp/53"])).expect("fine");
    assert_eq!(second.rules.iter().map(|rule| rule.id).collect::<Vec<_>>(), [3, 2]);
    let cleared = set(&mut world, change("b", &[])).expect("fine");
    assert_eq!((cleared.version, cleared.rules.len()), (3, 0));
    assert_eq!(told(&world, "b"), None);
    world.check();
}

#[test]
fn a_host_that_is_away_is_pending_until_it_reports() {
    let mut world = World::diamond();
    world.disconnect("b");
    set(&mut world, change("b", &["deny tcp/22"])).expect("kept");
    assert!(show(&mut world, "b").pending);
    world.connect("b");
    assert!(!show(&mut world, "b").pending);
    assert_eq!(told(&world, "b").map(|policy| policy.version), Some(1));
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back() {
    let mut world = World::diamond();
    set(&mut world, change("b", &["deny udp/53"])).expect("fine");
    let wait = set(&mut world, unconfirmed("b", &["deny any both"])).expect("fine");
    assert_eq!(wait.confirm_by, Some(world.now.plus(MINUTE)));
    let revert = told(&world, "b").and_then(|policy| policy.revert).expect("the host knows what comes back");
    assert_eq!(revert.rules[0].spec.to_string(), "deny udp/53");
    world.pass(MINUTE);
    let now = show(&mut world, "b");
    assert_eq!((texts(&now), now.confirm_by, now.version), (vec!["deny udp/53".to_owned()], None, 3));
    assert_eq!(told(&world, "b").and_then(|policy| policy.revert), None);
    let late = world.ask(Request::ConfirmPolicy { node: name("b") }).expect_err("too late");
    assert!(late.what.contains("taken back at") && late.kind == Kind::Precondition, "{late}");
}

#[test]
fn a_confirmed_change_stays_and_one_that_is_rolled_back_goes_at_once() {
    let mut world = World::diamond();
    set(&mut world, unconfirmed("b", &["deny tcp/22"])).expect("fine");
    let kept = view(world.ask(Request::ConfirmPolicy { node: name("b") })).expect("in time");
    assert_eq!((kept.version, kept.confirm_by), (1, None));
    world.pass(MINUTE * 2);
    assert_eq!(texts(&show(&mut world, "b")), ["deny tcp/22"]);
    set(&mut world, unconfirmed("b", &["deny any both"])).expect("fine");
    let back = view(world.ask(Request::RollbackPolicy { node: name("b") })).expect("in time");
    assert_eq!((texts(&back), back.version), (vec!["deny tcp/22".to_owned()], 3));
    for again in [Request::ConfirmPolicy { node: name("b") }, Request::RollbackPolicy { node: name("b") }] {
        let refusal = world.ask(again).expect_err("nothing waits");
        assert!(refusal.what.contains("no change of the policy of b waits"), "{refusal}");
    }
}

#[test]
fn a_second_change_waits_for_the_first_and_says_what_would_help() {
    let mut world = World::diamond();
    set(&mut world, unconfirmed("b", &["deny tcp/22"])).expect("fine");
    let refusal = set(&mut world, change("b", &["deny tcp/23"])).expect_err("one at a time");
    assert!(refusal.what.contains("(60 s)"), "{refusal}");
    assert!(refusal.hint.contains("foreweave node policy confirm b"), "{refusal}");
    let stale = PolicyChange { expected_version: Some(7), ..change("a", &["deny tcp/23"]) };
    let refusal = set(&mut world, stale).expect_err("stale");
    assert!(refusal.what.contains("version 0, not 7") && refusal.field == "expected_version", "{refusal}");
    let refusal = set(&mut world, change("nobody", &[])).expect_err("no such host");
    assert_eq!(refusal.kind, Kind::NotFound);
}

#[test]
fn a_policy_and_what_waits_for_it_outlive_the_controller() {
    let mut world = World::diamond();
    set(&mut world, change("b", &["deny udp/53"])).expect("fine");
    set(&mut world, unconfirmed("b", &["deny any both"])).expect("fine");
    world.restart();
    assert_eq!(texts(&show(&mut world, "b")), ["deny any both"]);
    assert_eq!(told(&world, "b").map(|policy| policy.version), Some(2));
    world.pass(MINUTE);
    assert_eq!(texts(&show(&mut world, "b")), ["deny udp/53"]);
    world.restart();
    let late = world.ask(Request::ConfirmPolicy { node: name("b") }).expect_err("too late");
    assert!(late.what.contains("taken back at"), "{late}");
    world.check();
}

#[test]
fn a_rule_of_a_policy_ends_at_its_time() {
    let mut world = World::diamond();
    set(&mut world, change("b", &["deny tcp/22 for 30s", "deny udp/53"])).expect("fine");
    world.pass(MINUTE);
    assert_eq!(texts(&show(&mut world, "b")), ["deny udp/53"]);
    assert_eq!(told(&world, "b").map(|policy| policy.rules.len()), Some(1));
}

#[test]
fn only_an_admin_changes_a_policy_and_everybody_sees_it() {
    let mut world = World::diamond();
    for wish in [
        Request::SetPolicy(change("b", &["deny tcp/22"])),
        Request::ConfirmPolicy { node: name("b") },
        Request::RollbackPolicy { node: name("b") },
    ] {
        let refusal = world.ask_as(Role::Operator, wish).expect_err("operators make circuits");
        assert_eq!(refusal.kind, Kind::Forbidden);
    }
    assert!(world.ask_as(Role::Viewer, Request::GetPolicy { node: name("b") }).is_ok());
}

fn many(word: &str, rules: usize, from: usize) -> Vec<RuleSpec> {
    (0..rules).map(|i| format!("{word} tcp/{}", from + 2 * i).parse().expect("a rule")).collect()
}

#[test]
fn more_rules_than_a_host_can_try_are_refused_from_both_sides_with_the_numbers() {
    let mut world = World::diamond();
    let mut wish = request("web", "db");
    wish.rules = many("allow", 200, 1_000);
    let id = world.create(wish).expect("a circuit").circuit.id;
    let policy = PolicyChange { rules: many("deny", 57, 5_000), ..change("b", &[]) };
    let refusal = set(&mut world, policy).expect_err("257");
    for part in ["b would have 257 rules", "web-db", "57 of its policy", "200 of the circuit's own", "256"] {
        assert!(refusal.what.contains(part), "{refusal}");
    }
    let policy = PolicyChange { rules: many("deny", 56, 5_000), ..unconfirmed("b", &[]) };
    set(&mut world, policy).expect("256");
    // Also while the policy is not confirmed, and whatever comes back.
    let edit = RuleEdit::Add { rules: specs(&["allow udp/53"]), before: None };
    let circuit = CircuitRef::Id(id);
    let more = RuleChange { circuit, expected_version: None, edit, confirm_within: None };
    let refusal = world.ask(Request::UpdateFirewallRule(more.clone())).expect_err("257");
    assert!(refusal.what.contains("b would have 257 rules") && refusal.field == "add.rules", "{refusal}");
    world.ask(Request::RollbackPolicy { node: name("b") }).expect("in time");
    world.ask(Request::UpdateFirewallRule(more)).expect("room again");
    let policy = PolicyChange { rules: many("deny", 200, 5_000), ..change("a", &[]) };
    assert!(set(&mut world, policy).is_err(), "the other end has the same rules");
    // A new circuit is asked in the same way.
    world.register("log", "t1");
    world.register("cache", "t2");
    let policy = PolicyChange { rules: many("deny", 200, 5_000), ..change("t1", &[]) };
    set(&mut world, policy).expect("nothing ends there yet");
    let mut wish = request("cache", "log");
    wish.rules = many("allow", 57, 1_000);
    let refusal = world.create(wish).expect_err("257");
    assert!(refusal.what.contains("t1 would have 257 rules"), "{refusal}");
}

#[test]
fn what_a_policy_lets_pass_counts_as_often_as_it_does() {
    let mut world = World::diamond();
    let mut wish = request("web", "db");
    wish.rules = many("allow", 100, 1_000);
    world.create(wish).expect("a circuit");
    // 100 that pass, their default deny, the deny, and 100 of its own.
    set(&mut world, change("b", &["allow tcp both", "deny any both"])).expect("202");
    let refusal = set(&mut world, change("b", &["allow tcp/1-3000 both", "allow tcp both", "deny any both"]));
    assert!(refusal.expect_err("303").what.contains("303 rules"));
}

#[test]
fn a_node_that_is_removed_takes_its_policy_with_it() {
    let mut world = World::diamond();
    set(&mut world, unconfirmed("t1", &["deny tcp/22"])).expect("fine");
    world.ask(Request::RemoveNode { node: name("t1") }).expect("nothing is on it");
    world.pass(MINUTE * 2);
    assert!(world.ask(Request::GetPolicy { node: name("t1") }).is_err());
    world.enrol("t1");
    assert_eq!(show(&mut world, "t1").version, 0);
}
