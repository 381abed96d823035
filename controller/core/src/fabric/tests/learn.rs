//! Forecasts learn again what was measured before a restart, while the fabric serves.
use super::links::{answered, measure};
use crate::fabric::world::{World, link};
use crate::forecast::Quantity;
use crate::io::Input;
use crate::telemetry::{self, RoundTrip, Sample, Store};
use proto_model::Latency;
use std::time::Duration;

/// Of so many links, over two hours.
fn history(world: &World, links: usize) -> Vec<u8> {
    let rtt = Latency::from_millis(20);
    let trip = Some(RoundTrip { min: rtt, mean: rtt, max: rtt });
    let mut store = Store::default();
    for minute in 0..120 {
        let now = world.now.plus(Duration::from_secs(60) * minute);
        for number in 0..links {
            store.see(now, &link("hub", &format!("n{number}")), &Sample { rtt: trip, ..Sample::default() });
        }
    }
    telemetry::to_bytes(&store, &Store::default())
}

fn is_known(world: &World) -> bool {
    let known = world.fabric.forecasts.outlook(&link("hub", "n0"), Quantity::Rtt, Duration::from_secs(600));
    known.is_some()
}

#[test]
fn a_restart_learns_again_a_portion_per_tick_and_by_itself() {
    let mut world = World::diamond();
    let history = history(&world, 200);
    world.now = world.now.plus(Duration::from_secs(7_200));
    let now = world.now;
    assert_eq!(world.fabric.recall(&history, now), Ok(200));
    let mut told = vec![world.fabric.learning().expect("much to learn")];
    assert!(!is_known(&world));
    while let Some(share) = world.fabric.learning() {
        let due = world.fabric.next_deadline().expect("a next portion");
        assert!(due <= world.now.plus(Duration::from_secs(1)), "it goes on soon");
        world.now = world.now.max(due);
        world.fabric.handle(Input::Tick, world.now);
        told.push(share);
    }
    assert!(told.len() > 5 && told.is_sorted(), "{told:?}");
    assert!(is_known(&world));
}

#[test]
fn a_pause_is_caught_up_with_by_itself_too() {
    let mut world = World::diamond();
    let history = history(&world, 200);
    world.now = world.now.plus(Duration::from_secs(7_200));
    let now = world.now;
    world.fabric.recall(&history, now).expect("well-formed");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.fabric.learning(), None);
    world.now = world.now.plus(Duration::from_secs(3_600));
    measure(&mut world, "a", "a", "t1", answered(10_000, 0));
    assert!(world.fabric.learning().is_some());
    world.pass(Duration::from_secs(20));
    assert_eq!(world.fabric.learning(), None);
}
