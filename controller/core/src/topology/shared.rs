//! Knows what each single failure would bring to each link, so that backups against different failures share what is
//! reserved for them.
//!
//! One link or one transit host fails at a time; then every circuit whose path crosses it moves to its backup. A link
//! keeps free what the worst such failure would bring (shared backup path protection; Ramamurthy, Mukherjee, "Survivable
//! WDM Mesh Networks", 1999).
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, NodeName};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Host(NodeName),
    Link(LinkId),
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

    /// By how much [`Self::add`] would raise the reservation of `link`. Without `backup`: at most.
    pub(super) fn need(
        &self,
        link: &LinkId,
        path: &Path,
        backup: Option<&Path>,
        need: Bandwidth,
    ) -> Bandwidth {
        // The circuit's own reservation for its path is good for its backup, too.
        if path.links.contains(link) {
            return Bandwidth::ZERO;
        }
        let load = self.links.get(link);
        let sum = |failure| load.and_then(|load| load.by_failure.get(&failure)).copied().unwrap_or_default();
        let Some(worst) = failures(path, backup).map(sum).max() else { return Bandwidth::ZERO };
        worst.saturating_add(need).saturating_sub(self.of(link))
    }
}

/// Links that a circuit is on only after a failure.
fn moved_to<'a>(path: &'a Path, backup: &'a Path, need: Bandwidth) -> impl Iterator<Item = &'a LinkId> {
    let links = if need.is_zero() { &[] } else { backup.links.as_slice() };
    links.iter().filter(|link| !path.links.contains(*link))
}

/// What moves a circuit from `path` to `backup`: that which only the former crosses.
fn failures<'a>(path: &'a Path, backup: Option<&'a Path>) -> impl Iterator<Item = Failure> + 'a {
    let transit = path.nodes.get(1..path.nodes.len().saturating_sub(1)).unwrap_or_default();
    let hosts = transit.iter().filter(move |node| backup.is_none_or(|backup| !backup.nodes.contains(node)));
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
        assert_eq!(shared.need(&backup.links[0], &one, Some(&backup), need), need);
        shared.add(&one, &backup, need);
        assert_eq!(shared.need(&backup.links[0], &other, Some(&backup), need), Bandwidth::ZERO);
        shared.add(&other, &backup, need);
        assert_eq!(shared.of(&backup.links[0]), need);
        // A second circuit over x moves together with the first.
        assert_eq!(shared.need(&backup.links[0], &one, Some(&backup), need), need);
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
