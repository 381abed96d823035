//! Policies that never learn: direct, the best of the burn-in, and what nobody can know.
use crate::choice::median;
use crate::choice::mesh::{Costs, Relay, along};
use crate::replay::score::Policy;
use crate::replay::table::Table;

/// One path per pair for ever; direct while it is unavailable.
pub(super) struct Fixed {
    nodes: usize,
    relays: Vec<Relay>,
}

impl Fixed {
    pub(super) fn direct(nodes: usize) -> Self {
        Self { nodes, relays: (0..nodes * nodes).map(|pair| (pair % nodes) as Relay).collect() }
    }

    pub(super) fn by_burn_in(table: &Table) -> Self {
        let nodes = table.nodes;
        let mut values = Vec::new();
        let medians: Vec<f32> = (0..nodes * nodes)
            .map(|link| {
                values.clear();
                let seen = table.seen[..table.burn_in].iter().map(|frame| frame[link]);
                values.extend(seen.filter(|sample| !sample.is_nan()));
                if values.is_empty() { f32::NAN } else { median(&mut values) }
            })
            .collect();
        let costs = Costs::new(nodes, table.relay_cost, &medians, &medians);
        let mut fixed = Self::direct(nodes);
        Table::pairs(nodes).for_each(|(pair, from, to)| fixed.relays[pair] = costs.best(from, to).1);
        fixed
    }

    pub(super) fn by_hindsight(table: &Table) -> Self {
        let mut fixed = Self::direct(table.nodes);
        for (pair, from, to) in Table::pairs(table.nodes) {
            let sum = |relay: usize| sum_of(table, (from, to), relay as Relay);
            let relays = (0..table.nodes).filter(|relay| *relay != from);
            let best = relays.map(|relay| (sum(relay), relay)).min_by(|a, b| a.0.total_cmp(&b.0));
            fixed.relays[pair] = best.map_or(to, |(_, relay)| relay) as Relay;
        }
        fixed
    }
}

/// Of the scored steps, with the direct path where this one is unavailable.
fn sum_of(table: &Table, (from, to): (usize, usize), relay: Relay) -> f64 {
    let direct = from * table.nodes + to;
    let scored = table.truth[table.burn_in + 1..].iter().filter(|truth| !truth[direct].is_nan());
    scored
        .map(|truth| {
            let cost = along(truth, table.nodes, table.relay_cost, (from, to), relay);
            f64::from(if cost.is_nan() { truth[direct] } else { cost })
        })
        .sum()
}

impl Policy for Fixed {
    fn see(&mut self, _samples: &[f32]) {}

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        for (pair, from, to) in Table::pairs(self.nodes) {
            let relay = self.relays[pair];
            let usable = !along(available, self.nodes, 0.0, (from, to), relay).is_nan();
            current[pair] = if usable { relay } else { to as Relay };
        }
    }
}

/// Reads the truth that availability is taken from.
pub(super) struct Oracle {
    pub(super) nodes: usize,
    pub(super) relay: f32,
}

impl Policy for Oracle {
    fn see(&mut self, _samples: &[f32]) {}

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        let costs = Costs::new(self.nodes, self.relay, available, available);
        Table::pairs(self.nodes).for_each(|(pair, from, to)| current[pair] = costs.best(from, to).1);
    }
}
