//! The constants of the choice, in one place: one set for every network and every length of a step, none fitted to a series by its
//! name.
use std::time::Duration;

/// Factor of the margin where a step is long. The figures of the shared series hardly change between 0.05 and 0.12: less moves more
/// often, more moves too late.
const CAUTION: f32 = 0.09;
/// For about how long what differs by chance goes on doing so, in seconds. Two minutes make the factor 0.5 at a step of 4 s, which was
/// chosen on other seeds of the scenes in docs/rerouting.md than those that are reported there; on no recorded series.
const LASTS: f32 = 120.0;
/// An error counts in the margin up to so many times the mean one, where a step is short.
const WORST_ERROR: f32 = 5.0;
/// Shorter ones count as this, in seconds.
const SHORTEST_STEP: f32 = 0.1;

/// Gains are the weights of a new sample in a moving average; a new link uses `1/n` until that is smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Gain of the quick levels.
    pub quick: f32,
    /// Gain of the slow level of medians of three.
    pub slow: f32,
    /// Gain of the plain mean.
    pub plain: f32,
    /// A sample further from the doubting level than so many of its scales is an outlier until the next confirms it.
    pub outlier: f32,
    /// Gain with which a confirmed shift is taken over.
    pub shift: f32,
    /// Gain of the level without the effects of the link's nodes.
    pub own: f32,
    /// Gain of the base, the mean of the logarithm: where the link is when nothing happens to it.
    pub base: f32,
    /// Gain of the noise, the mean absolute error of the own level.
    pub noise: f32,
    /// Least gain of what a node does to all its links.
    pub node: f32,
    /// What a link is above its base is believed beyond so many standard errors only (a soft threshold).
    pub doubt: f32,
    /// What is left of an expert's record after one step: about 50 steps count.
    pub memory: f32,
    /// Steps of the whole mesh that weigh as much as a pair's own, at least; and the factor on the estimated number.
    pub prior: f32,
    pub prior_scale: f32,
    /// A realised excess counts up to this share of the mesh's mean cost: one outlier is one bad step, not fifty.
    pub excess_cap: f32,
    /// By how much (share of its present cost) the reference path must be better to be chosen against the experts.
    pub reference_margin: f32,
    /// Factor of the margin by which another path must be better; see `margin`.
    pub caution: f32,
    /// An error counts up to so many times the mean one, in the margin.
    pub worst_error: f32,
}

impl Tuning {
    /// For choices that are made once in a `step`.
    ///
    /// A move that was mistaken costs the error of the forecasts in every step until it is seen to be one: in the next step at the
    /// soonest, and not before chance has turned. That many steps' errors are what the margin is asked for. An outlier, or a link that
    /// shifts, does not go on for that long; so the larger the part of these steps that lies beyond the next one, the less of it counts.
    pub fn every(step: Duration) -> Self {
        let beyond = LASTS / step.as_secs_f32().max(SHORTEST_STEP);
        let steps = 1.0 + beyond;
        Self {
            quick: 0.3,
            slow: 0.1,
            plain: 0.05,
            outlier: 4.0,
            shift: 0.5,
            own: 0.2,
            base: 0.07,
            noise: 0.1,
            node: 0.05,
            doubt: 2.0,
            memory: 0.98,
            prior: 5.0,
            prior_scale: 4.0,
            excess_cap: 0.5,
            reference_margin: 0.01,
            caution: CAUTION * steps.sqrt(),
            worst_error: WORST_ERROR * steps / beyond,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_chooses_more_often_asks_for_more() {
        let factor = |seconds: f32| Tuning::every(Duration::from_secs_f32(seconds)).caution;
        let day = factor(86_400.0);
        assert!((day / CAUTION - 1.0).abs() < 1e-3, "{day}");
        assert!((factor(4.0) / 0.501 - 1.0).abs() < 1e-3, "{}", factor(4.0));
        assert!(factor(120.0) > 1.4 * day && factor(120.0) < 1.42 * day);
        assert_eq!(factor(0.0), factor(SHORTEST_STEP));
    }

    #[test]
    fn an_outlier_counts_the_less_the_more_often_is_chosen() {
        let worst = |seconds: u64| Tuning::every(Duration::from_secs(seconds)).worst_error;
        assert!((worst(4) - 5.17).abs() < 0.01, "{}", worst(4));
        assert!((worst(120) - 10.0).abs() < 0.01 && worst(3_600) > 100.0, "{}", worst(120));
    }
}
