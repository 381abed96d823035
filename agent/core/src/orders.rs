//! What the protector has to probe: each path as one of the circuits on it, and each neighbour.
use crate::groups::End;
use crate::protect::{Order, Session};
use proto_model::PathId;
use proto_model::desired::Peer;
use proto_model::topology::LinkId;
use std::collections::{BTreeMap, BTreeSet};

/// Paths with the circuit ends that could be probed as, and neighbours. Only differences are told.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    paths: BTreeMap<PathId, Probed>,
    touched: BTreeSet<PathId>,
    peers: BTreeMap<LinkId, Told>,
    touched_peers: BTreeSet<LinkId>,
}

#[derive(Debug, Default)]
struct Probed {
    ends: BTreeMap<End, Session>,
    /// As whom it is probed; stays as long as that end is there.
    told: Option<(End, Session)>,
}

#[derive(Debug, Default)]
struct Told {
    want: Option<Peer>,
    told: Option<Peer>,
}

impl Orders {
    /// The path can be probed as this end, whose gate is open.
    pub(crate) fn offer(&mut self, path: PathId, end: End, session: Session) {
        self.paths.entry(path).or_default().ends.insert(end, session);
        self.touched.insert(path);
    }

    pub(crate) fn withdraw(&mut self, path: PathId, end: End) {
        if self.paths.get_mut(&path).is_some_and(|probed| probed.ends.remove(&end).is_some()) {
            self.touched.insert(path);
        }
    }

    pub(crate) fn add_peer(&mut self, peer: Peer) {
        let link = peer.link.clone();
        self.touched_peers.insert(link.clone());
        self.peers.entry(link).or_default().want = Some(peer);
    }

    pub(crate) fn remove_peer(&mut self, link: &LinkId) {
        if let Some(told) = self.peers.get_mut(link) {
            told.want = None;
            self.touched_peers.insert(link.clone());
        }
    }

    /// What changed since this was last asked.
    pub(crate) fn take(&mut self) -> Vec<Order> {
        let paths = std::mem::take(&mut self.touched);
        let peers = std::mem::take(&mut self.touched_peers);
        let paths: Vec<Order> = paths.into_iter().filter_map(|path| self.path(path)).collect();
        paths.into_iter().chain(peers.into_iter().filter_map(|link| self.peer(link))).collect()
    }

    fn path(&mut self, path: PathId) -> Option<Order> {
        let probed = self.paths.get_mut(&path)?;
        let stays = |(end, session): &(End, Session)| probed.ends.get(end) == Some(session);
        if probed.told.as_ref().is_some_and(stays) {
            return None;
        }
        let Some((end, session)) = probed.ends.first_key_value().map(|(end, session)| (*end, *session))
        else {
            let was = probed.told.is_some();
            self.paths.remove(&path);
            return was.then_some(Order::Forget(path));
        };
        probed.told = Some((end, session));
        Some(Order::Measure(path, session))
    }

    fn peer(&mut self, link: LinkId) -> Option<Order> {
        let peer = self.peers.get_mut(&link)?;
        if peer.want == peer.told {
            if peer.want.is_none() {
                self.peers.remove(&link);
            }
            return None;
        }
        peer.told.clone_from(&peer.want);
        match &peer.want {
            Some(peer) => Some(Order::Peer(peer.clone())),
            None => {
                self.peers.remove(&link);
                Some(Order::Unpeer(link))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::CircuitId;
    use proto_model::desired::Side;

    const PATH: PathId = PathId(1);

    fn end(circuit: u64) -> End {
        (CircuitId(circuit), Side::Source)
    }

    fn session(label: u32) -> Session {
        let ip = std::net::IpAddr::from([192, 0, 2, 1]);
        Session { local: ip, remote: ip, label, receive: label + 1 }
    }

    #[test]
    fn a_path_is_probed_as_one_end_until_that_end_goes() {
        let mut orders = Orders::default();
        orders.offer(PATH, end(2), session(20));
        assert_eq!(orders.take(), [Order::Measure(PATH, session(20))]);
        orders.offer(PATH, end(1), session(10));
        orders.withdraw(PATH, end(2));
        orders.offer(PATH, end(2), session(20));
        assert_eq!(orders.take(), [], "it went and came back at once");
        orders.withdraw(PATH, end(2));
        assert_eq!(orders.take(), [Order::Measure(PATH, session(10))]);
        orders.withdraw(PATH, end(1));
        assert_eq!(orders.take(), [Order::Forget(PATH)]);
        assert_eq!(orders.take(), []);
    }

    #[test]
    fn a_neighbour_is_told_when_it_changes() {
        let (a, b, n) = ("a".parse(), "b".parse(), "n".parse());
        let link = LinkId::new(a.expect("a name"), b.expect("a name"), n.expect("a name")).expect("two ends");
        let ip = std::net::IpAddr::from([192, 0, 2, 1]);
        let peer = |session| Peer { link: link.clone(), local: ip, remote: ip, session };
        let mut orders = Orders::default();
        orders.add_peer(peer(1));
        assert_eq!(orders.take(), [Order::Peer(peer(1))]);
        orders.remove_peer(&link);
        orders.add_peer(peer(1));
        assert_eq!(orders.take(), []);
        orders.add_peer(peer(2));
        assert_eq!(orders.take(), [Order::Peer(peer(2))]);
        orders.remove_peer(&link);
        assert_eq!(orders.take(), [Order::Unpeer(link.clone())]);
        orders.add_peer(peer(3));
        orders.remove_peer(&link);
        assert_eq!(orders.take(), []);
    }
}
