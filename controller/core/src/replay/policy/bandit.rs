//! A bandit like VIA's (Jiang et al., Via: Improving Internet Telephony Call Quality, SIGCOMM 2016): prediction prunes
//! to the paths whose confidence interval reaches below the least upper bound, UCB1 on realised costs picks among them.
use crate::choice::mesh::{NONE, Relay, along};
use crate::replay::score::Policy;
use crate::replay::table::Table;

/// Gain of the means and variances.
const GAIN: f32 = 0.1;
/// 95 % intervals.
const WIDTH: f32 = 1.96;
/// Paths that are played at most.
const TOP: usize = 8;
/// VIA's exploration term is sqrt(0.1 ln T / n).
const EXPLORE: f32 = 0.1;

#[derive(Clone, Copy, Default)]
struct Arm {
    relay: Relay,
    sum: f32,
    plays: f32,
}

#[derive(Clone, Copy)]
struct Candidate {
    relay: Relay,
    mean: f32,
    lower: f32,
    upper: f32,
}

pub(super) struct Bandit {
    nodes: usize,
    relay: f32,
    counts: Vec<f32>,
    means: Vec<f32>,
    variances: Vec<f32>,
    arms: Vec<Vec<Arm>>,
    playing: Vec<Relay>,
}

impl Bandit {
    pub(super) fn new(nodes: usize, relay: f32) -> Self {
        let pairs = nodes * nodes;
        Self {
            nodes,
            relay,
            counts: vec![0.0; pairs],
            means: vec![f32::NAN; pairs],
            variances: vec![0.0; pairs],
            arms: vec![Vec::new(); pairs],
            playing: vec![NONE; pairs],
        }
    }

    fn reward(&mut self, samples: &[f32]) {
        for (pair, from, to) in Table::pairs(self.nodes).filter(|(pair, ..)| self.playing[*pair] != NONE) {
            let relay = self.playing[pair];
            let cost = along(samples, self.nodes, self.relay, (from, to), relay);
            if cost.is_nan() {
                continue;
            }
            let arms = &mut self.arms[pair];
            match arms.iter_mut().find(|arm| arm.relay == relay) {
                Some(arm) => (arm.sum, arm.plays) = (arm.sum + cost, arm.plays + 1.0),
                None => arms.push(Arm { relay, sum: cost, plays: 1.0 }),
            }
        }
    }

    fn learn(&mut self, samples: &[f32]) {
        for (link, sample) in samples.iter().enumerate().filter(|(_, sample)| !sample.is_nan()) {
            self.counts[link] += 1.0;
            if self.counts[link] == 1.0 {
                self.means[link] = *sample;
                continue;
            }
            let error = sample - self.means[link];
            let gain = GAIN.max(1.0 / self.counts[link]);
            self.variances[link] +=
                GAIN.max(1.0 / (self.counts[link] - 1.0)) * (error * error - self.variances[link]);
            self.means[link] += gain * error;
        }
    }

    fn candidates(&self, (from, to): (usize, usize), available: &[f32], all: &mut Vec<Candidate>) {
        all.clear();
        let mut least = f32::INFINITY;
        for relay in (0..self.nodes).filter(|relay| *relay != from) {
            let relay = relay as Relay;
            let cost = |of: &[f32], added| along(of, self.nodes, added, (from, to), relay);
            let mean = cost(&self.means, self.relay);
            if mean.is_nan() || cost(available, 0.0).is_nan() {
                continue;
            }
            let error = WIDTH * (cost(&self.variances, 0.0) * GAIN / (2.0 - GAIN)).sqrt();
            least = least.min(mean + error);
            all.push(Candidate { relay, mean, lower: mean - error, upper: mean + error });
        }
        all.retain(|candidate| candidate.lower <= least);
        all.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        all.truncate(TOP);
    }

    fn pick(&self, pair: usize, candidates: &[Candidate]) -> Option<Relay> {
        let count = candidates.len() as f32;
        let unit = candidates.iter().map(|candidate| candidate.upper).sum::<f32>() / count;
        let arms = &self.arms[pair];
        let plays: f32 = arms.iter().map(|arm| arm.plays).sum();
        let score = |candidate: &Candidate| match arms.iter().find(|arm| arm.relay == candidate.relay) {
            None => f32::NEG_INFINITY,
            Some(arm) => arm.sum / arm.plays / unit - (EXPLORE * plays.max(1.0).ln() / arm.plays).sqrt(),
        };
        candidates.iter().min_by(|a, b| score(a).total_cmp(&score(b))).map(|candidate| candidate.relay)
    }
}

impl Policy for Bandit {
    fn see(&mut self, samples: &[f32]) {
        self.reward(samples);
        self.learn(samples);
    }

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        let mut candidates = Vec::new();
        for (pair, from, to) in Table::pairs(self.nodes).filter(|(pair, ..)| !available[*pair].is_nan()) {
            self.candidates((from, to), available, &mut candidates);
            let relay = self.pick(pair, &candidates).unwrap_or(to as Relay);
            (current[pair], self.playing[pair]) = (relay, relay);
        }
    }
}
