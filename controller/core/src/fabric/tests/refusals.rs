//! What is refused, and what the answer says.
use crate::fabric::world::{World, link, name, request};
use crate::fabric::{Fabric, Settings};
use crate::record::RecordKey;
use proto_model::access::Role;
use proto_model::request::{CircuitRef, CircuitRequest, Request, Response, RuleChange, RuleEdit};
use proto_model::resource::Status;
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Bandwidth, Horizon, Kind, Latency, Loss, Refusal, Risk, Timestamp, Until};
use std::time::Duration;

fn refused(world: &mut World, circuit: CircuitRequest) -> Refusal {
    let store = world.store.clone();
    let planned = world.ask(Request::PlanCircuit { circuit: circuit.clone() });
    let refusal = world.create(circuit).expect_err("must be refused");
    if let Ok(Response::Plan(plan)) = planned {
        assert_eq!(plan.refused.as_ref(), Some(&refusal.what), "plan and create agree");
    }
    assert_eq!(world.store, store, "a refusal leaves nothing behind");
    world.check();
    refusal
}

#[test]
fn a_refused_bandwidth_says_how_much_there_is() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(5000);
    let refusal = refused(&mut world, wanted);
    assert_eq!(refusal.kind, Kind::Exhausted);
    assert!(refusal.hint.contains("up to 1 Gbit/s now"), "{refusal}");
}

#[test]
fn the_nearest_path_is_the_one_that_comes_closest_and_hints_name_theirs() {
    let mut world = World::diamond();
    // The way over t1 is cheaper, the one over t2 wider.
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(1_100);
    let refusal = refused(&mut world, wanted);
    assert!(refusal.what.contains("the nearest is a → t2 → b: "), "{refusal}");
    assert!(refusal.hint.contains("up to 1 Gbit/s now by a → t2 → b; "), "{refusal}");
    // A path that breaks a condition is further away than any that breaks quantities alone.
    for (one, other) in [("a", "t1"), ("a", "t2")] {
        let values = LinkValues { loss: Loss::from_ppm(2_000), ..LinkValues::default() };
        world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
    }
    let mut wanted = request("web", "db");
    wanted.bounds.max_loss = Some(Loss::from_ppm(100));
    wanted.bounds.via = [name("t2")].into();
    let refusal = refused(&mut world, wanted);
    assert!(refusal.what.contains("the nearest is a → t2 → b: 0.2 % loss"), "{refusal}");
    assert!(refusal.hint.contains("feasible: a → t2 → b if a loss of 0.2 % is allowed"), "{refusal}");
}

#[test]
fn several_links_of_an_interface_are_not_promised_more_than_it_sends() {
    let mut world = World::new(Settings::default());
    for (host, node) in [(1, "a"), (2, "b"), (3, "c")] {
        world.attach(node, host, 100, node == "a");
        world.enrol(node);
        world.connect(node);
        world.register(&format!("at-{node}"), node);
        world.register(&format!("more-{node}"), node);
    }
    // Each link alone holds as much.
    let mut first = request("at-a", "at-b");
    first.bounds.bandwidth = Bandwidth::mbit(60);
    first.until = Some(Until::After(Duration::from_secs(3600)));
    let end = world.create(first).expect("it fits").circuit.spec.expires.expect("a time").to_string();
    let (_, time) = end.split_once(' ').expect("a date and a time");
    let mut second = request("more-a", "at-c");
    second.bounds.bandwidth = Bandwidth::mbit(60);
    let refusal = refused(&mut world, second.clone());
    let what = "eth0 of a has 35 Mbit/s free of 95 Mbit/s (95 % of 100 Mbit/s)";
    assert!(refusal.what.contains(&format!("{what}, 60 Mbit/s is asked")), "{refusal}");
    assert!(refusal.hint.contains(&format!("up to 35 Mbit/s now by a → c; {what}")), "{refusal}");
    assert!(refusal.hint.ends_with(&format!("60 Mbit/s from {time}, when c1 ends")), "{refusal}");
    second.bounds.bandwidth = Bandwidth::mbit(35);
    world.create(second).expect("as was said");
    // b and c have some left, and what they shape nobody said: all of it.
    let mut third = request("more-b", "more-c");
    third.bounds.bandwidth = Bandwidth::mbit(41);
    let refusal = refused(&mut world, third.clone());
    assert!(refusal.what.contains("eth0 of b has 40 Mbit/s of 100 Mbit/s free"), "{refusal}");
    third.bounds.bandwidth = Bandwidth::mbit(40);
    world.create(third).expect("as was said");
    world.check();
}

#[test]
fn a_host_that_passes_a_circuit_on_by_the_same_interface_has_to_have_twice_as_much() {
    let mut world = World::new(Settings::default());
    for (host, node) in [(1, "a"), (2, "t"), (3, "b")] {
        world.attach(node, host, 100, false);
        world.enrol(node);
        world.connect(node);
    }
    world.register("web", "a");
    world.register("db", "b");
    let link = LinkId::new(name("a"), name("b"), name("lan")).expect("two ends");
    let values = LinkValues { disabled: true, ..LinkValues::default() };
    world.ask(Request::SetLink { link, values }).expect("known");
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(51);
    let refusal = refused(&mut world, wanted.clone());
    assert!(refusal.what.contains("eth0 of t has 100 Mbit/s of 100 Mbit/s free"), "{refusal}");
    assert!(refusal.what.contains("asked 2 times") && refusal.hint.contains("up to 50 Mbit/s"), "{refusal}");
    wanted.bounds.bandwidth = Bandwidth::mbit(50);
    world.create(wanted).expect("as was said");
    world.check();
}

fn lasting(world: &mut World, mbit: u64) -> Timestamp {
    let mut first = request("web", "db");
    first.bounds.bandwidth = Bandwidth::mbit(mbit);
    first.until = Some(Until::After(Duration::from_secs(3600)));
    let view = world.create(first).expect("it fits");
    view.circuit.spec.expires.expect("a time")
}

fn another(world: &mut World, mbit: u64) -> CircuitRequest {
    world.register("web2", "a");
    let mut wanted = request("web2", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(mbit);
    wanted
}

#[test]
fn a_refused_bandwidth_says_from_when_on_there_is_enough() {
    // Of a link of 1 Gbit/s, 900 are taken by a path; or 300 are kept for the backup of a path over another link.
    for (taken, wanted, now) in [(900, 500, "up to 400 Mbit/s now"), (300, 800, "up to 700 Mbit/s now")] {
        let mut world = World::diamond();
        let end = lasting(&mut world, taken);
        let wanted = another(&mut world, wanted);
        let refusal = refused(&mut world, wanted.clone());
        let time = end.to_string();
        let (_, time) = time.split_once(' ').expect("a date and a time");
        let when = format!("{} from {time}, when c1 ends", wanted.bounds.bandwidth);
        assert!(refusal.hint.contains(now) && refusal.hint.ends_with(&when), "{refusal}, not {when}");
        let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: wanted.clone() }) else {
            panic!("a plan")
        };
        assert!(plan.feasible.is_some_and(|feasible| feasible.sentences.contains(&when)));
        world.pass(end.since(world.now) + Duration::from_secs(60));
        world.create(wanted).expect("what was foretold");
    }
}

#[test]
fn an_end_that_frees_too_little_or_comes_too_late_is_not_told() {
    let mut world = World::diamond();
    lasting(&mut world, 900);
    let wanted = another(&mut world, 1_500);
    assert!(!refused(&mut world, wanted).hint.contains("ends"), "no link has so much");
    let mut wanted = request("web2", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(500);
    wanted.until = Some(Until::After(Duration::from_secs(1800)));
    assert!(!refused(&mut world, wanted).hint.contains("ends"), "it would have ended itself");
}

#[test]
fn an_end_of_another_day_is_told_with_its_date() {
    let mut world = World::diamond();
    let mut first = request("web", "db");
    first.bounds.bandwidth = Bandwidth::mbit(900);
    first.until = Some(Until::After(Duration::from_secs(3 * 86_400)));
    let end = world.create(first).expect("it fits").circuit.spec.expires.expect("a time");
    let wanted = another(&mut world, 500);
    let refusal = refused(&mut world, wanted);
    assert!(refusal.hint.contains(&format!("500 Mbit/s from {end}, when c1 ends")), "{refusal}");
}

#[test]
fn a_refusal_offers_each_bound_against_the_other() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(500);
    wanted.bounds.max_rtt = Some(Latency::from_millis(5));
    let refusal = refused(&mut world, wanted.clone());
    assert!(refusal.hint.contains("up to 400 Mbit/s now"), "{refusal}");
    assert!(refusal.hint.contains("500 Mbit/s by a → t2 → b if latency ≤ 20 ms is allowed"), "{refusal}");
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: wanted }) else {
        panic!("a plan")
    };
    let feasible = plan.feasible.expect("refused");
    assert_eq!(feasible.bandwidth, Some(Bandwidth::mbit(400)));
    assert_eq!(feasible.rtt, Some(Latency::from_millis(20)));
}

#[test]
fn a_path_of_which_little_is_known_does_not_hide_what_another_one_offers() {
    let mut world = World::diamond();
    for (one, other) in [("a", "t2"), ("t2", "b")] {
        world.ask(Request::SetLink { link: link(one, other), values: LinkValues::default() }).expect("known");
    }
    let values = LinkValues {
        capacity: Some(Bandwidth::mbit(1)),
        rtt: Some(Latency::from_millis(1)),
        ..LinkValues::default()
    };
    world.ask(Request::SetLink { link: link("a", "t1"), values }).expect("known");
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(1_100);
    wanted.bounds.max_rtt = Some(Latency::from_millis(1));
    let refusal = refused(&mut world, wanted);
    let offer = "up to 1 Mbit/s now by a → t1 → b if latency ≤ 2 ms is allowed";
    assert!(refusal.hint.contains(offer), "{refusal}");
}

#[test]
fn what_is_offered_is_accepted() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(400);
    wanted.bounds.max_rtt = Some(Latency::from_millis(5));
    world.create(wanted).expect("the first offer");
    world.register("web2", "a");
    let mut wanted = request("web2", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(500);
    wanted.bounds.max_rtt = Some(Latency::from_millis(20));
    world.create(wanted).expect("the second offer");
    world.check();
}

#[test]
fn wrong_requests_name_the_field() {
    let mut world = World::diamond();
    let with = |change: fn(&mut CircuitRequest)| {
        let mut wanted = request("web", "db");
        change(&mut wanted);
        wanted
    };
    for (wanted, field, kind) in [
        (request("nobody", "db"), "circuit.source", Kind::NotFound),
        (request("web", "nobody"), "circuit.destination", Kind::NotFound),
        (request("web", "web"), "circuit.destination", Kind::Invalid),
        (with(|w| w.bounds.max_hops = Some(0)), "circuit.bounds.max_hops", Kind::Invalid),
        (with(|w| w.bounds.max_hops = Some(17)), "circuit.bounds.max_hops", Kind::Invalid),
        (with(|w| w.bounds.max_rtt = Some(Latency::ZERO)), "circuit.bounds.max_rtt", Kind::Invalid),
        (with(|w| w.bounds.risk = Risk::try_from(10_000).ok()), "circuit.bounds.risk", Kind::Invalid),
        (with(|w| w.bounds.horizon = Horizon::try_from(300).ok()), "circuit.bounds.horizon", Kind::Invalid),
        (with(|w| w.bounds.via = [name("mars")].into()), "circuit.bounds.via", Kind::NotFound),
        (with(|w| w.bounds.avoid = [name("a")].into()), "circuit.bounds.avoid", Kind::Invalid),
        (
            with(|w| {
                w.bounds.via = [name("t1")].into();
                w.bounds.avoid = [name("t1")].into();
            }),
            "circuit.bounds.via",
            Kind::Invalid,
        ),
        (with(|w| w.pinned_path = Some(vec![])), "circuit.path", Kind::Invalid),
        (
            with(|w| w.pinned_path = Some(vec![name("a"), name("mars"), name("b")])),
            "circuit.path",
            Kind::NotFound,
        ),
        (
            with(|w| w.pinned_path = Some(vec![name("b"), name("t1"), name("a")])),
            "circuit.path",
            Kind::Invalid,
        ),
        (
            with(|w| w.pinned_path = Some(vec![name("a"), name("t1"), name("a"), name("t1"), name("b")])),
            "circuit.path",
            Kind::Invalid,
        ),
        (with(|w| w.rules = vec!["deny any".parse().expect("rule"); 2]), "circuit.rules", Kind::Invalid),
    ] {
        let refusal = refused(&mut world, wanted.clone());
        assert_eq!((refusal.field.as_str(), refusal.kind), (field, kind), "{refusal} for {wanted:?}");
    }
}

#[test]
fn a_pinned_path_over_hosts_that_are_no_neighbours_is_refused_by_name() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.pinned_path = Some(vec![name("a"), name("b")]);
    let refusal = refused(&mut world, wanted);
    assert!(refusal.what.contains("a and b share no network"), "{refusal}");
}

#[test]
fn a_path_through_a_dead_host_is_refused() {
    let mut world = World::diamond();
    world.disconnect("t1");
    let mut wanted = request("web", "db");
    wanted.pinned_path = Some(vec![name("a"), name("t1"), name("b")]);
    let refusal = refused(&mut world, wanted);
    assert!(refusal.what.contains("t1 is not connected"), "{refusal}");
    world.disconnect("t2");
    let refusal = refused(&mut world, request("web", "db"));
    assert!(refusal.what.contains("not connected"), "{refusal}");
}

#[test]
fn a_taken_name_or_pair_names_the_circuit() {
    let mut world = World::diamond();
    world.register("db2", "b");
    world.create(request("web", "db")).expect("feasible");
    let mut same_name = request("web", "db2");
    same_name.name = Some(name("web-db"));
    let mut same_pair = request("db", "web");
    same_pair.name = Some(name("other"));
    for wanted in [same_name, same_pair] {
        let refusal = refused(&mut world, wanted);
        assert_eq!(refusal.kind, Kind::AlreadyExists);
        assert!(refusal.what.contains("c1"), "{refusal}");
    }
}

#[test]
fn a_resource_that_is_down_or_draining_takes_no_circuit() {
    let mut world = World::diamond();
    for status in [Status::Down, Status::Draining] {
        world.ask(Request::UpdateResourceStatus { id: name("db"), status }).expect("known");
        let refusal = refused(&mut world, request("web", "db"));
        assert_eq!((refusal.field.as_str(), refusal.kind), ("circuit.destination", Kind::Precondition));
    }
}

#[test]
fn each_kind_of_bound_that_breaks_is_told_with_its_numbers() {
    let mut world = World::diamond();
    let with = |change: fn(&mut CircuitRequest)| {
        let mut wanted = request("web", "db");
        change(&mut wanted);
        wanted
    };
    let values = LinkValues {
        rtt: Some(Latency::from_millis(1)),
        price: "0.05".parse().expect("price"),
        ..LinkValues::default()
    };
    world.ask(Request::SetLink { link: link("a", "t1"), values: values.clone() }).expect("known");
    world.ask(Request::SetLink { link: link("a", "t2"), values }).expect("known");
    for (wanted, says) in [
        (with(|w| w.bounds.max_hops = Some(1)), "if 2 hops are allowed"),
        (with(|w| w.bounds.encrypted_links = true), "without encryption"),
        (with(|w| w.bounds.max_price = Some("0.01".parse().expect("price"))), "a price of 0.05 $/GB"),
        (with(|w| w.bounds.max_rtt = Some(Latency::from_millis(1))), "latency ≤ 2 ms"),
        (with(|w| w.bounds.require_tags = [name("eu")].into()), "lacks the tag eu"),
        (with(|w| w.bounds.avoid = [name("t1"), name("t2")].into()), "is to be avoided"),
    ] {
        let refusal = refused(&mut world, wanted).to_string();
        assert!(refusal.contains(says), "{refusal}");
    }
}

#[test]
fn a_role_that_is_too_small_is_named() {
    let mut world = World::diamond();
    let ask = Request::CreateCircuit { circuit: request("web", "db"), idempotency_key: None };
    assert_eq!(world.ask_as(Role::Viewer, ask.clone()).expect_err("viewer").kind, Kind::Forbidden);
    assert!(world.ask_as(Role::Operator, ask).is_ok());
    let remove = Request::RemoveNode { node: name("t2") };
    assert_eq!(world.ask_as(Role::Operator, remove).expect_err("operator").kind, Kind::Forbidden);
}

#[test]
fn unknown_circuits_are_not_found() {
    let mut world = World::diamond();
    let circuit = CircuitRef::Name(name("nothing"));
    for ask in [
        Request::GetCircuit { circuit: circuit.clone() },
        Request::DeleteCircuit { circuit: circuit.clone() },
        Request::ExplainCircuit { circuit },
    ] {
        assert_eq!(world.ask(ask).expect_err("unknown").kind, Kind::NotFound);
    }
}

#[test]
fn at_the_bound_of_circuits_the_next_is_refused() {
    let mut world = World::diamond();
    world.fabric.settings.limits.circuits = 1;
    world.register("db2", "b");
    world.create(request("web", "db")).expect("feasible");
    let refusal = world.create(request("web", "db2")).expect_err("at the bound");
    assert_eq!(refusal.kind, Kind::Exhausted);
    assert!(refusal.hint.contains("limits.circuits"), "{refusal}");
}

#[test]
fn at_the_bound_of_keys_the_oldest_is_forgotten() {
    let mut world = World::diamond();
    world.fabric.settings.limits.idempotency_keys = 2;
    let create = |to: &str, key: &str| Request::CreateCircuit {
        circuit: request("web", to),
        idempotency_key: Some(key.to_owned()),
    };
    for (at, id) in ["x", "y", "z"].into_iter().enumerate() {
        world.register(id, "b");
        world.now = world.now.plus(Duration::from_secs(1));
        world.ask(create(id, &format!("k{at}"))).expect("feasible");
    }
    assert!(world.ask(create("z", "k2")).is_ok(), "remembered");
    assert_eq!(world.ask(create("x", "k0")).expect_err("forgotten").kind, Kind::AlreadyExists);
    let kept = world.store.keys().filter(|key| matches!(key, RecordKey::Idempotency(_))).count();
    assert_eq!(kept, 2);
}

#[test]
fn rule_edits_that_are_refused_name_the_field_and_change_nothing() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let store = world.store.clone();
    let rules = |text: &str| vec![text.parse().expect("a rule")];
    for (edit, field) in [
        (RuleEdit::Add { rules: rules("deny tcp/5432"), before: None }, "add.rules"),
        (RuleEdit::Add { rules: rules("allow udp"), before: Some(9) }, "add.before"),
        (RuleEdit::Remove { ids: vec![9] }, "remove.ids"),
        (RuleEdit::Replace { rules: [rules("allow any"), rules("allow udp")].concat() }, "replace.rules"),
    ] {
        let change =
            RuleChange { circuit: CircuitRef::Id(id), expected_version: None, edit, confirm_within: None };
        assert_eq!(world.ask(Request::UpdateFirewallRule(change)).expect_err(field).field, field);
    }
    assert_eq!(world.store, store);
}

#[test]
fn links_beyond_the_bound_are_not_used_and_the_host_says_how_many() {
    let mut settings = Settings::default();
    settings.limits.links = 3;
    let mut world = World::new(settings);
    for (one, other) in [("a", "b"), ("b", "c"), ("c", "a")] {
        world.wire(one, other, 1, 100);
    }
    // One more than there is room for: a second network between a and b.
    let mut again = world.underlays[&name("a")][0].clone();
    again.network = name("other");
    for node in ["a", "b"] {
        world.underlays.get_mut(&name(node)).expect("wired").push(again.clone());
    }
    for node in ["a", "b", "c"] {
        world.enrol(node);
        world.connect(node);
    }
    let views: Vec<_> =
        ["a", "b", "c"].iter().filter_map(|node| world.fabric.node_view(&name(node))).collect();
    let says = views.iter().flat_map(|view| &view.datapath).filter(|line| line.contains("bound of 3 links"));
    assert_eq!(says.count(), 1, "{views:?}");
}

#[test]
fn a_setting_that_cannot_work_is_refused_at_the_start() {
    let mut settings = Settings::default();
    settings.weights.rtt = -1.0;
    assert!(Fabric::restore(settings, [], Timestamp(0)).is_err());
}
