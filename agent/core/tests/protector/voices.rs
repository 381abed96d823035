//! A path is not its circuits: one that is deleted, or whose far end stopped, does not make it look dead.
use crate::world::*;
use agent_core::protect::Order;
use proto_model::report::Way;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Both ways are probed as three circuits.
fn three(seed: u64, delay: Duration) -> World {
    let mut world = World::new(seed, move |_| Behaviour::delay(delay), move |_| Behaviour::delay(delay));
    for path in [PRIMARY, BACKUP] {
        world.probe_as(path, &[session(path), other(path, 1), other(path, 2)]);
    }
    world.run(2 * SECOND);
    world
}

#[test]
fn a_far_end_that_stops_moves_nobody_else() {
    for (seed, millis) in [(1, 0), (2, 1), (3, 5), (4, 20), (5, 80), (6, 300)] {
        let mut world = three(seed, Duration::from_millis(millis));
        // The same circuit stands for both ways; then the next one goes, too.
        for gone in [[session(PRIMARY), session(BACKUP)], [other(PRIMARY, 2), other(BACKUP, 2)]] {
            world.silent.extend(gone.map(|session| session.receive));
            world.run(60 * SECOND);
            assert!(world.moves.is_empty(), "{millis} ms: {:?}", world.moves);
        }
        // What comes back is no news either.
        world.silent.clear();
        world.run(60 * SECOND);
        assert!(world.moves.is_empty(), "{millis} ms: {:?}", world.moves);
    }
}

#[test]
fn a_far_end_that_stops_on_a_lossy_path_moves_nobody_else() {
    for seed in 0..50 {
        let mut world = World::new(
            seed,
            |_| Behaviour::millis(3).lossy(100_000),
            |_| Behaviour::millis(3).lossy(100_000),
        );
        for path in [PRIMARY, BACKUP] {
            world.probe_as(path, &[session(path), other(path, 1), other(path, 2)]);
        }
        world.run(30 * SECOND);
        world.moves.clear();
        world.silent.extend([session(PRIMARY).receive, session(BACKUP).receive]);
        world.run(60 * SECOND);
        assert!(world.moves.is_empty(), "seed {seed}: {:?}", world.moves);
    }
}

#[test]
fn a_path_that_dies_is_left_as_soon_as_with_one_circuit_on_it() {
    for seed in 0..300 {
        let mut chance = Chance::new(seed);
        let delay = Duration::from_micros(100 + chance.below(4_700));
        let when = SECOND + Duration::from_micros(chance.below(20_000));
        let dies = move |at: Duration| {
            let now = Behaviour::delay(delay);
            if at < when { now } else { now.hole() }
        };
        let mut world = World::new(seed, dies, |_| Behaviour::millis(8));
        world.probe_as(PRIMARY, &[session(PRIMARY), other(PRIMARY, 1), other(PRIMARY, 2)]);
        world.run(3 * SECOND);
        assert_eq!(world.way(), Way::Backup);
        let took = world.moves[0].at - when;
        assert!(took <= Duration::from_millis(100), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_path_dies_and_comes_back_although_the_circuit_that_spoke_is_gone() {
    let mut world = World::new(
        1,
        |at| if at.as_secs() == 5 { Behaviour::millis(2).hole() } else { Behaviour::millis(2) },
        |_| Behaviour::millis(4),
    );
    world.probe_as(PRIMARY, &[session(PRIMARY), other(PRIMARY, 1)]);
    world.run(SECOND);
    world.silent.insert(session(PRIMARY).receive);
    world.run(60 * SECOND);
    let moves: Vec<Way> = world.moves.iter().map(|m| m.to).collect();
    assert_eq!(moves, [Way::Backup, Way::Primary], "{:?}", world.moves);
}

#[test]
fn a_circuit_that_is_deleted_moves_nobody_else() {
    for near_first in [false, true] {
        let mut world = three(1, Duration::from_millis(3));
        let gone = [session(PRIMARY).receive, session(BACKUP).receive];
        if !near_first {
            world.silent.extend(gone);
            world.run(SECOND);
        }
        for path in [PRIMARY, BACKUP] {
            world.probe_as(path, &[other(path, 1), other(path, 2)]);
        }
        world.silent.extend(gone);
        world.run(60 * SECOND);
        assert!(world.moves.is_empty(), "near first {near_first}: {:?}", world.moves);
    }
}

#[test]
fn a_dead_path_costs_no_more_probes_than_a_live_one() {
    let mut world = three(1, Duration::from_millis(2));
    world.sent = 0;
    world.run(10 * SECOND);
    let alive = world.sent;
    for path in [PRIMARY, BACKUP] {
        world.silent.extend([session(path), other(path, 1), other(path, 2)].map(|session| session.receive));
    }
    world.run(SECOND);
    world.sent = 0;
    world.run(10 * SECOND);
    assert_eq!(world.sent, alive);
    world.order(Order::Forget(PRIMARY));
    world.order(Order::Forget(BACKUP));
}
