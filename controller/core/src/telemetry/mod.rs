//! Remembers what was measured of each link, and how each circuit ran, lately: seconds, minutes, hours; in a bounded room, with
//! gaps and outliers.
//!
//! A report goes into the open bucket of each resolution. A bucket knows how many reports it has; one without any is a gap,
//! not a zero. Samples are not durable as promises are; [`to_bytes`] keeps them over a restart all the same.
mod bucket;
mod bytes;
mod history;
mod sample;
#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Load, Rtt};
pub use bytes::{BadHistory, from_bytes, to_bytes};
pub use history::Resolution;
pub use sample::{Counter, Reading, RoundTrip, Sample};

use history::History;
use proto_model::Timestamp;
use std::collections::BTreeMap;

/// Histories by what they are of: `LinkId` or `CircuitId`.
#[derive(Clone, Debug)]
pub struct Store<K> {
    all: BTreeMap<K, History>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { all: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Store<K> {
    /// Takes a report; one that is older than the newest counts as of now.
    pub fn see(&mut self, now: Timestamp, of: &K, sample: &Sample) {
        match self.all.get_mut(of) {
            Some(history) => history.see(now, sample),
            None => self.all.entry(of.clone()).or_insert_with(|| History::new(now)).see(now, sample),
        }
    }

    /// Closes all buckets that have ended.
    pub fn advance(&mut self, now: Timestamp) {
        self.all.values_mut().for_each(|history| history.advance(now));
    }

    pub fn forget(&mut self, of: &K) {
        self.all.remove(of);
    }

    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.all.retain(|of, _| keep(of));
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.all.keys()
    }

    /// When the last report came.
    pub fn last(&self, of: &K) -> Option<Timestamp> {
        self.all.get(of).map(|history| history.last)
    }

    /// The start of each bucket, and what is in it: from the oldest with a report to the one that is still open.
    pub fn series(&self, of: &K, resolution: Resolution) -> impl Iterator<Item = (Timestamp, Bucket)> + '_ {
        let ring = self.all.get(of).map(|history| &history.rings[resolution as usize]);
        ring.into_iter()
            .flat_map(|ring| ring.series())
            .map(move |(number, bucket)| (resolution.start(number), bucket))
    }

    /// A bucket that has ended; none: it is not kept any longer, or not over yet.
    pub fn closed(&self, of: &K, resolution: Resolution, number: u64) -> Option<Bucket> {
        self.all.get(of)?.rings[resolution as usize].closed(number)
    }

    /// The same of all, in their order.
    pub fn all_closed(
        &self,
        resolution: Resolution,
        number: u64,
    ) -> impl Iterator<Item = (&K, Option<Bucket>)> + '_ {
        self.all.iter().map(move |(of, history)| (of, history.rings[resolution as usize].closed(number)))
    }

    /// Of one history at most, without its name; it grows up to that within a week.
    pub fn most_bytes() -> usize {
        History::most_bytes()
    }

    /// What all histories take now, without their names.
    pub fn bytes(&self) -> usize {
        self.all.values().map(History::bytes).sum()
    }
}
