//! What a bank keeps of one link: its models, their mix at each horizon, its last errors, the forecasts still to be judged.
use super::band::{Own, Pool, Sizes};
use super::levels::{EXPERTS, LINE, Levels};
use super::spec::{HORIZONS, SLOTS, Spec};
use crate::half::Octave;

/// Own errors kept per horizon.
const WINDOWS: [usize; HORIZONS] = [48, 24, 24];
const ERRORS: usize = WINDOWS[0] + WINDOWS[1] + WINDOWS[2];
const OUTSTANDING: usize = SLOTS[0] + SLOTS[1] + SLOTS[2];
/// Rate of the mean error; one error counts there as so many of them at most.
const SCALE: f32 = 0.1;
const SCALE_CLIP: f32 = 10.0;
/// The mix: memory per judged forecast, step, weight of all links' regret, forecasts that the nearer horizon's is worth.
const MIX_DECAY: f32 = 0.99;
const MIX_ETA: f32 = 0.1;
const MIX_POOL: f32 = 2.0;
const MIX_NEARER: f32 = 8.0;

/// Of what a rising run adds until the horizon, what is left of it or added to it, at each of [`crate::forecast::LEVELS`].
const BEND: [f32; 7] = [-0.8, -0.5, -0.15, 0.0, 0.1, 0.25, 0.4];
const BEND_DOWN: [f32; 7] = [-0.4, -0.25, -0.1, 0.0, 0.15, 0.5, 0.8];

/// A forecast to be judged: experts and band as distances from the mix.
#[derive(Clone, Copy, Debug, Default)]
struct Issued {
    mix: f32,
    experts: [Octave; EXPERTS],
    /// The ends of the 98 and of the 90 % band.
    low: [Octave; 2],
    high: [Octave; 2],
    is_open: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    regret: [f32; EXPERTS],
    /// Mean error of the mix; zero: none was judged.
    scale: f32,
    judged: u16,
    next: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    levels: Levels,
    /// Samples seen.
    pub(super) age: u32,
    /// Steps since the last one.
    pub(super) missed: u16,
    ahead: [Ahead; HORIZONS],
    errors: [Octave; ERRORS],
    issued: [Issued; OUTSTANDING],
}

/// What all links of a bank know together.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) spec: Spec,
    pub(super) sizes: Sizes,
    pub(super) pools: [Pool; HORIZONS],
    pub(super) regret: [[f32; EXPERTS]; HORIZONS],
    /// Sums of this step, and of how many forecasts.
    fresh: [[f32; EXPERTS]; HORIZONS],
    judged: [f32; HORIZONS],
    /// How much larger the mean error is than that of the nearer horizon (of the nearest: than the value); logarithm.
    growth: [f32; HORIZONS],
    grown: [(f32, f32); HORIZONS],
}

impl Shared {
    pub(super) fn new(spec: Spec) -> Self {
        let root = |far: usize, near: usize| 0.5 * (spec.ahead[far] as f32 / spec.ahead[near] as f32).ln();
        Self {
            spec,
            sizes: Sizes::of(spec.unit),
            pools: std::array::from_fn(|_| Pool::new()),
            regret: [[0.0; EXPERTS]; HORIZONS],
            fresh: [[0.0; EXPERTS]; HORIZONS],
            judged: [0.0; HORIZONS],
            // A tenth of the value; then as a random walk.
            growth: [0.1f32.ln(), root(1, 0), root(2, 1)],
            grown: [(0.0, 0.0); HORIZONS],
        }
    }

    /// Takes in what the links' judged forecasts of this step say.
    pub(super) fn learn(&mut self) {
        for h in 0..HORIZONS {
            self.pools[h].learn();
            if self.judged[h] > 0.0 {
                for (regret, fresh) in self.regret[h].iter_mut().zip(self.fresh[h]) {
                    *regret = *regret * MIX_DECAY + fresh / self.judged[h];
                }
            }
            let (sum, count) = self.grown[h];
            if count > 0.0 {
                self.growth[h] += 0.1 * count / (count + 4.0) * (sum / count - self.growth[h]);
            }
            (self.fresh[h], self.judged[h], self.grown[h]) = ([0.0; EXPERTS], 0.0, (0.0, 0.0));
        }
    }
}

fn window(h: usize) -> std::ops::Range<usize> {
    let from = WINDOWS[..h].iter().sum();
    from..from + WINDOWS[h]
}

fn slot(spec: &Spec, h: usize, turn: usize) -> Option<usize> {
    let stride = spec.stride(h);
    let first: usize = SLOTS[..h].iter().sum();
    turn.is_multiple_of(stride).then(|| first + turn / stride % (spec.ahead[h] / stride))
}

impl Link {
    pub(super) fn new(spec: &Spec) -> Self {
        Self {
            levels: Levels::new(spec.season),
            age: 0,
            missed: 0,
            ahead: [Ahead::default(); HORIZONS],
            errors: [Octave::default(); ERRORS],
            issued: [Issued::default(); OUTSTANDING],
        }
    }

    pub(super) fn bytes(spec: &Spec) -> usize {
        size_of::<Self>() + Levels::boxed_bytes(spec)
    }

    /// Judges what was forecast for now, and learns the sample.
    pub(super) fn see(&mut self, shared: &mut Shared, x: f32, turn: usize, clock: usize) {
        for h in 0..HORIZONS {
            if let Some(slot) = slot(&shared.spec, h, turn) {
                self.judge(shared, x, h, slot);
            }
        }
        self.levels.see(&shared.spec, x, self.age, self.missed, clock);
        self.age = self.age.saturating_add(1);
        self.missed = 0;
    }

    pub(super) fn miss(&mut self, spec: &Spec, turn: usize) {
        self.missed = self.missed.saturating_add(1);
        for h in 0..HORIZONS {
            if let Some(slot) = slot(spec, h, turn) {
                self.issued[slot].is_open = false;
            }
        }
    }

    fn judge(&mut self, shared: &mut Shared, x: f32, h: usize, slot: usize) {
        let issued = std::mem::take(&mut self.issued[slot]);
        if !issued.is_open {
            return;
        }
        let (unit, error) = (shared.spec.unit, x - issued.mix);
        let pool = &mut shared.pools[h];
        let below = issued.low.map(|end| error < end.get(unit));
        let above = issued.high.map(|end| error > end.get(unit));
        pool.judge(below, above);
        let size = Octave::of(error, unit);
        let ahead = &mut self.ahead[h];
        if ahead.judged > 0 {
            pool.add(size, Octave::of(ahead.scale, unit));
        }
        ahead.regret(shared, h, error, &issued);
        ahead.take(error, x, unit);
        let ring = &mut self.errors[window(h)];
        ring[usize::from(ahead.next)] = size;
        ahead.next = (ahead.next + 1) % ring.len() as u8;
        let base = if h == 0 { x } else { self.ahead[h - 1].scale };
        if base > unit {
            let grown = &mut shared.grown[h];
            *grown = (grown.0 + (self.ahead[h].scale / base).ln(), grown.1 + 1.0);
        }
    }

    /// The mean error at a horizon; as long as it knows none of its own, as others' is.
    fn scale(&self, shared: &Shared, h: usize) -> f32 {
        let ahead = &self.ahead[h];
        let n = f32::from(ahead.judged);
        if n >= 4.0 {
            return ahead.scale;
        }
        let base = if h == 0 { self.levels.last } else { self.scale(shared, h - 1) };
        let other = (base * shared.growth[h].exp()).max(floor(self.levels.last, shared.spec.unit));
        (n * ahead.scale + 2.0 * other) / (n + 2.0)
    }

    /// Weights of the models at a horizon: own regret, all links', and, as long as it has few of its own, the nearer one's.
    pub(super) fn weights(&self, shared: &Shared, h: usize) -> [f32; EXPERTS] {
        let mut scores = [0.0; EXPERTS];
        for near in 0..=h {
            let trust: f32 = (near + 1..=h)
                .map(|far| MIX_NEARER / (MIX_NEARER + f32::from(self.ahead[far].judged)))
                .product();
            for (k, score) in scores.iter_mut().enumerate() {
                *score += trust * MIX_ETA * (self.ahead[near].regret[k] + MIX_POOL * shared.regret[near][k]);
            }
        }
        if !self.levels.has_season() {
            scores[EXPERTS - 1] = f32::NEG_INFINITY;
        }
        let top = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights = scores.map(|score| (score - top).exp());
        let sum: f32 = weights.iter().sum();
        // A run of moves one way is known long before a far horizon has judged anybody: the line is believed.
        let run = self.run();
        let mut weights = weights.map(|weight| (1.0 - run) * weight / sum);
        weights[LINE] += run;
        weights
    }

    fn run(&self) -> f32 {
        if self.levels.rise(1.0) == 0.0 { 0.0 } else { self.levels.run() }
    }

    /// What the models say of so many steps ahead.
    pub(super) fn experts(&self, spec: &Spec, ahead: f32, clock: usize) -> [f32; EXPERTS] {
        self.levels.at(spec, ahead, clock)
    }

    /// Quantiles of the errors so many steps ahead, from those at the horizons around it; and, as errors made on the level
    /// say nothing of a run, of how far a run may fall short or go beyond.
    pub(super) fn errors_at(
        &self,
        shared: &Shared,
        ahead: f32,
        (near, far, share): (usize, usize, f32),
    ) -> [f32; 7] {
        let beyond = (ahead / shared.spec.ahead[HORIZONS - 1] as f32).max(1.0).sqrt();
        let a = self.errors(shared, near);
        let b = if share > 0.0 { self.errors(shared, far) } else { a };
        let rise = self.run() * self.levels.rise(ahead);
        let bend = if rise > 0.0 { BEND } else { BEND_DOWN };
        std::array::from_fn(|k| beyond * (a[k] + share * (b[k] - a[k])) + rise.abs() * bend[k])
    }

    /// Quantiles of the errors at a horizon, wider the longer nothing was measured.
    fn errors(&self, shared: &Shared, h: usize) -> [f32; 7] {
        let ahead = &self.ahead[h];
        let ring = &self.errors[window(h)];
        let count = usize::from(ahead.judged).min(ring.len());
        let own = Own { ring, next: ahead.next.into(), count, scale: self.scale(shared, h) };
        let margin = 5.0 * shared.spec.unit;
        let wider = (1.0 + f32::from(self.missed) / shared.spec.ahead[h] as f32).sqrt();
        let quantiles = shared.pools[h].quantiles(own, &shared.sizes);
        let [a, b, c, d, e, f, g] = quantiles.map(|error| wider * error);
        // Few and overlapping errors of a far horizon say nothing of its bias: the mix stays the median there.
        let (c, d, e) = if h == 0 { (c, d, e) } else { (c.min(0.0), 0.0, e.max(0.0)) };
        [a.min(c) - margin, b.min(c) - margin, c, d, e, f.max(e) + margin, g.max(e) + margin]
    }

    pub(super) fn judged(&self, h: usize) -> (u32, f32) {
        (self.ahead[h].judged.into(), self.ahead[h].scale)
    }

    /// Makes the forecasts of this step that will be judged.
    pub(super) fn issue(&mut self, shared: &Shared, turn: usize, clock: usize) {
        let spec = &shared.spec;
        for h in 0..HORIZONS {
            let Some(slot) = slot(spec, h, turn) else { continue };
            let experts = self.experts(spec, spec.ahead[h] as f32, clock);
            let weights = self.weights(shared, h);
            let mix = experts.iter().zip(weights).map(|(expert, weight)| expert * weight).sum::<f32>();
            let errors = self.errors_at(shared, spec.ahead[h] as f32, (h, h, 0.0));
            self.issued[slot] = Issued {
                mix,
                experts: experts.map(|expert| Octave::of(expert - mix, spec.unit)),
                low: [errors[0], errors[1]].map(|end| Octave::of(end, spec.unit)),
                high: [errors[6], errors[5]].map(|end| Octave::of(end, spec.unit)),
                is_open: true,
            };
        }
    }
}

/// Below this a mean error is not believed.
fn floor(x: f32, unit: f32) -> f32 {
    (0.0005 * x.abs()).max(unit)
}

impl Ahead {
    /// Exponentiated gradient on the absolute error, as in [`crate::forecast::mesh`].
    fn regret(&mut self, shared: &mut Shared, h: usize, error: f32, issued: &Issued) {
        let z = if self.judged > 0 { self.scale } else { error.abs() }.max(shared.spec.unit);
        let gradient = (-error / (0.25 * z)).clamp(-1.0, 1.0);
        for (k, expert) in issued.experts.iter().enumerate() {
            let regret = (-gradient * expert.get(shared.spec.unit) / z).clamp(-20.0, 8.0);
            self.regret[k] = self.regret[k] * MIX_DECAY + regret;
            shared.fresh[h][k] += regret;
        }
        shared.judged[h] += 1.0;
    }

    fn take(&mut self, error: f32, x: f32, unit: f32) {
        let least = floor(x, unit);
        self.judged = self.judged.saturating_add(1);
        let rate = SCALE.max(1.0 / f32::from(self.judged));
        let most = if self.judged == 1 { f32::MAX } else { SCALE_CLIP * self.scale.max(least) };
        self.scale = (self.scale + rate * (error.abs().min(most) - self.scale)).max(least);
    }
}
