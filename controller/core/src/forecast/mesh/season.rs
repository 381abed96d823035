//! One link in one domain (linear or logarithmic): its last values, levels, scale, and the profile of its day and week.
use super::{Config, FAR, drift, rate};
use crate::half::Half;

/// Samples kept.
pub(super) const RING: usize = 16;
/// Bins of a day at most, and of a week.
const DAY: usize = 288;
const WEEK: usize = 42;

/// How steps divide into days and weeks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    /// Steps of a day.
    pub(super) day: usize,
    pub(super) bins: usize,
    per_bin: usize,
}

impl Calendar {
    pub(super) fn of(period: std::time::Duration) -> Self {
        let steps = (86_400_000 / period.as_millis().clamp(1, 86_400_000)) as usize;
        let bins = steps.min(DAY);
        let per_bin = steps / bins;
        Self { day: bins * per_bin, bins, per_bin }
    }

    pub(super) fn bin(&self, clock: usize) -> usize {
        clock / self.per_bin % self.bins
    }

    pub(super) fn week(&self) -> usize {
        7 * self.day
    }
}

#[derive(Clone, Debug)]
pub(super) struct Domain {
    y: [f32; RING],
    pub(super) ewma: [f32; 3],
    pub(super) dev: f32,
    /// Mean move from one sample to the next.
    pub(super) scale: f32,
    /// Seasons are kept as distances from the first sample: small numbers are kept more exactly.
    origin: f32,
    day: Box<[Half]>,
    /// Of the week from the day.
    week: [Half; WEEK],
}

/// When a sample came.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// Counts steps; the rings turn with it.
    pub(super) turn: usize,
    /// The same in the calendar.
    pub(super) clock: usize,
    /// Steps of the link before this one.
    pub(super) age: usize,
}

impl Domain {
    pub(super) fn new(calendar: &Calendar) -> Self {
        Self {
            y: [0.0; RING],
            ewma: [0.0; 3],
            dev: 0.0,
            scale: 0.0,
            origin: 0.0,
            day: vec![Half::NONE; calendar.bins].into(),
            week: [Half::ZERO; WEEK],
        }
    }

    pub(super) fn bytes(calendar: &Calendar) -> usize {
        size_of::<Self>() + calendar.bins * size_of::<Half>()
    }

    /// The value so many steps back; a missing one is the one before it.
    pub(super) fn back(&self, turn: usize, steps: usize) -> f32 {
        self.y[(turn + RING - steps) % RING]
    }

    /// `old`: the sample [`FAR`] steps back was measured.
    pub(super) fn observe(
        &mut self,
        c: &Config,
        calendar: &Calendar,
        at: When,
        value: Option<f32>,
        old: bool,
    ) {
        let before = self.back(at.turn, 1);
        let y = value.unwrap_or(before);
        self.y[at.turn % RING] = y;
        if at.age == 0 {
            (self.origin, self.y, self.ewma) = (y, [y; RING], [y; 3]);
        }
        if value.is_some() {
            if self.scale == 0.0 {
                self.ewma = [y; 3];
            }
            self.ewma.iter_mut().zip(c.rates).for_each(|(level, rate)| *level += rate * (y - *level));
            if at.age > 0 {
                drift(&mut self.scale, (y - before).abs(), rate(c.scale_rate, at.age), c.scale_clip);
            }
            if let Some(day) = self.day_at(calendar.bin(at.clock)) {
                self.dev += c.dev_rate * (y - day - self.dev);
            }
        }
        if at.age >= FAR {
            self.fold(c, calendar, at, old);
        }
    }

    /// Takes the sample [`FAR`] steps back into the season, which thus never contains the present.
    fn fold(&mut self, c: &Config, calendar: &Calendar, at: When, measured: bool) {
        let (age, clock) = (at.age - FAR, at.clock - FAR);
        let days = age / calendar.day;
        // On the first day a hole is filled with the last value.
        if !measured && days > 0 {
            return;
        }
        let z = self.back(at.turn, FAR) - self.origin;
        let bin = calendar.bin(clock);
        let day = if self.day[bin].is_none() { z } else { self.day[bin].get() };
        if days > 0 {
            let week = calendar.week();
            let slot = clock % week * WEEK / week;
            let gain = rate(c.week_rate * WEEK as f32 / week as f32, age / week * (week / WEEK) + 1);
            let old = self.week[slot].get();
            self.week[slot] = Half::of(old + gain * (z - day - old));
        }
        let seen = days * calendar.per_bin + clock % calendar.per_bin + 1;
        let gain = rate(c.season_rate / calendar.per_bin as f32, seen);
        self.day[bin] = Half::of(day + gain * (z - day));
    }

    /// None: no sample was folded into this bin yet.
    pub(super) fn day_at(&self, bin: usize) -> Option<f32> {
        let day = self.day[bin];
        (!day.is_none()).then(|| self.origin + day.get())
    }

    /// Between the middles of two bins.
    pub(super) fn week_at(&self, calendar: &Calendar, clock: usize) -> f32 {
        let week = calendar.week();
        let place = (clock % week) as f32 * WEEK as f32 / week as f32 + WEEK as f32 - 0.5;
        let (bin, share) = (place as usize, place.fract());
        self.week[bin % WEEK].get() * (1.0 - share) + self.week[(bin + 1) % WEEK].get() * share
    }
}
