//! How much work one answer may take, counted in looks at a link or a number: there is no clock here.
use crate::topology::Topology;

/// Looks that a search for the paths of a request is worth, for each link and beside them.
const OF_LINK: usize = 40;
const OF_SEARCH: usize = 20_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    left: usize,
}

impl Work {
    pub(super) fn new(looks: usize) -> Self {
        Self { left: looks }
    }

    /// False: no more is allowed.
    pub(super) fn spend(&mut self, looks: usize) -> bool {
        let enough = self.left >= looks;
        self.left = self.left.saturating_sub(looks);
        enough
    }

    /// For the paths of a request over all links.
    pub(super) fn search(&mut self, topology: &Topology) -> bool {
        self.spend(topology.graph().edge_count() * OF_LINK + OF_SEARCH)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// A share of what is left, that comes back with [`Self::join`].
    pub(super) fn part(&mut self, share: usize, of: usize) -> Self {
        let part = if share < of { self.left / of * share } else { self.left };
        self.left -= part;
        Self { left: part }
    }

    pub(super) fn join(&mut self, part: Self) {
        self.left += part.left;
    }
}
