//! What others take of an interface counts: in the cost of paths, and where nothing holds it back, at admission.
use super::protection::paths;
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use crate::telemetry::Sample;
use proto_model::circuit::CircuitState;
use proto_model::insight::Subject;
use proto_model::report::{Carried, Say, Telemetry, Traffic};
use proto_model::request::{CircuitRef, CircuitRequest, LinkView, Request, Response};
use proto_model::topology::{LinkId, LinkValues, Quantity};
use proto_model::{Bandwidth, CircuitId, Kind, Latency, NodeName, Timestamp, Until};
use std::collections::BTreeMap;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(2);
const MEGABIT: u64 = 1_000_000 / 8;

/// What one interface sends and receives, Mbit/s.
type Flow<'a> = (&'a str, &'a str, u64, u64);

/// The counters of interfaces, and those of circuits at their sources.
#[derive(Default)]
struct Counters {
    interfaces: BTreeMap<(NodeName, String), [u64; 2]>,
    circuits: BTreeMap<CircuitId, u64>,
}

impl Counters {
    /// All of these report every two seconds.
    fn run(&mut self, world: &mut World, reports: u64, flows: &[Flow<'_>]) {
        self.run_with(world, reports, flows, &[]);
    }

    /// Also circuits, with the host of their sources and what they send.
    fn run_with(
        &mut self,
        world: &mut World,
        reports: u64,
        flows: &[Flow<'_>],
        circuits: &[(&str, CircuitId, u64)],
    ) {
        for _ in 0..reports {
            for (node, interface, sends, receives) in flows {
                let total = self.interfaces.entry((name(node), (*interface).into())).or_default();
                total[0] += sends * MEGABIT * EVERY.as_secs();
                total[1] += receives * MEGABIT * EVERY.as_secs();
            }
            for (_, id, sends) in circuits {
                *self.circuits.entry(*id).or_default() += sends * MEGABIT * EVERY.as_secs();
            }
            let nodes: Vec<NodeName> = world.agents.keys().cloned().collect();
            for node in nodes {
                self.report(world, &node, circuits);
            }
            world.pass(EVERY);
        }
    }

    fn report(&self, world: &mut World, node: &NodeName, circuits: &[(&str, CircuitId, u64)]) {
        let Some(session) = world.agents[node].session else { return };
        let mine = self.interfaces.iter().filter(|((of, _), _)| of == node);
        let carried = |((_, interface), [sent_bytes, received_bytes]): (&(NodeName, String), &[u64; 2])| {
            Carried { interface: interface.clone(), sent_bytes: *sent_bytes, received_bytes: *received_bytes }
        };
        let sent = |id: &CircuitId| Traffic { sent_bytes: self.circuits[id], ..Traffic::default() };
        let here = circuits.iter().filter(|(of, ..)| *of == node.as_str());
        let telemetry = Telemetry {
            counted: world.now,
            interfaces: mine.map(carried).collect(),
            traffic: here.map(|(_, id, _)| (*id, sent(id))).collect(),
            ..Telemetry::default()
        };
        world.say(node.as_str(), session, Say::Telemetry(telemetry));
    }
}

/// Three hosts with an interface of 100 Mbit/s each in one network. `web` and `app` are on a, `db` and `log` on b, `nas` on c.
fn lan(shape: bool) -> World {
    let mut world = World::new(Settings::default());
    for (host, node) in ["a", "b", "c"].into_iter().enumerate() {
        world.attach(node, host as u8 + 1, 100, shape);
        world.enrol(node);
        world.connect(node);
    }
    for (resource, node) in [("web", "a"), ("db", "b"), ("nas", "c"), ("app", "a"), ("log", "b")] {
        world.register(resource, node);
    }
    world
}

fn in_lan(one: &str, other: &str) -> LinkId {
    LinkId::new(name(one), name(other), name("lan")).expect("two ends")
}

fn wanted(source: &str, destination: &str, mbit: u64) -> CircuitRequest {
    let mut wanted = request(source, destination);
    wanted.name = Some(name(&format!("{source}-{destination}-{mbit}")));
    wanted.bounds.bandwidth = Bandwidth::mbit(mbit);
    wanted
}

fn view(world: &mut World, link: &LinkId) -> LinkView {
    let Ok(Response::Links(links)) = world.ask(Request::ListLinks) else { panic!("links") };
    links.into_iter().find(|view| view.id == *link).expect("listed")
}

/// To the nearest Mbit/s.
fn mbit(bandwidth: Bandwidth) -> u64 {
    (bandwidth.bits_per_second() + 500_000) / 1_000_000
}

fn fits(world: &mut World, source: &str, destination: &str, mbit: u64) -> bool {
    match world.ask(Request::PlanCircuit { circuit: wanted(source, destination, mbit) }) {
        Ok(Response::Plan(plan)) => plan.chosen.is_some(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_carries_what_the_interfaces_at_its_ends_do() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    let here = in_lan("a", "b");
    assert_eq!((view(&mut world, &here).load, view(&mut world, &here).available), ([None; 2], None));
    counters.run(&mut world, 20, &[("a", "eth0", 60, 5), ("b", "eth0", 10, 20), ("b", "wlan0", 90, 90)]);
    let view = view(&mut world, &here);
    let load = view.load.map(|load| mbit(load.expect("known")));
    assert_eq!(load, [60, 10], "each way the fuller end; nobody announced wlan0");
    assert_eq!(mbit(view.available.expect("known")), 40);
}

#[test]
fn the_series_of_a_load_is_held_against_the_capacity() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    counters.run(&mut world, 60, &[("a", "eth0", 60, 5), ("b", "eth0", 10, 20)]);
    let of = Subject::Link(in_lan("a", "b"));
    let asked = Request::Series { of, quantity: Quantity::Load, past: Duration::from_secs(60) };
    let Ok(Response::Series(series)) = world.ask(asked) else { panic!("a series") };
    assert_eq!(series.bound, Some(Bandwidth::mbit(100).bits_per_second()));
    let [line] = series.lines.as_slice() else { panic!("{series:?}") };
    let last = line.points.last().expect("measured");
    assert_eq!(mbit(Bandwidth::from_bits_per_second(last.mean)), 60, "the fuller direction: {line:?}");
}

#[test]
fn what_others_take_of_an_unshaped_link_cannot_be_reserved() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    assert!(fits(&mut world, "web", "db", 100), "nobody counts");
    counters.run(&mut world, 20, &[("a", "eth0", 60, 0)]);
    let refused = world.create(wanted("web", "db", 50)).expect_err("40 Mbit/s are left");
    assert_eq!(refused.kind, Kind::Exhausted);
    assert!(refused.what.contains("taken by others now"), "{refused:?}");
    assert!(refused.what.contains(": 0 bit/s reserved, "), "{refused:?}");
    world.create(wanted("web", "db", 30)).expect("that is left");
    let refused = world.create(wanted("app", "log", 20)).expect_err("10 Mbit/s are left").what;
    assert!(refused.contains("of 100 Mbit/s: 30 Mbit/s reserved, "), "{refused}");
    assert!(!fits(&mut world, "web", "nas", 20), "by the same interface");
    assert!(
        fits(&mut world, "db", "nas", 35),
        "the backup comes and goes by c, and nobody else is seen there"
    );
}

#[test]
fn where_hosts_shape_others_take_nothing_of_what_can_be_reserved() {
    let (mut world, mut counters) = (lan(true), Counters::default());
    counters.run(&mut world, 20, &[("a", "eth0", 90, 0)]);
    assert_eq!(mbit(view(&mut world, &in_lan("a", "b")).available.expect("known")), 10);
    world.create(wanted("web", "db", 95)).expect("95 % can be reserved");
}

#[test]
fn what_was_counted_too_long_ago_says_nothing() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    counters.run(&mut world, 20, &[("a", "eth0", 90, 0)]);
    world.pass(Duration::from_secs(27));
    assert!(!fits(&mut world, "web", "db", 50));
    world.pass(Duration::from_secs(4));
    assert!(fits(&mut world, "web", "db", 100));
    assert_eq!(view(&mut world, &in_lan("a", "b")).load, [None; 2]);
}

#[test]
fn a_counter_that_falls_says_nothing_of_that_interval() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    counters.run(&mut world, 20, &[("a", "eth0", 40, 0)]);
    let load = |world: &mut World| mbit(view(world, &in_lan("a", "b")).load[0].expect("known"));
    assert_eq!(load(&mut world), 40);
    counters.interfaces.clear();
    counters.run(&mut world, 1, &[("a", "eth0", 0, 0)]);
    assert_eq!(load(&mut world), 40, "neither nothing nor as much as a counter holds");
    counters.run(&mut world, 10, &[("a", "eth0", 40, 0)]);
    assert_eq!(load(&mut world), 40);
}

/// An agent that was started anew may have a clock behind that of the one before.
#[test]
fn a_clock_that_goes_back_begins_anew() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    counters.run(&mut world, 20, &[("a", "eth0", 40, 0)]);
    let session = world.agents[&name::<NodeName>("a")].session.expect("connected");
    let mut second = |seconds: u64, megabytes: u64| {
        let carried =
            Carried { interface: "eth0".into(), sent_bytes: megabytes * 1_000_000, received_bytes: 0 };
        world.say(
            "a",
            session,
            Say::Telemetry(Telemetry {
                counted: Timestamp(seconds * 1_000_000_000),
                interfaces: vec![carried],
                ..Telemetry::default()
            }),
        );
    };
    second(1, 9_000);
    (2..40).for_each(|seconds| second(seconds, 9_000 + 10 * seconds));
    assert_eq!(mbit(view(&mut world, &in_lan("a", "b")).load[0].expect("known")), 80);
}

#[test]
fn what_a_reserved_circuit_sends_is_not_taken_by_others() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    let id = world.create(wanted("web", "db", 60)).expect("feasible").circuit.id;
    // 10 Mbit/s beside it.
    counters.run_with(&mut world, 30, &[("a", "eth0", 70, 0), ("b", "eth0", 0, 60)], &[("a", id, 60)]);
    assert_eq!(mbit(view(&mut world, &in_lan("a", "b")).available.expect("known")), 30);
    assert!(fits(&mut world, "app", "log", 29) && !fits(&mut world, "app", "log", 32));
    // What it sends beyond its reservation is nobody's.
    counters.run_with(&mut world, 30, &[("a", "eth0", 90, 0), ("b", "eth0", 0, 80)], &[("a", id, 80)]);
    assert!(fits(&mut world, "app", "log", 9) && !fits(&mut world, "app", "log", 12));
}

#[test]
fn a_circuit_takes_its_own_traffic_along() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    let id = world.create(wanted("web", "db", 0)).expect("feasible").circuit.id;
    counters.run_with(&mut world, 30, &[("a", "eth0", 80, 0), ("b", "eth0", 0, 60)], &[("a", id, 60)]);
    let load = |world: &World, other: &str| {
        mbit(world.fabric.topology.link(&in_lan("a", other)).expect("there").load)
    };
    assert_eq!([load(&world, "b"), load(&world, "c")], [80, 80]);
    let circuit = world.fabric.circuits.get(id).expect("there");
    let (path, rate) = (circuit.phase.route().expect("placed").path.clone(), circuit.rate.now());
    world.fabric.topology.carry_less(&path, rate, Bandwidth::ZERO);
    assert_eq!([load(&world, "b"), load(&world, "c")], [20, 20], "the same interface is as much freer");
    world.fabric.topology.carry(&path, rate, Bandwidth::ZERO);
    assert_eq!([load(&world, "b"), load(&world, "c")], [80, 80]);
}

/// a – t1 – b and a – t2 – b, the latter a little longer; all of 500 Mbit/s.
fn two_ways() -> World {
    let mut world = World::new(Settings::default());
    for (one, other, millis) in [("a", "t1", 1), ("t1", "b", 1), ("a", "t2", 3), ("t2", "b", 3)] {
        world.wire(one, other, millis, 500);
    }
    for node in ["a", "b", "t1", "t2"] {
        world.enrol(node);
        world.connect(node);
    }
    for (resource, node) in [("web", "a"), ("db", "b"), ("app", "a"), ("log", "b")] {
        world.register(resource, node);
    }
    world
}

fn chosen(world: &mut World) -> (String, String) {
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: request("web", "db") }) else {
        panic!("plan")
    };
    let best = &plan.candidates[plan.chosen.expect("feasible")];
    let load = best.terms.iter().find(|term| term.name == "load").expect("a term");
    (best.path.to_string(), load.quantity.clone())
}

#[test]
fn a_link_that_others_fill_is_dearer() {
    let (mut world, mut counters) = (two_ways(), Counters::default());
    assert_eq!(chosen(&mut world).0, "a → t1 → b");
    counters.run(&mut world, 20, &[("t1", "eth0", 450, 0)]);
    assert_eq!(chosen(&mut world).0, "a → t2 → b", "their traffic goes the other way, over the same link");
}

#[test]
fn a_link_that_will_be_full_within_the_horizon_is_dearer_now() {
    let (mut world, mut counters) = (two_ways(), Counters::default());
    // 4 Mbit/s more each two seconds: 60 s ahead it is 120 more.
    for step in 0..70 {
        counters.run(&mut world, 1, &[("a", "eth0", 20 + 4 * step, 0)]);
    }
    let view = view(&mut world, &link("a", "t1"));
    let forecast =
        view.forecasts.iter().find(|forecast| forecast.quantity == Quantity::Load).expect("forecast");
    assert!(
        forecast.counts && forecast.mean > view.load[0].expect("known").bits_per_second() + 50_000_000,
        "{view:?}"
    );
    let Ok(Response::Plan(plan)) = world.ask(Request::PlanCircuit { circuit: request("web", "db") }) else {
        panic!("plan")
    };
    let over = |at: &str| {
        let path = plan.candidates.iter().find(|one| one.path.to_string() == format!("a → {at} → b"));
        path.expect("a candidate")
            .terms
            .iter()
            .find(|term| term.name == "load")
            .expect("a term")
            .quantity
            .clone()
    };
    assert!(over("t1").ends_with("of the tightest link (forecast)"), "{}", over("t1"));
    let share: f64 = over("t1").split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    assert!(share > 66.0, "298 of 500 Mbit/s are in use now: {share}");
}

/// Four days on which others take from 10 to 60 Mbit/s of the link of a and b and less again, every four hours; now it is 10.
fn days() -> World {
    const MINUTE: Duration = Duration::from_secs(60);
    let (mut world, mut counters) = (lan(false), Counters::default());
    const DAY: u64 = 86_400_000_000_000;
    let midnight = Timestamp((world.now.0 / DAY + 1) * DAY);
    for minute in 0..4 * 24 * 60 {
        let phase = u64::from(minute % 240);
        let mbit = 10 + phase.min(240 - phase) * 50 / 120 + u64::from(minute % 7 == 0);
        world.now = midnight.plus(MINUTE * minute);
        let sample = Sample { load: [Some(Bandwidth::mbit(mbit)); 2], ..Sample::default() };
        world.fabric.forecasts.see(world.now, &in_lan("a", "b"), &sample);
    }
    counters.run(&mut world, 20, &[("a", "eth0", 10, 0), ("b", "eth0", 0, 10)]);
    world
}

#[test]
fn what_others_take_every_day_at_this_hour_cannot_be_reserved() {
    let mut world = days();
    let shown = view(&mut world, &in_lan("a", "b"));
    assert_eq!(mbit(shown.available.expect("known")), 90);
    // An hour later it is 35.
    assert!(shown.others_expected && (30..=60).contains(&mbit(shown.others)), "{shown:?}");
    let refused = world.create(wanted("web", "db", 75)).expect_err("in an hour they come").what;
    assert!(refused.contains("expected of others within 1 h (99 %)"), "{refused}");
    assert!(!fits(&mut world, "web", "nas", 75), "the interface of a is in that link's load");
    assert!(fits(&mut world, "web", "db", 40));
    world.pass(Duration::from_secs(31));
    assert!(fits(&mut world, "web", "db", 75), "a forecast says nothing of what nobody counts any longer");
}

#[test]
fn a_circuit_of_another_hour_is_admitted_by_reservations_alone() {
    let mut world = days();
    let mut later = wanted("web", "db", 75);
    later.starts = Some(Until::After(Duration::from_secs(1_800)));
    world.create(later.clone()).expect_err("within the hour");
    later.starts = Some(Until::After(Duration::from_secs(2 * 3_600)));
    world.create(later).expect("of that time the bound says nothing");
}

#[test]
fn a_circuit_whose_path_failed_goes_by_reservations_alone_when_others_fill_the_rest() {
    let (mut world, mut counters) = (two_ways(), Counters::default());
    let full = [("a", "eth1", 450, 0), ("b", "eth1", 0, 450)];
    counters.run(&mut world, 20, &full);
    let id = world.create(wanted("web", "db", 300)).expect("over t1").circuit.id;
    let shown = world.view(id).expect("there").circuit;
    assert_eq!((paths(&shown).0.as_str(), shown.backup.is_some()), ("a → t1 → b", false));
    assert!(shown.protection.contains("taken by others now"), "{}", shown.protection);
    world.create(wanted("app", "log", 200)).expect("200 are left over t1");
    let refused = world.create(wanted("app", "db", 100)).expect_err("others fill the other way");
    assert_eq!(refused.kind, Kind::Exhausted, "{refused:?}");
    world.disconnect("t1");
    counters.run(&mut world, 30, &full);
    let shown = world.view(id).expect("there").circuit;
    assert_eq!(paths(&shown).0, "a → t2 → b", "{shown:?}");
    let Ok(Response::Plan(plan)) = world.ask(Request::ExplainCircuit { circuit: CircuitRef::Id(id) }) else {
        panic!("a decision")
    };
    let said = plan.warnings.iter().find(|said| said.starts_with("placed by what is reserved alone: "));
    assert!(said.is_some_and(|said| said.contains("taken by others now")), "{:?}", plan.warnings);
}

#[test]
fn circuits_that_stand_stay_when_others_come_and_over_a_restart() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    let id = world.create(wanted("web", "db", 60)).expect("feasible").circuit.id;
    let before = view(&mut world, &in_lan("a", "b")).reserved;
    for _ in 0..2 {
        counters.run(&mut world, 40, &[("a", "eth0", 95, 95), ("b", "eth0", 95, 95)]);
        assert_eq!(world.view(id).expect("there").circuit.state, CircuitState::Active);
        assert_eq!(view(&mut world, &in_lan("a", "b")).reserved, before);
        world.restart();
        assert_eq!(view(&mut world, &in_lan("a", "b")).reserved, before);
    }
}

#[test]
fn a_slow_link_of_a_fast_interface_has_free_what_the_interface_leaves() {
    let (mut world, mut counters) = (lan(false), Counters::default());
    let values = LinkValues {
        capacity: Some(Bandwidth::mbit(20)),
        rtt: Some(Latency::from_millis(1)),
        ..LinkValues::default()
    };
    world.ask(Request::SetLink { link: in_lan("a", "b"), values }).expect("known");
    counters.run(&mut world, 20, &[("a", "eth0", 70, 0)]);
    assert_eq!(
        mbit(view(&mut world, &in_lan("a", "b")).available.expect("known")),
        20,
        "30 are free of the interface"
    );
    counters.run(&mut world, 20, &[("a", "eth0", 95, 0)]);
    assert_eq!(mbit(view(&mut world, &in_lan("a", "b")).available.expect("known")), 5);
}
