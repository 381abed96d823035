//! The agent's clock: wall time at the start plus the time since, so that it does not jump when somebody sets the clock.
use proto_model::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
}

/// How long to sleep when nothing is due.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

impl Clock {
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let base = Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Self { base, started: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        self.base.plus(self.started.elapsed())
    }

    pub(crate) fn until(&self, deadline: Option<Timestamp>) -> Duration {
        deadline.map_or(LONG, |deadline| deadline.since(self.now()))
    }
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
}
