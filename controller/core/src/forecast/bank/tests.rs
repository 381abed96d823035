//! What banks must do on series whose truth is known.
use super::*;
use crate::forecast::outlook::{Model, Quantity};
use crate::forecast::score::{self, Row, Table};
use crate::forecast::series::Chance;
use std::time::Duration;

fn seconds() -> (Bank, Slot) {
    let spec = Spec { step: Duration::from_secs(1), ahead: [1, 12, 60], ..Spec::seconds(Quantity::Rtt) };
    let mut bank = Bank::new(spec);
    let slot = bank.join();
    (bank, slot)
}

fn scores(rows: &[Row], spec: Spec, aheads: &[usize]) -> Vec<score::Score> {
    score::bank(Table { samples: rows, truth: rows, scored_from: rows.len() / 3 }, spec, aheads)
}

#[test]
fn a_ramp_is_seen_a_minute_ahead_after_thirty_samples() {
    for (seed, noise) in [(1, 0.0), (2, 0.3), (3, 1.0)] {
        let mut chance = Chance(seed);
        let (mut bank, slot) = seconds();
        for step in 0..30 {
            bank.step(&[Some(20.0 + 0.5 * step as f32 + noise * chance.normal())]);
        }
        let outlook = bank.outlook(slot, 60.0).expect("a forecast");
        let truth = 20.0 + 0.5 * (29.0 + 60.0);
        let middle = outlook.quantiles[3];
        assert!((middle - truth).abs() < 0.1 * truth, "noise {noise}: {middle} instead of {truth}");
        assert_eq!(outlook.model, Model::Trend);
    }
}

#[test]
fn a_ramp_that_begins_late_is_seen_too() {
    let mut chance = Chance(7);
    let (mut bank, slot) = seconds();
    for step in 0..630 {
        let ramp = 0.4 * (step as f32 - 600.0).max(0.0);
        bank.step(&[Some(30.0 + ramp + 0.2 * chance.normal())]);
    }
    let middle = bank.outlook(slot, 60.0).expect("a forecast").quantiles[3];
    let truth = 30.0 + 0.4 * (29.0 + 60.0);
    assert!((middle - truth).abs() < 0.1 * truth, "{middle} instead of {truth}");
}

/// Links that walk at random, all from the same chance.
fn walks(links: usize, steps: usize, seed: u64) -> Vec<Row> {
    let mut chance = Chance(seed);
    let mut at = vec![100.0f32; links];
    let step = |at: &mut Vec<f32>| {
        at.iter_mut().for_each(|value| *value = (*value + 0.5 * chance.normal()).max(1.0));
        at.clone()
    };
    std::iter::repeat_with(|| ()).take(steps).scan(step, |step, ()| Some(step(&mut at))).collect()
}

#[test]
fn on_a_random_walk_the_last_value_wins() {
    let rows = walks(8, 900, 11);
    let mut bank = Bank::new(Spec::seconds(Quantity::Rtt));
    let slots: Vec<Slot> = (0..8).map(|_| bank.join()).collect();
    let (mut ours, mut last) = ([0.0; 2], [0.0; 2]);
    for (now, row) in rows.iter().enumerate() {
        bank.step(&row.iter().map(|value| Some(*value)).collect::<Vec<_>>());
        for (h, ahead) in [1, 12].into_iter().enumerate() {
            let Some(truth) = rows.get(now + ahead).filter(|_| now >= 300) else { continue };
            for (link, slot) in slots.iter().enumerate() {
                let middle = bank.outlook(*slot, ahead as f32).expect("a forecast").quantiles[3];
                ours[h] += (middle - truth[link]).abs();
                last[h] += (row[link] - truth[link]).abs();
            }
        }
    }
    // Nothing is better than the last value here; mixing costs a little.
    assert!(ours[0] < 1.05 * last[0], "{} against {}", ours[0], last[0]);
    assert!(ours[1] < 1.08 * last[1], "{} against {}", ours[1], last[1]);
    let won = slots.iter().filter(|slot| bank.outlook(**slot, 1.0).is_some_and(|o| o.model == Model::Last));
    assert!(won.count() >= 6);
}

#[test]
fn bands_hold_what_they_say() {
    let mut noisy: Vec<Row> = Vec::new();
    let mut chance = Chance(5);
    for step in 0..1_500 {
        let tail = |chance: &mut Chance| if chance.share() < 0.03 { 40.0 * chance.share() } else { 0.0 };
        noisy.push(
            (0..10)
                .map(|link| {
                    20.0 + link as f32 + (step as f32 / 90.0).sin() + chance.normal() + tail(&mut chance)
                })
                .collect(),
        );
    }
    for rows in [walks(10, 1_500, 3), noisy] {
        for score in scores(&rows, Spec::seconds(Quantity::Rtt), &[1, 12]) {
            let [most, band, half] = score.coverage;
            assert!((0.87..=0.93).contains(&band), "{score:?}");
            assert!((0.94..=0.998).contains(&most) && (0.4..=0.62).contains(&half), "{score:?}");
        }
    }
}

#[test]
fn an_outlier_is_doubted_and_a_new_level_believed() {
    let mut chance = Chance(9);
    let (mut bank, slot) = seconds();
    for _ in 0..300 {
        bank.step(&[Some(20.0 + 0.2 * chance.normal())]);
    }
    bank.step(&[Some(400.0)]);
    let after_one = bank.outlook(slot, 1.0).expect("a forecast").quantiles[3];
    assert!(after_one < 30.0, "one wild sample moved it to {after_one}");
    for _ in 0..25 {
        bank.step(&[Some(60.0 + 0.2 * chance.normal())]);
    }
    let after_many = bank.outlook(slot, 12.0).expect("a forecast").quantiles[3];
    assert!((55.0..65.0).contains(&after_many), "the new level is 60, forecast {after_many}");
}

#[test]
fn missing_samples_change_no_level_and_widen_the_band() {
    let mut chance = Chance(4);
    let (mut bank, slot) = seconds();
    for _ in 0..200 {
        bank.step(&[Some(50.0 + chance.normal())]);
    }
    let before = bank.outlook(slot, 1.0).expect("a forecast");
    (0..100).for_each(|_| bank.step(&[None]));
    let after = bank.outlook(slot, 1.0).expect("a forecast");
    let width = |outlook: &Outlook| outlook.quantiles[5] - outlook.quantiles[1];
    assert!((after.quantiles[3] - before.quantiles[3]).abs() < 3.0);
    assert!(width(&after) > 5.0 * width(&before), "{before:?} {after:?}");
    assert_eq!((before.stale, after.stale), (None, Some(Duration::from_secs(100))));
    bank.step(&[Some(f32::NAN)]);
    assert!(bank.outlook(slot, 1.0).is_some_and(|outlook| outlook.quantiles.iter().all(|q| q.is_finite())));
}

#[test]
fn a_day_is_learnt_from_hours() {
    let mut chance = Chance(6);
    let rows: Vec<Row> = (0..24 * 21)
        .map(|hour| vec![60.0 + 20.0 * (hour as f32 / 24.0 * std::f32::consts::TAU).sin() + chance.normal()])
        .collect();
    let score = scores(&rows, Spec::hours(Quantity::Rtt), &[12]).remove(0);
    assert!(score.error < 4.0, "half a day ahead the last value is wrong by 25 ms: {score:?}");
}

#[test]
fn hostile_samples_leave_finite_forecasts_in_range() {
    let wild = [0.0, 1e9, f32::INFINITY, f32::NAN, -5.0, 1e-30, 3.0, f32::MAX, 0.0, 0.0];
    for quantity in [Quantity::Rtt, Quantity::Loss, Quantity::Load] {
        for spec in [Spec::seconds(quantity), Spec::hours(quantity)] {
            let mut bank = Bank::new(spec);
            let slots = [bank.join(), bank.join()];
            let mut chance = Chance(8);
            for step in 0..2_000 {
                let pick = wild[(chance.share() * 9.99) as usize];
                bank.step(&[Some(pick), (step % 3 == 0).then_some(0.0)]);
                for outlook in slots.iter().filter_map(|slot| bank.outlook(*slot, (step % 90) as f32)) {
                    assert!(outlook.quantiles.is_sorted(), "{outlook:?}");
                    assert!(outlook.quantiles.iter().all(|q| (0.0..=spec.most).contains(q)), "{outlook:?}");
                    assert!(outlook.mean.is_finite() && outlook.error.is_finite(), "{outlook:?}");
                }
            }
        }
    }
}

#[test]
fn a_link_that_joins_late_leans_on_what_the_others_show() {
    let rows = walks(20, 400, 21);
    let mut bank = Bank::new(Spec::seconds(Quantity::Rtt));
    let old: Vec<Slot> = (0..20).map(|_| bank.join()).collect();
    let mut newcomer = None;
    for (now, row) in rows.iter().enumerate() {
        if now == 399 {
            newcomer = Some(bank.join());
        }
        let mut samples: Vec<_> = row.iter().map(|value| Some(*value)).collect();
        samples.push(Some(100.0));
        bank.step(&samples);
    }
    let outlook = newcomer.and_then(|slot| bank.outlook(slot, 1.0)).expect("a forecast after one sample");
    let width = outlook.quantiles[5] - outlook.quantiles[1];
    assert!((0.5..8.0).contains(&width), "the others' bands are 1.6 wide, the newcomer's {width}");
    assert_eq!((old.len(), outlook.samples), (20, 0));
}

#[test]
fn a_link_takes_less_than_half_a_kilobyte() {
    assert!(Bank::new(Spec::seconds(Quantity::Rtt)).bytes_per_link() <= 400);
    assert!(Bank::new(Spec::hours(Quantity::Rtt)).bytes_per_link() <= 500);
}
