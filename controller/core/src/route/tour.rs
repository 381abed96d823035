//! Bounds from below what it takes to cross all the hosts that a path must cross, and to arrive.
//!
//! The shortest tour through the hosts still to be crossed (Held, Karp 1962), each leg as short as it would be alone.
//! Without it a search in a dense network would look at nearly all paths before it finds one through three hosts.
use super::cost;
use super::paths::{Query, least};
use petgraph::stable_graph::NodeIndex;

/// Hosts to cross at most: the table has `2^n × n` entries.
pub const MAX_VIA: usize = 8;

#[derive(Debug)]
pub(super) struct Tour {
    via: Vec<NodeIndex>,
    cost: Table,
    hops: Table,
}

#[derive(Debug, Default)]
struct Table {
    /// From each host to the i-th one to cross.
    to: Vec<Vec<f64>>,
    /// `[crossed][i]`: from the i-th one, which is crossed, through those that are not, to the goal.
    rest: Vec<Vec<f64>>,
}

impl Tour {
    /// Empty in a search that does not keep to the bounds.
    pub(super) fn new(query: &Query<'_>) -> Self {
        let via: Vec<_> = match query.strict {
            true => query.ask.bounds.via.iter().filter_map(|name| query.topology.place(name)).collect(),
            false => Vec::new(),
        };
        let trees = |weight: &dyn Fn(&crate::topology::Link) -> f64| {
            let to = via.iter().map(|node| least(query, *node, weight)).collect();
            Table::new(to, &via, query.to)
        };
        let cost = trees(&|link| cost::additive(link, query.weights, query.topology.now()));
        let hops = trees(&|_| 1.0);
        Self { via, cost, hops }
    }

    /// Bit of this host, if it is one to cross.
    pub(super) fn crossed(&self, node: NodeIndex) -> u32 {
        self.via.iter().position(|via| *via == node).map_or(0, |at| 1 << at)
    }

    pub(super) fn all(&self) -> u32 {
        (1 << self.via.len()) - 1
    }

    /// At least so much cost and so many links from host `at` over those not crossed; zero when there is none.
    pub(super) fn left(&self, at: usize, crossed: u32) -> (f64, f64) {
        if crossed == self.all() {
            (0.0, 0.0)
        } else {
            (self.cost.left(at, crossed), self.hops.left(at, crossed))
        }
    }
}

impl Table {
    fn new(to: Vec<Vec<f64>>, via: &[NodeIndex], goal: NodeIndex) -> Self {
        let all = (1usize << via.len()) - 1;
        let mut rest = vec![vec![f64::INFINITY; via.len()]; all + 1];
        for crossed in (0..=all).rev() {
            for last in (0..via.len()).filter(|last| crossed & 1 << last != 0) {
                let here = via[last].index();
                rest[crossed][last] = if crossed == all {
                    to[last][goal.index()]
                } else {
                    let next = (0..via.len()).filter(|next| crossed & 1 << next == 0);
                    next.map(|next| to[next][here] + rest[crossed | 1 << next][next])
                        .fold(f64::INFINITY, f64::min)
                };
            }
        }
        Self { to, rest }
    }

    fn left(&self, at: usize, crossed: u32) -> f64 {
        let open = (0..self.to.len()).filter(|next| crossed & 1 << next == 0);
        open.map(|next| self.to[next][at] + self.rest[(crossed | 1 << next) as usize][next])
            .fold(f64::INFINITY, f64::min)
    }
}
