//! What becomes of second ways while ends send by them, hosts are lost, and the controller starts anew.
use super::links::{answered, measure, silence};
use super::protection::{backup_of, circuit, end, paths, switch, three_ways};
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use crate::io::Input;
use proto_model::desired::{Leg, ObjectKey, Side};
use proto_model::report::{Report, Say, Way};
use proto_model::request::{CircuitRef, Event, Request, Response};
use proto_model::resource::Status;
use proto_model::topology::LinkValues;
use proto_model::{Bandwidth, CircuitId, Latency, Loss, NodeName};
use std::time::Duration;

fn both(world: &mut World, id: CircuitId, to: Way) {
    switch(world, "a", id, Side::Source, to);
    switch(world, "b", id, Side::Destination, to);
}

fn unset(world: &mut World, ways: &[&str]) {
    for way in ways {
        for (one, other) in [("a", *way), (*way, "b")] {
            let values = LinkValues::default();
            world.ask(Request::SetLink { link: link(one, other), values }).expect("known");
        }
    }
}

fn always_active(world: &World) -> bool {
    world.events.iter().all(|event| match event {
        Event::Circuit(view) => view.circuit.state.name() == "active",
        _ => true,
    })
}

#[test]
fn a_link_whose_neighbour_never_answers_is_not_lossy() {
    let mut world = three_ways();
    unset(&mut world, &["t1"]);
    measure(&mut world, "a", "a", "t1", silence());
    measure(&mut world, "t1", "a", "t1", silence());
    let mut wanted = request("web", "db");
    wanted.bounds.max_loss = Some(Loss::from_ppm(1_000));
    wanted.bounds.via.insert(name("t1"));
    world.create(wanted).expect("a firewall before port 862 says nothing of tunnels");
}

#[test]
fn a_circuit_that_waits_for_a_measurement_is_placed_when_it_arrives() {
    for little_by_little in [false, true] {
        let mut world = World::diamond();
        unset(&mut world, &["t1", "t2"]);
        let all = |world: &mut World, micros: u64| {
            for way in ["t1", "t2"] {
                measure(world, way, "a", way, answered(micros, 0));
                measure(world, way, way, "b", answered(micros, 0));
            }
        };
        all(&mut world, 1_000);
        let mut wanted = request("web", "db");
        wanted.bounds.max_rtt = Some(Latency::from_millis(10));
        let id = world.create(wanted).expect("2 ms").circuit.id;
        let set = |world: &mut World, status| {
            world.ask(Request::UpdateResourceStatus { id: name("db"), status }).expect("known");
            world.pass(Duration::from_secs(1));
        };
        set(&mut world, Status::Down);
        world.pass(Duration::from_secs(60));
        if little_by_little {
            all(&mut world, 20_000);
        }
        set(&mut world, Status::Up);
        assert_eq!(world.state(id), "suspended");
        for _ in 0..if little_by_little { 20 } else { 1 } {
            all(&mut world, 1_000);
            world.pass(Duration::from_secs(if little_by_little { 5 } else { 1 }));
        }
        assert_eq!(world.state(id), "active", "little by little: {little_by_little}");
    }
}

#[test]
fn a_backup_that_an_end_sends_by_is_kept_when_a_host_of_it_is_lost_or_cannot_build_it() {
    for lost in [true, false] {
        let mut world = three_ways();
        let id = world.create(request("web", "db")).expect("feasible").circuit.id;
        let before = backup_of(&world, id).expect("protected");
        switch(&mut world, "a", id, Side::Source, Way::Backup);
        if lost {
            world.disconnect("t2");
        } else {
            let agent = world.agents.get_mut(&name("t2")).expect("agent");
            let hops: Vec<_> =
                agent.objects.keys().filter(|key| matches!(key, ObjectKey::Hop(_))).cloned().collect();
            agent.refuses.extend(hops);
            world.report(&name("t2"));
        }
        world.pass(Duration::from_secs(50));
        assert_eq!(backup_of(&world, id), Some(before), "lost: {lost}");
        switch(&mut world, "a", id, Side::Source, Way::Primary);
        world.pass(Duration::from_secs(50));
        assert_eq!(
            paths(&circuit(&mut world, id)).1,
            "a → t3 → b",
            "it is not needed any longer, lost: {lost}"
        );
    }
}

#[test]
fn with_path_and_backup_lost_another_way_stands_before_the_one_in_use_is_left() {
    let mut world = three_ways();
    unset(&mut world, &["t1"]);
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let first = paths(&circuit(&mut world, id));
    assert_eq!(first, ("a → t2 → b".into(), "a → t3 → b".into()), "t1's links are not known");
    world.events.clear();
    both(&mut world, id, Way::Backup);
    world.disconnect("t2");
    world.disconnect("t3");
    world.pass(Duration::from_secs(120));
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t1 → b");
    assert!(always_active(&world), "no gate was closed for it");
    for (node, side) in [("a", Side::Source), ("b", Side::Destination)] {
        let Leg::Tunnel { receive, .. } = end(&world, node, id, side).leg else { panic!("local") };
        assert_eq!(receive.len(), 1, "both ends have left the old ways");
    }
}

#[test]
fn a_path_whose_host_is_lost_is_left_when_another_one_stands() {
    let mut world = three_ways();
    world.ask(Request::RemoveNode { node: name("t3") }).expect("no resource is there");
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t2");
    world.pass(Duration::from_secs(32));
    world.ask(Request::RemoveNode { node: name("t2") }).expect("no resource is there");
    world.disconnect("t1");
    world.pass(Duration::from_secs(32));
    world.events.clear();
    assert_eq!(paths(&circuit(&mut world, id)), ("a → t1 → b".into(), String::new()));
    world.enrol("t2");
    *world.agents.get_mut(&name("t2")).expect("agent") = Default::default();
    world.connect("t2");
    world.pass(Duration::from_secs(5));
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t2 → b");
    assert!(always_active(&world), "no gate was closed for it");
}

#[test]
fn only_backups_that_help_make_room() {
    let mut world = three_ways();
    for number in 2..4 {
        world.register(&format!("web{number}"), "a");
        world.register(&format!("db{number}"), "b");
    }
    let mut create = |number: &str, mbit: u64, avoid: &str, priority: u8| {
        let mut wanted = request(&format!("web{number}"), &format!("db{number}"));
        wanted.bounds.bandwidth = Bandwidth::mbit(mbit);
        wanted.bounds.avoid.insert(name(avoid));
        wanted.priority = priority;
        world.create(wanted).expect("feasible").circuit.id
    };
    // By t1, and by t2: the backups of all cross t3.
    let (large, other, small) = (create("", 60, "t2", 2), create("2", 60, "t1", 0), create("3", 30, "t2", 1));
    let backup = |world: &mut World, id| paths(&circuit(world, id)).1;
    for id in [large, other, small] {
        assert_eq!(backup(&mut world, id), "a → t3 → b");
    }
    let values = LinkValues { capacity: Some(Bandwidth::mbit(85)), ..LinkValues::default() };
    world.ask(Request::SetLink { link: link("t3", "b"), values }).expect("known");
    assert_eq!(backup(&mut world, other), "a → t3 → b", "the loss of t2 brings 60 only");
    assert_eq!((backup(&mut world, large).as_str(), backup(&mut world, small).as_str()), ("a → t3 → b", ""));
    world.check_books();
}

#[test]
fn what_is_in_use_makes_no_room_until_it_is_not_in_use() {
    let mut world = three_ways();
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(60);
    let id = world.create(wanted).expect("feasible").circuit.id;
    both(&mut world, id, Way::Backup);
    for way in ["t2", "t3"] {
        let values = LinkValues { capacity: Some(Bandwidth::mbit(50)), ..LinkValues::default() };
        world.ask(Request::SetLink { link: link(way, "b"), values }).expect("known");
    }
    assert_eq!(paths(&circuit(&mut world, id)).1, "a → t2 → b");
    switch(&mut world, "a", id, Side::Source, Way::Primary);
    assert_eq!(paths(&circuit(&mut world, id)).1, "a → t2 → b", "the other end is on it still");
    switch(&mut world, "b", id, Side::Destination, Way::Primary);
    assert_eq!(paths(&circuit(&mut world, id)).1, "");
    world.check_books();
}

#[test]
fn the_path_that_is_being_left_outlives_a_restart_of_the_controller() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    let received = |world: &World| match end(world, "a", id, Side::Source).leg {
        Leg::Tunnel { receive, .. } => receive,
        Leg::Local { .. } => panic!("local"),
    };
    world.disconnect("t1");
    world.pass(Duration::from_secs(31));
    let before = received(&world);
    let labels = |world: &World| world.fabric.nodes[&name::<NodeName>("a")].labels.given();
    let given = labels(&world);
    assert_eq!((before.len(), given), (2, 3), "of the path, of the old one, of the next backup");
    world.restart();
    assert_eq!((received(&world), labels(&world)), (before, given), "b may send the old way still");
    world.agents.get_mut(&name("b")).expect("agent").mute = false;
    world.report(&name("b"));
    assert_eq!(received(&world).len(), 2, "what was sent before may be on its way");
    world.pass(Duration::from_secs(1));
    assert_eq!(received(&world).len(), 1);
    world.pass(Duration::from_secs(2));
    world.check();
    let stored = serde_json::to_string(&world.store.values().collect::<Vec<_>>()).expect("JSON");
    assert!(
        stored.contains("\"retiring\":null") && !stored.contains("\"retiring\":{"),
        "it is forgotten, too"
    );
}

#[test]
fn after_a_restart_a_path_that_both_ends_left_and_nobody_hears_is_dead() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.restart();
    for one_end in [true, false] {
        switch(&mut world, "a", id, Side::Source, Way::Backup);
        if !one_end {
            switch(&mut world, "b", id, Side::Destination, Way::Backup);
        }
        for _ in 0..14 {
            measure(&mut world, "a", "a", "t1", silence());
            measure(&mut world, "t1", "a", "t1", silence());
            world.pass(Duration::from_secs(5));
        }
        let path = if one_end { "a → t1 → b" } else { "a → t2 → b" };
        assert_eq!(paths(&circuit(&mut world, id)).0, path);
    }
}

#[test]
fn a_label_of_the_path_that_was_left_rests_until_its_end_reports_without_it() {
    let mut world = three_ways();
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    let a: NodeName = name("a");
    for end in ["a", "b"] {
        world.agents.get_mut(&name(end)).expect("agent").mute = true;
    }
    world.disconnect("t1");
    world.pass(Duration::from_secs(31));
    let promoted = world.agents[&a].generation;
    let given = |world: &World| world.fabric.nodes[&a].labels.given();
    let before = given(&world);
    // Both report that they send the new path; only then are they told to forget the old one.
    world.report(&a);
    world.report(&name("b"));
    world.pass(Duration::from_secs(1));
    assert!(world.agents[&a].generation > promoted);
    let session = world.agents[&a].session.expect("connected");
    let report = Report { generation: promoted, whole: false, failed: Vec::new(), recovered: Vec::new() };
    let key = world.key("a");
    world.input(Input::AgentSaid { node: a.clone(), session, key, say: Say::Report(report) });
    assert_eq!(given(&world), before, "said before it was told");
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t2 → b");
}

#[test]
fn an_end_that_does_not_open_the_promoted_backup_is_not_waited_for_without_end() {
    let mut world = three_ways();
    world.agents.get_mut(&name("b")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.report(&name("b"));
    assert_eq!(world.state(id), "opening");
    let agent = world.agents.get_mut(&name("t1")).expect("agent");
    let hops: Vec<_> = agent.objects.keys().filter(|key| matches!(key, ObjectKey::Hop(_))).cloned().collect();
    agent.refuses.extend(hops);
    world.report(&name("t1"));
    // It begins a session, so it is not taken for silent yet when the patience with t1 ends.
    world.pass(Duration::from_secs(5));
    world.connect("b");
    world.pass(Duration::from_secs(6));
    assert_eq!(paths(&circuit(&mut world, id)).0, "a → t2 → b");
    assert_eq!(world.state(id), "opening");
    world.pass(Duration::from_secs(11));
    assert_eq!(world.state(id), "suspended");
}

#[test]
fn hosts_that_failed_to_build_a_backup_are_left_alone_for_a_while() {
    let mut world = World::diamond();
    let labels = (1..99).map(|slot| proto_model::Label::new(1 << 17 | slot).expect("a label"));
    world.agents.get_mut(&name("t2")).expect("agent").refuses.extend(labels.map(ObjectKey::Hop));
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(10);
    let id = world.create(wanted).expect("feasible").circuit.id;
    world.pass(Duration::from_secs(12));
    assert_eq!(paths(&circuit(&mut world, id)).1, "");
    let tells = world.agents[&name::<NodeName>("t2")].tells;
    world.pass(Duration::from_secs(15));
    assert_eq!(paths(&circuit(&mut world, id)).1, "");
    assert_eq!(world.agents[&name::<NodeName>("t2")].tells, tells, "room that came free is no reason");
    world.agents.get_mut(&name("t2")).expect("agent").refuses.clear();
    world.pass(Duration::from_secs(20));
    assert_eq!(paths(&circuit(&mut world, id)).1, "a → t2 → b");
}

#[test]
fn the_explanation_names_a_promoted_backup_that_was_too_dear_to_be_kept() {
    let mut world = three_ways();
    world.fabric.settings.limits.kept_candidates = 1;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    world.disconnect("t1");
    world.pass(Duration::from_secs(31));
    let Ok(Response::Plan(plan)) = world.ask(Request::ExplainCircuit { circuit: CircuitRef::Id(id) }) else {
        panic!("a plan")
    };
    let chosen = &plan.candidates[plan.chosen.expect("chosen")];
    assert_eq!((chosen.path.to_string().as_str(), plan.candidates.len()), ("a → t2 → b", 1));
    assert!(chosen.cost > 0.0 && !chosen.terms.is_empty(), "{chosen:?}");
}

#[test]
fn one_step_repairs_a_few_circuits_only() {
    const MANY: usize = 100;
    let mut world = three_ways();
    let mut ids = Vec::new();
    for number in 0..MANY {
        world.register(&format!("from{number}"), "a");
        world.register(&format!("to{number}"), "b");
        ids.push(
            world
                .create(request(&format!("from{number}"), &format!("to{number}")))
                .expect("feasible")
                .circuit
                .id,
        );
    }
    for id in &ids {
        both(&mut world, *id, Way::Backup);
    }
    world.disconnect("t1");
    let settings = world.fabric.settings.clone();
    world.fabric.settings.timing.node_grace = Duration::from_secs(3_600);
    world.now = world.now.plus(settings.timing.repair + Duration::from_secs(1));
    // The grace period of t1 ended, too; its deadline is in the way of none.
    world.input(Input::Tick);
    let promoted = |world: &World| {
        let is = |id: &&CircuitId| {
            world.fabric.circuits.get(**id).is_some_and(|c| {
                c.protection.retiring.is_some() || paths(&c.view().circuit).0 == "a → t2 → b"
            })
        };
        ids.iter().filter(is).count()
    };
    let first = promoted(&world);
    assert!(first > 0 && first <= 40, "{first} in one step");
    for _ in 0..10 {
        world.input(Input::Tick);
    }
    assert_eq!(promoted(&world), MANY);
}

#[test]
fn a_dry_run_names_the_backup_and_a_view_says_whether_it_stands() {
    let mut world = three_ways();
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: request("web", "db") }) else {
        panic!("a plan")
    };
    let backup = plan.backup.expect("there is a second way");
    assert_eq!((backup.path.to_string().as_str(), plan.protection.as_str()), ("a → t2 → b", ""));
    assert!(backup.cost > 0.0);
    let mut pinned = request("web", "db");
    pinned.pinned_path = Some(["a", "t1", "b"].map(name).into());
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: pinned }) else {
        panic!("a plan")
    };
    assert_eq!((plan.backup, plan.protection.as_str()), (None, "the path is pinned: there is no backup"));
    world.agents.get_mut(&name("t2")).expect("agent").mute = true;
    let id = world.create(request("web", "db")).expect("feasible").circuit.id;
    assert!(!circuit(&mut world, id).backup_ready);
    world.report(&name("t2"));
    assert!(circuit(&mut world, id).backup_ready);
}

#[test]
fn a_link_that_was_left_out_is_measured_when_there_is_room() {
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
    let peers =
        |world: &World| ["hub", "y", "z"].map(|node| world.agents[&name::<NodeName>(node)].objects.len());
    assert_eq!(peers(&world), [2, 1, 0]);
    world.ask(Request::RemoveNode { node: name("x") }).expect("no resource is there");
    assert_eq!(peers(&world), [2, 1, 1]);
    // In one step: what goes makes room for what comes, whatever its name is.
    let disabled = LinkValues { disabled: true, ..LinkValues::default() };
    world.ask(Request::SetLink { link: link("hub", "z"), values: disabled }).expect("known");
    assert_eq!(peers(&world), [1, 1, 0]);
}
