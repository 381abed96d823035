//! Remembers what was measured of the links, forecasts them, and lets decisions go by the forecasts.
use super::{Fabric, Kept};
use crate::forecast::{AHEAD, Forecasts, NEAR, Quantity};
use crate::settings::Mode;
use crate::telemetry::{self, BadHistory, Resolution, Sample};
use crate::topology::{Expected, Foreseen};
use proto_model::request::LinkView;
use proto_model::topology::{self, Forecast, LinkId, Measured};
use proto_model::{Bandwidth, Latency, Loss, NodeName, Timestamp};
use std::time::Duration;

/// What was measured of a link that is not there any more is kept for so long, in case it comes back.
const FORGET: Duration = Duration::from_secs(24 * 3_600);
/// Buckets of seconds after which the others are asked for again: a minute, each link in its own turn.
const FAR_EVERY: u64 = 30;

impl Fabric {
    /// What a host's probes saw of a link of its own.
    pub(super) fn measured(&mut self, name: &NodeName, link: &LinkId, measured: &Measured, now: Timestamp) {
        let (a, b) = link.ends();
        let end = if a == name { 0 } else { 1 };
        if self.topology.link(link).is_some() && (a == name || b == name) {
            self.forecasts.see(now, link, &Sample::of(measured, end));
            self.learn_soon(now);
        }
    }

    /// Takes note of the loads, steps the forecasts, and tells the topology what to expect.
    pub(super) fn foresee(&mut self, now: Timestamp) {
        for (link, load) in self.topology.loads() {
            self.forecasts.see(now, link, &Sample { load, ..Sample::default() });
        }
        self.forecasts.advance(now);
        self.learn_soon(now);
        if self.settings.reroute.mode != Mode::Predictive {
            return;
        }
        let number = Resolution::Seconds.number(now);
        if std::mem::replace(&mut self.foreseen, number) == number {
            return;
        }
        let mut gone = Vec::new();
        for (at, link) in self.forecasts.history().keys().enumerate() {
            if self.topology.link(link).is_some() {
                let horizon = self.settings.reroute.horizon;
                self.topology.foresee(link, foreseen(&self.forecasts, link, horizon));
                // What is far changes once a minute.
                let far = (at as u64 + number).is_multiple_of(FAR_EVERY);
                let spans = if far { 0..AHEAD.len() } else { 0..NEAR };
                self.topology.bound(link, self.forecasts.tested_bound(link).map(bandwidth));
                let spreads = self.forecasts.spreads(link, spans.clone());
                self.topology.spread(link, spans, &spreads);
            } else if self.forecasts.history().last(link).is_none_or(|last| now.since(last) > FORGET) {
                gone.push(link.clone());
            }
        }
        self.topology.bound_interfaces();
        gone.iter().for_each(|link| self.forecasts.forget(link));
    }

    pub(super) fn with_forecasts(&self, mut view: LinkView) -> LinkView {
        use topology::Quantity::{Load, Loss, Rtt};
        let quantities = [Rtt, Loss, Load];
        let horizon = self.settings.reroute.horizon;
        view.forecasts =
            quantities.into_iter().filter_map(|of| self.forecast_of(&view.id, of, horizon)).collect();
        view
    }

    /// As far ahead as people ask.
    pub(super) fn forecast_of(
        &self,
        link: &LinkId,
        quantity: topology::Quantity,
        horizon: Duration,
    ) -> Option<Forecast> {
        let known = self.topology.link(link)?;
        let (of, unit, decides) = match quantity {
            topology::Quantity::Rtt => (Quantity::Rtt, 1e6, known.expected_rtt().is_some()),
            topology::Quantity::Loss => (Quantity::Loss, 1e6, known.expected_loss().is_some()),
            topology::Quantity::Load => (Quantity::Load, 1e6, known.expected_load().is_some()),
        };
        let outlook = self.forecasts.outlook(link, of, horizon)?;
        let counts = decides && outlook.is_tested();
        let whole = |value: f32| (f64::from(value.max(0.0)) * unit) as u64;
        Some(Forecast {
            quantity,
            horizon: outlook.horizon,
            mean: whole(outlook.mean),
            quantiles: outlook.quantiles.map(whole),
            error: whole(outlook.error),
            model: format!("{:?}", outlook.model).to_lowercase(),
            samples: outlook.samples,
            counts,
        })
    }

    /// A copy of what was measured of all links, and of how all circuits ran, for the next life of the controller.
    pub fn history(&self) -> Kept {
        Kept::of(self.forecasts.history(), &self.ran)
    }

    /// Links of which something measured is known.
    pub fn links_remembered(&self) -> usize {
        self.forecasts.history().keys().len()
    }

    /// What an earlier life of the controller measured; forecasts begin with it, as soon as they have [learned](Self::learning) it.
    ///
    /// # Errors
    /// It is no history of this format; then nothing is changed.
    pub fn recall(&mut self, history: &[u8], now: Timestamp) -> Result<usize, BadHistory> {
        let (links, mut circuits) = telemetry::from_bytes(history)?;
        circuits.retain(|id| self.circuits.get(*id).is_some());
        let count = links.keys().len();
        (self.forecasts, self.ran) = (Forecasts::restore(links, now), circuits);
        self.learn_soon(now);
        Ok(count)
    }
}

fn foreseen(forecasts: &Forecasts, link: &LinkId, horizon: Duration) -> Foreseen {
    let rtt = forecasts.tested(link, Quantity::Rtt, horizon);
    let loss_then = forecasts.tested(link, Quantity::Loss, horizon);
    let load = forecasts.tested(link, Quantity::Load, horizon);
    Foreseen {
        rtt: rtt.map(|outlook| Expected { mean: latency(outlook.mean), error: latency(outlook.error) }),
        loss: loss_then.map(|outlook| Expected { mean: loss(outlook.mean), error: loss(outlook.error) }),
        load: load.map(|outlook| Expected { mean: bandwidth(outlook.mean), error: bandwidth(outlook.error) }),
    }
}

/// Of milliseconds.
fn latency(millis: f32) -> Latency {
    Latency::from_nanos((f64::from(millis.max(0.0)) * 1e6) as u64)
}

/// Of a share.
fn loss(share: f32) -> Loss {
    Loss::from_ppm((f64::from(share.clamp(0.0, 1.0)) * 1e6) as u32)
}

/// Of Mbit/s.
fn bandwidth(mbit: f32) -> Bandwidth {
    Bandwidth::from_bits_per_second((f64::from(mbit.max(0.0)) * 1e6) as u64)
}
