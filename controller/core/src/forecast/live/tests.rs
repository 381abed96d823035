//! A running fabric's forecasts: fed by reports, asked by horizon, learnt again after a restart.
use super::*;
use crate::forecast::outlook::Model;
use crate::forecast::series::Chance;
use crate::telemetry::{self, RoundTrip};
use proto_model::{Bandwidth, Latency, Loss};

fn link(other: &str) -> LinkId {
    LinkId::new(
        "alpha".parse().expect("a name"),
        other.parse().expect("a name"),
        "net".parse().expect("a name"),
    )
    .expect("two ends")
}

fn at(second: u64) -> Timestamp {
    Timestamp(0).plus(Duration::from_secs(1_700_006_400 + second))
}

fn sample(millis: f32, load: f32) -> Sample {
    let rtt = Latency::from_nanos((millis.max(0.1) * 1e6) as u64);
    Sample {
        rtt: Some(RoundTrip { min: rtt, mean: rtt, max: rtt }),
        loss: [Some(Loss::NONE), Some(Loss::from_ppm(1_000))],
        load: [Some(Bandwidth::from_bits_per_second((load.max(0.0) * 1e6) as u64)), None],
    }
}

/// Three hours, a report every second.
fn fed() -> Forecasts {
    let mut forecasts = Forecasts::default();
    let mut chance = Chance(1);
    for second in 0..3 * 3_600 {
        forecasts.advance(at(second));
        forecasts.see(
            at(second),
            &link("beta"),
            &sample(20.0 + chance.normal(), 100.0 + 5.0 * chance.normal()),
        );
    }
    forecasts.advance(at(3 * 3_600));
    forecasts
}

#[test]
fn each_horizon_is_answered_and_farther_ones_are_less_sure() {
    let forecasts = fed();
    for (quantity, truth, off) in
        [(Quantity::Rtt, 20.0, 2.0), (Quantity::Loss, 0.001, 1e-4), (Quantity::Load, 100.0, 10.0)]
    {
        for seconds in [1, 5, 60, 300, 3_600, 7_200, 86_400] {
            let outlook = forecasts.outlook(&link("beta"), quantity, Duration::from_secs(seconds));
            let outlook = outlook.unwrap_or_else(|| panic!("{quantity:?} {seconds} s"));
            assert!((outlook.quantiles[3] - truth).abs() < off, "{quantity:?} {seconds} s: {outlook:?}");
            assert_eq!(outlook.horizon, Duration::from_secs(seconds));
            assert_eq!(outlook.stale, None);
        }
    }
    let bound = forecasts.load_bound(&link("beta")).expect("measured for hours");
    assert!((100.0..200.0).contains(&bound), "{bound}");
    assert_eq!(forecasts.outlook(&link("gamma"), Quantity::Rtt, Duration::from_secs(1)), None);
}

#[test]
fn a_ramp_shows_before_it_arrives() {
    let mut forecasts = fed();
    let start = 3 * 3_600;
    for second in 0..30 {
        forecasts.see(at(start + second), &link("beta"), &sample(20.0 + second as f32, 100.0));
    }
    forecasts.advance(at(start + 30));
    let outlook =
        forecasts.outlook(&link("beta"), Quantity::Rtt, Duration::from_secs(60)).expect("a forecast");
    let truth = 20.0 + 29.0 + 60.0;
    assert!((outlook.quantiles[3] - truth).abs() < 0.1 * truth, "{outlook:?}");
    assert_eq!(outlook.model, Model::Trend);
    assert!(outlook.chance_above(60.0) > 0.9, "a bound of 60 ms will break");
}

#[test]
fn a_restart_learns_again_from_what_was_kept() {
    let before = fed();
    let bytes = telemetry::to_bytes(before.history(), &Store::default());
    let (store, _) = telemetry::from_bytes(&bytes).expect("what was written is read");
    let after = Forecasts::restore(store, at(3 * 3_600));
    for seconds in [1, 60, 600, 3_600] {
        let horizon = Duration::from_secs(seconds);
        let [old, new] = [&before, &after].map(|forecasts| {
            forecasts.outlook(&link("beta"), Quantity::Rtt, horizon).expect("a forecast").quantiles[3]
        });
        assert!((old - new).abs() < 1.0, "{seconds} s: {old} before, {new} after");
    }
    assert!(after.load_bound(&link("beta")).is_some());
}

#[test]
fn a_link_that_joins_takes_no_sample_from_the_others() {
    let judged = |newcomers: &[(u64, &str)]| {
        let mut forecasts = Forecasts::default();
        for second in 0..40 {
            for (_, name) in newcomers.iter().filter(|(at, _)| *at <= second) {
                forecasts.see(at(second), &link(name), &sample(9.0, 1.0));
            }
            forecasts.see(at(second), &link("beta"), &sample(20.0, 100.0));
        }
        let outlook = forecasts.outlook(&link("beta"), Quantity::Rtt, Duration::from_secs(2));
        outlook.expect("a forecast").samples
    };
    // Before it and behind it in the order of links.
    assert_eq!(judged(&[]), judged(&[(10, "aaa"), (20, "zeta"), (30, "alphabet")]));
    assert!(judged(&[]) >= 17);
}

#[test]
fn silence_is_said_and_a_link_forgotten_is_gone() {
    let mut forecasts = fed();
    let end = 3 * 3_600;
    forecasts.advance(at(end + 90));
    let quiet = forecasts.outlook(&link("beta"), Quantity::Rtt, Duration::from_secs(1)).expect("a forecast");
    assert!(quiet.stale.is_some_and(|stale| stale >= Duration::from_secs(90)), "{quiet:?}");
    // A day asleep: no forecast is believed, and nothing takes long.
    forecasts.advance(at(end + 86_400));
    let asleep = forecasts.outlook(&link("beta"), Quantity::Rtt, Duration::from_secs(1)).expect("a forecast");
    assert!(asleep.stale.is_some_and(|stale| stale >= Duration::from_secs(86_000)), "{asleep:?}");
    forecasts.advance(at(0));
    forecasts.forget(&link("beta"));
    assert_eq!(forecasts.outlook(&link("beta"), Quantity::Rtt, Duration::from_secs(1)), None);
    forecasts.see(at(end + 86_400), &link("gamma"), &sample(5.0, 1.0));
    forecasts.advance(at(end + 86_402));
    let other = forecasts.outlook(&link("gamma"), Quantity::Rtt, Duration::from_secs(1)).expect("a forecast");
    assert!((other.quantiles[3] - 5.0).abs() < 0.2, "the place of the other link holds nothing of it");
}

#[test]
fn all_forecasters_of_a_link_take_less_than_eight_kilobytes() {
    let bytes = Forecasts::default().bytes_per_link();
    assert!(bytes <= 8_000, "{bytes}");
}

const WEEK: u64 = 167 * 3_600;

/// So many links with as much history as is kept, which ends at [`WEEK`].
fn week(links: usize) -> Store<LinkId> {
    let mut store = Store::default();
    let mut chance = Chance(7);
    let hours = (0..164).map(|hour| hour * 3_600);
    let minutes = (0..176).map(|minute| 164 * 3_600 + minute * 60);
    let seconds = (0..120).map(|two| WEEK - 240 + 2 * two);
    for second in hours.chain(minutes).chain(seconds) {
        for number in 0..links {
            let sample = sample(20.0 + chance.normal(), 100.0 + 5.0 * chance.normal());
            store.see(at(second), &link(&format!("n{number}")), &sample);
        }
    }
    store
}

fn catch_up_whole(forecasts: &mut Forecasts) {
    while forecasts.is_behind() {
        forecasts.catch_up();
    }
}

/// Reports of all links, and from the second one on of one that is new.
fn reports(forecasts: &mut Forecasts, links: usize, round: u64) {
    let now = at(WEEK + 2 * round);
    let newcomer = (round > 1).then(|| link("newcomer"));
    for (number, id) in (0..links).map(|number| link(&format!("n{number}"))).chain(newcomer).enumerate() {
        forecasts.see(now, &id, &sample(30.0 + (number as f32 + round as f32).sin(), 120.0));
    }
    forecasts.advance(now);
}

#[test]
fn what_is_learned_in_portions_between_reports_is_what_is_learned_at_once() {
    let (links, store) = (60, week(60));
    let mut whole = Forecasts::restore(store.clone(), at(WEEK));
    catch_up_whole(&mut whole);
    let mut parts = Forecasts::restore(store, at(WEEK));
    let mut round = 0;
    // Beyond the end of a minute.
    while parts.is_behind() || round < 35 {
        reports(&mut whole, links, round);
        reports(&mut parts, links, round);
        assert!(!whole.is_behind() && (round > 32 || parts.is_behind()));
        if round.is_multiple_of(16) {
            parts.catch_up();
        }
        round += 1;
    }
    let state = |forecasts: &Forecasts| format!("{:?}", (&forecasts.learners, &forecasts.places));
    assert_eq!(state(&whole), state(&parts));
    let bounds = [&whole, &parts].map(|forecasts| forecasts.load_bound(&link("n3")));
    assert!(bounds[0].is_some() && bounds[0] == bounds[1], "{bounds:?}");
}

#[test]
fn who_is_behind_is_not_asked_and_seconds_are_known_before_minutes_and_hours() {
    let mut forecasts = Forecasts::restore(week(120), at(WEEK));
    let all = [Quantity::Rtt, Quantity::Loss, Quantity::Load];
    let spans = [10, 600, 7_200].map(Duration::from_secs);
    assert!(
        all.iter().all(|of| spans.iter().all(|span| forecasts.outlook(&link("n0"), *of, *span).is_none()))
    );
    let mut order = Vec::new();
    while forecasts.is_behind() {
        assert_eq!(
            forecasts.load_bound(&link("n0")).is_some(),
            order.contains(&(Quantity::Load, Resolution::Minutes))
        );
        forecasts.catch_up();
        let known = forecasts.learners.iter().filter(|learner| !learner.is_behind);
        let mut fresh: Vec<_> = known.map(|learner| (learner.quantity, learner.resolution)).collect();
        fresh.retain(|known| !order.contains(known));
        fresh.sort_by_key(|(_, resolution)| *resolution);
        order.extend(fresh);
        if order.len() == 3 {
            let far = forecasts.outlook(&link("n0"), Quantity::Rtt, spans[2]).expect("asked of seconds");
            assert!(far.samples >= 3, "{far:?}");
        }
    }
    assert_eq!(order.len(), 9);
    assert!(order.is_sorted_by_key(|(_, resolution)| *resolution), "{order:?}");
}

#[test]
fn no_portion_is_larger_than_it_may_be_and_progress_is_told() {
    let links = 120;
    let mut forecasts = Forecasts::restore(week(links), at(WEEK));
    let all = forecasts.missed;
    let mut before = forecasts.missing();
    assert!((all - before) * links as u64 <= PORTION as u64 && before < all);
    let mut told = Vec::new();
    while let Some(share) = forecasts.caught_up() {
        told.push(share);
        forecasts.catch_up();
        let now = forecasts.missing();
        assert!((before - now) * links as u64 <= PORTION as u64, "{before} {now}");
        assert!(now < before);
        before = now;
    }
    assert!(told.len() > 5 && told.is_sorted() && told[0] > 0.0 && told[0] < 0.2, "{told:?}");
    assert!(told.last().is_some_and(|share| *share > 0.8 && *share < 1.0), "{told:?}");
}

#[test]
fn a_step_of_more_links_than_a_portion_has_is_learned_all_the_same() {
    let mut forecasts = Forecasts::default();
    let all: Vec<LinkId> = (0..PORTION + 1).map(|number| link(&format!("n{number}"))).collect();
    all.iter().for_each(|id| forecasts.see(at(0), id, &sample(20.0, 100.0)));
    forecasts.advance(at(16));
    let before = forecasts.missing();
    forecasts.catch_up();
    assert_eq!(forecasts.missing(), before - 1);
}

#[test]
fn a_busy_moment_is_made_up_for_at_once_and_a_pause_in_portions() {
    let mut forecasts = Forecasts::restore(week(40), at(WEEK));
    catch_up_whole(&mut forecasts);
    let known = |forecasts: &Forecasts| {
        forecasts.outlook(&link("n0"), Quantity::Rtt, Duration::from_secs(10)).is_some()
    };
    forecasts.advance(at(WEEK + 10));
    assert!(!forecasts.is_behind() && known(&forecasts));
    forecasts.advance(at(WEEK + 2 * 3_600));
    assert!(forecasts.is_behind() && !known(&forecasts));
    catch_up_whole(&mut forecasts);
    assert!(known(&forecasts));
}
