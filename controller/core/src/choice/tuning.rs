//! The constants of the choice, in one place: one set for every network, none fitted to a series by its name.

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
    /// Factor of the margin by which another path must be better; see `margin`. The figures of the shared series hardly
    /// change between 0.05 and 0.12: less moves more often, more moves too late.
    pub caution: f32,
    /// An error counts up to so many times the mean one, in the margin.
    pub worst_error: f32,
}

impl Tuning {
    /// Of a controller that chooses every few seconds. What differs by chance does so for some steps, and a step is short: that
    /// is no reason to move. A link that shifts is wrong for some steps, not for the minutes that the mean error remembers them.
    ///
    /// Chosen on other seeds of the scenes in docs/rerouting.md than those that are reported there.
    pub fn live() -> Self {
        Self { caution: 0.5, worst_error: 5.0, ..Self::default() }
    }
}

impl Default for Tuning {
    fn default() -> Self {
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
            caution: 0.09,
            worst_error: f32::INFINITY,
        }
    }
}
