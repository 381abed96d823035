//! The simple models of one link: last value, robust level, slow mean, mean since a change, line, season.
use super::spec::Spec;
use crate::forecast::outlook::Model;
use crate::half::Half;

pub(super) const EXPERTS: usize = 6;
pub(super) const NAMES: [Model; EXPERTS] =
    [Model::Last, Model::Robust, Model::Smooth, Model::Shift, Model::Trend, Model::Season];
/// [`Model::Trend`]'s place.
pub(super) const LINE: usize = 4;

/// Gain of the robust level, and of one that a second sample confirms.
const FAST: f32 = 0.3;
const SURE: f32 = 0.5;
/// Scales from which a sample is doubted.
const DOUBT: f32 = 4.0;
/// Gain of the slow mean.
const SLOW: f32 = 0.07;
/// Gain of scales, and how many of them one sample counts at most.
const SCALE: f32 = 0.1;
const SCALE_CLIP: f32 = 5.0;
/// CUSUM: drift that is allowed, sum that is a change, samples the mean remembers.
const ALLOWED: f32 = 0.75;
const CHANGE: f32 = 8.0;
const MEMORY: f32 = 200.0;
/// Fading memory of the line, per sample.
const FADE: f32 = 0.87;
/// Gain of the moves, and how many mean ones a move counts at most: a single jump is no run.
const RUN: f32 = 0.1;
const RUN_CLIP: f32 = 4.0;
/// The mean move over the mean size of moves: from the first on a run is suspected, from the second it is certain. On a random
/// walk it is above the first once in thirty.
const RUNS: [f32; 2] = [0.6, 0.9];
/// When a run begins, what an old line has seen before is worth so many samples; so many make it old.
const AT_ONSET: f32 = 5.0;
const OLD: f32 = 30.0;
/// Samples, squared, at which half of a slope is believed.
const NEW: f32 = 30.0;
/// Two samples in a row so many scales off the line, on one side: it begins anew.
const BROKEN: f32 = 6.0;
/// So many samples missing in a row: it begins anew.
const FORGOTTEN: u16 = 30;

/// A level that a wild sample moves little, unless the next one confirms it.
#[derive(Clone, Copy, Debug, Default)]
struct Doubting {
    level: f32,
    scale: f32,
    last_error: f32,
}

/// The fading least-squares line (Morrison's fading-memory polynomial of degree one).
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    level: f32,
    slope: f32,
    scale: f32,
    last_error: f32,
    samples: f32,
}

/// Moves from sample to sample: whether they go one way.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    mean: f32,
    size: f32,
}

/// The mean since the last change point; two one-sided CUSUMs (Page, 1954) look for the next.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    mean: f32,
    samples: f32,
    up: f32,
    down: f32,
}

/// Profiles of the day and the week at one-hour steps, as distances from the first sample.
#[derive(Clone, Debug)]
pub(super) struct Season {
    day: [Half; DAY],
    week: [Half; WEEK],
    origin: f32,
    dev: f32,
}

const DAY: usize = 24;
/// Quarters of a day.
const WEEK: usize = 28;
/// What a day and a week weigh in the profiles.
const DAY_RATE: f32 = 0.15;
const WEEK_RATE: f32 = 0.2;
const DEV_RATE: f32 = 0.3;

#[derive(Clone, Debug)]
pub(super) struct Levels {
    pub(super) last: f32,
    doubting: Doubting,
    slow: f32,
    stretch: Stretch,
    line: Line,
    moves: Moves,
    season: Option<Box<Season>>,
}

impl Levels {
    pub(super) fn new(season: bool) -> Self {
        Self {
            last: 0.0,
            doubting: Doubting::default(),
            slow: 0.0,
            stretch: Stretch::default(),
            line: Line::default(),
            moves: Moves::default(),
            season: season.then(|| Box::new(Season::new())),
        }
    }

    /// Besides this struct.
    pub(super) fn boxed_bytes(spec: &Spec) -> usize {
        if spec.season { size_of::<Season>() } else { 0 }
    }

    /// `age`: samples before this one. `missed`: steps without one just before. `clock`: step of the week.
    pub(super) fn see(&mut self, spec: &Spec, x: f32, age: u32, missed: u16, clock: usize) {
        let share = 1.0 / (age as f32 + 1.0);
        if age == 0 {
            self.doubting = Doubting { level: x, scale: 0.02 * x, last_error: 0.0 };
        }
        let was_running = self.run() > 0.0;
        self.line.see(x, missed, spec.unit);
        let x = self.doubting.see(x, share, spec.unit);
        let slow = if spec.logarithmic { x.max(spec.unit).ln() } else { x };
        self.slow = if age == 0 { slow } else { self.slow + SLOW.max(share) * (slow - self.slow) };
        self.stretch.see(x, self.doubting.scale, self.doubting.level, spec.unit);
        if age > 0 {
            self.moves.see((x - self.last) / (f32::from(missed) + 1.0), spec.unit);
        }
        if !was_running && self.run() > 0.0 && self.line.samples > OLD {
            self.line.samples = AT_ONSET;
        }
        if let Some(season) = &mut self.season {
            season.see(x, age, clock);
        }
        self.last = x;
    }

    /// The season says something of its own: a whole day was seen.
    pub(super) fn has_season(&self) -> bool {
        self.season.as_ref().is_some_and(|season| season.day.iter().all(|hour| !hour.is_none()))
    }

    /// How sure it is that the samples run one way, from 0 to 1.
    pub(super) fn run(&self) -> f32 {
        let share = self.moves.mean.abs() / self.moves.size.max(f32::MIN_POSITIVE);
        ((share - RUNS[0]) / (RUNS[1] - RUNS[0])).clamp(0.0, 1.0)
    }

    /// Where the line leads from the last sample in so many steps, if the samples run its way.
    pub(super) fn rise(&self, ahead: f32) -> f32 {
        if self.moves.mean * self.line.slope > 0.0 { self.line.slope() * ahead } else { 0.0 }
    }

    /// What each model says of `ahead` steps ahead, in the order of [`NAMES`].
    pub(super) fn at(&self, spec: &Spec, ahead: f32, clock: usize) -> [f32; EXPERTS] {
        let slow = if spec.logarithmic { self.slow.exp() } else { self.slow };
        let line = self.line.level + self.line.slope() * ahead;
        let season = self.season.as_ref().and_then(|season| season.at(clock + ahead.round() as usize));
        let season = season.unwrap_or(self.doubting.level);
        let all = [self.last, self.doubting.level, slow, self.stretch.mean, line, season];
        all.map(|value| value.clamp(0.0, spec.most))
    }
}

impl Doubting {
    /// What is believed of the sample: a doubted one is as far off as it can be without doubt.
    fn see(&mut self, x: f32, share: f32, unit: f32) -> f32 {
        let error = x - self.level;
        let scale = self.scale.max(0.005 * self.level).max(unit);
        let size = error.abs() / scale;
        let sure = self.last_error * error > 0.0 && self.last_error.abs() > 0.5 * error.abs();
        let gain = FAST.max(share);
        let believed = match size {
            ..=DOUBT => x,
            _ if sure => x,
            _ => self.level + error * DOUBT / size,
        };
        let gain = if size > DOUBT && sure { gain.max(SURE) } else { gain };
        self.level += gain * (believed - self.level);
        self.scale += SCALE.max(share) * (error.abs().min(SCALE_CLIP * scale) - self.scale);
        self.last_error = error;
        believed
    }
}

impl Moves {
    fn see(&mut self, by: f32, unit: f32) {
        if self.size == 0.0 {
            self.size = by.abs();
        }
        let most = RUN_CLIP * self.size.max(unit);
        let by = by.clamp(-most, most);
        self.mean += RUN * (by - self.mean);
        self.size += RUN * (by.abs() - self.size);
    }
}

impl Stretch {
    fn see(&mut self, x: f32, scale: f32, level: f32, unit: f32) {
        let z = ((x - self.mean) / scale.max(unit)).clamp(-DOUBT, DOUBT);
        self.up = (self.up + z - ALLOWED).max(0.0);
        self.down = (self.down - z - ALLOWED).max(0.0);
        if self.samples > 2.0 && self.up.max(self.down) > CHANGE {
            *self = Self { mean: level, samples: 2.0, up: 0.0, down: 0.0 };
        }
        self.samples = (self.samples + 1.0).min(MEMORY);
        self.mean += (x - self.mean) / self.samples;
    }
}

impl Line {
    /// What is believed of the slope: of a few samples not all.
    fn slope(&self) -> f32 {
        let square = self.samples * self.samples;
        self.slope * square / (square + NEW)
    }

    fn see(&mut self, x: f32, missed: u16, unit: f32) {
        if self.samples == 0.0 || missed > FORGOTTEN {
            *self = Self { level: x, samples: 1.0, ..Self::default() };
            return;
        }
        self.level += self.slope * (f32::from(missed) + 1.0);
        let error = x - self.level;
        let scale = self.scale.max(unit);
        let sure = self.last_error * error > 0.0 && self.last_error.abs() > 0.5 * error.abs();
        if self.samples > 3.0 && sure && self.last_error.abs().min(error.abs()) > BROKEN * scale {
            *self = Self { level: x, samples: 1.0, ..Self { scale, ..Self::default() } };
            return;
        }
        self.samples += 1.0;
        let n = self.samples;
        let doubted = if n > 3.0 && !sure { error.clamp(-DOUBT * scale, DOUBT * scale) } else { error };
        // Growing memory at first, fading memory later.
        let level_gain = (2.0 * (2.0 * n - 1.0) / (n * (n + 1.0))).max(1.0 - FADE * FADE);
        let slope_gain = (6.0 / (n * (n + 1.0))).max((1.0 - FADE) * (1.0 - FADE));
        self.level += level_gain * doubted;
        self.slope += slope_gain * doubted;
        if n > 2.0 {
            let rate = SCALE.max(1.0 / (n - 2.0));
            let most = if n > 3.0 { SCALE_CLIP * scale } else { f32::MAX };
            self.scale += rate * (error.abs().min(most) - self.scale);
        }
        self.last_error = error;
    }
}

impl Season {
    fn new() -> Self {
        Self { day: [Half::NONE; DAY], week: [Half::ZERO; WEEK], origin: 0.0, dev: 0.0 }
    }

    fn see(&mut self, x: f32, age: u32, clock: usize) {
        if age == 0 {
            self.origin = x;
        }
        let z = x - self.origin;
        let slot = &mut self.day[clock % DAY];
        if slot.is_none() {
            *slot = Half::of(z);
            return;
        }
        let day = slot.get();
        *slot = Half::of(day + DAY_RATE * (z - day));
        let week = &mut self.week[clock / (DAY / 4) % WEEK];
        let known = day + week.get();
        *week = Half::of(week.get() + WEEK_RATE / 6.0 * (z - known));
        self.dev += DEV_RATE * (z - known - self.dev);
    }

    /// None: that hour was not seen yet.
    fn at(&self, clock: usize) -> Option<f32> {
        let day = self.day[clock % DAY];
        let week = self.week[clock / (DAY / 4) % WEEK].get();
        (!day.is_none()).then(|| self.origin + day.get() + week + self.dev)
    }
}
