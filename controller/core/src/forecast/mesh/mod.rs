//! Forecasts the loads of all links of a network together, and bounds them from above.
//!
//! Five small regressions per link (1 and 12 steps ahead, each in the linear and the logarithmic domain, and the maximum of
//! 12 steps), each solved from the link's own normal equations plus those of the whole mesh. Experts drawn from them are mixed
//! online by exponentiated gradient on the absolute loss (Kivinen and Warmuth, "Exponentiated Gradient versus Gradient
//! Descent for Linear Predictors", 1997); bands follow the quantiles of their errors; the bound is adaptive conformal (Gibbs
//! and Candès, "Adaptive Conformal Inference Under Distribution Shift", 2021).
mod bound;
mod config;
mod features;
mod link;
mod norm;
mod season;
#[cfg(test)]
mod tests;

pub use config::Config;

use super::outlook::{Model, Outlook};
use super::slots::{Slot, Slots, measured};
use bound::Misses;
use link::{ALL, EXPERTS, Link, REGRESSIONS};
use norm::{Norm, P};
use season::{Calendar, When};
use std::time::Duration;

/// Steps to the far horizon, over which the bound holds.
pub const FAR: usize = 12;

/// The experts' names, as [`Link`] orders them.
const NAMES: [Model; EXPERTS] = [
    Model::Regression,
    Model::Plain,
    Model::Pooled,
    Model::Regression,
    Model::Plain,
    Model::Pooled,
    Model::Last,
];

/// What the regressions of all links know together, ready for one step.
struct Shared {
    norm: Norm,
    /// The weight of that norm beside a link's own.
    share: f32,
    ridge: f32,
    coefficients: [f32; P],
}

#[derive(Clone, Debug)]
struct Pool {
    norm: Norm,
    samples: f32,
    error: f32,
}

/// The loads of a network's links, one sample per link and step; see the module's text.
#[derive(Clone, Debug)]
pub struct Mesh {
    config: Config,
    calendar: Calendar,
    period: Duration,
    turn: usize,
    clock: usize,
    /// Steps in which something was measured.
    age: u32,
    links: Slots<Link>,
    pools: [Pool; REGRESSIONS.len()],
    regret: [[f32; EXPERTS]; 2],
    /// By how much the bands have to be wider so that they hold what they say, at the two horizons; logarithm.
    wider: [f32; 2],
    misses: Misses,
    /// Features of one regression: kept so that no step allocates.
    features: Vec<[f32; P]>,
}

impl Mesh {
    /// `period`: of a step, from a second to a day; 5 minutes is what the constants were chosen for.
    pub fn new(config: Config, period: Duration) -> Self {
        let calendar = Calendar::of(period);
        Self {
            config,
            calendar,
            period,
            turn: FAR,
            clock: calendar.week(),
            age: 0,
            links: Slots::default(),
            pools: std::array::from_fn(|_| Pool { norm: Norm::EMPTY, samples: 0.0, error: 0.0 }),
            regret: [[0.0; EXPERTS]; 2],
            wider: [0.0; 2],
            misses: Misses::prior(0.0),
            features: Vec::new(),
        }
    }

    /// A link more; it forecasts from its first sample on, at first by what the others know.
    pub fn join(&mut self) -> Slot {
        self.links.join(Link::new(&self.calendar))
    }

    pub fn leave(&mut self, slot: Slot) {
        self.links.leave(slot);
    }

    /// Of a link, with all that is allocated for it.
    pub fn bytes_per_link(&self) -> usize {
        Link::bytes(&self.calendar) + size_of::<[f32; P]>()
    }

    /// Sets the place in the day and the week: steps since a Monday, midnight.
    pub fn set_clock(&mut self, steps: u64) {
        let week = self.calendar.week();
        self.clock = week + (steps % week as u64) as usize;
    }

    /// One sample per link, Mbit/s, by [`Slot::index`]. None: not measured. Before the first sample time stands still.
    pub fn step(&mut self, samples: &[Option<f32>]) {
        let is_silent = samples.iter().all(|sample| measured(*sample).is_none());
        if is_silent && self.age == 0 {
            return;
        }
        self.observe(samples);
        if !is_silent {
            self.learn();
        }
        self.forecast();
        for link in self.links.iter_mut().filter(|link| link.has_begun()) {
            link.age = link.age.saturating_add(1);
        }
        self.age = self.age.saturating_add(1);
        self.turn += 1;
        self.clock = self.calendar.week() + (self.clock + 1) % self.calendar.week();
    }

    fn when(&self, link: &Link) -> When {
        When { turn: self.turn, clock: self.clock, age: link.age as usize }
    }

    fn observe(&mut self, samples: &[Option<f32>]) {
        let (turn, clock) = (self.turn, self.clock);
        for (link, sample) in self.links.zip_mut(samples) {
            let sample = measured(sample).map(|value| value.max(0.0));
            if sample.is_some() && !link.has_begun() {
                self.misses.believe(self.config.prior);
            }
            if sample.is_some() || link.has_begun() {
                let at = When { turn, clock, age: link.age as usize };
                link.observe(&self.config, &self.calendar, at, sample);
            }
        }
    }

    fn learn(&mut self) {
        for r in 0..REGRESSIONS.len() {
            self.learn_regression(r);
        }
        for q in 0..2 {
            self.learn_mix(q);
        }
        bound::learn(&mut self.misses, self.links.iter_mut(), &self.config, self.turn, self.age);
    }

    fn learn_regression(&mut self, r: usize) {
        let (c, h) = (self.config, REGRESSIONS[r].ahead);
        let pool = &mut self.pools[r];
        let mut fresh = Norm::EMPTY;
        let (mut count, mut error) = (0.0, 0.0);
        for link in self.links.iter_mut().filter(|link| link.can_learn(h)) {
            let at = When { turn: self.turn, clock: self.clock, age: link.age as usize };
            let lesson = link.learn(&c, at, r, pool.error);
            fresh.add(&lesson.x, lesson.y, lesson.weight);
            count += 1.0;
            error += lesson.error;
        }
        if count == 0.0 {
            return;
        }
        let forget = 1.0 - (count / c.pool_samples).min(0.06);
        pool.norm.fade(forget);
        pool.norm = pool.norm.plus(&fresh, 1.0);
        pool.samples = pool.samples * forget + count;
        pool.error += rate(0.01, (self.age as usize + 1).saturating_sub(h)) * (error / count - pool.error);
    }

    fn learn_mix(&mut self, q: usize) {
        let h = if q == 0 { 1 } else { FAR };
        let mut sum = [0.0; EXPERTS];
        let (mut count, mut outside) = (0.0, 0.0);
        let wider = self.wider[q].exp();
        for link in self.links.iter_mut().filter(|link| link.can_learn(h)) {
            let at = When { turn: self.turn, clock: self.clock, age: link.age as usize };
            let (regrets, is_outside) = link.learn_mix(&self.config, at, q, wider);
            sum.iter_mut().zip(regrets).for_each(|(sum, regret)| *sum += regret);
            count += 1.0;
            outside += f32::from(u8::from(is_outside));
        }
        if count > 0.0 {
            let decay = self.config.mix_decay;
            self.regret[q].iter_mut().zip(sum).for_each(|(all, sum)| *all = *all * decay + sum / count);
            let change = self.config.wider_rate * (outside / count - 0.1);
            self.wider[q] = (self.wider[q] + change).clamp(-0.5, 1.0);
        }
    }

    fn forecast(&mut self) {
        for r in 0..REGRESSIONS.len() {
            self.forecast_regression(r);
        }
        let exceeded = self.misses.exceeded(self.config.risk);
        for link in self.links.iter_mut().filter(|link| link.has_begun()) {
            for (q, regret) in self.regret.iter().enumerate() {
                link.blend(&self.config, self.turn, q, regret);
            }
            bound::make(link, self.turn, exceeded);
        }
    }

    fn forecast_regression(&mut self, r: usize) {
        let (c, kind) = (self.config, REGRESSIONS[r]);
        let mut all = std::mem::take(&mut self.features);
        all.clear();
        let begun = self.links.iter().filter(|link| link.has_begun());
        all.extend(begun.map(|link| features::of(link, &c, &self.calendar, kind, self.when(link))));
        features::share(&mut all);
        let pool = &self.pools[r];
        let ridge = if kind.top { c.ridge_max } else { c.ridge } * kind.ahead as f32 / pool.error.max(0.5);
        let share = c.kappa / pool.samples.max(1.0);
        let coefficients = pool.norm.solve(ridge * (1.0 + 0.01 * pool.samples), &ALL);
        let shared = Shared { norm: pool.norm, share, ridge, coefficients };
        let begun = self.links.iter_mut().filter(|link| link.has_begun());
        for (link, x) in begun.zip(&all) {
            let at = When { turn: self.turn, clock: self.clock, age: link.age as usize };
            link.forecast(&c, at, r, x, &shared);
        }
        self.features = all;
    }

    /// The turn of the forecasts made last.
    fn last(&self) -> usize {
        self.turn - 1
    }

    /// Of a link's load so many steps ahead; between 1 and [`FAR`] interpolated, nearer and farther as there. None: it has
    /// no sample yet.
    pub fn outlook(&self, slot: Slot, steps: f32) -> Option<Outlook> {
        let link = self.links.get(slot).filter(|link| link.age > 0)?;
        let share = ((steps - 1.0) / (FAR - 1) as f32).clamp(0.0, 1.0);
        let [near, far] = [0, 1].map(|q| self.ends_at(link, q));
        let between = |a: f32, b: f32| a + share * (b - a);
        let quantiles: [f32; 7] = std::array::from_fn(|k| between(near.0[k], far.0[k]));
        let q = usize::from(share >= 0.5);
        let weights = link.weights(&self.config, q, &self.regret[q]);
        let silent = link.seen.trailing_zeros();
        Some(Outlook {
            horizon: self.period.mul_f32(steps.clamp(1.0, FAR as f32)),
            mean: Outlook::mean_of(&quantiles),
            quantiles,
            model: best(&weights),
            error: between(near.1, far.1),
            samples: link.mixed[q].judged,
            stale: (silent > 0).then(|| self.period * silent),
        })
    }

    /// Quantiles and mean error at one of the two horizons. While samples are missing the band grows with the root of the
    /// time, as that of a random walk does.
    fn ends_at(&self, link: &Link, q: usize) -> ([f32; 7], f32) {
        let (m, h) = (&link.mixed[q], if q == 0 { 1.0 } else { FAR as f32 });
        let middle = link.mixed_at(q, self.last());
        let silent = link.seen.trailing_zeros() as f32;
        let spread = (m.spread * self.wider[q].exp() * (1.0 + silent / h).sqrt()).max(1e-6);
        // A link without errors of its own yet is as unsure as its whole value.
        let spread = if m.judged == 0 { spread.max(0.5 * middle) } else { spread };
        let mut highest = 0.0f32;
        let quantiles = std::array::from_fn(|k| {
            let error = if k == 3 { 0.0 } else { m.quantiles[k] };
            let error = if k < 3 { error.min(0.0) } else { error.max(0.0) };
            highest = highest.max(middle + error * spread);
            highest
        });
        (quantiles, m.error)
    }

    /// Mbit/s that a link's load does not exceed during the next [`FAR`] steps, but for one time in a hundred.
    pub fn bound(&self, slot: Slot) -> Option<f32> {
        let link = self.links.get(slot).filter(|link| link.age > 0)?;
        Some(bound::at(link, self.last()))
    }
}

fn best(weights: &[f32; EXPERTS]) -> Model {
    let sum = |model: Model| -> f32 {
        NAMES.iter().zip(weights).filter(|(name, _)| **name == model).map(|(_, weight)| weight).sum()
    };
    let names = [Model::Last, Model::Regression, Model::Plain, Model::Pooled];
    names.into_iter().max_by(|a, b| sum(*a).total_cmp(&sum(*b))).unwrap_or(Model::Last)
}

/// The rate of a moving average after `n` samples: at first a plain mean.
fn rate(rate: f32, n: usize) -> f32 {
    rate.max(1.0 / n.max(1) as f32)
}

/// Moves a mean towards a value that counts as `clip` means at most.
fn drift(mean: &mut f32, value: f32, rate: f32, clip: f32) {
    let value = if *mean > 0.0 { value.min(clip * *mean) } else { value };
    *mean += rate * (value - *mean);
}
