//! A packet that somebody wonders about is followed from host to host.
use crate::fabric::why;
use crate::fabric::world::{World, name, request};
use crate::io::{Session, Ticket};
use proto_model::query::{Answer, Body, Connection, Fate, QueryId, Question, Ran, Sealing, Sent};
use proto_model::report::{Say, Way};
use proto_model::request::{Request, Response};
use proto_model::resource::Attachment;
use proto_model::trail::{Trail, Verdict, Whom, Wonder};
use proto_model::{CircuitId, Kind, Label};
use std::net::IpAddr;
use std::time::Duration;

fn wonder(source: &str, destination: &str, port: u16) -> Wonder {
    let whom = |text: &str| text.parse::<Whom>().expect("a name or an address");
    Wonder {
        source: whom(source),
        destination: whom(destination),
        protocol: 6,
        port,
        source_port: 40_000,
        answer: false,
        v6: false,
        size: None,
    }
}

fn ran(circuit: CircuitId, fate: Fate) -> Answer {
    Answer::Ran(Ran {
        program: "eni_ingress".into(),
        interface: "fw64400001".into(),
        label: None,
        circuit: Some(circuit),
        rule: 1,
        connection: Connection::WouldOpen,
        sealing: Sealing::Clear,
        fate,
    })
}

fn sent(remote: [u8; 4], way: Option<Way>) -> Fate {
    Fate::Sent(Sent {
        interface: "eth0".into(),
        local: [10, 0, 0, 1].into(),
        remote: remote.into(),
        label: Label::new(7).expect("a label"),
        way,
        frame: vec![1, 2, 3],
    })
}

fn dropped(reason: &str) -> Fate {
    Fate::Dropped { reason: reason.into(), text: "Why.".into(), room: None }
}

/// The question that the host has been asked, answered.
fn answer(world: &mut World, node: &str, answer: Answer) -> Question {
    let agent = world.agents.get_mut(&name(node)).expect("agent");
    let session = agent.session.expect("connected");
    let (query, question) = agent.asked.pop_front().unwrap_or_else(|| panic!("{node} was not asked"));
    world.say(node, session, Say::Answer { query, answer });
    question
}

fn trail(world: &mut World, ticket: Ticket) -> Trail {
    match world.take_reply(ticket).expect("an answer").expect("not refused") {
        Response::Why(trail) => trail,
        other => panic!("{other:?}"),
    }
}

/// With the circuit web-db over a – t1 – b.
fn wired() -> (World, CircuitId) {
    let mut world = World::diamond();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    (world, id)
}

#[test]
fn a_packet_is_followed_over_every_host_with_the_frame_that_each_sends() {
    let (mut world, id) = wired();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    let first = answer(&mut world, "a", ran(id, sent([10, 0, 0, 2], Some(Way::Primary))));
    let Question::Sent { packet, .. } = first else { panic!("{first:?}") };
    assert_eq!(packet.body, Body::Tcp { source: 40_000, destination: 5432, answer: false });
    assert_eq!(world.take_reply(ticket), None, "two hosts are still to be asked");
    let second = answer(&mut world, "t1", ran(id, sent([10, 1, 0, 2], None)));
    assert_eq!(second, Question::Arrives { frame: vec![1, 2, 3], packet });
    answer(&mut world, "b", ran(id, Fate::Delivered { interface: "fw64400002".into() }));
    let trail = trail(&mut world, ticket);
    assert_eq!(trail.verdict, Verdict::Passes);
    let nodes: Vec<&str> = trail.hops.iter().map(|hop| hop.node.as_str()).collect();
    assert_eq!(nodes, ["a", "t1", "b"]);
    assert_eq!(trail.sentence, "passes: db gets it from fw64400002 by a → t1 → b");
    assert_eq!(trail.hops[0].rule, "allow tcp/5432");
    assert!(trail.hops.iter().all(|hop| !matches!(&hop.ran.fate, Fate::Sent(s) if !s.frame.is_empty())));
}

#[test]
fn a_default_deny_names_the_rule_that_would_let_it_pass_from_either_end() {
    for (source, destination, rule) in
        [("web", "db", "\"allow tcp/22\""), ("db", "web", "\"allow tcp/22 reverse\"")]
    {
        let (mut world, id) = wired();
        let ticket = world.wonder(Request::Why(wonder(source, destination, 22)));
        let Answer::Ran(ran) = ran(id, dropped("denied_by_rule")) else { panic!("ran") };
        let at = if source == "web" { "a" } else { "b" };
        answer(&mut world, at, Answer::Ran(Ran { rule: 0, ..ran }));
        let trail = trail(&mut world, ticket);
        assert_eq!(trail.verdict, Verdict::Dropped);
        assert_eq!(trail.sentence, format!("dropped at {at}: default deny of web-db; no rule allows it"));
        assert_eq!(trail.advice, format!("foreweave rule add web-db {rule} would allow it"));
    }
}

#[test]
fn the_answer_of_a_connection_starts_at_the_other_end() {
    let (mut world, id) = wired();
    let asked = Wonder { answer: true, ..wonder("web", "db", 5432) };
    let ticket = world.wonder(Request::Why(asked));
    let question = answer(&mut world, "b", ran(id, dropped("no_connection")));
    let Question::Sent { packet, .. } = question else { panic!("{question:?}") };
    assert_eq!(packet.body, Body::Tcp { source: 5432, destination: 40_000, answer: true });
    let trail = trail(&mut world, ticket);
    assert!(trail.sentence.contains("there is none") && trail.advice.contains("--source-port"), "{trail:?}");
}

#[test]
fn without_a_circuit_it_is_said_what_would_be_needed() {
    let mut world = World::diamond();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    let trail = trail(&mut world, ticket);
    assert_eq!((trail.verdict, trail.hops.len()), (Verdict::Dropped, 0));
    assert_eq!(trail.advice, "foreweave circuit create web db --allow tcp/5432 would make one");
}

#[test]
fn a_host_that_does_not_answer_or_goes_is_named() {
    let (mut world, id) = wired();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    answer(&mut world, "a", ran(id, sent([10, 0, 0, 2], Some(Way::Primary))));
    world.pass(why::PATIENCE);
    let late = trail(&mut world, ticket);
    assert_eq!(late.verdict, Verdict::Unknown);
    assert_eq!(late.sentence, "unknown: t1 did not answer within 5 s");
    assert_eq!(late.hops.len(), 1);

    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    world.disconnect("a");
    let lost = trail(&mut world, ticket);
    assert_eq!(lost.sentence, "unknown: contact with a was lost before it answered");
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    let gone = trail(&mut world, ticket);
    assert_eq!(gone.sentence, "unknown: a is not connected, so nobody can ask it");
    assert!(world.fabric.next_deadline().is_none_or(|at| at > world.now));
}

#[test]
fn hosts_that_are_all_slow_end_with_what_they_told_so_far() {
    let (mut world, id) = wired();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    let slow = why::PATIENCE - Duration::from_secs(1);
    let began = world.now;
    world.pass(slow);
    answer(&mut world, "a", ran(id, sent([10, 0, 0, 2], Some(Way::Primary))));
    let mut told = 1;
    while world.now.plus(slow) < began.plus(why::JOURNEY) {
        world.pass(slow);
        answer(&mut world, "t1", ran(id, sent([10, 0, 0, 2], None)));
        told += 1;
    }
    assert_eq!(world.take_reply(ticket), None);
    world.pass(began.plus(why::JOURNEY).since(world.now));
    let late = trail(&mut world, ticket);
    assert_eq!((late.verdict, late.hops.len()), (Verdict::Unknown, told));
    let said = format!("unknown: {told} hosts took the 25 s that all of them have; t1 has not answered");
    assert_eq!(late.sentence, said);
    assert!(world.fabric.next_deadline().is_none_or(|at| at > world.now));
}

#[test]
fn answers_of_hosts_that_were_not_asked_and_late_ones_are_not_heard() {
    let (mut world, id) = wired();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    let (query, _) = world.agents[&name("a")].asked.front().cloned().expect("asked");
    let session = world.agents[&name("b")].session.expect("connected");
    let delivered = ran(id, Fate::Delivered { interface: "fw1".into() });
    world.say("b", session, Say::Answer { query, answer: delivered.clone() });
    world.say("b", session, Say::Answer { query: QueryId(999), answer: delivered.clone() });
    world.say("a", Session(0), Say::Answer { query, answer: delivered.clone() });
    assert_eq!(world.take_reply(ticket), None);
    world.pass(why::PATIENCE);
    assert_eq!(trail(&mut world, ticket).verdict, Verdict::Unknown);
    answer(&mut world, "a", delivered);
    assert_eq!(world.take_reply(ticket), None, "it had its answer");
}

#[test]
fn a_packet_that_loops_and_one_to_a_stranger_come_to_an_end() {
    let (mut world, id) = wired();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    answer(&mut world, "a", ran(id, sent([192, 0, 2, 99], Some(Way::Primary))));
    assert!(trail(&mut world, ticket).sentence.contains("no host of this region has the address"));

    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    answer(&mut world, "a", ran(id, sent([10, 0, 0, 2], Some(Way::Primary))));
    while world.take_reply(ticket).map(|reply| format!("{reply:?}").contains("loops")) != Some(true) {
        answer(&mut world, "t1", ran(id, sent([10, 0, 0, 2], None)));
    }
}

#[test]
fn no_more_questions_than_the_bound_are_open_and_each_ends() {
    let (mut world, _) = wired();
    let open: Vec<Ticket> =
        (0..why::MOST).map(|_| world.wonder(Request::Why(wonder("web", "db", 5432)))).collect();
    let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
    let refused = world.take_reply(ticket).expect("at once").expect_err("one too many");
    assert_eq!(refused.kind, Kind::Exhausted);
    world.pass(why::PATIENCE + Duration::from_millis(1));
    for ticket in open {
        assert_eq!(trail(&mut world, ticket).verdict, Verdict::Unknown);
    }
}

#[test]
fn what_nobody_can_be_is_refused_by_field() {
    let (mut world, _) = wired();
    for (asked, kind, field) in [
        (wonder("nobody", "db", 1), Kind::NotFound, "source"),
        (wonder("web", "192.0.2.1", 1), Kind::NotFound, "destination"),
        (wonder("web", "web", 1), Kind::Invalid, "destination"),
    ] {
        let ticket = world.wonder(Request::Why(asked));
        let refused = world.take_reply(ticket).expect("at once").expect_err("refused");
        assert_eq!((refused.kind, refused.field.as_str()), (kind, field), "{refused}");
    }
}

#[test]
fn hosts_on_the_way_of_an_encrypted_packet_are_said_to_see_ciphertext_and_ends_to_lack_keys() {
    for (session, note, advice) in [
        (Sealing::Sealed, "encrypts it", ""),
        (Sealing::NoSession, "has agreed on no keys", "until the two ends have agreed on keys"),
    ] {
        let (mut world, id) = wired();
        let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
        let sealed = |sealing, program: &str, fate| {
            let Answer::Ran(ran) = ran(id, fate) else { panic!("ran") };
            Answer::Ran(Ran { sealing, program: program.into(), ..ran })
        };
        let first = sealed(session, "eni_ingress", sent([10, 0, 0, 2], Some(Way::Primary)));
        answer(&mut world, "a", first);
        let transit = sealed(Sealing::Sealed, "underlay_xdp", sent([10, 1, 0, 2], None));
        answer(&mut world, "t1", transit);
        let last = Fate::Delivered { interface: "fw64400002".into() };
        answer(&mut world, "b", sealed(Sealing::Sealed, "plain_ingress", last));
        let trail = trail(&mut world, ticket);
        assert_eq!(trail.verdict, Verdict::Passes);
        let notes: Vec<&str> = trail.hops.iter().map(|hop| hop.note.as_str()).collect();
        assert!(notes[0].contains(note), "{notes:?}");
        assert_eq!(notes[1..], ["sees ciphertext only", "decrypts it"]);
        assert!(trail.advice.contains(advice), "{}", trail.advice);
    }
}

#[test]
fn what_is_too_big_is_told_with_both_numbers() {
    let (mut world, id) = wired();
    let ticket = world.wonder(Request::Why(Wonder { size: Some(1_600), ..wonder("web", "db", 5432) }));
    let fate = Fate::Dropped { reason: "too_big".into(), text: "Why.".into(), room: Some(1_450) };
    let question = answer(&mut world, "a", ran(id, fate));
    assert!(matches!(question, Question::Sent { packet, .. } if packet.size == Some(1_600)));
    let trail = trail(&mut world, ticket);
    assert_eq!(trail.sentence, "dropped at a: too big: it has 1600 bytes, and at most 1450 pass there");
}

#[test]
fn a_plain_device_is_where_a_packet_ends_or_comes_from() {
    let device: IpAddr = [10, 1, 0, 77].into();
    for (source, destination) in [("web", "printer"), ("printer", "web")] {
        let mut world = World::diamond();
        let mut metadata = World::metadata("b");
        metadata.attachment = Attachment::External(device);
        let (resource_id, intents) = (name("printer"), Vec::new());
        world
            .ask(Request::RegisterResource { id: resource_id, metadata, intents, lease: None })
            .expect("well-formed");
        let id = world.create(request(source, destination)).expect("feasible").circuit.id;
        let ticket = world.wonder(Request::Why(wonder(source, destination, 631)));
        if source == "printer" {
            let local = sent([10, 1, 0, 1], None);
            let Question::Enters { tunnel, packet, .. } = answer(&mut world, "b", ran(id, local)) else {
                panic!("the device itself cannot be asked")
            };
            assert_eq!((tunnel.source, tunnel.destination), (device, [10, 1, 0, 2].into()));
            assert_eq!(packet.body, Body::Tcp { source: 40_000, destination: 631, answer: false });
            continue;
        }
        answer(&mut world, "a", ran(id, sent([10, 0, 0, 2], Some(Way::Primary))));
        answer(&mut world, "t1", ran(id, sent([10, 1, 0, 2], None)));
        answer(&mut world, "b", ran(id, sent([10, 1, 0, 77], None)));
        let trail = trail(&mut world, ticket);
        assert_eq!(trail.verdict, Verdict::Passes);
        assert!(
            trail.sentence.contains("the plain VXLAN device of printer at 10.1.0.77"),
            "{}",
            trail.sentence
        );
    }
}

#[test]
fn an_end_that_sends_by_its_backup_is_said_to() {
    let (mut world, id) = wired();
    for (way, note) in [(Way::Primary, "by the path; there is a backup"), (Way::Backup, "by the backup")] {
        let ticket = world.wonder(Request::Why(wonder("web", "db", 5432)));
        answer(&mut world, "a", ran(id, sent([192, 0, 2, 99], Some(way))));
        let trail = trail(&mut world, ticket);
        assert!(trail.hops[0].note.starts_with(note), "{}", trail.hops[0].note);
    }
}
