//! Knows what each single failure would bring to each link and interface, so that backups against different failures share what is
//! reserved for them.
//!
//! One link or one transit host fails at a time; then every circuit whose path crosses it moves to its backup. A link
//! keeps free what the worst such failure would bring (shared backup path protection; Ramamurthy, Mukherjee, "Survivable
//! WDM Mesh Networks", 1999).
use super::spot::{Spot, multiply, spots, times};
use super::{Need, Topology};
use crate::route::paths::inner;
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, NodeName};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Host(NodeName),
    Link(LinkId),
}

impl Failure {
    /// Whether it moves a circuit from `path` to `backup`.
    pub fn moves(&self, path: &Path, backup: &Path) -> bool {
        match self {
            Self::Host(host) => inner(path).contains(host) && !backup.nodes.contains(host),
            Self::Link(link) => path.links.contains(link) && !backup.links.contains(link),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    spots: BTreeMap<Spot, Load>,
}

/// Of one link or interface.
#[derive(Clone, Debug, Default)]
struct Load {
    by_failure: BTreeMap<Failure, Bandwidth>,
    /// The largest of them.
    most: Bandwidth,
}

impl Shared {
    pub(super) fn of(&self, spot: &Spot) -> Bandwidth {
        self.spots.get(spot).map_or(Bandwidth::ZERO, |load| load.most)
    }

    /// What is known of these.
    pub(super) fn only(&self, spots: &BTreeSet<Spot>) -> Self {
        let known = |spot: &Spot| Some((spot.clone(), self.spots.get(spot)?.clone()));
        Self { spots: spots.iter().filter_map(known).collect() }
    }

    pub(super) fn moved(&self, spot: &Spot, failure: &Failure) -> Bandwidth {
        let load = self.spots.get(spot);
        load.and_then(|load| load.by_failure.get(failure)).copied().unwrap_or_default()
    }

    /// Failures that would bring more than `room` there, the worst first, with how much.
    pub(super) fn above(&self, spot: &Spot, room: Bandwidth) -> Vec<(Failure, Bandwidth)> {
        let Some(load) = self.spots.get(spot).filter(|load| load.most > room) else { return Vec::new() };
        let over = load.by_failure.iter().filter(|(_, sum)| **sum > room);
        let mut over: Vec<_> =
            over.map(|(failure, sum)| (failure.clone(), sum.saturating_sub(room))).collect();
        over.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
        over
    }

    /// Returns the places where another sum is reserved now.
    pub(super) fn add(&mut self, path: &Path, backup: &Path, need: Bandwidth) -> Vec<Spot> {
        let mut changed = Vec::new();
        for (spot, more) in moved_to(path, backup, need) {
            let load = self.spots.entry(spot.clone()).or_default();
            let before = load.most;
            for failure in failures(path, Some(backup)) {
                let sum = load.by_failure.entry(failure).or_default();
                *sum = sum.saturating_add(more);
                load.most = load.most.max(*sum);
            }
            if load.most != before {
                changed.push(spot);
            }
        }
        changed
    }

    /// Takes back what [`Self::add`] with the same words has added.
    pub(super) fn subtract(&mut self, path: &Path, backup: &Path, need: Bandwidth) -> Vec<Spot> {
        let mut changed = Vec::new();
        for (spot, less) in moved_to(path, backup, need) {
            let Some(load) = self.spots.get_mut(&spot) else { continue };
            let before = load.most;
            for failure in failures(path, Some(backup)) {
                let Some(sum) = load.by_failure.get_mut(&failure) else { continue };
                *sum = sum.saturating_sub(less);
                if sum.is_zero() {
                    load.by_failure.remove(&failure);
                }
            }
            load.most = load.by_failure.values().copied().max().unwrap_or_default();
            let now = load.most;
            if load.by_failure.is_empty() {
                self.spots.remove(&spot);
            }
            if now != before {
                changed.push(spot);
            }
        }
        changed
    }

    /// By how much the reservation there rises when these failures bring `more`, or, when that is more than the `room` that
    /// paths leave already, how much more than it would be brought there.
    fn need(
        &self,
        spot: &Spot,
        failures: impl Iterator<Item = Failure>,
        more: Bandwidth,
        room: Option<Bandwidth>,
    ) -> Bandwidth {
        // The circuit's own reservation for its path is good for its backup, too.
        if more.is_zero() {
            return Bandwidth::ZERO;
        }
        let Some(worst) = failures.map(|failure| self.moved(spot, &failure)).max() else {
            return Bandwidth::ZERO;
        };
        let most = self.of(spot);
        worst.saturating_add(more).saturating_sub(room.map_or(most, |room| most.min(room)))
    }
}

impl Topology {
    /// Reserves for a circuit that moves from `path` to `backup` when the former breaks.
    pub fn reserve_backup(&mut self, path: &Path, backup: &Path, bandwidth: Bandwidth) {
        let changed = self.shared.add(path, backup, bandwidth);
        changed.iter().for_each(|spot| self.show(spot));
    }

    pub fn release_backup(&mut self, path: &Path, backup: &Path, bandwidth: Bandwidth) {
        let changed = self.shared.subtract(path, backup, bandwidth);
        changed.iter().for_each(|spot| self.show(spot));
    }

    /// Failures that would bring more there than paths leave free, the worst first, with what they bring.
    pub fn excess(&self, spot: &Spot) -> Vec<(Failure, Bandwidth)> {
        let Some(room) = self.room(spot) else { return Vec::new() };
        self.shared.above(spot, room)
    }

    /// How much more than paths leave free a failure would bring there.
    pub fn excess_by(&self, spot: &Spot, failure: &Failure) -> Bandwidth {
        let room = self.room(spot).unwrap_or(Bandwidth::MAX);
        self.shared.moved(spot, failure).saturating_sub(room)
    }

    /// How much more would be reserved there for a backup that brings `more`: less than that as far as it shares what others
    /// have reserved against other failures.
    pub fn need_for_backup(&self, spot: &Spot, path: &Path, backup: &Path, more: Bandwidth) -> Bandwidth {
        self.shared.need(spot, failures(path, Some(backup)), more, self.room(spot))
    }

    /// The same for a backup of which is known only that it is there so many times, and that it crosses none of the path's
    /// links.
    pub fn need_beside(
        &self,
        (spot, crossed): (&Spot, u64),
        path: &Path,
        need: Need,
        bandwidth: Bandwidth,
    ) -> Bandwidth {
        let more = multiply(bandwidth, crossed.saturating_sub(times(path, spot)));
        let room = self.room(spot);
        match need {
            Need::Most => self.shared.need(spot, failures(path, None), more, room),
            Need::Least => self.shared.need(spot, path.links.iter().cloned().map(Failure::Link), more, room),
        }
    }
}

/// Where a circuit needs more after a failure than before it, and how much.
pub fn moved_to(path: &Path, backup: &Path, need: Bandwidth) -> impl Iterator<Item = (Spot, Bandwidth)> {
    let all = if need.is_zero() { BTreeMap::new() } else { spots(backup) };
    all.into_iter().filter_map(move |(spot, crossed)| {
        let more = multiply(need, crossed.saturating_sub(times(path, &spot)));
        (!more.is_zero()).then_some((spot, more))
    })
}

/// What moves a circuit from `path` to `backup`: that which only the former crosses.
fn failures<'a>(path: &'a Path, backup: Option<&'a Path>) -> impl Iterator<Item = Failure> + 'a {
    let hosts =
        inner(path).iter().filter(move |node| backup.is_none_or(|backup| !backup.nodes.contains(node)));
    let links =
        path.links.iter().filter(move |link| backup.is_none_or(|backup| !backup.links.contains(link)));
    hosts.cloned().map(Failure::Host).chain(links.cloned().map(Failure::Link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(nodes: &[&str]) -> Path {
        let name = |text: &str| NodeName(text.parse().expect("a name"));
        let link = |pair: &[&str]| {
            LinkId::new(name(pair[0]), name(pair[1]), "net".parse().expect("a name")).expect("two ends")
        };
        Path {
            nodes: nodes.iter().map(|node| name(node)).collect(),
            links: nodes.windows(2).map(link).collect(),
        }
    }

    fn first(path: &Path) -> Spot {
        Spot::Link(path.links[0].clone())
    }

    fn port(node: &str) -> Spot {
        Spot::Port(NodeName(node.parse().expect("a name")), "net".parse().expect("a name"))
    }

    #[test]
    fn an_interface_that_both_ways_leave_by_is_reserved_once_and_one_that_passes_on_twice() {
        let (one, backup) = (path(&["a", "b"]), path(&["a", "x", "b"]));
        let (mut shared, need) = (Shared::default(), Bandwidth::mbit(100));
        shared.add(&one, &backup, need);
        assert_eq!([shared.of(&port("a")), shared.of(&port("b"))], [Bandwidth::ZERO; 2]);
        assert_eq!(shared.of(&port("x")), Bandwidth::mbit(200), "in and out again");
        assert_eq!(spots(&backup)[&port("x")], 2);
    }

    #[test]
    fn backups_against_different_failures_share_a_reservation() {
        let (one, other, backup) = (path(&["a", "x", "b"]), path(&["a", "y", "b"]), path(&["a", "z", "b"]));
        let (mut shared, need, spot) = (Shared::default(), Bandwidth::mbit(100), first(&backup));
        let rise =
            |shared: &Shared, path: &Path| shared.need(&spot, failures(path, Some(&backup)), need, None);
        assert_eq!(rise(&shared, &one), need);
        shared.add(&one, &backup, need);
        assert_eq!(rise(&shared, &other), Bandwidth::ZERO);
        shared.add(&other, &backup, need);
        assert_eq!(shared.of(&spot), need);
        // A second circuit over x moves together with the first.
        assert_eq!(rise(&shared, &one), need);
        shared.add(&one, &backup, need);
        assert_eq!(shared.of(&spot), Bandwidth::mbit(200));
    }

    #[test]
    fn what_was_added_is_taken_back_exactly() {
        let (one, other, backup) = (path(&["a", "x", "b"]), path(&["a", "x", "c"]), path(&["a", "z", "b"]));
        let mut shared = Shared::default();
        shared.add(&one, &backup, Bandwidth::mbit(100));
        shared.add(&other, &path(&["a", "z", "c"]), Bandwidth::mbit(30));
        assert_eq!(shared.of(&first(&backup)), Bandwidth::mbit(130));
        shared.subtract(&one, &backup, Bandwidth::mbit(100));
        assert_eq!(shared.of(&first(&backup)), Bandwidth::mbit(30));
        shared.subtract(&other, &path(&["a", "z", "c"]), Bandwidth::mbit(30));
        assert!(shared.spots.is_empty());
    }

    #[test]
    fn a_link_of_both_ways_is_reserved_once() {
        let (one, backup) = (path(&["a", "x", "b"]), path(&["a", "x", "y", "b"]));
        let (mut shared, need) = (Shared::default(), Bandwidth::mbit(100));
        shared.add(&one, &backup, need);
        assert_eq!(shared.of(&first(&one)), Bandwidth::ZERO);
        assert_eq!(shared.of(&Spot::Link(backup.links[1].clone())), need);
        // If x fails, neither way is left: only the link x–b brings it here.
        assert_eq!(shared.spots[&Spot::Link(backup.links[1].clone())].by_failure.len(), 1);
    }
}
