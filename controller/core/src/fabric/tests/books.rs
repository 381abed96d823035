//! Long random lives with bandwidth: whatever fails, no link is promised more than it has.
use crate::circuit::Circuit;
use crate::fabric::Settings;
use crate::fabric::world::{World, name, request};
use proto_model::request::{CircuitRef, Event, Request};
use proto_model::{Bandwidth, CircuitId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ends that may be joined by a circuit.
const ENDS: [&str; 3] = ["a", "b", "c"];
const TRANSIT: [&str; 4] = ["t1", "t2", "t3", "t4"];
/// Each end is joined with each transit host, and these with each other in a ring.
const WIDTHS: [u64; 5] = [100, 200, 300, 400, 1000];
/// Of one life.
const OPERATIONS: usize = 2_000;

/// How often what happened.
type Counts = BTreeMap<&'static str, usize>;

/// xorshift64 (Marsaglia 2003): the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

fn world(numbers: &mut Numbers) -> World {
    let mut world = World::new(Settings::default());
    let mut width = || WIDTHS[numbers.below(WIDTHS.len())];
    for end in ENDS {
        for transit in TRANSIT {
            world.wire(end, transit, 1 + width() / 100, width());
        }
    }
    for at in 0..TRANSIT.len() {
        world.wire(TRANSIT[at], TRANSIT[(at + 1) % TRANSIT.len()], 1, width());
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

fn resource(numbers: &mut Numbers) -> String {
    format!("{}{}", ENDS[numbers.below(ENDS.len())], numbers.below(5))
}

/// Returns the operation's kind, for counting.
fn operate(world: &mut World, numbers: &mut Numbers) -> &'static str {
    let transit = TRANSIT[numbers.below(TRANSIT.len())];
    match numbers.below(20) {
        0..=9 => {
            let mut wanted = request(&resource(numbers), &resource(numbers));
            wanted.bounds.bandwidth = Bandwidth::mbit(10 * (1 + numbers.below(20)) as u64);
            wanted.priority = numbers.below(3) as u8;
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
        _ => {
            world.pass(Duration::from_millis(700));
            "passed"
        }
    }
}

fn live(seed: u64) -> Counts {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = world(&mut numbers);
    let mut counts = Counts::new();
    for at in 0..OPERATIONS {
        *counts.entry(operate(&mut world, &mut numbers)).or_default() += 1;
        world.check_books();
        note_moves(&mut world, &mut counts);
        if at % 50 == 0 {
            world.check();
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
fn all(lives: usize) {
    let counts: Vec<_> = std::thread::scope(|scope| {
        let half = |from: usize| {
            scope
                .spawn(move || (from..lives).step_by(2).map(|seed| live(seed as u64 + 1)).collect::<Vec<_>>())
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
        "protected",
        "promoted",
        "gave way",
    ];
    for what in whats {
        let sum: usize = counts.iter().filter_map(|counts| counts.get(what)).sum();
        println!("{what}: {sum}");
        assert!(sum >= lives, "{what}: {sum}: the lives are too tame to say anything");
    }
}

#[test]
fn no_link_is_over_booked_by_any_single_failure_in_100_000_operations() {
    all(50);
}
