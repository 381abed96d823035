//! Has the two hosts of each link measure it.
use super::Fabric;
use crate::path_id;
use crate::topology::{Family, Link};
use proto_model::NodeName;
use proto_model::desired::{Object, ObjectKey, Peer};
use proto_model::topology::LinkId;

impl Fabric {
    /// Follows the links that changed in this step. Contact does not matter: a host is measured while the controller
    /// does not hear it, and nothing changes for its neighbours when it comes back.
    pub(super) fn refresh_peers(&mut self) {
        for id in self.topology.take_changed() {
            let (a, b) = id.ends();
            let wanted = self.topology.link(&id).and_then(|link| pair(link, a, b));
            let (a, b) = (a.clone(), b.clone());
            match wanted.filter(|_| self.may_measure(&a, &id) && self.may_measure(&b, &id)) {
                Some([at_a, at_b]) => {
                    self.measure_from(&a, at_a);
                    self.measure_from(&b, at_b);
                }
                None => {
                    self.stop_measuring(&a, &id);
                    self.stop_measuring(&b, &id);
                }
            }
        }
    }

    fn may_measure(&self, node: &NodeName, link: &LinkId) -> bool {
        let key = ObjectKey::Peer(link.clone());
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

    fn stop_measuring(&mut self, node: &NodeName, link: &LinkId) {
        let key = ObjectKey::Peer(link.clone());
        let Some(at) = self.nodes.get_mut(node).filter(|at| at.desire.get(&key).is_some()) else { return };
        at.peers = at.peers.saturating_sub(1);
        self.undesire(node, &key);
    }
}

/// IPv4 where both ends have it, as for circuits. None: it is not to be measured.
fn pair(link: &Link, a: &NodeName, b: &NodeName) -> Option<[Peer; 2]> {
    if link.values.disabled {
        return None;
    }
    let family = if link.has(Family::V4) { Family::V4 } else { Family::V6 };
    let session = path_id::session(&link.id);
    let peer = |node| {
        let (local, remote) = link.addresses(node, family)?;
        Some(Peer { link: link.id.clone(), local, remote, session })
    };
    Some([peer(a)?, peer(b)?])
}
