//! The choice among the paths of the circuits of a running fabric: a frame of what was measured of the links every few seconds, and
//! what each circuit was last seen to be able to choose from.
use super::chooser::{Candidate, Chooser};
use super::priced::{Priced, Weight};
use super::reasons::Choice;
use super::tuning::Tuning;
use proto_model::circuit::Path;
use proto_model::topology::LinkId;
use proto_model::{CircuitId, NodeName, PathId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Paths that a circuit chooses from, at most: the one that it was placed on, the one that it has, and the cheapest others.
pub const MOST: usize = 10;

/// What one circuit can choose from, as of the last look.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first is the reference: the path that the circuit was on when it was first looked at, while it is there.
    pub candidates: Vec<Candidate>,
    pub usable: Vec<bool>,
    /// The path in use, by index and by number.
    pub here: usize,
    pub path: PathId,
    /// Which of the paths that were offered each one is.
    pub offered: Vec<Option<usize>>,
}

/// A path that may be taken, and what it costs beside its links' samples.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    pub path: &'a Path,
    pub extra: f32,
}

/// Links have one cost in both directions; to the forecasts they are two, as in a full mesh.
///
/// Bounds are the caller's: links of the topology, circuits that are [kept](Self::keep) and not [forgotten](Self::forget).
#[derive(Clone, Debug)]
pub struct Live {
    chooser: Chooser<CircuitId>,
    links: BTreeMap<LinkId, [usize; 2]>,
    /// By the chooser's index; true: from the link's second end to its first.
    names: Vec<Option<(LinkId, bool)>>,
    /// With how many links each has.
    nodes: BTreeMap<NodeName, (usize, usize)>,
    /// Indexes of nodes that went.
    free: Vec<usize>,
    circuits: BTreeMap<CircuitId, Options>,
    frame: Priced<Vec<f32>>,
    /// Frames that were seen.
    frames: u64,
}

impl Live {
    /// A frame is seen once in a `step`.
    pub fn new(step: Duration) -> Self {
        Self {
            chooser: Chooser::new(Tuning::every(step)),
            links: BTreeMap::new(),
            names: Vec::new(),
            nodes: BTreeMap::new(),
            free: Vec::new(),
            circuits: BTreeMap::new(),
            frame: Priced::default(),
            frames: 0,
        }
    }

    pub fn knows(&self, link: &LinkId) -> bool {
        self.links.contains_key(link)
    }

    /// A link that is new, and what was measured of it before, oldest first.
    pub fn join(&mut self, link: &LinkId, before: &[Priced<f32>]) {
        if self.knows(link) {
            return;
        }
        let (a, b) = link.ends();
        let [a, b] = [a, b].map(|end| self.node(end));
        let both = [(a, b), (b, a)].map(|(from, to)| self.chooser.add_link(from, to));
        for (index, turned) in both.into_iter().zip([false, true]) {
            self.names.resize(self.names.len().max(index + 1), None);
            self.names[index] = Some((link.clone(), turned));
            self.chooser.recall(index, before);
        }
        self.links.insert(link.clone(), both);
    }

    fn node(&mut self, name: &NodeName) -> usize {
        let next = self.nodes.len() + self.free.len();
        let free = &mut self.free;
        let (index, links) =
            self.nodes.entry(name.clone()).or_insert_with(|| (free.pop().unwrap_or(next), 0));
        *links += 1;
        *index
    }

    /// Forgets links that are there no longer, and circuits' choices over them.
    pub fn retain(&mut self, is_there: impl Fn(&LinkId) -> bool) {
        let gone: Vec<LinkId> = self.links.keys().filter(|link| !is_there(link)).cloned().collect();
        for link in gone {
            for index in self.links.remove(&link).into_iter().flatten() {
                self.chooser.remove_link(index);
                self.names[index] = None;
                let uses =
                    |options: &Options| options.candidates.iter().any(|one| one.links.contains(&index));
                self.circuits.retain(|_, options| !uses(options));
            }
            let (a, b) = link.ends();
            [a, b].into_iter().for_each(|end| self.leave(end));
        }
    }

    fn leave(&mut self, name: &NodeName) {
        let Some((index, links)) = self.nodes.get_mut(name) else { return };
        *links -= 1;
        if *links == 0 {
            self.free.push(*index);
            self.nodes.remove(name);
        }
    }

    /// What was measured of the links since the last frame; of those that are not in it nothing was.
    pub fn see<'a>(&mut self, samples: impl Iterator<Item = (&'a LinkId, Priced<f32>)>) {
        let Priced { all, rtt } = &mut self.frame;
        for frame in [&mut *all, &mut *rtt] {
            frame.clear();
            frame.resize(self.names.len(), f32::NAN);
        }
        for (link, sample) in samples {
            for index in self.links.get(link).into_iter().flatten() {
                (all[*index], rtt[*index]) = (sample.all, sample.rtt);
            }
        }
        self.frames += 1;
        self.chooser.see(self.frame.each().map(Vec::as_slice));
    }

    /// What a circuit can choose from: `here`, and others by cost. None: of a link of `here` nothing was ever measured.
    ///
    /// `weight` is what the links' samples count for.
    pub fn options(
        &self,
        id: CircuitId,
        here: Offered<'_>,
        others: &[Offered<'_>],
        weight: Weight,
    ) -> Option<Options> {
        let candidate =
            |of: &Offered<'_>| Some(Candidate { links: self.walk(of.path)?, weight, extra: of.extra });
        let current = candidate(&here)?;
        let old = self.circuits.get(&id).map(|options| &options.candidates[0]);
        let reference = old.filter(|old| old.links != current.links).cloned();
        let mut options = Options {
            here: usize::from(reference.is_some()),
            usable: reference.iter().map(|_| false).collect(),
            offered: reference.iter().map(|_| None).collect(),
            candidates: reference.into_iter().collect(),
            path: crate::path_id::of(here.path),
        };
        options.push(current, None);
        for (at, other) in others.iter().enumerate() {
            let Some(other) = candidate(other) else { continue };
            if options.here == 1 && options.candidates[0].links == other.links {
                (options.candidates[0], options.usable[0], options.offered[0]) = (other, true, Some(at));
            } else if options.candidates.len() < MOST {
                options.push(other, Some(at));
            }
        }
        Some(options)
    }

    /// The links from the path's first host on.
    fn walk(&self, path: &Path) -> Option<Vec<usize>> {
        let steps = path.links.iter().zip(&path.nodes);
        steps.map(|(link, from)| Some(self.links.get(link)?[usize::from(link.ends().0 != from)])).collect()
    }

    /// Stays where nobody can say that another path is better, because the cost of one of them is not known.
    pub fn weigh(&self, id: CircuitId, options: &Options) -> Option<Choice> {
        let choice = self.chooser.weigh(&id, &options.candidates, &options.usable, Some(options.here))?;
        let known = |at: usize| choice.costs[at][choice.deciding as usize].is_finite();
        let decided = known(options.here) && known(choice.candidate);
        Some(Choice { candidate: if decided { choice.candidate } else { options.here }, ..choice })
    }

    /// What the circuit can choose from until the next look.
    pub fn keep(&mut self, id: CircuitId, options: Options) {
        if let Some(choice) = self.weigh(id, &options) {
            self.chooser.hold(id, &options.candidates, &choice);
        }
        self.circuits.insert(id, options);
    }

    /// Another frame was seen: whether the circuit, which is on this path, should be looked at because its choice may be another one
    /// now.
    pub fn reconsider(&mut self, id: CircuitId, path: &Path) -> bool {
        if self.circuits.get(&id).is_some_and(|options| options.path != crate::path_id::of(path)) {
            let known = self.kept_on(id, path);
            match known {
                Some(options) => self.circuits.insert(id, options),
                None => self.circuits.remove(&id),
            };
        }
        let Some(options) = self.circuits.get(&id) else { return true };
        let choice = self.weigh(id, options);
        choice.is_some_and(|choice| {
            self.chooser.hold(id, &options.candidates, &choice);
            choice.candidate != options.here
        })
    }

    /// What a circuit can choose from while it is on this path: perhaps it has moved since the last look.
    pub fn kept_on(&self, id: CircuitId, path: &Path) -> Option<Options> {
        let options = self.circuits.get(&id)?;
        let links = self.walk(path)?;
        let here = options.candidates.iter().position(|candidate| candidate.links == links)?;
        let mut options = Options { here, path: crate::path_id::of(path), ..options.clone() };
        options.usable[here] = true;
        Some(options)
    }

    /// What was learned of a circuit is forgotten.
    pub fn forget(&mut self, id: CircuitId) {
        self.circuits.remove(&id);
        self.chooser.forget(&id);
    }

    /// The path of a candidate that begins at this host; none: a link of it went.
    pub fn path(&self, candidate: &Candidate, from: &NodeName) -> Option<Path> {
        let mut path = Path { nodes: vec![from.clone()], links: Vec::new() };
        for index in &candidate.links {
            let (link, turned) = self.names.get(*index)?.as_ref()?;
            let (a, b) = link.ends();
            path.nodes.push(if *turned { a } else { b }.clone());
            path.links.push(link.clone());
        }
        Some(path)
    }

    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Of what is remembered of circuits, without what allocation adds.
    pub fn bytes_of_circuits(&self) -> usize {
        let of = |candidate: &Candidate| size_of::<Candidate>() + size_of::<usize>() * candidate.links.len();
        let options = self.circuits.values().map(|options| {
            size_of::<Options>() + options.candidates.iter().map(|one| of(one) + 17).sum::<usize>()
        });
        options.sum::<usize>() + self.chooser.bytes_of_pairs()
    }
}

impl Options {
    fn push(&mut self, candidate: Candidate, offered: Option<usize>) {
        self.candidates.push(candidate);
        self.usable.push(true);
        self.offered.push(offered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::records::Expert;

    fn link(one: &str, other: &str) -> LinkId {
        let name = |text: &str| text.parse().expect("a name");
        LinkId::new(name(one), name(other), "wan".parse().expect("a name")).expect("two ends")
    }

    fn path(nodes: &[&str]) -> Path {
        let links = nodes.windows(2).map(|pair| link(pair[0], pair[1])).collect();
        Path { nodes: nodes.iter().map(|node| node.parse().expect("a name")).collect(), links }
    }

    const STEP: Duration = Duration::from_secs(4);
    const WIRES: [(&str, &str); 4] = [("a", "t"), ("t", "z"), ("a", "u"), ("u", "z")];
    const ID: CircuitId = CircuitId(7);

    /// Two ways from z to a, against the order of the links' ends.
    fn ways() -> [Path; 2] {
        [path(&["z", "t", "a"]), path(&["z", "u", "a"])]
    }

    fn joined(before: &[f32]) -> Live {
        let mut live = Live::new(STEP);
        let before: Vec<Priced<f32>> = before.iter().copied().map(Priced::both).collect();
        WIRES.iter().for_each(|(one, other)| live.join(&link(one, other), &before));
        live
    }

    fn see(live: &mut Live, samples: [f32; 4]) {
        let links: Vec<LinkId> = WIRES.iter().map(|(one, other)| link(one, other)).collect();
        live.see(links.iter().zip(samples.map(Priced::both)));
    }

    fn offered(path: &Path) -> Offered<'_> {
        Offered { path, extra: 1.0 }
    }

    fn look(live: &mut Live, here: usize) -> Options {
        let ways = ways();
        let options = live.options(ID, offered(&ways[here]), &[offered(&ways[1 - here])], Weight::USUAL);
        let options = options.expect("all links were measured");
        live.keep(ID, options.clone());
        options
    }

    #[test]
    fn a_path_is_the_sum_of_its_links_in_either_direction_and_can_be_named_again() {
        let mut live = joined(&[]);
        see(&mut live, [10.0, 20.0, 40.0, 50.0]);
        let options = look(&mut live, 0);
        let choice = live.weigh(ID, &options).expect("a choice");
        assert!((choice.costs[0][0] - 31.0).abs() < 1e-3 && (choice.costs[1][0] - 91.0).abs() < 1e-3);
        let [first, second] = ways();
        let z = &first.nodes[0];
        assert_eq!(live.path(&options.candidates[0], z), Some(first.clone()));
        assert_eq!(live.path(&options.candidates[1], z), Some(second));
    }

    #[test]
    fn a_circuit_is_to_be_looked_at_when_another_way_became_better_and_not_before() {
        let mut live = joined(&[]);
        see(&mut live, [10.0, 10.0, 20.0, 20.0]);
        assert!(live.reconsider(ID, &ways()[0]), "nobody has looked for its paths yet");
        let options = look(&mut live, 0);
        for _ in 0..20 {
            see(&mut live, [10.0, 10.0, 20.0, 20.0]);
            assert!(!live.reconsider(ID, &ways()[options.here]));
        }
        for _ in 0..4 {
            see(&mut live, [50.0, 10.0, 20.0, 20.0]);
        }
        assert!(live.reconsider(ID, &ways()[options.here]));
    }

    #[test]
    fn the_path_that_it_was_on_first_stays_the_reference() {
        let mut live = joined(&[20.0; 5]);
        see(&mut live, [20.0; 4]);
        look(&mut live, 0);
        let moved = look(&mut live, 1);
        assert_eq!((moved.here, moved.candidates.len(), &moved.offered[..]), (1, 2, &[Some(0), None][..]));
        assert!(moved.usable.iter().all(|usable| *usable));
        let [_, second] = ways();
        let alone = live.options(ID, offered(&second), &[], Weight::USUAL).expect("known");
        assert_eq!(alone.usable, [false, true], "the reference does not serve at the moment");
        let choice = live.weigh(ID, &alone).expect("a choice");
        assert_eq!(choice.candidate, 1);
        assert_ne!(choice.expert, Expert::Reference);
    }

    #[test]
    fn of_a_path_over_a_link_that_was_never_seen_nothing_is_said() {
        let mut live = Live::new(STEP);
        live.join(&link("a", "t"), &[]);
        let [first, _] = ways();
        assert!(live.options(ID, offered(&first), &[], Weight::USUAL).is_none());
    }

    #[test]
    fn a_circuit_that_moved_chooses_from_the_same_paths_until_the_next_look() {
        let mut live = joined(&[20.0; 5]);
        see(&mut live, [20.0; 4]);
        look(&mut live, 0);
        assert!(!live.reconsider(ID, &ways()[1]), "both cost the same");
        assert_eq!(live.kept_on(ID, &ways()[1]).map(|options| options.here), Some(1));
        let elsewhere = path(&["z", "t", "a", "u"]);
        assert!(live.kept_on(ID, &elsewhere).is_none());
        assert!(live.reconsider(ID, &elsewhere), "its paths are to be sought");
    }

    #[test]
    fn links_that_went_leave_nothing_and_their_numbers_are_given_again() {
        let mut live = joined(&[20.0; 5]);
        look(&mut live, 0);
        let (links, nodes) = (live.names.len(), live.nodes.len());
        live.retain(|id| *id != link("a", "u") && *id != link("u", "z"));
        assert!(live.kept_on(ID, &ways()[0]).is_none(), "one of its ways is gone");
        live.join(&link("a", "w"), &[]);
        live.join(&link("w", "z"), &[]);
        assert_eq!((live.names.len(), live.nodes.len(), live.free.len()), (links, nodes, 0));
        live.forget(ID);
        assert_eq!(live.bytes_of_circuits(), live.chooser.bytes_of_pairs());
    }

    #[test]
    fn what_was_measured_before_is_known_at_once() {
        let mut live = joined(&[30.0; 40]);
        see(&mut live, [f32::NAN; 4]);
        let options = look(&mut live, 0);
        let choice = live.weigh(ID, &options).expect("a choice");
        assert!((choice.cost() - 61.0).abs() < 0.1, "{}", choice.cost());
    }

    #[test]
    fn where_latency_costs_nothing_the_rest_decides() {
        const NOTHING: Weight = Weight { rtt: 0.0, loss: 0.0 };
        let mut live = joined(&[]);
        see(&mut live, [90.0, 90.0, 1.0, 1.0]);
        let ways = ways();
        let dear = Offered { path: &ways[1], extra: 9.0 };
        let options = live.options(ID, offered(&ways[0]), &[dear], NOTHING).expect("known");
        let choice = live.weigh(ID, &options).expect("a choice");
        assert_eq!((choice.candidate, choice.cost()), (0, 1.0));
    }

    #[test]
    fn of_two_circuits_with_the_same_ways_each_weighs_loss_by_itself() {
        let mut live = joined(&[]);
        let links = WIRES.map(|(one, other)| link(one, other));
        // The first way is quick and loses what usually costs 40 ms.
        let samples = [(5.0, 25.0), (5.0, 25.0), (15.0, 15.0), (15.0, 15.0)];
        let samples = samples.map(|(rtt, all)| Priced { all, rtt });
        let ways = ways();
        let other = CircuitId(8);
        for (id, weight) in [(ID, Weight::USUAL), (other, Weight { rtt: 1.0, loss: 0.0 })] {
            live.see(links.iter().zip(samples));
            let options = live.options(id, offered(&ways[1]), &[offered(&ways[0])], weight).expect("known");
            live.keep(id, options);
        }
        for _ in 0..30 {
            live.see(links.iter().zip(samples));
            live.reconsider(ID, &ways[1]);
            live.reconsider(other, &ways[1]);
        }
        assert!(!live.reconsider(ID, &ways[1]), "51 instead of 31");
        assert!(live.reconsider(other, &ways[1]), "11 instead of 31");
    }
}
