//! Knows what each single failure would bring to each link, so that backups against different failures share what is
//! reserved for them.
//!
//! One link or one transit host fails at a time; then every circuit whose path crosses it moves to its backup. A link
//! keeps free what the worst such failure would bring (shared backup path protection; Ramamurthy, Mukherjee, "Survivable
//! WDM Mesh Networks", 1999).
use super::{Link, Need, Topology};
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
    links: BTreeMap<LinkId, Load>,
}

/// Of one link.
#[derive(Clone, Debug, Default)]
struct Load {
    by_failure: BTreeMap<Failure, Bandwidth>,
    /// The largest of them.
    most: Bandwidth,
}

impl Shared {
    pub(super) fn of(&self, link: &LinkId) -> Bandwidth {
        self.links.get(link).map_or(Bandwidth::ZERO, |load| load.most)
    }

    /// What is known of these links.
    pub(super) fn only(&self, links: &BTreeSet<&LinkId>) -> Self {
        let known = |link: &&LinkId| Some(((*link).clone(), self.links.get(*link)?.clone()));
        Self { links: links.iter().filter_map(known).collect() }
    }

    pub(super) fn moved(&self, link: &LinkId, failure: &Failure) -> Bandwidth {
        let load = self.links.get(link);
        load.and_then(|load| load.by_failure.get(failure)).copied().unwrap_or_default()
    }

    /// Failures that would bring more than `room` to a link, the worst first, with how much.
    pub(super) fn above(&self, link: &LinkId, room: Bandwidth) -> Vec<(Failure, Bandwidth)> {
        let Some(load) = self.links.get(link).filter(|load| load.most > room) else { return Vec::new() };
        let over = load.by_failure.iter().filter(|(_, sum)| **sum > room);
        let mut over: Vec<_> =
            over.map(|(failure, sum)| (failure.clone(), sum.saturating_sub(room))).collect();
        over.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
        over
    }

    /// Returns the links whose reservation is another one now, with it.
    pub(super) fn add(&mut self, path: &Path, backup: &Path, need: Bandwidth) -> Vec<(LinkId, Bandwidth)> {
        let mut changed = Vec::new();
        for link in moved_to(path, backup, need) {
            let load = self.links.entry(link.clone()).or_default();
            let before = load.most;
            for failure in failures(path, Some(backup)) {
                let sum = load.by_failure.entry(failure).or_default();
                *sum = sum.saturating_add(need);
                load.most = load.most.max(*sum);
            }
            if load.most != before {
                changed.push((link.clone(), load.most));
            }
        }
        changed
    }

    /// Takes back what [`Self::add`] with the same words has added.
    pub(super) fn subtract(
        &mut self,
        path: &Path,
        backup: &Path,
        need: Bandwidth,
    ) -> Vec<(LinkId, Bandwidth)> {
        let mut changed = Vec::new();
        for link in moved_to(path, backup, need) {
            let Some(load) = self.links.get_mut(link) else { continue };
            let before = load.most;
            for failure in failures(path, Some(backup)) {
                let Some(sum) = load.by_failure.get_mut(&failure) else { continue };
                *sum = sum.saturating_sub(need);
                if sum.is_zero() {
                    load.by_failure.remove(&failure);
                }
            }
            load.most = load.by_failure.values().copied().max().unwrap_or_default();
            if load.most != before {
                changed.push((link.clone(), load.most));
            }
            if load.by_failure.is_empty() {
                self.links.remove(link);
            }
        }
        changed
    }

    /// By how much [`Self::add`] would raise the reservation of `link`, or, when that is more than the `room` that its paths
    /// leave already, how much more than it would be brought there. Without `backup`: at most.
    pub(super) fn need(
        &self,
        link: &LinkId,
        path: &Path,
        backup: Option<&Path>,
        need: Bandwidth,
        room: Option<Bandwidth>,
    ) -> Bandwidth {
        self.need_against(link, path, failures(path, backup), need, room)
    }

    /// The same at least, whatever hosts the backup shares with the path.
    pub(super) fn least(
        &self,
        link: &LinkId,
        path: &Path,
        need: Bandwidth,
        room: Option<Bandwidth>,
    ) -> Bandwidth {
        self.need_against(link, path, path.links.iter().cloned().map(Failure::Link), need, room)
    }

    fn need_against(
        &self,
        link: &LinkId,
        path: &Path,
        failures: impl Iterator<Item = Failure>,
        need: Bandwidth,
        room: Option<Bandwidth>,
    ) -> Bandwidth {
        // The circuit's own reservation for its path is good for its backup, too.
        if path.links.contains(link) {
            return Bandwidth::ZERO;
        }
        let Some(worst) = failures.map(|failure| self.moved(link, &failure)).max() else {
            return Bandwidth::ZERO;
        };
        let most = self.of(link);
        worst.saturating_add(need).saturating_sub(room.map_or(most, |room| most.min(room)))
    }
}

impl Topology {
    /// Reserves for a circuit that moves from `path` to `backup` when the former breaks.
    pub fn reserve_backup(&mut self, path: &Path, backup: &Path, bandwidth: Bandwidth) {
        let changed = self.shared.add(path, backup, bandwidth);
        self.note_shared(changed);
    }

    pub fn release_backup(&mut self, path: &Path, backup: &Path, bandwidth: Bandwidth) {
        let changed = self.shared.subtract(path, backup, bandwidth);
        self.note_shared(changed);
    }

    fn room(&self, id: &LinkId) -> Option<Bandwidth> {
        self.link(id).and_then(Link::room)
    }

    /// Failures that would bring more to a link than its paths leave free, the worst first, with what they bring.
    pub fn excess(&self, id: &LinkId) -> Vec<(Failure, Bandwidth)> {
        let Some(room) = self.room(id) else { return Vec::new() };
        self.shared.above(id, room)
    }

    /// How much more than its paths leave free a failure would bring to a link.
    pub fn excess_by(&self, id: &LinkId, failure: &Failure) -> Bandwidth {
        let room = self.room(id).unwrap_or(Bandwidth::MAX);
        self.shared.moved(id, failure).saturating_sub(room)
    }

    fn note_shared(&mut self, changed: Vec<(LinkId, Bandwidth)>) {
        for (id, shared) in changed {
            if let Some(at) = self.edges.get(&id) {
                self.graph[*at].shared = shared;
            }
        }
    }

    /// How much more would be reserved on a link of `backup`: less than `bandwidth` as far as it shares what others
    /// have reserved against other failures.
    pub fn need_for_backup(
        &self,
        id: &LinkId,
        path: &Path,
        backup: &Path,
        bandwidth: Bandwidth,
    ) -> Bandwidth {
        self.shared.need(id, path, Some(backup), bandwidth, self.room(id))
    }

    /// The same for a backup of which is known only that it crosses none of the path's links.
    pub fn need_beside(&self, id: &LinkId, path: &Path, need: Need, bandwidth: Bandwidth) -> Bandwidth {
        match need {
            Need::Most => self.shared.need(id, path, None, bandwidth, self.room(id)),
            Need::Least => self.shared.least(id, path, bandwidth, self.room(id)),
        }
    }
}

/// Links that a circuit is on only after a failure.
fn moved_to<'a>(path: &'a Path, backup: &'a Path, need: Bandwidth) -> impl Iterator<Item = &'a LinkId> {
    let links = if need.is_zero() { &[] } else { backup.links.as_slice() };
    links.iter().filter(|link| !path.links.contains(*link))
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

    #[test]
    fn backups_against_different_failures_share_a_reservation() {
        let (one, other, backup) = (path(&["a", "x", "b"]), path(&["a", "y", "b"]), path(&["a", "z", "b"]));
        let (mut shared, need) = (Shared::default(), Bandwidth::mbit(100));
        assert_eq!(shared.need(&backup.links[0], &one, Some(&backup), need, None), need);
        shared.add(&one, &backup, need);
        assert_eq!(shared.need(&backup.links[0], &other, Some(&backup), need, None), Bandwidth::ZERO);
        shared.add(&other, &backup, need);
        assert_eq!(shared.of(&backup.links[0]), need);
        // A second circuit over x moves together with the first.
        assert_eq!(shared.need(&backup.links[0], &one, Some(&backup), need, None), need);
        shared.add(&one, &backup, need);
        assert_eq!(shared.of(&backup.links[0]), Bandwidth::mbit(200));
    }

    #[test]
    fn what_was_added_is_taken_back_exactly() {
        let (one, other, backup) = (path(&["a", "x", "b"]), path(&["a", "x", "c"]), path(&["a", "z", "b"]));
        let mut shared = Shared::default();
        shared.add(&one, &backup, Bandwidth::mbit(100));
        shared.add(&other, &path(&["a", "z", "c"]), Bandwidth::mbit(30));
        assert_eq!(shared.of(&backup.links[0]), Bandwidth::mbit(130));
        shared.subtract(&one, &backup, Bandwidth::mbit(100));
        assert_eq!(shared.of(&backup.links[0]), Bandwidth::mbit(30));
        shared.subtract(&other, &path(&["a", "z", "c"]), Bandwidth::mbit(30));
        assert!(shared.links.is_empty());
    }

    #[test]
    fn a_link_of_both_ways_is_reserved_once() {
        let (one, backup) = (path(&["a", "x", "b"]), path(&["a", "x", "y", "b"]));
        let (mut shared, need) = (Shared::default(), Bandwidth::mbit(100));
        shared.add(&one, &backup, need);
        assert_eq!(shared.of(&one.links[0]), Bandwidth::ZERO);
        assert_eq!(shared.of(&backup.links[1]), need);
        // If x fails, neither way is left: only the link x–b brings it here.
        assert_eq!(shared.links[&backup.links[1]].by_failure.len(), 1);
    }
}
