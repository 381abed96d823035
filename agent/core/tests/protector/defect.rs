//! A carrier that went at one end is told to the other end by the other way, and believed there within narrow bounds.
use crate::world::*;
use agent_core::protect::limits::{DEFECT_REST, DEFECTS_MOST, HOLD};
use agent_core::protect::{Began, Defect, Event, Guard, Order, Session};
use proptest::prelude::*;
use proto_model::PathId;
use proto_model::report::Way;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const OF_PRIMARY: Defect = Defect { group: 1, came: Way::Backup, dead: PRIMARY };
const OF_BACKUP: Defect = Defect { group: 1, came: Way::Primary, dead: BACKUP };

fn good(seed: u64) -> World {
    let mut world = World::new(seed, |_| Behaviour::millis(2), |_| Behaviour::millis(3));
    world.run(SECOND);
    world
}

fn carrier(path: PathId, up: bool) -> Event {
    Event::Carrier { local: local(path), up }
}

/// From the moment at which the carrier went, in milliseconds.
fn told(world: &World, since: Duration) -> Vec<(u128, Session, PathId)> {
    world.defects.iter().map(|(at, session, dead)| ((*at - since).as_millis(), *session, *dead)).collect()
}

#[test]
fn a_lost_carrier_is_told_three_times_by_the_other_way_as_each_circuit_of_it() {
    for (lost, other_way) in [(PRIMARY, BACKUP), (BACKUP, PRIMARY)] {
        let mut world = good(1);
        world.probe_as(other_way, &[session(other_way), other(other_way, 1)]);
        // While the path has no carrier nothing answers.
        let sessions = [session(lost).receive];
        world.silent.extend(sessions);
        world.handle(carrier(lost, false));
        world.run(10 * SECOND);
        let both = |at| [(at, session(other_way), lost), (at, other(other_way, 1), lost)];
        assert_eq!(told(&world, SECOND), [0, 10, 30].map(both).concat());
    }
}

#[test]
fn a_carrier_that_is_back_is_not_told_of_again() {
    let mut world = good(1);
    world.handle(carrier(PRIMARY, false));
    world.handle(carrier(PRIMARY, true));
    world.run(SECOND);
    assert_eq!(told(&world, SECOND), [(0, session(BACKUP), PRIMARY)]);
}

#[test]
fn nobody_is_told_by_a_way_that_is_dead_or_begins_on_the_same_interface() {
    let mut world = good(1);
    world.silent.insert(session(BACKUP).receive);
    world.run(SECOND);
    world.handle(carrier(PRIMARY, false));
    assert_eq!(world.defects, [], "the backup is dead");
    let mut world = good(1);
    let same = |path| Session { local: local(PRIMARY), ..session(path) };
    world.probe_as(BACKUP, &[same(BACKUP)]);
    world.run(SECOND);
    world.handle(carrier(PRIMARY, false));
    world.run(SECOND);
    assert_eq!(world.defects, [], "both have no carrier");
}

#[test]
fn a_path_that_is_in_no_group_is_nobodys_news() {
    let mut world = good(1);
    world.order(Order::Unguard(1));
    world.handle(carrier(PRIMARY, false));
    world.run(SECOND);
    assert_eq!(world.defects, []);
}

#[test]
fn messages_about_one_interface_are_bounded_and_each_pair_gets_one_first() {
    let mut world = World::empty(1);
    let here: IpAddr = IpAddr::from([192, 0, 2, 1]);
    let (paths, others) = (1..=200, |path: u64| PathId(1_000 + path));
    for path in paths {
        world.path(PathId(path), |_| Behaviour::millis(2));
        world.probe_as(PathId(path), &[Session { local: here, ..session(PathId(path)) }]);
        world.path(others(path), |_| Behaviour::millis(2));
        let three = [0, 1, 2]
            .map(|n| Session { local: IpAddr::from([198, 51, 100, 1]), ..other(others(path), 1_000 * n) });
        world.probe_as(others(path), &three);
        let guard = Guard { primary: PathId(path), backup: others(path), ..guard() };
        world.order(Order::Guard { group: path as u32, guard, began: Began::Now });
    }
    world.run(SECOND);
    world.handle(Event::Carrier { local: here, up: false });
    assert_eq!(world.groups.values().filter(|way| **way == Way::Backup).count(), 200);
    assert_eq!(world.defects.len(), DEFECTS_MOST);
    let dead: BTreeSet<PathId> = world.defects.iter().map(|(_, _, dead)| *dead).collect();
    assert_eq!(dead.len(), 200);
}

#[test]
fn a_path_whose_far_end_has_no_carrier_is_left_at_once_and_returned_to_after_the_hold_down() {
    let mut world = good(1);
    world.silent.insert(session(PRIMARY).receive);
    world.handle(Event::Defect(OF_PRIMARY));
    assert_eq!((world.way(), world.moves[0].at), (Way::Backup, SECOND));
    let why = "the far end says that its interface has no carrier; the backup answers";
    assert_eq!(world.moves[0].why, why);
    assert_eq!(world.defects, [], "it is the far end that says so");
    world.run(20 * SECOND);
    world.silent.clear();
    world.run(HOLD);
    assert_eq!(world.way(), Way::Backup);
    world.run(2 * SECOND);
    assert_eq!(world.way(), Way::Primary, "{:?}", world.moves);
}

#[test]
fn answers_to_what_was_sent_before_do_not_revive_it() {
    let mut world = World::new(1, |_| Behaviour::millis(100), |_| Behaviour::millis(3));
    world.run(SECOND);
    // Ten probes are under way each way; the far end answers none that is sent later.
    world.silent.insert(session(PRIMARY).receive);
    world.handle(Event::Defect(OF_PRIMARY));
    world.run(Duration::from_millis(50));
    world.silent.insert(session(BACKUP).receive);
    world.run(SECOND);
    assert_eq!(world.moves.len(), 1, "the primary is as dead as the backup: {:?}", world.moves);
}

#[test]
fn a_defect_of_another_path_group_or_way_is_not_believed() {
    let mut world = good(1);
    for (group, came, dead) in [
        (1, Way::Backup, BACKUP),
        (1, Way::Primary, PRIMARY),
        (1, Way::Backup, PathId(33)),
        (2, Way::Backup, PRIMARY),
        (0, Way::Backup, PRIMARY),
    ] {
        world.handle(Event::Defect(Defect { group, came, dead }));
    }
    world.run(SECOND);
    assert!(world.moves.is_empty(), "{:?}", world.moves);
}

#[test]
fn a_path_that_is_not_probed_here_is_not_believed_dead() {
    let mut world = good(1);
    world.order(Order::Forget(PRIMARY));
    world.handle(Event::Defect(OF_PRIMARY));
    assert_eq!(world.way(), Way::Primary);
    world.order(Order::Measure(PRIMARY, vec![session(PRIMARY)]));
    world.run(60 * SECOND);
    assert_eq!(world.way(), Way::Primary, "{:?}", world.moves);
}

#[test]
fn a_far_end_that_says_so_all_the_time_does_not_cost_the_path_when_it_is_needed() {
    let mut world = good(1);
    for round in 0..1_000 {
        world.handle(Event::Defect(OF_PRIMARY));
        if round == 500 {
            world.silent.insert(session(BACKUP).receive);
        }
        world.run(Duration::from_millis(7));
    }
    let moves: Vec<Way> = world.moves.iter().map(|m| m.to).collect();
    assert_eq!(moves, [Way::Backup, Way::Primary], "{:?}", world.moves);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// A path may die and come back within 80 ms and three answers, and turn its groups each time; what is said of one turns
    /// them once in ten seconds at most.
    #[test]
    fn lies_turn_a_group_twice_in_ten_seconds_at_most(
        seed in 0u64..1_000,
        lies in proptest::collection::vec((0u64..400, any::<bool>()), 1..300),
    ) {
        let mut world = good(seed);
        for (wait, primary) in lies {
            world.run(Duration::from_millis(wait));
            world.handle(Event::Defect(if primary { OF_PRIMARY } else { OF_BACKUP }));
        }
        let believed: Vec<Duration> =
            world.moves.iter().filter(|m| m.why.starts_with("the far end says")).map(|m| m.at).collect();
        for first in &believed {
            let soon = believed.iter().filter(|at| (*first..*first + DEFECT_REST).contains(at));
            prop_assert!(soon.count() <= 2, "{:?}", world.moves);
        }
        // It is over when they are: both ways live, and a dead one is left for the other.
        world.run(SECOND);
        let before = world.way();
        world.silent.insert(session(if before == Way::Primary { PRIMARY } else { BACKUP }).receive);
        world.run(SECOND);
        prop_assert_ne!(world.way(), before);
    }
}
