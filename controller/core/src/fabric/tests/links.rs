//! Links are measured by both ends; what was measured counts where nothing is configured.
use super::protection::paths;
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use proto_model::desired::{Object, ObjectKey};
use proto_model::report::{Say, Telemetry};
use proto_model::request::{Request, Response};
use proto_model::topology::{LinkId, LinkValues, Measured};
use proto_model::{Kind, Latency, Loss, NodeName};
use std::time::Duration;

/// What a host's probes saw of one of its links.
pub(super) fn measure(world: &mut World, node: &str, one: &str, other: &str, measured: Measured) {
    let session = world.agents[&name::<NodeName>(node)].session.expect("connected");
    let links = vec![(link(one, other), measured)];
    world.say(node, session, Say::Telemetry(Telemetry { links, ..Telemetry::default() }));
}

pub(super) fn answered(micros: u64, lost: u32) -> Measured {
    let rtt = Latency::from_micros(micros);
    let loss_forward = Loss::from_ppm(lost);
    Measured { probes: 50, rtt_min: rtt, rtt_mean: rtt, rtt_max: rtt, loss_forward, ..Measured::default() }
}

pub(super) fn silence() -> Measured {
    Measured { probes: 50, loss_forward: Loss::ALL, loss_backward: Loss::ALL, ..Measured::default() }
}

#[test]
fn a_bound_on_loss_is_kept_and_a_refusal_says_what_is_feasible() {
    let mut world = World::diamond();
    for (one, other, ppm) in [("t1", "b", 10_000), ("t2", "b", 1_000)] {
        let values = LinkValues {
            rtt: Some(Latency::from_millis(1)),
            loss: Loss::from_ppm(ppm),
            ..LinkValues::default()
        };
        world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
    }
    let mut wanted = request("web", "db");
    wanted.bounds.max_loss = Some(Loss::from_ppm(500));
    let refused = world.create(wanted.clone()).expect_err("too lossy").to_string();
    assert!(refused.contains("0.1 % loss, at most 0.05 % is asked"), "{refused}");
    assert!(refused.contains("if a loss of 0.1 % is allowed"), "{refused}");
    wanted.bounds.max_loss = Some(Loss::from_ppm(1_000));
    let shown = world.create(wanted).expect("over t2").circuit;
    assert_eq!(paths(&shown).0, "a → t2 → b");
    assert_eq!(
        shown.protection,
        "no second path keeps the bounds: a → t1 → b: 1 % loss, at most 0.1 % is asked"
    );
}

#[test]
fn a_link_without_configured_values_has_the_measured_ones_for_a_while() {
    let mut world = World::diamond();
    for (one, other) in [("a", "t1"), ("t1", "b")] {
        world.ask(Request::SetLink { link: link(one, other), values: LinkValues::default() }).expect("known");
    }
    let mut wanted = request("web", "db");
    wanted.bounds.max_rtt = Some(Latency::from_millis(10));
    world.create(wanted.clone()).expect_err("unknown, and 20 ms");
    measure(&mut world, "a", "a", "t1", answered(3_000, 0));
    measure(&mut world, "t1", "a", "t1", answered(2_000, 0));
    measure(&mut world, "b", "t1", "b", answered(2_500, 100));
    // A stranger's word on a link of others is not taken.
    measure(&mut world, "t2", "t1", "b", answered(1, 0));
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: wanted.clone() }) else {
        panic!("plan")
    };
    let best = &plan.candidates[plan.chosen.expect("feasible")];
    assert_eq!(best.offer.rtt, Some(Latency::from_micros(4_500)));
    let quantity = |name: &str| {
        let term = best.terms.iter().find(|term| term.name == name);
        term.map(|term| term.quantity.clone()).unwrap_or_default()
    };
    assert_eq!(
        (quantity("rtt").as_str(), quantity("loss").as_str()),
        ("4.5 ms (measured)", "0.01 % (measured)")
    );
    let Ok(Response::Links(links)) = world.ask(Request::ListLinks) else { panic!("links") };
    let view = links.iter().find(|view| view.id == link("a", "t1")).expect("listed");
    assert_eq!(view.measured, [(name("a"), answered(3_000, 0)), (name("t1"), answered(2_000, 0))]);
    world.pass(Duration::from_secs(31));
    world.create(wanted).expect_err("that was long ago");
    let Ok(Response::Links(links)) = world.ask(Request::ListLinks) else { panic!("links") };
    assert!(links.iter().all(|view| view.measured.is_empty()));
}

#[test]
fn both_ends_of_a_link_measure_it_while_it_is_there() {
    let mut world = World::diamond();
    let peer = |world: &World, node: &str| match world.agents[&name::<NodeName>(node)]
        .objects
        .get(&ObjectKey::Peer(link("a", "t1")))
    {
        Some(Object::Peer(peer)) => Some(peer.clone()),
        _ => None,
    };
    let (a, t1) = (peer(&world, "a").expect("measured"), peer(&world, "t1").expect("measured"));
    assert_eq!((a.local, a.remote, a.session), (t1.remote, t1.local, t1.session));
    assert_ne!(a.session, 0);
    let tells = world.agents[&name::<NodeName>("a")].tells;
    world.disconnect("t1");
    world.pass(Duration::from_secs(60));
    world.connect("t1");
    assert_eq!(world.agents[&name::<NodeName>("a")].tells, tells, "contact with others changes nothing");
    let set = |world: &mut World, disabled| {
        let values = LinkValues { disabled, ..LinkValues::default() };
        world.ask(Request::SetLink { link: link("a", "t1"), values }).expect("known");
    };
    set(&mut world, true);
    assert_eq!((peer(&world, "a"), peer(&world, "t1")), (None, None));
    set(&mut world, false);
    assert_eq!((peer(&world, "a"), peer(&world, "t1")), (Some(a), Some(t1)));
    world.ask(Request::RemoveNode { node: name("t1") }).expect("no resource is there");
    assert_eq!(peer(&world, "a"), None);
}

#[test]
fn a_host_measures_as_many_links_as_it_may() {
    let mut settings = Settings::default();
    settings.limits.peers = 2;
    let mut world = World::new(settings);
    for other in ["x", "y", "z"] {
        world.wire("hub", other, 1, 100);
    }
    for node in ["hub", "x", "y", "z"] {
        world.enrol(node);
        world.connect(node);
    }
    let peers = |node: &str| world.agents[&name::<NodeName>(node)].objects.len();
    assert_eq!([peers("hub"), peers("x"), peers("y"), peers("z")], [2, 1, 1, 0]);
}

#[test]
fn a_declared_link_that_no_host_offers_can_be_forgotten() {
    let mut world = World::diamond();
    let ahead = LinkId::new(name("a"), name("b"), name("later")).expect("two ends");
    let list = |world: &mut World| match world.ask(Request::ListLinks) {
        Ok(Response::Links(links)) => links.into_iter().map(|link| link.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let before = (list(&mut world), world.store.clone());
    let values = LinkValues { rtt: Some(Latency::from_millis(4)), ..LinkValues::default() };
    world.ask(Request::SetLink { link: ahead.clone(), values }).expect("both are known");
    assert!(list(&mut world).contains(&ahead));
    world.ask(Request::ForgetLink { link: ahead.clone() }).expect("it was set");
    assert_eq!((list(&mut world), world.store.clone()), before);
    let refusal = world.ask(Request::ForgetLink { link: ahead }).expect_err("nothing is left");
    assert_eq!(refusal.kind, Kind::NotFound);
    // One that hosts offer stays, without what was set.
    world.ask(Request::ForgetLink { link: link("a", "t1") }).expect("its latency was set");
    assert_eq!(list(&mut world), before.0);
    let refusal = world.ask(Request::ForgetLink { link: link("a", "t1") }).expect_err("nothing is left");
    assert!(refusal.hint.contains("its hosts offer it"), "{refusal}");
}
