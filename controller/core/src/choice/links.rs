//! Forecasts of all links, one frame of samples at a time: each link by itself, and what its nodes do to it.
use super::level::Level;
use super::polish::{Effects, Incidence};
use super::tuning::Tuning;

/// How a link is forecast. None is best everywhere; which one a pair follows is decided by what that brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forecast {
    /// Follows changes within a few samples.
    Agile,
    /// Follows slowly.
    Steady,
    /// The link's base, what its nodes add, and what is beyond doubt.
    Shrunk,
}

impl Forecast {
    pub const ALL: [Self; 3] = [Self::Agile, Self::Steady, Self::Shrunk];

    pub fn word(self) -> &'static str {
        match self {
            Self::Agile => "agile",
            Self::Steady => "steady",
            Self::Shrunk => "shrunk",
        }
    }
}

/// Links by a dense index. Costs have one unit, milliseconds of round-trip time where nothing else is said; a sample
/// or forecast that is not known is NaN. Memory: 56 bytes of levels and about 40 of forecasts and ends per link.
#[derive(Clone, Debug)]
pub struct Links {
    pub(super) tuning: Tuning,
    incidence: Incidence,
    levels: Vec<Level>,
    free: Vec<usize>,
    /// What each node does to its links, smoothed, and for how many frames it has been watched.
    nodes: Effects,
    watched: Vec<f32>,
    forecasts: [Vec<f32>; 3],
    samples: Vec<f32>,
    /// Smoothed mean of all samples; 0 before the first.
    scale: f32,
}

impl Links {
    pub fn new(tuning: Tuning) -> Self {
        Self {
            tuning,
            incidence: Incidence::default(),
            levels: Vec::new(),
            free: Vec::new(),
            nodes: Effects::default(),
            watched: Vec::new(),
            forecasts: Default::default(),
            samples: Vec::new(),
            scale: 0.0,
        }
    }

    /// Every node to every other; the link from `i` to `j` has the index `i * nodes + j`.
    pub fn mesh(nodes: usize, tuning: Tuning) -> Self {
        let mut links = Self::new(tuning);
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                links.put(from * nodes + to, from, to);
            }
        }
        links.grow(nodes * nodes);
        links
    }

    /// A link in one direction, between nodes by dense indices; its index, which may be that of one removed before.
    pub fn add(&mut self, from: usize, to: usize) -> usize {
        let link = self.free.pop().unwrap_or(self.levels.len());
        self.put(link, from, to);
        link
    }

    fn put(&mut self, link: usize, from: usize, to: usize) {
        let new = [from, to].map(|node| !self.incidence.has_links(node));
        self.incidence.put(link, from, to);
        self.grow(link + 1);
        let nodes = self.incidence.nodes();
        self.watched.resize(nodes, 0.0);
        self.nodes.leaving.resize(nodes, 0.0);
        self.nodes.entering.resize(nodes, 0.0);
        for (node, _) in [from, to].into_iter().zip(new).filter(|(_, new)| *new) {
            (self.watched[node], self.nodes.leaving[node], self.nodes.entering[node]) = (0.0, 0.0, 0.0);
        }
    }

    /// What was measured of a link before it was added, oldest first: its levels begin with that.
    pub fn recall(&mut self, link: usize, samples: impl Iterator<Item = f32>) {
        if self.incidence.ends(link).is_none() {
            return;
        }
        for sample in samples.filter(|sample| !sample.is_nan()) {
            self.levels[link].see(&self.tuning, sample, 0.0);
        }
    }

    fn grow(&mut self, slots: usize) {
        let slots = slots.max(self.levels.len());
        self.levels.resize(slots, Level::default());
        self.samples.resize(slots, f32::NAN);
        self.forecasts.iter_mut().for_each(|forecast| forecast.resize(slots, f32::NAN));
    }

    /// What was known of it is forgotten.
    pub fn remove(&mut self, link: usize) {
        if self.incidence.ends(link).is_none() {
            return;
        }
        self.incidence.take(link);
        self.levels[link] = Level::default();
        self.samples[link] = f32::NAN;
        self.forecasts.iter_mut().for_each(|forecast| forecast[link] = f32::NAN);
        self.free.push(link);
    }

    /// One more than the highest index that was given.
    pub fn slots(&self) -> usize {
        self.levels.len()
    }

    /// A frame: by link index, NaN where there is no new sample. Links beyond its end have none.
    pub fn see(&mut self, frame: &[f32]) {
        let frame: Vec<f32> =
            (0..self.slots()).map(|link| frame.get(link).copied().unwrap_or(f32::NAN)).collect();
        let surprise: Vec<f32> =
            self.levels.iter().zip(&frame).map(|(level, sample)| level.surprise(*sample)).collect();
        let common = self.incidence.polish(&surprise);
        self.watch_nodes(&common);
        for (link, from, to) in self.incidence.each() {
            if !frame[link].is_nan() {
                self.levels[link].see(&self.tuning, frame[link], common.of(from, to));
            }
        }
        self.follow_scale(&frame);
        self.samples = frame;
        self.forecast();
    }

    fn watch_nodes(&mut self, common: &Effects) {
        for (node, watched) in self.watched.iter_mut().enumerate() {
            *watched += 1.0;
            let gain = self.tuning.node.max(1.0 / *watched);
            self.nodes.leaving[node] += gain * (common.leaving[node] - self.nodes.leaving[node]);
            self.nodes.entering[node] += gain * (common.entering[node] - self.nodes.entering[node]);
        }
    }

    fn follow_scale(&mut self, frame: &[f32]) {
        let (sum, count) = frame
            .iter()
            .filter(|sample| !sample.is_nan())
            .fold((0.0_f32, 0.0_f32), |(sum, count), sample| (sum + sample, count + 1.0));
        if count > 0.0 {
            let mean = sum / count;
            self.scale = if self.scale == 0.0 { mean } else { self.scale + 0.05 * (mean - self.scale) };
        }
    }

    fn forecast(&mut self) {
        let mut excess = vec![f32::NAN; self.slots()];
        for (link, from, to) in self.incidence.each() {
            excess[link] = self.levels[link].excess(self.nodes.of(from, to));
        }
        let common = self.incidence.polish(&excess);
        for (link, from, to) in self.incidence.each() {
            let level = &self.levels[link];
            if level.count > 0.0 {
                let shrunk = level.shrunk(&self.tuning, excess[link], common.of(from, to));
                let values = [level.agile(), level.steady(), shrunk];
                self.forecasts.iter_mut().zip(values).for_each(|(all, value)| all[link] = value);
            }
        }
    }

    /// By link index; NaN where nothing is known.
    pub fn forecasts(&self, by: Forecast) -> &[f32] {
        &self.forecasts[by as usize]
    }

    /// The base of a link, the centre of its band; NaN before the first sample.
    pub fn base(&self, link: usize) -> f32 {
        self.levels.get(link).filter(|level| level.count > 0.0).map_or(f32::NAN, Level::base)
    }

    /// The newest sample ever seen; NaN before the first.
    pub fn last(&self, link: usize) -> f32 {
        self.levels.get(link).filter(|level| level.count > 0.0).map_or(f32::NAN, Level::last)
    }

    /// The newest frame; NaN where it had no sample.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// The most that one step may count for or against a path.
    pub(super) fn excess_limit(&self) -> f32 {
        self.tuning.excess_cap * self.scale.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::HOUR;

    #[test]
    fn a_slow_node_is_seen_on_a_link_of_it_that_was_not_measured() {
        let (nodes, slow) = (6, 2);
        let mut links = Links::mesh(nodes, Tuning::every(HOUR));
        let base = |link: usize| 50.0 + link as f32;
        let frame = |added: f32| -> Vec<f32> {
            (0..36)
                .map(|link| base(link) + if link / 6 == slow || link % 6 == slow { added } else { 0.0 })
                .collect()
        };
        (0..20).for_each(|_| links.see(&frame(0.0)));
        let silent = slow * nodes;
        for _ in 0..20 {
            let mut samples = frame(100.0);
            samples[silent] = f32::NAN;
            links.see(&samples);
        }
        let shrunk = links.forecasts(Forecast::Shrunk)[silent];
        assert!(shrunk > base(silent) + 20.0, "{shrunk} from a base of {}", base(silent));
        assert!((links.forecasts(Forecast::Agile)[silent] - base(silent)).abs() < 1.0);
    }

    #[test]
    fn an_index_is_given_again_without_what_was_known() {
        let mut links = Links::new(Tuning::every(HOUR));
        let (first, second) = (links.add(0, 1), links.add(1, 0));
        links.see(&[10.0, 20.0]);
        links.remove(first);
        links.remove(first);
        assert_eq!(links.add(0, 2), first);
        assert!(links.forecasts(Forecast::Agile)[first].is_nan() && links.last(first).is_nan());
        assert_eq!(links.last(second), 20.0);
        assert_eq!(links.add(2, 1), 2, "one index was free");
    }

    #[test]
    fn a_link_begins_with_what_is_recalled_of_it() {
        let mut links = Links::mesh(3, Tuning::every(HOUR));
        links.recall(1, [40.0, f32::NAN, 42.0, 41.0].into_iter());
        links.recall(0, [7.0].into_iter());
        links.see(&[f32::NAN; 9]);
        let known = links.forecasts(Forecast::Agile)[1];
        assert!((40.0..42.0).contains(&known), "{known}");
        assert!(links.last(0).is_nan(), "there is no link with this index");
    }

    #[test]
    fn a_short_frame_and_one_without_samples_leave_what_was_known() {
        let mut links = Links::mesh(3, Tuning::every(HOUR));
        links.see(&[f32::NAN, 5.0, 6.0, 7.0]);
        let before = links.forecasts(Forecast::Steady).to_vec();
        links.see(&[]);
        links.see(&[f32::NAN; 9]);
        assert_eq!(before[1], links.forecasts(Forecast::Steady)[1]);
        assert!(links.forecasts(Forecast::Steady)[5].is_nan());
    }
}
