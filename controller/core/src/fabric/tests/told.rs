//! What hosts have told, and what they have not.
use crate::fabric::world::{World, name, request};
use proto_model::desired::ObjectKey;
use proto_model::report::{Failure, Report, Say, Telemetry};
use proto_model::request::{DropsView, Event, Request, Response};
use proto_model::{Kind, Refusal};
use std::time::Duration;

fn drops(world: &mut World, node: Option<&str>) -> Result<DropsView, Refusal> {
    match world.ask(Request::ListDrops { node: node.map(name) })? {
        Response::Drops(view) => Ok(view),
        other => panic!("not drops: {other:?}"),
    }
}

#[test]
fn hosts_that_have_not_told_their_drops_are_named_and_unknown_ones_refused() {
    let mut world = World::diamond();
    world.pass(Duration::from_secs(20));
    assert_eq!(drops(&mut world, None), Ok(DropsView::default()), "who had something to tell has told it");
    world.disconnect("b");
    world.restart();
    let view = drops(&mut world, None).expect("known");
    assert_eq!((view.unheard, view.absent), (vec![name("a"), name("t1"), name("t2")], vec![name("b")]));
    let session = world.agents[&name("a")].session.expect("connected");
    world.say("a", session, Say::Telemetry(Telemetry::default()));
    assert_eq!(drops(&mut world, Some("a")), Ok(DropsView::default()));
    assert_eq!(drops(&mut world, Some("b")).expect("known").absent, [name("b")]);
    let refusal = drops(&mut world, Some("nope")).expect_err("unknown");
    assert_eq!(refusal.kind, Kind::NotFound);
    assert!(refusal.hint.contains("known are a, b, t1, t2"), "{refusal}");
}

#[test]
fn what_a_host_says_of_an_interface_is_shown_at_its_resource() {
    let mut world = World::diamond();
    world.create(request("web", "db")).expect("feasible");
    let trouble = |world: &mut World| match world.ask(Request::GetResource { id: name("web") }) {
        Ok(Response::Resource(view)) => view.trouble,
        other => panic!("{other:?}"),
    };
    assert_eq!(trouble(&mut world), "");
    let agent = &world.agents[&name("a")];
    let (session, generation) = (agent.session.expect("connected"), agent.generation);
    let key = ObjectKey::Eni(name("web"));
    let why = "there is no network namespace web".to_owned();
    let failed = vec![Failure { key: key.clone(), why: why.clone() }];
    world.events.clear();
    world.say("a", session, Say::Report(Report { generation, whole: false, failed, recovered: vec![] }));
    assert_eq!(trouble(&mut world), why);
    let told = |event: &Event| matches!(event, Event::Resource(view) if view.trouble == why);
    assert!(world.events.iter().any(told), "whoever watches sees it");
    world.say(
        "a",
        session,
        Say::Report(Report { generation, whole: false, failed: vec![], recovered: vec![key] }),
    );
    assert_eq!(trouble(&mut world), "");
}
