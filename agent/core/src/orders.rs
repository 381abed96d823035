//! What the protector has to probe: each path as some of the circuits on it, and each neighbour.
use crate::groups::End;
use crate::protect::limits::VOICES;
use crate::protect::{Order, Session};
use proto_model::PathId;
use proto_model::desired::Peer;
use proto_model::topology::LinkId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

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
    /// By the resource at the far end.
    ends: BTreeMap<IpAddr, BTreeMap<End, Session>>,
    /// As whom it is probed; each stays as long as it is there, unless it can make room for another resource.
    told: Vec<Offer>,
}

type Offer = (IpAddr, End, Session);

impl Probed {
    fn has(&self, (far, end, session): &Offer) -> bool {
        self.ends.get(far).is_some_and(|ends| ends.get(end) == Some(session))
    }

    /// Ends of different resources first, and those first that were chosen before.
    fn chosen(&self) -> Vec<Offer> {
        let mut chosen: Vec<Offer> = Vec::with_capacity(VOICES);
        let known = |chosen: &[Offer], far: &IpAddr| chosen.iter().any(|(of, ..)| of == far);
        let kept = || self.told.iter().filter(|offer| self.has(offer)).copied();
        for offer in kept() {
            if !known(&chosen, &offer.0) {
                chosen.push(offer);
            }
        }
        let firsts = self.ends.iter().filter_map(|(far, ends)| {
            let (end, session) = ends.first_key_value()?;
            Some((*far, *end, *session))
        });
        for offer in firsts.take(2 * VOICES) {
            if chosen.len() < VOICES && !known(&chosen, &offer.0) {
                chosen.push(offer);
            }
        }
        let all = self.ends.iter().flat_map(|(far, ends)| ends.iter().map(|(end, s)| (*far, *end, *s)));
        for offer in kept().chain(all.take(2 * VOICES)) {
            if chosen.len() < VOICES && !chosen.contains(&offer) {
                chosen.push(offer);
            }
        }
        chosen
    }
}

#[derive(Debug, Default)]
struct Told {
    want: Option<Peer>,
    told: Option<Peer>,
}

impl Orders {
    /// The path can be probed as this end, whose gate is open. `far`: the resource that it leads to.
    pub(crate) fn offer(&mut self, path: PathId, far: IpAddr, end: End, session: Session) {
        self.paths.entry(path).or_default().ends.entry(far).or_default().insert(end, session);
        self.touched.insert(path);
    }

    pub(crate) fn withdraw(&mut self, path: PathId, far: IpAddr, end: End) {
        let Some(probed) = self.paths.get_mut(&path) else { return };
        let Some(ends) = probed.ends.get_mut(&far) else { return };
        if ends.remove(&end).is_some() {
            self.touched.insert(path);
        }
        if ends.is_empty() {
            probed.ends.remove(&far);
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
        let chosen = probed.chosen();
        let was = std::mem::replace(&mut probed.told, chosen.clone());
        if chosen.is_empty() {
            self.paths.remove(&path);
            return (!was.is_empty()).then_some(Order::Forget(path));
        }
        let sessions = chosen.iter().map(|(.., session)| *session).collect();
        (was != chosen).then_some(Order::Measure(path, sessions))
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
        let ip = IpAddr::from([192, 0, 2, 1]);
        Session { local: ip, remote: ip, label, receive: label + 1 }
    }

    fn far(resource: u8) -> IpAddr {
        IpAddr::from([100, 64, 0, resource])
    }

    fn measure(labels: &[u32]) -> [Order; 1] {
        [Order::Measure(PATH, labels.iter().copied().map(session).collect())]
    }

    #[test]
    fn a_path_is_probed_as_an_end_until_that_end_goes() {
        let mut orders = Orders::default();
        orders.offer(PATH, far(2), end(2), session(20));
        assert_eq!(orders.take(), measure(&[20]));
        orders.offer(PATH, far(1), end(1), session(10));
        orders.withdraw(PATH, far(2), end(2));
        orders.offer(PATH, far(2), end(2), session(20));
        assert_eq!(orders.take(), measure(&[20, 10]), "it went and came back at once");
        orders.withdraw(PATH, far(2), end(2));
        assert_eq!(orders.take(), measure(&[10]));
        orders.withdraw(PATH, far(1), end(1));
        assert_eq!(orders.take(), [Order::Forget(PATH)]);
        assert_eq!(orders.take(), []);
    }

    #[test]
    fn a_path_is_probed_as_three_ends_of_different_resources_if_there_are_so_many() {
        let mut orders = Orders::default();
        for n in 1..=1_000 {
            orders.offer(PATH, far(1), end(n), session(u32::try_from(n).expect("small")));
        }
        assert_eq!(orders.take(), measure(&[1, 2, 3]));
        orders.offer(PATH, far(2), end(2_000), session(2_000));
        assert_eq!(orders.take(), measure(&[1, 2_000, 2]));
        orders.offer(PATH, far(3), end(3_000), session(3_000));
        orders.offer(PATH, far(4), end(4_000), session(4_000));
        assert_eq!(orders.take(), measure(&[1, 2_000, 3_000]));
        (5..100).for_each(|n| orders.offer(PATH, far(n), end(5_000 + u64::from(n)), session(9_000)));
        assert_eq!(orders.take(), [], "nothing better");
        orders.withdraw(PATH, far(1), end(1));
        assert_eq!(orders.take(), measure(&[2_000, 3_000, 2]));
    }

    #[test]
    fn a_neighbour_is_told_when_it_changes() {
        let (a, b, n) = ("a".parse(), "b".parse(), "n".parse());
        let link = LinkId::new(a.expect("a name"), b.expect("a name"), n.expect("a name")).expect("two ends");
        let ip = IpAddr::from([192, 0, 2, 1]);
        let peer = |session| Peer { link: link.clone(), local: ip, remote: ip, session, capacity: None };
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
