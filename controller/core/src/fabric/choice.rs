//! Lets circuits choose among the paths that keep their bounds by cost: what was measured goes into frames, and what each circuit can
//! choose from is kept between two looks.
use super::Fabric;
use crate::choice::live::{MOST, Offered, Options};
use crate::choice::priced::{Priced, Weight};
use crate::choice::reasons::{Choice, Flip};
use crate::choice::records::Expert;
use crate::circuit::{Circuit, Phase};
use crate::route::reroute::Reason;
use crate::telemetry::{Bucket, Resolution, Store};
use crate::topology::Link;
use proto_model::choice as shown;
use proto_model::plan::{Candidate, Weights};
use proto_model::topology::LinkId;
use proto_model::{CircuitId, Timestamp};
use std::ops::Bound;
use std::time::Duration;

/// Frames that are made up for after a pause: what is older is in nobody's levels any more.
const MOST_FRAMES: u64 = 50;
/// What is sought for one circuit.
pub(super) struct Asked<'a> {
    pub(super) id: CircuitId,
    pub(super) weights: &'a Weights,
    pub(super) here: &'a Candidate,
}

impl Fabric {
    /// Shows the frames that are complete to the choice, and notes which circuits may choose another path now.
    pub(super) fn see_frames(&mut self, now: Timestamp) {
        let step = self.settings.reroute.step;
        let number = now.0 / step.as_nanos() as u64;
        let next = *self.next_frame.get_or_insert(number);
        if number <= next {
            return;
        }
        let topology = &self.topology;
        self.choice.retain(|link| topology.link(link).is_some());
        self.join_links(number);
        for frame in next.max(number.saturating_sub(MOST_FRAMES))..number {
            let samples = self.frame(frame);
            self.choice.see(samples.iter().map(|(link, sample)| (link, *sample)));
        }
        self.next_frame = Some(number);
        self.reconsider();
    }

    /// New links begin with what telemetry remembers of them, which outlives a restart.
    fn join_links(&mut self, number: u64) {
        let new = self.topology.graph().edge_weights().filter(|link| !self.choice.knows(&link.id));
        let new: Vec<(LinkId, Vec<Priced<f32>>)> = new
            .map(|link| {
                let past = number.saturating_sub(MOST_FRAMES)..self.next_frame.unwrap_or(number);
                let samples = past.filter_map(|frame| self.sample(link, frame));
                (link.id.clone(), samples.collect())
            })
            .collect();
        for (link, before) in new {
            self.choice.join(&link, &before);
        }
    }

    fn frame(&self, frame: u64) -> Vec<(LinkId, Priced<f32>)> {
        let links = self.topology.graph().edge_weights();
        links.filter_map(|link| Some((link.id.clone(), self.sample(link, frame)?))).collect()
    }

    /// What a link was seen to cost within a frame, in milliseconds; none: nothing was measured.
    fn sample(&self, link: &Link, frame: u64) -> Option<Priced<f32>> {
        let step = self.settings.reroute.step;
        let seen = Seen::within(self.forecasts.history(), &link.id, frame, step);
        let rtt = link.values.rtt.map(|rtt| rtt.as_millis_f64() as f32).or(seen.rtt)?;
        let loss = match link.values.loss {
            proto_model::Loss::NONE => seen.loss.unwrap_or(0.0),
            loss => loss.ppm() as f32 / 1e6,
        };
        Some(Priced { all: rtt + loss * 100.0 * self.price_of_loss() as f32, rtt })
    }

    /// What a per cent of loss usually costs, as milliseconds.
    fn price_of_loss(&self) -> f64 {
        let price = |weights: &Weights| {
            let counts = weights.rtt > 0.0 && weights.loss > 0.0;
            counts.then(|| weights.loss / weights.rtt)
        };
        price(&self.settings.weights).or_else(|| price(&Weights::default())).unwrap_or(1.0)
    }

    /// Those whose choice may be another one now come first at the next looks, in turn.
    fn reconsider(&mut self) {
        let mut eager = Vec::new();
        for circuit in self.circuits.iter() {
            if let Phase::Active { route } = &circuit.phase
                && self.choice.reconsider(circuit.id, &route.path)
            {
                eager.push(circuit.id);
            }
        }
        eager.retain(|id| self.may_move(*id, self.topology.now()));
        self.eager = eager.into_iter().collect();
    }

    pub(super) fn next_eager(&mut self) -> Option<CircuitId> {
        let mut after = self.eager.range((Bound::Excluded(self.preferred), Bound::Unbounded));
        let id = *after.next().or_else(|| self.eager.first())?;
        self.eager.remove(&id);
        self.preferred = id;
        Some(id)
    }

    /// The path to take instead of the present one, if the circuit chooses one; of those that serve, the cheapest first.
    ///
    /// `may` says whether one that is chosen can be taken after all. What was chosen from goes into `options`.
    pub(super) fn choose_by_cost<'a>(
        &self,
        asked: &Asked<'_>,
        serving: &[&'a Candidate],
        may: impl Fn(&Candidate) -> bool,
        options: &mut Option<Options>,
    ) -> Option<(&'a Candidate, Reason)> {
        let Asked { id, weights, here } = *asked;
        let mut serving = serving.to_vec();
        serving.truncate(MOST);
        let weight = self.weight(weights);
        loop {
            let offers: Vec<Offered<'_>> = serving.iter().map(|candidate| offer(candidate)).collect();
            let found = self.choice.options(id, offer(here), &offers, weight)?;
            let choice = self.choice.weigh(id, &found)?;
            let to = found.offered[choice.candidate];
            let here = choice.costs[found.here][choice.deciding as usize];
            *options = Some(found);
            let at = to?;
            if may(serving[at]) {
                let (there, margin) = (f64::from(choice.cost()), f64::from(choice.margin));
                let by = choice.expert.word();
                return Some((serving[at], Reason::Cost { here: f64::from(here), there, margin, by }));
            }
            serving.remove(at);
        }
    }

    /// What the samples of links count for a circuit with these weights.
    fn weight(&self, weights: &Weights) -> Weight {
        let (rtt, loss) = (weights.rtt as f32, (weights.loss / self.price_of_loss()) as f32);
        Weight { rtt, loss }
    }

    /// How the paths of a circuit compare now.
    pub(super) fn shown_choice(&self, id: CircuitId) -> Option<shown::Choice> {
        let circuit = self.circuits.get(id)?;
        let path = &circuit.phase.route()?.path;
        let options = self.choice.kept_on(id, path)?;
        let choice = self.choice.weigh(id, &options)?;
        let first = path.nodes.first()?;
        let way = |at: usize| {
            let [agile, steady, shrunk] = choice.costs[at].map(known);
            let (candidate, usable) = (&options.candidates[at], options.usable[at]);
            let path = self.choice.path(candidate, first)?;
            Some(shown::Way { path, beside: candidate.extra.into(), agile, steady, shrunk, usable })
        };
        let ways: Option<Vec<shown::Way>> = (0..options.candidates.len()).map(way).collect();
        let expert = |at: usize| {
            let standing = &choice.standings[at];
            shown::Expert {
                name: standing.expert.word().into(),
                advises: choice.advised[at],
                own: standing.own.into(),
                all: standing.mesh.into(),
                evidence: standing.evidence.into(),
                prior: standing.prior.into(),
                score: standing.score.into(),
            }
        };
        Some(shown::Choice {
            ways: ways?,
            here: options.here,
            wanted: choice.wanted,
            chosen: choice.candidate,
            expert: choice.expert.word().into(),
            by: choice.deciding.word().into(),
            margin: finite(choice.margin),
            experts: (0..Expert::ALL.len()).map(expert).collect(),
            flip: flip(&choice),
            step: self.settings.reroute.step,
            held: if choice.candidate == options.here { String::new() } else { self.why_held(circuit) },
        })
    }

    fn why_held(&self, circuit: &Circuit) -> String {
        let now = self.topology.now();
        if let Some(moving) = &circuit.moving {
            return format!("it moves to {} since {}", moving.to, moving.since);
        }
        let rests = circuit.moved.as_ref().map(|moved| moved.at.plus(moved.rest(self.settings.reroute.rest)));
        match rests.filter(|until| *until > now) {
            Some(until) => format!("it rests until {until}, after its last move"),
            None if self.may_move(circuit.id, now) => "it is looked for paths anew soon".into(),
            None => {
                "it stays where it is: its path is fixed, an end is on its backup, or it leaves another path"
                    .into()
            }
        }
    }
}

fn flip(choice: &Choice) -> Option<shown::Flip> {
    let Flip { candidate, by } = choice.flip?;
    let now = choice.costs[candidate][choice.deciding as usize];
    Some(shown::Flip { way: candidate, below: finite(now - by), now: finite(now) })
}

fn known(cost: f32) -> Option<f64> {
    cost.is_finite().then_some(cost.into())
}

fn finite(value: f32) -> f64 {
    if value.is_finite() { value.into() } else { 0.0 }
}

/// What a path costs beside the samples of its links.
fn offer(candidate: &Candidate) -> Offered<'_> {
    // A link that is not measured at the moment keeps its forecasts.
    let beside =
        candidate.terms.iter().filter(|term| !matches!(term.name.as_str(), "rtt" | "unknown" | "loss"));
    Offered { path: &candidate.path, extra: beside.map(|term| term.cost).sum::<f64>() as f32 }
}

/// Means of what hosts reported of a link within a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    rtt: Option<f32>,
    /// A share, of the worse direction.
    loss: Option<f32>,
}

impl Seen {
    fn within(history: &Store<LinkId>, link: &LinkId, frame: u64, step: Duration) -> Self {
        let start = |frame: u64| Timestamp(frame.saturating_mul(step.as_nanos() as u64));
        let numbers = [frame, frame + 1].map(|frame| Resolution::Seconds.number(start(frame)));
        let buckets = (numbers[0]..numbers[1].max(numbers[0] + 1))
            .filter_map(|number| history.closed(link, Resolution::Seconds, number));
        let (mut rtt, mut loss) = (Mean::default(), Mean::default());
        for bucket in buckets {
            let Bucket { rtt: seen, loss: lost, .. } = bucket;
            seen.into_iter().for_each(|seen| rtt.add(seen.mean));
            lost.into_iter().flatten().reduce(f32::max).into_iter().for_each(|lost| loss.add(lost));
        }
        Self { rtt: rtt.get(), loss: loss.get() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f32,
    count: f32,
}

impl Mean {
    fn add(&mut self, value: f32) {
        self.sum += value;
        self.count += 1.0;
    }

    fn get(self) -> Option<f32> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}
