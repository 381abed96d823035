//! What some links will have free when circuits have started and ended.
use super::Topology;
use super::shared::Shared;
use super::spot::{Spot, multiply, spots};
use proto_model::Bandwidth;
use proto_model::circuit::Path;
use std::collections::{BTreeMap, BTreeSet};

/// These links and interfaces alone, later.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// What can be reserved beside what is left to others now, and what is reserved for paths.
    spots: BTreeMap<Spot, (Bandwidth, Bandwidth)>,
    shared: Shared,
}

impl Topology {
    /// As it is now, where these paths go; what can be reserved must be known.
    pub fn ahead(&self, paths: &[&Path]) -> Ahead {
        let all: BTreeSet<Spot> = paths.iter().flat_map(|path| spots(path).into_keys()).collect();
        let known = |spot: &Spot| {
            let most = self.most(spot)?.saturating_sub(self.left(spot));
            Some((spot.clone(), (most, self.reserved(spot))))
        };
        Ahead { spots: all.iter().filter_map(known).collect(), shared: self.shared.only(&all) }
    }
}

impl Ahead {
    /// A circuit has ended. True: there is more free somewhere.
    pub fn release(&mut self, path: &Path, backup: Option<&Path>, bandwidth: Bandwidth) -> bool {
        let mut freed = false;
        for (spot, times) in spots(path) {
            if let Some((_, reserved)) = self.spots.get_mut(&spot) {
                *reserved = reserved.saturating_sub(multiply(bandwidth, times));
                freed = true;
            }
        }
        let moved = backup.map(|backup| self.shared.subtract(path, backup, bandwidth));
        freed || moved.is_some_and(|moved| !moved.is_empty())
    }

    /// A circuit has started. True: there is less free somewhere.
    pub fn reserve(&mut self, path: &Path, bandwidth: Bandwidth) -> bool {
        let mut taken = false;
        for (spot, times) in spots(path) {
            if let Some((_, reserved)) = self.spots.get_mut(&spot) {
                *reserved = reserved.saturating_add(multiply(bandwidth, times));
                taken = true;
            }
        }
        taken
    }

    /// Whether all of a path has so much free.
    pub fn fits(&self, path: &Path, need: Bandwidth) -> bool {
        spots(path).into_iter().all(|(spot, times)| match (self.spots.get(&spot), &spot) {
            (Some((most, reserved)), _) => {
                let taken = reserved.saturating_add(self.shared.of(&spot));
                most.saturating_sub(taken) >= multiply(need, times)
            }
            (None, Spot::Link(_)) => false,
            (None, Spot::Port(..)) => true,
        })
    }
}
