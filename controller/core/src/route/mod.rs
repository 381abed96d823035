//! Chooses a path: enumerates, judges by the bounds, takes the lowest cost, and keeps the reasons.
pub mod admission;
pub mod backup;
pub mod cost;
mod field;
pub mod flips;
pub mod joint;
pub mod pair;
pub mod paths;
pub mod prospect;
pub mod reroute;
mod strain;
pub mod tour;

use crate::topology::{Link, Tight, Topology};
use admission::Broken;
use cost::Sum;
use paths::{End, Query, Trail};
use petgraph::stable_graph::NodeIndex;
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::{Candidate, Feasible, Plan, Weights};
use proto_model::{Kind, NodeName, Refusal, Timestamp};
use std::collections::BTreeSet;

/// Links of a path when the bounds do not say.
pub const DEFAULT_HOPS: u8 = 8;
/// Links of a path at most.
pub const MAX_HOPS: u8 = 16;

/// What a path is sought for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub from: &'a NodeName,
    pub to: &'a NodeName,
    pub bounds: &'a Bounds,
    /// The only hosts to cross, in order.
    pub pinned: Option<&'a [NodeName]>,
    /// Hosts to keep away from this time, beside those that the bounds avoid.
    pub shun: &'a BTreeSet<NodeName>,
    /// Most candidates.
    pub limit: usize,
}

/// A path that was looked at, with the bounds that it breaks.
#[derive(Clone, Debug)]
pub struct Judged {
    pub candidate: Candidate,
    pub broken: Vec<Broken>,
}

/// The outcome: if any path serves, the first one does.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Those that serve first, each part by cost.
    pub judged: Vec<Judged>,
    pub omitted: u32,
    /// Why not even an unfit path was found.
    pub no_way: Option<String>,
    /// The network is too dense for the bounds: not all paths were looked at.
    pub cut_off: bool,
    /// Every path between the two is among the judged ones.
    pub complete: bool,
    /// Until or from when one that only lacks bandwidth would serve, and why, as sentences.
    pub when: Vec<String>,
}

impl Decision {
    fn none(why: String) -> Self {
        Self {
            judged: Vec::new(),
            omitted: 0,
            no_way: Some(why),
            cut_off: false,
            complete: true,
            when: Vec::new(),
        }
    }

    pub fn chosen(&self) -> Option<&Candidate> {
        self.judged.first().filter(|judged| judged.broken.is_empty()).map(|judged| &judged.candidate)
    }

    /// One sentence.
    pub fn why_refused(&self, ask: &Ask<'_>) -> String {
        if let Some(why) = &self.no_way {
            return why.clone();
        }
        let ends = format!("from {} to {}", ask.from, ask.to);
        let Some(nearest) = admission::nearest(&self.judged) else {
            return format!("there is no path {ends}");
        };
        let broken: Vec<_> = nearest.broken.iter().map(ToString::to_string).collect();
        let broken = format!("{}: {}", nearest.candidate.path, broken.join("; "));
        let cut_off = match self.cut_off {
            true => format!(" (the search ended after {} partial paths)", paths::MAX_PARTIAL),
            false => String::new(),
        };
        match self.judged.len() {
            1 => format!("{ends}: the only path breaks a bound: {broken}{cut_off}"),
            many => {
                format!("{ends}: none of {many} paths keeps all bounds; the nearest is {broken}{cut_off}")
            }
        }
    }

    pub fn refusal(&self, ask: &Ask<'_>) -> Refusal {
        let for_bandwidth = self.judged.iter().any(|judged| judged.only(Broken::is_bandwidth));
        let kind = if for_bandwidth { Kind::Exhausted } else { Kind::Precondition };
        let field = if for_bandwidth { "bounds.bandwidth" } else { "" };
        let feasible = self.feasible(ask);
        let hint = match feasible.sentences.is_empty() {
            true => "see `foreweave node list` and `foreweave link list` for what is not usable, and why"
                .to_owned(),
            false => format!("feasible: {}", feasible.sentences.join("; ")),
        };
        Refusal { field: field.into(), ..Refusal::new(kind, self.why_refused(ask)).hint(hint) }
    }

    fn feasible(&self, ask: &Ask<'_>) -> Feasible {
        let mut feasible = admission::feasible(&self.judged, ask.bounds);
        feasible.sentences.extend(self.when.iter().cloned());
        feasible
    }

    /// Puts a path first that was chosen for the sake of others; the cheaper ones say why they were passed over.
    pub fn insist(&mut self, path: Judged) {
        let chosen = &path.candidate.path;
        let why = format!("passed over: {chosen} was chosen, so that more of what is asked for fits");
        self.judged.retain(|judged| judged.candidate.path != *chosen);
        let cheaper =
            |judged: &&mut Judged| judged.broken.is_empty() && judged.candidate.cost <= path.candidate.cost;
        for judged in self.judged.iter_mut().filter(cheaper) {
            judged.candidate.rejected = vec![why.clone()];
        }
        self.judged.insert(0, path);
    }

    /// Paths that lack bandwidth and nothing else.
    pub fn full(&self) -> Vec<&Path> {
        let full = self.judged.iter().filter(|judged| judged.only(Broken::is_bandwidth));
        full.map(|judged| &judged.candidate.path).collect()
    }

    /// The record of the decision with at most `keep` candidates.
    pub fn plan(&self, ask: &Ask<'_>, weights: &Weights, keep: usize) -> Plan {
        let chosen = self.chosen().is_some();
        Plan {
            bounds: ask.bounds.clone(),
            weights: *weights,
            chosen: chosen.then_some(0),
            candidates: self.judged.iter().take(keep).map(|judged| judged.candidate.clone()).collect(),
            omitted: self.omitted + self.judged.len().saturating_sub(keep) as u32,
            refused: (!chosen).then(|| self.why_refused(ask)),
            feasible: (!chosen).then(|| self.feasible(ask)),
            hosts: Vec::new(),
            backup: None,
            protection: String::new(),
            warnings: Vec::new(),
            choice: None,
            insight: None,
        }
    }
}

impl Judged {
    /// Breaks something, and only such bounds.
    pub fn only(&self, which: impl Fn(&Broken) -> bool) -> bool {
        !self.broken.is_empty() && self.broken.iter().all(which)
    }
}

/// Looks at paths in the order of their cost; any path over usable links counts, so that it can be said why it does
/// not serve. When none of the first ones serves, those that break a bound are kept out of a second search.
pub fn decide(topology: &Topology, weights: &Weights, ask: &Ask<'_>) -> Decision {
    let (from, to) = match ends(topology, ask) {
        Ok(ends) => ends,
        Err(why) => return Decision::none(why),
    };
    if from == to {
        return local(topology, ask, weights);
    }
    let pinned = match pinned(topology, ask) {
        Ok(pinned) => pinned,
        Err(why) => return Decision::none(why),
    };
    let query =
        Query { topology, weights, ask, from, to, pinned: pinned.as_deref(), strict: false, beside: None };
    let all = paths::lowest(&query);
    let mut judged = judge(topology, weights, ask, all.trails);
    let mut cut_off = false;
    if all.end != End::Complete && !judged.iter().any(|judged| judged.broken.is_empty()) {
        let fit = paths::lowest(&Query { strict: true, ..query });
        cut_off = fit.end == End::CutOff;
        judged.splice(0..0, judge(topology, weights, ask, fit.trails));
    }
    let no_way = judged.is_empty().then(|| no_way(topology, ask));
    order(&mut judged);
    let omitted = judged.len().saturating_sub(ask.limit) as u32;
    judged.truncate(ask.limit);
    let complete = all.end == End::Complete && omitted == 0;
    Decision { judged, omitted, no_way, cut_off, complete, when: Vec::new() }
}

fn ends(topology: &Topology, ask: &Ask<'_>) -> Result<(NodeIndex, NodeIndex), String> {
    let at = |node: &NodeName| {
        topology
            .place(node)
            .filter(|_| topology.is_connected(node))
            .ok_or_else(|| format!("host {node} is not connected"))
    };
    Ok((at(ask.from)?, at(ask.to)?))
}

fn pinned(topology: &Topology, ask: &Ask<'_>) -> Result<Option<Vec<NodeIndex>>, String> {
    let at = |node| topology.place(node).ok_or_else(|| format!("host {node} is not known"));
    ask.pinned.map(|nodes| nodes.iter().map(at).collect()).transpose()
}

fn judge(topology: &Topology, weights: &Weights, ask: &Ask<'_>, trails: Vec<Trail>) -> Vec<Judged> {
    trails.into_iter().map(|trail| judge_one(topology, weights, ask, &trail)).collect()
}

fn judge_one(topology: &Topology, weights: &Weights, ask: &Ask<'_>, trail: &Trail) -> Judged {
    let graph = topology.graph();
    let links: Vec<&Link> = trail.edges.iter().map(|edge| &graph[*edge]).collect();
    let path = Path {
        nodes: trail.nodes.iter().map(|node| graph[*node].name.clone()).collect(),
        links: links.iter().map(|link| link.id.clone()).collect(),
    };
    let now = topology.now();
    let tight = match topology.holds_up(&trail.edges) {
        true => tightest_port(topology, &path, ask.bounds),
        false => None,
    };
    let mut candidate = candidate(path, &links, tight.as_ref(), weights, ask.bounds, now);
    let broken = admission::broken(&candidate, &links, tight, ask, now);
    candidate.rejected = broken.iter().map(ToString::to_string).collect();
    Judged { candidate, broken }
}

/// A path that somebody else chose; none: a link of it is not there, or cannot be used.
pub fn judge_path(topology: &Topology, weights: &Weights, ask: &Ask<'_>, path: &Path) -> Option<Judged> {
    let nodes = path.nodes.iter().map(|node| topology.place(node)).collect::<Option<_>>()?;
    let edges = path.links.iter().map(|link| topology.edge(link)).collect::<Option<Vec<_>>>()?;
    let usable = edges.iter().all(|edge| topology.graph()[*edge].is_usable());
    usable.then(|| judge_one(topology, weights, ask, &Trail { nodes, edges }))
}

/// Best effort takes nothing of any.
fn tightest_port(topology: &Topology, path: &Path, bounds: &Bounds) -> Option<Tight> {
    if bounds.bandwidth.is_zero() { None } else { topology.tightest_port(path) }
}

fn candidate(
    path: Path,
    links: &[&Link],
    tight: Option<&Tight>,
    weights: &Weights,
    bounds: &Bounds,
    now: Timestamp,
) -> Candidate {
    let mut offer = cost::offer(links, bounds, now);
    if let Some(tight) = tight {
        offer.free = offer.free.map(|free| free.min(tight.free()));
    }
    let sum = links.iter().fold(Sum::default(), |sum, link| sum.and(link, bounds.bandwidth, now));
    Candidate { terms: sum.terms(weights), cost: sum.cost(weights), rejected: Vec::new(), offer, path }
}

/// What a path that is in use offers and costs now; none: a link of it is not there.
pub fn examine(topology: &Topology, weights: &Weights, bounds: &Bounds, path: &Path) -> Option<Candidate> {
    let links: Vec<&Link> = path.links.iter().map(|id| topology.link(id)).collect::<Option<_>>()?;
    let tight = tightest_port(topology, path, bounds);
    Some(candidate(path.clone(), &links, tight.as_ref(), weights, bounds, topology.now()))
}

/// Both ends on one host: nothing to choose.
fn local(topology: &Topology, ask: &Ask<'_>, weights: &Weights) -> Decision {
    let nodes = ends(topology, ask).map(|(at, _)| vec![at]).unwrap_or_default();
    let judged = vec![judge_one(topology, weights, ask, &Trail { nodes, edges: Vec::new() })];
    Decision { judged, omitted: 0, no_way: None, cut_off: false, complete: true, when: Vec::new() }
}

/// Equal costs: fewer hops, then names; so that the same state gives the same choice.
fn order(judged: &mut [Judged]) {
    judged.sort_by(|a, b| {
        let (x, y) = (&a.candidate, &b.candidate);
        (!a.broken.is_empty())
            .cmp(&!b.broken.is_empty())
            .then(x.cost.total_cmp(&y.cost))
            .then(x.path.hops().cmp(&y.path.hops()))
            .then_with(|| x.path.cmp(&y.path))
    });
}

/// What stands between the two hosts.
fn no_way(topology: &Topology, ask: &Ask<'_>) -> String {
    if let Some(pinned) = ask.pinned {
        return gap(topology, pinned);
    }
    let unusable = |node: &NodeName| -> Option<String> {
        let at = topology.place(node)?;
        let graph = topology.graph();
        let links: Vec<&Link> = graph.edges(at).map(|edge| edge.weight()).collect();
        let whys: Vec<_> = links
            .iter()
            .filter_map(|link| topology.why_unusable(link).map(|why| format!("{}: {why}", link.id)))
            .collect();
        match (links.len(), whys.len()) {
            (0, _) => Some(format!("{node} shares no network with another host")),
            (all, bad) if all == bad => Some(format!("{node} has no usable link ({})", first_few(&whys))),
            _ => None,
        }
    };
    let way = format!("no way over usable links from {} to {}", ask.from, ask.to);
    match unusable(ask.from).or_else(|| unusable(ask.to)) {
        Some(why) => format!("{way}: {why}"),
        None => format!("{way} within {} hops", hops_searched(ask.bounds)),
    }
}

/// The first pair of a pinned path that cannot be crossed.
fn gap(topology: &Topology, pinned: &[NodeName]) -> String {
    for pair in pinned.windows(2) {
        let [one, other] = pair else { continue };
        let (Some(a), Some(b)) = (topology.place(one), topology.place(other)) else { continue };
        let graph = topology.graph();
        let links: Vec<_> = graph.edges_connecting(a, b).collect();
        if links.is_empty() {
            return format!("{one} and {other} share no network: they are not neighbours");
        }
        let whys: Vec<_> = links
            .iter()
            .filter_map(|edge| {
                topology.why_unusable(edge.weight()).map(|w| format!("{}: {w}", edge.weight().id))
            })
            .collect();
        if whys.len() == links.len() {
            return format!("no link between {one} and {other} is usable ({})", first_few(&whys));
        }
    }
    "the path cannot be crossed".into()
}

fn first_few(whys: &[String]) -> String {
    const FEW: usize = 3;
    let more = whys.len().saturating_sub(FEW);
    let text = whys.iter().take(FEW).cloned().collect::<Vec<_>>().join("; ");
    if more == 0 { text } else { format!("{text}; and {more} more") }
}

/// How far the enumeration goes: further than asked, so that a path with too many hops can be shown as such.
pub(crate) fn hops_searched(bounds: &Bounds) -> u8 {
    bounds.max_hops.unwrap_or(DEFAULT_HOPS).clamp(DEFAULT_HOPS, MAX_HOPS)
}
