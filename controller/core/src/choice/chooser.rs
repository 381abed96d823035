//! The choice among given paths on any graph: links and pairs come and go, and every decision says why.
use super::links::{Forecast, Links};
use super::margin::Margins;
use super::priced::{Priced, Weight};
use super::reasons::{Choice, Flip};
use super::records::{EXPERTS, Expert, Records, excess};
use super::tuning::Tuning;
use std::collections::BTreeMap;

/// A path that a pair can take. The first one of a pair is its reference: the direct link, or else the shortest path.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// By index.
    pub links: Vec<usize>,
    /// What its links' costs count for.
    pub weight: Weight,
    /// What is added to the links' costs, for relays for instance.
    pub extra: f32,
}

impl Candidate {
    /// NaN when a link's cost is not known and counts.
    fn cost(&self, costs: Priced<&[f32]>) -> f32 {
        let known = |costs: &[f32], link: usize| costs.get(link).copied().unwrap_or(f32::NAN);
        self.weight.sum(&self.links, |link| costs.map(|costs| known(costs, link))) + self.extra
    }
}

/// What is remembered of a pair between two decisions, to be scored with the samples that come.
#[derive(Clone, Debug)]
struct Held {
    reference: Candidate,
    advised: [Candidate; EXPERTS],
    taken: Candidate,
    forecast: f32,
}

/// The policy for pairs with keys of the caller's. [`see`](Self::see) every step, [`choose`](Self::choose) at any time.
///
/// Bounds are the caller's: it is as large as the links that were added and the pairs that were asked for and not
/// [forgotten](Self::forget): about 100 bytes per link, and per pair 28 bytes and its six remembered paths.
#[derive(Clone, Debug)]
pub struct Chooser<K> {
    links: Priced<Links>,
    records: Records,
    margins: Margins,
    pairs: BTreeMap<K, usize>,
    free: Vec<usize>,
    held: Vec<Option<Held>>,
}

impl<K: Ord> Chooser<K> {
    pub fn new(tuning: Tuning) -> Self {
        Self {
            records: Records::new(&tuning, 0),
            margins: Margins::new(&tuning, 0),
            links: Priced { all: Links::new(tuning), rtt: Links::new(tuning) },
            pairs: BTreeMap::new(),
            free: Vec::new(),
            held: Vec::new(),
        }
    }

    /// See [`Links::add`].
    pub fn add_link(&mut self, from: usize, to: usize) -> usize {
        let indexes = self.links.each_mut().map(|links| links.add(from, to));
        debug_assert_eq!(indexes.all, indexes.rtt);
        indexes.all
    }

    /// See [`Links::recall`].
    pub fn recall(&mut self, link: usize, samples: &[Priced<f32>]) {
        self.links.all.recall(link, samples.iter().map(|sample| sample.all));
        self.links.rtt.recall(link, samples.iter().map(|sample| sample.rtt));
    }

    /// The link's index may be given to another one; paths over it are scored no longer.
    pub fn remove_link(&mut self, link: usize) {
        self.links.each_mut().map(|links| links.remove(link));
        for slot in &mut self.held {
            let uses = |path: &Candidate| path.links.contains(&link);
            let lost =
                |held: &Held| uses(&held.reference) || uses(&held.taken) || held.advised.iter().any(uses);
            slot.take_if(|held| lost(held));
        }
    }

    /// What was learned of the pair is forgotten.
    pub fn forget(&mut self, key: &K) {
        if let Some(pair) = self.pairs.remove(key) {
            self.records.forget(pair);
            self.margins.forget(pair);
            self.held[pair] = None;
            self.free.push(pair);
        }
    }

    /// The samples of one step by link index, NaN where there is none: what the pairs' paths cost is learned, then the
    /// links' forecasts are made.
    pub fn see(&mut self, samples: Priced<&[f32]>) {
        let limit = self.links.each().map(Links::excess_limit);
        let held = || self.held.iter().enumerate().filter_map(|(pair, held)| Some((pair, held.as_ref()?)));
        let scored = held().map(|(pair, held)| (pair, held, held.reference.cost(samples)));
        self.records.learn(scored.filter(|(.., reference)| !reference.is_nan()).map(
            |(pair, held, reference)| {
                let costs = held.advised.each_ref().map(|path| path.cost(samples));
                (pair, excess(reference, costs, held.reference.weight.of(limit)))
            },
        ));
        self.margins.learn(held().map(|(pair, held)| (pair, held.forecast, held.taken.cost(samples))));
        self.links.all.see(samples.all);
        self.links.rtt.see(samples.rtt);
    }

    /// The path for the next step. `current` is the candidate in use, if it is one; none of the candidates over a link
    /// that is not `available` is chosen. A link of which nothing is known is used only when there is nothing else.
    ///
    /// None when no candidate is available.
    pub fn choose(
        &mut self,
        key: K,
        candidates: &[Candidate],
        current: Option<usize>,
        available: impl Fn(usize) -> bool,
    ) -> Option<Choice> {
        let usable: Vec<bool> =
            candidates.iter().map(|candidate| candidate.links.iter().all(|link| available(*link))).collect();
        let choice = self.weigh(&key, candidates, &usable, current)?;
        self.hold(key, candidates, &choice);
        Some(choice)
    }

    /// What would be chosen, of the `usable` candidates; nothing is remembered of it.
    pub fn weigh(
        &self,
        key: &K,
        candidates: &[Candidate],
        usable: &[bool],
        current: Option<usize>,
    ) -> Option<Choice> {
        let fallback = usable.iter().position(|usable| *usable)?;
        let pair = self.pairs.get(key).copied();
        let costs = candidates.iter().zip(usable).map(|(candidate, usable)| self.costs(candidate, *usable));
        let costs: Vec<[f32; 3]> = costs.collect();
        let advised = Expert::ALL.map(|expert| advice(expert, &costs, fallback, usable));
        let margin = self.links.all.tuning.reference_margin * self.newest(&candidates[0]).max(1.0);
        let (mut expert, scores) = self.records.follow(pair, margin);
        if expert == Expert::Reference && !usable[0] {
            expert = Expert::By(self.records.deciding(expert));
        }
        let deciding = self.records.deciding(expert);
        let cost = |candidate: usize| costs[candidate][deciding as usize];
        let wanted = advised[expert.index()];
        let margin = self.margins.of(pair, cost(wanted));
        let current = current.filter(|candidate| usable.get(*candidate) == Some(&true));
        let stays = current.filter(|current| {
            let present = cost(*current);
            present.is_finite() && (cost(wanted) + margin > present || cost(wanted).is_infinite())
        });
        let candidate = stays.unwrap_or(wanted);
        let standings = Expert::ALL.map(|expert| self.records.standing(pair, expert, scores[expert.index()]));
        // Who stays on the reference path does so whatever the others are forecast to cost.
        let others = if expert == Expert::Reference { &costs[..1] } else { &costs[..] };
        let flip = Flip::of(candidate, others, deciding, self.margins.tempting(pair, cost(candidate)));
        Some(Choice { candidate, wanted, expert, deciding, margin, standings, advised, costs, flip })
    }

    /// The choice is taken: it is scored with the samples that come.
    pub fn hold(&mut self, key: K, candidates: &[Candidate], choice: &Choice) {
        let pair = self.pair(key);
        self.held[pair] = Some(Held {
            reference: candidates[0].clone(),
            advised: choice.advised.map(|candidate| candidates[candidate].clone()),
            taken: candidates[choice.candidate].clone(),
            forecast: choice.cost(),
        });
    }

    /// Of what is remembered of pairs, without what allocation adds.
    pub fn bytes_of_pairs(&self) -> usize {
        let held = self.held.iter().flatten().map(|held| {
            let links = |candidate: &Candidate| size_of::<usize>() * candidate.links.len();
            links(&held.reference) + links(&held.taken) + held.advised.iter().map(links).sum::<usize>()
        });
        let pairs = self.held.len() * (size_of::<Option<Held>>() + 28);
        held.sum::<usize>() + pairs + self.pairs.len() * (size_of::<K>() + size_of::<usize>())
    }

    fn pair(&mut self, key: K) -> usize {
        let next = self.held.len();
        let pair = *self.pairs.entry(key).or_insert_with(|| self.free.pop().unwrap_or(next));
        if pair == next {
            self.held.push(None);
            self.records.grow(next + 1);
            self.margins.grow(next + 1);
        }
        pair
    }

    /// By each forecast; infinite where it cannot be used or is not known.
    fn costs(&self, candidate: &Candidate, usable: bool) -> [f32; Forecast::ALL.len()] {
        Forecast::ALL.map(|by| {
            let cost = candidate.cost(self.links.each().map(|links| links.forecasts(by)));
            if usable && !cost.is_nan() { cost } else { f32::INFINITY }
        })
    }

    /// By the newest samples.
    fn newest(&self, candidate: &Candidate) -> f32 {
        let last = |link| self.links.each().map(|links| links.last(link));
        candidate.weight.sum(&candidate.links, last) + candidate.extra
    }
}

/// The candidate that an expert takes; the first of equals, the reference or else the first usable when none is known.
fn advice(expert: Expert, costs: &[[f32; 3]], fallback: usize, usable: &[bool]) -> usize {
    let Expert::By(forecast) = expert else {
        return if usable[0] { 0 } else { fallback };
    };
    let known = (0..costs.len()).filter(|candidate| costs[*candidate][forecast as usize].is_finite());
    known
        .min_by(|a, b| costs[*a][forecast as usize].total_cmp(&costs[*b][forecast as usize]))
        .unwrap_or(fallback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::{Chance, HOUR, noisy_mesh};
    use crate::choice::mesh::{Mesh, NONE, Relay};

    const RELAY: f32 = 0.5;

    /// Direct, and over every relay.
    fn candidates(nodes: usize, from: usize, to: usize) -> Vec<Candidate> {
        let direct = Candidate { links: vec![from * nodes + to], weight: Weight::USUAL, extra: 0.0 };
        let relays = (0..nodes).filter(|relay| *relay != from && *relay != to);
        let over = |relay| {
            let links = vec![from * nodes + relay, relay * nodes + to];
            Candidate { links, weight: Weight::USUAL, extra: RELAY }
        };
        std::iter::once(direct).chain(relays.map(over)).collect()
    }

    fn relay_of(candidate: &Candidate, nodes: usize) -> Relay {
        (candidate.links[0] % nodes) as Relay
    }

    #[test]
    fn on_a_full_mesh_it_chooses_what_the_fast_special_case_chooses() {
        let nodes = 6;
        let frames = noisy_mesh(nodes, 80, 3);
        let mut mesh = Mesh::new(nodes, RELAY, Tuning::every(HOUR));
        let mut chooser = Chooser::new(Tuning::every(HOUR));
        chooser.links.all = Links::mesh(nodes, Tuning::every(HOUR));
        chooser.links.rtt = chooser.links.all.clone();
        let mut current = vec![NONE; nodes * nodes];
        let mut relayed = 0;
        for (samples, next) in frames.iter().zip(&frames[1..]) {
            mesh.see(samples);
            chooser.see(Priced::both(samples));
            let before = current.clone();
            mesh.choose(next, &mut current);
            for pair in (0..nodes * nodes).filter(|pair| !next[*pair].is_nan()) {
                let paths = candidates(nodes, pair / nodes, pair % nodes);
                let used = paths.iter().position(|path| relay_of(path, nodes) == before[pair]);
                let choice = chooser.choose(pair, &paths, used, |link| !next[link].is_nan()).expect("a path");
                assert_eq!(relay_of(&paths[choice.candidate], nodes), current[pair], "pair {pair}");
                relayed += usize::from(choice.candidate != 0);
            }
        }
        assert!(relayed > 100, "only {relayed} of the choices were a relay");
    }

    /// Two nodes, a direct link (0) and a way over a third node (1, 2).
    fn triangle() -> (Chooser<u8>, [Candidate; 2]) {
        let mut chooser = Chooser::new(Tuning::every(HOUR));
        for (from, to) in [(0, 1), (0, 2), (2, 1)] {
            chooser.add_link(from, to);
        }
        let over = Candidate { links: vec![1, 2], weight: Weight::USUAL, extra: RELAY };
        (chooser, [Candidate { links: vec![0], weight: Weight::USUAL, extra: 0.0 }, over])
    }

    fn settled(samples: impl Fn(usize) -> [f32; 3], steps: usize) -> (Chooser<u8>, Choice) {
        let (mut chooser, paths) = triangle();
        let mut current = None;
        let mut last = None;
        for step in 0..steps {
            chooser.see(Priced::both(&samples(step)));
            let choice = chooser.choose(7, &paths, current, |_| true).expect("a path");
            current = Some(choice.candidate);
            last = Some(choice);
        }
        (chooser, last.expect("a step"))
    }

    #[test]
    fn a_relay_that_is_surely_better_is_taken_and_the_reason_is_its_record() {
        let (_, choice) = settled(|step| [100.0 + (step % 3) as f32, 20.0, 30.0], 40);
        assert_eq!(choice.candidate, 1);
        assert_ne!(choice.expert, Expert::Reference);
        let standing = choice.standings[choice.expert.index()];
        // An excess counts up to half of the mesh's mean cost.
        assert!(standing.own < -20.0 && standing.evidence > 20.0, "{standing:?}");
        let flip = choice.flip.expect("another candidate");
        assert_eq!(flip.candidate, 0);
        assert!(flip.by > 45.0 && flip.by < 60.0, "{flip:?}");
    }

    #[test]
    fn on_heavy_noise_with_equal_means_it_stays_where_it_is() {
        let mut chance = Chance(11);
        let mut frames = Vec::new();
        for _ in 0..300 {
            frames.push([0, 1, 2].map(|link| (if link == 0 { 100.0 } else { 50.0 }) * chance.heavy()));
        }
        let (mut chooser, paths) = triangle();
        let (mut current, mut moves) = (None, 0);
        for (step, frame) in frames.iter().enumerate() {
            chooser.see(Priced::both(frame));
            let choice = chooser.choose(1, &paths, current, |_| true).expect("a path").candidate;
            moves += usize::from(step > 60 && current != Some(choice));
            current = Some(choice);
        }
        assert!(moves <= 12, "{moves} moves in 240 steps");
    }

    #[test]
    fn the_flip_is_what_it_takes() {
        let (chooser, choice) = settled(|_| [50.0, 30.0, 30.0], 30);
        assert_eq!(choice.candidate, 0);
        let flip = choice.flip.expect("another candidate");
        let temptation = choice.costs[1][choice.deciding as usize] - flip.by;
        let margin = chooser.margins.of(Some(0), temptation);
        assert!((temptation + margin - choice.costs[0][choice.deciding as usize]).abs() < 1e-2);
    }

    #[test]
    fn a_path_that_is_not_available_is_left_and_without_any_there_is_no_choice() {
        let (mut chooser, choice) = settled(|_| [100.0, 20.0, 30.0], 20);
        let (_, paths) = triangle();
        assert_eq!(choice.candidate, 1);
        let other = chooser.choose(7, &paths, Some(1), |link| link != 2).expect("the direct path");
        assert_eq!(other.candidate, 0);
        assert!(other.costs[1][0].is_infinite());
        let relay = chooser.choose(7, &paths, Some(0), |link| link != 0).expect("the relay");
        assert_eq!(relay.candidate, 1);
        assert!(chooser.choose(7, &paths, Some(0), |link| link == 1).is_none());
        assert!(chooser.choose(7, &[], None, |_| true).is_none());
    }

    #[test]
    fn links_and_pairs_that_went_leave_nothing_to_those_that_come() {
        let (mut chooser, _) = settled(|_| [100.0, 20.0, 30.0], 20);
        let (_, paths) = triangle();
        chooser.remove_link(1);
        assert_eq!(chooser.add_link(0, 2), 1);
        let choice = chooser.choose(7, &paths, None, |_| true).expect("a path");
        assert_eq!(choice.candidate, 0, "of the new link nothing is known: {choice:?}");
        chooser.forget(&7);
        chooser.forget(&7);
        let fresh = chooser.choose(8, &paths, None, |_| true).expect("a path");
        assert_eq!(fresh.standings[0].evidence, 0.0);
        assert_eq!(chooser.pairs.len(), 1);
        assert_eq!(chooser.held.len(), 1, "the index was given again");
    }

    #[test]
    fn before_any_sample_the_reference_is_taken() {
        let (mut chooser, paths) = triangle();
        let choice = chooser.choose(1, &paths, None, |_| true).expect("a path");
        assert_eq!((choice.candidate, choice.flip), (0, None));
    }
}
