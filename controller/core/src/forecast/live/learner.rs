//! One forecaster of a running fabric: which samples it learns, up to which step it has learned them, and whether it is behind.
use super::{MESH_STEP, Slot, put, value};
use crate::forecast::bank::{Bank, Spec};
use crate::forecast::mesh::{Config, Mesh};
use crate::forecast::outlook::{Outlook, Quantity};
use crate::telemetry::{Resolution, Store};
use proto_model::Timestamp;
use proto_model::topology::LinkId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps that are learned at once, all of them: whoever misses more of them is behind.
const FEW: u64 = 5;
/// After a longer pause only so many steps are made up for: all that was forecast before is over then.
const MOST: u64 = 180;
/// Minutes in a step of the mesh.
const MINUTES: u64 = MESH_STEP.as_secs() / Resolution::Minutes.step().as_secs();
/// From a Monday, midnight, to the epoch, which was a Thursday.
const FROM_MONDAY: Duration = Duration::from_secs(3 * 86_400);

#[derive(Clone, Debug)]
pub(super) struct Learner {
    pub(super) quantity: Quantity,
    pub(super) resolution: Resolution,
    kind: Kind,
    /// The first step that it has not learned.
    next: u64,
    /// It missed more than [`FEW`] steps and has not learned all of them yet: what it forecasts is of the past.
    pub(super) is_behind: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Bank(Box<Bank>),
    Mesh(Box<Mesh>),
}

impl Learner {
    /// Loads by the minute are the mesh's.
    pub(super) fn of(quantity: Quantity, resolution: Resolution) -> Self {
        let spec = match (quantity, resolution) {
            (_, Resolution::Seconds) => Some(Spec::seconds(quantity)),
            (Quantity::Load, Resolution::Minutes) => None,
            (_, Resolution::Minutes) => Some(Spec::minutes(quantity)),
            (_, Resolution::Hours) => Some(Spec::hours(quantity)),
        };
        let kind = match spec {
            Some(spec) => Kind::Bank(Box::new(Bank::new(spec))),
            None => Kind::Mesh(Box::new(Mesh::new(Config::default(), MESH_STEP))),
        };
        Self { quantity, resolution, kind, next: 0, is_behind: false }
    }

    pub(super) fn join(&mut self) -> Slot {
        match &mut self.kind {
            Kind::Bank(bank) => bank.join(),
            Kind::Mesh(mesh) => mesh.join(),
        }
    }

    pub(super) fn leave(&mut self, slot: Slot) {
        match &mut self.kind {
            Kind::Bank(bank) => bank.leave(slot),
            Kind::Mesh(mesh) => mesh.leave(slot),
        }
    }

    pub(super) fn bytes_per_link(&self) -> usize {
        match &self.kind {
            Kind::Bank(bank) => bank.bytes_per_link(),
            Kind::Mesh(mesh) => mesh.bytes_per_link(),
        }
    }

    /// What a step of a link takes, in those of a bank.
    pub(super) fn effort(&self) -> usize {
        match &self.kind {
            Kind::Bank(_) => 1,
            Kind::Mesh(_) => 3,
        }
    }

    /// Buckets of telemetry in a step.
    fn buckets(&self) -> u64 {
        match &self.kind {
            Kind::Bank(_) => 1,
            Kind::Mesh(_) => MINUTES,
        }
    }

    /// The step that a time is in.
    fn number(&self, at: Timestamp) -> u64 {
        self.resolution.number(at) / self.buckets()
    }

    /// Begins with what is measured from now on.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.next = self.number(now);
    }

    /// Begins with what telemetry still has, but for the oldest bucket: that may be over before its turn comes.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        let oldest = self.resolution.number(now).saturating_sub(self.resolution.kept() as u64 - 2);
        self.next = oldest.div_ceil(self.buckets());
    }

    /// Takes note of the time; whether it fell behind by that.
    pub(super) fn fall_behind(&mut self, now: Timestamp) -> bool {
        self.next = self.next.max(self.number(now).saturating_sub(MOST));
        let falls = !self.is_behind && self.missing(now) > FEW;
        self.is_behind |= falls;
        falls
    }

    /// Steps that have ended and are not learned yet.
    pub(super) fn missing(&self, now: Timestamp) -> u64 {
        self.number(now).saturating_sub(self.next)
    }

    /// When telemetry forgets the next step.
    pub(super) fn forgotten(&self) -> Timestamp {
        self.resolution.start(self.next * self.buckets() + self.resolution.kept() as u64)
    }

    /// Learns the next step.
    pub(super) fn learn(
        &mut self,
        store: &Store<LinkId>,
        places: &BTreeMap<LinkId, Slot>,
        samples: &mut Vec<Option<f32>>,
    ) {
        samples.clear();
        let number = self.next;
        self.next += 1;
        match &mut self.kind {
            Kind::Bank(bank) => {
                // Both are in the order of the links.
                let mut buckets = store.all_closed(self.resolution, number).peekable();
                for (link, slot) in places {
                    while buckets.next_if(|(of, _)| *of < link).is_some() {}
                    let bucket = buckets.next_if(|(of, _)| *of == link).and_then(|(_, bucket)| bucket);
                    put(samples, *slot, bucket.and_then(|bucket| value(&bucket, self.quantity)));
                }
                bank.set_clock(number + FROM_MONDAY.as_secs() / self.resolution.step().as_secs());
                bank.step(samples);
            }
            Kind::Mesh(mesh) => {
                places.iter().for_each(|(link, slot)| put(samples, *slot, mean_load(store, link, number)));
                mesh.set_clock(number + FROM_MONDAY.as_secs() / MESH_STEP.as_secs());
                mesh.step(samples);
            }
        }
    }

    /// None: nothing was measured.
    pub(super) fn outlook(&self, slot: Slot, horizon: Duration) -> Option<Outlook> {
        match &self.kind {
            Kind::Bank(bank) => {
                bank.outlook(slot, horizon.as_secs_f32() / self.resolution.step().as_secs_f32())
            }
            Kind::Mesh(mesh) => mesh.outlook(slot, horizon.as_secs_f32() / MESH_STEP.as_secs_f32()),
        }
    }

    pub(super) fn bound(&self, slot: Slot) -> Option<f32> {
        match &self.kind {
            Kind::Bank(_) => None,
            Kind::Mesh(mesh) => mesh.bound(slot),
        }
    }
}

/// A step of the mesh is the mean of its minutes.
fn mean_load(store: &Store<LinkId>, link: &LinkId, number: u64) -> Option<f32> {
    let minutes = (number * MINUTES..(number + 1) * MINUTES)
        .filter_map(|minute| store.closed(link, Resolution::Minutes, minute))
        .filter_map(|bucket| value(&bucket, Quantity::Load));
    let (sum, count) = minutes.fold((0.0, 0.0), |(sum, count), load| (sum + load, count + 1.0));
    (count > 0.0).then(|| sum / count)
}
