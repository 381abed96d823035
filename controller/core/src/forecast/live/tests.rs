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
