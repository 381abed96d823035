//! Quantiles of a link's errors: its own last ones, and a few pseudo-samples of what all links' errors look like.
//!
//! Errors are counted on the grid of [`Octave`]: a link's own as they are, those of all links in multiples of each link's
//! mean error, which on this grid is a shift.
use crate::forecast::outlook::LEVELS;
use crate::half::Octave;

/// Cells of the grid, by [`Octave::rank`]; the middle one is no error.
const GRID: usize = 256;
const ZERO: usize = 128;
/// The pool's cell for the mean error itself, on each side; cells are a fifth of an octave, from 2⁻⁸ to 2⁵ means.
const UNITY: usize = 40;
const SIDE: usize = UNITY + 25;
/// Pseudo-samples that the pool is worth.
const KAPPA: f32 = 8.0;
/// Memory of the pool, per step with errors; of a link's own errors, per error.
const POOL_FADE: f32 = 0.9;
const FADE: f32 = 0.97;
/// Gain of the levels.
const LEVEL_RATE: f32 = 0.1;
const TAILS: [f32; 2] = [0.01, 0.05];

/// The shape of all links' errors at one horizon, and the levels at which quantiles have to be taken to hold what they say.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Below, zero, above: `SIDE` cells each side, from large to small and from small to large.
    count: [f32; 2 * SIDE + 1],
    fresh: [f32; 2 * SIDE + 1],
    errors: f32,
    /// Bands judged in this step, and misses below and above.
    judged: f32,
    missed: [[f32; 2]; 2],
    /// What stands for the 1 and the 5 % tail, below and above.
    tails: [[f32; 2]; 2],
}

/// Errors of one link at one horizon, oldest first in the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    pub(super) ring: &'a [Octave],
    /// Where the next one goes; and how many there are.
    pub(super) next: usize,
    pub(super) count: usize,
    /// Mean error.
    pub(super) scale: f32,
}

/// Sizes of errors by their code.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    unit: f32,
    size: [f32; 130],
    fades: [f32; 64],
}

impl Sizes {
    pub(super) fn of(unit: f32) -> Self {
        let size =
            std::array::from_fn(|code| if code == 0 { 0.0 } else { (code as f32 / 5.0 - 0.3).exp2() * unit });
        Self { unit, size, fades: std::array::from_fn(|age| FADE.powi(age as i32)) }
    }

    /// The error that the share `within` of the cell's own lies below.
    fn value(&self, cell: usize, within: f32) -> f32 {
        let code = cell.abs_diff(ZERO);
        // Lower and upper end: half a step either way.
        let (small, large) = (if code == 0 { 0.0 } else { self.size[code] }, self.size[code + 1]);
        match cell.cmp(&ZERO) {
            std::cmp::Ordering::Less => -(large + within * (small - large)),
            std::cmp::Ordering::Equal => (2.0 * within - 1.0) * 0.5 * self.unit,
            std::cmp::Ordering::Greater => small + within * (large - small),
        }
    }
}

impl Pool {
    pub(super) fn new() -> Self {
        let mut pool = Self {
            count: [0.0; 2 * SIDE + 1],
            fresh: [0.0; 2 * SIDE + 1],
            errors: 0.0,
            judged: 0.0,
            missed: [[0.0; 2]; 2],
            tails: [TAILS; 2],
        };
        pool.believe();
        pool
    }

    /// Before anything is seen: Laplace's distribution, whose mean size is one.
    fn believe(&mut self) {
        for cell in 0..SIDE {
            let size = |edge: f32| ((cell as f32 + edge - UNITY as f32) / 5.0).exp2();
            let mass = 0.5 * ((-size(-0.5)).exp() - (-size(0.5)).exp());
            self.count[SIDE + 1 + cell] = mass;
            self.count[SIDE - 1 - cell] = mass;
        }
        self.count[SIDE] = 1.0 - self.count.iter().sum::<f32>();
    }

    /// An error of a link with this mean error.
    pub(super) fn add(&mut self, error: Octave, scale: Octave) {
        let code = i32::from(error.rank()) - ZERO as i32;
        let relative = code.abs() - (i32::from(scale.rank()) - ZERO as i32).max(1) + UNITY as i32;
        let cell = match (code, relative) {
            (0, _) | (_, ..0) => SIDE,
            (1.., _) => SIDE + 1 + (relative as usize).min(SIDE - 1),
            (..0, _) => SIDE - 1 - (relative as usize).min(SIDE - 1),
        };
        self.fresh[cell] += 1.0;
        self.errors += 1.0;
    }

    /// Two bands were judged, the 98 and the 90 % one: the truth was below them, above them, or neither.
    pub(super) fn judge(&mut self, below: [bool; 2], above: [bool; 2]) {
        self.judged += 1.0;
        for (missed, hit) in self.missed.iter_mut().zip([below, above]) {
            missed.iter_mut().zip(hit).for_each(|(missed, hit)| *missed += f32::from(u8::from(hit)));
        }
    }

    /// Ends a step.
    pub(super) fn learn(&mut self) {
        if self.errors > 0.0 {
            // Memory is counted in steps of many links; a lone link is remembered as long as a hundred errors.
            let fade = POOL_FADE.max(1.0 - self.errors / 100.0);
            for (count, fresh) in self.count.iter_mut().zip(&mut self.fresh) {
                *count = *count * fade + (1.0 - fade) * *fresh / self.errors;
                *fresh = 0.0;
            }
        }
        if self.judged > 0.0 {
            // The gain is for many links at once.
            let rate = LEVEL_RATE * self.judged / (self.judged + 20.0);
            let tails = self.tails.iter_mut().flatten().zip(self.missed.iter().flatten());
            for ((tail, missed), aim) in tails.zip(TAILS.into_iter().cycle()) {
                *tail = (*tail + rate * (aim - missed / self.judged)).clamp(0.04 * aim, 5.0 * aim);
            }
        }
        (self.errors, self.judged, self.missed) = (0.0, 0.0, [[0.0; 2]; 2]);
    }

    /// At which level a quantile has to be taken so that it holds what it says.
    fn level(&self, level: f32) -> f32 {
        let side = usize::from(level > 0.5);
        let tail = if side == 0 { level } else { 1.0 - level };
        let [one, five] = self.tails[side];
        let tail = match tail {
            ..0.02 => one.min(five),
            ..0.2 => five,
            // The body of the distribution follows its tails a little.
            _ => (tail * (five / TAILS[1]).powf(0.3)).clamp(five, 0.5),
        };
        if side == 0 { tail } else { 1.0 - tail }
    }

    /// Quantiles of a link's errors at [`LEVELS`], ascending.
    pub(super) fn quantiles(&self, own: Own<'_>, sizes: &Sizes) -> [f32; 7] {
        let mut grid = [0.0f32; GRID];
        self.lay(&mut grid, Octave::of(own.scale, sizes.unit));
        let mut weight = KAPPA;
        for age in 0..own.count {
            let at = (own.next + own.ring.len() - 1 - age) % own.ring.len();
            let fade = sizes.fades[age.min(63)];
            grid[usize::from(own.ring[at].rank())] += fade;
            weight += fade;
        }
        self.walk(&grid, weight, sizes)
    }

    /// Lays the pool over the grid, moved to the link's mean error; what falls off its ends stays in the last cell.
    fn lay(&self, grid: &mut [f32; GRID], scale: Octave) {
        let shift = (i32::from(scale.rank()) - ZERO as i32).max(1) - UNITY as i32;
        grid[ZERO] = KAPPA * self.count[SIDE];
        for cell in 0..SIDE as i32 {
            let code = (cell + shift).clamp(0, ZERO as i32 - 1) as usize;
            grid[ZERO + code] += KAPPA * self.count[SIDE + 1 + cell as usize];
            grid[ZERO - code] += KAPPA * self.count[SIDE - 1 - cell as usize];
        }
    }

    fn walk(&self, grid: &[f32; GRID], weight: f32, sizes: &Sizes) -> [f32; 7] {
        let mut below = 0.0;
        let mut cell = 0;
        LEVELS.map(|level| {
            let need = self.level(level) * weight;
            while cell < GRID - 1 && below + grid[cell] < need {
                below += grid[cell];
                cell += 1;
            }
            let within = if grid[cell] > 0.0 { ((need - below) / grid[cell]).clamp(0.0, 1.0) } else { 0.5 };
            sizes.value(cell, within)
        })
    }
}
