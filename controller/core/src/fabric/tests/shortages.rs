//! Links that fill up are named before they are full.
use crate::fabric::world::{World, link};
use crate::telemetry::Sample;
use proto_model::request::{Request, Response};
use proto_model::shortage::{Line, Share, Shortage};
use proto_model::{Bandwidth, Kind};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Ten hours in which one link of 500 Mbit/s fills up to `percent`, while others carry 300 Mbit/s of 1 Gbit/s.
fn filled(percent: u64) -> World {
    let mut world = World::diamond();
    let begun = world.now;
    for minute in 0..600u32 {
        let mut see = |one: &str, other: &str, mbit: u64| {
            let load = [Some(Bandwidth::mbit(mbit)); 2];
            let sample = Sample { load, ..Sample::default() };
            world.fabric.forecasts.see(begun.plus(MINUTE * minute), &link(one, other), &sample);
        };
        see("a", "t1", 50 + u64::from(minute) * (percent * 5 - 50) / 600);
        see("a", "t2", 300);
        see("t2", "b", if minute % 2 == 0 { 250 } else { 350 });
    }
    world
}

fn short(world: &mut World, line: Line) -> Vec<Shortage> {
    match world.ask(Request::ListShortages(line)) {
        Ok(Response::Shortages(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_that_fills_up_is_listed_before_it_is_short() {
    let mut world = filled(80);
    let found = short(&mut world, Line::default());
    assert_eq!(found.iter().map(|short| short.link.clone()).collect::<Vec<_>>(), [link("a", "t1")]);
    let Shortage { capacity, forecast, chance, .. } = &found[0];
    assert_eq!(*capacity, Bandwidth::mbit(500));
    assert!(forecast.horizon > 10 * MINUTE, "it takes more than an hour: {forecast:?}");
    assert!(forecast.quantiles[5] >= 450_000_000, "the chance is 5 % at least: {forecast:?}");
    assert!(*chance >= Line::default().chance);
    let soon = Line { within: 10 * MINUTE, ..Line::default() };
    assert_eq!(short(&mut world, soon), [], "not within ten minutes");
}

#[test]
fn a_link_that_stays_far_below_is_not_listed() {
    assert_eq!(short(&mut filled(10), Line::default()), []);
}

#[test]
fn what_cannot_be_asked_is_named_with_what_can() {
    let mut world = World::diamond();
    let mut refused = |line: Line| {
        let refusal = world.ask(Request::ListShortages(line)).expect_err("out of range");
        assert_eq!(refusal.kind, Kind::Invalid);
        (refusal.field.clone(), refusal.what)
    };
    let usual = Line::default();
    let (field, what) = refused(Line { within: 9 * MINUTE, ..usual });
    assert_eq!(
        (field.as_str(), what.as_str()),
        ("within", "540 s; it can be looked from 10 minutes to 24 hours ahead")
    );
    let (field, what) = refused(Line { share: Share::from_ppm(5_000), ..usual });
    assert_eq!((field.as_str(), what.as_str()), ("share", "0.5 %; from 1 % to 100 % is accepted"));
    let (field, what) = refused(Line { chance: Share::from_ppm(600_000), ..usual });
    assert_eq!((field.as_str(), what.as_str()), ("chance", "60 %; from 1 % to 50 % is accepted"));
}
