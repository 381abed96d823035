//! What a link may be like after a few spans, near and far: what the bounds of circuits are held against.
use super::{Forecasts, LOAD_WITHIN, Outlook, Quantity};
use proto_model::topology::LinkId;
use std::ops::Range;
use std::time::Duration;

/// How far ahead links are forecast: the horizons of the banks, where the errors of forecasts are known.
pub const AHEAD: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(12),
    Duration::from_secs(60),
    Duration::from_secs(720),
    Duration::from_secs(3_600),
];
/// Those of them that are forecast from seconds; the others change once a minute.
pub const NEAR: usize = 3;

/// A forecast with fewer errors behind it is no better than the last measurements. Errors of forecasts that overlap are
/// counted once, so that this takes a few times the horizon.
const ENOUGH: u32 = 3;

/// What a quantity may be after a span. Round-trip times are milliseconds, losses shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f32,
    /// At [`super::LEVELS`].
    pub quantiles: [f32; 7],
}

/// Of a link, after each span of [`AHEAD`]; none: that is not known well enough.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spreads {
    pub rtt: [Option<Spread>; AHEAD.len()],
    pub loss: [Option<Spread>; AHEAD.len()],
}

impl Spread {
    /// What is certain.
    pub fn certain(value: f32) -> Self {
        Self { mean: value, quantiles: [value; 7] }
    }
}

impl Outlook {
    /// It is worth more than the last measurements, and its link is measured still.
    pub fn is_tested(&self) -> bool {
        self.samples >= ENOUGH && self.stale.is_none()
    }
}

impl Forecasts {
    /// An outlook that is worth more than the last measurements.
    pub fn tested(&self, link: &LinkId, quantity: Quantity, horizon: Duration) -> Option<Outlook> {
        let outlook = self.outlook(link, quantity, horizon)?;
        outlook.is_tested().then_some(outlook)
    }

    /// [`Self::load_bound`] where forecasts that reach as far have been tested, and the load is measured still.
    pub fn tested_bound(&self, link: &LinkId) -> Option<f32> {
        self.tested(link, Quantity::Load, LOAD_WITHIN).and_then(|_| self.load_bound(link))
    }

    /// After some of the spans; of the others nothing is said.
    pub fn spreads(&self, link: &LinkId, spans: Range<usize>) -> Spreads {
        let mut spreads = Spreads::default();
        let of = |quantity, after| {
            let outlook = self.tested(link, quantity, after)?;
            Some(Spread { mean: outlook.mean, quantiles: outlook.quantiles })
        };
        for span in spans {
            spreads.rtt[span] = of(Quantity::Rtt, AHEAD[span]);
            spreads.loss[span] = of(Quantity::Loss, AHEAD[span]);
        }
        spreads
    }
}
