//! Many groups and many paths.
use crate::world::*;
use agent_core::protect::{Began, Event, Guard, Order};
use proto_model::PathId;
use proto_model::report::Way;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_group_of_a_host_leaves_a_dead_path() {
    let mut world = World::new(1, |_| Behaviour::millis(2), |_| Behaviour::millis(4));
    for group in 2..16_384 {
        let max_loss = Some(proto_model::Loss::from_ppm(10_000 + group % 4));
        world.order(Order::Guard { group, guard: Guard { max_loss, ..guard() }, began: Began::Now });
    }
    world.run(SECOND);
    world.handle(Event::Carrier { local: local(PRIMARY), up: false });
    assert_eq!(world.groups.values().filter(|way| **way == Way::Backup).count(), 16_383);
}

#[test]
fn a_host_sends_ten_thousand_path_probes_a_second_at_most() {
    for (paths, least, most) in [(10, 990, 1_010), (100, 9_900, 10_100), (2_000, 9_900, 10_100)] {
        let mut world = World::empty(1);
        (1..=paths).for_each(|path| world.path(PathId(path), |_| Behaviour::millis(2)));
        world.run(SECOND);
        world.sent = 0;
        world.run(SECOND);
        assert!((least..=most).contains(&world.sent), "{paths} paths: {} probes", world.sent);
    }
}

#[test]
fn a_path_is_probed_on_as_another_circuit() {
    let mut world = World::new(1, |_| Behaviour::millis(2), |_| Behaviour::millis(4));
    world.run(5 * SECOND);
    world.probe_as(PRIMARY, &[other(PRIMARY, 1)]);
    world.run(5 * SECOND);
    assert!(world.moves.is_empty(), "{:?}", world.moves);
}
