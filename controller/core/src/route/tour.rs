//! Bounds from below what it takes to cross all the hosts that a path must cross, and to arrive.
//!
//! The shortest tour through the hosts still to be crossed (Held, Karp 1962), each leg as short as it would be alone.
//! Without it a search in a dense network would look at nearly all paths before it finds one through three hosts.
use super::field::row;
use super::paths::Query;

/// Hosts to cross at most: the table has `2^n × n` entries.
pub const MAX_VIA: usize = 8;

/// The hosts to cross.
#[derive(Debug)]
pub(super) struct Vias(Vec<u32>);

impl Vias {
    /// Empty in a search that does not keep to the bounds.
    pub(super) fn new(query: &Query<'_>) -> Self {
        let names = query.ask.bounds.via.iter().filter(|_| query.strict);
        Self(names.filter_map(|name| query.topology.place(name)).map(row).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bit of this host, if it is one to cross.
    pub(super) fn bit(&self, host: u32) -> u32 {
        self.0.iter().position(|via| *via == host).map_or(0, |at| 1 << at)
    }

    pub(super) fn all(&self) -> u32 {
        (1 << self.0.len()) - 1
    }
}

/// Of one quantity.
#[derive(Debug)]
pub(super) struct Table {
    /// From each host to the i-th one to cross.
    to: Vec<Vec<f64>>,
    /// `[crossed][i]`: from the i-th one, which is crossed, through those that are not, to the goal.
    rest: Vec<Vec<f64>>,
}

impl Table {
    /// `tree`: the least from each host to one.
    pub(super) fn new(vias: &Vias, goal: u32, tree: impl Fn(u32) -> Vec<f64>) -> Self {
        let via = &vias.0;
        let to: Vec<Vec<f64>> = via.iter().map(|host| tree(*host)).collect();
        let all = vias.all() as usize;
        let mut rest = vec![vec![f64::INFINITY; via.len()]; all + 1];
        for crossed in (0..=all).rev() {
            for last in (0..via.len()).filter(|last| crossed & 1 << last != 0) {
                rest[crossed][last] = if crossed == all {
                    to[last][goal as usize]
                } else {
                    let next = (0..via.len()).filter(|next| crossed & 1 << next == 0);
                    next.map(|next| to[next][via[last] as usize] + rest[crossed | 1 << next][next])
                        .fold(f64::INFINITY, f64::min)
                };
            }
        }
        Self { to, rest }
    }

    /// Over those not crossed to the goal; zero when there is none.
    pub(super) fn left(&self, at: u32, crossed: u32) -> f64 {
        if crossed as usize + 1 == self.rest.len() {
            return 0.0;
        }
        let open = (0..self.to.len()).filter(|next| crossed & 1 << next == 0);
        open.map(|next| self.to[next][at as usize] + self.rest[(crossed | 1 << next) as usize][next])
            .fold(f64::INFINITY, f64::min)
    }
}
