//! Splits what happened to links into what is common to their source, to their destination, and the rest: median polish.
//!
//! Tukey, Exploratory Data Analysis (1977), chapter 11; two rounds, each median shrunk by `n / (n + 2)` so that a node
//! with one link explains little of it.

/// Where each link begins and ends, and the links of each node.
#[derive(Clone, Debug, Default)]
pub(super) struct Incidence {
    ends: Vec<Option<(usize, usize)>>,
    leaving: Vec<Vec<u32>>,
    entering: Vec<Vec<u32>>,
}

impl Incidence {
    pub(super) fn nodes(&self) -> usize {
        self.leaving.len()
    }

    /// One more than the highest link index.
    pub(super) fn slots(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn ends(&self, link: usize) -> Option<(usize, usize)> {
        self.ends.get(link).copied().flatten()
    }

    pub(super) fn has_links(&self, node: usize) -> bool {
        [&self.leaving, &self.entering].iter().any(|all| all.get(node).is_some_and(|links| !links.is_empty()))
    }

    /// Of each link that there is: its index, source, destination.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.ends.iter().enumerate().filter_map(|(link, ends)| ends.map(|(from, to)| (link, from, to)))
    }

    pub(super) fn put(&mut self, link: usize, from: usize, to: usize) {
        let nodes = self.nodes().max(from + 1).max(to + 1);
        self.leaving.resize_with(nodes, Vec::new);
        self.entering.resize_with(nodes, Vec::new);
        self.ends.resize(self.slots().max(link + 1), None);
        self.take(link);
        self.ends[link] = Some((from, to));
        self.leaving[from].push(link as u32);
        self.entering[to].push(link as u32);
    }

    pub(super) fn take(&mut self, link: usize) {
        let Some((from, to)) = self.ends.get_mut(link).and_then(Option::take) else { return };
        self.leaving[from].retain(|other| *other != link as u32);
        self.entering[to].retain(|other| *other != link as u32);
    }

    /// `rest` is per link, NaN where it is not known.
    pub(super) fn polish(&self, rest: &[f32]) -> Effects {
        let mut effects = Effects { leaving: vec![0.0; self.nodes()], entering: vec![0.0; self.nodes()] };
        let mut values = Vec::new();
        for _round in 0..2 {
            for node in 0..self.nodes() {
                let links = self.entering[node].iter().map(|link| (*link as usize, self.from(*link)));
                effects.entering[node] = shrunk_median(&mut values, rest, links, &effects.leaving);
            }
            for node in 0..self.nodes() {
                let links = self.leaving[node].iter().map(|link| (*link as usize, self.to(*link)));
                effects.leaving[node] = shrunk_median(&mut values, rest, links, &effects.entering);
            }
        }
        effects
    }

    fn from(&self, link: u32) -> usize {
        self.ends[link as usize].map_or(0, |(from, _)| from)
    }

    fn to(&self, link: u32) -> usize {
        self.ends[link as usize].map_or(0, |(_, to)| to)
    }
}

/// What each node does to the links that leave it and that enter it; the unit of the samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub(super) leaving: Vec<f32>,
    pub(super) entering: Vec<f32>,
}

impl Effects {
    pub(super) fn of(&self, from: usize, to: usize) -> f32 {
        self.leaving[from] + self.entering[to]
    }
}

fn shrunk_median(
    values: &mut Vec<f32>,
    rest: &[f32],
    links: impl Iterator<Item = (usize, usize)>,
    other: &[f32],
) -> f32 {
    values.clear();
    values.extend(links.map(|(link, node)| rest[link] - other[node]).filter(|value| !value.is_nan()));
    let count = values.len() as f32;
    median(values) * count / (count + 2.0)
}

/// 0 of nothing; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let (low, upper, _) = values.select_nth_unstable_by(values.len() / 2, f32::total_cmp);
    let (upper, lower) = (*upper, low.iter().copied().reduce(f32::max));
    match lower {
        Some(lower) if values.len().is_multiple_of(2) => f32::midpoint(lower, upper),
        _ => upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(nodes: usize) -> Incidence {
        let mut incidence = Incidence::default();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                incidence.put(from * nodes + to, from, to);
            }
        }
        incidence
    }

    #[test]
    fn the_median_of_even_and_odd_counts() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn what_one_node_does_to_its_links_is_found_at_that_node() {
        let incidence = mesh(8);
        let rest: Vec<f32> = (0..64).map(|link| if link / 8 == 3 { 40.0 } else { 0.0 }).collect();
        let effects = incidence.polish(&rest);
        assert!(effects.leaving[3] > 30.0 && effects.leaving[3] <= 40.0, "{}", effects.leaving[3]);
        assert!(effects.leaving[0].abs() < 1.0 && effects.entering[5].abs() < 1.0);
    }

    #[test]
    fn a_link_that_is_taken_away_counts_no_longer() {
        let mut incidence = mesh(3);
        incidence.take(1);
        let mut rest = vec![0.0; 9];
        rest[1] = 1_000.0;
        assert_eq!(incidence.polish(&rest).leaving, [0.0; 3]);
        assert_eq!((incidence.ends(1), incidence.ends(2)), (None, Some((0, 2))));
    }
}
