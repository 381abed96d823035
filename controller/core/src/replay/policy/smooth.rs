//! The best path by an exponentially weighted mean of each link; with gain 1 the last value.
use super::moved;
use crate::choice::mesh::{Costs, Relay};
use crate::replay::score::Policy;
use crate::replay::table::Table;

pub(super) struct Smooth {
    nodes: usize,
    relay: f32,
    gain: f32,
    hysteresis: f32,
    /// NaN before the first sample, from which it starts; a missing sample leaves it.
    means: Vec<f32>,
}

impl Smooth {
    pub(super) fn new(nodes: usize, relay: f32, gain: f32, hysteresis: f32) -> Self {
        Self { nodes, relay, gain, hysteresis, means: vec![f32::NAN; nodes * nodes] }
    }
}

impl Policy for Smooth {
    fn see(&mut self, samples: &[f32]) {
        for (mean, sample) in self.means.iter_mut().zip(samples).filter(|(_, sample)| !sample.is_nan()) {
            *mean = if mean.is_nan() { *sample } else { *mean + self.gain * (*sample - *mean) };
        }
    }

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        let costs = Costs::new(self.nodes, self.relay, &self.means, available);
        for (pair, from, to) in Table::pairs(self.nodes).filter(|(pair, ..)| !available[*pair].is_nan()) {
            current[pair] = moved(&costs, (from, to), current[pair], self.hysteresis);
        }
    }
}
