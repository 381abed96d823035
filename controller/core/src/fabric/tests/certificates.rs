//! Which certificates a host's agent may come with.
use crate::fabric::tests::agents::hello;
use crate::fabric::world::{World, name};
use crate::io::Session;
use crate::record::{Keys, Record, RecordKey};

use proto_model::access::Fingerprint;
use proto_model::request::Request;
use proto_model::topology::NodeState;

fn last_hang_up(world: &World) -> (Session, &str) {
    let (_, session, why) = world.hang_ups.last().expect("a hang-up");
    (*session, why)
}

#[test]
fn a_removed_hosts_certificate_stays_refused_when_another_host_gets_its_name() {
    let mut world = World::diamond();
    let old = world.key("t2");
    world.ask(Request::RemoveNode { node: name("t2") }).expect("nothing is on it");
    world.keys.insert(name("t2"), Fingerprint([7; 32]));
    world.enrol("t2");
    world.keys.insert(name("t2"), old);
    world.restart();
    let session = Session(900);
    world.say("t2", session, hello());
    let why = "this certificate is of an earlier enrolment of t2; enrol again";
    assert_eq!(last_hang_up(&world), (session, why));
    let renew = Request::Renew { node: name("t2"), shown: old, key: Fingerprint([8; 32]) };
    assert!(world.ask(renew).expect_err("no renewal either").what.contains("earlier enrolment"));
    world.keys.insert(name("t2"), Fingerprint([7; 32]));
    world.say("t2", Session(901), hello());
    assert_eq!(last_hang_up(&world), (session, why), "the new one's session stays");
    let view = world.fabric.node_view(&name("t2")).expect("known");
    assert_eq!(view.state, NodeState::Connected);
}

#[test]
fn enrolling_anew_ends_the_session_of_the_earlier_certificate() {
    let mut world = World::diamond();
    let session = world.agents[&name("t2")].session.expect("connected");
    world.keys.insert(name("t2"), Fingerprint([7; 32]));
    world.enrol("t2");
    assert_eq!(last_hang_up(&world), (session, "t2 was enrolled anew"));
    assert_eq!(world.fabric.node_view(&name("t2")).expect("known").state, NodeState::Lost);
    world.connect("t2");
    assert_eq!(world.fabric.node_view(&name("t2")).expect("known").state, NodeState::Connected);
}

#[test]
fn a_renewed_certificate_ends_the_old_one_with_its_first_session() {
    let mut world = World::diamond();
    let (old, new) = (world.key("t2"), Fingerprint([7; 32]));
    world.ask(Request::Renew { node: name("t2"), shown: old, key: Fingerprint([6; 32]) }).expect("enrolled");
    // The answer was lost: the agent asks again with another key.
    world.ask(Request::Renew { node: name("t2"), shown: old, key: new }).expect("enrolled");
    world.connect("t2");
    world.restart();
    world.connect("t2");
    assert!(!world.hang_ups.iter().any(|(_, _, why)| why.contains("earlier")), "{:?}", world.hang_ups);
    world.keys.insert(name("t2"), new);
    world.connect("t2");
    world.keys.insert(name("t2"), old);
    world.restart();
    world.say("t2", Session(900), hello());
    assert!(last_hang_up(&world).1.contains("earlier enrolment"), "{:?}", world.hang_ups);
}

#[test]
fn a_host_enrolled_before_keys_were_recorded_is_held_to_the_first_that_it_shows() {
    let mut world = World::diamond();
    let Some(Record::Node(node)) = world.store.get_mut(&RecordKey::Node(name("t2"))) else {
        panic!("stored")
    };
    node.keys = Keys::Unknown;
    world.restart();
    world.connect("t2");
    assert_eq!(world.fabric.node_view(&name("t2")).expect("known").state, NodeState::Connected);
    world.keys.insert(name("t2"), Fingerprint([7; 32]));
    world.say("t2", Session(900), hello());
    assert!(last_hang_up(&world).1.contains("earlier enrolment"), "{:?}", world.hang_ups);
}
