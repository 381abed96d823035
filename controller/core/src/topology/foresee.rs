//! What is expected of links within the horizon, and what circuits bring to them; decisions go by it where it is known.
use super::{Known, Link, Source, Topology};
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss};
use std::time::Duration;

/// A quantity of a link within the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<T> {
    pub mean: T,
    /// Exceeded with no more than the risk that decisions are taken at.
    pub high: T,
    /// Mean absolute error of late, of forecasts that reached so far.
    pub error: T,
}

/// As forecast; an absent quantity is not known well enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    pub rtt: Option<Expected<Latency>>,
    pub loss: Option<Expected<Loss>>,
    /// What was looked ahead.
    pub horizon: Duration,
}

impl Link {
    /// Round-trip time: as configured, else as forecast while it is measured, else as measured lately.
    pub fn expected_rtt(&self) -> Option<Expected<Latency>> {
        self.foreseen.rtt.filter(|_| self.values.rtt.is_none())
    }

    pub fn expected_loss(&self) -> Option<Expected<Loss>> {
        self.foreseen.loss.filter(|_| self.values.loss == Loss::NONE)
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
            let before = std::mem::replace(&mut self.graph[at].foreseen, foreseen);
            if before != foreseen {
                self.mirror(at);
            }
        }
    }

    /// What circuits are seen to bring to links.
    pub fn loads(&self) -> impl Iterator<Item = (&LinkId, Bandwidth)> {
        self.loads.iter().map(|(link, load)| (link, *load))
    }

    /// What circuits are seen to bring to each link of a path: so much more.
    pub fn carry(&mut self, path: &Path, rate: Bandwidth) {
        self.change_load(path, rate, Bandwidth::saturating_add);
    }

    /// So much less.
    pub fn carry_less(&mut self, path: &Path, rate: Bandwidth) {
        self.change_load(path, rate, Bandwidth::saturating_sub);
    }

    fn change_load(&mut self, path: &Path, rate: Bandwidth, change: fn(Bandwidth, Bandwidth) -> Bandwidth) {
        for link in path.links.iter().filter(|_| !rate.is_zero()) {
            let load = change(self.loads.remove(link).unwrap_or_default(), rate);
            if !load.is_zero() {
                self.loads.insert(link.clone(), load);
            }
            if let Some(at) = self.edges.get(link) {
                self.graph[*at].load = load;
            }
        }
    }
}
