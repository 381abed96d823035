//! Plays a table against a policy and says what that cost: the protocol of every regret table.
//!
//! At step t a policy has seen the samples up to t; its choice is scored with the truth at t + 1. A pair whose direct
//! link has no truth then is not scored; a path over a link without truth cannot be chosen. Means are over all scored
//! steps of all pairs.
use super::table::Table;
use crate::choice::mesh::{Costs, NONE, Relay, along};

/// A pair is worse off when its mean is above the direct path's by more than this (milliseconds) …
const WORSE_BY: f64 = 1.0;
/// … and by more than this factor.
const WORSE_FACTOR: f64 = 1.01;

/// Something that chooses paths.
pub trait Policy {
    /// The samples of one step, by `source * nodes + destination`, NaN where missing.
    fn see(&mut self, samples: &[f32]);

    /// Sets the path of each pair whose direct link is available, for the next step; `current` is what it chose before,
    /// [`NONE`] at first. A link that is NaN in `available` cannot be used.
    fn choose(&mut self, available: &[f32], current: &mut [Relay]);

    /// In the burn-in, instead of `choose`: what experts would have chosen can be noted.
    fn rehearse(&mut self, available: &[f32]) {
        let _ = available;
    }
}

/// What a policy cost, over all pairs.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// Mean cost of the chosen paths, of the best ones and of the direct ones; milliseconds.
    pub mean: f64,
    pub oracle: f64,
    pub direct: f64,
    /// `mean - oracle`.
    pub regret: f64,
    /// Share of the way from direct to the oracle, in per cent; below 0 worse than direct.
    pub gap_closed: f64,
    /// Pairs that would have been better off direct, in per cent.
    pub worse: f64,
    /// Changes of path per scored step of a pair after its first.
    pub switches: f64,
    /// Steps of pairs that were scored.
    pub scored: u64,
}

/// The cheapest path of each pair in each scored step, with hindsight.
#[derive(Clone, Debug)]
pub struct Oracle {
    costs: Vec<Vec<f32>>,
}

impl Oracle {
    pub fn new(table: &Table) -> Self {
        let best = |truth: &Vec<f32>| {
            let costs = Costs::new(table.nodes, table.relay_cost, truth, truth);
            let mut best = vec![f32::NAN; truth.len()];
            Table::pairs(table.nodes).for_each(|(pair, from, to)| best[pair] = costs.best(from, to).0);
            best
        };
        Self { costs: table.truth[table.burn_in + 1..].iter().map(best).collect() }
    }
}

/// `progress` is told the step that was played.
pub fn play(
    table: &Table,
    oracle: &Oracle,
    policy: &mut dyn Policy,
    progress: &mut dyn FnMut(usize),
) -> Score {
    let pairs = table.nodes * table.nodes;
    let mut tallies = vec![Tally::default(); pairs];
    let (mut current, mut before) = (vec![NONE; pairs], vec![NONE; pairs]);
    for step in 0..table.steps() - 1 {
        let truth = &table.truth[step + 1];
        policy.see(&table.seen[step]);
        progress(step + 1);
        if step < table.burn_in {
            policy.rehearse(truth);
            continue;
        }
        policy.choose(truth, &mut current);
        for (pair, from, to) in Table::pairs(table.nodes).filter(|(pair, ..)| !truth[*pair].is_nan()) {
            let cost = along(truth, table.nodes, table.relay_cost, (from, to), current[pair]);
            let best = oracle.costs[step - table.burn_in][pair];
            tallies[pair].add(best, cost, truth[pair], current[pair] != before[pair]);
            before[pair] = current[pair];
        }
    }
    score(&tallies)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    oracle: f64,
    mean: f64,
    direct: f64,
    count: u32,
    switches: u32,
}

impl Tally {
    fn add(&mut self, oracle: f32, cost: f32, direct: f32, switched: bool) {
        self.oracle += f64::from(oracle);
        self.mean += f64::from(cost);
        self.direct += f64::from(direct);
        self.switches += u32::from(switched && self.count > 0);
        self.count += 1;
    }

    fn is_worse(&self) -> bool {
        let count = f64::from(self.count);
        let (mean, direct) = (self.mean / count, self.direct / count);
        mean > direct + WORSE_BY && mean > direct * WORSE_FACTOR
    }
}

fn score(tallies: &[Tally]) -> Score {
    let scored: Vec<&Tally> = tallies.iter().filter(|tally| tally.count > 0).collect();
    let steps: f64 = scored.iter().map(|tally| f64::from(tally.count)).sum();
    let mean = |of: fn(&Tally) -> f64| scored.iter().map(|tally| of(tally)).sum::<f64>() / steps.max(1.0);
    let (cost, oracle, direct) =
        (mean(|tally| tally.mean), mean(|tally| tally.oracle), mean(|tally| tally.direct));
    let worse = scored.iter().filter(|tally| tally.is_worse()).count() as f64;
    let switches: f64 = scored.iter().map(|tally| f64::from(tally.switches)).sum();
    Score {
        mean: cost,
        oracle,
        direct,
        regret: cost - oracle,
        gap_closed: if direct > oracle { 100.0 * (direct - cost) / (direct - oracle) } else { 0.0 },
        worse: 100.0 * worse / (scored.len() as f64).max(1.0),
        switches: switches / (steps - scored.len() as f64).max(1.0),
        scored: steps as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::noisy_mesh;
    use crate::replay::policy::Kind;
    use crate::replay::series::Series;
    use crate::replay::table::Protocol;

    fn table(frames: Vec<Vec<f32>>, nodes: usize, protocol: &Protocol) -> Table {
        let nodes = (0..nodes).map(|node| format!("n{node}")).collect();
        Table::new(&Series { nodes, step: None, frames }, protocol).expect("a table")
    }

    fn played(table: &Table, kind: Kind) -> Score {
        play(table, &Oracle::new(table), &mut *kind.policy(table), &mut |_| {})
    }

    /// Three nodes; the detour from 0 to 2 is good in even steps and bad in odd ones.
    fn swinging() -> Table {
        let frame = |step: usize| {
            let detour = if step.is_multiple_of(2) { 10.0 } else { 200.0 };
            vec![f32::NAN, 10.0, 100.0, 10.0, f32::NAN, detour, 100.0, detour, f32::NAN]
        };
        table((0..20).map(frame).collect(), 3, &Protocol { relay_cost: 0.0, ..Protocol::default() })
    }

    #[test]
    fn scores_are_what_they_are_by_hand() {
        let table = swinging();
        assert_eq!((table.burn_in, table.steps()), (4, 20));
        let direct = played(&table, Kind::Direct);
        // Scored are steps 5 to 19, 8 of them odd. Both ways: 0–1 costs 10, 0–2 is 100, 1–2 is 10 or 200.
        let costs = 8.0 * (10.0 + 100.0 + 200.0) + 7.0 * (10.0 + 100.0 + 10.0);
        let best = 8.0 * (10.0 + 100.0 + 110.0) + 7.0 * (10.0 + 20.0 + 10.0);
        assert!((direct.mean - costs / 45.0).abs() < 1e-4, "{direct:?}");
        assert!((direct.oracle - best / 45.0).abs() < 1e-4, "{direct:?}");
        assert_eq!((direct.gap_closed, direct.worse, direct.switches, direct.scored), (0.0, 0.0, 0.0, 90));
        let oracle = played(&table, Kind::Oracle);
        assert_eq!((oracle.regret, oracle.gap_closed), (0.0, 100.0));
    }

    #[test]
    fn who_follows_the_last_value_of_what_swings_is_always_wrong() {
        let table = swinging();
        let last = played(&table, Kind::Last);
        // Pairs 0–2 and 2–0 take the detour when it has just become bad, pairs 1–2 and 2–1 the way over 0 when 1–2 is good.
        let costs = 8.0 * (10.0 + 210.0 + 200.0) + 7.0 * (10.0 + 100.0 + 110.0);
        assert!((last.mean - costs / 45.0).abs() < 1e-4, "{last:?}");
        assert!((last.worse - 100.0 * 4.0 / 6.0).abs() < 1e-9, "{last:?}");
        assert!((last.switches - 4.0 / 6.0).abs() < 1e-9, "of six pairs four change every step");
    }

    #[test]
    fn what_is_unavailable_is_neither_scored_nor_chosen() {
        let mut frames = noisy_mesh(6, 60, 5);
        for (step, frame) in frames.iter_mut().enumerate().skip(30).take(20) {
            frame.iter_mut().skip(step % 6 * 6).take(6).for_each(|sample| *sample = f32::NAN);
        }
        let table = table(frames, 6, &Protocol::default());
        let scored =
            table.truth[table.burn_in + 1..].iter().flatten().filter(|truth| !truth.is_nan()).count();
        for kind in Kind::USUAL {
            let score = played(&table, kind);
            assert_eq!(score.scored, scored as u64, "{kind}");
            assert!(score.regret.is_finite() && score.regret >= 0.0, "{kind}: {score:?}");
        }
    }

    #[test]
    fn on_a_noisy_mesh_ours_beats_direct_and_the_last_value_with_fewer_switches() {
        let table = table(noisy_mesh(12, 200, 9), 12, &Protocol::default());
        let (ours, last) = (played(&table, Kind::Ours), played(&table, Kind::Last));
        assert!(ours.regret < 0.8 * last.regret, "{ours:?} {last:?}");
        assert!(ours.switches < 0.2 * last.switches, "{ours:?} {last:?}");
        assert!(ours.gap_closed > 50.0, "{ours:?}");
    }

    #[test]
    fn the_same_series_gives_the_same_score() {
        let table = table(noisy_mesh(8, 60, 1), 8, &Protocol::default());
        for kind in Kind::USUAL {
            assert_eq!(played(&table, kind), played(&table, kind), "{kind}");
        }
    }
}
