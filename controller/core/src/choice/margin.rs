//! How much better another path must be before a pair moves: derived from how wrong its forecasts have been.
//!
//! A forecast with a mean absolute error of `e` tells two paths of cost `c` apart the worse, the larger `e` is; but where
//! everything is noise, waiting for a difference of `e` would mean never to move. The margin is the geometric mean of
//! the two, `√(e · c)`, times a factor that follows from the length of a step ([`Tuning::every`]), 0.09 where that is hours: then it
//! is 1.8 % of the cost where forecasts are 4 % off, 9 % where they are as far off as the cost. An error is never taken for less
//! than the least standard error of a level: a clock that shows no difference is no proof.
use super::level::ERROR_FLOOR as LEAST_ERROR;
use super::tuning::Tuning;

/// Of one pair: the error of the forecasts of the paths that it had, one step ahead.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    count: f32,
    error: f32,
}

/// By dense pair index; 8 bytes each.
#[derive(Clone, Debug)]
pub(super) struct Margins {
    gain: f32,
    caution: f32,
    worst: f32,
    pairs: Vec<Record>,
    /// Mean of error over cost of all pairs; a pair without a record takes it. 1, the cautious end, before the first.
    mesh: f32,
    mesh_count: f32,
}

impl Margins {
    pub(super) fn new(tuning: &Tuning, pairs: usize) -> Self {
        Self {
            gain: tuning.plain,
            caution: tuning.caution,
            worst: tuning.worst_error,
            pairs: vec![Record::default(); pairs],
            mesh: 1.0,
            mesh_count: 0.0,
        }
    }

    pub(super) fn grow(&mut self, pairs: usize) {
        self.pairs.resize(pairs.max(self.pairs.len()), Record::default());
    }

    pub(super) fn forget(&mut self, pair: usize) {
        self.pairs[pair] = Record::default();
    }

    /// One step: of pairs, the forecast cost of the path that each had, and what it turned out to cost.
    pub(super) fn learn(&mut self, step: impl Iterator<Item = (usize, f32, f32)>) {
        let (mut sum, mut count) = (0.0, 0.0_f32);
        let known = step.filter(|(_, forecast, cost)| forecast.is_finite() && cost.is_finite());
        for (pair, forecast, cost) in known {
            let (record, error) = (&mut self.pairs[pair], (cost - forecast).abs());
            record.count += 1.0;
            let counts = if record.count > 1.0 {
                error.min(self.worst * record.error.max(LEAST_ERROR))
            } else {
                error
            };
            record.error += self.gain.max(1.0 / record.count) * (counts - record.error);
            sum += error / cost.max(forecast).max(f32::MIN_POSITIVE);
            count += 1.0;
        }
        if count > 0.0 {
            self.mesh_count += 1.0;
            self.mesh += self.gain.max(1.0 / self.mesh_count) * (sum / count - self.mesh);
        }
    }

    /// Mean absolute error of the pair's forecasts; of one without a record what the mesh suggests at this cost.
    pub(super) fn error(&self, pair: Option<usize>, cost: f32) -> f32 {
        let record = pair.map(|pair| self.pairs[pair]).unwrap_or_default();
        let error = if record.count > 0.0 { record.error } else { self.mesh * cost };
        error.max(LEAST_ERROR)
    }

    /// How much below the present path's cost a path of this cost must be.
    pub(super) fn of(&self, pair: Option<usize>, cost: f32) -> f32 {
        self.caution * (self.error(pair, cost) * cost).max(0.0).sqrt()
    }

    /// The highest cost at which another path is taken from one of cost `present`: `x + caution · √(e · x) = present`.
    pub(super) fn tempting(&self, pair: Option<usize>, present: f32) -> f32 {
        let slope = self.caution * self.error(pair, present).max(0.0).sqrt();
        let root = ((slope * slope + 4.0 * present.max(0.0)).sqrt() - slope) / 2.0;
        root * root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::HOUR;
    use std::time::Duration;

    fn after(steps: &[(f32, f32)]) -> Margins {
        let mut margins = Margins::new(&Tuning::every(HOUR), 2);
        for (forecast, cost) in steps {
            margins.learn(std::iter::once((0, *forecast, *cost)));
        }
        margins
    }

    #[test]
    fn the_margin_grows_with_the_error_of_the_pair() {
        let (calm, noisy) = (after(&[(100.0, 101.0); 9]), after(&[(100.0, 181.0); 9]));
        assert!((calm.of(Some(0), 100.0) - 0.915).abs() < 1e-3, "{}", calm.of(Some(0), 100.0));
        assert!((noisy.of(Some(0), 100.0) - 8.234).abs() < 1e-3, "{}", noisy.of(Some(0), 100.0));
    }

    #[test]
    fn a_pair_without_a_record_is_as_cautious_as_the_mesh() {
        let margins = after(&[(100.0, 104.0); 9]);
        assert!(
            (margins.error(Some(1), 50.0) - 50.0 * 4.0 / 104.0).abs() < 1e-3,
            "{}",
            margins.error(Some(1), 50.0)
        );
        assert_eq!(after(&[]).error(Some(1), 50.0), 50.0, "nothing is known: as wrong as the cost");
    }

    #[test]
    fn links_that_never_vary_are_not_left_for_nothing() {
        let still = after(&[(10.0, 10.0); 50]);
        assert!(still.of(Some(0), 10.0) > 0.15, "{}", still.of(Some(0), 10.0));
    }

    #[test]
    fn what_cannot_be_compared_teaches_nothing() {
        let margins = after(&[(f32::NAN, 5.0), (f32::INFINITY, 5.0), (5.0, f32::NAN)]);
        assert_eq!((margins.pairs[0].count, margins.mesh_count), (0.0, 0.0));
    }

    #[test]
    fn a_link_that_shifts_makes_who_chooses_often_hesitate_for_a_few_steps_only() {
        let steps = [(10.0, 10.5); 20].into_iter().chain([(10.0, 90.0), (60.0, 90.0)]);
        let error = |step: Duration| {
            let mut margins = Margins::new(&Tuning::every(step), 1);
            steps.clone().for_each(|(forecast, cost)| margins.learn(std::iter::once((0, forecast, cost))));
            margins.error(Some(0), 90.0)
        };
        let (often, seldom) = (error(Duration::from_secs(4)), error(HOUR));
        assert!(often < 1.0 && seldom > 4.0, "{often} {seldom}");
    }

    #[test]
    fn who_chooses_every_four_seconds_asks_for_five_times_the_margin() {
        let [often, seldom] =
            [Duration::from_secs(4), HOUR].map(|step| Margins::new(&Tuning::every(step), 1).of(None, 100.0));
        assert!((often / seldom - 5.48).abs() < 0.01, "{often} {seldom}");
    }

    #[test]
    fn a_path_tempts_exactly_where_the_margin_begins() {
        let margins = after(&[(100.0, 120.0); 9]);
        let cost = margins.tempting(Some(0), 90.0);
        assert!((cost + margins.of(Some(0), cost) - 90.0).abs() < 1e-3, "{cost}");
    }
}
