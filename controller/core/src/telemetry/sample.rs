//! What is measured of a link or of a circuit, and what a counter of bytes says of its load.
use proto_model::topology::Measured;
use proto_model::{Bandwidth, Latency, Loss, Timestamp};

/// One report of a link, or of a circuit. Directions: away from the first of the link's ends or the circuit's source, and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub rtt: Option<RoundTrip>,
    pub loss: [Option<Loss>; 2],
    /// Bandwidth in use.
    pub load: [Option<Bandwidth>; 2],
}

/// Least, mean and largest of one report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    pub min: Latency,
    pub mean: Latency,
    pub max: Latency,
}

impl Sample {
    /// As probes saw it from one end; `end`: 0 is the first. Nothing, when no probe's fate is known; no round trip, when
    /// none came back.
    pub fn of(measured: &Measured, end: usize) -> Self {
        if measured.probes == 0 {
            return Self::default();
        }
        let mut loss = [measured.loss_forward, measured.loss_backward];
        if end == 1 {
            loss.swap(0, 1);
        }
        let rtt = RoundTrip { min: measured.rtt_min, mean: measured.rtt_mean, max: measured.rtt_max };
        let rtt = (rtt.mean != Latency::ZERO).then_some(rtt);
        Self { rtt, loss: loss.map(Some), load: [None; 2] }
    }
}

/// A counter of bytes, read now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    last: Option<(Timestamp, u64)>,
}

/// What two readings of a counter say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The first one, or no time has passed since the last.
    Nothing,
    Rate(Bandwidth),
    /// It fell, or its host's clock did: host or interface began anew. What went over the link meanwhile is not known.
    Reset,
}

impl Counter {
    /// When it was read last.
    pub fn last(&self) -> Option<Timestamp> {
        self.last.map(|(at, _)| at)
    }

    pub fn read(&mut self, now: Timestamp, bytes: u64) -> Reading {
        let Some((at, before)) = self.last else {
            self.last = Some((now, bytes));
            return Reading::Nothing;
        };
        if now == at {
            return Reading::Nothing;
        }
        self.last = Some((now, bytes));
        let Some(carried) = bytes.checked_sub(before).filter(|_| at < now) else { return Reading::Reset };
        let bits = u128::from(carried) * 8 * 1_000_000_000 / now.since(at).as_nanos();
        Reading::Rate(Bandwidth::from_bits_per_second(u64::try_from(bits).unwrap_or(u64::MAX)))
    }
}

impl Reading {
    pub fn rate(self) -> Option<Bandwidth> {
        match self {
            Self::Rate(rate) => Some(rate),
            Self::Nothing | Self::Reset => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_counter_that_falls_says_reset_and_counts_on_from_there() {
        let at = |second: u64| Timestamp(0).plus(Duration::from_secs(second));
        let mut counter = Counter::default();
        assert_eq!(counter.read(at(0), 5_000), Reading::Nothing);
        assert_eq!(counter.read(at(2), 255_000), Reading::Rate(Bandwidth::mbit(1)));
        assert_eq!(counter.read(at(2), 300_000), Reading::Nothing, "no time has passed");
        assert_eq!(counter.read(at(3), 100), Reading::Reset);
        assert_eq!(counter.read(at(4), 125_100), Reading::Rate(Bandwidth::mbit(1)));
        assert_eq!(counter.read(at(5), u64::MAX), Reading::Rate(Bandwidth::MAX));
        assert_eq!(counter.read(at(2), u64::MAX), Reading::Reset, "its host was started anew");
        assert_eq!(counter.read(at(3), u64::MAX), Reading::Rate(Bandwidth::ZERO));
    }

    #[test]
    fn the_second_end_sees_the_directions_the_other_way_round() {
        let measured = Measured {
            probes: 10,
            loss_forward: Loss::from_ppm(1),
            loss_backward: Loss::from_ppm(2),
            ..Measured::default()
        };
        let sample = Sample::of(&measured, 1);
        assert_eq!(sample.loss, [Some(Loss::from_ppm(2)), Some(Loss::from_ppm(1))]);
        assert_eq!(sample.rtt, None, "no probe came back");
        assert_eq!(Sample::of(&Measured::default(), 0), Sample::default());
    }
}
