//! What the past samples of one link say of it: several levels, each of them wrong in another way.
use super::tuning::Tuning;

/// Least cost that is told from nothing, where a logarithm or a standard error needs a floor; milliseconds.
const FLOOR: f32 = 0.5;
/// Least standard error of a level; milliseconds.
pub(super) const ERROR_FLOOR: f32 = 0.3;
/// Standard deviation over mean absolute error, of a normal distribution.
const DEVIATION: f32 = 1.25;

/// Streaming levels of one link's cost. 56 bytes; a missing sample leaves them as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    /// Samples so far.
    pub(super) count: f32,
    /// The last three samples, the newest last.
    recent: [f32; 3],
    quick_median: f32,
    slow_median: f32,
    quick_log: f32,
    doubting: Doubting,
    mean: f32,
    /// Without what its frame did to the nodes at its ends.
    own: f32,
    noise: f32,
    base_log: f32,
}

impl Level {
    /// `common` is what this frame did to all links of the two nodes.
    pub(super) fn see(&mut self, tuning: &Tuning, sample: f32, common: f32) {
        let log = sample.max(FLOOR).ln();
        self.count += 1.0;
        if self.count == 1.0 {
            *self = Self::begun(sample, log);
            return;
        }
        self.recent = [self.recent[1], self.recent[2], sample];
        let fair = 1.0 / self.count;
        let middle = self.median_of_recent();
        let towards = |level: &mut f32, gain: f32, value: f32| *level += gain.max(fair) * (value - *level);
        towards(&mut self.quick_median, tuning.quick, middle);
        towards(&mut self.slow_median, tuning.slow, middle);
        towards(&mut self.quick_log, tuning.quick, log);
        towards(&mut self.mean, tuning.plain, sample);
        towards(&mut self.base_log, tuning.base, log);
        self.doubting.see(tuning, sample, fair);
        self.see_own(tuning, sample - common);
    }

    fn begun(sample: f32, log: f32) -> Self {
        Self {
            count: 1.0,
            recent: [0.0, 0.0, sample],
            quick_median: sample,
            slow_median: sample,
            quick_log: log,
            doubting: Doubting { level: sample, scale: 0.02 * sample, last: sample },
            mean: sample,
            own: sample,
            noise: 0.0,
            base_log: log,
        }
    }

    fn median_of_recent(&self) -> f32 {
        let [a, b, c] = self.recent;
        if self.count == 2.0 { f32::midpoint(b, c) } else { a.min(b).max(a.max(b).min(c)) }
    }

    fn see_own(&mut self, tuning: &Tuning, sample: f32) {
        let error = sample - self.own;
        self.noise += tuning.noise.max(1.0 / (self.count - 1.0)) * (error.abs() - self.noise);
        self.own += tuning.own.max(1.0 / self.count) * error;
    }

    /// The newest sample; 0 before the first.
    pub(super) fn last(&self) -> f32 {
        self.recent[2]
    }

    /// What the sample differs from the own level by; none before the first sample.
    pub(super) fn surprise(&self, sample: f32) -> f32 {
        if self.count == 0.0 { f32::NAN } else { sample - self.own }
    }

    /// How far the mean, with the nodes' effects, is above the base.
    pub(super) fn excess(&self, nodes: f32) -> f32 {
        if self.count == 0.0 { f32::NAN } else { self.own + nodes - self.base() }
    }

    pub(super) fn base(&self) -> f32 {
        self.base_log.exp()
    }

    /// Follows changes within a few samples.
    pub(super) fn agile(&self) -> f32 {
        (self.doubting.level + self.quick_median + self.quick_log.exp()) / 3.0
    }

    /// Follows slowly; outliers count with what they add to the mean.
    pub(super) fn steady(&self) -> f32 {
        (self.quick_median + self.slow_median + self.mean) / 3.0
    }

    /// The base, what its nodes' links have in common above theirs, and of the rest what is beyond doubt.
    pub(super) fn shrunk(&self, tuning: &Tuning, excess: f32, common: f32) -> f32 {
        let variance = (tuning.own / (2.0 - tuning.own)).max(1.0 / self.count);
        let error = (DEVIATION * self.noise).max(ERROR_FLOOR) * variance.sqrt();
        let rest = excess - common;
        let believed = rest.signum() * (rest.abs() - tuning.doubt * error).max(0.0);
        let base = self.base();
        (base + common + believed).max(0.3 * base)
    }
}

/// A level that doubts an outlier until the next sample confirms it.
#[derive(Clone, Copy, Debug, Default)]
struct Doubting {
    level: f32,
    /// Mean absolute error, outliers cut.
    scale: f32,
    last: f32,
}

impl Doubting {
    fn see(&mut self, tuning: &Tuning, sample: f32, fair: f32) {
        let error = sample - self.level;
        let scale = self.scale.max(0.005 * self.level);
        let distance = error.abs() / scale;
        let before = self.last - self.level;
        let confirmed = before * error > 0.0 && before.abs() > 0.5 * error.abs();
        let gain = tuning.quick.max(fair);
        self.level += error
            * match distance <= tuning.outlier {
                true => gain,
                false if confirmed => gain.max(tuning.shift),
                false => gain * tuning.outlier / distance,
            };
        self.scale += 0.1_f32.max(fair) * (error.abs().min(5.0 * scale) - self.scale);
        self.last = sample;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::HOUR;

    fn after(samples: &[f32]) -> Level {
        let mut level = Level::default();
        samples.iter().for_each(|sample| level.see(&Tuning::every(HOUR), *sample, 0.0));
        level
    }

    #[test]
    fn one_outlier_hardly_moves_the_doubting_level_and_a_second_does() {
        let calm = [50.0, 51.0, 49.0, 50.0, 51.0, 49.0, 50.0, 50.0];
        let once = after(&[&calm[..], &[150.0]].concat());
        let twice = after(&[&calm[..], &[150.0, 150.0]].concat());
        assert!(once.doubting.level < 55.0, "{}", once.doubting.level);
        assert!(twice.doubting.level > 95.0, "{}", twice.doubting.level);
    }

    #[test]
    fn every_level_of_a_constant_link_is_that_constant() {
        let level = after(&[80.0; 40]);
        for value in [level.agile(), level.steady(), level.base(), level.last()] {
            assert!((value - 80.0).abs() < 0.01, "{value}");
        }
        let shrunk = level.shrunk(&Tuning::every(HOUR), level.excess(0.0), 0.0);
        assert!((shrunk - 80.0).abs() < 0.01, "{shrunk}");
    }

    #[test]
    fn the_mean_counts_what_the_base_does_not() {
        let heavy: Vec<f32> = (0..200).map(|step| if step % 10 == 9 { 1_000.0 } else { 50.0 }).collect();
        let level = after(&heavy);
        assert!(level.base() < 90.0, "{}", level.base());
        assert!(level.steady() > level.base());
    }

    #[test]
    fn noise_alone_is_not_believed() {
        let noisy: Vec<f32> = (0..60).map(|step| if step % 2 == 0 { 60.0 } else { 140.0 }).collect();
        let level = after(&noisy);
        let shrunk = level.shrunk(&Tuning::every(HOUR), level.excess(0.0), 0.0);
        assert!((shrunk - level.base()).abs() < 1e-3, "{shrunk} {}", level.base());
    }
}
