//! Long random lives with bandwidth: whatever fails, no link is promised more than it has.
use super::numbers::Numbers;
use crate::circuit::Circuit;
use crate::fabric::Settings;
use crate::fabric::world::{World, link, name, request};
use proto_model::circuit::{CircuitState, Path};
use proto_model::desired::Side;
use proto_model::report::{Carried, Say, Switch, Telemetry, Way};
use proto_model::request::{CircuitRef, CircuitRequest, Event, Request};
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Bandwidth, CircuitId, Latency, Until};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ends that may be joined by a circuit.
const ENDS: [&str; 3] = ["a", "b", "c"];
const TRANSIT: [&str; 4] = ["t1", "t2", "t3", "t4"];
/// Each end is joined with each transit host, and these with each other in a ring.
const WIDTHS: [u64; 5] = [100, 200, 300, 400, 1000];
/// Of one life.
const OPERATIONS: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Ends stay on their paths, links keep their capacity: then nothing is ever over-booked.
    Calm,
    /// Ends turn, and links become narrower: then what is in use is kept, and its links are shown to be over-booked.
    Wild,
}

/// How hosts are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wiring {
    /// Each link by an interface of its own.
    Cables,
    /// Each host by one interface: all links of it share that, and some of them may be queued on.
    OneInterface,
}

/// How often what happened.
type Counts = BTreeMap<&'static str, usize>;

fn world(numbers: &mut Numbers, wiring: Wiring) -> World {
    let mut world = World::new(Settings::default());
    match wiring {
        Wiring::Cables => cables(&mut world, numbers),
        Wiring::OneInterface => {
            for (at, node) in ENDS.into_iter().chain(TRANSIT).enumerate() {
                let width = WIDTHS[numbers.below(WIDTHS.len())];
                world.attach(node, at as u8 + 1, width, numbers.below(2) == 0);
            }
            // Ends reach each other over transit hosts only, so that these fail circuits.
            for (one, other) in [("a", "b"), ("a", "c"), ("b", "c")] {
                let link = LinkId::new(name(one), name(other), name("lan")).expect("two ends");
                let values = LinkValues { disabled: true, ..LinkValues::default() };
                world.ask(Request::SetLink { link, values }).expect("both are known");
            }
        }
    }
    for node in ENDS.into_iter().chain(TRANSIT) {
        world.enrol(node);
        world.connect(node);
    }
    for end in ENDS {
        for number in 0..5 {
            world.register(&format!("{end}{number}"), end);
        }
    }
    world
}

fn cables(world: &mut World, numbers: &mut Numbers) {
    let mut width = || WIDTHS[numbers.below(WIDTHS.len())];
    for end in ENDS {
        for transit in TRANSIT {
            world.wire(end, transit, 1 + width() / 100, width());
        }
    }
    for at in 0..TRANSIT.len() {
        world.wire(TRANSIT[at], TRANSIT[(at + 1) % TRANSIT.len()], 1, width());
    }
}

fn resource(numbers: &mut Numbers) -> String {
    format!("{}{}", ENDS[numbers.below(ENDS.len())], numbers.below(5))
}

/// Some start later, some end by themselves.
fn limit(wanted: &mut CircuitRequest, numbers: &mut Numbers) {
    let mut span = |most| Until::After(Duration::from_secs(1 + numbers.below(most) as u64));
    let (starts, until) = (span(40), span(80));
    match numbers.below(6) {
        0 => wanted.starts = Some(starts),
        1 => (wanted.starts, wanted.until) = (Some(starts), Some(until)),
        2 => wanted.until = Some(until),
        _ => {}
    }
}

/// Returns the operation's kind, for counting.
fn operate(world: &mut World, numbers: &mut Numbers, life: Life) -> &'static str {
    let transit = TRANSIT[numbers.below(TRANSIT.len())];
    match numbers.below(if life == Life::Calm { 23 } else { 26 }) {
        0..=9 => {
            let mut wanted = request(&resource(numbers), &resource(numbers));
            wanted.bounds.bandwidth = Bandwidth::mbit(10 * (1 + numbers.below(20)) as u64);
            wanted.priority = numbers.below(3) as u8;
            if life == Life::Calm {
                limit(&mut wanted, numbers);
            }
            if world.create(wanted).is_ok() { "created" } else { "refused" }
        }
        10..=15 => {
            let ids: Vec<CircuitId> = world.fabric.circuits.iter().map(|circuit| circuit.id).collect();
            if !ids.is_empty() {
                let circuit = CircuitRef::Id(ids[numbers.below(ids.len())]);
                world.ask(Request::DeleteCircuit { circuit }).expect("it is there");
            }
            "deleted"
        }
        16 => {
            world.disconnect(transit);
            world.pass(Duration::from_secs(31));
            "a host failed"
        }
        17 => {
            // One of its cables is out, or all are in again.
            let all = world.underlays[&name(transit)].clone();
            let which = numbers.below(all.len());
            world.underlays.get_mut(&name(transit)).expect("wired").remove(which);
            world.connect(transit);
            world.underlays.insert(name(transit), all);
            "a link failed"
        }
        18 => {
            world.connect(transit);
            "repaired"
        }
        20 => {
            let agent = world.agents.get_mut(&name(transit)).expect("agent");
            agent.mute = !agent.mute;
            if !agent.mute {
                world.report(&name(transit));
            }
            "mute or late"
        }
        21 => {
            world.restart();
            "restarted"
        }
        22 => {
            world.ask(Request::RemoveNode { node: name(transit) }).expect("no resource is there");
            world.enrol(transit);
            let agent = world.agents.get_mut(&name(transit)).expect("agent");
            *agent = Default::default();
            world.connect(transit);
            "removed"
        }
        19 => {
            count(world, numbers);
            world.pass(Duration::from_millis(700));
            "counted"
        }
        23 | 24 => turn(world, numbers),
        25 => {
            let end = ENDS[numbers.below(ENDS.len())];
            let values = LinkValues {
                rtt: Some(Latency::from_millis(1)),
                capacity: Some(Bandwidth::mbit(WIDTHS[numbers.below(WIDTHS.len())])),
                ..LinkValues::default()
            };
            world.ask(Request::SetLink { link: link(end, transit), values }).expect("known");
            "another capacity"
        }
        _ => {
            world.pass(Duration::from_millis(700));
            "passed"
        }
    }
}

/// Others take anything from nothing to all of a host's interfaces.
fn count(world: &mut World, numbers: &mut Numbers) {
    let node = ENDS.into_iter().chain(TRANSIT).nth(numbers.below(7)).expect("seven");
    let Some(session) = world.agents[&name(node)].session else { return };
    let since = (world.now.0 - 1_700_000_000_000_000_000) / 1_000;
    let carried = (0..6).map(|at| Carried {
        interface: format!("eth{at}"),
        sent_bytes: since * numbers.below(64) as u64,
        received_bytes: since,
    });
    let interfaces = carried.collect();
    world.say(
        node,
        session,
        Say::Telemetry(Telemetry { counted: world.now, interfaces, ..Telemetry::default() }),
    );
}

/// An end of a circuit turns, as its agent says.
fn turn(world: &mut World, numbers: &mut Numbers) -> &'static str {
    let ready = |circuit: &&Circuit| {
        // Before it is open its ends send nothing.
        let route = circuit.phase.route().filter(|_| circuit.phase.opened());
        route.and_then(|route| route.backup.as_ref()).is_some_and(|backup| backup.ready)
    };
    let circuits: Vec<_> = world.fabric.circuits.iter().filter(ready).collect();
    if circuits.is_empty() {
        return "passed";
    }
    let circuit = circuits[numbers.below(circuits.len())];
    let nodes = &circuit.phase.route().expect("placed").path.nodes;
    let ends = [(Side::Source, &nodes[0]), (Side::Destination, &nodes[nodes.len() - 1])];
    let (id, (side, node)) = (circuit.id, ends[numbers.below(2)]);
    let (node, to) = (node.clone(), [Way::Primary, Way::Backup][numbers.below(2)]);
    let session = world.agents[&node].session.expect("ends are in contact");
    let said = Switch { circuit: id, side, to, why: "lost".into(), at: world.now };
    let mut before = in_use(world);
    if to == Way::Primary {
        // The last end that leaves a backup frees it.
        before.remove(&id);
    }
    world.say(node.as_str(), session, Say::Switched(vec![said]));
    keeps(world, &before);
    "turned"
}

/// Circuits of which an end sends by the backup, with both ways.
fn in_use(world: &World) -> BTreeMap<CircuitId, (Path, Path)> {
    let used = world.fabric.circuits.iter().filter(|circuit| !circuit.protection.on_backup.is_empty());
    let ways = used.filter_map(|circuit| {
        let route = circuit.phase.route()?;
        Some((circuit.id, (route.path.clone(), route.second()?.path.clone())))
    });
    ways.collect()
}

/// A way that ends send by is not taken away, unless the circuit has moved, or lost all and was placed anew.
fn keeps(world: &World, before: &BTreeMap<CircuitId, (Path, Path)>) {
    let suspended = |id: CircuitId| {
        let lost = |event: &Event| match event {
            Event::Circuit(view) => {
                view.circuit.id == id && matches!(view.circuit.state, CircuitState::Suspended { .. })
            }
            Event::CircuitGone { .. }
            | Event::Resource(_)
            | Event::ResourceGone(_)
            | Event::Node(_)
            | Event::NodeGone(_) => false,
        };
        world.events.iter().any(lost)
    };
    for (id, (path, backup)) in before.iter().filter(|(id, _)| !suspended(**id)) {
        let Some(route) = world.fabric.circuits.get(*id).and_then(|circuit| circuit.phase.route()) else {
            continue;
        };
        let kept = route.path != *path || route.second().is_some_and(|lane| lane.path == *backup);
        assert!(kept, "{id} sends by {backup}, which was taken away: {}", route.protection);
    }
}

fn live(seed: u64, life: Life, wiring: Wiring) -> Counts {
    let mut numbers = Numbers::of(seed);
    let mut world = world(&mut numbers, wiring);
    let mut counts = Counts::new();
    for at in 0..OPERATIONS {
        let before = in_use(&world);
        let what = operate(&mut world, &mut numbers, life);
        *counts.entry(what).or_default() += 1;
        // A way whose link or host is gone cannot be kept, and agents of this world do not say again which way they send.
        // What turned has been looked at already.
        if !["a link failed", "removed", "deleted", "repaired", "restarted", "turned"].contains(&what) {
            keeps(&world, &before);
        }
        match life {
            Life::Calm => world.check_books(),
            Life::Wild => world.check_books_in_use(),
        }
        note_moves(&mut world, &mut counts);
        if at % 50 == 0 {
            world.check_wires();
            let protected = |circuit: &&Circuit| circuit.phase.route().is_some_and(|r| r.backup.is_some());
            *counts.entry("protected").or_default() += world.fabric.circuits.iter().filter(protected).count();
        }
    }
    for id in world.fabric.circuits.iter().map(|circuit| circuit.id).collect::<Vec<_>>() {
        world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(id) }).expect("there");
    }
    for view in world.fabric.topology.views() {
        assert!(view.reserved.is_zero(), "{} keeps {}", view.id, view.reserved);
    }
    world.check_books();
    counts
}

fn note_moves(world: &mut World, counts: &mut Counts) {
    for event in world.events.drain(..) {
        let Event::Circuit(view) = event else { continue };
        for (words, what) in [("has become the path", "promoted"), ("made room", "gave way")] {
            if view.circuit.protection.contains(words) {
                *counts.entry(what).or_default() += 1;
            }
        }
    }
}

/// Half of the lives on each of two threads.
fn all(lives: usize, life: Life, wiring: Wiring) {
    let counts: Vec<_> = std::thread::scope(|scope| {
        let half = |from: usize| {
            scope.spawn(move || {
                (from..lives).step_by(2).map(|seed| live(seed as u64 + 1, life, wiring)).collect::<Vec<_>>()
            })
        };
        let halves = [half(0), half(1)];
        halves.into_iter().flat_map(|half| half.join().expect("no life was over-booked")).collect()
    });
    let whats = [
        "created",
        "refused",
        "deleted",
        "a host failed",
        "a link failed",
        "repaired",
        "mute or late",
        "counted",
        "restarted",
        "removed",
        "protected",
        "promoted",
        "gave way",
    ];
    let wild = ["turned", "another capacity"];
    for what in whats.into_iter().chain(wild.into_iter().filter(|_| life == Life::Wild)) {
        let sum: usize = counts.iter().filter_map(|counts| counts.get(what)).sum();
        println!("{what}: {sum}");
        assert!(sum >= lives, "{what}: {sum}: the lives are too tame to say anything");
    }
}

#[test]
fn no_link_is_over_booked_by_any_single_failure_in_100_000_operations() {
    all(50, Life::Calm, Wiring::Cables);
}

#[test]
fn no_way_that_an_end_sends_by_is_taken_away_in_20_000_operations() {
    all(10, Life::Wild, Wiring::Cables);
}

#[test]
fn no_interface_is_over_booked_by_any_single_failure_in_100_000_operations() {
    all(50, Life::Calm, Wiring::OneInterface);
}
