//! An upper bound of the maximum over the next 12 steps: the forecast of the maximum plus what its misses say (adaptive conformal).
use super::link::Link;
use super::season::When;
use super::{Config, FAR, drift, rate};
use crate::half::Half;

const BINS: usize = 96;

/// The mesh's misses in units of each link's own mean miss, in tenths of an octave above 0.1; old ones fade.
#[derive(Clone, Debug)]
pub(super) struct Misses {
    count: [f32; BINS],
    total: f32,
    /// Correction of the risk by observed violations, logarithm.
    level: f32,
}

impl Misses {
    /// What is believed before anything was seen, worth `weight` misses: 1 % of them are above 5 mean misses.
    pub(super) fn prior(weight: f32) -> Self {
        let mut misses = Self { count: [0.0; BINS], total: 0.0, level: 0.0 };
        misses.believe(weight);
        misses
    }

    /// More of the prior: a link more, with its first sample.
    pub(super) fn believe(&mut self, weight: f32) {
        for (miss, share) in [(1.0, 0.90), (2.5, 0.06), (3.5, 0.025), (5.0, 0.01), (7.0, 0.005)] {
            self.count[bin(miss)] += share * weight;
        }
        self.total += weight;
    }

    fn fade(&mut self, factor: f32) {
        self.count.iter_mut().for_each(|count| *count *= factor);
        self.total *= factor;
    }

    fn count(&mut self, miss: f32) {
        self.count[bin(miss)] += 1.0;
        self.total += 1.0;
    }

    /// What is exceeded with this risk, corrected.
    pub(super) fn exceeded(&self, risk: f32) -> f32 {
        let allowed = risk * self.level.exp() * self.total;
        let mut above = 0.0;
        for (bin, count) in self.count.iter().enumerate().rev() {
            if above + count > allowed {
                let share = (allowed - above) / count;
                return 0.1 * ((bin as f32 - share.clamp(0.0, 1.0)) / 10.0).exp2();
            }
            above += count;
        }
        0.1
    }

    fn correct(&mut self, c: &Config, violations: f32) {
        self.level = (self.level - c.level_rate * (violations - c.risk) / c.risk).clamp(-2.0, 0.7);
    }
}

fn bin(miss: f32) -> usize {
    if miss <= 0.1 { 0 } else { (1.0 + (miss / 0.1).log2() * 10.0).min(BINS as f32 - 1.0) as usize }
}

/// Judges the bounds that end now.
pub(super) fn learn<'a>(
    misses: &mut Misses,
    links: impl Iterator<Item = &'a mut Link>,
    c: &Config,
    turn: usize,
    mesh_age: u32,
) {
    misses.fade(c.hist_forget);
    let (mut judged, mut violations) = (0.0, 0.0);
    for link in links.filter(|link| link.can_learn(FAR)) {
        let at = When { turn, clock: 0, age: link.age as usize };
        judged += 1.0;
        violations += f32::from(u8::from(judge(misses, link, c, at)));
    }
    if judged > 0.0 && mesh_age > c.warm {
        misses.correct(c, violations / judged);
    }
}

/// Whether the link's bound was violated.
fn judge(misses: &mut Misses, link: &mut Link, c: &Config, at: When) -> bool {
    let slot = at.turn % FAR;
    let (hit, base) = (link.highest(0, at.turn, FAR), link.value(at.turn, FAR));
    let ceiling = &mut link.ceiling;
    let over = hit - base - ceiling.top[slot].get();
    let is_violated = hit - base > ceiling.bound[slot].get();
    ceiling.run = if is_violated { ceiling.run + 1 } else { 0 };
    let miss = ceiling.miss[slot].get();
    if at.age as u32 > c.warm {
        if miss > 0.0 && ceiling.run <= c.run_max {
            misses.count(over / miss);
        }
        let change = c.link_rate * (f32::from(u8::from(is_violated)) - c.risk);
        ceiling.factor = (ceiling.factor * change.exp()).clamp(1.0 / c.link_max, c.link_max);
    }
    let n = at.age - FAR + 1;
    drift(&mut ceiling.slow, over.abs(), rate(c.miss_slow, n), 8.0);
    drift(&mut ceiling.fast, over.abs(), rate(c.miss_fast, n), 8.0);
    is_violated
}

/// Makes the link's bound of the next steps; `exceeded`: see [`Misses::exceeded`].
pub(super) fn make(link: &mut Link, turn: usize, exceeded: f32) {
    let slot = turn % FAR;
    let ceiling = &mut link.ceiling;
    let miss = ceiling.slow.max(ceiling.fast);
    ceiling.miss[slot] = Half::of(miss);
    ceiling.bound[slot] = Half::of(ceiling.top[slot].get() + exceeded * ceiling.factor * miss);
}

/// The bound made at `turn`.
pub(super) fn at(link: &Link, turn: usize) -> f32 {
    (link.value(turn, 0) + link.ceiling.bound[turn % FAR].get()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_puts_one_per_cent_above_five_mean_misses() {
        let exceeded = Misses::prior(100.0).exceeded(0.01);
        assert!((4.5..=6.0).contains(&exceeded), "{exceeded}");
    }

    #[test]
    fn more_violations_make_the_next_bound_higher() {
        let c = Config::default();
        let mut misses = Misses::prior(100.0);
        let before = misses.exceeded(c.risk);
        (0..50).for_each(|_| misses.correct(&c, 0.2));
        assert!(misses.exceeded(c.risk) > before);
    }
}
