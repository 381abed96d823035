//! A forecast as its users see it: a distribution, who made it, and how well that went lately.
use std::time::Duration;

/// What is forecast of a link. Values are `f32` in the unit named here, inside [`super`] and in [`Outlook`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Round-trip time, milliseconds.
    Rtt,
    /// Lost packets, a share from 0 to 1.
    Loss,
    /// Bandwidth in use, Mbit/s; what is available is the capacity less this.
    Load,
}

/// Who makes forecasts; several run side by side and are mixed by their own past errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// The last sample.
    Last,
    /// A level that doubts an outlier until the next sample confirms it.
    Robust,
    /// A slow mean of logarithms: a long memory that heavy tails do not move much.
    Smooth,
    /// The mean since the last change point (CUSUM).
    Shift,
    /// A straight line through the last samples, older ones fading.
    Trend,
    /// Profile of the day and the week, and today's distance from it.
    Season,
    /// Regression on levels, last moves and season, from the link's own past and the whole mesh's.
    Regression,
    /// The same without the season.
    Plain,
    /// The same from the whole mesh's past alone.
    Pooled,
}

/// Probabilities of [`Outlook::quantiles`].
pub const LEVELS: [f32; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// What a quantity will be after `horizon`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    pub horizon: Duration,
    pub mean: f32,
    /// At [`LEVELS`], ascending; no probability is below the first or above the last by more than is said there.
    pub quantiles: [f32; 7],
    /// The model with the largest weight in the mix.
    pub model: Model,
    /// Recent mean absolute error of the mix at this horizon; the error when nothing is known yet is the width of the band.
    pub error: f32,
    /// Errors seen so far from which the band is made; few: it leans on what other links of the mesh show.
    pub samples: u32,
    /// Age of the last sample when it is older than expected; the band is wider by that.
    pub stale: Option<Duration>,
}

impl Outlook {
    /// Mean of the distribution that is linear between these quantiles and ends at the outer ones.
    pub(super) fn mean_of(quantiles: &[f32; 7]) -> f32 {
        const WEIGHTS: [f32; 7] = [0.03, 0.12, 0.225, 0.25, 0.225, 0.12, 0.03];
        quantiles.iter().zip(WEIGHTS).map(|(value, weight)| value * weight).sum()
    }

    /// The value that is not exceeded with this probability: linear between [`LEVELS`]; beyond them the nearest.
    pub fn quantile(&self, level: f32) -> f32 {
        quantile(&self.quantiles, level)
    }

    /// Probability that the value will be above `bound`, as of [`chance_above`].
    pub fn chance_above(&self, bound: f32) -> f32 {
        chance_above(&self.quantiles, bound)
    }
}

/// The value that is not exceeded with this probability, of a distribution with these quantiles at [`LEVELS`].
pub fn quantile(quantiles: &[f32; 7], level: f32) -> f32 {
    let Some(after) = LEVELS.iter().position(|known| level <= *known) else { return quantiles[6] };
    let Some(before) = after.checked_sub(1) else { return quantiles[0] };
    let share = (level - LEVELS[before]) / (LEVELS[after] - LEVELS[before]);
    quantiles[before] + share * (quantiles[after] - quantiles[before])
}

/// Probability of more than `bound`, of a distribution with these quantiles at [`LEVELS`]. Outside of them it is 0.99 or more,
/// or 0.01 or less, and falls with the distance as an exponential does.
pub fn chance_above(quantiles: &[f32; 7], bound: f32) -> f32 {
    let Some(after) = quantiles.iter().position(|value| bound < *value) else {
        return (1.0 - LEVELS[6]) * tail(quantiles, bound - quantiles[6], 6);
    };
    let Some(before) = after.checked_sub(1) else {
        return 1.0 - LEVELS[0] * tail(quantiles, quantiles[0] - bound, 0);
    };
    let share = (bound - quantiles[before]) / (quantiles[after] - quantiles[before]);
    1.0 - (LEVELS[before] + share * (LEVELS[after] - LEVELS[before]))
}

/// What is left of the probability that far outside of the first or last quantile.
fn tail(quantiles: &[f32; 7], beyond: f32, end: usize) -> f32 {
    let next = if end == 0 { 1 } else { 5 };
    let step = (quantiles[end] - quantiles[next]).abs().max(f32::MIN_POSITIVE);
    // From 5 % to 1 % the tail falls by a factor of 5 within one step.
    (-(beyond / step) * 5f32.ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook() -> Outlook {
        let quantiles = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0];
        let horizon = Duration::from_secs(1);
        Outlook { horizon, mean: 41.0, quantiles, model: Model::Last, error: 5.0, samples: 9, stale: None }
    }

    #[test]
    fn quantile_and_chance_are_inverse() {
        for level in [0.01, 0.03, 0.05, 0.2, 0.5, 0.6, 0.9, 0.98] {
            let value = outlook().quantile(level);
            assert!((outlook().chance_above(value) - (1.0 - level)).abs() < 1e-5, "{level}");
        }
    }

    #[test]
    fn a_chance_is_never_outside_its_range_and_falls_with_the_bound() {
        let chances: Vec<f32> = (-50..150).map(|bound| outlook().chance_above(bound as f32)).collect();
        assert!(chances.windows(2).all(|pair| pair[1] <= pair[0]));
        assert!(chances[0] > 0.99 && chances[0] <= 1.0 && chances[199] < 0.01 && chances[199] >= 0.0);
    }

    #[test]
    fn equal_quantiles_divide_by_nothing() {
        let flat = Outlook { quantiles: [5.0; 7], ..outlook() };
        assert!(flat.chance_above(5.0) <= 0.01 && flat.chance_above(4.9) >= 0.99);
        assert_eq!(flat.quantile(0.3), 5.0);
    }
}
