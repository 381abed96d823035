//! Resources: registration, leases, status, discovery.
use crate::fabric::world::{Agent, World, name, request};
use proto_model::intent::{Bounds, Intent};
use proto_model::plan::Discovery;
use proto_model::request::{Event, Request, Response};
use proto_model::resource::{Attachment, Liveness, Metadata, Service, Status};
use proto_model::rule::Protocol;
use proto_model::{Bandwidth, Kind, Refusal};
use std::time::Duration;

fn register(world: &mut World, id: &str, metadata: Metadata) -> Result<Response, Refusal> {
    world.ask(Request::RegisterResource { id: name(id), metadata, intents: Vec::new(), lease: None })
}

fn offer(world: &mut World, id: &str, node: &str) {
    let mut metadata = World::metadata(node);
    metadata.attachment = Attachment::Named(id.into());
    metadata.services = vec![Service { name: name("sql"), protocol: Protocol::Tcp, port: 5432 }];
    register(world, id, metadata).expect("well-formed");
}

fn discover(world: &mut World, bounds: Bounds) -> Discovery {
    let intents = vec![Intent { service: name("sql"), bounds, priority: 0 }];
    let Ok(Response::Discovered(mut found)) =
        world.ask(Request::DiscoverResources { source: Some(name("web")), intents })
    else {
        panic!("a discovery")
    };
    found.remove(0)
}

fn found(discovery: &Discovery) -> Vec<&str> {
    discovery.found.iter().map(|found| found.resource.id.as_str()).collect()
}

#[test]
fn malformed_resources_are_refused_by_field() {
    let mut world = World::diamond();
    let with = |change: fn(&mut Metadata)| {
        let mut metadata = World::metadata("a");
        change(&mut metadata);
        metadata
    };
    let service = |text: &str, port| Service { name: name(text), protocol: Protocol::Tcp, port };
    let mut twice = World::metadata("a");
    twice.services = vec![service("x", 1), service("x", 2)];
    let mut zero = World::metadata("a");
    zero.services = vec![service("x", 0)];
    for (metadata, field) in [
        (with(|m| m.node = name("mars")), "metadata.node"),
        (with(|m| m.attachment = Attachment::Path("run/netns/x".into())), "metadata.attachment"),
        (with(|m| m.attachment = Attachment::Named("../x".into())), "metadata.attachment"),
        (with(|m| m.attachment = Attachment::Process(0)), "metadata.attachment"),
        (with(|m| m.interface = Some("a-name-too-long-".into())), "metadata.interface"),
        (with(|m| m.interface = Some("a/b".into())), "metadata.interface"),
        (with(|m| m.interface = Some("a b".into())), "metadata.interface"),
        (with(|m| m.interface = Some(String::new())), "metadata.interface"),
        (with(|m| m.interface = Some("fw64400001".into())), "metadata.interface"),
        (with(|m| m.interface = Some("fw1".into())), "metadata.interface"),
        (with(|m| m.addresses = vec![[10, 0, 0, 1].into(); 65]), "metadata.addresses"),
        (twice, "metadata.services[1].name"),
        (zero, "metadata.services[0].port"),
    ] {
        let refusal = register(&mut world, "x", metadata).expect_err(field);
        assert_eq!(refusal.field, field, "{refusal}");
    }
}

#[test]
fn conflicts_within_a_namespace_are_refused_and_overlaps_between_them_are_not() {
    let mut world = World::diamond();
    let at = |namespace: &str, interface: Option<&str>, node: &str| {
        let mut metadata = World::metadata(node);
        metadata.attachment = Attachment::Named(namespace.into());
        metadata.interface = interface.map(str::to_owned);
        metadata.addresses = vec![[192, 168, 1, 10].into()];
        metadata
    };
    register(&mut world, "x", at("ns1", Some("fabric"), "a")).expect("the first");
    register(&mut world, "y", at("ns2", Some("fabric"), "a")).expect("another namespace");
    register(&mut world, "z", at("ns1", Some("fabric"), "b")).expect("another host");
    let address = register(&mut world, "v", at("ns1", None, "a")).expect_err("the same address");
    assert_eq!(address.field, "metadata.addresses");
    assert!(address.what.contains("192.168.1.10") && address.what.contains('x'), "{address}");
    let mut same = at("ns1", Some("fabric"), "a");
    same.addresses.clear();
    same.attachment = Attachment::Path("/var/run/netns/ns1".into());
    assert_eq!(register(&mut world, "w", same).expect_err("the same interface").field, "metadata.interface");
}

#[test]
fn registering_again_keeps_the_address_and_cannot_move_under_a_circuit() {
    let mut world = World::diamond();
    let address =
        |world: &World| world.fabric.resources.get(&name("web")).map(|member| member.resource.address);
    let before = address(&world);
    let mut metadata = World::metadata("a");
    metadata.attachment = Attachment::Named("web".into());
    register(&mut world, "web", metadata.clone()).expect("the same again");
    world.create(request("web", "db")).expect("feasible");
    metadata.services = vec![Service { name: name("http"), protocol: Protocol::Tcp, port: 80 }];
    register(&mut world, "web", metadata.clone()).expect("services may change");
    assert_eq!(address(&world), before);
    metadata.node = name("t1");
    let refusal = register(&mut world, "web", metadata).expect_err("moved");
    assert_eq!((refusal.field.as_str(), refusal.kind), ("metadata.node", Kind::Precondition));
    world.check();
}

#[test]
fn a_resource_that_goes_down_suspends_its_circuits_and_brings_them_back() {
    let mut world = World::diamond();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(100);
    let id = world.create(wanted).expect("feasible").circuit.id;
    world.ask(Request::UpdateResourceStatus { id: name("db"), status: Status::Down }).expect("known");
    assert_eq!(world.state(id), "suspended");
    assert!(world.agents.values().all(Agent::is_bare));
    world.check();
    world.ask(Request::UpdateResourceStatus { id: name("db"), status: Status::Up }).expect("known");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.state(id), "active");
    world.check();
}

#[test]
fn a_draining_resource_keeps_its_circuits() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.ask(Request::UpdateResourceStatus { id: name("db"), status: Status::Draining }).expect("known");
    assert_eq!(world.state(id), "active");
}

#[test]
fn a_lease_that_runs_out_suspends_and_a_renewal_restores() {
    let mut world = World::diamond();
    let mut metadata = World::metadata("b");
    metadata.attachment = Attachment::Named("cache".into());
    let lease = Some(Duration::from_secs(10));
    world
        .ask(Request::RegisterResource { id: name("cache"), metadata, intents: Vec::new(), lease })
        .expect("well-formed");
    let id = world.create(request("web", "cache")).expect("feasible").circuit.id;
    world.pass(Duration::from_secs(9));
    world.ask(Request::UpdateResourceStatus { id: name("cache"), status: Status::Up }).expect("known");
    world.pass(Duration::from_secs(9));
    assert_eq!(world.state(id), "active");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.state(id), "suspended");
    let view = world.view(id).expect("there");
    assert!(view.circuit.detail.contains("lease of cache"), "{}", view.circuit.detail);
    world.ask(Request::UpdateResourceStatus { id: name("cache"), status: Status::Up }).expect("known");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.state(id), "active");
}

#[test]
fn a_resource_with_circuits_is_only_removed_by_force_and_takes_them_along() {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let remove = |force| Request::RemoveResource { id: name("db"), force };
    assert!(world.ask(remove(false)).expect_err("in use").what.contains("c1"));
    world.ask(remove(true)).expect("forced");
    assert_eq!(world.state(id), "gone");
    assert!(world.events.contains(&Event::ResourceGone(name("db"))));
    assert!(world.agents.values().all(Agent::is_bare));
    world.check();
}

#[test]
fn discovery_ranks_by_status_then_cost_and_explains_who_is_left_out() {
    let mut world = World::diamond();
    for (id, node) in
        [("far", "t2"), ("near", "t1"), ("sick", "a"), ("down", "b"), ("busy", "b"), ("lost", "b")]
    {
        offer(&mut world, id, node);
    }
    offer(&mut world, "web", "a");
    for (id, status) in [("sick", Status::Degraded), ("down", Status::Down), ("busy", Status::Draining)] {
        world.ask(Request::UpdateResourceStatus { id: name(id), status }).expect("known");
    }
    world.disconnect("b");
    world.pass(Duration::from_secs(31));
    let discovery = discover(&mut world, Bounds::default());
    assert_eq!(found(&discovery), ["near", "far", "sick"]);
    let why = |id: &str| {
        let left = discovery.left_out.iter().find(|left| left.resource == name(id));
        left.map(|left| left.why.clone()).unwrap_or_default()
    };
    assert!(why("lost").contains("lost for 31 s"), "{}", why("lost"));
    assert!(why("web").contains("the one that asks"), "{}", why("web"));
    assert_eq!(discovery.left_out.len(), 4);
    let narrow = Bounds { bandwidth: Bandwidth::mbit(700), ..Bounds::default() };
    let discovery = discover(&mut world, narrow);
    assert_eq!(found(&discovery), ["far", "sick"]);
    let near = discovery.left_out.iter().find(|left| left.resource == name("near")).expect("left out");
    assert!(near.why.contains("500 Mbit/s free, 700 Mbit/s is asked"), "{}", near.why);
}

#[test]
fn a_host_that_is_lost_for_long_takes_its_resources_with_it_and_brings_them_back() {
    let mut world = World::diamond();
    world.disconnect("b");
    let alive =
        |world: &World| world.fabric.resources.get(&name("db")).map(|member| world.fabric.liveness(member));
    world.pass(Duration::from_secs(29));
    assert_eq!(alive(&world), Some(Liveness::Alive));
    world.pass(Duration::from_secs(2));
    assert_eq!(alive(&world), Some(Liveness::NodeLost));
    world.connect("b");
    assert_eq!(alive(&world), Some(Liveness::Alive));
}

#[test]
fn addresses_are_distinct_and_the_last_one_ends_the_supply() {
    let mut settings = crate::fabric::Settings::default();
    settings.prefix.v4_length = 30;
    let mut world = World::new(settings);
    world.enrol("a");
    world.register("x", "a");
    world.register("y", "a");
    let address = |world: &World, id: &str| world.fabric.resources.get(&name(id)).map(|m| m.resource.address);
    assert_ne!(address(&world, "x"), address(&world, "y"));
    let refusal = register(&mut world, "z", World::metadata("a")).expect_err("none is left");
    assert_eq!(refusal.kind, Kind::Exhausted);
    world.ask(Request::RemoveResource { id: name("x"), force: false }).expect("unused");
    assert!(register(&mut world, "z", World::metadata("a")).is_err(), "it rests");
    world.pass(Duration::from_secs(60));
    assert!(register(&mut world, "z", World::metadata("a")).is_ok());
}
