//! Bounds several quantities of a path together.
//!
//! A path within all bounds has, for shares λ that add up to 1, `Σ λᵢ · quantityᵢ / boundᵢ ≤ 1`. The least such sum from
//! each host to the goal tells early that a partial path cannot keep all bounds at once though it could keep each (the
//! Lagrangian bound of the constrained shortest path; Handler, Zang 1980). The shares are those under which the search's own
//! ends are furthest from it, of a few that are tried.
use super::field::{Field, Left, Step};
use super::tour::Vias;

/// Trees that are grown in search of better shares.
const TRIES: usize = 3;
/// Where bounds leave so much room, better shares are not worth their trees.
const TIGHT: f64 = 0.6;
/// How fast shares follow what is short.
const PACE: f64 = 3.0;

#[derive(Debug)]
pub(super) struct Strain {
    /// Shares divided by bounds.
    shares: [f64; 3],
    left: Left,
}

impl Strain {
    /// None: fewer than two quantities are bounded.
    pub(super) fn new(field: &Field, vias: &Vias, [from, to]: [u32; 2], most: [f64; 3]) -> Option<Self> {
        let bounded = most.map(|most| most.is_finite() && most > 0.0);
        let count = bounded.iter().filter(|bounded| **bounded).count();
        if count < 2 {
            return None;
        }
        let mut shares = bounded.map(|bounded| if bounded { 1.0 / count as f64 } else { 0.0 });
        let mut best = Self::of(field, vias, to, most, shares);
        let crossed = vias.bit(from);
        for _ in 1..TRIES {
            let so_far = best.left.from(from, crossed);
            if !(TIGHT..=1.0).contains(&so_far) || !vias.is_empty() {
                break;
            }
            let way = field.way(from, best.left.goal(), |step| sum(&best.shares, step));
            let sums = [0, 1, 2].map(|what| way.iter().map(|step| step.weight(what)).sum::<f64>());
            for what in (0..3).filter(|what| bounded[*what]) {
                shares[what] *= (PACE * (sums[what] / most[what] - so_far)).exp();
            }
            let all: f64 = shares.iter().sum();
            shares = shares.map(|share| share / all);
            let other = Self::of(field, vias, to, most, shares);
            if other.left.from(from, crossed) <= so_far {
                break;
            }
            best = other;
        }
        Some(best)
    }

    fn of(field: &Field, vias: &Vias, to: u32, most: [f64; 3], shares: [f64; 3]) -> Self {
        let mut scaled = [0.0; 3];
        for what in (0..3).filter(|what| shares[*what] > 0.0) {
            scaled[what] = shares[what] / most[what];
        }
        let left = Left::new(vias, to, |goal| field.least(goal, 1.0 + 1e-9, |step| sum(&scaled, step)));
        Self { shares: scaled, left }
    }

    /// Whether a partial path with these sums, at this host, can keep all bounds.
    pub(super) fn can_keep(&self, sums: &[f64; 3], at: u32, crossed: u32) -> bool {
        let so_far: f64 =
            (0..3).filter(|what| self.shares[*what] > 0.0).map(|at| self.shares[at] * sums[at]).sum();
        so_far + self.left.from(at, crossed) <= 1.0 + 1e-9
    }
}

fn sum(shares: &[f64; 3], step: &Step) -> f64 {
    // A quantity without a bound may be unknown, which is not a number.
    (0..3).filter(|what| shares[*what] > 0.0).map(|what| shares[what] * step.weight(what)).sum()
}
