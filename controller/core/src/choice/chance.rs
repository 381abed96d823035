//! Chance for tests, the same every time: a small generator, and a mesh whose links are noisy and sometimes missing.
use std::time::Duration;

/// The length of a step where nothing depends on it.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// SplitMix64 (Steele, Lea, Flood, 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Mostly near 1, sometimes many times that: Pareto with index 1.7, cut at 30.
    pub(crate) fn heavy(&mut self) -> f32 {
        (1.0 - self.unit()).max(1e-6).powf(-1.0 / 1.7).min(30.0)
    }
}

/// Frames of a mesh whose nodes lie on a line, with detours that pay, noise, shifts, and samples that are missing.
pub(crate) fn noisy_mesh(nodes: usize, steps: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut chance = Chance(seed);
    let mut base: Vec<f32> = (0..nodes * nodes)
        .map(|link| {
            let (from, to) = (link / nodes, link % nodes);
            20.0 * from.abs_diff(to) as f32 * (1.0 + 2.0 * chance.unit())
        })
        .collect();
    let mut frame = |step: usize| {
        if step % 17 == 16 {
            let link = chance.next() as usize % base.len();
            base[link] *= 0.5 + 1.5 * chance.unit();
        }
        (0..nodes * nodes)
            .map(|link| {
                let missing = link / nodes == link % nodes || chance.unit() < 0.05;
                if missing { f32::NAN } else { base[link] * (0.9 + 0.1 * chance.heavy()) }
            })
            .collect()
    };
    (0..steps).map(&mut frame).collect()
}
