//! Forecasts of the links of a running fabric: steps each forecaster when its time has come, and picks the one to ask.
//!
//! A forecaster that has missed many steps (after a restart all of them, else after a pause) is *behind*: it learns them in
//! portions ([`Forecasts::catch_up`]) and is not asked before it has learned all. What telemetry forgets soonest is learned
//! first. So seconds are known again first, by which bounds are watched, then minutes, then hours; and what is measured meanwhile is
//! not lost: the forecaster ends in the state that it would have had without the pause.
mod learner;

use super::mesh::FAR;
use super::outlook::{Outlook, Quantity};
use super::slots::Slot;
use crate::telemetry::{Bucket, Resolution, Sample, Store};
use learner::Learner;
use proto_model::Timestamp;
use proto_model::topology::LinkId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A step of the mesh, for which its constants were chosen: its 12 steps are an hour.
const MESH_STEP: Duration = Duration::from_secs(300);
/// Steps of links in a portion of what is caught up with; where one step of all links is more, that one.
const PORTION: usize = 20_000;

/// How far ahead [`Forecasts::load_bound`] holds.
pub const LOAD_WITHIN: Duration = Duration::from_secs(MESH_STEP.as_secs() * FAR as u64);

/// All forecasts of all links. A link has one round-trip time, and the loss and load of its worse direction.
#[derive(Clone, Debug)]
pub struct Forecasts {
    store: Store<LinkId>,
    now: Timestamp,
    /// Number of the bucket of seconds that is open; all other steps end with one of them. None: nothing was seen yet.
    seen: Option<u64>,
    /// By quantity, then resolution.
    learners: Vec<Learner>,
    /// All forecasters have a link in the same place, and the store has its history.
    places: BTreeMap<LinkId, Slot>,
    /// How much was missing when a forecaster fell behind; see [`Self::missing`].
    missed: u64,
    samples: Vec<Option<f32>>,
}

impl Default for Forecasts {
    fn default() -> Self {
        let all = [Quantity::Rtt, Quantity::Loss, Quantity::Load];
        let each = |quantity| Resolution::ALL.map(|resolution| Learner::of(quantity, resolution));
        Self {
            store: Store::default(),
            now: Timestamp::default(),
            seen: None,
            learners: all.into_iter().flat_map(each).collect(),
            places: BTreeMap::new(),
            missed: 0,
            samples: Vec::new(),
        }
    }
}

impl Forecasts {
    /// Learns again from what telemetry kept over a restart: the first portion now, the others by [`Self::catch_up`].
    pub fn restore(store: Store<LinkId>, now: Timestamp) -> Self {
        let mut forecasts = Self { store, ..Self::default() };
        let links: Vec<LinkId> = forecasts.store.keys().cloned().collect();
        links.iter().for_each(|link| forecasts.join(link));
        forecasts.learners.iter_mut().for_each(|learner| learner.begin_anew(now));
        forecasts.advance_to(now);
        forecasts
    }

    /// What was measured of the links: charts, and what is kept over a restart.
    pub fn history(&self) -> &Store<LinkId> {
        &self.store
    }

    /// Takes a report of a link; one of a link that is new adds it.
    pub fn see(&mut self, now: Timestamp, link: &LinkId, sample: &Sample) {
        self.advance(now);
        self.store.see(self.now, link, sample);
        if !self.places.contains_key(link) {
            self.join(link);
        }
    }

    fn join(&mut self, link: &LinkId) {
        let slots: Vec<Slot> = self.learners.iter_mut().map(Learner::join).collect();
        let Some(slot) = slots.first() else { return };
        debug_assert!(slots.iter().all(|same| same == slot), "forecasters gain and lose links together");
        self.places.insert(link.clone(), *slot);
    }

    pub fn forget(&mut self, link: &LinkId) {
        self.store.forget(link);
        let Some(slot) = self.places.remove(link) else { return };
        self.learners.iter_mut().for_each(|learner| learner.leave(slot));
    }

    /// Learns all buckets that have ended, but for what forecasters that are behind miss. A clock that goes back stands still.
    pub fn advance(&mut self, now: Timestamp) {
        let Some(seen) = self.seen else {
            (self.now, self.seen) = (now, Some(Resolution::Seconds.number(now)));
            return self.learners.iter_mut().for_each(|learner| learner.begin(now));
        };
        self.now = self.now.max(now);
        if Resolution::Seconds.number(self.now) != seen {
            self.advance_to(self.now);
        }
    }

    fn advance_to(&mut self, now: Timestamp) {
        (self.now, self.seen) = (now, Some(Resolution::Seconds.number(now)));
        self.store.advance(now);
        let mut fell = false;
        for at in 0..self.learners.len() {
            fell |= self.learners[at].fall_behind(now);
            while !self.learners[at].is_behind && self.learners[at].missing(now) > 0 {
                self.learn(at);
            }
        }
        if fell {
            self.missed = self.missing();
            self.catch_up();
        }
    }

    fn learn(&mut self, at: usize) {
        self.learners[at].learn(&self.store, &self.places, &mut self.samples);
    }

    /// Learns the next portion of what was missed. As long as something [is missing](Self::is_behind), it is for the caller
    /// to see to it that there is a next time.
    pub fn catch_up(&mut self) {
        let mut left = PORTION;
        while let Some(at) = self.most_urgent() {
            let cost = self.places.len() * self.learners[at].effort();
            if cost > left && left < PORTION {
                return;
            }
            left = left.saturating_sub(cost);
            self.learn(at);
            self.learners[at].is_behind = self.learners[at].missing(self.now) > 0;
        }
    }

    /// Of the forecasters that are behind.
    fn most_urgent(&self) -> Option<usize> {
        let behind = self.learners.iter().enumerate().filter(|(_, learner)| learner.is_behind);
        behind.min_by_key(|(_, learner)| learner.forgotten()).map(|(at, _)| at)
    }

    pub fn is_behind(&self) -> bool {
        self.learners.iter().any(|learner| learner.is_behind)
    }

    /// Of what was missed, the share that has been learned by now, from 0 to 1; none: nothing is missing.
    pub fn caught_up(&self) -> Option<f32> {
        let share = 1.0 - self.missing() as f32 / self.missed.max(1) as f32;
        self.is_behind().then_some(share.max(0.0))
    }

    /// What forecasters that are behind have to learn, in steps of a bank.
    fn missing(&self) -> u64 {
        let behind = self.learners.iter().filter(|learner| learner.is_behind);
        behind.map(|learner| learner.missing(self.now) * learner.effort() as u64).sum()
    }

    /// What a quantity of a link will be after so long: of the mean over a second up to a minute ahead, over a minute up to
    /// an hour (a load: over five), over an hour beyond. Where the coarser one knows nothing yet, or is behind, the finer one is
    /// asked, whose band is wider. None: nothing was measured, or all of them are behind.
    pub fn outlook(&self, link: &LinkId, quantity: Quantity, horizon: Duration) -> Option<Outlook> {
        let slot = *self.places.get(link)?;
        let wanted = match horizon.as_secs() {
            ..=60 => Resolution::Seconds,
            61..=3_600 => Resolution::Minutes,
            3_601.. => Resolution::Hours,
        };
        let suited = |learner: &&Learner| {
            learner.quantity == quantity && learner.resolution <= wanted && !learner.is_behind
        };
        let mut coarser_first = self.learners.iter().rev().filter(suited);
        let outlook = coarser_first.find_map(|learner| learner.outlook(slot, horizon))?;
        let age = self.now.since(self.store.last(link)?);
        Some(Outlook { horizon, stale: outlook.stale.map(|stale| stale.max(age)), ..outlook })
    }

    /// Mbit/s that a link's load (means over five minutes) does not exceed within the next hour ([`LOAD_WITHIN`]), but for one
    /// time in a hundred. None: less than five minutes were measured, or they are not learned again yet.
    pub fn load_bound(&self, link: &LinkId) -> Option<f32> {
        let slot = *self.places.get(link)?;
        self.learners.iter().filter(|learner| !learner.is_behind).find_map(|learner| learner.bound(slot))
    }

    /// Of all forecasters of a link, without its name and its history ([`Store::most_bytes`]).
    pub fn bytes_per_link(&self) -> usize {
        self.learners.iter().map(Learner::bytes_per_link).sum::<usize>() + size_of::<Option<f32>>()
    }
}

fn put(samples: &mut Vec<Option<f32>>, slot: Slot, sample: Option<f32>) {
    if samples.len() <= slot.index() {
        samples.resize(slot.index() + 1, None);
    }
    samples[slot.index()] = sample;
}

/// What a bucket says of a quantity: of the worse direction.
fn value(bucket: &Bucket, quantity: Quantity) -> Option<f32> {
    match quantity {
        Quantity::Rtt => bucket.rtt.map(|rtt| rtt.mean),
        Quantity::Loss => bucket.loss.into_iter().flatten().reduce(f32::max),
        Quantity::Load => bucket.load.into_iter().flatten().map(|load| load.mean).reduce(f32::max),
    }
}

#[cfg(test)]
mod tests;
