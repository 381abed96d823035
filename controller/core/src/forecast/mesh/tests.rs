//! What the mesh must do on loads whose truth is known.
use super::*;
use crate::forecast::score::{self, Row, Table};
use crate::forecast::series::Chance;
use std::f32::consts::TAU;

/// Ten days of a small backbone at 15 minutes: a day's swing, noise of its own on each link, and one link that bursts.
fn backbone(links: usize, days: usize, seed: u64) -> Vec<Row> {
    let mut chance = Chance(seed);
    let mut noise = vec![0.0f32; links];
    (0..96 * days)
        .map(|step| {
            let day = (step as f32 / 96.0 * TAU).sin();
            let mut row = Vec::new();
            for (link, noise) in noise.iter_mut().enumerate() {
                *noise = 0.8 * *noise + 8.0 * chance.normal();
                let burst = if link == 0 && chance.share() < 0.02 { 100.0 } else { 0.0 };
                row.push((200.0 + 20.0 * link as f32 + 90.0 * day + *noise + burst).max(0.0));
            }
            row
        })
        .collect()
}

fn run(rows: &[Row]) -> (Vec<score::Score>, score::BoundScore) {
    let capacities: Vec<f32> =
        (0..rows[0].len()).map(|link| 2.0 * rows.iter().map(|row| row[link]).fold(0.0, f32::max)).collect();
    let table = Table { samples: rows, truth: rows, scored_from: rows.len() / 2 };
    score::mesh(table, Duration::from_secs(900), &[1, 12], &capacities)
}

/// Mean absolute error of the last value.
fn naive(rows: &[Row], ahead: usize) -> f64 {
    let pairs = (rows.len() / 2..rows.len()).flat_map(|now| rows[now - ahead].iter().zip(&rows[now]));
    let (sum, count) =
        pairs.fold((0.0, 0.0), |(sum, count), (a, b)| (sum + f64::from((a - b).abs()), count + 1.0));
    sum / count
}

#[test]
fn a_day_is_learnt_and_the_bands_hold() {
    let rows = backbone(8, 10, 1);
    let (scores, _) = run(&rows);
    for score in &scores {
        let naive = naive(&rows, score.ahead);
        let share = if score.ahead == 1 { 0.95 } else { 0.5 };
        assert!(score.error < share * naive, "{score:?}, last value {naive}");
        assert!((0.86..=0.94).contains(&score.coverage[1]), "{score:?}");
    }
}

#[test]
fn the_bound_is_broken_about_once_in_a_hundred_and_leaves_most_of_the_headroom() {
    let (_, bound) = run(&backbone(8, 20, 2));
    assert!(bound.violations <= 0.015, "{bound:?}");
    assert!(bound.headroom[1] >= 0.8, "{bound:?}");
}

#[test]
fn on_random_walks_nothing_is_much_worse_than_the_last_value() {
    let mut chance = Chance(3);
    let mut at = [500.0f32; 6];
    let rows: Vec<Row> = (0..1_500)
        .map(|_| {
            at.iter_mut().for_each(|value| *value = (*value + 5.0 * chance.normal()).max(50.0));
            at.to_vec()
        })
        .collect();
    for score in run(&rows).0 {
        assert!(score.error < 1.06 * naive(&rows, score.ahead), "{score:?}");
    }
}

#[test]
fn hostile_loads_leave_finite_forecasts() {
    let mut mesh = Mesh::new(Config::default(), Duration::from_secs(300));
    let slots: Vec<Slot> = (0..6).map(|_| mesh.join()).collect();
    let mut chance = Chance(4);
    for step in 0..1_500 {
        let spike = if chance.share() < 0.01 { 1e9 } else { 10.0 };
        let late = (step > 700).then_some(40.0 + chance.normal());
        let nothing = step % 50 == 3;
        let row = [Some(0.0), Some(7.0), Some(spike), Some(f32::NAN), late, Some(1e-6)];
        mesh.step(&row.map(|sample| sample.filter(|_| !nothing)));
        for outlook in slots.iter().filter_map(|slot| mesh.outlook(*slot, (step % 14) as f32)) {
            assert!(outlook.quantiles.is_sorted() && outlook.quantiles[6].is_finite(), "{outlook:?}");
            assert!(outlook.quantiles[0] >= 0.0 && outlook.error.is_finite(), "{outlook:?}");
        }
        assert!(slots.iter().filter_map(|slot| mesh.bound(*slot)).all(f32::is_finite));
    }
    assert_eq!(mesh.outlook(slots[3], 1.0), None, "never measured");
}

#[test]
fn links_come_and_go_and_the_others_do_not_notice() {
    let rows = backbone(5, 4, 5);
    let mut mesh = Mesh::new(Config::default(), Duration::from_secs(900));
    let stays = mesh.join();
    let goes = mesh.join();
    for (now, row) in rows.iter().enumerate() {
        if now == 200 {
            mesh.leave(goes);
            assert_eq!(mesh.outlook(goes, 1.0), None);
            assert_eq!(mesh.join(), goes, "its place is used again");
            assert_eq!(mesh.outlook(goes, 1.0), None, "by a link without a past");
        }
        mesh.step(&row.iter().map(|value| Some(*value)).collect::<Vec<_>>());
    }
    let end = rows[rows.len() - 1][0];
    for slot in [stays, goes] {
        let outlook = mesh.outlook(slot, 1.0).expect("a forecast");
        assert!((outlook.quantiles[3] - end).abs() < 80.0 && outlook.stale.is_none(), "{outlook:?}");
    }
    mesh.step(&[]);
    assert_eq!(mesh.outlook(stays, 1.0).and_then(|outlook| outlook.stale), Some(Duration::from_secs(900)));
}

#[test]
fn a_link_takes_less_than_five_kilobytes() {
    let mesh = Mesh::new(Config::default(), Duration::from_secs(300));
    assert!(mesh.bytes_per_link() <= 4_700, "{}", mesh.bytes_per_link());
}
