//! Writes measured series as the table that [`super::series`] reads, so that a network's own history can be replayed.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Samples in any order; what was not added is missing.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    step: Option<Duration>,
    nodes: BTreeSet<String>,
    /// By step and source, then by destination.
    samples: BTreeMap<(u64, String), BTreeMap<String, f64>>,
}

impl Recording {
    /// Between two steps.
    pub fn every(&mut self, step: Duration) {
        self.step = Some(step);
    }

    /// From one node to another; of several in the same step, as of links side by side, the least counts.
    pub fn add(&mut self, step: u64, from: &str, to: &str, sample: f64) {
        self.nodes.extend([from, to].map(str::to_owned));
        let row = self.samples.entry((step, from.to_owned())).or_default();
        row.entry(to.to_owned()).and_modify(|known| *known = known.min(sample)).or_insert(sample);
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Those with a sample.
    pub fn steps(&self) -> usize {
        self.samples.keys().map(|(step, _)| step).collect::<BTreeSet<_>>().len()
    }
}

impl fmt::Display for Recording {
    /// Steps count from the first one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.samples.keys().next().map_or(0, |(step, _)| *step);
        f.write_str("step")?;
        self.step.iter().try_for_each(|step| write!(f, "={}s", step.as_secs_f64()))?;
        f.write_str(",src")?;
        self.nodes.iter().try_for_each(|node| write!(f, ",{node}"))?;
        for ((step, from), row) in &self.samples {
            write!(f, "\n{},{from}", step - first)?;
            for to in &self.nodes {
                match row.get(to) {
                    Some(sample) => write!(f, ",{sample:.4}")?,
                    None => f.write_str(",")?,
                }
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;

    #[test]
    fn what_was_recorded_is_read_again() {
        let mut recording = Recording::default();
        recording.every(Duration::from_millis(2_500));
        recording.add(29_000_002, "b", "a", 2.5);
        recording.add(29_000_000, "a", "c", 12.0625);
        recording.add(29_000_000, "a", "b", 3.0);
        recording.add(29_000_000, "a", "b", 2.0);
        assert_eq!((recording.nodes(), recording.steps()), (3, 2));
        let series = Series::parse(&recording.to_string()).expect("a series");
        assert_eq!(series.nodes, ["a", "b", "c"]);
        assert_eq!(series.step, Some(Duration::from_millis(2_500)));
        assert_eq!(series.frames.len(), 3, "in step 1 nothing was measured");
        assert_eq!(series.frames[0][1..3], [2.0, 12.0625], "of two links the faster one");
        assert_eq!(series.frames[2][3], 2.5);
        let known = series.frames.iter().flatten().filter(|sample| !sample.is_nan());
        assert_eq!(known.count(), 3);
    }
}
