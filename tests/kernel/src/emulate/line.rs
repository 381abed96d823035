//! One direction of an emulated link: when does a packet arrive, if it does. Time and chance come from outside.
use super::series::Series;
use crate::chance::Chance;
use crate::lab::plan::Shape;

/// Nanoseconds of packets that may wait for a slow line before the last one is dropped.
const QUEUE: u64 = 100_000_000;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time, nanoseconds; never before the packet that went before it.
    Arrives(u64),
    Lost,
    /// The queue in front of the line was full.
    Overflowed,
}

/// A first-in-first-out line. Times are nanoseconds of one clock that does not go back.
#[derive(Debug)]
pub struct Line {
    shape: Shape,
    series: Option<Series>,
    chance: Chance,
    /// When the last bit of the packet before has left.
    free_at: u64,
    /// When the packet before arrives.
    last_arrival: u64,
}

impl Line {
    pub fn new(shape: Shape, series: Option<Series>, seed: u64) -> Self {
        Self { shape, series, chance: Chance::new(seed), free_at: 0, last_arrival: 0 }
    }

    /// From now on it is like this; what is on its way arrives as it would have.
    pub fn reshape(&mut self, shape: Shape, series: Option<Series>) {
        (self.shape, self.series) = (shape, series);
    }

    /// Offers a packet of `bytes` at `now`; with a recording, `since_start` says where in it we are.
    pub fn offer(&mut self, bytes: usize, now: u64, since_start: u64) -> Fate {
        let (delay, loss) = match &self.series {
            Some(series) => series.at(since_start),
            None => (self.shape.delay, self.shape.loss),
        };
        // Drawn for every packet, so that one packet's fate does not depend on another's.
        let (lot, shake) = (self.chance.below(1_000_000), self.chance.below(2 * self.shape.jitter + 1));
        if lot < u64::from(loss) {
            return Fate::Lost;
        }
        let begins = now.max(self.free_at);
        if begins - now > QUEUE {
            return Fate::Overflowed;
        }
        self.free_at = begins + self.serialisation(bytes);
        let arrival = (self.free_at + delay + shake).saturating_sub(self.shape.jitter);
        self.last_arrival = arrival.max(self.last_arrival).max(self.free_at);
        Fate::Arrives(self.last_arrival)
    }

    /// Nanoseconds that the line is busy with so many bytes.
    fn serialisation(&self, bytes: usize) -> u64 {
        let bits = bytes as u128 * 8;
        self.shape.rate.map_or(0, |rate| (bits * 1_000_000_000 / u128::from(rate.max(1))) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(shape: Shape) -> Line {
        Line::new(shape, None, 7)
    }

    #[test]
    fn a_delay_moves_every_packet_by_itself() {
        let mut line = line(Shape { delay: 2_000_000, ..Shape::default() });
        assert_eq!(line.offer(1500, 10, 10), Fate::Arrives(2_000_010));
        assert_eq!(line.offer(64, 20, 20), Fate::Arrives(2_000_020));
    }

    #[test]
    fn a_rate_spaces_packets_by_their_length() {
        let mut line = line(Shape { rate: Some(8_000_000), ..Shape::default() });
        assert_eq!(line.offer(1000, 0, 0), Fate::Arrives(1_000_000));
        assert_eq!(line.offer(1000, 0, 0), Fate::Arrives(2_000_000));
        assert_eq!(line.offer(1000, 5_000_000, 5_000_000), Fate::Arrives(6_000_000));
    }

    #[test]
    fn a_full_queue_drops_the_last_and_then_recovers() {
        let mut line = line(Shape { rate: Some(8_000_000), ..Shape::default() });
        let fates: Vec<Fate> = (0..200).map(|_| line.offer(1000, 0, 0)).collect();
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Overflowed).count(), 99);
        assert!(matches!(line.offer(1000, 200_000_000, 0), Fate::Arrives(_)));
    }

    #[test]
    fn jitter_never_reorders_and_stays_within_its_bounds() {
        let mut line = line(Shape { delay: 1_000_000, jitter: 400_000, ..Shape::default() });
        let mut before = 0;
        for now in (0..10_000).map(|index| index * 1_000_000) {
            let Fate::Arrives(at) = line.offer(100, now, now) else { panic!("nothing is lost") };
            assert!(at >= before, "{at} comes before {before}");
            assert!((600_000..=1_400_000).contains(&(at - now)), "{} ns", at - now);
            before = at;
        }
    }

    #[test]
    fn loss_comes_out_as_asked_and_the_same_every_time() {
        let count = || {
            let mut line = line(Shape { loss: 100_000, ..Shape::default() });
            (0..100_000).filter(|now| line.offer(100, *now, *now) == Fate::Lost).count()
        };
        assert!((9_600..=10_400).contains(&count()), "{} of 100,000 at 10 %", count());
        assert_eq!(count(), count());
    }

    #[test]
    fn a_shorter_delay_overtakes_nothing() {
        let mut line = line(Shape { delay: 50_000_000, ..Shape::default() });
        assert_eq!(line.offer(100, 0, 0), Fate::Arrives(50_000_000));
        line.reshape(Shape::default(), None);
        assert_eq!(line.offer(100, 10, 10), Fate::Arrives(50_000_000));
        assert_eq!(line.offer(100, 60_000_000, 60_000_000), Fate::Arrives(60_000_000));
    }

    #[test]
    fn a_recording_replaces_delay_and_loss() {
        let series = "0,20,0\n10,40,1\n".parse().expect("series");
        let mut line = Line::new(Shape { delay: 5, ..Shape::default() }, Some(series), 1);
        assert_eq!(line.offer(100, 0, 0), Fate::Arrives(10_000_000));
        assert_eq!(line.offer(100, 1, 11_000_000_000), Fate::Lost);
    }
}
