//! Many simple policies; each pair follows the one with the lowest realised path cost, shrunk to the mesh's mean.
//!
//! The bar that ours has to pass: last value, three means, the running mean, the slow ones also with a share of their
//! mean absolute error on top, and direct; each with 2 % of hysteresis of its own, and 2 % at the end.
use super::moved;
use crate::choice::mesh::{Costs, NONE, Relay, along};
use crate::replay::score::Policy;
use crate::replay::table::Table;

/// Gains of the means; 0 is the running mean.
const GAINS: [f32; 5] = [1.0, 0.3, 0.1, 0.03, 0.0];
/// Mean and the share of its mean absolute error that is added.
const EXPERTS: [(usize, f32); 14] = [
    (0, 0.0),
    (1, 0.0),
    (2, 0.0),
    (2, 0.5),
    (2, 1.0),
    (2, 2.0),
    (3, 0.0),
    (3, 0.5),
    (3, 1.0),
    (3, 2.0),
    (4, 0.0),
    (4, 0.5),
    (4, 1.0),
    (4, 2.0),
];
/// Direct is the first of all.
const ALL: usize = EXPERTS.len() + 1;
const HYSTERESIS: f32 = 0.02;
const MEMORY: f32 = 0.98;
/// Steps of the mesh's record that weigh as much as a pair's own.
const PRIOR: f32 = 30.0;

#[derive(Clone, Copy)]
struct Mean {
    count: f32,
    mean: f32,
    error: f32,
}

impl Mean {
    fn see(&mut self, gain: f32, sample: f32) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = sample;
            return;
        }
        let error = sample - self.mean;
        self.error += gain.max(1.0 / (self.count - 1.0)) * (error.abs() - self.error);
        self.mean += gain.max(1.0 / self.count) * error;
    }
}

#[derive(Clone, Copy)]
struct Pair {
    paths: [Relay; ALL],
    sums: [f32; ALL],
    weight: f32,
}

pub(super) struct Mix {
    nodes: usize,
    relay: f32,
    means: Vec<[Mean; GAINS.len()]>,
    pairs: Vec<Pair>,
    mesh: [f64; ALL],
    mesh_weight: f64,
}

impl Mix {
    pub(super) fn new(nodes: usize, relay: f32) -> Self {
        let new = Mean { count: 0.0, mean: f32::NAN, error: 0.0 };
        let pair = Pair { paths: [NONE; ALL], sums: [0.0; ALL], weight: 0.0 };
        Self {
            nodes,
            relay,
            means: vec![[new; GAINS.len()]; nodes * nodes],
            pairs: vec![pair; nodes * nodes],
            mesh: [0.0; ALL],
            mesh_weight: 0.0,
        }
    }

    fn learn(&mut self, samples: &[f32]) {
        let (mut sums, mut count) = ([0.0_f64; ALL], 0.0);
        for (index, from, to) in Table::pairs(self.nodes) {
            let pair = &mut self.pairs[index];
            if samples[index].is_nan() || pair.paths[0] == NONE {
                continue;
            }
            count += 1.0;
            pair.weight = pair.weight * MEMORY + 1.0;
            for (expert, relay) in pair.paths.into_iter().enumerate() {
                let excess = along(samples, self.nodes, self.relay, (from, to), relay) - samples[index];
                let excess = if excess.is_nan() { 0.0 } else { excess };
                pair.sums[expert] = pair.sums[expert] * MEMORY + excess;
                sums[expert] += f64::from(excess);
            }
        }
        if count > 0.0 {
            let memory = f64::from(MEMORY);
            self.mesh_weight = self.mesh_weight * memory + 1.0;
            let all = self.mesh.iter_mut().zip(sums);
            all.for_each(|(mesh, sum)| *mesh = *mesh * memory + sum / count);
        }
    }

    fn best(&self, pair: usize) -> usize {
        let Pair { sums, weight, .. } = &self.pairs[pair];
        let mesh = |expert: usize| (self.mesh[expert] / self.mesh_weight.max(1.0)) as f32;
        let score = |expert: usize| (sums[expert] + PRIOR * mesh(expert)) / (weight + PRIOR);
        (0..ALL).min_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(0)
    }

    fn forecast(&self, (mean, share): (usize, f32), available: &[f32]) -> Costs {
        let cost = |means: &[Mean; GAINS.len()]| means[mean].mean + share * means[mean].error;
        let costs: Vec<f32> = self.means.iter().map(cost).collect();
        Costs::new(self.nodes, self.relay, &costs, available)
    }
}

impl Policy for Mix {
    fn see(&mut self, samples: &[f32]) {
        self.learn(samples);
        for (means, sample) in self.means.iter_mut().zip(samples).filter(|(_, sample)| !sample.is_nan()) {
            means.iter_mut().zip(GAINS).for_each(|(mean, gain)| mean.see(gain, *sample));
        }
    }

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        let costs = EXPERTS.map(|expert| self.forecast(expert, available));
        for (pair, from, to) in Table::pairs(self.nodes).filter(|(pair, ..)| !available[*pair].is_nan()) {
            let paths = &mut self.pairs[pair].paths;
            paths[0] = to as Relay;
            for (path, costs) in paths[1..].iter_mut().zip(&costs) {
                *path = moved(costs, (from, to), *path, HYSTERESIS);
            }
            let Some(current) = current.get_mut(pair) else { continue };
            let expert = self.best(pair);
            let wanted = self.pairs[pair].paths[expert];
            // Direct has no forecast of its own: the plain mean of gain 0.1 stands in.
            let costs = &costs[if expert == 0 { 2 } else { expert - 1 }];
            let present = if *current == NONE { f32::INFINITY } else { costs.of(from, to, *current) };
            let stays = present.is_finite() && costs.of(from, to, wanted) * (1.0 + HYSTERESIS) > present;
            if !stays {
                *current = wanted;
            }
        }
    }

    fn rehearse(&mut self, available: &[f32]) {
        self.choose(available, &mut []);
    }
}
