//! Chooses a path for the sake of its backup, where the best path has none that is disjoint.
//!
//! "Remove the path and search again" finds no second way in a trap topology, where the best path takes a link of each
//! of two disjoint ways. The pair with the least sum is found by two augmentations in the graph where the first way is
//! turned round (Bhandari 1999, after Suurballe 1974): disjoint in hosts if there is one, else in links. That pair is of
//! least sum of one quantity; a pair within several bounds at once is hard to find (Li, McCormick, Simchi-Levi 1990), so
//! pairs of least cost, hops, round-trip time, loss and price are tried in this order.
use super::backup::{self, Second};
use super::field::{COST, Field, LOST, PRICE, RTT, Step, row};
use super::paths::{Query, Trail};
use super::{Ask, Decision, Judged, ends, judge_one};
use crate::topology::Topology;
use proto_model::circuit::Path;
use proto_model::plan::Weights;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How much dearer than the best path one may be that has a disjoint backup.
const MOST_DEARER: f64 = 2.0;

/// How much two ways keep apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    Hosts,
    Links,
}

/// Puts a path first that has a disjoint backup, and returns that; the cheaper paths say why they were passed over.
/// None: there is no such pair within the bounds, or its path is too dear.
pub fn prefer(
    topology: &Topology,
    weights: &Weights,
    ask: &Ask<'_>,
    decision: &mut Decision,
    second: &Result<Second, String>,
) -> Option<Second> {
    let best = decision.chosen()?;
    let has = match second {
        Ok(second) if second.remark.is_empty() => return None,
        Ok(second) => Some(backup::rank(&best.path, &second.candidate.path)),
        Err(_) => None,
    };
    let most = best.cost * MOST_DEARER;
    let (path, second) = pairs(topology, weights, ask).into_iter().find_map(|pair| {
        let [one, other] = pair.map(|trail| judge_one(topology, weights, ask, &trail));
        let ordered = if one.candidate.cost <= other.candidate.cost { (one, other) } else { (other, one) };
        let serves = ordered.0.broken.is_empty() && ordered.0.candidate.cost <= most;
        let second =
            serves.then(|| backup::beside(topology, ask, &ordered.1, &ordered.0.candidate.path))??;
        let rank = backup::rank(&ordered.0.candidate.path, &second.candidate.path);
        has.is_none_or(|has| rank < has).then_some((ordered.0, second))
    })?;
    promote(decision, path);
    Some(second)
}

/// To the first place.
fn promote(decision: &mut Decision, path: Judged) {
    let chosen = &path.candidate.path;
    let why = format!("passed over: it has no disjoint backup; {chosen} was chosen because it has one");
    decision.judged.retain(|judged| judged.candidate.path != *chosen);
    let cheaper =
        |judged: &&mut Judged| judged.broken.is_empty() && judged.candidate.cost <= path.candidate.cost;
    for judged in decision.judged.iter_mut().filter(cheaper) {
        judged.candidate.rejected = vec![why.clone()];
    }
    decision.judged.insert(0, path);
}

/// What to say of a path that was chosen so.
pub fn remark(best: &Path) -> String {
    format!("chosen because its best alternative, {best}, has no disjoint backup")
}

/// Pairs of disjoint ways, those that keep apart in hosts first.
fn pairs(topology: &Topology, weights: &Weights, ask: &Ask<'_>) -> Vec<[Trail; 2]> {
    let Ok((from, to)) = ends(topology, ask) else { return Vec::new() };
    if from == to || ask.pinned.is_some() {
        return Vec::new();
    }
    let query = Query { topology, weights, ask, from, to, pinned: None, strict: true, beside: None };
    let field = Field::new(&query, super::MAX_HOPS);
    let known = ask.bounds.max_rtt.is_some();
    let quantities = [Some(COST), None, Some(RTT).filter(|_| known), Some(LOST), Some(PRICE)];
    let mut pairs: Vec<[Trail; 2]> = Vec::new();
    for apart in [Apart::Hosts, Apart::Links] {
        for (at, what) in quantities.iter().enumerate() {
            if at == 2 && what.is_none() {
                continue;
            }
            // Hairs: of ways without any loss or price, the short ones.
            let weight = |step: &Step| what.map_or(1.0, |what| step.weight(what) + 1e-6);
            let pair = Flow::new(&field, row(from), row(to), apart).pair(weight);
            // Whether there is one does not depend on what its sum is of.
            let Some(pair) = pair else { break };
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

/// A host on its two sides: where ways come in, and where they go out. Where ways may share hosts, the two are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    host: u32,
    out: bool,
}

impl Place {
    fn at(self) -> usize {
        self.host as usize * 2 + usize::from(self.out)
    }
}

/// Units of flow between two hosts; at most one over each link, and over each host between them if so wanted.
struct Flow<'a> {
    field: &'a Field,
    from: u32,
    to: u32,
    apart: Apart,
    /// By link, the host that it is crossed from, and how.
    used: BTreeMap<u32, (u32, Step)>,
    /// Hosts that are crossed, between the ends.
    crossed: BTreeSet<u32>,
}

impl<'a> Flow<'a> {
    fn new(field: &'a Field, from: u32, to: u32, apart: Apart) -> Self {
        Self { field, from, to, apart, used: BTreeMap::new(), crossed: BTreeSet::new() }
    }

    fn pair(mut self, weight: impl Fn(&Step) -> f64) -> Option<[Trail; 2]> {
        for _ in 0..2 {
            self.augment(&weight)?;
        }
        let one = self.walk()?;
        Some([one, self.walk()?])
    }

    /// Cheapest way in what is left, over links in use only backwards (Bellman, Ford, with a queue).
    fn augment(&mut self, weight: &impl Fn(&Step) -> f64) -> Option<()> {
        let places = self.field.hosts() * 2;
        let mut least = vec![f64::INFINITY; places];
        let mut before: Vec<Option<(Place, Option<Step>)>> = vec![None; places];
        let start = Place { host: self.from, out: true };
        least[start.at()] = 0.0;
        let mut queue = VecDeque::from([start]);
        // There is no negative circle beside a cheapest flow; rounding shall not make one.
        let mut left = places * places.max(64);
        while let Some(here) = queue.pop_front() {
            left = left.checked_sub(1)?;
            self.each_arc(here, weight, |next, cost, step| {
                let sum = least[here.at()] + cost;
                if sum < least[next.at()] - 1e-12 {
                    least[next.at()] = sum;
                    before[next.at()] = Some((here, step));
                    queue.push_back(next);
                }
            });
        }
        let mut at = Place { host: self.to, out: false };
        let mut arcs = Vec::new();
        while at != start {
            let (last, step) = before[at.at()].filter(|_| arcs.len() <= places)?;
            arcs.push((last, step));
            at = last;
        }
        arcs.into_iter().for_each(|(last, step)| self.take(last, step));
        self.crossed = self.used.values().map(|(_, step)| step.to).filter(|host| *host != self.to).collect();
        Some(())
    }

    fn take(&mut self, from: Place, step: Option<Step>) {
        let Some(step) = step else { return };
        match from.out {
            true => drop(self.used.insert(step.edge, (from.host, step))),
            // Backwards: the two ways no longer meet there.
            false => drop(self.used.remove(&step.edge)),
        }
    }

    fn each_arc(
        &self,
        here: Place,
        weight: &impl Fn(&Step) -> f64,
        mut with: impl FnMut(Place, f64, Option<Step>),
    ) {
        let Place { host, out } = here;
        let whole = self.apart == Apart::Links;
        let in_use = !whole && self.crossed.contains(&host);
        if out {
            for step in self.field.steps(host).iter().filter(|step| !self.used.contains_key(&step.edge)) {
                with(Place { host: step.to, out: false }, weight(step), Some(*step));
            }
            // Back along the first way, further than one link.
            if whole || in_use {
                with(Place { host, out: false }, 0.0, None);
            }
            return;
        }
        let backwards = self.field.steps(host).iter().filter_map(|step| {
            let (from, forth) = self.used.get(&step.edge)?;
            (forth.to == host).then_some((*from, *forth))
        });
        for (from, forth) in backwards {
            with(Place { host: from, out: true }, -weight(&forth), Some(forth));
        }
        if !in_use && host != self.to {
            with(Place { host, out: true }, 0.0, None);
        }
    }

    /// One way of the flow, taken out of it; without its loops.
    fn walk(&mut self) -> Option<Trail> {
        let (mut at, mut steps) = (self.from, Vec::<Step>::new());
        while at != self.to {
            let edge = self.used.iter().find(|(_, (from, _))| *from == at).map(|(edge, _)| *edge)?;
            let (_, step) = self.used.remove(&edge)?;
            at = step.to;
            match steps.iter().position(|known| known.to == at) {
                _ if at == self.from => steps.clear(),
                Some(known) => steps.truncate(known + 1),
                None => steps.push(step),
            }
        }
        Trail::of(self.from, &steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::decide;
    use crate::route::paths::tests::{links, node, topology};
    use proptest::prelude::*;
    use proto_model::Latency;
    use proto_model::intent::Bounds;

    fn chosen(topology: &Topology, bounds: &Bounds) -> (Decision, Result<Second, String>) {
        let (from, to, shun) = (node(0), node(5), BTreeSet::new());
        let ask = Ask { from: &from, to: &to, bounds, pinned: None, shun: &shun, limit: 10_000 };
        let weights = Weights::default();
        let mut decision = decide(topology, &weights, &ask);
        let Some(path) = decision.chosen().map(|chosen| chosen.path.clone()) else {
            return (decision, Err("no path".into()));
        };
        let second = backup::choose(topology, &weights, &ask, &decision, &path);
        let better = prefer(topology, &weights, &ask, &mut decision, &second);
        (decision, better.map_or(second, Ok))
    }

    /// The best path from 0 to 5 is 0 – 1 – 4 – 5, which takes a host of each of the two disjoint ways.
    fn trap() -> Topology {
        topology(
            6,
            &[
                (0, 1, 1, 100),
                (1, 4, 1, 100),
                (4, 5, 1, 100),
                (1, 3, 2, 100),
                (3, 5, 2, 100),
                (0, 2, 2, 100),
                (2, 4, 2, 100),
            ],
        )
    }

    #[test]
    fn a_dearer_path_is_chosen_when_the_best_one_has_no_disjoint_backup() {
        let topology = trap();
        let (decision, second) = chosen(&topology, &Bounds::default());
        let path = &decision.chosen().expect("there is one").path;
        let second = second.expect("protected");
        assert_eq!(second.remark, "");
        let mut ways = [path.to_string(), second.candidate.path.to_string()];
        ways.sort();
        assert_eq!(ways, ["n0 → n1 → n3 → n5", "n0 → n2 → n4 → n5"]);
        let passed =
            &decision.judged.iter().find(|one| one.candidate.path.to_string() == "n0 → n1 → n4 → n5");
        let why = &passed.expect("it is shown").candidate.rejected[0];
        assert!(why.starts_with("passed over: it has no disjoint backup; n0 → "), "{why}");
    }

    #[test]
    fn a_pair_that_breaks_a_bound_or_is_too_dear_is_not_chosen() {
        let bounds = Bounds { max_rtt: Some(Latency::from_millis(4)), ..Bounds::default() };
        let (decision, _) = chosen(&trap(), &bounds);
        assert_eq!(decision.chosen().map(|chosen| chosen.path.to_string()), Some("n0 → n1 → n4 → n5".into()));
        let dear = topology(
            6,
            &[
                (0, 1, 1, 9),
                (1, 4, 1, 9),
                (4, 5, 1, 9),
                (1, 3, 20, 9),
                (3, 5, 20, 9),
                (0, 2, 20, 9),
                (2, 4, 20, 9),
            ],
        );
        let (decision, _) = chosen(&dear, &Bounds::default());
        assert_eq!(decision.chosen().map(|chosen| chosen.path.to_string()), Some("n0 → n1 → n4 → n5".into()));
    }

    /// Against all pairs of the loop-free ways from 0 to 5.
    fn least_pair_is_found(links: &[(usize, usize, u64, u64)]) -> Result<(), TestCaseError> {
        let topology = topology(6, links);
        let (from, to, shun, bounds) = (node(0), node(5), BTreeSet::new(), Bounds::default());
        let ask = Ask { from: &from, to: &to, bounds: &bounds, pinned: None, shun: &shun, limit: 10_000 };
        let weights = Weights { load: 0.0, ..Weights::default() };
        let all = decide(&topology, &weights, &ask).judged;
        let least = |limit: (bool, usize)| {
            let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (one, other)));
            let apart = pairs.filter(|(one, other)| {
                one.candidate.path.links != other.candidate.path.links
                    && backup::rank(&one.candidate.path, &other.candidate.path) <= limit
            });
            apart.map(|(one, other)| one.candidate.cost + other.candidate.cost).min_by(f64::total_cmp)
        };
        let found = pairs(&topology, &weights, &ask);
        let sum = |pair: &[Trail; 2]| -> f64 {
            pair.iter().map(|trail| judge_one(&topology, &weights, &ask, trail).candidate.cost).sum()
        };
        // In hosts if there is such a pair, else in links.
        let best = least((false, 0)).or_else(|| least((false, usize::MAX)));
        prop_assert_eq!(found.is_empty(), best.is_none());
        if let (Some(first), Some(best)) = (found.first(), best) {
            prop_assert!((sum(first) - best).abs() < 1e-3, "{} instead of {}", sum(first), best);
        }
        Ok(())
    }

    /// The best way, 0 – 3 – 2 – 4 – 1 – 5, takes two links in a row that the second one has to go back over, and
    /// all ways cross 1.
    #[test]
    fn a_pair_that_turns_several_links_in_a_row_round_is_found() {
        let links = [
            (1, 5, 1, 1),
            (0, 4, 14, 1),
            (3, 2, 1, 1),
            (3, 0, 1, 1),
            (2, 4, 1, 1),
            (1, 5, 1, 1),
            (1, 4, 1, 1),
            (1, 3, 5, 1),
        ];
        least_pair_is_found(&links).expect("as all pairs say");
        let (decision, second) = chosen(&topology(6, &links), &Bounds::default());
        let path = decision.chosen().expect("there is one").path.clone();
        assert_eq!(path.to_string(), "n0 → n3 → n1 → n5");
        let second = second.expect("protected");
        assert_eq!(second.candidate.path.to_string(), "n0 → n4 → n1 → n5");
        assert_eq!(backup::rank(&path, &second.candidate.path), (false, 1));
    }

    proptest! {
        #[test]
        fn the_pair_is_disjoint_and_of_the_least_sum(links in links()) {
            least_pair_is_found(&links)?;
        }
    }
}
