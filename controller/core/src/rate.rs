//! What a circuit sends, as its counters tell.
use crate::telemetry::Counter;
use proto_model::report::Traffic;
use proto_model::{Bandwidth, Timestamp};
use std::time::Duration;

/// A circuit whose counters do not move is not told of: after so long it sends nothing.
const QUIET: Duration = Duration::from_secs(10);
/// Weight of a new value in the moving average, in hundredths.
const WEIGHT: u64 = 30;

#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    counter: Counter,
    counted: Option<Timestamp>,
    smooth: Bandwidth,
}

impl Rate {
    /// Counters of one end, of both directions; the greater one counts, since a link has each of them. Counters that fell
    /// began anew.
    pub fn count(&mut self, traffic: Traffic, now: Timestamp) {
        self.counted = Some(now);
        let read = self.counter.read(now, traffic.sent_bytes.max(traffic.received_bytes));
        if let Some(new) = read.rate() {
            self.smooth = smoothed(self.smooth, new);
        }
    }

    /// True: it has just fallen silent.
    pub fn fall_quiet(&mut self, now: Timestamp) -> bool {
        let quiet = self.counted.is_none_or(|at| now.since(at) > QUIET);
        quiet && std::mem::take(&mut self.smooth) != Bandwidth::ZERO
    }

    pub fn now(&self) -> Bandwidth {
        self.smooth
    }
}

/// With one more value; at first it rises from nothing.
pub fn smoothed(old: Bandwidth, new: Bandwidth) -> Bandwidth {
    let (old, new) = (old.bits_per_second(), new.bits_per_second());
    Bandwidth::from_bits_per_second(old / 100 * (100 - WEIGHT) + new / 100 * WEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp(1_000_000_000).plus(Duration::from_secs(second))
    }

    fn sent(sent_bytes: u64) -> Traffic {
        Traffic { sent_bytes, ..Traffic::default() }
    }

    #[test]
    fn a_steady_flow_is_known_after_some_seconds_and_forgotten_after_ten() {
        let mut rate = Rate::default();
        for second in 0..20 {
            rate.count(sent(second * 1_250_000), at(second));
        }
        let mbit = rate.now().bits_per_second() / 1_000_000;
        assert_eq!(mbit, 9, "{:?}", rate.now());
        assert!(!rate.fall_quiet(at(29)) && rate.fall_quiet(at(30)) && !rate.fall_quiet(at(31)));
        assert_eq!(rate.now(), Bandwidth::ZERO);
    }

    #[test]
    fn counters_that_fall_are_no_traffic() {
        let mut rate = Rate::default();
        rate.count(sent(u64::MAX / 2), at(0));
        rate.count(sent(5), at(1));
        assert_eq!(rate.now(), Bandwidth::ZERO);
        rate.count(sent(12_500_005), at(2));
        assert_eq!(rate.now(), Bandwidth::mbit(30), "30 % of 100 Mbit/s at first");
    }
}
