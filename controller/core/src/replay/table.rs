//! What a policy is shown and what it is scored with, made of a series as the protocol says.
use super::series::Series;
use std::ops::Range;
use std::time::Duration;

/// How a series is turned into a game.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Protocol {
    /// Between two frames of the series.
    #[serde(serialize_with = "as_seconds")]
    pub step: Duration,
    /// Take every so many-th frame, from `offset` on.
    pub every: usize,
    pub offset: usize,
    /// Gaps of up to so many steps are interpolated in the truth; policies never see that.
    pub gaps: usize,
    /// Share of the steps in which policies learn and are not scored.
    pub burn_in: f64,
    /// What a relay adds to a path, in the unit of the samples.
    pub relay_cost: f32,
    pub nodes: Part,
    /// Share of the taken frames at which the game begins and ends.
    pub span: (f64, f64),
}

/// Where a series does not say how far its frames are apart.
pub const USUAL_STEP: Duration = Duration::from_secs(300);

pub(super) fn as_seconds<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_secs_f64())
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            step: USUAL_STEP,
            every: 1,
            offset: 0,
            gaps: 0,
            burn_in: 0.2,
            relay_cost: 0.5,
            nodes: Part::All,
            span: (0.0, 1.0),
        }
    }
}

/// Which nodes take part: halves show whether a result holds for a mesh on which nothing was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    #[default]
    All,
    Even,
    Odd,
}

impl Part {
    fn has(self, node: usize) -> bool {
        match self {
            Self::All => true,
            Self::Even => node.is_multiple_of(2),
            Self::Odd => !node.is_multiple_of(2),
        }
    }
}

/// Frames by `source * nodes + destination`, NaN where missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub nodes: usize,
    /// Between two of its steps.
    pub step: Duration,
    pub relay_cost: f32,
    /// What policies see, step by step.
    pub seen: Vec<Vec<f32>>,
    /// What their choices are scored with; a link without a value is unavailable to everyone.
    pub truth: Vec<Vec<f32>>,
    /// The first step at which is chosen, for the step after it.
    pub burn_in: usize,
}

/// With fewer, nothing is left to score.
pub const LEAST_STEPS: usize = 3;

impl Table {
    /// # Errors
    /// Why too little is left, with the numbers.
    pub fn new(series: &Series, protocol: &Protocol) -> Result<Self, String> {
        let all = series.nodes.len();
        let kept: Vec<usize> = (0..all).filter(|node| protocol.nodes.has(*node)).collect();
        let every = protocol.every.max(1);
        let taken: Vec<&Vec<f32>> = series.frames.iter().skip(protocol.offset).step_by(every).collect();
        let mut seen: Vec<Vec<f32>> =
            taken[part(taken.len(), protocol.span)].iter().map(|frame| cut(frame, all, &kept)).collect();
        let (nodes, steps) = (kept.len(), seen.len());
        if nodes < 2 || steps < LEAST_STEPS {
            return Err(format!(
                "{nodes} nodes and {steps} steps are left of {all} and {}; at least 2 and {LEAST_STEPS} are needed",
                series.frames.len()
            ));
        }
        seen.iter_mut().for_each(|frame| mirror(frame, nodes));
        let mut truth = seen.clone();
        (0..nodes * nodes).for_each(|link| interpolate(&mut truth, link, protocol.gaps));
        let burn_in = (steps as f64 * protocol.burn_in.clamp(0.0, 1.0)) as usize;
        if burn_in + 1 >= steps {
            return Err(format!("the burn-in of {burn_in} leaves none of {steps} steps to score"));
        }
        let step = protocol.step.saturating_mul(every as u32);
        Ok(Self { nodes, step, relay_cost: protocol.relay_cost, seen, truth, burn_in })
    }

    pub fn steps(&self) -> usize {
        self.seen.len()
    }

    /// Source and destination of each pair, with its index.
    pub fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..nodes * nodes)
            .map(move |pair| (pair, pair / nodes, pair % nodes))
            .filter(|(_, from, to)| from != to)
    }
}

fn part(steps: usize, (begin, end): (f64, f64)) -> Range<usize> {
    let at = |share: f64| (steps as f64 * share.clamp(0.0, 1.0)) as usize;
    at(begin).min(at(end))..at(end)
}

/// A node's sample to itself means nothing.
fn cut(frame: &[f32], all: usize, kept: &[usize]) -> Vec<f32> {
    let sample = |from: usize, to: usize| if from == to { f32::NAN } else { frame[from * all + to] };
    kept.iter().flat_map(|from| kept.iter().map(move |to| sample(*from, *to))).collect()
}

/// A sample that is missing in one direction is that of the other in the same step: both measure the same round trip.
fn mirror(frame: &mut [f32], nodes: usize) {
    for from in 0..nodes {
        for to in 0..nodes {
            if frame[from * nodes + to].is_nan() {
                frame[from * nodes + to] = frame[to * nodes + from];
            }
        }
    }
}

fn interpolate(frames: &mut [Vec<f32>], link: usize, gaps: usize) {
    let known: Vec<usize> = (0..frames.len()).filter(|step| !frames[*step][link].is_nan()).collect();
    for (before, after) in known.iter().zip(known.iter().skip(1)) {
        let (first, last) = (frames[*before][link], frames[*after][link]);
        if after - before - 1 > gaps {
            continue;
        }
        for (distance, frame) in frames[*before..*after].iter_mut().enumerate().skip(1) {
            let share = distance as f32 / (after - before) as f32;
            frame[link] = first * (1.0 - share) + last * share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(nodes: usize, frames: usize) -> Series {
        let frame = |step: usize| (0..nodes * nodes).map(|link| (100 * step + link) as f32).collect();
        Series {
            step: None,
            nodes: (0..nodes).map(|node| format!("n{node}")).collect(),
            frames: (0..frames).map(frame).collect(),
        }
    }

    #[test]
    fn every_nth_frame_is_taken_from_an_offset() {
        let protocol = Protocol { every: 3, offset: 2, ..Protocol::default() };
        let table = Table::new(&series(2, 12), &protocol).expect("a table");
        assert_eq!(
            table.seen.iter().map(|frame| frame[1]).collect::<Vec<_>>(),
            [201.0, 501.0, 801.0, 1101.0]
        );
        assert!(table.seen[0][0].is_nan(), "the diagonal");
        assert_eq!(table.step, 3 * protocol.step);
    }

    #[test]
    fn a_missing_direction_is_the_other_one_and_gaps_are_filled_in_the_truth_only() {
        let mut series = series(2, 6);
        series.frames[0][1] = f32::NAN;
        for step in [2, 3] {
            series.frames[step][1] = f32::NAN;
            series.frames[step][2] = f32::NAN;
        }
        let table = Table::new(&series, &Protocol { gaps: 2, ..Protocol::default() }).expect("a table");
        assert_eq!(table.seen[0][1], 2.0);
        assert!(table.seen[2][1].is_nan());
        assert_eq!((table.truth[2][1], table.truth[3][1]), (201.0, 301.0));
        let strict = Table::new(&series, &Protocol { gaps: 1, ..Protocol::default() }).expect("a table");
        assert!(strict.truth[2][1].is_nan(), "a gap of two stays a gap");
    }

    #[test]
    fn a_half_of_the_nodes_keeps_their_links() {
        let table = Table::new(&series(5, 4), &Protocol { nodes: Part::Odd, ..Protocol::default() })
            .expect("a table");
        assert_eq!((table.nodes, table.seen[0][1]), (2, 8.0), "from 1 to 3");
    }

    #[test]
    fn too_little_to_score_is_refused_with_the_numbers() {
        let refused = |protocol| Table::new(&series(3, 10), &protocol).expect_err("refused");
        assert!(refused(Protocol { every: 7, ..Protocol::default() }).contains("2 steps"));
        assert!(refused(Protocol { nodes: Part::Odd, ..Protocol::default() }).contains("1 nodes"));
        assert!(refused(Protocol { burn_in: 0.95, ..Protocol::default() }).contains("burn-in of 9"));
    }
}
