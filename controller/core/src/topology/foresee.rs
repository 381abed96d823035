//! What is expected of links within the horizon; decisions go by it where it is known.
use super::{Known, Link, Source, Topology};
use crate::forecast::{Spread, Spreads};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss, Timestamp};

/// A quantity of a link within the controller's horizon: what costs go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<T> {
    pub mean: T,
    /// Mean absolute error of late, of forecasts that reached so far.
    pub error: T,
}

/// As forecast; an absent quantity is not known well enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    pub rtt: Option<Expected<Latency>>,
    pub loss: Option<Expected<Loss>>,
    pub load: Option<Expected<Bandwidth>>,
}

impl Link {
    /// Round-trip time: as configured, else as forecast while it is measured, else as measured lately.
    pub fn expected_rtt(&self) -> Option<Expected<Latency>> {
        self.foreseen.rtt.filter(|_| self.values.rtt.is_none())
    }

    pub fn expected_loss(&self) -> Option<Expected<Loss>> {
        self.foreseen.loss.filter(|_| self.values.loss == Loss::NONE)
    }

    /// While it is known what it carries.
    pub fn expected_load(&self) -> Option<Expected<Bandwidth>> {
        self.foreseen.load.filter(|_| self.is_weighed())
    }

    /// Round-trip time after a span of [`crate::forecast::AHEAD`]: as configured, as forecast while it is measured, or as measured lately.
    pub fn rtt_after(&self, span: usize, now: Timestamp) -> Option<Spread> {
        let measured = self.samples.rtt(now).value;
        match (self.values.rtt, self.spreads.rtt[span]) {
            (None, Some(spread)) if measured.is_some() => Some(spread),
            (configured, _) => configured.or(measured).map(|rtt| Spread::certain(rtt.as_millis_f64() as f32)),
        }
    }

    /// Loss after a span of [`crate::forecast::AHEAD`], like [`Self::rtt_after`]; all of it when a link that used to answer is silent.
    pub fn loss_after(&self, span: usize, now: Timestamp) -> Spread {
        let measured = self.samples.loss(now);
        match (self.values.loss, self.spreads.loss[span]) {
            _ if self.is_silent(now) => Spread::certain(1.0),
            (Loss::NONE, Some(spread)) if measured.source == Source::Measured => spread,
            (Loss::NONE, _) => Spread::certain(measured.value.ppm() as f32 / 1e6),
            (configured, _) => Spread::certain(configured.ppm() as f32 / 1e6),
        }
    }

    /// Something of it is forecast so far ahead.
    pub fn is_foreseen(&self, span: usize) -> bool {
        let Spreads { rtt, loss } = &self.spreads;
        (rtt[span].is_some() && self.values.rtt.is_none())
            || (loss[span].is_some() && self.values.loss == Loss::NONE)
    }

    /// A forecast says nothing of a link that is measured no longer.
    pub(super) fn or_foreseen<T: Copy, V: Copy>(
        measured: Known<V>,
        expected: Option<Expected<T>>,
        value: impl Fn(T) -> V,
    ) -> Known<V> {
        match expected.filter(|_| measured.source == Source::Measured) {
            Some(expected) => Known { value: value(expected.mean), source: Source::Forecast },
            None => measured,
        }
    }
}

impl Topology {
    /// What decisions go by from now on.
    pub fn foresee(&mut self, id: &LinkId, foreseen: Foreseen) {
        if let Some(at) = self.edges.get(id).copied() {
            let link = &mut self.graph[at];
            link.load_then = link.load;
            let before = std::mem::replace(&mut link.foreseen, foreseen);
            // Searches read no loads.
            if (before.rtt, before.loss) != (foreseen.rtt, foreseen.loss) {
                self.mirror(at);
            }
        }
    }

    /// What bounds are held against from now on: after some of the spans.
    pub fn spread(&mut self, id: &LinkId, spans: std::ops::Range<usize>, spreads: &Spreads) {
        if let Some(at) = self.edges.get(id).copied() {
            let known = &mut self.graph[at].spreads;
            known.rtt[spans.clone()].copy_from_slice(&spreads.rtt[spans.clone()]);
            known.loss[spans.clone()].copy_from_slice(&spreads.loss[spans]);
        }
    }
}
