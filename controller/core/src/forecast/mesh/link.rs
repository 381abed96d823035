//! What the mesh keeps of one link: its two domains, its own regressions, the forecasts that are still to be judged.
use super::norm::{Norm, P, dot};
use super::season::{Calendar, Domain, When};
use super::{Config, FAR, Shared, drift, rate};
use crate::forecast::outlook::LEVELS;
use crate::half::Half;

/// Experts per horizon: with own and pooled coefficients and without season, each in both domains; and the last value.
pub(super) const EXPERTS: usize = 7;
/// Features that stand for the season.
const SEASON: [bool; P] =
    [false, false, false, false, false, true, true, true, true, true, true, true, false];
pub(super) const ALL: [bool; P] = [true; P];

/// One regression: how far ahead, in which domain, and whether of the maximum on the way instead of the value there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regression {
    pub(super) ahead: usize,
    pub(super) domain: usize,
    pub(super) top: bool,
    /// Where its features begin in [`Link::x`].
    x: usize,
}

pub(super) const REGRESSIONS: [Regression; 5] = [
    Regression { ahead: 1, domain: 0, top: false, x: 0 },
    Regression { ahead: FAR, domain: 0, top: false, x: 1 },
    Regression { ahead: 1, domain: 1, top: false, x: 1 + FAR },
    Regression { ahead: FAR, domain: 1, top: false, x: 2 + FAR },
    Regression { ahead: FAR, domain: 0, top: true, x: 2 + 2 * FAR },
];
const OUTSTANDING: usize = 2 + 3 * FAR;

impl Regression {
    /// Of the two: one step, [`FAR`] steps.
    pub(super) fn horizon(&self) -> usize {
        usize::from(self.ahead > 1)
    }

    fn slot(&self, turn: usize) -> usize {
        self.x + turn % self.ahead
    }

    /// A feature in a byte.
    fn pack(&self, c: &Config, value: f32) -> i8 {
        (value * 127.0 / c.clip[self.horizon()]).round() as i8
    }

    fn unpack(&self, c: &Config, code: i8) -> f32 {
        f32::from(code) * c.clip[self.horizon()] / 127.0
    }
}

/// What one horizon keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixed {
    pub(super) regret: [f32; EXPERTS],
    /// Mean error under the regret, and under the bands.
    pub(super) error: f32,
    pub(super) spread: f32,
    mean_move: f32,
    /// Quantiles of the error at [`LEVELS`], in spreads.
    pub(super) quantiles: [f32; 7],
    pub(super) judged: u32,
}

/// What the bound keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    /// Of each outstanding forecast, above the value it was made at: the maximum expected, the bound; and the miss under it.
    pub(super) top: [Half; FAR],
    pub(super) bound: [Half; FAR],
    pub(super) miss: [Half; FAR],
    pub(super) slow: f32,
    pub(super) fast: f32,
    pub(super) factor: f32,
    pub(super) run: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) age: u32,
    /// Bit k: the sample k steps back was measured.
    pub(super) seen: u32,
    pub(super) peak: f32,
    pub(super) domains: [Domain; 2],
    norms: [Norm; REGRESSIONS.len()],
    move_scale: [f32; REGRESSIONS.len()],
    x: [[i8; P]; OUTSTANDING],
    pub(super) mixed: [Mixed; 2],
    /// One of the near horizon, then [`FAR`] of the far one; as distances from the value they were made at.
    experts: [[Half; EXPERTS]; 1 + FAR],
    mix: [Half; 1 + FAR],
    pub(super) ceiling: Ceiling,
}

/// What one sample teaches a regression, for the mesh.
pub(super) struct Lesson {
    pub(super) x: [f32; P],
    pub(super) y: f32,
    pub(super) weight: f32,
    pub(super) error: f32,
}

impl Link {
    pub(super) fn new(calendar: &Calendar) -> Self {
        let mixed = Mixed {
            regret: [0.0; EXPERTS],
            error: 0.0,
            spread: 0.0,
            mean_move: 0.0,
            quantiles: [-3.5, -2.0, -0.6, 0.0, 0.6, 2.0, 3.5],
            judged: 0,
        };
        let none = [Half::ZERO; FAR];
        Self {
            age: 0,
            seen: 0,
            peak: 0.0,
            domains: [Domain::new(calendar), Domain::new(calendar)],
            norms: [Norm::EMPTY; REGRESSIONS.len()],
            move_scale: [0.0; REGRESSIONS.len()],
            x: [[0; P]; OUTSTANDING],
            mixed: [mixed; 2],
            experts: [[Half::ZERO; EXPERTS]; 1 + FAR],
            mix: [Half::ZERO; 1 + FAR],
            ceiling: Ceiling {
                top: none,
                bound: none,
                miss: none,
                slow: 0.0,
                fast: 0.0,
                factor: 1.0,
                run: 0,
            },
        }
    }

    pub(super) fn bytes(calendar: &Calendar) -> usize {
        size_of::<Self>() + 2 * (Domain::bytes(calendar) - size_of::<Domain>())
    }

    pub(super) fn has_begun(&self) -> bool {
        self.age > 0 || self.seen & 1 == 1
    }

    /// This sample and the one so many steps back were measured.
    pub(super) fn can_learn(&self, steps: usize) -> bool {
        self.seen & 1 == 1 && self.seen >> steps & 1 == 1
    }

    pub(super) fn observe(&mut self, c: &Config, calendar: &Calendar, at: When, sample: Option<f32>) {
        self.seen = self.seen << 1 | u32::from(sample.is_some());
        if let Some(value) = sample.filter(|_| at.age < 4 * FAR) {
            self.peak = self.peak.max(value);
        }
        let old = self.seen >> FAR & 1 == 1;
        for domain in 0..2 {
            let value = sample.map(|value| self.enter(c, domain, value));
            self.domains[domain].observe(c, calendar, at, value, old);
        }
    }

    fn enter(&self, c: &Config, domain: usize, value: f32) -> f32 {
        if domain == 0 { value } else { (value + c.eps * self.peak + 1e-6).ln() }
    }

    fn leave(&self, c: &Config, domain: usize, value: f32) -> f32 {
        if domain == 0 { value } else { value.min(60.0).exp() - c.eps * self.peak }
    }

    pub(super) fn value(&self, turn: usize, steps: usize) -> f32 {
        self.domains[0].back(turn, steps)
    }

    /// The largest of the last so many samples.
    pub(super) fn highest(&self, domain: usize, turn: usize, steps: usize) -> f32 {
        (0..steps).map(|back| self.domains[domain].back(turn, back)).fold(f32::MIN, f32::max)
    }

    /// Slot of a forecast at one of the two horizons.
    fn slot(horizon: usize, turn: usize) -> usize {
        if horizon == 0 { 0 } else { 1 + turn % FAR }
    }

    /// Judges the forecast that regression `r` made for now, and learns from it.
    pub(super) fn learn(&mut self, c: &Config, at: When, r: usize, pool_error: f32) -> Lesson {
        let kind = REGRESSIONS[r];
        let (h, d) = (kind.ahead, kind.domain);
        let base = self.domains[d].back(at.turn, h);
        let hit = if kind.top { self.highest(d, at.turn, h) } else { self.domains[d].back(at.turn, 0) };
        let made_at = self.value(at.turn, h);
        let was = if kind.top {
            made_at + self.ceiling.top[at.turn % FAR].get()
        } else {
            let slot = Self::slot(kind.horizon(), at.turn + FAR - h);
            self.enter(c, d, (made_at + self.experts[slot][3 * d].get()).max(0.0))
        };
        let scale = self.domains[d].scale.max(1e-9);
        drift(&mut self.move_scale[r], (hit - base).abs(), rate(c.scale_rate, at.age - h + 1), c.scale_clip);
        let clip = c.target_clip * self.move_scale[r] / scale;
        let y = ((hit - base) / scale).clamp(-clip, clip);
        let error = (y - (was - base) / scale).abs();
        let weight = 1.0 / error.max(c.huber * pool_error).max(0.1);
        let x = self.x[kind.slot(at.turn)].map(|code| kind.unpack(c, code));
        self.norms[r].fade(c.forget);
        self.norms[r].add(&x, y, weight);
        Lesson { x, y, weight, error: error.min(clip) }
    }

    /// Exponentiated gradient on the absolute loss, and the quantiles of the bands; the regrets of this sample, and whether it
    /// was outside of the 90 % band.
    pub(super) fn learn_mix(&mut self, c: &Config, at: When, q: usize, wider: f32) -> ([f32; EXPERTS], bool) {
        let h = if q == 0 { 1 } else { FAR };
        let slot = Self::slot(q, at.turn + FAR - h);
        let (y, base) = (self.value(at.turn, 0), self.value(at.turn, h));
        let f = base + self.mix[slot].get();
        let m = &mut self.mixed[q];
        let n = at.age - h + 1;
        drift(&mut m.mean_move, (y - base).abs(), rate(0.02, n), 8.0);
        let z = m.error.max(1e-9);
        let gradient = ((f - y) / (0.25 * z)).clamp(-1.0, 1.0);
        let regrets: [f32; EXPERTS] = std::array::from_fn(|k| {
            let expert = base + self.experts[slot][k].get();
            (gradient * (f - expert) / z).clamp(-3.0, 3.0)
        });
        m.regret.iter_mut().zip(regrets).for_each(|(sum, regret)| *sum = *sum * c.mix_decay + regret);
        drift(&mut m.error, (f - y).abs(), rate(0.01, n), 8.0);
        let [_, low, .., high, _] = m.quantiles.map(|quantile| quantile * wider * m.spread);
        let is_outside = m.spread > 0.0 && !(low..=high).contains(&(y - f));
        m.learn_band(c, y - f);
        drift(&mut m.spread, (f - y).abs(), rate(c.band_scale, n), 8.0);
        m.judged = m.judged.saturating_add(1);
        (regrets, is_outside)
    }

    /// Forecasts of regression `r` from these features: with all coefficients, without season, and with the mesh's.
    pub(super) fn forecast(&mut self, c: &Config, at: When, r: usize, x: &[f32; P], shared: &Shared) {
        let kind = REGRESSIONS[r];
        let d = kind.domain;
        let norm = self.norms[r].plus(&shared.norm, shared.share);
        let (y, scale) = (self.domains[d].back(at.turn, 0), self.domains[d].scale);
        let full = y + scale * dot(x, &norm.solve(shared.ridge, &ALL));
        self.x[kind.slot(at.turn)] = x.map(|value| kind.pack(c, value));
        let now = self.value(at.turn, 0);
        if kind.top {
            self.ceiling.top[at.turn % FAR] = Half::of(full.max(0.0) - now);
            return;
        }
        let plain = y + scale * dot(x, &norm.solve(shared.ridge, &SEASON.map(|season| !season)));
        let pooled = y + scale * dot(x, &shared.coefficients);
        let guard = c.guard * self.mixed[kind.horizon()].mean_move;
        let slot = Self::slot(kind.horizon(), at.turn);
        for (k, f) in [full, plain, pooled].into_iter().enumerate() {
            let f = self.leave(c, d, f).clamp((now - guard).max(0.0), now + guard);
            self.experts[slot][3 * d + k] = Half::of(f - now);
        }
        self.experts[slot][EXPERTS - 1] = Half::ZERO;
    }

    /// Mixes the experts of a horizon; the weights.
    pub(super) fn blend(&mut self, c: &Config, turn: usize, q: usize, pool: &[f32; EXPERTS]) {
        let slot = Self::slot(q, turn);
        let weights = self.weights(c, q, pool);
        let sum: f32 = weights.iter().zip(&self.experts[slot]).map(|(w, expert)| w * expert.get()).sum();
        self.mix[slot] = Half::of(sum / weights.iter().sum::<f32>());
    }

    pub(super) fn weights(&self, c: &Config, q: usize, pool: &[f32; EXPERTS]) -> [f32; EXPERTS] {
        let regret = &self.mixed[q].regret;
        let scores: [f32; EXPERTS] =
            std::array::from_fn(|k| c.mix_eta[q] * (regret[k] + c.mix_kappa * pool[k]));
        let top = scores.iter().copied().fold(f32::MIN, f32::max);
        scores.map(|score| (score - top).exp())
    }

    /// The mixed forecast made at `turn`.
    pub(super) fn mixed_at(&self, q: usize, turn: usize) -> f32 {
        (self.value(turn, 0) + self.mix[Self::slot(q, turn)].get()).max(0.0)
    }
}

impl Mixed {
    /// Moves each quantile by its share of hits and misses (pinball loss). The 5 % ones aim at 4.65 %: errors grow while
    /// their scale still learns, which costs that much coverage.
    fn learn_band(&mut self, c: &Config, error: f32) {
        if self.spread <= 0.0 {
            return;
        }
        let error = error / self.spread;
        for (quantile, level) in self.quantiles.iter_mut().zip(LEVELS) {
            let aim = if level < 0.5 { 0.93 * level } else { 1.0 - 0.93 * (1.0 - level) };
            *quantile += c.band_rate * if error > *quantile { aim } else { aim - 1.0 };
        }
    }
}
