//! What some links will have free when circuits have ended.
use super::Topology;
use super::shared::Shared;
use proto_model::Bandwidth;
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use std::collections::{BTreeMap, BTreeSet};

/// These links alone, later.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// Capacity, and what is reserved for paths.
    links: BTreeMap<LinkId, (Bandwidth, Bandwidth)>,
    shared: Shared,
}

impl Topology {
    /// As it is now; a link of unknown capacity is left out.
    pub fn ahead(&self, links: &BTreeSet<&LinkId>) -> Ahead {
        let known = |id: &&LinkId| {
            let link = self.link(id)?;
            Some(((*id).clone(), (link.capacity()?, link.reserved)))
        };
        Ahead { links: links.iter().filter_map(known).collect(), shared: self.shared.only(links) }
    }
}

impl Ahead {
    /// A circuit has ended. True: one of the links has more free.
    pub fn release(&mut self, path: &Path, backup: Option<&Path>, bandwidth: Bandwidth) -> bool {
        let mut freed = false;
        for link in &path.links {
            if let Some((_, reserved)) = self.links.get_mut(link) {
                *reserved = reserved.saturating_sub(bandwidth);
                freed = true;
            }
        }
        let moved = backup.map(|backup| self.shared.subtract(path, backup, bandwidth));
        freed || moved.is_some_and(|moved| !moved.is_empty())
    }

    /// Whether all links of a path have so much free.
    pub fn fits(&self, path: &Path, need: Bandwidth) -> bool {
        let free = |link| {
            let (capacity, reserved) = self.links.get(link)?;
            Some(capacity.saturating_sub(reserved.saturating_add(self.shared.of(link))))
        };
        path.links.iter().all(|link| free(link).is_some_and(|free| free >= need))
    }
}
