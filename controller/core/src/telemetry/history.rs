//! The buckets of one link or circuit at three resolutions, in bounded rings.
use super::bucket::{Bucket, Cell, Open};
use super::sample::Sample;
use proto_model::Timestamp;
use std::collections::VecDeque;
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

/// The buckets of one resolution. It grows with what there is to keep, up to so many as are kept.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    resolution: Resolution,
    /// Of the open bucket; all older ones are closed.
    pub(super) number: u64,
    open: Open,
    /// What a restart left of the open bucket.
    begun: Cell,
    /// Those before the open one, the oldest first; it begins with none that is a gap.
    closed: VecDeque<Cell>,
}

impl Ring {
    pub(super) fn new(resolution: Resolution, number: u64) -> Self {
        Self { resolution, number, open: Open::default(), begun: Cell::GAP, closed: VecDeque::new() }
    }

    fn most_bytes(resolution: Resolution) -> usize {
        size_of::<Self>() + (resolution.kept() - 1) * size_of::<Cell>()
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.closed.capacity() * size_of::<Cell>()
    }

    /// Closes buckets up to now; those without a sample are gaps. A clock that goes back closes nothing.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let number = self.resolution.number(now);
        if number <= self.number {
            return;
        }
        self.push(Cell::of(&self.current()));
        let most = self.resolution.kept() as u64 - 1;
        (0..(number - self.number - 1).min(most)).for_each(|_| self.push(Cell::GAP));
        (self.open, self.begun, self.number) = (Open::default(), Cell::GAP, number);
        while self.closed.front().is_some_and(Cell::is_gap) {
            self.closed.pop_front();
        }
        if self.closed.is_empty() {
            self.closed = VecDeque::new();
        }
    }

    /// It never has room for more than is kept.
    fn push(&mut self, cell: Cell) {
        let (length, most) = (self.closed.len(), self.resolution.kept() - 1);
        if length == most {
            self.closed.pop_front();
        } else if length == self.closed.capacity() {
            self.closed.reserve_exact((length / 2).max(4).min(most - length));
        }
        self.closed.push_back(cell);
    }

    fn add(&mut self, sample: &Sample) {
        self.open.add(sample);
    }

    /// The open bucket, with what a restart left of it.
    fn current(&self) -> Bucket {
        self.begun.bucket().with(&self.open.bucket())
    }

    pub(super) fn closed(&self, number: u64) -> Option<Bucket> {
        let kept = self.number.saturating_sub(self.resolution.kept() as u64 - 1)..self.number;
        let at = || self.closed.len().checked_sub((self.number - number) as usize);
        let cell = || at().and_then(|at| self.closed.get(at));
        kept.contains(&number).then(|| cell().unwrap_or(&Cell::GAP).bucket())
    }

    /// Number of the oldest that is closed; that of the open one if there is none.
    fn oldest(&self) -> u64 {
        self.number - self.closed.len() as u64
    }

    /// From the oldest that is no gap to the open one.
    pub(super) fn series(&self) -> impl Iterator<Item = (u64, Bucket)> + '_ {
        let closed = (self.oldest()..).zip(self.closed.iter().map(Cell::bucket));
        closed.chain(std::iter::once((self.number, self.current())))
    }

    /// What [`super::bytes`] writes.
    pub(super) fn cells(&self) -> impl Iterator<Item = (u64, Cell)> + '_ {
        let all = (self.oldest()..).zip(self.closed.iter().copied());
        all.chain(std::iter::once((self.number, Cell::of(&self.current()))))
            .filter(|(_, cell)| !cell.is_gap())
    }

    /// Puts back what [`super::bytes`] read; false: that number is not among those kept.
    pub(super) fn put(&mut self, number: u64, cell: Cell) -> bool {
        let Some(back) = self.number.checked_sub(number).map(|back| back as usize) else { return false };
        if back >= self.resolution.kept() {
            return false;
        }
        let missing = back.saturating_sub(self.closed.len());
        self.closed.reserve_exact(missing);
        (0..missing).for_each(|_| self.closed.push_front(Cell::GAP));
        let at = self.closed.len() - back;
        *self.closed.get_mut(at).unwrap_or(&mut self.begun) = cell;
        true
    }
}

/// Rings in the order of [`Resolution::ALL`].
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

    pub(super) fn most_bytes() -> usize {
        let rings: usize = Resolution::ALL.into_iter().map(Ring::most_bytes).sum();
        size_of::<Self>() - 3 * size_of::<Ring>() + rings
    }

    pub(super) fn bytes(&self) -> usize {
        let rings: usize = self.rings.iter().map(Ring::bytes).sum();
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
