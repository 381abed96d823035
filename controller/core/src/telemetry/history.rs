//! One link's buckets at three resolutions, in fixed rings.
use super::bucket::{Bucket, Cell, Open};
use super::sample::Sample;
use proto_model::Timestamp;
use std::time::Duration;

/// How long a bucket is, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// Two seconds, as often as agents report: the last four minutes.
    Seconds,
    /// The last three hours.
    Minutes,
    /// The last week.
    Hours,
}

impl Resolution {
    pub const ALL: [Self; 3] = [Self::Seconds, Self::Minutes, Self::Hours];

    pub const fn step(self) -> Duration {
        Duration::from_secs(match self {
            Self::Seconds => 2,
            Self::Minutes => 60,
            Self::Hours => 3600,
        })
    }

    pub const fn kept(self) -> usize {
        match self {
            Self::Seconds => 120,
            Self::Minutes => 180,
            Self::Hours => 168,
        }
    }

    /// Number of the bucket that a time is in, since the epoch.
    pub const fn number(self, at: Timestamp) -> u64 {
        at.0 / self.step().as_nanos() as u64
    }

    /// When a bucket begins.
    pub fn start(self, number: u64) -> Timestamp {
        Timestamp(number.saturating_mul(self.step().as_nanos() as u64))
    }
}

/// The buckets of one resolution: that of number `n` at `n % kept`.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    resolution: Resolution,
    /// Of the open bucket; all older ones are closed.
    pub(super) number: u64,
    open: Open,
    cells: Box<[Cell]>,
}

impl Ring {
    pub(super) fn new(resolution: Resolution, number: u64) -> Self {
        let cells = vec![Cell::GAP; resolution.kept()].into();
        Self { resolution, number, open: Open::default(), cells }
    }

    fn bytes(resolution: Resolution) -> usize {
        size_of::<Self>() + resolution.kept() * size_of::<Cell>()
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.cells.len() as u64) as usize
    }

    /// Closes buckets up to now; those without a sample are gaps. A clock that goes back closes nothing.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let number = self.resolution.number(now);
        if number <= self.number {
            return;
        }
        let slot = self.slot(self.number);
        self.cells[slot] = Cell::of(&self.current());
        self.open = Open::default();
        let first = (self.number + 1).max(number.saturating_sub(self.cells.len() as u64 - 1));
        for gap in first..=number {
            let slot = self.slot(gap);
            self.cells[slot] = Cell::GAP;
        }
        self.number = number;
    }

    fn add(&mut self, sample: &Sample) {
        self.open.add(sample);
    }

    /// The open bucket, with what a restart left of it.
    fn current(&self) -> Bucket {
        self.cells[self.slot(self.number)].bucket().with(&self.open.bucket())
    }

    pub(super) fn closed(&self, number: u64) -> Option<Bucket> {
        let kept = self.number.saturating_sub(self.cells.len() as u64 - 1)..self.number;
        kept.contains(&number).then(|| self.cells[self.slot(number)].bucket())
    }

    /// From the oldest that is no gap to the open one.
    pub(super) fn series(&self) -> impl Iterator<Item = (u64, Bucket)> + '_ {
        let oldest = self.number.saturating_sub(self.cells.len() as u64 - 1);
        let closed = (oldest..self.number).map(|number| (number, self.cells[self.slot(number)].bucket()));
        let known = closed.skip_while(|(_, bucket)| bucket.samples == 0);
        known.chain(std::iter::once((self.number, self.current())))
    }

    /// What [`super::bytes`] writes.
    pub(super) fn cells(&self) -> impl Iterator<Item = (u64, Cell)> + '_ {
        self.series().map(|(number, bucket)| (number, Cell::of(&bucket))).filter(|(_, cell)| !cell.is_gap())
    }

    /// Puts back what [`super::bytes`] read; false: that number is not among those kept.
    pub(super) fn put(&mut self, number: u64, cell: Cell) -> bool {
        let is_kept = number <= self.number && self.number - number < self.cells.len() as u64;
        if is_kept {
            let slot = self.slot(number);
            self.cells[slot] = cell;
        }
        is_kept
    }
}

/// One link's rings, in the order of [`Resolution::ALL`].
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) rings: [Ring; 3],
    /// Of the last sample.
    pub(super) last: Timestamp,
}

impl History {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            rings: Resolution::ALL.map(|resolution| Ring::new(resolution, resolution.number(now))),
            last: now,
        }
    }

    pub(super) fn bytes() -> usize {
        let rings: usize = Resolution::ALL.into_iter().map(Ring::bytes).sum();
        size_of::<Self>() - 3 * size_of::<Ring>() + rings
    }

    pub(super) fn see(&mut self, now: Timestamp, sample: &Sample) {
        self.advance(now);
        self.rings.iter_mut().for_each(|ring| ring.add(sample));
        self.last = self.last.max(now);
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        self.rings.iter_mut().for_each(|ring| ring.advance(now));
    }
}
