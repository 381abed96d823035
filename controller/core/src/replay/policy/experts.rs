//! Forecasters weighted by their past errors, and one standard deviation of the error on top: the forecaster's router.
use super::moved;
use crate::choice::mesh::{Costs, Relay};
use crate::replay::score::Policy;
use crate::replay::table::Table;

/// Gains of the means that are mixed; 1 is the last value.
const GAINS: [f32; 4] = [1.0, 0.3, 0.1, 0.03];
/// Gain of the errors.
const FORGET: f32 = 0.03;
const HYSTERESIS: f32 = 0.02;

#[derive(Clone, Copy)]
struct Link {
    count: f32,
    means: [f32; GAINS.len()],
    /// Mean absolute error of each.
    errors: [f32; GAINS.len()],
    /// Mean squared error of the mix.
    squared: f32,
}

const NEW: Link = Link { count: 0.0, means: [0.0; GAINS.len()], errors: [0.0; GAINS.len()], squared: 0.0 };

impl Link {
    fn see(&mut self, sample: f32) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.means = [sample; GAINS.len()];
            return;
        }
        let forget = FORGET.max(1.0 / (self.count - 1.0));
        self.squared += forget * ((sample - self.mix()).powi(2) - self.squared);
        for (index, gain) in GAINS.into_iter().enumerate() {
            let error = sample - self.means[index];
            self.errors[index] += forget * (error.abs() - self.errors[index]);
            self.means[index] += gain.max(1.0 / self.count) * error;
        }
    }

    fn mix(&self) -> f32 {
        let weights = self.errors.map(|error| (error + 0.01).powi(-2));
        let sum: f32 = weights.iter().sum();
        self.means.iter().zip(weights).map(|(mean, weight)| mean * weight / sum).sum()
    }

    fn cost(&self) -> f32 {
        if self.count == 0.0 { f32::NAN } else { self.mix() + self.squared.sqrt() }
    }
}

pub(super) struct Experts {
    nodes: usize,
    relay: f32,
    links: Vec<Link>,
}

impl Experts {
    pub(super) fn new(nodes: usize, relay: f32) -> Self {
        Self { nodes, relay, links: vec![NEW; nodes * nodes] }
    }
}

impl Policy for Experts {
    fn see(&mut self, samples: &[f32]) {
        let seen = self.links.iter_mut().zip(samples).filter(|(_, sample)| !sample.is_nan());
        seen.for_each(|(link, sample)| link.see(*sample));
    }

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        let costs: Vec<f32> = self.links.iter().map(Link::cost).collect();
        let costs = Costs::new(self.nodes, self.relay, &costs, available);
        for (pair, from, to) in Table::pairs(self.nodes).filter(|(pair, ..)| !available[*pair].is_nan()) {
            current[pair] = moved(&costs, (from, to), current[pair], HYSTERESIS);
        }
    }
}
