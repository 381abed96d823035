//! Whether a path loses more than it may: Page's cumulative sum test ("Continuous inspection schemes", 1954).
use super::limits::{EVIDENCE, LOSS_BORNE, LOSS_LEAST};
use proto_model::Loss;

/// The log likelihood ratio of "loses p1" against "loses p0", never below 0. It rises with each loss by ln(p1/p0) and
/// falls with each delivery; at [`EVIDENCE`] the path is lossy, at 0 it is not any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cusum {
    sum: f64,
    lost: f64,
    delivered: f64,
    lossy: bool,
}

/// The loss that a group bears, in millionths.
pub(super) fn borne(max_loss: Option<Loss>) -> u32 {
    max_loss.map_or(LOSS_BORNE, Loss::ppm)
}

impl Cusum {
    /// p0 is what is allowed; p1 is three times as much, at least 10 %, and leaves room below 1.
    pub(super) fn new(allowed: u32) -> Self {
        let p0 = f64::from(allowed.clamp(LOSS_LEAST, 900_000)) / 1e6;
        let p1 = (3.0 * p0).min(f64::midpoint(1.0, p0)).max(0.1);
        Self { sum: 0.0, lost: (p1 / p0).ln(), delivered: ((1.0 - p1) / (1.0 - p0)).ln(), lossy: false }
    }

    /// True: the judgement changed.
    pub(super) fn note(&mut self, lost: u32, delivered: u32) -> bool {
        let sum = self.sum + f64::from(lost) * self.lost + f64::from(delivered) * self.delivered;
        self.sum = sum.clamp(0.0, EVIDENCE);
        let before = self.lossy;
        self.lossy = self.sum >= EVIDENCE || (before && self.sum > 0.0);
        self.lossy != before
    }

    /// A probe that was counted as lost came late.
    pub(super) fn forgive(&mut self) -> bool {
        self.sum = (self.sum - self.lost).max(0.0);
        let before = self.lossy;
        self.lossy = before && self.sum > 0.0;
        self.lossy != before
    }

    pub(super) fn is_lossy(&self) -> bool {
        self.lossy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_losses_close_together_are_too_many_for_one_percent() {
        let mut cusum = Cusum::new(LOSS_BORNE);
        let before = (0..8).map(|_| cusum.note(1, 0)).filter(|changed| *changed).count();
        assert_eq!(before, 1);
        assert!(cusum.is_lossy());
    }

    #[test]
    fn a_lossy_path_is_good_again_after_200_deliveries() {
        let mut cusum = Cusum::new(LOSS_BORNE);
        cusum.note(20, 0);
        cusum.note(0, 190);
        assert!(cusum.is_lossy());
        cusum.note(0, 10);
        assert!(!cusum.is_lossy());
    }

    #[test]
    fn extreme_bounds_are_judged_too() {
        for allowed in [0, 1, 500_000, 999_999, 1_000_000] {
            let mut cusum = Cusum::new(allowed);
            assert!(!cusum.note(0, 1_000_000), "{allowed}");
            cusum.note(1_000, 0);
            assert!(cusum.is_lossy(), "{allowed}");
        }
    }
}
