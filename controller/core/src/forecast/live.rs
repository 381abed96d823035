//! Forecasts of the links of a running fabric: steps each forecaster when its time has come, and picks the one to ask.
use super::bank::{Bank, Spec};
use super::mesh::{Config, FAR, Mesh};
use super::outlook::{Outlook, Quantity};
use super::slots::Slot;
use crate::telemetry::{Bucket, Resolution, Sample, Store};
use proto_model::Timestamp;
use proto_model::topology::LinkId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A step of the mesh, for which its constants were chosen: its 12 steps are an hour.
const MESH_STEP: Duration = Duration::from_secs(300);
const MINUTES: u64 = 5;
/// After a longer pause only so many steps are made up for: all that was forecast before is over then.
const MOST: u64 = 180;
/// From a Monday, midnight, to the epoch, which was a Thursday.
const FROM_MONDAY: Duration = Duration::from_secs(3 * 86_400);

/// How far ahead [`Forecasts::load_bound`] holds.
pub const LOAD_WITHIN: Duration = Duration::from_secs(MESH_STEP.as_secs() * FAR as u64);

/// All forecasts of all links. A link has one round-trip time, and the loss and load of its worse direction.
#[derive(Clone, Debug)]
pub struct Forecasts {
    store: Store<LinkId>,
    now: Timestamp,
    /// By quantity, then resolution; what the mesh forecasts has no bank.
    banks: Vec<(Quantity, Resolution, Bank)>,
    mesh: Mesh,
    /// The next bucket to learn of each resolution; the next step of the mesh. None: nothing was seen yet.
    next: Option<([u64; 3], u64)>,
    /// All forecasters have a link in the same place, and the store has its history.
    places: BTreeMap<LinkId, Slot>,
    samples: Vec<Option<f32>>,
}

impl Default for Forecasts {
    fn default() -> Self {
        let bank = |quantity, resolution, spec: fn(Quantity) -> Spec| {
            (quantity, resolution, Bank::new(spec(quantity)))
        };
        let mut banks = Vec::new();
        for quantity in [Quantity::Rtt, Quantity::Loss, Quantity::Load] {
            banks.push(bank(quantity, Resolution::Seconds, Spec::seconds));
            if quantity != Quantity::Load {
                banks.push(bank(quantity, Resolution::Minutes, Spec::minutes));
            }
            banks.push(bank(quantity, Resolution::Hours, Spec::hours));
        }
        Self {
            store: Store::default(),
            now: Timestamp::default(),
            banks,
            mesh: Mesh::new(Config::default(), MESH_STEP),
            next: None,
            places: BTreeMap::new(),
            samples: Vec::new(),
        }
    }
}

impl Forecasts {
    /// Learns again from what telemetry kept over a restart.
    pub fn restore(store: Store<LinkId>, now: Timestamp) -> Self {
        let mut forecasts = Self { store, ..Self::default() };
        let links: Vec<LinkId> = forecasts.store.keys().cloned().collect();
        links.iter().for_each(|link| forecasts.join(link));
        let kept = Resolution::ALL.map(|r| r.number(now).saturating_sub(r.kept() as u64 - 1));
        forecasts.next = Some((kept, kept[1].div_ceil(MINUTES)));
        forecasts.advance(now);
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
        let slot = self.mesh.join();
        for (_, _, bank) in &mut self.banks {
            let same = bank.join();
            debug_assert_eq!(same, slot, "forecasters gain and lose links together");
        }
        self.places.insert(link.clone(), slot);
    }

    pub fn forget(&mut self, link: &LinkId) {
        self.store.forget(link);
        let Some(slot) = self.places.remove(link) else { return };
        self.mesh.leave(slot);
        self.banks.iter_mut().for_each(|(_, _, bank)| bank.leave(slot));
    }

    /// Learns all buckets that have ended. A clock that goes back stands still.
    pub fn advance(&mut self, now: Timestamp) {
        if now <= self.now && self.next.is_some() {
            return;
        }
        self.now = self.now.max(now);
        let numbers = Resolution::ALL.map(|resolution| resolution.number(now));
        let (mut next, mut mesh) = self.next.unwrap_or((numbers, numbers[1] / MINUTES));
        if next == numbers && mesh == numbers[1] / MINUTES {
            self.next = Some((next, mesh));
            return;
        }
        self.store.advance(now);
        for resolution in Resolution::ALL {
            let (from, to) = (&mut next[resolution as usize], numbers[resolution as usize]);
            for number in (*from).max(to.saturating_sub(MOST))..to {
                self.learn(resolution, number);
            }
            *from = to;
        }
        let to = numbers[1] / MINUTES;
        for number in mesh.max(to.saturating_sub(MOST))..to {
            self.learn_mesh(number);
        }
        mesh = to;
        self.next = Some((next, mesh));
    }

    fn learn(&mut self, resolution: Resolution, number: u64) {
        for (quantity, of, bank) in self.banks.iter_mut().filter(|(_, of, _)| *of == resolution) {
            self.samples.clear();
            // Both are in the order of the links.
            let mut buckets = self.store.all_closed(*of, number).peekable();
            for (link, slot) in &self.places {
                while buckets.next_if(|(of, _)| *of < link).is_some() {}
                let bucket = buckets.next_if(|(of, _)| *of == link).and_then(|(_, bucket)| bucket);
                put(&mut self.samples, *slot, bucket.and_then(|bucket| value(&bucket, *quantity)));
            }
            bank.set_clock(number + FROM_MONDAY.as_secs() / of.step().as_secs());
            bank.step(&self.samples);
        }
    }

    /// A step of the mesh is the mean of its minutes.
    fn learn_mesh(&mut self, number: u64) {
        self.samples.clear();
        for (link, slot) in &self.places {
            let minutes = (number * MINUTES..(number + 1) * MINUTES)
                .filter_map(|minute| self.store.closed(link, Resolution::Minutes, minute))
                .filter_map(|bucket| value(&bucket, Quantity::Load));
            let (sum, count) = minutes.fold((0.0, 0.0), |(sum, count), load| (sum + load, count + 1.0));
            put(&mut self.samples, *slot, (count > 0.0).then(|| sum / count));
        }
        self.mesh.set_clock(number + FROM_MONDAY.as_secs() / MESH_STEP.as_secs());
        self.mesh.step(&self.samples);
    }

    /// What a quantity of a link will be after so long: of the mean over a second up to a minute ahead, over a minute up to
    /// an hour (a load: over five), over an hour beyond. Where the coarser one knows nothing yet the finer one is asked, whose
    /// band is wider. None: nothing was measured.
    pub fn outlook(&self, link: &LinkId, quantity: Quantity, horizon: Duration) -> Option<Outlook> {
        let slot = *self.places.get(link)?;
        let wanted = match horizon.as_secs() {
            ..=60 => Resolution::Seconds,
            61..=3_600 => Resolution::Minutes,
            3_601.. => Resolution::Hours,
        };
        let finer = Resolution::ALL.into_iter().rev().skip_while(|resolution| *resolution > wanted);
        let outlook =
            finer.into_iter().find_map(|resolution| self.ask(slot, quantity, resolution, horizon))?;
        let age = self.now.since(self.store.last(link)?);
        Some(Outlook { horizon, stale: outlook.stale.map(|stale| stale.max(age)), ..outlook })
    }

    fn ask(
        &self,
        slot: Slot,
        quantity: Quantity,
        resolution: Resolution,
        horizon: Duration,
    ) -> Option<Outlook> {
        if (quantity, resolution) == (Quantity::Load, Resolution::Minutes) {
            return self.mesh.outlook(slot, horizon.as_secs_f32() / MESH_STEP.as_secs_f32());
        }
        let (_, _, bank) = self.banks.iter().find(|(of, at, _)| (*of, *at) == (quantity, resolution))?;
        bank.outlook(slot, horizon.as_secs_f32() / resolution.step().as_secs_f32())
    }

    /// Mbit/s that a link's load (means over five minutes) does not exceed within the next hour ([`LOAD_WITHIN`]), but for one
    /// time in a hundred. None: less than five minutes were measured.
    pub fn load_bound(&self, link: &LinkId) -> Option<f32> {
        self.mesh.bound(*self.places.get(link)?)
    }

    /// Of all forecasters of a link, without its name and its history ([`Store::most_bytes`]).
    pub fn bytes_per_link(&self) -> usize {
        let banks: usize = self.banks.iter().map(|(_, _, bank)| bank.bytes_per_link()).sum();
        banks + self.mesh.bytes_per_link() + size_of::<Option<f32>>()
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
