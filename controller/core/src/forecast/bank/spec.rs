//! What a bank forecasts: its unit, its step, its horizons.
use crate::forecast::outlook::Quantity;
use std::time::Duration;

/// Horizons of a bank, near to far, at which forecasts are judged and bands are made.
pub const HORIZONS: usize = 3;
/// Outstanding forecasts per horizon at most: farther ones are made seldom, for their errors are much alike.
pub(super) const SLOTS: [usize; HORIZONS] = [1, 3, 3];

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    pub step: Duration,
    /// In steps, ascending.
    pub ahead: [usize; HORIZONS],
    /// The smallest error that matters, in the unit of the samples.
    pub unit: f32,
    /// No value is larger.
    pub most: f32,
    /// Slow means are taken of logarithms: for what is never zero and has a heavy tail.
    pub logarithmic: bool,
    /// The profile of the day and the week is learnt; only where a step is an hour or so.
    pub season: bool,
}

impl Spec {
    /// Steps of two seconds, as often as agents report.
    pub fn seconds(quantity: Quantity) -> Self {
        Self::of(quantity, Duration::from_secs(2), [1, 6, 30], false)
    }

    pub fn minutes(quantity: Quantity) -> Self {
        Self::of(quantity, Duration::from_secs(60), [1, 12, 60], false)
    }

    /// Loss has no season here: what is known of it is too little.
    pub fn hours(quantity: Quantity) -> Self {
        Self::of(quantity, Duration::from_secs(3600), [1, 12, 24], quantity != Quantity::Loss)
    }

    fn of(quantity: Quantity, step: Duration, ahead: [usize; HORIZONS], season: bool) -> Self {
        let (unit, most) = match quantity {
            Quantity::Rtt => (0.001, 3.6e6),
            Quantity::Loss => (1e-6, 1.0),
            Quantity::Load => (0.01, 1e7),
        };
        Self { step, ahead, unit, most, logarithmic: quantity == Quantity::Rtt, season }
    }

    /// Steps between two forecasts at a horizon that are judged: the least so that the slots suffice and divide it.
    pub(super) fn stride(&self, horizon: usize) -> usize {
        let ahead = self.ahead[horizon];
        (ahead.div_ceil(SLOTS[horizon])..ahead).find(|stride| ahead.is_multiple_of(*stride)).unwrap_or(ahead)
    }
}
