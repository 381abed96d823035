//! Chooses the second way of a circuit: as disjoint from its path as the topology allows, then as cheap as possible.
use super::admission::Broken;
use super::paths::{self, Beside, Query, inner};
use super::{Ask, Decision, Judged, ends, judge};
use crate::topology::{Need, Spot, Tight, Topology, moved_to};
use proto_model::NodeName;
use proto_model::circuit::Path;
use proto_model::plan::{Candidate, Weights};
use proto_model::topology::LinkId;
use std::cell::OnceCell;

/// Candidates of a search of its own, when the way is not among those that the path was chosen from.
const FEW: usize = 4;

#[derive(Clone, Debug, PartialEq)]
pub struct Second {
    pub candidate: Candidate,
    /// What it shares with the path, and why; empty: it is disjoint.
    pub remark: String,
}

/// What two paths between the same hosts have in common beside these.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Overlap {
    links: Vec<LinkId>,
    hosts: Vec<NodeName>,
}

impl Overlap {
    fn new(path: &Path, other: &Path) -> Self {
        Self {
            links: path.links.iter().filter(|link| other.links.contains(link)).cloned().collect(),
            hosts: inner(path).iter().filter(|host| inner(other).contains(host)).cloned().collect(),
        }
    }
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let links = self.links.iter().map(|link| format!("the link {link}"));
        let hosts = self.hosts.iter().map(|host| format!("the host {host}"));
        f.write_str(&links.chain(hosts).collect::<Vec<_>>().join(" and "))
    }
}

/// Disjoint first; then without a common link; then as little as possible in common.
pub(super) fn rank(path: &Path, other: &Path) -> (bool, usize) {
    let links = path.links.iter().filter(|link| other.links.contains(link)).count();
    let hosts = inner(path).iter().filter(|host| inner(other).contains(host)).count();
    (links > 0, links + hosts)
}

const DISJOINT: (bool, usize) = (false, 0);

/// A way beside the path.
struct Way<'a> {
    judged: &'a Judged,
    rank: (bool, usize),
    /// What keeps it from being the backup, once it was asked for: the books take longer than all else.
    broken: OnceCell<Vec<Broken>>,
}

/// What a backup is sought for.
#[derive(Clone, Copy)]
struct Case<'a> {
    topology: &'a Topology,
    ask: &'a Ask<'a>,
    path: &'a Path,
}

/// `decision` is about the same question as `path` was chosen for. The error says why there is no second way.
pub fn choose(
    topology: &Topology,
    weights: &Weights,
    ask: &Ask<'_>,
    decision: &Decision,
    path: &Path,
) -> Result<Second, String> {
    let case = Case { topology, ask, path };
    let more;
    let mut ways: Vec<Way<'_>> = decision.judged.iter().filter_map(|judged| case.way(judged)).collect();
    if !decision.complete && !ways.iter().any(|way| way.rank == DISJOINT && case.fits(way)) {
        // Which failures move a circuit depends on the hosts that both ways cross, which are known at the end only.
        let searches = [(true, Need::Most), (false, Need::Most), (false, Need::Least)];
        let found =
            searches.map(|(hosts, need)| search(topology, weights, ask, Beside { path, hosts, need }));
        more = found.concat();
        ways.extend(more.iter().filter_map(|judged| case.way(judged)));
    }
    ways.sort_by(|a, b| {
        let (x, y) = (&a.judged.candidate, &b.judged.candidate);
        let cost = x.cost.total_cmp(&y.cost);
        let hops = x.path.hops().cmp(&y.path.hops());
        a.rank.cmp(&b.rank).then(cost).then(hops).then_with(|| x.path.cmp(&y.path))
    });
    let Some(best) = ways.iter().position(|way| case.fits(way)) else { return Err(case.why_none(&ways)) };
    let remark = case.remark(&ways[best], &ways[..best]);
    Ok(Second { candidate: ways[best].judged.candidate.clone(), remark })
}

/// The cheapest disjoint one. None: there is none, and [`choose`] says why, or finds one that shares least.
pub fn disjoint(topology: &Topology, weights: &Weights, ask: &Ask<'_>, path: &Path) -> Option<Second> {
    let mut found = search(topology, weights, ask, Beside { path, hosts: true, need: Need::Most });
    super::order(&mut found);
    found
        .iter()
        .find_map(|judged| beside(topology, ask, judged, path))
        .filter(|second| second.remark.is_empty())
}

/// This one, if it keeps the bounds.
pub(super) fn beside(topology: &Topology, ask: &Ask<'_>, judged: &Judged, path: &Path) -> Option<Second> {
    let case = Case { topology, ask, path };
    let way = case.way(judged).filter(|way| case.fits(way))?;
    Some(Second { candidate: judged.candidate.clone(), remark: case.remark(&way, &[]) })
}

impl Case<'_> {
    /// None: it is the path itself.
    fn way<'a>(&self, judged: &'a Judged) -> Option<Way<'a>> {
        let other = &judged.candidate.path;
        let way = || Way { judged, rank: rank(self.path, other), broken: OnceCell::new() };
        (other != self.path).then(way)
    }

    /// Judged by the same bounds; for bandwidth, by what a backup has to add.
    fn broken<'a>(&self, way: &'a Way<'_>) -> &'a [Broken] {
        way.broken.get_or_init(|| {
            let others = way.judged.broken.iter().filter(|broken| !broken.is_bandwidth()).cloned();
            let backup = &way.judged.candidate.path;
            bandwidth(self.topology, self.ask, self.path, backup).into_iter().chain(others).collect()
        })
    }

    fn fits(&self, way: &Way<'_>) -> bool {
        way.judged.broken.iter().all(Broken::is_bandwidth) && self.broken(way).is_empty()
    }

    fn said(&self, way: &Way<'_>) -> String {
        let broken: Vec<_> = self.broken(way).iter().map(ToString::to_string).collect();
        format!("{}: {}", way.judged.candidate.path, broken.join("; "))
    }

    fn remark(&self, best: &Way<'_>, better: &[Way<'_>]) -> String {
        if best.rank == DISJOINT {
            return String::new();
        }
        let overlap = Overlap::new(self.path, &best.judged.candidate.path);
        match better.iter().find(|way| way.rank < best.rank) {
            Some(way) => format!("the backup shares {overlap} with the path; {}", self.said(way)),
            None => format!("the backup shares {overlap} with the path: the topology has no other"),
        }
    }

    fn why_none(&self, ways: &[Way<'_>]) -> String {
        match ways.iter().min_by_key(|way| self.broken(way).len()) {
            Some(nearest) => format!("no second path keeps the bounds: {}", self.said(nearest)),
            None => "the topology has no second path".into(),
        }
    }
}

fn bandwidth(topology: &Topology, ask: &Ask<'_>, path: &Path, backup: &Path) -> Option<Broken> {
    let asked = ask.bounds.bandwidth;
    if asked.is_zero() {
        return None;
    }
    moved_to(path, backup, asked).find_map(|(spot, more)| {
        // Where there is room for all of it, nobody has to know how much of it is shared.
        let free = topology.free(&spot).filter(|free| *free < more)?;
        let need = topology.need_for_backup(&spot, path, backup, more);
        if free >= need {
            return None;
        }
        match spot {
            Spot::Link(link) => {
                let room = topology.link(&link)?.room()?;
                Some(Broken::Bandwidth { link, room, need })
            }
            Spot::Port(node, network) => {
                let port = topology.port(&node, &network)?.clone();
                Some(Broken::Interface { tight: Tight { node, port, times: 1 }, need })
            }
        }
    })
}

fn search(topology: &Topology, weights: &Weights, ask: &Ask<'_>, beside: Beside<'_>) -> Vec<Judged> {
    let Ok((from, to)) = ends(topology, ask) else { return Vec::new() };
    let ask = Ask { limit: FEW, ..*ask };
    let query =
        Query { topology, weights, ask: &ask, from, to, pinned: None, strict: true, beside: Some(beside) };
    judge(topology, weights, &ask, paths::lowest(&query).trails)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::decide;
    use crate::route::paths::tests::{links, node, topology};
    use proptest::prelude::*;
    use proto_model::Bandwidth;
    use proto_model::intent::Bounds;
    use std::collections::BTreeSet;

    #[test]
    fn a_backup_that_fits_because_it_shares_a_host_is_found_however_short_the_list_of_candidates() {
        // 0 – 1 – 2 – 5 is the path; beside it is 0 – 3 – 2 – 5, by the other of two links from 2 to 5.
        let ways =
            [(0, 1, 1, 100), (1, 2, 1, 100), (2, 5, 1, 100), (0, 3, 9, 100), (3, 2, 9, 100), (2, 5, 9, 100)];
        let mut topology = topology(6, &[&ways[..], &[(0, 2, 9, 10)]].concat());
        let path = |nodes: &[usize], links: &[usize]| Path {
            nodes: nodes.iter().map(|at| node(*at)).collect(),
            links: links
                .iter()
                .zip(nodes.windows(2))
                .map(|(at, ends)| {
                    let network = format!("l{at}").parse().expect("a name");
                    LinkId::new(node(ends[0]), node(ends[1]), network).expect("two ends")
                })
                .collect(),
        };
        // Another circuit moves to 0 – 3 when host 2 fails; this one does not: then it has no way at all.
        topology.reserve_backup(&path(&[0, 2, 3], &[6, 4]), &path(&[0, 3], &[3]), Bandwidth::mbit(60));
        let bounds = Bounds { bandwidth: Bandwidth::mbit(60), ..Bounds::default() };
        let (from, to, shun) = (node(0), node(5), BTreeSet::new());
        for limit in [1, 64] {
            let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit };
            let decision = decide(&topology, &Weights::default(), &ask);
            let chosen = path(&[0, 1, 2, 5], &[0, 1, 2]);
            assert_eq!(decision.chosen().map(|chosen| &chosen.path), Some(&chosen));
            let second = choose(&topology, &Weights::default(), &ask, &decision, &chosen);
            let second = second.map(|second| second.candidate.path);
            assert_eq!(second, Ok(path(&[0, 3, 2, 5], &[3, 4, 5])), "of {limit}");
        }
    }

    proptest! {
        #[test]
        fn the_backup_is_as_disjoint_and_then_as_cheap_as_any_path_that_fits(links in links(), mbit in 0..6u64) {
            let topology = topology(6, &links);
            let weights = Weights::default();
            let bounds = Bounds { bandwidth: Bandwidth::mbit(mbit), ..Bounds::default() };
            let (from, to, shun) = (node(0), node(5), BTreeSet::new());
            let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit: 10_000 };
            let all = decide(&topology, &weights, &ask);
            let Some(path) = all.chosen().map(|chosen| chosen.path.clone()) else { return Ok(()) };
            let second = choose(&topology, &weights, &ask, &all, &path);
            let rank = |other: &Candidate| (rank(&path, &other.path), other.cost);
            let fit = all.judged.iter().filter(|other| {
                // On links of the path its own reservation is good for the backup.
                other.candidate.path != path && other.broken.iter().all(|broken| match broken {
                    Broken::Bandwidth { link, .. } => path.links.contains(link),
                    _ => false,
                })
            });
            let best = fit.map(|other| rank(&other.candidate)).min_by(|a, b| a.partial_cmp(b).expect("numbers"));
            match (&second, best) {
                (Ok(second), Some(best)) => prop_assert_eq!(rank(&second.candidate), best),
                (Ok(second), None) => prop_assert!(mbit > 0, "{:?}", second),
                (Err(why), best) => prop_assert_eq!(best, None, "{}", why),
            }
        }

        #[test]
        fn a_disjoint_backup_is_found_however_short_the_list_of_candidates(links in links(), limit in 1..3usize) {
            let topology = topology(6, &links);
            let weights = Weights::default();
            let bounds = Bounds::default();
            let (from, to, shun) = (node(0), node(5), BTreeSet::new());
            let ask = |limit| Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit };
            let all = decide(&topology, &weights, &ask(10_000));
            let few = decide(&topology, &weights, &ask(limit));
            let Some(path) = all.chosen().map(|chosen| chosen.path.clone()) else { return Ok(()) };
            let disjoint = |second: &Second| second.remark.is_empty();
            let (all, few) = (
                choose(&topology, &weights, &ask(10_000), &all, &path),
                choose(&topology, &weights, &ask(limit), &few, &path),
            );
            prop_assert_eq!(all.is_ok_and(|second| disjoint(&second)), few.is_ok_and(|second| disjoint(&second)));
        }
    }
}
