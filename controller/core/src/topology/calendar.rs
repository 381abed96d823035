//! Keeps what paths are promised for later, so that at no instant more is promised than there is.
//!
//! What a path that stands holds is booked; that it gives it back at its end, and what is promised from a start to an end,
//! is kept here as changes by time. What is free of a place is what the fullest instant to come leaves.
use super::Topology;
use super::spot::{Spot, multiply, spots};
use proto_model::circuit::Path;
use proto_model::{Bandwidth, Timestamp};
use std::collections::BTreeMap;

/// A time to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    /// None: without end.
    pub to: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Calendar {
    spots: BTreeMap<Spot, Changes>,
    /// Paths that are promised something.
    plans: usize,
    /// What is looked at; none: all that is to come.
    window: Option<Window>,
}

/// Of one place.
#[derive(Clone, Debug, Default)]
struct Changes {
    /// By how many bits per second more, or less, is reserved from then on.
    at: BTreeMap<Timestamp, i128>,
    /// Promises that cross it.
    plans: usize,
}

impl Changes {
    fn add(&mut self, at: Timestamp, change: i128) {
        let sum = self.at.entry(at).or_default();
        *sum += change;
        if *sum == 0 {
            self.at.remove(&at);
        }
    }

    /// The most that is reserved in a window, when so much is now.
    fn peak(&self, reserved: Bandwidth, window: Option<Window>, now: Timestamp) -> Bandwidth {
        let mut level = i128::from(reserved.bits_per_second());
        let mut most = level;
        for (at, change) in &self.at {
            if window.and_then(|window| window.to).is_some_and(|end| *at >= end) {
                break;
            }
            level += change;
            most = match window {
                Some(window) if *at <= window.from && window.from > now => level,
                Some(_) | None => most.max(level),
            };
        }
        bandwidth(most)
    }
}

fn bandwidth(bits: i128) -> Bandwidth {
    Bandwidth::from_bits_per_second(u64::try_from(bits.max(0)).unwrap_or(u64::MAX))
}

impl Calendar {
    /// The most that paths have reserved there in what is looked at, when so much is reserved now.
    pub(super) fn peak(&self, spot: &Spot, reserved: Bandwidth, now: Timestamp) -> Bandwidth {
        match self.spots.get(spot) {
            // Without promises less and less is reserved.
            Some(changes) if changes.plans > 0 || self.window.is_some_and(|window| window.from > now) => {
                changes.peak(reserved, self.window, now)
            }
            Some(_) | None => reserved,
        }
    }

    pub(super) fn window(&self) -> Option<Window> {
        self.window
    }

    pub(super) fn looks(&self) -> bool {
        self.window.is_some()
    }

    fn change(&mut self, spot: &Spot, with: impl FnOnce(&mut Changes)) {
        let changes = self.spots.entry(spot.clone()).or_default();
        with(changes);
        if changes.at.is_empty() && changes.plans == 0 {
            self.spots.remove(spot);
        }
    }
}

impl Topology {
    /// A path that holds bandwidth gives it back then.
    pub fn ends(&mut self, path: &Path, bandwidth: Bandwidth, at: Option<Timestamp>) {
        self.note_end(path, bandwidth, at, -1);
    }

    /// It does not.
    pub fn ends_not(&mut self, path: &Path, bandwidth: Bandwidth, at: Option<Timestamp>) {
        self.note_end(path, bandwidth, at, 1);
    }

    fn note_end(&mut self, path: &Path, bandwidth: Bandwidth, at: Option<Timestamp>, sign: i128) {
        let Some(at) = at.filter(|_| !bandwidth.is_zero()) else { return };
        for (spot, times) in spots(path) {
            let change = sign * i128::from(multiply(bandwidth, times).bits_per_second());
            self.calendar.change(&spot, |changes| changes.add(at, change));
            self.show(&spot);
        }
    }

    /// Promises bandwidth on a path for a time to come.
    pub fn plan(&mut self, path: &Path, bandwidth: Bandwidth, window: Window) {
        self.note_plan(path, bandwidth, window, true);
    }

    /// Takes back what [`Self::plan`] with the same words has promised.
    pub fn unplan(&mut self, path: &Path, bandwidth: Bandwidth, window: Window) {
        self.note_plan(path, bandwidth, window, false);
    }

    fn note_plan(&mut self, path: &Path, bandwidth: Bandwidth, window: Window, promised: bool) {
        if bandwidth.is_zero() || path.links.is_empty() {
            return;
        }
        let plans = |count: usize| if promised { count + 1 } else { count.saturating_sub(1) };
        self.calendar.plans = plans(self.calendar.plans);
        for (spot, times) in spots(path) {
            let sign = if promised { 1 } else { -1 };
            let change = sign * i128::from(multiply(bandwidth, times).bits_per_second());
            self.calendar.change(&spot, |changes| {
                changes.plans = plans(changes.plans);
                changes.add(window.from, change);
                if let Some(end) = window.to {
                    changes.add(end, -change);
                }
            });
            self.show(&spot);
        }
    }

    /// Whether anything is promised for later.
    pub fn has_plans(&self) -> bool {
        self.calendar.plans > 0
    }

    /// From now on links and interfaces have free what they have free in this window; none: in all time to come.
    pub fn look(&mut self, window: Option<Window>) {
        let same = |window: &Window| window.from <= self.now && (window.to.is_none() || !self.has_plans());
        let window = window.filter(|window| !same(window));
        if window.is_none() && self.calendar.window.is_none() {
            return;
        }
        let later = |window: &Option<Window>| window.is_some_and(|window| window.from > self.now);
        // From now on, ends alone change nothing.
        let all = later(&window) || later(&self.calendar.window);
        self.with_others(|topology| topology.calendar.window = window);
        let differ = self.calendar.spots.iter().filter(|(_, changes)| all || changes.plans > 0);
        let spots: Vec<_> = differ.map(|(spot, _)| spot.clone()).collect();
        spots.iter().for_each(|spot| self.show(spot));
    }

    /// When a path first lacks so much, from a moment on; none: never.
    pub fn lacks_from(&self, path: &Path, need: Bandwidth, from: Timestamp) -> Option<Timestamp> {
        let first = |(spot, times): (Spot, u64)| {
            let most = self.most(&spot)?.saturating_sub(self.shared.of(&spot)).bits_per_second();
            let room = i128::from(most) - i128::from(multiply(need, times).bits_per_second());
            let mut level = i128::from(self.reserved(&spot).bits_per_second());
            let changes = self.calendar.spots.get(&spot).map(|changes| &changes.at).into_iter().flatten();
            let (before, after): (Vec<_>, Vec<_>) = changes.partition(|(at, _)| **at <= from);
            level += before.into_iter().map(|(_, change)| change).sum::<i128>();
            if level > room {
                return Some(from);
            }
            after.into_iter().find_map(|(at, change)| {
                level += change;
                (level > room).then_some(*at)
            })
        };
        spots(path).into_iter().filter_map(first).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn at(hours: u64) -> Timestamp {
        Timestamp(hours * HOUR)
    }

    fn window(from: u64, to: u64) -> Option<Window> {
        Some(Window { from: at(from), to: Some(at(to)) })
    }

    #[test]
    fn the_fullest_instant_of_a_window_counts_and_what_meets_it_only_at_its_ends_does_not() {
        let mut changes = Changes::default();
        // 100 now until 5; 30 from 2 to 4; 50 from 4 to 6.
        for (hour, change) in [(5, -100), (2, 30), (4, -30), (4, 50), (6, -50)] {
            changes.add(at(hour), change);
        }
        let reserved = Bandwidth::from_bits_per_second(100);
        let peak = |window| changes.peak(reserved, window, at(1)).bits_per_second();
        assert_eq!(peak(None), 150);
        assert_eq!(peak(window(1, 2)), 100);
        assert_eq!(peak(window(1, 3)), 130);
        assert_eq!(peak(window(2, 4)), 130);
        assert_eq!(peak(window(4, 5)), 150);
        assert_eq!(peak(window(5, 6)), 50);
        assert_eq!(peak(window(6, 9)), 0);
        assert_eq!(peak(Some(Window { from: at(5), to: None })), 50);
    }
}
