//! The agent's clock: wall time at the start plus the time since, so that it does not jump when somebody sets the clock.
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

/// How long to sleep when nothing is due.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

impl Clock {
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let base = Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Self { base, started: monotonic() }
    }

    pub fn now(&self) -> Timestamp {
        self.at(monotonic())
    }

    /// When the kernel's own clock showed this.
    pub(crate) fn at(&self, monotonic: u64) -> Timestamp {
        Timestamp(self.base.0.saturating_add(monotonic).saturating_sub(self.started))
    }

    pub(crate) fn until(&self, deadline: Option<Timestamp>) -> Duration {
        deadline.map_or(LONG, |deadline| deadline.since(self.now()))
    }
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
    fn what_the_kernel_stamped_lies_between_two_looks_at_the_clock() {
        let clock = Clock::start();
        let before = clock.now();
        let stamped = clock.at(monotonic());
        assert!(before <= stamped && stamped <= clock.now());
    }
}
