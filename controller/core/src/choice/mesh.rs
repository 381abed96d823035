//! The choice for every pair of a full mesh at once: the direct link or one relay. Made for replays of recorded series.
use super::links::{Forecast, Links};
use super::margin::Margins;
use super::records::{EXPERTS, Expert, Records, excess};
use super::tuning::Tuning;

/// Path of a pair: over this node, or direct when it is the destination itself.
pub type Relay = u16;
/// No path was chosen yet.
pub const NONE: Relay = Relay::MAX;

/// Costs of all links made ready for a search over relays; infinite: unknown or unavailable.
#[derive(Clone, Debug)]
pub struct Costs {
    nodes: usize,
    relay: f32,
    by_source: Vec<f32>,
    by_destination: Vec<f32>,
}

/// Sums are compared in blocks of so many, which the compiler turns into vector instructions.
const LANES: usize = 16;

impl Costs {
    /// `costs` by `source * nodes + destination`; a link that is NaN in `available` cannot be used, `relay` is what a
    /// relay adds.
    pub fn new(nodes: usize, relay: f32, costs: &[f32], available: &[f32]) -> Self {
        let mut by_source = vec![f32::INFINITY; nodes * nodes];
        let mut by_destination = by_source.clone();
        for (link, cost) in costs.iter().enumerate() {
            let (from, to) = (link / nodes, link % nodes);
            if from != to && !cost.is_nan() && !available[link].is_nan() {
                by_source[link] = *cost;
                by_destination[to * nodes + from] = *cost;
            }
        }
        Self { nodes, relay, by_source, by_destination }
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The cheapest path and its cost; direct (and infinite) when no path is known.
    pub fn best(&self, from: usize, to: usize) -> (f32, Relay) {
        let leaving = &self.by_source[from * self.nodes..][..self.nodes];
        let entering = &self.by_destination[to * self.nodes..][..self.nodes];
        let mut least = [f32::INFINITY; LANES];
        let (blocks, rest) = leaving.as_chunks::<LANES>();
        let (others, other_rest) = entering.as_chunks::<LANES>();
        for (one, other) in blocks.iter().zip(others) {
            for lane in 0..LANES {
                let sum = one[lane] + other[lane];
                least[lane] = if sum < least[lane] { sum } else { least[lane] };
            }
        }
        let sums = rest.iter().zip(other_rest).map(|(one, other)| one + other);
        let least = sums.chain(least).fold(f32::INFINITY, f32::min);
        let direct = leaving[to];
        if least + self.relay < direct {
            let relay = leaving.iter().zip(entering).position(|(one, other)| one + other == least);
            return (least + self.relay, relay.unwrap_or(to) as Relay);
        }
        (direct, to as Relay)
    }

    pub fn of(&self, from: usize, to: usize, relay: Relay) -> f32 {
        along(&self.by_source, self.nodes, self.relay, (from, to), relay)
    }
}

/// Cost of one path in a table of link costs.
pub fn along(costs: &[f32], nodes: usize, relay_cost: f32, (from, to): (usize, usize), relay: Relay) -> f32 {
    let relay = usize::from(relay);
    if relay == to {
        return costs[from * nodes + to];
    }
    costs[from * nodes + relay] + costs[relay * nodes + to] + relay_cost
}

/// The policy for all pairs of a mesh. [`see`](Self::see) every step, then [`choose`](Self::choose).
#[derive(Clone, Debug)]
pub struct Mesh {
    nodes: usize,
    relay: f32,
    links: Links,
    records: Records,
    margins: Margins,
    /// Of each pair, the path that each expert would have taken in the last step.
    advised: Vec<[Relay; EXPERTS]>,
    /// The path that it had, and the forecast of its cost.
    held: Vec<(Relay, f32)>,
    /// How often each expert was followed.
    followed: [usize; EXPERTS],
}

impl Mesh {
    /// At most 65,534 nodes; `relay` is what a relay adds to a path's cost.
    pub fn new(nodes: usize, relay: f32, tuning: Tuning) -> Self {
        let pairs = nodes * nodes;
        Self {
            nodes,
            relay,
            records: Records::new(&tuning, pairs),
            margins: Margins::new(&tuning, pairs),
            links: Links::mesh(nodes, tuning),
            advised: vec![[NONE; EXPERTS]; pairs],
            held: vec![(NONE, f32::NAN); pairs],
            followed: [0; EXPERTS],
        }
    }

    pub fn links(&self) -> &Links {
        &self.links
    }

    /// How often each expert was followed, in the order of [`Expert::ALL`].
    pub fn followed(&self) -> [usize; EXPERTS] {
        self.followed
    }

    /// The samples of one step, by `source * nodes + destination`, NaN where missing.
    pub fn see(&mut self, samples: &[f32]) {
        let (nodes, relay_cost) = (self.nodes, self.relay);
        let cost = |pair, relay| along(samples, nodes, relay_cost, (pair / nodes, pair % nodes), relay);
        let limit = self.links.excess_limit();
        let scored = self.advised.iter().enumerate();
        let scored = scored.filter(|(pair, advised)| advised[0] != NONE && !samples[*pair].is_nan());
        self.records.learn(scored.map(|(pair, advised)| {
            (pair, excess(samples[pair], advised.map(|relay| cost(pair, relay)), limit))
        }));
        let held = self.held.iter().enumerate().filter(|(_, (relay, _))| *relay != NONE);
        self.margins.learn(held.map(|(pair, (relay, forecast))| (pair, *forecast, cost(pair, *relay))));
        self.links.see(samples);
    }

    /// For each pair whose direct link is available the path for the next step, from the one that it has in `current`;
    /// [`NONE`] is free to go anywhere.
    pub fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        let costs =
            Forecast::ALL.map(|by| Costs::new(self.nodes, self.relay, self.links.forecasts(by), available));
        for (pair, current) in current.iter_mut().enumerate() {
            if pair / self.nodes != pair % self.nodes && !available[pair].is_nan() {
                *current = self.choose_for(pair, *current, &costs);
            }
        }
    }

    /// As [`choose`](Self::choose), while nobody follows yet: what would have been chosen is scored all the same.
    pub fn rehearse(&mut self, available: &[f32]) {
        let mut current: Vec<Relay> = self.held.iter().map(|(relay, _)| *relay).collect();
        self.choose(available, &mut current);
    }

    fn choose_for(&mut self, pair: usize, current: Relay, costs: &[Costs; Forecast::ALL.len()]) -> Relay {
        let (from, to) = (pair / self.nodes, pair % self.nodes);
        self.advised[pair] = Expert::ALL.map(|expert| match expert {
            Expert::Reference => to as Relay,
            Expert::By(forecast) => costs[forecast as usize].best(from, to).1,
        });
        let margin = self.links.tuning.reference_margin * self.links.last(pair).max(1.0);
        let (expert, _) = self.records.follow(Some(pair), margin);
        self.followed[expert.index()] += 1;
        let wanted = self.advised[pair][expert.index()];
        let costs = &costs[self.records.deciding(expert) as usize];
        let (price, present) = (
            costs.of(from, to, wanted),
            match current {
                NONE => f32::INFINITY,
                relay => costs.of(from, to, relay),
            },
        );
        let stays = present.is_finite() && price + self.margins.of(Some(pair), price) > present;
        let relay = if stays { current } else { wanted };
        self.held[pair] = (relay, costs.of(from, to, relay));
        relay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::{HOUR, noisy_mesh};

    #[test]
    fn the_search_finds_what_trying_every_relay_finds() {
        for nodes in [3, 15, 16, 17, 40] {
            let frame = &noisy_mesh(nodes, 1, nodes as u64)[0];
            let costs = Costs::new(nodes, 0.5, frame, frame);
            for (from, to) in
                (0..nodes * nodes).map(|pair| (pair / nodes, pair % nodes)).filter(|(a, b)| a != b)
            {
                let (cost, relay) = costs.best(from, to);
                let all = (0..nodes).filter(|relay| *relay != from);
                let least = all.map(|relay| costs.of(from, to, relay as Relay)).fold(f32::INFINITY, f32::min);
                assert!((cost - least).abs() < 1e-3, "{nodes} nodes, {from} to {to}: {cost}, {least}");
                assert_eq!(costs.of(from, to, relay), cost);
            }
        }
    }

    #[test]
    fn without_a_path_it_is_the_direct_one_and_infinite() {
        let unknown = [f32::NAN; 9];
        assert_eq!(Costs::new(3, 0.5, &unknown, &unknown).best(0, 2), (f32::INFINITY, 2));
    }

    #[test]
    fn a_pair_whose_direct_link_is_down_keeps_what_it_had() {
        let mut mesh = Mesh::new(3, 0.5, Tuning::every(HOUR));
        mesh.see(&[f32::NAN, 10.0, 90.0, 10.0, f32::NAN, 10.0, 90.0, 10.0, f32::NAN]);
        let mut current = vec![NONE; 9];
        let mut available = [1.0; 9];
        mesh.choose(&available, &mut current);
        assert_eq!((current[1], current[2]), (1, 1), "over the relay where that is cheaper");
        available[2] = f32::NAN;
        current[2] = 2;
        mesh.choose(&available, &mut current);
        assert_eq!(current[2], 2);
        assert_eq!(mesh.followed().iter().sum::<usize>(), 11);
    }
}
