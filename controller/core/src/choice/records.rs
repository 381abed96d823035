//! What following each expert has brought each pair so far, and how much of that to believe.
//!
//! The best forecaster by error is not the best router, so what is scored is the decision: the realised cost of the
//! path that an expert would have taken, over that of the reference path in the same step. A pair's own record is
//! shrunk to the mesh's (empirical Bayes): to the more steps, the more noise there is in one pair's record compared
//! with how much pairs truly differ.
use super::links::Forecast;
use super::tuning::Tuning;

/// Whose advice a pair can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expert {
    /// Stays on the reference path: the direct link, or else the shortest path.
    Reference,
    /// Takes the path that is cheapest by this forecast.
    #[serde(untagged)]
    By(Forecast),
}

pub const EXPERTS: usize = 4;

impl Expert {
    pub const ALL: [Self; EXPERTS] =
        [Self::Reference, Self::By(Forecast::Agile), Self::By(Forecast::Steady), Self::By(Forecast::Shrunk)];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Reference => 0,
            Self::By(forecast) => 1 + forecast as usize,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::By(forecast) => forecast.word(),
        }
    }
}

/// What each expert's path cost over the reference path in one step, cut at `limit` either way; 0 where that is not known.
pub(super) fn excess(reference: f32, costs: [f32; EXPERTS], limit: f32) -> [f32; EXPERTS] {
    costs.map(|cost| if cost.is_nan() { 0.0 } else { (cost - reference).clamp(-limit, limit) })
}

/// An expert's record with one pair; costs in the unit of the samples, negative where it beat the reference path.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Standing {
    pub expert: Expert,
    /// Mean realised cost over the reference path's, of this pair; older steps count less.
    pub own: f32,
    /// The same over all pairs.
    pub mesh: f32,
    /// For how many steps the own record counts.
    pub evidence: f32,
    /// For how many steps the mesh's record counts beside it.
    pub prior: f32,
    /// Both together, and for the reference path its margin: the lowest is followed.
    pub score: f32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    sums: [f32; EXPERTS],
    weight: f32,
}

/// The records of all pairs, by a dense index; 20 bytes each.
#[derive(Clone, Debug)]
pub(super) struct Records {
    memory: f32,
    prior: f32,
    prior_scale: f32,
    pairs: Vec<Record>,
    mesh: Mesh,
    /// Steps of the mesh's record that weigh as much as the pair's own.
    priors: [f32; EXPERTS],
}

/// Discounted sums over all pairs.
#[derive(Clone, Copy, Debug, Default)]
struct Mesh {
    sums: [f64; EXPERTS],
    /// Of the squared distance to the mesh's best expert.
    squares: [f64; EXPERTS],
    weight: f64,
    means: [f32; EXPERTS],
}

/// Before anything is known, nobody's own record counts for much.
const UNKNOWN_PRIOR: f32 = 1_000.0;

impl Records {
    pub(super) fn new(tuning: &Tuning, pairs: usize) -> Self {
        Self {
            memory: tuning.memory,
            prior: tuning.prior,
            prior_scale: tuning.prior_scale,
            pairs: vec![Record::default(); pairs],
            mesh: Mesh::default(),
            priors: [UNKNOWN_PRIOR; EXPERTS],
        }
    }

    pub(super) fn grow(&mut self, pairs: usize) {
        self.pairs.resize(pairs.max(self.pairs.len()), Record::default());
    }

    pub(super) fn forget(&mut self, pair: usize) {
        self.pairs[pair] = Record::default();
    }

    /// One step: of each pair that could be scored, what each expert's path cost over the reference path.
    pub(super) fn learn(&mut self, step: impl Iterator<Item = (usize, [f32; EXPERTS])>) {
        let memory = f64::from(self.memory);
        let best = self.best_of_mesh();
        let (mut sums, mut squares, mut count) = ([0.0; EXPERTS], [0.0; EXPERTS], 0.0);
        for (pair, excess) in step {
            count += 1.0;
            let record = &mut self.pairs[pair];
            record.weight = record.weight * self.memory + 1.0;
            for expert in 0..EXPERTS {
                record.sums[expert] = record.sums[expert] * self.memory + excess[expert];
                sums[expert] += f64::from(excess[expert]);
                squares[expert] += f64::from(excess[expert] - excess[best]).powi(2);
            }
        }
        let mesh = &mut self.mesh;
        let arrived = if count > 0.0 { 1.0 } else { 0.0 };
        mesh.weight = mesh.weight * memory + arrived;
        for expert in 0..EXPERTS {
            mesh.sums[expert] = mesh.sums[expert] * memory + sums[expert] / f64::max(count, 1.0);
            mesh.squares[expert] = mesh.squares[expert] * memory + squares[expert] / f64::max(count, 1.0);
            if count > 0.0 {
                mesh.means[expert] = (mesh.sums[expert] / mesh.weight) as f32;
            }
        }
        for expert in 0..EXPERTS {
            self.weigh(expert, best);
        }
    }

    /// Empirical Bayes: noise within a pair over variance between pairs, both of the distance to the best expert.
    fn weigh(&mut self, expert: usize, best: usize) {
        let mean = self.mesh.means[expert] - self.mesh.means[best];
        let (mut between, mut pairs, mut inverse) = (0.0_f64, 0.0_f64, 0.0_f64);
        for record in self.pairs.iter().filter(|record| record.weight > 0.5) {
            let distance = (record.sums[expert] - record.sums[best]) / record.weight - mean;
            between += f64::from(distance * distance);
            inverse += 1.0 / f64::from(record.weight);
            pairs += 1.0;
        }
        if pairs <= 2.0 || self.mesh.weight <= 0.0 {
            return;
        }
        let (between, inverse) = (between / pairs, inverse / pairs);
        let total = self.mesh.squares[expert] / self.mesh.weight - f64::from(mean * mean);
        let noise = ((total - between) / (1.0 - inverse).max(0.05)).max(0.0);
        let spread = (between - noise * inverse).max(1e-3 * total).max(1e-12);
        self.priors[expert] = self.prior_scale * (noise / spread) as f32 + self.prior;
    }

    /// Whom the pair follows, and each expert's standing; `margin` is what the reference path must be better by.
    pub(super) fn follow(&self, pair: Option<usize>, margin: f32) -> (Expert, [f32; EXPERTS]) {
        let mut scores: [f32; EXPERTS] = std::array::from_fn(|expert| self.score(pair, expert));
        scores[Expert::Reference.index()] += margin;
        (Expert::ALL[lowest(&scores, 0)], scores)
    }

    fn best_of_mesh(&self) -> usize {
        lowest(&self.mesh.means, 0)
    }

    /// By which forecast paths are compared: the expert's, or for the reference the one that served the mesh best.
    pub(super) fn deciding(&self, expert: Expert) -> Forecast {
        match expert {
            Expert::By(forecast) => forecast,
            Expert::Reference => Forecast::ALL[lowest(&self.mesh.means, 1) - 1],
        }
    }

    /// Of a pair without an index yet: nothing.
    fn of(&self, pair: Option<usize>) -> Record {
        pair.map(|pair| self.pairs[pair]).unwrap_or_default()
    }

    /// Own and mesh's record together, each as the distance to the mesh's best expert.
    fn score(&self, pair: Option<usize>, expert: usize) -> f32 {
        let best = self.best_of_mesh();
        let (record, prior) = (self.of(pair), self.priors[expert]);
        let own = record.sums[expert] - record.sums[best];
        let mesh = self.mesh.means[expert] - self.mesh.means[best];
        (own + prior * mesh) / (record.weight + prior).max(1e-6)
    }

    pub(super) fn standing(&self, pair: Option<usize>, expert: Expert, score: f32) -> Standing {
        let (record, index) = (self.of(pair), expert.index());
        Standing {
            expert,
            own: if record.weight > 0.0 { record.sums[index] / record.weight } else { 0.0 },
            mesh: self.mesh.means[index],
            evidence: record.weight,
            prior: self.priors[index],
            score,
        }
    }
}

fn lowest(means: &[f32; EXPERTS], from: usize) -> usize {
    (from..EXPERTS).min_by(|a, b| means[*a].total_cmp(&means[*b])).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::HOUR;

    const PAIRS: usize = 20;

    fn scored(records: &Records, pair: usize) -> usize {
        records.follow(Some(pair), 0.0).0.index()
    }

    #[test]
    fn the_reference_path_needs_its_margin() {
        let mut records = Records::new(&Tuning::every(HOUR), 3);
        records.learn((0..3).map(|pair| (pair, [0.0, 1.0, 1.0, 1.0])));
        assert_eq!(records.follow(Some(0), 0.5).0, Expert::Reference);
        assert_ne!(records.follow(Some(0), 1.5).0, Expert::Reference);
    }

    #[test]
    fn a_pair_without_a_record_follows_whom_the_mesh_follows() {
        let mut records = Records::new(&Tuning::every(HOUR), PAIRS);
        for _ in 0..30 {
            records.learn((0..PAIRS - 1).map(|pair| (pair, [0.0, -1.0, -5.0, 2.0])));
        }
        assert_eq!(scored(&records, PAIRS - 1), 2);
        assert_eq!(records.deciding(Expert::Reference), Forecast::Steady);
    }

    #[test]
    fn a_pair_that_differs_for_long_follows_its_own_record() {
        let mut records = Records::new(&Tuning::every(HOUR), PAIRS);
        for _ in 0..100 {
            let excess = |pair| if pair == 7 { [0.0, 30.0, 25.0, 20.0] } else { [0.0, -1.0, -5.0, 2.0] };
            records.learn((0..PAIRS).map(|pair| (pair, excess(pair))));
        }
        assert_eq!((scored(&records, 7), scored(&records, 8)), (0, 2));
        let standing = records.standing(Some(7), Expert::By(Forecast::Steady), 0.0);
        assert!((standing.own - 25.0).abs() < 0.01 && standing.mesh < 0.0, "{standing:?}");
        assert!(standing.evidence > 40.0 && standing.evidence < 51.0, "0.98 is about fifty steps");
    }

    #[test]
    fn where_pairs_differ_by_noise_only_the_mesh_counts_for_more_steps() {
        let learn = |spread: f32, noise: f32| {
            let mut records = Records::new(&Tuning::every(HOUR), PAIRS);
            for step in 0..60 {
                let sign = |bit: usize| if bit.is_multiple_of(2) { 1.0 } else { -1.0 };
                let excess =
                    |pair: usize| [0.0, spread * sign(pair) + noise * sign(pair / 2 + step), 0.0, 0.0];
                records.learn((0..PAIRS).map(|pair| (pair, excess(pair))));
            }
            records.priors[1]
        };
        assert!(learn(1.0, 10.0) > 5.0 * learn(10.0, 1.0), "{} {}", learn(1.0, 10.0), learn(10.0, 1.0));
    }

    #[test]
    fn a_step_without_a_score_changes_no_mean() {
        let mut records = Records::new(&Tuning::every(HOUR), 3);
        records.learn((0..3).map(|pair| (pair, [0.0, -2.0, 0.0, 0.0])));
        let before = records.mesh.means;
        records.learn(std::iter::empty());
        assert_eq!(before, records.mesh.means);
        records.forget(1);
        assert_eq!(records.standing(Some(1), Expert::Reference, 0.0).evidence, 0.0);
    }
}
