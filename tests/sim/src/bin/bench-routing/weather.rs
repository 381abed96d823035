//! What the ways of a scene are like, second by second: round-trip times and losses from a seed.
use tests_sim::chance::Chance;

/// All is calm before, so that circuits are placed and forecasts have been tested.
pub(crate) const CALM: usize = 600;
/// A day, compressed.
const DAY: usize = 4 * 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A round-trip time rises steadily within minutes, stays, and falls.
    Ramp,
    /// The round-trip time follows the hour of the day.
    Daily,
    /// Bursts of delay or loss that become longer, denser and worse, until somebody repairs it.
    Gray,
    /// Nothing that could be learnt.
    Walk,
}

impl Scene {
    pub(crate) const ALL: [Self; 4] = [Self::Ramp, Self::Daily, Self::Gray, Self::Walk];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Daily => "daily",
            Self::Gray => "gray failure",
            Self::Walk => "random walk",
        }
    }

    /// Without the calm before.
    pub(crate) fn seconds(self) -> usize {
        match self {
            Self::Ramp | Self::Gray | Self::Walk => 7_200,
            Self::Daily => 2 * DAY,
        }
    }
}

/// Of one way, each second.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// When nothing happens, milliseconds.
    pub(crate) base: f64,
    /// Milliseconds.
    pub(crate) rtt: Vec<f64>,
    /// A share.
    pub(crate) loss: Vec<f64>,
}

/// Between `from` and `to`, each as likely.
pub(crate) fn between(chance: &mut Chance, from: f64, to: f64) -> f64 {
    from + (to - from) * chance.below(1 << 32) as f64 / (1u64 << 32) as f64
}

/// Mean 0, standard deviation 1: twelve times chance, which is near enough to normal.
pub(crate) fn normal(chance: &mut Chance) -> f64 {
    (0..12).map(|_| between(chance, 0.0, 1.0)).sum::<f64>() - 6.0
}

impl Way {
    pub(crate) fn of(scene: Scene, chance: &mut Chance) -> Self {
        let seconds = CALM + scene.seconds();
        let base = between(chance, 20.0, 50.0);
        let quiet = between(chance, 0.0, 0.0002);
        let mut way = Self { base, rtt: vec![base; seconds], loss: vec![quiet; seconds] };
        match scene {
            Scene::Ramp => way.ramp(chance),
            Scene::Daily => way.daily(chance),
            Scene::Gray => way.gray(chance),
            Scene::Walk => way.walk(chance),
        }
        way.shake(chance);
        way
    }

    /// Nothing but noise, for so many seconds.
    pub(crate) fn still(base: f64, seconds: usize, chance: &mut Chance) -> Self {
        let mut way = Self { base, rtt: vec![base; seconds], loss: vec![0.0; seconds] };
        way.shake(chance);
        way
    }

    fn ramp(&mut self, chance: &mut Chance) {
        let mut at = CALM;
        loop {
            at += between(chance, 300.0, 2_400.0) as usize;
            let rise = between(chance, 60.0, 600.0);
            let stay = between(chance, 120.0, 900.0);
            let fall = between(chance, 60.0, 600.0);
            let height = self.base * between(chance, 0.5, 3.0);
            if at >= self.rtt.len() {
                return;
            }
            let whole = (rise + stay + fall) as usize;
            for (second, rtt) in self.rtt.iter_mut().skip(at).take(whole).enumerate() {
                let second = second as f64;
                *rtt += height * (second / rise).min((rise + stay + fall - second) / fall).min(1.0);
            }
            at += whole;
        }
    }

    fn daily(&mut self, chance: &mut Chance) {
        let noon = between(chance, 0.0, DAY as f64);
        let height = self.base * between(chance, 0.2, 2.0);
        for (second, rtt) in self.rtt.iter_mut().enumerate().skip(CALM) {
            // Begins at nothing, whatever the hour is.
            let begun = ((second - CALM) as f64 / DAY as f64 * 8.0).min(1.0);
            let turn = (second as f64 - noon) / DAY as f64 * std::f64::consts::TAU;
            *rtt += begun * height * (1.0 + turn.cos()) / 2.0;
        }
    }

    fn gray(&mut self, chance: &mut Chance) {
        let mut at = CALM;
        loop {
            at += between(chance, 300.0, 3_600.0) as usize;
            let lasts = between(chance, 600.0, 2_400.0) as usize;
            let lossy = chance.happens(500);
            let (worst, busy) = (between(chance, 0.5, 3.0), between(chance, 0.3, 1.0));
            if at >= self.rtt.len() {
                return;
            }
            let end = (at + lasts).min(self.rtt.len());
            let begun = at;
            while at < end {
                let ripe = (at - begun) as f64 / lasts as f64;
                let burst = (between(chance, 2.0, 10.0) * (1.0 + 4.0 * ripe)) as usize;
                let depth = ripe * worst * between(chance, 0.5, 1.5);
                for second in at..(at + burst).min(end) {
                    if lossy {
                        self.loss[second] += 0.02 * depth;
                    } else {
                        self.rtt[second] += self.base * depth;
                    }
                }
                // So that bursts have a share of the time that grows to `busy`.
                let share = (ripe * busy).max(0.02);
                let pause = burst as f64 * (1.0 - share) / share;
                at += burst + between(chance, 0.5 * pause, 1.5 * pause) as usize;
            }
            at = end;
        }
    }

    fn walk(&mut self, chance: &mut Chance) {
        // Of the logarithm, each second: 20 % to 60 % within ten minutes.
        let step = between(chance, 0.2, 0.6) / 600f64.sqrt();
        let mut height: f64 = 0.0;
        for rtt in self.rtt.iter_mut().skip(CALM) {
            height = (height + step * normal(chance)).clamp(-1.0, 1.6);
            *rtt *= height.exp();
        }
    }

    /// Noise of the way itself that lasts some seconds.
    fn shake(&mut self, chance: &mut Chance) {
        let size = between(chance, 0.005, 0.03);
        let keeps = (-1.0 / between(chance, 2.0, 20.0)).exp();
        let mut noise = 0.0;
        for rtt in &mut self.rtt {
            noise = keeps * noise + (1.0 - keeps * keeps).sqrt() * normal(chance);
            *rtt = (*rtt * (1.0 + size * noise)).max(1.0);
        }
    }
}
