//! Remembers what was measured of each link lately: seconds, minutes, hours; in a fixed room, with gaps and outliers.
//!
//! A report goes into the open bucket of each resolution. A bucket knows how many reports it has; one without any is a gap,
//! not a zero. Samples are not durable as promises are; [`Store::to_bytes`] keeps them over a restart all the same.
mod bucket;
mod bytes;
mod history;
mod sample;
#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Load, Rtt};
pub use bytes::BadHistory;
pub use history::Resolution;
pub use sample::{Counter, Reading, RoundTrip, Sample};

use history::History;
use proto_model::Timestamp;
use proto_model::topology::LinkId;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Store {
    links: BTreeMap<LinkId, History>,
}

impl Store {
    /// Takes a report; one that is older than the newest counts as of now.
    pub fn see(&mut self, now: Timestamp, link: &LinkId, sample: &Sample) {
        match self.links.get_mut(link) {
            Some(history) => history.see(now, sample),
            None => self.links.entry(link.clone()).or_insert_with(|| History::new(now)).see(now, sample),
        }
    }

    /// Closes the buckets of all links that have ended.
    pub fn advance(&mut self, now: Timestamp) {
        self.links.values_mut().for_each(|history| history.advance(now));
    }

    pub fn forget(&mut self, link: &LinkId) {
        self.links.remove(link);
    }

    pub fn links(&self) -> impl Iterator<Item = &LinkId> {
        self.links.keys()
    }

    /// When a link's last report came.
    pub fn last(&self, link: &LinkId) -> Option<Timestamp> {
        self.links.get(link).map(|history| history.last)
    }

    /// The start of each bucket, and what is in it: from the oldest with a report to the one that is still open.
    pub fn series(
        &self,
        link: &LinkId,
        resolution: Resolution,
    ) -> impl Iterator<Item = (Timestamp, Bucket)> + '_ {
        let ring = self.links.get(link).map(|history| &history.rings[resolution as usize]);
        ring.into_iter()
            .flat_map(|ring| ring.series())
            .map(move |(number, bucket)| (resolution.start(number), bucket))
    }

    /// A bucket that has ended; none: it is not kept any longer, or not over yet.
    pub fn closed(&self, link: &LinkId, resolution: Resolution, number: u64) -> Option<Bucket> {
        self.links.get(link)?.rings[resolution as usize].closed(number)
    }

    /// The same of all links, in their order.
    pub fn all_closed(
        &self,
        resolution: Resolution,
        number: u64,
    ) -> impl Iterator<Item = (&LinkId, Option<Bucket>)> + '_ {
        self.links
            .iter()
            .map(move |(link, history)| (link, history.rings[resolution as usize].closed(number)))
    }

    /// Of a link, without its name; the same for every link, however long it is measured.
    pub fn bytes_per_link() -> usize {
        History::bytes()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        bytes::write(&self.links)
    }

    /// # Errors
    /// The bytes are not such a history, of another version, cut or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadHistory> {
        Ok(Self { links: bytes::read(bytes)? })
    }
}
