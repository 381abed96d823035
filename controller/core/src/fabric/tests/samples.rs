//! Of each circuit it is kept how it ran: what its ends sent, and what was measured of the path that it was on.
use super::protection::switch;
use super::reroute::{measured, seconds};
use crate::fabric::Settings;
use crate::fabric::world::{World, name, request};
use proto_model::desired::Side;
use proto_model::insight::{Line, Origin, Role, Series, Subject};
use proto_model::report::{Say, Telemetry, Traffic, Way};
use proto_model::request::{CircuitRef, Request, Response};
use proto_model::topology::Quantity;
use proto_model::{Bandwidth, CircuitId, Kind, Refusal, Timestamp};
use std::time::Duration;

const MEGABIT: u64 = 1_000_000 / 8;
const EVEN: [u64; 3] = [2_000, 10_000, 20_000];

/// What the ends of a circuit send, Mbit/s each way, and what they have sent.
struct Ends {
    id: CircuitId,
    sent: [u64; 2],
    /// When agents count; each by a clock of its own.
    clocks: [u64; 2],
}

impl Ends {
    fn of(id: CircuitId) -> Self {
        Self { id, sent: [0; 2], clocks: [7_000, 900_000] }
    }

    /// Both agents report every two seconds; none: that agent says nothing.
    fn run(&mut self, world: &mut World, count: usize, mbit: [Option<u64>; 2]) {
        for _ in 0..count {
            for (end, node) in ["a", "b"].into_iter().enumerate() {
                self.clocks[end] += 2;
                let Some(mbit) = mbit[end] else { continue };
                self.sent[end] += 2 * mbit * MEGABIT;
                let traffic = Traffic { sent_bytes: self.sent[end], ..Traffic::default() };
                // Counters that did not move are not told.
                let traffic = if mbit == 0 { Vec::new() } else { vec![(self.id, traffic)] };
                let counted = Timestamp(self.clocks[end] * 1_000_000_000);
                let session = world.agents[&name(node)].session.expect("connected");
                world.say(
                    node,
                    session,
                    Say::Telemetry(Telemetry { counted, traffic, ..Telemetry::default() }),
                );
            }
            seconds(world, 2, EVEN);
        }
    }
}

fn asked(world: &mut World, id: CircuitId, quantity: Quantity, past: u64) -> Result<Series, Refusal> {
    let of = Subject::Circuit(CircuitRef::Id(id));
    let answer = world.ask(Request::Series { of, quantity, past: Duration::from_secs(past) });
    answer.map(|answer| match answer {
        Response::Series(series) => series,
        other => panic!("{other:?}"),
    })
}

fn loads(world: &mut World, id: CircuitId, past: u64) -> [Line; 2] {
    let series = asked(world, id, Quantity::Load, past).expect("there");
    <[Line; 2]>::try_from(series.lines).expect("forth and back")
}

fn mbit(line: &Line) -> Vec<u64> {
    line.points.iter().map(|point| (point.mean + 500_000) / 1_000_000).collect()
}

/// Over three ways, with a history of two minutes.
fn running() -> (World, CircuitId) {
    let mut world = measured(Settings::default());
    seconds(&mut world, 15, EVEN);
    let mut wanted = request("web", "db");
    wanted.bounds.bandwidth = Bandwidth::mbit(50);
    let id = world.create(wanted).expect("feasible").circuit.id;
    (world, id)
}

#[test]
fn what_a_circuit_sends_each_way_is_kept_beside_what_is_reserved_for_it() {
    let (mut world, id) = running();
    Ends::of(id).run(&mut world, 60, [Some(40), Some(4)]);
    let series = asked(&mut world, id, Quantity::Load, 60).expect("there");
    assert_eq!((series.bound, series.step), (Some(50_000_000), Duration::from_secs(2)));
    let [forth, back] = series.lines.as_slice() else { panic!("{series:?}") };
    assert_eq!((forth.role, back.role, forth.from), (Role::Forth, Role::Back, Origin::Measured));
    assert_eq!([forth, back].map(|line| line.path.to_string()), ["a → t1 → b", "b → t1 → a"]);
    for (line, expected) in [(forth, 40), (back, 4)] {
        assert!((29..=31).contains(&line.points.len()), "{} points in a minute", line.points.len());
        assert!(mbit(line).iter().all(|mbit| *mbit == expected), "{:?}", mbit(line));
    }
    let minutes = loads(&mut world, id, 600);
    assert!(mbit(&minutes[0]).iter().all(|mbit| *mbit == 40) && minutes[0].points.len() == 3, "{minutes:?}");
}

#[test]
fn an_idle_circuit_sends_nothing_and_of_a_silent_agent_nothing_is_known() {
    let (mut world, id) = running();
    let mut ends = Ends::of(id);
    ends.run(&mut world, 20, [Some(40), Some(4)]);
    ends.run(&mut world, 20, [Some(0), Some(4)]);
    let [forth, back] = loads(&mut world, id, 36);
    assert!(mbit(&forth).iter().all(|mbit| *mbit == 0) && forth.points.len() >= 17, "{forth:?}");
    assert!(mbit(&back).iter().all(|mbit| *mbit == 4), "{back:?}");
    ends.run(&mut world, 20, [None, Some(4)]);
    let [forth, back] = loads(&mut world, id, 36);
    assert_eq!((forth.points.len(), forth.from), (0, Origin::Unknown), "a gap is no zero");
    assert!(back.points.len() >= 17, "{back:?}");
    // What it sent meanwhile is of no step; nor is what a counter says that began anew.
    ends.sent[0] += 1_000_000 * MEGABIT;
    ends.run(&mut world, 5, [Some(40), Some(4)]);
    ends.sent[0] = 0;
    ends.run(&mut world, 5, [Some(40), Some(4)]);
    let [forth, _] = loads(&mut world, id, 20);
    assert!(mbit(&forth).iter().all(|mbit| *mbit == 40), "{:?}", mbit(&forth));
    assert!((7..=9).contains(&forth.points.len()), "{:?}", mbit(&forth));
}

#[test]
fn a_circuit_ran_over_its_backup_while_an_end_sent_there() {
    let (mut world, id) = running();
    seconds(&mut world, 60, EVEN);
    switch(&mut world, "a", id, Side::Source, Way::Backup);
    seconds(&mut world, 30, EVEN);
    switch(&mut world, "a", id, Side::Source, Way::Primary);
    seconds(&mut world, 30, EVEN);
    let series = asked(&mut world, id, Quantity::Rtt, 100).expect("there");
    let [own, path, ..] = series.lines.as_slice() else { panic!("{series:?}") };
    assert_eq!((own.role, path.role), (Role::Circuit, Role::Path));
    let count = |line: &Line, millis: u64| {
        let near = |point: &&proto_model::insight::Point| point.mean.abs_diff(millis * 1_000_000) < 10_000;
        line.points.iter().filter(near).count()
    };
    assert!((14..=16).contains(&count(own, 10)), "half a minute on the backup: {own:?}");
    assert_eq!(count(own, 2) + count(own, 10), own.points.len(), "{own:?}");
    assert_eq!(count(path, 2), path.points.len(), "the path itself was as before: {path:?}");
    assert!(!own.forecasts.is_empty() && own.forecasts == path.forecasts);
    let loss = asked(&mut world, id, Quantity::Loss, 100).expect("there");
    assert!(loss.lines[0].points.iter().all(|point| point.most == 0) && loss.lines[0].points.len() >= 49);
}

#[test]
fn a_restart_keeps_how_circuits_ran_and_who_is_gone_is_forgotten() {
    let (mut world, id) = running();
    world.register("log", "b");
    let other = world.create(request("web", "log")).expect("feasible").circuit.id;
    Ends::of(id).run(&mut world, 60, [Some(40), Some(4)]);
    let before = loads(&mut world, id, 600);
    let history = world.fabric.history().to_bytes();
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(other) }).expect("there");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.fabric.ran.keys().collect::<Vec<_>>(), [&id], "what is closed leaves nothing");
    world.restart();
    assert_eq!(world.fabric.ran.keys().len(), 0);
    let now = world.now;
    world.fabric.recall(&history, now).expect("just written");
    assert_eq!(world.fabric.ran.keys().collect::<Vec<_>>(), [&id], "nor does what was closed since");
    let after = loads(&mut world, id, 600);
    assert_eq!(mbit(&after[0]), mbit(&before[0]));
    assert_eq!(after[0].points.len(), before[0].points.len());
}

#[test]
fn beyond_the_bound_the_refusal_names_it() {
    let mut settings = Settings::default();
    settings.limits.histories = 1;
    let mut world = measured(settings);
    seconds(&mut world, 15, EVEN);
    world.register("log", "b");
    let [first, second] =
        ["db", "log"].map(|to| world.create(request("web", to)).expect("feasible").circuit.id);
    seconds(&mut world, 10, EVEN);
    assert!(asked(&mut world, first, Quantity::Load, 60).is_ok());
    let refusal = asked(&mut world, second, Quantity::Load, 60).expect_err("no room");
    assert_eq!(refusal.kind, Kind::Exhausted);
    assert!(refusal.to_string().contains("ran of 1 circuit"), "{refusal}");
    let roles = asked(&mut world, second, Quantity::Rtt, 60).expect("its paths are known");
    assert_eq!(roles.lines[0].role, Role::Path);
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(first) }).expect("there");
    seconds(&mut world, 10, EVEN);
    assert!(asked(&mut world, second, Quantity::Load, 60).is_ok(), "the other one made room");
}
