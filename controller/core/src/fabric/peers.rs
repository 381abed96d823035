//! Has the two hosts of each link measure it.
use super::Fabric;
use crate::path_id;
use crate::topology::{Family, Link};
use proto_model::NodeName;
use proto_model::desired::{Object, ObjectKey, Peer};
use proto_model::topology::LinkId;
use std::collections::BTreeSet;

impl Fabric {
    /// Follows the links that changed in this step. Contact does not matter: a host is measured while the controller
    /// does not hear it, and nothing changes for its neighbours when it comes back.
    pub(super) fn refresh_peers(&mut self) {
        let changed = self.topology.take_changed();
        if !self.silences.is_empty() {
            let now = self.topology.now();
            changed.iter().for_each(|link| self.listen_anew(link, now));
        }
        let (mut wanted, gone): (BTreeSet<_>, BTreeSet<_>) =
            changed.into_iter().partition(|id| self.peers_of(id).is_some());
        // First, because that makes room.
        for id in &gone {
            for end in [id.ends().0, id.ends().1] {
                wanted.extend(self.stop_measuring(end, id));
            }
        }
        for id in wanted {
            self.measure_if_there_is_room(&id);
        }
    }

    fn peers_of(&self, id: &LinkId) -> Option<[Peer; 2]> {
        pair(self.topology.link(id)?)
    }

    fn measure_if_there_is_room(&mut self, id: &LinkId) {
        let Some([at_a, at_b]) = self.peers_of(id) else { return };
        let ends = [id.ends().0, id.ends().1];
        let full = ends.map(|end| !self.may_measure(end, id));
        for (end, full) in ends.into_iter().zip(full) {
            if let Some(at) = self.nodes.get_mut(end) {
                if full {
                    at.unmeasured.insert(id.clone())
                } else {
                    at.unmeasured.remove(id)
                };
            }
        }
        if full == [false, false] {
            self.measure_from(ends[0], at_a);
            self.measure_from(ends[1], at_b);
        }
    }

    fn may_measure(&self, node: &NodeName, id: &LinkId) -> bool {
        let key = ObjectKey::Peer(id.clone());
        let limit = self.settings.limits.peers;
        self.nodes.get(node).is_some_and(|at| at.peers < limit || at.desire.get(&key).is_some())
    }

    fn measure_from(&mut self, node: &NodeName, peer: Peer) {
        let object = Object::Peer(peer);
        if let Some(at) = self.nodes.get_mut(node) {
            at.peers += usize::from(at.desire.get(&object.key()).is_none());
        }
        self.desire(node, object);
    }

    /// Returns links that were left out, when there is room for one again.
    fn stop_measuring(&mut self, node: &NodeName, id: &LinkId) -> BTreeSet<LinkId> {
        let key = ObjectKey::Peer(id.clone());
        let Some(at) = self.nodes.get_mut(node) else { return BTreeSet::new() };
        at.unmeasured.remove(id);
        if at.desire.get(&key).is_none() {
            return BTreeSet::new();
        }
        at.peers = at.peers.saturating_sub(1);
        let waiting = std::mem::take(&mut at.unmeasured);
        self.undesire(node, &key);
        waiting
    }
}

/// IPv4 where both ends have it, as for circuits. None: it is not to be measured.
fn pair(link: &Link) -> Option<[Peer; 2]> {
    if link.values.disabled {
        return None;
    }
    let (a, b) = link.id.ends();
    let family = if link.has(Family::V4) { Family::V4 } else { Family::V6 };
    let session = path_id::session(&link.id);
    let peer = |node| {
        let (local, remote) = link.addresses(node, family)?;
        Some(Peer { link: link.id.clone(), local, remote, session, capacity: link.capacity() })
    };
    Some([peer(a)?, peer(b)?])
}
