//! The samples of one link or circuit within two seconds, a minute or an hour.
use super::sample::Sample;
use crate::half::Half;

/// What was measured in one bucket; none where nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Reports in it; none: a gap.
    pub samples: u32,
    pub rtt: Option<Rtt>,
    /// Shares from 0 to 1, mean, by direction.
    pub loss: [Option<f32>; 2],
    /// By direction.
    pub load: [Option<Load>; 2],
}

/// Round-trip times, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rtt {
    pub min: f32,
    /// Without the largest report, if that is more than three times the mean of the others: an outlier is in `max`.
    pub mean: f32,
    pub max: f32,
}

/// Bandwidth in use, Mbit/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub mean: f32,
    pub max: f32,
}

/// A report so many times the mean of the others is an outlier, where there are so many others.
const OUTLIER: f32 = 3.0;
const OTHERS: f32 = 2.0;

/// A sum and how many.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sum: f32,
    count: f32,
    max: f32,
}

impl Sum {
    fn add(&mut self, value: f32) {
        self.sum += value;
        self.count += 1.0;
        self.max = self.max.max(value);
    }

    fn mean(&self) -> Option<f32> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    fn mean_without_outlier(&self) -> Option<f32> {
        let others = self.count - 1.0;
        let rest = (self.sum - self.max) / others.max(1.0);
        if others >= OTHERS && self.max > OUTLIER * rest { Some(rest) } else { self.mean() }
    }
}

/// A bucket that is still filled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    samples: u32,
    rtt: Sum,
    rtt_min: f32,
    rtt_max: f32,
    loss: [Sum; 2],
    load: [Sum; 2],
}

impl Open {
    pub(super) fn add(&mut self, sample: &Sample) {
        if *sample == Sample::default() {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        if let Some(rtt) = sample.rtt {
            let [min, mean, max] = [rtt.min, rtt.mean, rtt.max].map(|rtt| rtt.as_millis_f64() as f32);
            self.rtt_min = if self.rtt.count == 0.0 { min } else { self.rtt_min.min(min) };
            self.rtt_max = self.rtt_max.max(max);
            self.rtt.add(mean);
        }
        for (sum, loss) in self.loss.iter_mut().zip(sample.loss) {
            loss.into_iter().for_each(|loss| sum.add(loss.ppm() as f32 / 1e6));
        }
        for (sum, load) in self.load.iter_mut().zip(sample.load) {
            load.into_iter().for_each(|load| sum.add((load.bits_per_second() as f64 / 1e6) as f32));
        }
    }

    pub(super) fn bucket(&self) -> Bucket {
        let mean = self.rtt.mean_without_outlier();
        Bucket {
            samples: self.samples,
            rtt: mean.map(|mean| Rtt { min: self.rtt_min, mean, max: self.rtt_max }),
            loss: self.loss.map(|sum| sum.mean()),
            load: self.load.map(|sum| sum.mean().map(|mean| Load { mean, max: sum.max })),
        }
    }
}

impl Bucket {
    /// Both together; the means weighted by reports.
    pub(super) fn with(&self, other: &Self) -> Self {
        let share = other.samples as f32 / (self.samples + other.samples).max(1) as f32;
        let mean = |a: f32, b: f32| a + share * (b - a);
        let both = |one: Option<f32>, other: Option<f32>| match (one, other) {
            (Some(one), Some(other)) => Some(mean(one, other)),
            (one, other) => one.or(other),
        };
        let rtt = match (self.rtt, other.rtt) {
            (Some(a), Some(b)) => {
                Some(Rtt { min: a.min.min(b.min), mean: mean(a.mean, b.mean), max: a.max.max(b.max) })
            }
            (a, b) => a.or(b),
        };
        let load = |way: usize| match (self.load[way], other.load[way]) {
            (Some(a), Some(b)) => Some(Load { mean: mean(a.mean, b.mean), max: a.max.max(b.max) }),
            (a, b) => a.or(b),
        };
        Self {
            samples: self.samples.saturating_add(other.samples),
            rtt,
            loss: [0, 1].map(|way| both(self.loss[way], other.loss[way])),
            load: [0, 1].map(load),
        }
    }
}

/// A bucket in 24 bytes: extremes, loss and load to a thousandth, the mean round trip exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    rtt_mean: f32,
    samples: u16,
    rtt: [Half; 2],
    loss: [Half; 2],
    load: [Half; 2],
    load_max: [Half; 2],
}

impl Cell {
    pub(super) const GAP: Self = Self {
        rtt_mean: 0.0,
        samples: 0,
        rtt: [Half::NONE; 2],
        loss: [Half::NONE; 2],
        load: [Half::NONE; 2],
        load_max: [Half::NONE; 2],
    };
    /// In the binary form.
    pub(super) const BYTES: usize = 4 + 2 + 8 * 2;

    pub(super) fn of(bucket: &Bucket) -> Self {
        let half = |value: Option<f32>| value.map_or(Half::NONE, Half::of);
        Self {
            rtt_mean: bucket.rtt.map_or(0.0, |rtt| rtt.mean),
            samples: bucket.samples.min(u16::MAX.into()) as u16,
            rtt: [half(bucket.rtt.map(|rtt| rtt.min)), half(bucket.rtt.map(|rtt| rtt.max))],
            loss: bucket.loss.map(half),
            load: bucket.load.map(|load| half(load.map(|load| load.mean))),
            load_max: bucket.load.map(|load| half(load.map(|load| load.max))),
        }
    }

    pub(super) fn is_gap(&self) -> bool {
        self.samples == 0
    }

    pub(super) fn bucket(&self) -> Bucket {
        let known = |half: Half| (!half.is_none()).then(|| half.get());
        let [min, max] = self.rtt.map(known);
        let load = |way: usize| Some(Load { mean: known(self.load[way])?, max: known(self.load_max[way])? });
        Bucket {
            samples: self.samples.into(),
            rtt: min.zip(max).map(|(min, max)| Rtt { min, mean: self.rtt_mean, max }),
            loss: self.loss.map(known),
            load: [0, 1].map(load),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.rtt_mean.to_le_bytes());
        out.extend(self.samples.to_le_bytes());
        for half in [self.rtt, self.loss, self.load, self.load_max].iter().flatten() {
            out.extend(half.bits().to_le_bytes());
        }
    }

    pub(super) fn read(bytes: &[u8; Self::BYTES]) -> Self {
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let pair = |at: usize| [Half::from_bits(two(at)), Half::from_bits(two(at + 2))];
        let mean = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self {
            rtt_mean: if mean.is_finite() { mean } else { 0.0 },
            samples: two(4),
            rtt: pair(6),
            loss: pair(10),
            load: pair(14),
            load_max: pair(18),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::RoundTrip;
    use super::*;
    use proto_model::{Bandwidth, Latency, Loss};

    fn rtt(millis: u64) -> Sample {
        let rtt = Latency::from_millis(millis);
        Sample { rtt: Some(RoundTrip { min: rtt, mean: rtt, max: rtt }), ..Sample::default() }
    }

    #[test]
    fn an_outlier_is_the_maximum_and_not_in_the_mean() {
        let mut open = Open::default();
        [10, 12, 11, 4_000].into_iter().for_each(|millis| open.add(&rtt(millis)));
        assert_eq!(open.bucket().rtt, Some(Rtt { min: 10.0, mean: 11.0, max: 4_000.0 }));
        let mut shifted = Open::default();
        [10, 40, 40, 40].into_iter().for_each(|millis| shifted.add(&rtt(millis)));
        assert_eq!(shifted.bucket().rtt.map(|rtt| rtt.mean), Some(32.5), "what is seen again is no outlier");
    }

    #[test]
    fn a_cell_keeps_what_the_bucket_says_and_what_it_does_not() {
        let mut open = Open::default();
        open.add(&Sample {
            loss: [None, Some(Loss::from_ppm(1_000))],
            load: [Some(Bandwidth::mbit(250)), None],
            ..rtt(20)
        });
        let bucket = open.bucket();
        let cell = Cell::of(&bucket);
        let back = cell.bucket();
        assert_eq!((back.samples, back.loss[0], back.load[1]), (1, None, None));
        assert!((back.loss[1].unwrap_or(0.0) - 0.001).abs() < 2e-6);
        assert_eq!(back.load[0].map(|load| load.mean.round()), Some(250.0));
        assert_eq!(back.rtt.map(|rtt| rtt.mean), Some(20.0));
        let mut bytes = Vec::new();
        cell.write(&mut bytes);
        assert_eq!(bytes.first_chunk().map(Cell::read), Some(cell));
        assert_eq!(bytes.len(), Cell::BYTES);
        assert!(Cell::GAP.is_gap() && Cell::GAP.bucket() == Bucket::default());
    }
}
