//! Dead paths: left within 100 ms, never for a stall of the thread, and not returned to too early.
use crate::world::*;
use agent_core::protect::{Began, Event, Guard, Order};
use proto_model::report::Way;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Dies at `when`, for ever.
fn dies(delay: Duration, when: Duration) -> impl Fn(Duration) -> Behaviour {
    move |at| if at < when { Behaviour::delay(delay) } else { Behaviour::delay(delay).hole() }
}

#[test]
fn a_silent_blackhole_is_left_within_100_ms() {
    let mut times: Vec<Duration> = (0..1_000)
        .map(|seed| {
            let mut chance = Chance::new(seed);
            let delay = Duration::from_micros(100 + chance.below(4_700));
            let when = SECOND + Duration::from_micros(chance.below(20_000));
            let mut world = World::new(seed, dies(delay, when), |_| Behaviour::millis(8));
            world.run(3 * SECOND);
            let moves = &world.moves;
            assert_eq!(moves.len(), 1, "seed {seed}: {moves:?}");
            assert!(moves[0].why.starts_with("5 probes in a row have no answer"), "{}", moves[0].why);
            assert_eq!(world.way(), Way::Backup);
            moves[0].at - when
        })
        .collect();
    times.sort();
    println!("blackhole: p50 {:?}, p99 {:?}, most {:?}", times[500], times[990], times[999]);
    assert!(times[999] <= Duration::from_millis(100), "{:?}", times[999]);
}

#[test]
fn a_lost_carrier_is_left_at_once() {
    let mut world = World::new(1, |_| Behaviour::millis(2), |_| Behaviour::millis(2));
    world.run(SECOND);
    let now = world.now;
    world.handle(Event::Carrier { local: local(PRIMARY), up: false });
    assert_eq!((world.way(), world.now), (Way::Backup, now));
    assert_eq!(world.moves[0].why, "the interface with 192.0.2.11 has no carrier; the backup answers");
    world.handle(Event::Carrier { local: local(PRIMARY), up: true });
    world.run(20 * SECOND);
    assert_eq!(world.way(), Way::Backup);
    world.run(20 * SECOND);
    assert_eq!(world.way(), Way::Primary);
}

#[test]
fn a_path_that_answers_has_a_carrier_whatever_was_heard_of_it() {
    let mut world = World::new(1, |_| Behaviour::millis(2), |_| Behaviour::millis(2));
    world.run(SECOND);
    world.handle(Event::Carrier { local: local(PRIMARY), up: false });
    world.run(60 * SECOND);
    // What was heard is not believed again when the path's circuits change.
    world.probe_as(PRIMARY, &[session(PRIMARY), other(PRIMARY, 1)]);
    world.run(60 * SECOND);
    let moves: Vec<Way> = world.moves.iter().map(|m| m.to).collect();
    assert_eq!(moves, [Way::Backup, Way::Primary], "{:?}", world.moves);
}

#[test]
fn when_both_paths_are_dead_nothing_moves() {
    let hole = |at: Duration| if at < SECOND { Behaviour::millis(2) } else { Behaviour::millis(2).hole() };
    let mut world = World::new(1, hole, hole);
    world.run(60 * SECOND);
    assert!(world.moves.len() <= 1, "{:?}", world.moves);
}

#[test]
fn a_path_that_never_answers_is_left_after_a_second_and_only_for_one_that_does() {
    let never = |_| Behaviour::millis(2).hole();
    let mut world = World::new(1, never, |_| Behaviour::millis(2));
    world.run(10 * SECOND);
    assert_eq!(world.moves.len(), 1);
    assert!(world.moves[0].at >= SECOND && world.moves[0].at <= SECOND * 11 / 10, "{:?}", world.moves);
    let mut world = World::new(1, never, never);
    world.run(10 * SECOND);
    assert!(world.moves.is_empty(), "{:?}", world.moves);
}

#[test]
fn stalls_of_the_thread_are_not_taken_for_dead_paths() {
    for (often, most, hours) in [(20, 500, 1), (300, 60, 1), (2, 3_000, 1)] {
        let mut world = World::new(often, |_| Behaviour::millis(3), |_| Behaviour::millis(6));
        world.stalls = (often, Duration::from_millis(most));
        world.run(hours * 3_600 * SECOND);
        assert!(world.moves.is_empty(), "{often} of 1,000, {most} ms: {:?}", world.moves);
    }
}

#[test]
fn a_dead_path_is_left_although_the_thread_is_stalled_often() {
    for seed in 0..100 {
        let when = 5 * SECOND;
        let mut world = World::new(seed, dies(Duration::from_millis(3), when), |_| Behaviour::millis(6));
        world.stalls = (20, Duration::from_millis(500));
        world.run(15 * SECOND);
        assert_eq!(world.way(), Way::Backup, "seed {seed}");
        assert!(world.moves[0].at > when && world.moves.len() == 1, "{:?}", world.moves);
    }
}

#[test]
fn a_primary_that_recovers_is_returned_to_after_half_a_minute_of_calm() {
    let outage = |at: Duration| match at.as_secs() {
        5..8 => Behaviour::millis(2).hole(),
        _ => Behaviour::millis(2),
    };
    let mut world = World::new(1, outage, |_| Behaviour::millis(4));
    world.run(60 * SECOND);
    let moves = &world.moves;
    assert_eq!(moves.iter().map(|m| m.to).collect::<Vec<_>>(), [Way::Backup, Way::Primary]);
    assert!(moves[1].at >= 38 * SECOND && moves[1].at < 42 * SECOND, "{moves:?}");
    assert!(moves[1].why.starts_with("the primary has been good for 30 s"), "{}", moves[1].why);
}

#[test]
fn a_primary_that_flaps_is_returned_to_ever_later() {
    // It lives for 45 s and is dead for 2 s, again and again.
    let flaps = |at: Duration| match at.as_secs() % 47 {
        45..47 => Behaviour::millis(2).hole(),
        _ => Behaviour::millis(2),
    };
    let mut world = World::new(1, flaps, |_| Behaviour::millis(4));
    world.run(1_800 * SECOND);
    let returns = world.moves.iter().filter(|m| m.to == Way::Primary).count();
    assert_eq!(returns, 1, "once after 30 s; a minute of calm never comes: {:?}", world.moves);
    assert_eq!(world.way(), Way::Backup);
}

#[test]
fn a_restart_takes_over_the_way_that_the_kernel_has() {
    let outage = |at: Duration| match at.as_secs() {
        5..30 => Behaviour::millis(2).hole(),
        _ => Behaviour::millis(2),
    };
    let mut world = World::new(1, outage, |_| Behaviour::millis(4));
    world.run(10 * SECOND);
    assert_eq!(world.way(), Way::Backup);
    world.restart();
    assert_eq!(world.way(), Way::Backup);
    world.run(10 * SECOND);
    assert_eq!(world.way(), Way::Backup);
    let told: Vec<&str> = world.moves.iter().map(|m| m.why.as_str()).collect();
    assert_eq!(told[1..], ["it was found on its backup when the agent started"]);
    world.run(60 * SECOND);
    assert_eq!(world.way(), Way::Primary);
}

/// What the agent assumed after a restart becomes what the controller says.
#[test]
fn a_group_with_another_guard_is_held_back_as_before() {
    let outage = |at: Duration| match at.as_secs() {
        5..8 | 45..47 => Behaviour::millis(2).hole(),
        _ => Behaviour::millis(2),
    };
    let mut world = World::new(1, outage, |_| Behaviour::millis(4));
    world.run(50 * SECOND);
    let max_rtt = Some(proto_model::Latency::from_millis(50));
    world.order(Order::Guard { group: 1, guard: Guard { max_rtt, ..guard() }, began: Began::Before });
    world.run(55 * SECOND);
    assert_eq!(world.way(), Way::Backup, "it failed soon after a return: {:?}", world.moves);
    world.run(15 * SECOND);
    assert_eq!(world.way(), Way::Primary, "{:?}", world.moves);
}

#[test]
fn a_group_that_goes_leaves_its_slot_on_the_primary() {
    let mut world = World::new(1, dies(Duration::from_millis(2), SECOND), |_| Behaviour::millis(4));
    world.run(2 * SECOND);
    assert_eq!(world.way(), Way::Backup);
    world.order(Order::Unguard(1));
    assert_eq!(world.way(), Way::Primary);
    world.order(Order::Forget(PRIMARY));
    world.order(Order::Forget(BACKUP));
    assert_eq!(world.protector.next_deadline(), None);
}

/// An agent that was killed between taking flows out of the kernel and putting their group back.
#[test]
fn what_an_earlier_life_left_in_slots_of_no_flow_is_put_back() {
    let mut world = World::new(1, |_| Behaviour::millis(2), |_| Behaviour::millis(4));
    world.groups.extend([(1, Way::Backup), (7, Way::Backup)]);
    world.order(Order::InUse([1].into()));
    assert_eq!(world.groups.get(&7).copied().unwrap_or_default(), Way::Primary);
    assert_eq!(world.way(), Way::Backup, "flows are on it");
}
