//! The agent's clock: wall time at the start plus the time since, so that it does not jump when somebody sets the host's
//! clock; and by how much the host's clock is ahead of it since then.
use nix::time::{ClockId, clock_gettime};
use proto_model::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Copies agree with each other, and with what the programs read by `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    started: u64,
}

/// The host's clock was set when it is so much farther from the agent's than before. Adjustments that are smaller make
/// both clocks run faster or slower together (adjtimex(2)).
const STEP: i64 = 50_000_000;

/// Tells when the host's clock was set.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Clock,
    ahead: i64,
}

impl Watch {
    pub(crate) fn of(clock: Clock) -> Self {
        Self { clock, ahead: 0 }
    }

    /// Nanoseconds that the host's clock is ahead of the agent's now, if that has changed: somebody set it, or the host
    /// was suspended.
    pub(crate) fn look(&mut self) -> Option<i64> {
        let ahead = self.clock.behind_wall();
        let moved = ahead.abs_diff(self.ahead) >= STEP.unsigned_abs();
        moved.then(|| {
            self.ahead = ahead;
            ahead
        })
    }
}

/// How long to sleep when nothing is due.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

impl Clock {
    pub fn start() -> Self {
        Self { base: wall(), started: monotonic() }
    }

    pub fn now(&self) -> Timestamp {
        self.at(monotonic())
    }

    /// When the kernel's own clock showed this.
    pub(crate) fn at(&self, monotonic: u64) -> Timestamp {
        Timestamp(self.base.0.saturating_add(monotonic).saturating_sub(self.started))
    }

    /// Nanoseconds that the wall clock is ahead. Both are read twice or more if this thread was stopped between.
    fn behind_wall(&self) -> i64 {
        let look = || {
            let (before, wall, after) = (monotonic(), wall(), monotonic());
            (after - before, wall.0.cast_signed() - self.at(before).0.cast_signed())
        };
        let looks = std::iter::repeat_with(look).take(3).min_by_key(|(took, _)| *took);
        looks.map_or(0, |(_, ahead)| ahead)
    }

    pub(crate) fn until(&self, deadline: Option<Timestamp>) -> Duration {
        deadline.map_or(LONG, |deadline| deadline.since(self.now()))
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A clock that every Linux has.
fn monotonic() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let clock = Clock::start();
        assert_eq!(clock.until(Some(Timestamp(0))), Duration::ZERO);
        assert_eq!(clock.until(None), LONG);
        assert!(clock.until(Some(clock.now().plus(LONG))) <= LONG);
    }

    #[test]
    fn a_clock_that_was_set_is_told_once() {
        const HOUR: i64 = 3_600_000_000_000;
        let clock = Clock::start();
        assert_eq!(Watch::of(clock).look(), None);
        // As if somebody had set the host's clock back by an hour since.
        let started = Clock { base: clock.base.plus(Duration::from_secs(3_600)), ..clock };
        let mut watch = Watch::of(started);
        let ahead = watch.look().expect("it was set");
        assert!((-HOUR - STEP..=-HOUR + STEP).contains(&ahead), "{ahead}");
        assert_eq!(watch.look(), None);
    }

    #[test]
    fn what_the_kernel_stamped_lies_between_two_looks_at_the_clock() {
        let clock = Clock::start();
        let before = clock.now();
        let stamped = clock.at(monotonic());
        assert!(before <= stamped && stamped <= clock.now());
    }
}
