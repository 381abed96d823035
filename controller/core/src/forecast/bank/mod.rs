//! Forecasts one quantity of many links, each by itself, at one resolution: simple models, mixed, with calibrated bands.
mod band;
mod levels;
mod link;
mod spec;
#[cfg(test)]
mod tests;

pub use spec::{HORIZONS, Spec};

use super::outlook::Outlook;
use super::slots::{Slot, Slots, measured};
use levels::{EXPERTS, NAMES};
use link::{Link, Shared};

/// One quantity of many links at one resolution, one sample per link and step.
#[derive(Clone, Debug)]
pub struct Bank {
    shared: Shared,
    links: Slots<Link>,
    /// Counts steps; the rings turn with it.
    turn: usize,
    /// The same since a Monday, midnight.
    clock: usize,
}

impl Bank {
    pub fn new(spec: Spec) -> Self {
        Self { shared: Shared::new(spec), links: Slots::default(), turn: 0, clock: 0 }
    }

    pub fn spec(&self) -> &Spec {
        &self.shared.spec
    }

    pub fn join(&mut self) -> Slot {
        self.links.join(Link::new(&self.shared.spec))
    }

    pub fn leave(&mut self, slot: Slot) {
        self.links.leave(slot);
    }

    /// Of a link, with all that is allocated for it.
    pub fn bytes_per_link(&self) -> usize {
        Link::bytes(&self.shared.spec)
    }

    /// Sets the place in the day and the week: steps since a Monday, midnight.
    pub fn set_clock(&mut self, steps: u64) {
        self.clock = steps as usize;
    }

    /// One sample per link, by [`Slot::index`]. None: not measured; that changes no state, and widens the band.
    pub fn step(&mut self, samples: &[Option<f32>]) {
        let (turn, clock, most) = (self.turn, self.clock, self.shared.spec.most);
        for (link, sample) in self.links.zip_mut(samples) {
            match measured(sample) {
                Some(x) => link.see(&mut self.shared, x.clamp(0.0, most), turn, clock),
                None if link.age > 0 => link.miss(&self.shared.spec, turn),
                None => {}
            }
        }
        self.shared.learn();
        for link in self.links.iter_mut().filter(|link| link.age > 0) {
            link.issue(&self.shared, turn, clock);
        }
        self.turn += 1;
        self.clock += 1;
    }

    /// Of a link so many steps ahead. Between the horizons the errors are interpolated; beyond the last they grow as those
    /// of a random walk. None: it has no sample yet.
    pub fn outlook(&self, slot: Slot, steps: f32) -> Option<Outlook> {
        let link = self.links.get(slot).filter(|link| link.age > 0)?;
        let spec = self.spec();
        let steps = steps.max(1.0);
        let (near, far, share) = between(spec, steps);
        let mixed = |a: f32, b: f32| a + share * (b - a);
        let (a, b) = (link.weights(&self.shared, near), link.weights(&self.shared, far));
        let weights: [f32; EXPERTS] = std::array::from_fn(|k| mixed(a[k], b[k]));
        let experts = link.experts(spec, steps, self.clock.wrapping_sub(1));
        let mix: f32 = experts.iter().zip(weights).map(|(expert, weight)| expert * weight).sum();
        let errors = link.errors_at(&self.shared, steps, (near, far, share));
        let quantiles = errors.map(|error| (mix + error).clamp(0.0, spec.most));
        let judged = [near, far].map(|h| link.judged(h));
        let best = (0..EXPERTS).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap_or(0);
        let known = if judged[1].0 == 0 { judged[0].1 } else { mixed(judged[0].1, judged[1].1) };
        let width = 0.25 * (quantiles[5] - quantiles[1]);
        Some(Outlook {
            horizon: spec.step.mul_f32(steps),
            mean: Outlook::mean_of(&quantiles),
            quantiles,
            model: NAMES[best],
            error: if judged[0].0 == 0 { width } else { known },
            samples: if share < 0.5 { judged[0].0 } else { judged[1].0 },
            stale: (link.missed > 0).then(|| spec.step * u32::from(link.missed)),
        })
    }
}

/// The horizons around so many steps, and how far it is from the first to the second, in logarithms.
fn between(spec: &Spec, steps: f32) -> (usize, usize, f32) {
    let near = (0..HORIZONS).rev().find(|h| spec.ahead[*h] as f32 <= steps).unwrap_or(0);
    let far = (near + 1).min(HORIZONS - 1);
    if near == far {
        return (near, far, 0.0);
    }
    let [a, b] = [near, far].map(|h| (spec.ahead[h] as f32).ln());
    (near, far, ((steps.ln() - a) / (b - a)).clamp(0.0, 1.0))
}
